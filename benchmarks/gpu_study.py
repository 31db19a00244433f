"""The seed's study on a GPU: ResNet-18 with five outputs in PyTorch, FP32, FP16, INT8 with and without calibration.

On a CPU:  python benchmarks/gpu_study.py prepare FOLDER       writes resnet18.onnx and resnet18.pt there
On a GPU:  python benchmarks/gpu_study.py measure FOLDER --output data/recorded/...    writes study.json.gz, and the
           engines' layers with their times

Outputs, errors and raw times, 1,000 runs each by two clocks; then throughput against batch and streams. At batch 1
every convolution is told to be INT8: left alone, TensorRT takes FP16 for most, as that is as fast there.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from gpu_peers.process import STUDY, Peer
from gpu_peers.study_torch import TorchSession

import workbench as wb
from workbench.calibration.collect import collect
from workbench.calibration.collection import save_collection
from workbench.calibration.samples import open_samples, read_samples
from workbench.calibration.uncalibrated import uncalibrated
from workbench.preprocessing import Preprocessing
from workbench.study import Study, save_study, study
from workbench.timing import Timing
from workbench.timing.throughput import throughput_sweep

PICTURES = Path(__file__).parents[1] / "data" / "pictures"
ONE, MANY = "input:1x3x224x224", "input:1x3x224x224,16x3x224x224,64x3x224x224"
BATCHES, STREAMS = (1, 2, 4, 8, 16, 32, 64), (1, 2, 4)
CHELSEA = 1
TORCH_PYTHON = "/opt/torch/.venv/bin/python3"


def prepare(folder: Path) -> None:
    import torch

    from workbench import export
    from workbench.export import example_models

    folder.mkdir(parents=True, exist_ok=True)
    network = example_models.resnet18(classes=5)
    torch.save(network.state_dict(), folder / "resnet18.pt")
    export.torch(
        network, (torch.zeros(1, 3, 224, 224),), open_dims={"input": {0: "batch"}}, exporter="classic",
        output=folder / "resnet18.onnx",
    )  # fmt: skip


def configurations(model: wb.Model, work: Path, shapes: str) -> dict[str, wb.BuildConfig]:
    samples = open_samples(PICTURES, model, Preprocessing(size=(224, 224)))
    collected = work / "resnet18.calib"
    if not collected.exists():
        save_collection(collect(model, samples), collected)
    profiles = (wb.parse_shapes([shapes]),)
    int8 = {"INT8": wb.Calibration(str(collected)), "INT8, no calibration": uncalibrated(model, work / "none.txt")}
    convolutions = {node.name: "int8" for node in model.nodes if node.op_type == "Conv"}
    options = wb.BuilderOptions(layer_precisions=convolutions if shapes == ONE else {})
    return {
        "FP32": wb.BuildConfig("fp32", profiles),
        "FP16": wb.BuildConfig("fp16", profiles),
        **{name: wb.BuildConfig("int8", profiles, calibration=item, builder=options) for name, item in int8.items()},
    }


def measure(options: argparse.Namespace) -> Study:
    model = wb.load_model(options.folder / "resnet18.onnx")
    samples = open_samples(PICTURES, model, Preprocessing(size=(224, 224)))
    feeds = next(iter(read_samples(samples, [CHELSEA], skipped=[]))).feeds
    feeds = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        work = Path(scratch)
        engines = built(model, configurations(model, work, ONE))
        peer = Peer(STUDY, options.torch_python, options.output / "torch.log")
        torch = stack.enter_context(TorchSession(peer, options.folder / "resnet18.pt", work))
        found = study(
            {"PyTorch": torch, **engines}, feeds, Timing(options.iterations, layers=True), reference="PyTorch"
        )
        torch.__exit__()
        sweeps = built(
            model, {name: item for name, item in configurations(model, work, MANY).items() if "no" not in name}
        )
        swept = {name: sweep(item, options.seconds) for name, item in sweeps.items()}
    return replace(found, throughputs=swept)


def built(model: wb.Model, wanted: Mapping[str, wb.BuildConfig]) -> dict[str, wb.Engine]:
    engines = {}
    for name, config in wanted.items():
        made = wb.build(model, config, "tensorrt")
        print(f"{name}: {made}", file=sys.stderr, flush=True)
        engines[name] = made.engine
    return engines


def sweep(engine: wb.Engine, seconds: float):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(0)

    def feeds_of(batch: int) -> dict[str, np.ndarray]:
        return {"input": random.random((batch, 3, 224, 224), np.float32)}

    return throughput_sweep(lambda: wb.open_engine(engine), feeds_of, BATCHES, STREAMS, seconds=seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("prepare", "measure"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each cell of the sweep")
    parser.add_argument("--torch-python", default=os.environ.get("TORCH_PYTHON", TORCH_PYTHON))
    options = parser.parse_args()
    if options.do == "prepare":
        prepare(options.folder)
        return
    options.output.mkdir(parents=True, exist_ok=True)
    found = measure(options)
    print(found)
    for name, points in found.throughputs.items():
        print(name, *(f"{item.batch}x{item.streams}: {item.per_s.value:,.0f}/s" for item in points))
    save_study(found, options.output / "study.json.gz")


if __name__ == "__main__":
    main()
