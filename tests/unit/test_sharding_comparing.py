"""Engines compared on workers of a Dask client: what `compare` tells on one machine."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster
from models import save

from workbench.building import build
from workbench.calibration.samples import Sample, Samples, Skipped, batches, open_samples, read_samples
from workbench.comparing import PHASE, compare
from workbench.comparison import Comparison
from workbench.contest.feeding import Whole
from workbench.engine import Engine, open_engine
from workbench.errors import Cancelled, FeedError
from workbench.evaluation import Runs
from workbench.model import Model, load_model
from workbench.sharding import Sharding, compare_on
from workbench.types import BuildConfig, Feeds, LogLine, Progress

OPTIONS = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 60}
TANH = "(float[n,2] x) => (float[n,2] y) { y = Tanh(x) }"
ADD = "(float[n,a] x, float[n,b] y) => (float[n,c] z) { [sum] z = Add(x, y) }"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def home(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One store for all tests here, so that each engine is built once."""
    monkeypatch.setenv("WORKBENCH_HOME", str(shared))
    return shared


@pytest.fixture(scope="module")
def near() -> Iterator[Client]:
    """Three workers in this process."""
    with LocalCluster(n_workers=3, processes=False, **OPTIONS) as cluster, Client(cluster) as client:
        yield client


def engine_of(model: Model) -> Engine:
    return build(model, BuildConfig(), "onnxruntime").engine


@dataclass
class Heard:
    """A listener."""

    steps: list[Progress] = field(default_factory=list)

    def __call__(self, event: Progress | LogLine) -> None:
        if isinstance(event, Progress):
            self.steps.append(event)


def both(
    client: Client, engines: Mapping[str, Engine], samples: Samples, batch: int = 1, **options: Any
) -> tuple[Comparison, Comparison]:
    """What workers tell, and what is told here."""
    with ExitStack() as stack:
        runs: dict[str, Runs] = {}
        for name, engine in engines.items():
            session = stack.enter_context(open_engine(engine, in_turns=True))
            runs[name] = Whole(session, load_model(engine.model_path))
        read = read_samples(samples, range(len(samples)), skipped=[])
        return compare_on(client, engines, runs, samples, batch=batch, **options), compare(runs, batches(read, batch))


@dataclass(frozen=True, eq=False)
class Listed:
    samples: tuple[Sample, ...]
    about: str = "a list"
    preprocessing: None = None
    has_labels: bool = False

    def __len__(self) -> int:
        return len(self.samples)

    def id_of(self, index: int) -> str:
        return self.samples[index].id

    def read(self, index: int) -> Sample:
        return self.samples[index]


def test_a_fixed_batch_is_filled_up_and_outputs_without_rows_are_left_out(near: Client, tmp_path: Path) -> None:
    """The last sample is a batch by itself, in which the mean would do."""
    graph = "(float[4,2] x) => (float[4,2] y, float[1,2] mean) { y = Mul(x, w) mean = ReduceMean<axes = [0]>(y) }"
    models = [
        load_model(save(tmp_path / f"{number}.onnx", graph, w=np.array([weight], np.float32)))
        for number, weight in enumerate((1, 1.01))
    ]
    samples = open_samples({"x": np.random.default_rng(0).random((9, 2), np.float32)}, models[0])
    engines = {name: engine_of(model) for name, model in zip("ab", models, strict=True)}
    heard = Heard()
    found, wanted = both(near, engines, samples, 4, sharding=Sharding(shards=3), listener=heard)
    assert found.to_json() == wanted.to_json() and found.count == 9
    assert "has no row for each of 4 samples" in found.notes[0]
    assert [(step.phase, step.total) for step in heard.steps] == [(PHASE, 9)] * 3 and heard.steps[-1].finished


def uneven(tmp_path: Path) -> tuple[Model, Samples]:
    """A model that cannot run the fifth of seven samples."""
    model = load_model(save(tmp_path / "add.onnx", ADD))
    sizes = [3, 3, 3, 3, 5, 3, 3]
    return model, open_samples(
        [
            {"x": np.full((1, 3), number, np.float32), "y": np.ones((1, size), np.float32)}
            for number, size in enumerate(sizes)
        ],
        model,
    )


def test_an_engine_that_fails_on_a_sample_is_told_as_by_one(near: Client, tmp_path: Path) -> None:
    model, samples = uneven(tmp_path)
    easy = load_model(save(tmp_path / "easy.onnx", "(float[n,a] x, float[n,b] y) => (float[n,a] z) { z = Abs(x) }"))
    engines = {"easy": engine_of(easy), "add": engine_of(model)}
    found, wanted = both(near, engines, samples, sharding=Sharding(shards=3))
    assert found.to_json() == wanted.to_json()
    assert found.contestants[1].failure.startswith(f"on {samples.id_of(4)}: ")


def test_what_a_worker_cannot_run_is_run_here(near: Client, tmp_path: Path) -> None:
    model, samples = uneven(tmp_path)
    seen = list[Feeds]()

    class Session:
        def run(self, feeds: Feeds) -> Feeds:
            seen.append(feeds)
            return {"z": feeds["x"] + 1}

    engines, sessions = {"add": engine_of(model)}, {"add": Session()}
    found = compare_on(near, engines, sessions, samples, sharding=Sharding(shards=3))
    assert found.count == 7 and found.contestants[0].failure == ""
    assert [feeds["x"][0, 0] for feeds in seen] == [0, 4]  # the first one tells how large outputs are


def test_large_outputs_make_small_shards(near: Client, tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", TANH))
    samples = open_samples({"x": np.ones((9, 2), np.float32)}, model)

    class Session:
        def run(self, feeds: Feeds) -> Feeds:
            return {"y": np.broadcast_to(np.float32(0), (1, 4_000_000))}

    heard = Heard()
    compare_on(near, {"a": engine_of(model)}, {"a": Session()}, samples, listener=heard, sharding=Sharding(shards=1))
    assert [step.done for step in heard.steps] == [2, 4, 6, 8, 9]


def test_samples_that_cannot_be_read_are_left_out_and_told(near: Client, tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", TANH))
    whole = open_samples({"x": np.ones((9, 2), np.float32)}, model)

    class Broken(Listed):
        def read(self, index: int) -> Sample:
            if index in (0, 5):
                raise FeedError(f"{self.id_of(index)}: broken.")
            return super().read(index)

    samples, skipped = Broken(tuple(map(whole.read, range(9)))), list[Skipped]()
    found, wanted = both(near, {"a": engine_of(model)}, samples, 2, skipped=skipped)
    assert found.to_json() == wanted.to_json() and found.count == 7
    assert [item.id for item in skipped] == [whole.id_of(0), whole.id_of(5)]
    with pytest.raises(FeedError, match="broken"):
        both(near, {"a": engine_of(model)}, samples, strict=True)


def test_text_is_refused_before_anything_is_sent(near: Client, tmp_path: Path) -> None:
    samples = Listed((Sample("a", {"t": np.array([["word"]])}),))
    with pytest.raises(FeedError, match="a: input t is text, which does not travel; leave the scheduler out"):
        compare_on(near, {}, {}, samples)


def test_cancel_ends_it(near: Client, tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", TANH))
    samples, cancel = open_samples({"x": np.ones((90, 2), np.float32)}, model), threading.Event()
    with pytest.raises(Cancelled):
        both(
            near, {"a": engine_of(model)}, samples, cancel=cancel, listener=lambda event: cancel.set(),
            sharding=Sharding(shards=30),
        )  # fmt: skip
