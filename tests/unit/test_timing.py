"""Measurements: what is counted, in which turns, and what is derived from the raw times."""

import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import numpy as np
import pytest
from helpers_building import PATIENCE_S
from helpers_clock import FEEDS, FakeClock, drifting, measured, noisy

from workbench.backends import HostClock, LayerClock
from workbench.errors import Cancelled, ConfigError, FeedError
from workbench.inspector import parse_layer_times
from workbench.layer_times import median_times, save_layer_times
from workbench.machine import this_machine
from workbench.reference import random_feeds
from workbench.timing import WARMING, Timing, measure, measure_together, measurement_from_json, measuring
from workbench.timing.settling import settle
from workbench.timing.throughput import Throughput, measure_throughput, throughput_from_json, throughput_sweep
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


@pytest.fixture
def twenty_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the machine lets a first run wait."""
    monkeypatch.setattr(measuring, "_CHUNK_S", 600.0)


@pytest.mark.parametrize("warmup", [2, 10])
def test_a_warmup_of_so_many_runs_is_not_counted(warmup: int) -> None:
    result = measure(ClockedSession(), FEEDS, Timing(3, warmup))
    assert result.times_ms == (warmup + 1.0, warmup + 2.0, warmup + 3.0)
    assert (result.warmup, result.settled) == (warmup, True)


def test_a_measurement_says_how_it_was_taken() -> None:
    result = measure(ClockedSession(), FEEDS, Timing(2, 1))
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
    assert 5 <= len(measure(SlowSession(), FEEDS, Timing(1000, 1, limit_s=0.5)).times_ms) <= 10
    assert len(measure(SlowSession(), FEEDS, Timing(1000, 1, limit_s=0.01)).times_ms) == 5
    assert len(measure(ClockedSession(), FEEDS, Timing(20, 1, limit_s=60)).times_ms) == 20


def test_progress_counts_every_run_and_ends_full() -> None:
    steps: list[Progress] = []
    measure(ClockedSession(), FEEDS, Timing(3, 2), listener=steps.append)
    done = [step.done for step in steps if step.phase != WARMING]
    assert done == [1, 2, 3] and steps[-1].finished and {step.phase for step in steps} == {WARMING, "Timing"}


# ---- warming up


def test_the_warmup_ends_when_times_have_settled() -> None:
    """A clock that needs 200 runs of 10 to 5 ms to speed up; no warm run is slow any more."""
    result = measure(FakeClock(drifting(10.0, 5.0, 200)), FEEDS, Timing(50))
    assert result.settled and result.warmup >= 200 and set(result.times_ms) == {5.0}


def test_a_steady_clock_is_warm_soon() -> None:
    warm = settle(FakeClock(noisy(1.0)).times_ms)
    assert warm.settled and warm.runs < 400


def test_noise_alone_does_not_keep_a_clock_from_settling() -> None:
    assert all(settle(FakeClock(noisy(1.0, spread=0.3, seed=seed)).times_ms).settled for seed in range(10))


def test_a_clock_that_never_settles_is_given_up_and_told() -> None:
    result = measure(ClockedSession(), FEEDS, Timing(20))
    assert not result.settled and "The times had not settled when the warm-up ended." in result.warnings


def test_a_warmup_is_cancelled_too() -> None:
    cancel = threading.Event()

    class Endless(ClockedSession):
        def times_ms(self, iterations: int) -> list[float]:
            cancel.set()
            return [1e-6] * iterations

    with pytest.raises(Cancelled):
        measure(Endless(), FEEDS, Timing(5), cancel=cancel)


# ---- in turns


class Turns(ClockedSession):
    """Notes whose turn it is."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__()
        self.name, self.log = name, log

    def times_ms(self, iterations: int) -> list[float]:
        self.log.append(f"{self.name}{iterations}")
        return [1.0] * iterations


def test_sessions_are_measured_in_turns_another_one_first_each_round(twenty_rounds: None) -> None:
    log: list[str] = []
    one, other = Turns("a", log), Turns("b", log)
    found = measure_together({"a": one, "b": other}, FEEDS, Timing(100, 1))
    turns = [text for text in log if text in ("a5", "b5")]
    assert turns == [*["a5", "b5", "b5", "a5"] * 10]
    assert [item.name for item in found] == ["a", "b"] and found[0].rivals == ("b",)
    assert all(len(item.times_ms) == 100 for item in found)


def test_the_first_run_of_a_turn_does_not_count() -> None:
    """Each turn begins with caches that the other one left: the first run is slow, and no slow run is counted."""

    class Cold(ClockedSession):
        last: ClassVar[list[object]] = []

        def times_ms(self, iterations: int) -> list[float]:
            first = 1.0 if self.last[-1:] == [self] else 99.0
            self.last.append(self)
            return [first, *[1.0] * (iterations - 1)]

    for item in measure_together({"a": Cold(), "b": Cold()}, FEEDS, Timing(40, 2)):
        assert set(item.times_ms) == {1.0}


def test_a_drift_of_the_machine_hits_all_alike() -> None:
    """A machine that gets 60 % slower while two equal sessions are measured: neither comes out faster."""
    slower = itertools.count()

    def one_machine() -> FakeClock:
        return FakeClock(10 * (1 + 0.6 * next(slower) / 400) for _ in itertools.count())

    one, other = measure_together({"a": one_machine(), "b": one_machine()}, FEEDS, Timing(100, 2))
    assert one.median_ms == pytest.approx(other.median_ms, rel=0.01)
    assert one.median.low <= other.median.high and other.median.low <= one.median.high


def test_every_session_may_have_feeds_of_its_own() -> None:
    feeds = {"a": FEEDS, "b": {"x": np.zeros((8, 2), np.float32)}}
    one, other = measure_together({"a": ClockedSession(), "b": ClockedSession()}, feeds, Timing(2, 1))
    assert (one.batch, other.batch) == (4, 8)


def test_no_runs_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="0 runs cannot be timed"):
        Timing(0)


def test_a_measurement_survives_json_with_its_raw_times() -> None:
    result = measure(GpuClocks(), FEEDS, Timing(5, 2, layers=True))
    assert measurement_from_json(json.loads(json.dumps(result.to_json()))) == result
    assert result.layer_times_ms == {"conv": (1.0,) * 5} and result.copies is None


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
    result = measure(GpuClocks(), FEEDS, Timing(3, 4))
    assert result.times_ms == (5, 7, 9) and result.host_times_ms == (1006, 1008, 1010)
    assert (result.clock, result.host_clock) == ("counts its runs", "counts runs with copies")
    assert (result.median_ms, result.host_median_ms) == (7, 1008)


def test_without_a_gpu_there_is_one_clock() -> None:
    result = measure(ClockedSession(), FEEDS, Timing(2, 1))
    assert (result.host_times_ms, result.host_clock, result.host_median_ms) == ((), "", None)


def test_quick_runs_are_timed_in_twenty_turns_so_that_a_gpus_queue_stays_full(twenty_rounds: None) -> None:
    session, steps = GpuClocks(), list[Progress]()
    result = measure(session, FEEDS, Timing(200, 2), listener=steps.append)
    assert len(result.times_ms) == len(result.host_times_ms) == 200
    assert session.chunks[-20:] == [10] * 20
    assert (steps[-1].done, steps[-1].total) == (400, 400)


def test_slow_runs_are_timed_one_by_one() -> None:
    class Slow(ClockedSession):
        def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
            time.sleep(0.06)
            return super().run(feeds)

        def times_ms(self, iterations: int) -> list[float]:
            assert iterations == 1
            return super().times_ms(iterations)

    assert len(measure(Slow(), FEEDS, Timing(30, 1)).times_ms) == 30


def test_a_measurement_is_cancelled_between_turns() -> None:
    cancel, steps = threading.Event(), list[Progress]()

    def stop_at_once(step: Progress | LogLine) -> None:
        assert isinstance(step, Progress)
        if step.phase != WARMING:
            steps.append(step)
            cancel.set()

    with pytest.raises(Cancelled):
        measure(GpuClocks(), FEEDS, Timing(1000, 2), listener=stop_at_once, cancel=cancel)
    assert len(steps) == 1


def test_both_clocks_of_a_gpu_and_its_layers_are_protocols_of_their_own() -> None:
    session = GpuClocks()
    assert isinstance(session, HostClock) and isinstance(session, LayerClock)
    assert not isinstance(ClockedSession(), HostClock) and not isinstance(ClockedSession(), LayerClock)


# ---- throughput


class Sleeper(ClockedSession):
    """Each run takes 2 ms of nobody's processor."""

    def times_ms(self, iterations: int) -> list[float]:
        time.sleep(0.002 * iterations)
        return [2.0] * iterations


def opened(made: list[Sleeper], kind: type[Sleeper] = Sleeper) -> Callable[[], Sleeper]:
    def open_session() -> Sleeper:
        made.append(kind())
        return made[-1]

    return open_session


def test_streams_run_beside_each_other_in_sessions_of_their_own() -> None:
    meeting, made = threading.Barrier(3, timeout=PATIENCE_S), list[Sleeper]()

    class Meets(Sleeper):
        """Its first run that counts goes on when all streams have come to theirs."""

        calls = 0

        def times_ms(self, iterations: int) -> list[float]:
            self.calls += 1
            if self.calls == 2:  # the first one is its warm-up
                meeting.wait()
            return super().times_ms(iterations)

    found = measure_throughput(opened(made, Meets), FEEDS, streams=3, seconds=0.3)
    assert len(made) == 3 and found.streams == 3 and found.batch == 4 and found.latency_ms == 2.0
    assert found.per_s.low <= found.per_s.value <= found.per_s.high


def test_a_rate_lies_in_its_interval_however_uneven_the_windows_are() -> None:
    """A window in which the machine was held up is long; the mean of the windows' rates hardly knows of it."""
    held_up = Throughput(4, 1, (*[(100, 0.04)] * 7, (10, 2.0)), 0.4, "clock").per_s
    assert held_up.low <= held_up.value <= held_up.high
    assert held_up.value == pytest.approx(4 * 710 / 2.28)


def test_a_sweep_takes_every_batch_with_every_number_of_streams() -> None:
    steps: list[Progress] = []
    found = throughput_sweep(
        opened([]), lambda batch: {"x": np.zeros((batch, 2), np.float32)}, (1, 4), (1, 2), seconds=0.02,
        listener=steps.append,
    )  # fmt: skip
    assert [(item.batch, item.streams) for item in found] == [(1, 1), (1, 2), (4, 1), (4, 2)]
    assert steps[-1].finished and steps[-1].total == 4
    assert throughput_from_json(json.loads(json.dumps(found[3].to_json()))) == found[3]


def test_throughput_is_cancelled_between_windows() -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        measure_throughput(opened([]), FEEDS, seconds=30, cancel=cancel)


def test_no_streams_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="0 streams"):
        measure_throughput(opened([]), FEEDS, streams=0)


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
