"""How long `workbench inspect` takes for models of many nodes, beside Polygraphy's where that is installed.

python benchmarks/inspect_models.py [--nodes 100 1000 10000] [--runs 3]     JSON on standard output
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from workbench import this_machine


def residual_chain(nodes: int) -> onnx.ModelProto:
    """Conv, Relu, Add, Sigmoid, again and again, with open batch, height and width."""
    made, last = [], "x"
    for index in range(nodes // 4):
        names = [f"{kind}{index}" for kind in ("conv", "relu", "add", "sigmoid")]
        made += [
            helper.make_node("Conv", [last, "w"], [names[0]], name=names[0], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [names[0]], [names[1]], name=names[1]),
            helper.make_node("Add", [names[1], last], [names[2]], name=names[2]),
            helper.make_node("Sigmoid", [names[2]], [names[3]], name=names[3]),
        ]
        last = names[3]
    ends = [helper.make_tensor_value_info(name, 1, ["n", 3, "h", "w"]) for name in ("x", last)]
    weight = numpy_helper.from_array(np.zeros((3, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(made, "chain", ends[:1], ends[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def seconds(command: list[str], runs: int) -> list[float]:
    """Wall-clock seconds of the whole process, one for each run."""
    found = []
    for _ in range(runs):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found.append(round(time.perf_counter() - start, 3))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="+", default=[100, 1000, 10000])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    polygraphy = shutil.which("polygraphy", path=str(Path(sys.executable).parent)) or shutil.which("polygraphy")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for nodes in options.nodes:
            path = Path(folder) / f"chain{nodes}.onnx"
            onnx.save(residual_chain(nodes), path)
            row = {"nodes": nodes}
            row["workbench_s"] = seconds([sys.executable, "-m", "workbench.cli", "inspect", str(path)], options.runs)
            if polygraphy:
                row["polygraphy_s"] = seconds([polygraphy, "inspect", "model", str(path)], options.runs)
                row["ratio_of_best"] = round(min(row["workbench_s"]) / min(row["polygraphy_s"]), 2)
            rows.append(row)
    clock = "perf_counter around the process"
    print(json.dumps({"machine": str(this_machine()), "clock": clock, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
