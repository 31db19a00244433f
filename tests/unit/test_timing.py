"""Measurements: what is counted, and what is derived from the raw times."""

import json
import threading
import time
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest

from workbench.errors import Cancelled, ConfigError, FeedError
from workbench.inspector import parse_layer_times
from workbench.layer_times import median_times, save_layer_times
from workbench.machine import this_machine
from workbench.reference import random_feeds
from workbench.timing import Measurement, measure
from workbench.types import Feeds, LogLine, Progress, TensorSpec


class ClockedSession:
    """Its n-th run takes n milliseconds, by its own clock."""

    inputs = (TensorSpec("x", "float32", ("n", 2)), TensorSpec("ids", "int64", ("n",)), TensorSpec("on", "bool", ()))
    outputs = ()
    clock = "counts its runs"

    def __init__(self) -> None:
        self.runs = 0

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        self.runs += 1
        return {}

    def times_ms(self, iterations: int) -> list[float]:
        start, self.runs = self.runs, self.runs + iterations
        return [float(number) for number in range(start + 1, self.runs + 1)]

    def __enter__(self) -> "ClockedSession":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


FEEDS = {"x": np.zeros((4, 2), np.float32)}


def measured(*times_ms: float, batch: int = 1) -> Measurement:
    return Measurement(times_ms, 0, {"x": (batch, 2)}, "clock", this_machine())


@pytest.mark.parametrize("warmup", [1, 2, 10])
def test_warmup_is_not_counted(warmup: int) -> None:
    result = measure(ClockedSession(), FEEDS, iterations=3, warmup=warmup)
    assert result.times_ms == (warmup + 1.0, warmup + 2.0, warmup + 3.0)
    assert result.warmup == warmup


def test_a_measurement_says_how_it_was_taken() -> None:
    result = measure(ClockedSession(), FEEDS, iterations=2)
    assert (result.clock, result.batch, result.machine) == ("counts its runs", 4, this_machine())


def test_statistics_come_from_the_raw_times() -> None:
    result = measured(1.0, 2.0, 6.0, batch=4)
    assert (result.median_ms, result.mean_ms, result.p99_ms) == (2.0, 3.0, 6.0)
    assert result.throughput_per_s == pytest.approx(4 / 0.003)


@pytest.mark.parametrize(("count", "p99"), [(1, 1), (99, 99), (100, 99), (101, 100), (1000, 990)])
def test_p99_is_a_measured_time_that_99_percent_do_not_exceed(count: int, p99: int) -> None:
    times = [float(number) for number in range(count, 0, -1)]
    result = measured(*times)
    assert result.p99_ms == p99
    assert sum(time <= result.p99_ms for time in times) >= 0.99 * count


def test_random_feeds_have_the_types_and_shapes_and_are_always_the_same() -> None:
    shapes = {"x": (3, 2), "ids": (3,), "on": ()}
    feeds, again, other = (random_feeds(ClockedSession().inputs, shapes, seed=seed) for seed in (0, 0, 1))
    assert {name: (array.dtype.name, array.shape) for name, array in feeds.items()} == {
        "x": ("float32", (3, 2)),
        "ids": ("int64", (3,)),
        "on": ("bool", ()),
    }
    assert 0 <= feeds["x"].min() <= feeds["x"].max() < 1
    assert np.array_equal(feeds["x"], again["x"])
    assert not np.array_equal(feeds["x"], other["x"])


def test_inputs_that_hold_sizes_are_fed_with_their_content() -> None:
    feeds = random_feeds((TensorSpec("size", "int32", ("n", 2)),), {"size": (1, 2)}, {"size": (320, 640)})
    assert feeds["size"].tolist() == [[320, 640]] and feeds["size"].dtype == np.int32


def test_content_of_another_length_is_refused() -> None:
    with pytest.raises(FeedError, match=r"size: int32\[2\] of the shape 2 cannot hold the 3 values \[1, 2, 3\]"):
        random_feeds((TensorSpec("size", "int32", (2,)),), {"size": (2,)}, {"size": (1, 2, 3)})


class SlowSession(ClockedSession):
    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        time.sleep(0.05)
        return super().run(feeds)


def test_a_limit_means_fewer_runs_but_five_at_least() -> None:
    assert 5 <= len(measure(SlowSession(), FEEDS, iterations=1000, limit_s=0.5).times_ms) <= 10
    assert len(measure(SlowSession(), FEEDS, iterations=1000, limit_s=0.01).times_ms) == 5
    assert len(measure(ClockedSession(), FEEDS, iterations=20, limit_s=60).times_ms) == 20


def test_progress_counts_every_run_and_ends_full() -> None:
    steps: list[Progress] = []
    measure(ClockedSession(), FEEDS, iterations=3, warmup=2, listener=steps.append)
    done = [step.done for step in steps]
    assert done[0] == 1 and done == sorted(set(done)) and steps[-1].finished
    assert {step.total for step in steps} == {4}


# ---- a GPU has two clocks


class GpuClocks(ClockedSession):
    """Satisfies GpuSession: its runs take n ms by its own clock and 1000 + n from host to host."""

    cuda_graph = True
    host_clock = "counts runs with copies"

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[int] = []

    def times_ms(self, iterations: int) -> list[float]:
        self.chunks.append(iterations)
        time.sleep(iterations / 1000)
        return super().times_ms(iterations)

    def run_on_device(self, feeds: Feeds) -> dict[str, np.ndarray]:
        return self.run(feeds)

    def host_times_ms(self, iterations: int) -> list[float]:
        return [1000 + taken for taken in ClockedSession.times_ms(self, iterations)]

    def layer_times_ms(self, iterations: int) -> dict[str, tuple[float, ...]]:
        return {"conv": (1.0,) * iterations}


def test_a_gpu_is_measured_by_its_own_clock_and_from_host_to_host() -> None:
    result = measure(GpuClocks(), FEEDS, iterations=3, warmup=4)
    assert result.times_ms == (5, 6, 7) and result.host_times_ms == (1008, 1009, 1010)
    assert (result.clock, result.host_clock) == ("counts its runs", "counts runs with copies")
    assert (result.median_ms, result.host_median_ms) == (6, 1009)


def test_without_a_gpu_there_is_one_clock() -> None:
    result = measure(ClockedSession(), FEEDS, iterations=2)
    assert (result.host_times_ms, result.host_clock, result.host_median_ms) == ((), "", None)


def test_quick_runs_are_timed_in_chunks_and_all_are_counted() -> None:
    session, steps = GpuClocks(), list[Progress]()
    result = measure(session, FEEDS, iterations=200, warmup=2, listener=steps.append)
    assert len(result.times_ms) == len(result.host_times_ms) == 200 == sum(session.chunks)
    assert session.chunks[0] == 1 and 1 < max(session.chunks) < 200
    assert (steps[-1].done, steps[-1].total) == (400, 400)


def test_slow_runs_are_timed_one_by_one() -> None:
    class Slow(ClockedSession):
        def times_ms(self, iterations: int) -> list[float]:
            assert iterations == 1
            time.sleep(0.06)
            return super().times_ms(iterations)

    assert len(measure(Slow(), FEEDS, iterations=4, warmup=1).times_ms) == 4


def test_a_measurement_is_cancelled_between_chunks() -> None:
    cancel, steps = threading.Event(), list[Progress]()

    def stop_at_once(step: Progress | LogLine) -> None:
        assert isinstance(step, Progress)
        steps.append(step)
        cancel.set()

    with pytest.raises(Cancelled):
        measure(GpuClocks(), FEEDS, iterations=1000, listener=stop_at_once, cancel=cancel)
    assert len(steps) == 1


# ---- times of layers


TIMES = {"conv1 + relu": (0.2, 0.1, 0.9), "Reformatting CopyNode": (0.1, 0.1, 0.1)}


def test_times_of_layers_are_written_as_trtexec_does_and_read_again(tmp_path: Path) -> None:
    path = save_layer_times(TIMES, tmp_path / "new" / "profile.json")
    head, conv, copy = json.loads(path.read_text())
    assert head == {"count": 3}
    assert conv == {
        "name": "conv1 + relu", "timeMs": pytest.approx(1.2), "averageMs": pytest.approx(0.4), "medianMs": 0.2,
        "percentage": pytest.approx(80),
    }  # fmt: skip
    assert conv["percentage"] + copy["percentage"] == pytest.approx(100)
    assert parse_layer_times(path.read_text()).times_ms == median_times(TIMES)


def test_times_that_cannot_be_written_are_a_mistake_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written there"):
        save_layer_times(TIMES, tmp_path)
