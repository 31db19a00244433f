"""Running engines on the GPU."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers_gpu import Builder, on_cpu, relative, saved

from workbench.backends import GpuSession
from workbench.backends.cuda import the_gpu
from workbench.backends.device_arrays import DeviceArray
from workbench.backends.nvidia_session import NvidiaSession
from workbench.building import Built
from workbench.engine import open_engine, read_layers
from workbench.errors import BackendError, FeedError
from workbench.model import Model

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_it_answers_as_onnx_runtime_does(session: NvidiaSession, fashion_cnn: Model, pictures, batch: int) -> None:
    feeds = {"image": pictures[:batch]}
    outputs, wanted = session.run(feeds), on_cpu(fashion_cnn, feeds)
    assert outputs["logits"].shape == (batch, 10)
    assert relative(outputs["logits"], wanted["logits"]) < 1e-5


def test_it_is_a_gpu_session_with_the_models_names(session: NvidiaSession) -> None:
    assert isinstance(session, GpuSession)
    assert [str(spec) for spec in (*session.inputs, *session.outputs)] == [
        "image: float32[batch, 1, 28, 28]",
        "logits: float32[batch, 10]",
    ]


def test_what_it_gave_stays_when_it_runs_again(session: NvidiaSession, pictures) -> None:
    first = session.run({"image": pictures[:4]})["logits"]
    before = first.copy()
    session.run({"image": pictures[4:8]})
    assert np.array_equal(first, before)


def test_with_and_without_a_graph_the_answers_are_equal(session: NvidiaSession, pictures) -> None:
    feeds = {"image": pictures[:8]}
    replayed = session.run(feeds)["logits"]
    assert "CUDA graph" in session.clock
    session.cuda_graph = False
    enqueued = session.run(feeds)["logits"]
    assert "enqueue" in session.clock
    assert np.array_equal(replayed, enqueued)


def test_buffers_filled_in_place_are_the_inputs(session: NvidiaSession, fashion_cnn: Model, pictures) -> None:
    buffers = session.input_buffers({"image": (8, 1, 28, 28)})
    buffers["image"][:] = pictures[:8]
    wanted = on_cpu(fashion_cnn, {"image": pictures[:8]})
    assert relative(session.run(buffers)["logits"], wanted["logits"]) < 1e-5
    assert session.input_buffers({"image": (8, 1, 28, 28)})["image"] is buffers["image"]


def test_more_shapes_than_are_kept_still_run(session: NvidiaSession, fashion_cnn: Model, pictures) -> None:
    wanted = on_cpu(fashion_cnn, {"image": pictures[:20]})["logits"]
    for batch in (*range(1, 20), *range(1, 4)):
        assert relative(session.run({"image": pictures[:batch]})["logits"], wanted[:batch]) < 1e-5


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, "input image is missing"),
        ({"image": np.zeros((1, 1, 28, 28))}, "must be float32"),
        ({"image": np.zeros((1, 1, 28, 27), np.float32)}, "dimension 3: it must be 28; the array has 27"),
        ({"image": np.zeros((65, 1, 28, 28), np.float32)}, "dimension 0: 65 is outside of 1 to 64"),
        ({"image": np.zeros((1, 28, 28), np.float32)}, "has 4 dimensions"),
    ],
)
def test_arrays_that_do_not_fit_are_told(session: NvidiaSession, feeds: dict, words: str) -> None:
    with pytest.raises(FeedError, match=words):
        session.run(feeds)


def test_the_profile_is_chosen_by_shape(built: Builder, fashion_cnn: Model, pictures) -> None:
    engine = built(fashion_cnn, ["image:1x1x28x28", "image:2x1x28x28,32x1x28x28,64x1x28x28"]).engine
    wanted = on_cpu(fashion_cnn, {"image": pictures[:64]})["logits"]
    with open_engine(engine) as session:
        for batch in (1, 2, 64, 1, 33):
            assert relative(session.run({"image": pictures[:batch]})["logits"], wanted[:batch]) < 1e-5
        with pytest.raises(FeedError, match=r"65 is outside of 2 to 64.*optimization profile 2 of 2"):
            session.run({"image": np.zeros((65, 1, 28, 28), np.float32)})


def test_outputs_sized_by_data(built: Builder, tmp_path: Path) -> None:
    model = saved(tmp_path, "(float[n,4] x) => (int64[2,k] where) { t = Relu(x) where = NonZero(t) }")
    with open_engine(built(model, ["x:1x4,4x4,64x4"]).engine) as session:
        for rows in (4, 64, 2):
            x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
            found = session.run({"x": x})["where"]
            assert found.dtype == np.int64
            assert np.array_equal(found, np.stack(np.nonzero(np.maximum(x, 0))))
            assert np.array_equal(session.run_on_device({"x": x})["where"].to_host(), found)
        assert session.run({"x": np.full((2, 4), -1, np.float32)})["where"].shape == (2, 0)
        assert len(session.times_ms(3)) == 3


def test_inputs_that_hold_sizes(built: Builder, tmp_path: Path) -> None:
    model = saved(tmp_path, "(float[1,n] x, int64[2] size) => (float[a,b] y) { t = Relu(x) y = Expand(t, size) }")
    engine = built(model, ["x:1x1,1x4,1x8", "size:[1x1],[3x4],[6x8]"]).engine
    with open_engine(engine) as session:
        for rows, columns in ((3, 4), (6, 8), (1, 1)):
            x = np.arange(columns, dtype=np.float32)[None]
            found = session.run({"x": x, "size": np.array([rows, columns])})["y"]
            assert np.array_equal(found, np.broadcast_to(x, (rows, columns)))
        with pytest.raises(FeedError, match="input size, value 0: 9 is outside of 1 to 6"):
            session.run({"x": np.zeros((1, 4), np.float32), "size": np.array([9, 4])})


def test_int64_is_taken_although_tensorrt_8_computes_in_int32(built: Builder, tmp_path: Path) -> None:
    table = np.arange(20, dtype=np.float32).reshape(5, 4)
    graph = "(int64[n] ids) => (float[n,4] y, int64[n] next) { y = Gather(table, ids) next = Add(ids, one) }"
    model = saved(tmp_path, graph, table=table, one=np.array(1))
    with open_engine(built(model, ["ids:1,4,8"]).engine) as session:
        outputs = session.run({"ids": np.array([3, 1, 4])})
        assert np.array_equal(outputs["y"], table[[3, 1, 4]])
        assert outputs["next"].dtype == np.int64 and outputs["next"].tolist() == [4, 2, 5]
        with pytest.raises(FeedError, match="beyond int32"):
            session.run({"ids": np.array([3, 1, 2**40])})


# ---- arrays on the device


def test_outputs_can_stay_on_the_device_and_go_in_again(session: NvidiaSession, fashion_cnn: Model, pictures) -> None:
    outputs = session.run_on_device({"image": pictures[:8]})["logits"]
    assert isinstance(outputs, DeviceArray) and outputs.shape == (8, 10)
    assert relative(outputs.to_host(), on_cpu(fashion_cnn, {"image": pictures[:8]})["logits"]) < 1e-5
    described = outputs.__cuda_array_interface__
    assert described["data"][0] == outputs.pointer and described["typestr"] == "<f4"


def test_memory_may_be_forgotten_by_any_thread_at_any_time(session: NvidiaSession, pictures) -> None:
    kept = [session.run_on_device({"image": pictures[:8]}) for _ in range(5)]
    thread = threading.Thread(target=kept.clear)
    thread.start()
    thread.join()
    assert not kept and session.run({"image": pictures[:8]})["logits"].shape == (8, 10)


def test_an_array_of_pycuda_goes_in_where_it_lies(session: NvidiaSession, fashion_cnn: Model, pictures) -> None:
    from pycuda import gpuarray

    with the_gpu():
        image = gpuarray.to_gpu(pictures[:8])
        found = session.run({"image": image})["logits"]
        del image
    assert relative(found, on_cpu(fashion_cnn, {"image": pictures[:8]})["logits"]) < 1e-5


@pytest.mark.torch
def test_tensors_of_pytorch_go_in_and_out_without_a_copy(session: NvidiaSession, fashion_cnn: Model, pictures) -> None:
    import torch

    image = torch.from_numpy(pictures[:8]).cuda()
    lent = session.run_on_device({"image": image})["logits"]
    taken = torch.from_dlpack(lent)
    assert taken.is_cuda and taken.data_ptr() == lent.pointer
    assert torch.as_tensor(lent, device="cuda").data_ptr() == lent.pointer
    del lent
    doubled = (taken * 2).cpu().numpy() / 2
    assert relative(doubled, on_cpu(fashion_cnn, {"image": pictures[:8]})["logits"]) < 1e-5
    with pytest.raises(FeedError, match="not contiguous"):
        session.run({"image": image.transpose(2, 3)})
    with pytest.raises(FeedError, match="must be float32"):
        session.run({"image": image.double()})


@pytest.mark.torch
def test_beside_pytorch_in_one_process_and_in_turns(session: NvidiaSession, fashion_cnn: Model, pictures) -> None:
    import torch

    torch.manual_seed(0)
    weights = torch.randn(10, 10, device="cuda")
    wanted = on_cpu(fashion_cnn, {"image": pictures[:8]})["logits"]
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(20):
            image = torch.from_numpy(pictures[:8]).cuda(non_blocking=True)
            logits = torch.from_dlpack(session.run_on_device({"image": image})["logits"])
            mixed = (logits @ weights).cpu().numpy()
            assert relative(mixed, wanted @ weights.cpu().numpy()) < 1e-4


# ---- several at once


def test_threads_share_a_session(session: NvidiaSession, fashion_cnn: Model, pictures) -> None:
    wanted = on_cpu(fashion_cnn, {"image": pictures[:64]})["logits"]
    worst: list[float] = []

    def work(start: int) -> None:
        for batch in (1, 4, 8) * 10:
            found = session.run({"image": pictures[start : start + batch]})["logits"]
            worst.append(relative(found, wanted[start : start + batch]))

    threads = [threading.Thread(target=work, args=(8 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 8 * 30 and max(worst) < 1e-5


def test_sessions_share_an_engine_and_run_at_once(fashion: Built, fashion_cnn: Model, pictures) -> None:
    wanted = on_cpu(fashion_cnn, {"image": pictures[:32]})["logits"]
    found: dict[int, float] = {}

    def work(number: int) -> None:
        with open_engine(fashion.engine) as session:
            mine = slice(8 * number, 8 * number + 8)
            found[number] = max(
                relative(session.run({"image": pictures[mine]})["logits"], wanted[mine]) for _ in range(50)
            )

    with open_engine(fashion.engine) as first, open_engine(fashion.engine) as second:
        assert first._opened is second._opened
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == [0, 1, 2, 3] and max(found.values()) < 1e-5


EXIT = """
import sys, threading
import numpy as np
{before}
import workbench as wb
from workbench.engine import open_engine
session = open_engine(wb.EngineStore({store!r}).by_prefix({key!r}))
feeds = {{"image": np.zeros((2, 1, 28, 28), np.float32)}}
kept = session.run(feeds), session.run_on_device(feeds), session.input_buffers({{"image": (3, 1, 28, 28)}})
lent = kept[1]["logits"].__dlpack__()
thread = threading.Thread(target=lambda: session.run(feeds))
thread.start()
thread.join()
another = open_engine(wb.EngineStore({store!r}).by_prefix({key!r}))
another.run(feeds)
{after}
print("ran")
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("import pycuda.autoinit", ""),
        ("", "raise SystemExit(0)"),
        pytest.param("import torch; t = torch.ones(3).cuda()", "u = t + 1", marks=pytest.mark.torch),
    ],
)
def test_the_process_ends_cleanly_with_everything_still_open(fashion: Built, before: str, after: str) -> None:
    engine = fashion.engine
    script = EXIT.format(store=str(engine.folder.parents[1]), key=engine.key, before=before, after=after)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


# ---- memory and times


def test_out_of_memory_tells_what_was_wanted_and_who_holds_the_rest(fashion: Built) -> None:
    with the_gpu() as gpu:
        free, _ = gpu.driver.mem_get_info()
        hog = gpu.driver.mem_alloc(free - (256 << 20))
        try:
            with open_engine(fashion.engine) as session, pytest.raises(BackendError) as caught:
                session._gpu.device_memory(1 << 30, "output logits")
        finally:
            hog.free()
    assert "1,024 MiB were wanted" in str(caught.value) and "MiB are free" in str(caught.value)
    with open_engine(fashion.engine) as session:  # and it goes on afterwards
        assert session.run({"image": np.zeros((1, 1, 28, 28), np.float32)})["logits"].shape == (1, 10)


def test_times_are_told_with_their_clocks(session: NvidiaSession, pictures) -> None:
    with pytest.raises(BackendError, match="run the session once"):
        session.times_ms(1)
    session.run({"image": pictures[:8]})
    gpu, host = session.times_ms(50), session.host_times_ms(50)
    assert len(gpu) == len(host) == 50 and min(gpu) > 0
    assert np.median(gpu) < np.median(host)
    assert "CUDA events" in session.clock and "copies included" in session.host_clock


def test_outputs_that_stayed_on_the_gpu_are_not_written_again_by_timing(session: NvidiaSession, pictures) -> None:
    kept = session.run_on_device({"image": pictures[:8]})["logits"]
    before = kept.to_host()
    session.run_on_device({"image": pictures[8:16]})
    session.times_ms(5)
    assert np.array_equal(kept.to_host(), before)


def test_a_closed_session_says_so(fashion: Built, pictures) -> None:
    with open_engine(fashion.engine) as session:
        session.run({"image": pictures[:2]})
    for use in (lambda: session.run({"image": pictures[:2]}), lambda: session.times_ms(1)):
        with pytest.raises(BackendError, match="session is closed"):
            use()
    session.close()


def test_times_of_layers_bear_the_names_of_the_layers(session: NvidiaSession, fashion: Built, pictures) -> None:
    session.run({"image": pictures[:8]})
    times = session.layer_times_ms(20)
    names = {layer.name for layer in read_layers(fashion.engine)}
    assert times and set(times) <= names
    assert all(len(values) == 20 and min(values) >= 0 for values in times.values())
    assert len(session.run({"image": pictures[:8]})["logits"]) == 8


def test_shapes_that_no_graph_was_made_for_before_cost_no_memory_for_ever(session: NvidiaSession, pictures) -> None:
    with the_gpu() as gpu:
        for batch in range(1, 65):
            session.run({"image": pictures[:batch]})
        free = gpu.driver.mem_get_info()[0]
        for batch in range(1, 65):
            session.run({"image": pictures[:batch]})
        assert free - gpu.driver.mem_get_info()[0] < 64 << 20
