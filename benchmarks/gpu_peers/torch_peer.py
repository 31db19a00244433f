"""PyTorch, eager or compiled: python -m gpu_peers.torch_peer eager|compile, in a Python that has it."""

from __future__ import annotations

import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gpu_models
import torch

from gpu_peers.cells import Cell, feeds_of, reference_of, relative_difference
from gpu_peers.serving import Series, count_for, series, serve, wall_times_ms

MODE = "reduce-overhead"


class TorchPeer:
    """fp32 without TF32, as TensorRT's fp32; fp16 by model.half(), with inputs and outputs in float32 as there."""

    def __init__(self, kind: str) -> None:
        self.compiles = kind == "compile"
        self.without_gradients = torch.no_grad if self.compiles else torch.inference_mode
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        self.network: Any = None
        self.half = False

    def about(self) -> dict[str, str]:
        return {
            "torch": torch.__version__,
            "cudnn of torch": str(torch.backends.cudnn.version()),
            **({"triton": version("triton")} if self.compiles else {}),
        }

    def prepare(self, folder: str, cell: dict[str, Any]) -> dict[str, float]:
        """`prepare_s`: until the first answers, compiling included."""
        row, start = Cell(**cell), time.monotonic()
        torch.compiler.reset()
        self.half = row.precision == "fp16"
        network = gpu_models.load(Path(folder), row.model).cuda()
        network = network.half() if self.half else network
        self.network = torch.compile(network, mode=MODE, dynamic=False) if self.compiles else network
        self.feeds = [torch.from_numpy(array) for array in feeds_of(Path(folder), row).values()]
        self.inputs = self._upload()
        for _ in range(3):  # the third replays the graph
            found = self._host_to_host()
        seconds = time.monotonic() - start
        difference = relative_difference(found.numpy(), reference_of(Path(folder), row))
        return {"relative": difference, "prepare_s": seconds}

    def measure(self, iterations: int, limit_s: float) -> list[Series]:
        name = f"torch.compile({MODE!r})" if self.compiles else "eager PyTorch"
        clock = f"perf_counter, host to host: tensor.cuda(), {name}, tensor.cpu(); pageable memory"
        return [
            series(
                "gpu",
                f"CUDA events around each call of {name}, one after another, inputs on the device",
                self._events_ms(iterations, limit_s),
            ),
            series("host", clock, wall_times_ms(self._host_to_host, iterations, limit_s)),
        ]

    def release(self) -> None:
        self.network = None
        self.inputs = []
        torch.compiler.reset()
        torch.cuda.empty_cache()

    def _upload(self) -> list[torch.Tensor]:
        uploaded = [feed.cuda() for feed in self.feeds]
        return [item.half() if self.half and item.is_floating_point() else item for item in uploaded]

    def _run(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        with self.without_gradients():
            output: torch.Tensor = self.network(*inputs)
        return output

    def _host_to_host(self) -> torch.Tensor:
        return self._run(self._upload()).float().cpu()

    def _events_ms(self, iterations: int, limit_s: float) -> list[float]:
        def once() -> None:
            self._run(self.inputs)
            torch.cuda.synchronize()

        count = count_for(once, iterations, limit_s)
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)]
        with self.without_gradients():
            for start, end in events:
                start.record()
                self.network(*self.inputs)
                end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in events]


if __name__ == "__main__":
    serve(TorchPeer(sys.argv[1]))
