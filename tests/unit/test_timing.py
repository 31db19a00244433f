"""Measurements: what is counted, and what is derived from the raw times."""

import time
from types import TracebackType

import numpy as np
import pytest

from workbench.machine import this_machine
from workbench.reference import random_feeds
from workbench.timing import Measurement, measure
from workbench.types import Feeds, Progress, TensorSpec


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
    assert [(step.done, step.total) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
