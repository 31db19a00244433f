"""PyTorch as a contestant of a study: a session here, the network in a process of its own, whose Python has PyTorch.

Both take their turns, so that they are measured as if they were one program. python -m gpu_peers.study_torch is the
other end.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpu_peers.process import Peer
from gpu_peers.serving import serve


class TorchSession:
    """A Session around the other process. folder: where arrays are handed over."""

    inputs = outputs = ()
    copies = False
    precision = "fp32"
    clock = "CUDA events around each call of eager PyTorch, inputs and outputs on the GPU"
    host_clock = "perf_counter, from arrays on the host to arrays on the host, copies included"

    def __init__(self, peer: Peer, weights: Path, folder: Path) -> None:
        self._peer, self._folder = peer, folder
        self.releases: Mapping[str, str] = peer.ask("load", weights=str(weights))

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        np.savez(self._folder / "feeds.npz", **feeds)
        self._peer.ask("run", folder=str(self._folder))
        return {"output": np.load(self._folder / "output.npy")}

    def times_ms(self, iterations: int) -> list[float]:
        return list(self._peer.ask("times_ms", iterations=iterations))

    def host_times_ms(self, iterations: int) -> list[float]:
        return list(self._peer.ask("host_times_ms", iterations=iterations))

    def __enter__(self) -> TorchSession:
        return self

    def __exit__(self, *error: object) -> None:
        self._peer.stop()


class TorchNet:
    """The other end: ResNet-18 with the weights of the workbench's own, matched by their order."""

    def load(self, weights: str) -> dict[str, str]:
        import gpu_models
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.torch, network = torch, gpu_models.ResNet18()
        ours, theirs = network.state_dict(), torch.load(weights, weights_only=True)
        pairs = list(zip(ours.items(), theirs.values(), strict=True))
        assert all(mine.shape == other.shape for (_, mine), other in pairs)
        network.load_state_dict({name: other for (name, _), other in pairs})
        self.network = network.eval().cuda()
        return {"torch": torch.__version__, "cudnn of torch": str(torch.backends.cudnn.version())}

    def run(self, folder: str) -> None:
        with np.load(Path(folder) / "feeds.npz") as arrays:
            self.feeds = [self.torch.from_numpy(arrays[name]) for name in arrays.files]
        self.tensors = [feed.cuda() for feed in self.feeds]
        np.save(Path(folder) / "output.npy", self._host_to_host())

    def times_ms(self, iterations: int) -> list[float]:
        event = self.torch.cuda.Event
        pairs = [(event(enable_timing=True), event(enable_timing=True)) for _ in range(iterations)]
        with self.torch.inference_mode():
            for start, end in pairs:
                start.record()
                self.network(*self.tensors)
                end.record()
        self.torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in pairs]

    def host_times_ms(self, iterations: int) -> list[float]:
        from time import perf_counter_ns

        times = []
        for _ in range(iterations):
            start = perf_counter_ns()
            self._host_to_host()
            times.append((perf_counter_ns() - start) / 1e6)
        return times

    def _host_to_host(self) -> Any:
        with self.torch.inference_mode():
            return self.network(*[feed.cuda() for feed in self.feeds]).cpu().numpy()


if __name__ == "__main__":
    serve(TorchNet())
