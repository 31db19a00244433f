"""Work on samples that is shared out to workers of a Dask client, some of which die, hang or answer nonsense."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import pytest
from distributed import Client, LocalCluster, get_worker
from models import save

from workbench.building import build
from workbench.calibration.collect import COLLECTING, collect
from workbench.calibration.collection import Collection, save_collection
from workbench.calibration.samples import Sample, Samples, batches, choose, open_samples, read_samples
from workbench.comparing import compare
from workbench.contest.feeding import Whole
from workbench.engine import open_engine
from workbench.errors import BackendError, Cancelled, FeedError, RunError, ShapeError
from workbench.evaluation import Evaluation, evaluate
from workbench.model import Model, load_model
from workbench.reference import Reference
from workbench.sharding.attempts import Nonsense, Spread
from workbench.sharding.comparing import compare_on
from workbench.sharding.job import Sharding
from workbench.sharding.parcels import pack
from workbench.sharding.shards import Shard, as_rows, cut, size_of_shards
from workbench.sharding.shipment import Shipment
from workbench.sharding.spreading import collect_on, evaluate_on
from workbench.types import BuildConfig, LogLine, Progress

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import tests
PICTURES = Path(__file__).parents[2] / "data" / "fashion_mnist_test"
COUNT = 36
TANH = "(float[n,2] x) => (float[n,2] y) { [t] y = Tanh(x) }"
OPTIONS = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 60}


@pytest.fixture(scope="module")
def worker_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture(scope="module")
def two(worker_home: Path) -> Iterator[Client]:
    """Two processes, with a store of their own."""
    env = {"WORKBENCH_HOME": str(worker_home)}
    options = {"n_workers": 2, "processes": True, "host": "127.0.0.1", "env": env, **OPTIONS}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def near() -> Iterator[Client]:
    """Three workers in this process."""
    with LocalCluster(n_workers=3, processes=False, **OPTIONS) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def pictures(fashion_cnn: Model) -> Samples:
    return open_samples(PICTURES, fashion_cnn)


@pytest.fixture(scope="module")
def alone(fashion_cnn: Model, pictures: Samples) -> Collection:
    return collect(fashion_cnn, pictures, count=COUNT, until_settled=False)


def saved(collection: Collection, folder: Path) -> bytes:
    return save_collection(collection, folder / "one.calib").read_bytes()


def small_samples(model: Model, count: int) -> Samples:
    return open_samples({"x": np.random.default_rng(0).random((count, 2), np.float32)}, model)


@dataclass
class Heard:
    """A listener."""

    events: list[Progress | LogLine] = field(default_factory=list)

    def __call__(self, event: Progress | LogLine) -> None:
        self.events.append(event)

    @property
    def words(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, LogLine)]

    @property
    def steps(self) -> list[Progress]:
        return [event for event in self.events if isinstance(event, Progress)]


# ---- calibration


def test_two_workers_find_what_one_finds_bit_for_bit(
    two: Client, fashion_cnn: Model, pictures: Samples, alone: Collection, tmp_path: Path, worker_home: Path
) -> None:
    heard = Heard()
    found = collect_on(two, fashion_cnn, pictures, count=COUNT, sharding=Sharding(shards=5), listener=heard)
    assert saved(found, tmp_path) == saved(alone, tmp_path)
    assert [(step.phase, step.total) for step in heard.steps] == [(COLLECTING, COUNT)] * 5
    assert heard.steps[-1].finished and heard.words == []
    assert not list(worker_home.rglob("*.onnx"))  # it is read where it lies


def test_with_one_store_for_all_it_is_the_same(
    two: Client,
    fashion_cnn: Model,
    pictures: Samples,
    alone: Collection,
    tmp_path: Path,
    worker_home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(worker_home))
    found = collect_on(two, fashion_cnn, pictures, count=COUNT, sharding=Sharding(shards=4))
    assert saved(found, tmp_path) == saved(alone, tmp_path)


def test_where_no_folder_is_shared_files_travel_once_to_each_worker(
    two: Client, fashion_cnn: Model, pictures: Samples, alone: Collection, tmp_path: Path
) -> None:
    two.wait_for_workers(2)
    homes = {worker: tmp_path / f"home{number}" for number, worker in enumerate(two.nthreads())}
    for worker, home in homes.items():
        two.run(move_to, str(home), workers=[worker])
    parcel = pack(fashion_cnn)
    for expected in (sorted((worker, parcel.key) for worker in homes), []):
        shipment = Shipment(two, [parcel], shared=False)
        spread = Spread(two, shipment, name_of_model, parcel.key, lambda _, answer: answer)
        names = {name for _, name in spread.results(cut(fed(pictures, range(12)), as_rows, pictures, 1))}
        assert names == {"fashion_cnn.onnx"} and sorted(shipment.sent) == expected
    assert all((home / "parcels" / parcel.key / "fashion_cnn.onnx").is_file() for home in homes.values())
    found = collect_on(two, fashion_cnn, pictures, count=COUNT, sharding=Sharding(shared=False))
    assert saved(found, tmp_path) == saved(alone, tmp_path)


def move_to(home: str) -> None:
    os.environ["WORKBENCH_HOME"] = home


def name_of_model(paths: Mapping[str, Path], samples: Samples, settings: str, cancel: threading.Event) -> str:
    return paths[settings].name


def fed(samples: Samples, indices: range) -> Iterator[Any]:
    return batches(read_samples(samples, indices, skipped=[]), 1)


def test_a_model_of_a_fixed_batch_gets_the_same_batches(near: Client, tmp_path: Path) -> None:
    graph = "(float[4,2] x) => (float[4,2] y) { [s] y = Softmax<axis = 0>(x) }"
    model = load_model(save(tmp_path / "m.onnx", graph))
    samples, heard = small_samples(model, 23), Heard()
    found = collect_on(near, model, samples, sharding=Sharding(shards=3), listener=heard)
    assert len(found.samples) == 20 and "The last 3 samples fill no batch" in heard.words
    assert saved(found, tmp_path) == saved(collect(model, samples, until_settled=False), tmp_path)
    with pytest.raises(FeedError, match="takes 4 samples at once, and 3 samples fill no batch"):
        collect_on(near, model, small_samples(model, 3))


@dataclass(frozen=True, eq=False)
class Partly:
    """Samples, some of which cannot be read, and others are of another size."""

    samples: Samples
    about: str = "some samples"
    preprocessing: None = None
    has_labels: bool = False

    def __len__(self) -> int:
        return len(self.samples)

    def id_of(self, index: int) -> str:
        return self.samples.id_of(index)

    def read(self, index: int) -> Sample:
        if index % 5 == 2:
            raise FeedError(f"{self.id_of(index)}: broken.")
        sample = self.samples.read(index)
        return Sample(
            sample.id, {name: np.repeat(array, 1 + index % 2, axis=0) for name, array in sample.feeds.items()}
        )


def test_what_cannot_be_read_is_left_out_and_told_as_by_one(near: Client, tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", TANH))
    samples, heard, told = Partly(small_samples(model, 40)), Heard(), Heard()
    found = collect_on(near, model, samples, sharding=Sharding(shards=6), listener=heard)
    wanted = collect(model, samples, until_settled=False, listener=told)
    assert len(wanted.skipped) == 8 and saved(found, tmp_path) == saved(wanted, tmp_path)
    assert sorted(heard.words) == sorted(told.words)
    with pytest.raises(FeedError, match="broken"):
        collect_on(near, model, samples, strict=True)


def test_values_that_are_not_finite_are_told_as_by_one(near: Client, tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", "(float[n,2] x) => (float[n,2] y) { [log] y = Log(x) }"))
    samples, heard = open_samples({"x": np.float32([[1, -1], [2, 0], [-1, -1]])}, model), Heard()
    found = collect_on(near, model, samples, sharding=Sharding(shards=3), listener=heard)
    assert saved(found, tmp_path) == saved(collect(model, samples, until_settled=False), tmp_path)
    assert heard.words == ["y: 4 values are NaN or infinite and left out of its range"]


def test_a_sample_that_the_network_cannot_run_is_an_error_of_its_own(near: Client, tmp_path: Path) -> None:
    graph = "(float[n,a] x, float[n,b] y) => (float[n,c] z) { [sum] z = Add(x, y) }"
    model = load_model(save(tmp_path / "m.onnx", graph))
    feeds = [{"x": np.ones((1, 3), np.float32), "y": np.ones((1, size), np.float32)} for size in (3, 3, 3, 5)]
    with pytest.raises((ShapeError, RunError), match="sum"):
        collect_on(near, model, open_samples(feeds, model), sharding=Sharding(shards=2))


def test_a_worker_that_is_killed_loses_no_sample(
    two: Client, fashion_cnn: Model, pictures: Samples, alone: Collection, tmp_path: Path
) -> None:
    two.wait_for_workers(2)
    victim = next(iter(two.run(os.getpid).values()))

    def kill(event: Progress | LogLine) -> None:
        nonlocal victim
        if isinstance(event, Progress) and victim:
            os.kill(victim, signal.SIGKILL)
            victim = 0

    found = collect_on(two, fashion_cnn, pictures, count=COUNT, sharding=Sharding(shards=9), listener=kill)
    assert victim == 0 and saved(found, tmp_path) == saved(alone, tmp_path)


# ---- workers that fail


def spread(client: Client, work: Callable[..., Any], **options: Any) -> Spread[Any]:
    """Work without files; a result is what a worker answered, unless it is text."""

    def check(shard: Shard, answer: Any) -> Any:
        if isinstance(answer, str):
            raise Nonsense(f"the text {answer!r}")
        return answer

    return Spread(client, Shipment(client, []), work, None, check, **options)


def shards(tmp_path: Path, count: int) -> Iterator[Shard]:
    """Each with one sample."""
    samples = small_samples(load_model(save(tmp_path / "shards.onnx", TANH)), count)
    return cut(fed(samples, range(count)), as_rows, samples, 1)


def test_a_worker_that_dies_over_a_shard_loses_it_to_another(two: Client, tmp_path: Path) -> None:
    two.wait_for_workers(2)
    marker, heard = tmp_path / "died", Heard()

    def die_once(paths: object, samples: Samples, settings: object, cancel: threading.Event) -> tuple[str, str]:
        if samples.id_of(0) == "sample[3]" and not marker.exists():
            marker.write_text(get_worker().address)
            os.kill(os.getpid(), signal.SIGKILL)
        return samples.id_of(0), get_worker().address

    found = dict(answer for _, answer in spread(two, die_once, listener=heard).results(shards(tmp_path, 8)))
    dead = marker.read_text()
    assert set(found) == {f"sample[{number}]" for number in range(8)} and found["sample[3]"] != dead
    assert f"{dead} died or left; shard 4 (sample[3] to sample[3]) is tried elsewhere" in heard.words


def test_nonsense_of_one_worker_is_asked_again_of_another(near: Client, tmp_path: Path) -> None:
    liar, heard = next(iter(near.nthreads())), Heard()

    def lie(paths: object, samples: Samples, settings: object, cancel: threading.Event) -> object:
        return "42" if get_worker().address == liar else 1

    found = list(spread(near, lie, listener=heard).results(shards(tmp_path, 12)))
    assert sorted(shard.number for shard, _ in found) == list(range(1, 13))
    assert len(heard.words) <= 3  # after three it gets no more
    assert all(text.startswith(f"{liar} returned nonsense: the text '42'; shard ") for text in heard.words)


def test_a_shard_is_not_kept_for_a_worker_that_gets_no_more_work(near: Client, tmp_path: Path) -> None:
    """One worker only ever answers nonsense; the last shard fails once on each of the others, too."""
    liar, lost = next(iter(near.nthreads())), set[str]()

    def fail_once(paths: object, samples: Samples, settings: object, cancel: threading.Event) -> object:
        name = get_worker().address
        if name == liar or (samples.id_of(0) == "sample[59]" and name not in lost):
            lost.add(name)
            return "42"
        return 1

    assert len(list(spread(near, In(fail_once)).results(shards(tmp_path, 60)))) == 60
    assert len(lost) == 3


def test_after_three_tries_it_is_told_which_worker_did_what(near: Client, tmp_path: Path) -> None:
    def fail(paths: object, samples: Samples, settings: object, cancel: threading.Event) -> object:
        name = get_worker().address
        if name == min(workers):
            raise MemoryError("no room")
        return f"from {name}"

    workers = list(near.nthreads())
    with pytest.raises(BackendError) as raised:
        list(spread(near, fail).results(shards(tmp_path, 1)))
    told = str(raised.value)
    assert told.startswith("shard 1 (sample[0] to sample[0]) was given up after 3 tries: ")
    assert f"{min(workers)} failed (MemoryError: no room)" in told
    assert all(f"{name} returned nonsense: the text 'from {name}'" in told for name in workers if name != min(workers))


def test_a_worker_that_hangs_loses_its_shard_to_another(near: Client, tmp_path: Path) -> None:
    begun, over, heard = threading.Event(), threading.Event(), Heard()

    def hang_once(paths: object, samples: Samples, settings: object, cancel: threading.Event) -> int:
        if not begun.is_set():
            begun.set()
            over.wait(60)
        return 1

    try:
        found = list(spread(near, In(hang_once), listener=heard, patience_s=0.5).results(shards(tmp_path, 6)))
        assert len(found) == 6
        assert any("gave no answer for" in text for text in heard.words)
    finally:
        over.set()


def test_cancel_stops_here_and_on_the_workers(near: Client, tmp_path: Path) -> None:
    cancel, stopped = threading.Event(), threading.Event()

    def go_on(paths: object, samples: Samples, settings: object, unwanted: threading.Event) -> int:
        cancel.set()
        for _ in range(600):
            if unwanted.is_set():
                stopped.set()
                break
            unwanted.wait(0.05)
        return 1

    with pytest.raises(Cancelled, match="stopped"):
        list(spread(near, In(go_on), cancel=cancel).results(shards(tmp_path, 6)))
    assert stopped.wait(60)


class In:
    """A function of this very process, events and all: workers that are threads of it take it as it is."""

    held: ClassVar[list[Callable[..., Any]]] = []

    def __init__(self, work: Callable[..., Any]) -> None:
        self.held.append(work)
        self.place = len(self.held) - 1

    def __call__(self, *args: Any) -> Any:
        return self.held[self.place](*args)


def test_without_a_worker_it_is_told_how_to_start_one(tmp_path: Path) -> None:
    with (
        LocalCluster(n_workers=0, processes=False, **OPTIONS) as cluster,
        Client(cluster) as client,
        pytest.raises(BackendError, match=r"there is no worker at inproc://.*dask worker"),
    ):
        list(spread(client, name_of_model, alone_s=0.1).results(shards(tmp_path, 1)))


# ---- accuracy


def of_one(model: Model, other: Any, samples: Samples, indices: range, batch: int) -> Evaluation:
    read = batches(read_samples(samples, indices, skipped=[]), batch)
    return evaluate(Whole(Reference(model), model), Whole(other, model), read)


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "sent"])
def test_accuracy_of_an_engine_is_what_one_machine_finds(
    two: Client, fashion_cnn: Model, pictures: Samples, shared: bool
) -> None:
    two.wait_for_workers(2)
    engine = build(fashion_cnn, BuildConfig("fp16"), "onnxruntime").engine
    heard, others = Heard(), {"half": engine, "again": fashion_cnn}
    sharding = Sharding(shards=4, shared=shared)
    found = evaluate_on(two, fashion_cnn, others, pictures, count=100, batch=8, sharding=sharding, listener=heard)
    with open_engine(engine) as session:
        wanted = of_one(fashion_cnn, session, pictures, range(0, 10_000, 100), 8)
    assert found["half"] == wanted and found["half"].digests == wanted.digests
    assert wanted.top1 is not None and 0 < wanted.drop("relative").value < 1
    assert found["again"].drop("relative").value == 0 and heard.steps[-1].done == 100
    assert heard.words == []


def test_a_fixed_batch_is_filled_up(near: Client, tmp_path: Path) -> None:
    graph = "(float[4,2] x) => (float[4,2] y) { [t] t = Tanh(x) [m] y = Mul(t, w) }"
    first, second = (
        load_model(save(tmp_path / f"{name}.onnx", graph, w=np.array([value], np.float32)))
        for name, value in (("a", 1), ("b", 1.01))
    )
    samples = small_samples(first, 11)
    found = evaluate_on(near, first, {"b": second}, samples, batch=4, sharding=Sharding(shards=2))
    assert found["b"].count == 11
    assert found["b"] == of_one(first, Reference(second), samples, range(11), 4)


def test_engines_are_compared_as_on_one_machine_although_a_worker_is_killed(
    two: Client, fashion_cnn: Model, pictures: Samples
) -> None:
    two.wait_for_workers(2)
    victims = list(two.run(os.getpid).values())[:1]

    def kill(event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and victims:
            os.kill(victims.pop(), signal.SIGKILL)

    engine = build(fashion_cnn, BuildConfig("fp16"), "onnxruntime").engine
    with open_engine(engine, in_turns=True) as session:
        sessions = {"half": Whole(session, fashion_cnn), "again": Whole(session, fashion_cnn)}
        found = compare_on(
            two, dict.fromkeys(sessions, engine), sessions, pictures, count=90, batch=4, sharding=Sharding(shards=9),
            listener=kill,
        )  # fmt: skip
        read = batches(read_samples(pictures, choose(10_000, 90), skipped=[]), 4)
        wanted = compare(sessions, read)
    assert not victims and found.count == 90 and found.to_json() == wanted.to_json()


# ---- cutting


@pytest.mark.parametrize(
    ("samples", "wanted", "threads", "each"),
    [(512, None, 2, 128), (20, None, 8, 4), (3, None, 8, 3), (10, 4, 1, 3), (2, 9, 1, 1)],
)
def test_shards_are_neither_tiny_nor_few(samples: int, wanted: int | None, threads: int, each: int) -> None:
    assert size_of_shards(samples, wanted, threads) == each


def test_large_samples_end_a_shard_early(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", "(float[n,6000000] x) => (float[n,6000000] y) { [t] y = Tanh(x) }"))
    samples = open_samples([{"x": np.zeros((1, 6_000_000), np.float32)}] * 3, model)
    assert [shard.count for shard in cut(fed(samples, range(3)), as_rows, samples, 100)] == [2, 1]
