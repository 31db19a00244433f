"""What an engine is measured against: a framework's own model, as a session that is timed and compared like any other.

baseline(call)              any function from arrays to arrays
torch_baseline(module)      PyTorch, eager or compiled, on the processor or a GPU
onnxruntime_baseline(model) ONNX Runtime as it comes: the model as it is, default options
paddle_baseline(predictor)  a predictor of paddle.inference, also one with Paddle-TRT
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.errors import BackendError, ConfigError, FeedError, WorkbenchError
from workbench.model import Model
from workbench.types import Feeds, TensorSpec

Call = Callable[..., Any]
_HOST = "perf_counter around the call, arrays on the host in and out"
_ON_GPU = "CUDA events around each call, inputs and outputs on the GPU"
_HALVES = {"fp16": "float16", "bf16": "bfloat16"}


class Baseline:
    """A session around a call; nothing is built and nothing has to be closed.

    threads, copies, releases: as sessions tell them. precision: of what it computes in, for tables.
    """

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    copies: bool | None = None

    def __init__(
        self,
        call: Call,
        *,
        output_names: Sequence[str] = (),
        threads: int | None = None,
        releases: Mapping[str, str] | None = None,
        precision: str = "",
    ) -> None:
        self.clock, self.threads, self.precision = _HOST, threads, precision
        self.releases = dict(releases or {})
        self._call, self._names = call, tuple(output_names)
        self._feeds: Feeds | None = None

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        self._feeds = feeds
        return named_outputs(self._made(feeds), self._names)

    def times_ms(self, iterations: int) -> list[float]:
        feeds, times = self._last_feeds(), []
        for _ in range(iterations):
            start = time.perf_counter_ns()
            self._call(feeds)
            times.append((time.perf_counter_ns() - start) / 1e6)
        return times

    def _last_feeds(self) -> Feeds:
        if self._feeds is None:
            raise BackendError("nothing to repeat: run the baseline once before timing it.")
        return self._feeds

    def _made(self, feeds: Feeds) -> Any:
        """What the call gives; its errors become a sentence that says whose they are."""
        try:
            return self._call(feeds)
        except WorkbenchError:
            raise
        except Exception as error:  # a user's function raises anything
            raise BackendError(f"the baseline fails on this input: {type(error).__name__}: {error}") from error

    def __enter__(self) -> Baseline:
        return self

    def __exit__(self, *raised: object) -> None:
        pass


def baseline(
    call: Callable[[Feeds], Any],
    *,
    output_names: Sequence[str] = (),
    threads: int | None = None,
    releases: Mapping[str, str] | None = None,
) -> Baseline:
    """Any function from arrays by input name to its outputs: an array, several, or arrays by name.

    It must return only when its work is done: on a GPU it synchronizes before. output_names: of what it gives without
    names; 'output', 'output_1', ... if not told. threads, releases: for the record.
    """
    return Baseline(call, output_names=output_names, threads=threads, releases=releases)


def onnxruntime_baseline(model: Model, *, threads: int | None = None) -> Baseline:
    """ONNX Runtime as people use it without a workbench: the file as it is, its own choice of options."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")  # it shares the processors with its rivals
    if threads:
        options.intra_op_num_threads = threads
    source = str(model.path) if not model.edits else model.to_bytes()
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return Baseline(
        lambda feeds: session.run(None, dict(feeds)),
        output_names=[spec.name for spec in model.outputs],
        threads=threads,
        releases={"onnxruntime": onnxruntime.__version__},
        precision="fp32",
    )


def paddle_baseline(predictor: Any, *, precision: str = "") -> Baseline:
    """A predictor of paddle.inference: copies in, run, copies out, as Paddle's tutorials do."""
    names, paddle = predictor.get_output_names(), sys.modules.get("paddle")

    def call(feeds: Feeds) -> list[np.ndarray]:
        for name in predictor.get_input_names():
            handle = predictor.get_input_handle(name)
            handle.reshape(feeds[name].shape)
            handle.copy_from_cpu(np.ascontiguousarray(feeds[name]))
        predictor.run()
        return [predictor.get_output_handle(name).copy_to_cpu() for name in names]

    releases = {"paddle": str(paddle.__version__)} if paddle else {}
    return Baseline(call, output_names=names, releases=releases, precision=precision)


def torch_baseline(
    module: Any,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    compiled: bool = False,
    output_names: Sequence[str] = (),
) -> Baseline:
    """A PyTorch module, called with the arrays in the order of the feeds, without gradients.

    device: 'cpu', or 'cuda', where both clocks run: CUDA events without copies, and the host's with them. precision:
    fp32, or fp16 or bf16 by `module.to`, which changes the module. compiled: torch.compile with CUDA graphs on a GPU.
    Raises ConfigError for a device or precision that is not to be had.
    """
    import torch

    if precision not in ("fp32", *_HALVES):
        raise ConfigError(
            f"PyTorch runs in fp32, {' or '.join(_HALVES)}, not in {precision}; convert the module yourself."
        )
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("PyTorch sees no CUDA device here; use device='cpu'.")
    dtype = getattr(torch, _HALVES.get(precision, "float32"))
    ready = module.eval().to(device=device, dtype=dtype)
    if compiled:
        ready = torch.compile(ready, mode="reduce-overhead" if device.startswith("cuda") else "default")
    made = _TorchCuda if device.startswith("cuda") else _TorchCpu
    return made(ready, device, dtype, output_names, precision)


class _TorchCpu(Baseline):
    """Tensors over the arrays' own memory: nothing is copied unless the precision changes."""

    def __init__(self, module: Any, device: str, dtype: Any, output_names: Sequence[str], precision: str) -> None:
        import torch

        self._torch, self._module, self._device, self._dtype = torch, module, device, dtype
        super().__init__(
            self._from_host, output_names=output_names, threads=torch.get_num_threads(),
            releases={"torch": torch.__version__}, precision=precision,
        )  # fmt: skip

    def _placed(self, feeds: Feeds) -> list[Any]:
        tensors = [self._torch.from_numpy(np.ascontiguousarray(array)) for array in feeds.values()]
        return [
            item.to(self._device, self._dtype if item.is_floating_point() else item.dtype, non_blocking=True)
            for item in tensors
        ]

    def _from_host(self, feeds: Feeds) -> Any:
        with self._torch.inference_mode():
            return _to_host(self._module(*self._placed(feeds)))


class _TorchCuda(_TorchCpu):
    """As GpuSession: by CUDA events with tensors that stay on the GPU, and from host to host."""

    copies = False
    host_clock = "perf_counter, from arrays on the host to arrays on the host, copies included"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.clock, self.threads = _ON_GPU, None

    def times_ms(self, iterations: int) -> list[float]:
        cuda, tensors = self._torch.cuda, self._placed(self._last_feeds())
        events = [(cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)) for _ in range(iterations)]
        with self._torch.inference_mode():
            for start, end in events:
                start.record()
                self._module(*tensors)
                end.record()
        cuda.synchronize()
        return [float(start.elapsed_time(end)) for start, end in events]

    def host_times_ms(self, iterations: int) -> list[float]:
        return super().times_ms(iterations)


def named_outputs(made: Any, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays by name from whatever a framework's model gives: one, several, or by name (then those count).

    Raises FeedError where there are not as many as names.
    """
    if isinstance(made, Mapping):
        return {str(name): _array(value) for name, value in made.items()}
    values = list(made) if isinstance(made, (list, tuple)) else [made]
    if names and len(names) != len(values):
        raise FeedError(
            f"the baseline gives {len(values)} outputs; output_names names {len(names)}: {', '.join(names)}."
        )
    known = names or ["output", *(f"output_{number}" for number in range(1, len(values)))]
    return {name: _array(value) for name, value in zip(known, values, strict=True)}


def _array(value: Any) -> np.ndarray:
    """bfloat16, which numpy lacks, as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return np.asarray(value.float() if str(value.dtype) == "torch.bfloat16" else value)
    return np.asarray(value)


def _to_host(made: Any) -> Any:
    if isinstance(made, Mapping):
        return {name: _array(value) for name, value in made.items()}
    return [_array(value) for value in made] if isinstance(made, (list, tuple)) else _array(made)
