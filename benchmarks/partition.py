"""How long a model of many nodes takes to be cut into subgraphs, apart from the time that NVIDIA's parser takes.

python benchmarks/partition.py [--nodes 1000 10000] [--runs 3]     JSON on standard output
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, cast

from onnx import TensorProto, helper

from workbench import Model, load_model, this_machine
from workbench.backends import Backend, rtx
from workbench.subgraphs import NodeSupport, divide
from workbench.subgraphs.asking import find_refusals
from workbench.tensor_types import find_types
from workbench.types import Listener, ModelSupport, ignore

GRAPHS = {
    "chain": lambda index, _: [index - 1],
    "wide": lambda index, _: [index - 1] if index % 4 else [0],
    "near": lambda index, draw: [index - 1 - draw.randrange(min(index, 50)) for _ in range(2)],
    "anywhere": lambda index, draw: [draw.randrange(index) for _ in range(3)],
}
"""Which nodes a node reads: the one before; chains of four beside each other; two of the last 50; any three."""
REFUSED = {"none": 0.0, "a tenth": 0.1, "half": 0.5}


class Timed:
    """The back end rtx, with the time that it takes to answer."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.asked = 0
        self.support = rtx.support

    def check(self, model: Model, listener: Listener) -> ModelSupport:
        start = time.perf_counter()
        answer = rtx.check(model, listener)
        self.seconds += time.perf_counter() - start
        self.asked += 1
        return answer


def save(path: Path, kind: str, share: float, nodes: int) -> Path:
    """Sums, and operators that TensorRT refuses."""
    draw = random.Random(0)
    made, read = [], set()
    for index in range(nodes):
        sources = sorted(set(GRAPHS[kind](index, draw))) if index else []
        inputs = [f"t{source}" for source in sources] or ["x"]
        if draw.random() < share:
            made.append(helper.make_node("Bernoulli", inputs[:1], [f"t{index}"], name=f"node{index}"))
        else:
            made.append(helper.make_node("Sum", inputs, [f"t{index}"], name=f"node{index}"))
        read.update(made[-1].input)
    shown = [f"t{index}" for index in range(nodes) if f"t{index}" not in read]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ["x", *shown]]
    graph = helper.make_graph(made, kind, values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def measure(model: Model) -> dict[str, Any]:
    """Seconds of each step, in this process."""
    backend, marks = Timed(), [time.perf_counter()]
    tensors = find_types(model)
    marks.append(time.perf_counter())
    refusals = find_refusals(model, cast(Backend, backend), tensors, {}, ignore)
    marks.append(time.perf_counter())
    support = NodeSupport(model, "rtx", refusals, tensors)
    found = divide(support, 3)
    marks.append(time.perf_counter())
    divide(support, 10)
    marks.append(time.perf_counter())
    types_s, asking_s, divide_s, again_s = (late - early for early, late in pairwise(marks))
    own_s = types_s + asking_s - backend.seconds + divide_s
    seconds = {"types_s": types_s, "parser_s": backend.seconds, "divide_s": divide_s, "divide_again_s": again_s}
    rounded = {name: round(value, 3) for name, value in {**seconds, "own_s": own_s}.items()}
    return {**rounded, "asked": backend.asked, "engines": len(found.engines), "parts": len(found.parts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for nodes in options.nodes:
            for kind in GRAPHS:
                for words, share in REFUSED.items():
                    model = load_model(save(Path(folder) / "model.onnx", kind, share, nodes))
                    runs = [measure(model) for _ in range(options.runs)]
                    middle = {name: median(run[name] for run in runs) for name in runs[0]}
                    rows.append({"nodes": nodes, "graph": kind, "refused": words, **middle})
    clock = "perf_counter, medians"
    print(json.dumps({"machine": str(this_machine()), "clock": clock, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
