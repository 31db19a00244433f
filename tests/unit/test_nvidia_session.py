"""Sessions on a pretended GPU (helpers_pretended.py); tests/gpu runs them on a real one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers_hybrid import MODELS
from helpers_pretended import PretendedGpu, pretend, session_of

from workbench.accuracy import compare_outputs
from workbench.backends import nvidia_context
from workbench.backends.device_arrays import DeviceArray
from workbench.errors import BackendError, FeedError
from workbench.hybrid import session as hybrid_session
from workbench.hybrid.session import HybridSession, open_native
from workbench.model import Model
from workbench.profiles import parse_profiles
from workbench.subgraphs import cut, divide, find_support


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


def images(batch: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).random((batch, 1, 28, 28), np.float32)}


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and np.allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_every_way_through_gives_the_models_answer(fashion_cnn: Model) -> None:
    whole = open_native(fashion_cnn)
    with session_of(fashion_cnn) as session:
        for turn in range(12):
            feeds = images(1 + turn % 3, turn)
            wanted = whole.run(feeds)["logits"]
            session.cuda_graph = turn % 4 != 3
            lent = session.run_on_device(feeds)["logits"]
            assert close(session.run(feeds)["logits"], wanted), turn
            assert close(lent.to_host(), wanted), turn


def test_large_inputs_arrive_whole_in_pieces(fashion_cnn: Model) -> None:
    feeds = images(2048)
    turned = {"image": np.asfortranarray(feeds["image"][::-1])}
    with session_of(fashion_cnn) as session:
        for given in (feeds, turned):
            assert close(session.run(given)["logits"], open_native(fashion_cnn).run(given)["logits"])


def test_a_graph_is_replayed_unless_it_is_switched_off(fashion_cnn: Model) -> None:
    with session_of(fashion_cnn) as session:
        session.run(images(2))
        assert "CUDA graph" in session.clock
        session.cuda_graph = False
        session.run(images(2))
        assert "enqueue" in session.clock


def test_an_engine_that_cannot_be_captured_runs_without_a_graph(
    fashion_cnn: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[object] = []

    def refuse(*what: object) -> None:
        tried.append(what)
        raise BackendError("the CUDA driver refuses to capture a CUDA graph (error 900).")

    monkeypatch.setattr(nvidia_context, "CudaGraph", refuse)
    with session_of(fashion_cnn) as session:
        for seed in range(3):
            wanted = open_native(fashion_cnn).run(images(2, seed))["logits"]
            assert close(session.run(images(2, seed))["logits"], wanted)
        assert "enqueue" in session.clock and len(tried) == 1


def test_what_was_given_away_is_not_written_again(fashion_cnn: Model) -> None:
    with session_of(fashion_cnn) as session:
        host, device = session.run(images(2))["logits"], session.run_on_device(images(2))["logits"]
        before = host.copy()
        session.run(images(2, 1))
        session.run_on_device(images(2, 2))
        session.times_ms(3)
        session.host_times_ms(3)
        assert np.array_equal(host, before) and close(device.to_host(), before)


def test_arrays_go_from_engine_to_engine_where_they_lie(fashion_cnn: Model) -> None:
    image, wanted = on_device(images(3)["image"]), open_native(fashion_cnn).run(images(3))["logits"]
    with session_of(fashion_cnn) as session:
        for _ in range(3):
            assert close(session.run({"image": image})["logits"], wanted)
        assert close(session.run(images(3))["logits"], wanted), "and back to the host"


def on_device(array: np.ndarray) -> DeviceArray:
    gpu = PretendedGpu()
    memory, stream = gpu.device_memory(array.nbytes, "image"), gpu.stream()
    gpu.driver.memcpy_htod_async(int(memory), array, stream)
    stream.synchronize()
    return DeviceArray(int(memory), array.shape, array.dtype.name, memory, gpu.to_host)


def test_buffers_are_filled_in_place_and_stay_the_same(fashion_cnn: Model) -> None:
    with session_of(fashion_cnn) as session:
        buffers = session.input_buffers({"image": (4, 1, 28, 28)})
        for seed in range(3):
            buffers["image"][:] = images(4, seed)["image"]
            assert close(session.run(buffers)["logits"], open_native(fashion_cnn).run(images(4, seed))["logits"])
        assert session.input_buffers({"image": (4, 1, 28, 28)})["image"] is buffers["image"]


def test_the_shapes_used_last_are_kept_and_forgotten_ones_come_again(fashion_cnn: Model) -> None:
    whole = open_native(fashion_cnn)
    with session_of(fashion_cnn) as session:
        often = session.input_buffers({"image": (20, 1, 28, 28)})["image"]
        for batch in (*range(1, 12), 3):
            session.run(images(20))
            assert close(session.run(images(batch))["logits"], whole.run(images(batch))["logits"])
        assert session.input_buffers({"image": (20, 1, 28, 28)})["image"] is often


def test_a_shape_outside_of_the_profile_is_refused(fashion_cnn: Model) -> None:
    profiles = parse_profiles(["image:1x1x28x28,2x1x28x28,4x1x28x28"])
    with (
        session_of(fashion_cnn, profiles) as session,
        pytest.raises(FeedError, match="dimension 0: 5 is outside of 1 to 4"),
    ):
        session.run(images(5))


def test_nothing_to_repeat_and_closed_are_told(fashion_cnn: Model) -> None:
    with session_of(fashion_cnn) as session:
        for times in (session.times_ms, session.host_times_ms, session.layer_times_ms):
            with pytest.raises(BackendError, match="run the session once"):
                times(1)
        session.run(images(1))
        assert len(session.times_ms(4)) == len(session.host_times_ms(4)) == 4
    with pytest.raises(BackendError, match="session is closed"):
        session.run(images(1))
    session.close()


@pytest.mark.rtx
@pytest.mark.parametrize("name", ["quantized CNN", "optimized transformer"])
def test_a_model_in_parts_hands_its_arrays_over(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines and native parts in turns, each engine on the pretended GPU."""
    make, feed = MODELS[name]
    model = make(tmp_path)
    samples, whole, support = feed(model), open_native(model), find_support(model, "rtx")
    here = SimpleNamespace(can_run=True, title="TensorRT")
    monkeypatch.setattr(
        hybrid_session, "backends", SimpleNamespace(load=lambda n: SimpleNamespace(support=lambda: here))
    )
    monkeypatch.setattr(hybrid_session, "open_engine", lambda part, **options: session_of(part))
    kept = 0
    for size in (1, 3, 10):
        partition = divide(support, size)
        parts = {part.id: SimpleNamespace(engine=cut(partition.model, part)) for part in partition.engines}
        hybrid: Any = SimpleNamespace(partition=partition, built=(), by_part=parts)
        with HybridSession(hybrid) as session:
            kept += "on the GPU from engine to engine" in session.clock
            for sample in samples * 3:
                found = session.run(sample)
                assert max(item.relative for item in compare_outputs(whole.run(sample), found)) < 1e-3
    assert kept, "in no partition two engines are side by side"
