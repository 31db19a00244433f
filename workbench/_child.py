"""The process in which back ends build: `python -m workbench._child`, requests on standard input, one a line."""

from __future__ import annotations

import json
import os
import queue
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import onnx

from workbench import backends
from workbench.engine import NODES, write_layers
from workbench.errors import WorkbenchError
from workbench.fusion.files import write_nodes
from workbench.fusion.nodes import nodes_of
from workbench.layers import covered_nodes
from workbench.model import Model
from workbench.process import event_to_json, temporary_variables
from workbench.subgraphs.asking import find_refusals
from workbench.tensor_types import find_types
from workbench.types import Listener, LogLine, Progress, config_from_json

_PROGRESS_S = 0.05


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever native code prints belongs to the log
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()

    one_at_a_time = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        data = (json.dumps(message) + "\n").encode()
        with one_at_a_time:
            while data:
                data = data[os.write(answers, data) :]

    def listener(event: Progress | LogLine) -> None:
        send(event_to_json(event))

    while True:
        request = requests.get()
        _send_temporary_files_to(request.get("folder"))
        send(_answer(request, listener))
        if not request.get("stays"):
            os._exit(0)  # some libraries abort while they are taken down


def _answer(request: dict[str, Any], listener: Listener) -> dict[str, Any]:
    try:
        return _serve(request, _Throttle(listener))
    except WorkbenchError as error:
        return _told(error)
    except MemoryError:
        return _failure("memory ran out", "Close other programs, or give smaller max shapes.")
    except Exception as error:  # the edge of the process: what was not foreseen is told as well
        for line in traceback.format_exc().splitlines():
            listener(LogLine("verbose", line))
        return _failure(f"{type(error).__name__}: {error}", None)


def _send_temporary_files_to(folder: str | None) -> None:
    """They go with the work's folder, also if we are killed."""
    if folder:
        os.environ.update(temporary_variables(folder))
        tempfile.tempdir = None  # Python remembers the one it found first


def _serve(request: dict[str, Any], listener: Listener) -> dict[str, Any]:
    if request["task"] == "export_torch":
        from workbench.export.sources import serve_torch  # PyTorch is not everybody's

        wish = {name: value for name, value in request.items() if name != "task"}
        return {"event": "done", "exported": serve_torch(wish, listener)}
    folder = Path(request["folder"])
    backend = backends.load(request["backend"])
    model = Model(onnx.load(str(folder / "model.onnx"), load_external_data=False), Path(request["model_path"]))
    if request["task"] == "check":
        support = backend.check(model, listener)
        refusals = [vars(refusal) for refusal in support.refusals]
        return {"event": "done", "supported": support.supported, "refusals": refusals}
    if request["task"] == "find_support":
        tensors = find_types(model)
        refusals = [vars(item) for item in find_refusals(model, backend, tensors, request["excluded"], listener)]
        return {"event": "done", "refusals": refusals, "tensors": [vars(tensor) for tensor in tensors.values()]}
    config, caches = config_from_json(request["config"]), Path(request["caches"])
    if request["task"] == "network":
        from workbench.export.described import build_described

        maker = backends.load_for_networks(request["backend"])
        layers, nodes = build_described(maker, request, config, folder, listener, caches=caches)
    else:
        layers = backend.build(model, config, folder / "out", listener, caches=caches)
        write_nodes(folder / "out" / NODES, nodes_of(model))
        nodes = tuple(node.name for node in model.nodes)
    write_layers(folder / "out", layers)
    covered = covered_nodes(layers) & set(nodes)
    return {"event": "done", "layers": len(layers), "nodes": len(nodes), "nodes_covered": len(covered)}


def _told(error: WorkbenchError) -> dict[str, Any]:
    """An error for `build_process.error_in`: with its parts where it is made of parts."""
    parts = {name: getattr(error, name) for name in ("node", "remedy") if hasattr(error, name)}
    message = getattr(error, "reason", None) or str(error)
    return {"event": "error", "kind": type(error).__name__, "message": message, **parts}


def _failure(message: str, remedy: str | None) -> dict[str, Any]:
    return {"event": "error", "kind": "BuildError", "message": message, "node": None, "remedy": remedy}


def _read_requests(requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    """The parent keeps its end of standard input open as long as it lives and wants us."""
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(1)


class _Throttle:
    """Passes on every log line, a phase's first and last step, and of the steps between at most 20 a second."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.last: dict[str, float] = {}

    def __call__(self, event: Progress | LogLine) -> None:
        if isinstance(event, Progress) and event.done and not event.finished:
            now = time.monotonic()
            if now - self.last.get(event.phase, 0.0) < _PROGRESS_S:
                return
            self.last[event.phase] = now
        self.listener(event)


if __name__ == "__main__":
    main()
