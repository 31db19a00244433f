"""The process in which Paddle runs a model of its own: `ENVIRONMENT/bin/python -I paddle_runner.py`.

`export.paddle_session` is the other side. Either side sends a line of JSON and then the arrays it announces, one after
the other: {"id": 3, "task": "run", "arrays": [["x", "<f4", [1, 3, 224, 224]]]}. Tasks: "load" (model, params,
threads), "run" (arrays by input name), "time" (runs). As `child` it imports nothing of the workbench, and it ends when
its standard input does, also in the middle of a run.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
import time
import zlib  # noqa: F401  Paddle 2.6 brings a zlib of its own; Python's crashes unless it is loaded first.
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Request = tuple[dict[str, Any], Arrays]


class Runner:
    """A predictor of paddle.inference, set up as it comes: with oneDNN on a processor, but for models that fail there
    (Paddle 3.3 lacks some attributes), and on the first GPU where Paddle was built for one."""

    def __init__(self, model: str, params: str, threads: int) -> None:
        self._inference, self._paddle = importlib.import_module("paddle.inference"), importlib.import_module("paddle")
        self._files, self._threads = (model, params), threads
        cuda = self._paddle.device.is_compiled_with_cuda() and self._paddle.device.cuda.device_count() > 0
        self.device = "gpu" if cuda else "cpu"
        self.onednn = not cuda
        self._feeds: Arrays = {}
        self._predictor = self._open(self.onednn)

    def about(self) -> dict[str, Any]:
        return {
            "release": self._paddle.__version__,
            "device": self.device,
            "onednn": self.onednn,
            "inputs": self._predictor.get_input_names(),
            "outputs": self._predictor.get_output_names(),
        }

    def _open(self, onednn: bool) -> Any:
        config = self._inference.Config(*self._files)
        config.disable_glog_info()
        config.set_cpu_math_library_num_threads(self._threads)
        if self.device == "gpu":
            config.enable_use_gpu(500, 0)
        else:
            verb = "enable" if onednn else "disable"
            name = f"{verb}_onednn" if hasattr(config, f"{verb}_onednn") else f"{verb}_mkldnn"  # its older name
            getattr(config, name)()
        return self._inference.create_predictor(config)

    def run(self, feeds: Arrays) -> Arrays:
        missing = [name for name in self._predictor.get_input_names() if name not in feeds]
        if missing:
            raise ValueError(f"it asks for the input {missing[0]}, which is not among {', '.join(feeds) or 'none'}")
        try:
            outputs = _outputs(self._predictor, feeds)
        except Exception:  # of oneDNN, or of the feeds, which the other one tells in clearer words
            if not self.onednn:
                raise
            plain = self._open(onednn=False)
            outputs = _outputs(plain, feeds)
            self._predictor, self.onednn = plain, False
        self._feeds = feeds
        return outputs

    def times_ms(self, runs: int) -> list[float]:
        times = []
        for _ in range(runs):
            start = time.perf_counter_ns()
            _outputs(self._predictor, self._feeds)
            times.append((time.perf_counter_ns() - start) / 1e6)
        return times


def _outputs(predictor: Any, feeds: Arrays) -> Arrays:
    """Copies in, runs, copies out."""
    for name in predictor.get_input_names():
        handle = predictor.get_input_handle(name)
        handle.reshape(feeds[name].shape)
        handle.copy_from_cpu(feeds[name])
    predictor.run()
    return {name: predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()}


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever native code prints belongs to the log
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    runner = None
    while True:
        request, arrays = requests.get()
        made: Arrays = {}
        try:
            runner = runner or Runner(request["model"], request["params"], request["threads"])
            told, made = serve(runner, request, arrays)
            answer = {"event": "done", **told}
        except MemoryError:
            answer = {"event": "error", "kind": "MemoryError", "message": "memory ran out"}
        except Exception as error:  # the edge of the process: whatever Paddle raises is told
            answer = {"event": "error", "kind": type(error).__name__, "message": str(error).strip()}
        _send(answers, {"id": request["id"], **answer}, made)


def serve(runner: Runner, request: dict[str, Any], arrays: Arrays) -> tuple[dict[str, Any], Arrays]:
    """The answer to a request, and its arrays."""
    if request["task"] == "load":
        return runner.about(), {}
    if request["task"] == "run":
        made = runner.run(arrays)
        return {"onednn": runner.onednn}, made
    return {"times_ms": runner.times_ms(request["runs"])}, {}


def _read(requests: queue.SimpleQueue[Request]) -> None:
    """Until nobody wants us any more: the other end of standard input closes with the process that holds it."""
    stream: Any = sys.stdin.buffer
    while line := stream.readline():
        request = json.loads(line)
        arrays = {name: np.empty(shape, dtype) for name, dtype, shape in request["arrays"]}
        if all(stream.readinto(_bytes(array)) == array.nbytes for array in arrays.values()):
            requests.put((request, arrays))
    os._exit(1)


def _bytes(array: Any) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))


def _send(answers: int, answer: dict[str, Any], arrays: Arrays) -> None:
    kinds = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    head = (json.dumps({**answer, "arrays": kinds}) + "\n").encode()
    for part in (memoryview(head), *(_bytes(np.ascontiguousarray(array)) for array in arrays.values())):
        while part:
            part = part[os.write(answers, part) :]


if __name__ == "__main__":
    main()
