"""Times on a GPU beside loops written by hand and Polygraphy's, throughput, conditions, and a study."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from helpers_gpu import FASHION, Builder

import workbench as wb
from workbench.backends.cuda import the_gpu
from workbench.backends.nvidia_session import NvidiaSession
from workbench.baselines import onnxruntime_baseline
from workbench.building import Built
from workbench.engine import open_engine
from workbench.model import Model
from workbench.study import load_study, save_study, study
from workbench.timing import Timing, measure, measure_together
from workbench.timing.statistics import apart
from workbench.timing.throughput import measure_throughput

BATCH = 64


@pytest.fixture(scope="module")
def feeds() -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(0).random((BATCH, 1, 28, 28), np.float32)}


@pytest.fixture
def bare(fashion: Built, feeds: dict[str, np.ndarray]) -> Iterator[Any]:
    """The benchmark's engine without the workbench; PyCUDA is imported where there is a GPU only."""
    from gpu_peers.bare import BareEngine, trt

    with the_gpu():
        engine = BareEngine(fashion.engine.plan_path.read_bytes(), trt.Logger(trt.Logger.ERROR), feeds)
        engine.copied(engine.enqueue)
        engine.capture()
        yield engine
        engine.release()
        del engine


def by_hand_ms(engine: Any, launch: Callable[[], None], count: int) -> list[float]:
    """CUDA events around every launch, nothing else."""
    import pycuda.driver as cuda

    events = [(cuda.Event(), cuda.Event()) for _ in range(count)]
    for start, end in events:
        start.record(engine.stream)
        launch()
        end.record(engine.stream)
    engine.stream.synchronize()
    return [start.time_till(end) for start, end in events]


@pytest.mark.parametrize("graph", [True, False])
def test_times_are_those_of_a_loop_of_cuda_events_written_by_hand(
    session: NvidiaSession, bare: Any, feeds: dict[str, np.ndarray], graph: bool
) -> None:
    """In turns, five rounds; a graph's replay, and the calls of execute_async_v3."""
    session.cuda_graph = graph
    session.run(feeds)
    launch = bare.replay if graph else bare.enqueue
    ours, hand = [], []
    for _ in range(6):
        ours.append(np.median(session.times_ms(300)))
        hand.append(np.median(by_hand_ms(bare, launch, 300)))
    one, other = float(np.median(ours[1:])), float(np.median(hand[1:]))
    print(f"graph {graph}: times_ms {one:.4f}, by hand {other:.4f}")
    assert one == pytest.approx(other, rel=0.05, abs=0.004)


def test_polygraphys_times_lie_above_by_what_copies_and_calls_cost(
    session: NvidiaSession, fashion: Built, feeds: dict[str, np.ndarray]
) -> None:
    """With arrays that stay on the GPU Polygraphy's call costs what ours costs and its Python; with arrays on the host
    the copies come on top, and ours host to host is no slower."""
    from polygraphy.backend.trt import EngineFromBytes, TrtRunner
    from polygraphy.cuda import DeviceArray

    result = measure(session, feeds, Timing(300))
    with TrtRunner(EngineFromBytes(fashion.engine.plan_path.read_bytes())) as runner:
        placed = {name: DeviceArray(array.shape, array.dtype).copy_from(array) for name, array in feeds.items()}
        on_device = _wall_ms(lambda: runner.infer(placed, copy_outputs_to_host=False))
        on_host = _wall_ms(lambda: runner.infer(feeds))
        for array in placed.values():
            array.free()
    print(
        f"times_ms {result.median_ms:.4f}, host {result.host_median_ms:.4f}, Polygraphy {on_device:.4f}, {on_host:.4f}"
    )
    assert result.median_ms <= on_device * 1.02
    assert on_device <= on_host * 1.02
    assert (result.host_median_ms or 0) <= on_host * 1.02


def _wall_ms(call: Callable[[], Any], count: int = 200) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return float(np.median(times[count // 4 :]))


def test_a_measurement_tells_the_gpus_clocks_and_state(session: NvidiaSession, feeds: dict[str, np.ndarray]) -> None:
    result = measure(session, feeds, Timing(200, layers=True))
    seen = result.conditions
    assert seen is not None and seen.gpu_sm_mhz is not None and seen.gpu_power_w is not None
    assert seen.gpu_sm_mhz.high > 500 and "driver" in seen.setting and "power limit" in seen.setting
    assert result.copies is False and result.cuda_graph is True and result.settled
    assert result.releases["tensorrt"].startswith("8.6") and result.layer_times_ms
    print(result.provenance)


def test_two_sessions_of_one_engine_cannot_be_told_apart(fashion: Built, feeds: dict[str, np.ndarray]) -> None:
    with open_engine(fashion.engine) as one, open_engine(fashion.engine) as other:
        found = measure_together({"one": one, "other": other}, feeds, Timing(500))
    print(*(item.median for item in found))
    assert not apart(found[0].median, found[1].median)


def test_streams_do_more_than_one(fashion: Built, feeds: dict[str, np.ndarray]) -> None:
    small = {"image": feeds["image"][:1]}
    one, four = (
        measure_throughput(lambda: open_engine(fashion.engine), small, streams=streams, seconds=0.5)
        for streams in (1, 4)
    )
    print(f"1 stream {one.per_s.value:,.0f}/s, 4 streams {four.per_s.value:,.0f}/s")
    assert four.per_s.value > 1.1 * one.per_s.value


def test_a_study_ranks_what_differs_and_compares_outputs(
    fashion: Built, fashion_cnn: Model, built: Builder, feeds: dict[str, np.ndarray], tmp_path: Path
) -> None:
    half = built(fashion_cnn, FASHION, precision="fp16")
    found = study(
        {"CPU": onnxruntime_baseline(fashion_cnn, threads=2), "FP32": fashion, "FP16": half}, feeds, Timing(100)
    )
    print(found)
    assert found.failures == {} and found.ranks["CPU"] == (3, 3) and found.comparison is not None
    assert "times as fast" in found.verdict("FP32")
    assert load_study(save_study(found, tmp_path / "study.json.gz")).ranks == found.ranks


def test_the_command_line_measures_with_layers_on_the_gpu(
    fashion_cnn: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    from workbench.cli import main

    assert (
        main(["bench", str(fashion_cnn.path), "--backend", "tensorrt", "--shapes", FASHION[0], "--iterations", "50"])
        == 0
    )
    assert "SM" in capsys.readouterr().out
    assert wb.available()["tensorrt"].can_run
