"""What collecting activations costs in time and memory, beside ONNX Runtime's calibrators on the same model and data.

python benchmarks/calibration.py [--samples 64 128 1024] [--peer-samples 64 128] [--output FILE.json]

EfficientNet-Lite0 with real weights on crops of the photographs in data/pictures, every run a process of its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

from workbench import export, this_machine
from workbench.calibration.collect import collect
from workbench.calibration.exposed import float_tensors
from workbench.calibration.samples import Samples, open_samples
from workbench.export import example_models
from workbench.model import Model, load_model
from workbench.reference import Reference
from workbench.terminal import table

ROOT = Path(__file__).parents[1]
SIZE = 224
HOW = example_models.EFFICIENTNET_LITE0
OWN, BARE = "workbench", "forward"
PEERS = {"ort entropy": "Entropy", "ort percentile": "Percentile"}


def write_crops(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    pictures = [Image.open(path).convert("RGB") for path in sorted((ROOT / "data" / "pictures").glob("*.jpg"))]
    for number in range(count):
        picture = pictures[number % len(pictures)]
        side = int(generator.integers(128, min(picture.size) + 1))
        left, top = (int(generator.integers(0, length - side + 1)) for length in picture.size)
        crop = picture.crop((left, top, left + side, top + side))
        if generator.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop.resize((SIZE, SIZE)).save(folder / f"{number:05}.jpg", quality=92)


def feeds(samples: Samples, count: int) -> Iterator[dict[str, np.ndarray]]:
    for index in range(count):
        yield dict(samples.read(index).feeds)


def run_own(model: Model, samples: Samples, count: int) -> None:
    collect(model, samples, count=count, until_settled=False)


def run_bare(model: Model, samples: Samples, count: int) -> None:
    """A pass that gives out the tensors that a collection covers, and does nothing with them."""
    counted, repeated = float_tensors(model)
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    shown = {value.name for value in (*proto.graph.output, *proto.graph.input)}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (*counted, *repeated) if name not in shown)
    session = Reference(Model(proto, model.path), enable_mem_reuse=True)
    for item in feeds(samples, count):
        session.run(item)


def run_peer(model: Model, samples: Samples, count: int, method: str) -> None:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._items = feeds(samples, count)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._items, None)

    with tempfile.TemporaryDirectory() as folder:
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(
            model.path, augmented_model_path=augmented, calibrate_method=CalibrationMethod[method]
        )
        calibrator.collect_data(Reader())
        calibrator.compute_data()


def measure(what: str, path: Path, folder: Path, count: int) -> dict[str, Any]:
    """In this process: seconds for all samples, and the most memory that it ever held."""
    model = load_model(path)
    samples = open_samples(folder, model, HOW)
    run_own(model, samples, 2) if what == OWN else run_bare(model, samples, 2)  # libraries and threads are there
    start = time.perf_counter()
    if what == OWN:
        run_own(model, samples, count)
    elif what == BARE:
        run_bare(model, samples, count)
    else:
        run_peer(model, samples, count, PEERS[what])
    elapsed_s = time.perf_counter() - start
    return {
        "what": what,
        "samples": count,
        "s": elapsed_s,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_apart(what: str, path: Path, folder: Path, count: int, runs: int) -> dict[str, Any]:
    """The fastest of some runs, each in a process of its own; memory of the largest."""
    rows = []
    for _ in range(runs):
        command = [sys.executable, __file__, "--one", what, str(path), str(folder), str(count)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append(json.loads(printed.splitlines()[-1]))  # ONNX Runtime prints, too
        print(f"{what}, {count} samples: {rows[-1]['s']:.2f} s, {rows[-1]['peak_mb']:,.0f} MB", file=sys.stderr)
    return {**min(rows, key=lambda row: row["s"]), "peak_mb": max(row["peak_mb"] for row in rows), "runs": runs}


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    by = {(row["what"], row["samples"]): row for row in rows}
    own = [row for row in rows if row["what"] == OWN]
    small, large = own[0], own[-1]
    found = {f"peak memory, {large['samples']} to {small['samples']} samples": large["peak_mb"] / small["peak_mb"]}
    for (what, count), row in by.items():
        if what in PEERS:
            ours = by[OWN, count]
            found[f"peak memory at {count}: {OWN} / {what}"] = ours["peak_mb"] / row["peak_mb"]
            found[f"time at {count}: {OWN} / {what}"] = ours["s"] / row["s"]
        elif what == BARE:
            found[f"throughput at {count}: {OWN} / {BARE}"] = row["s"] / by[OWN, count]["s"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[64, 128, 1024])
    parser.add_argument("--peer-samples", type=int, nargs="*", default=[64, 128], help="ONNX Runtime's need gigabytes")
    parser.add_argument("--runs", type=int, default=3, help="of each but ONNX Runtime's calibrators, which run once")
    parser.add_argument("--model", type=Path, help="default: EfficientNet-Lite0, exported here")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, path, folder, count = options.one
        print(json.dumps(measure(what, Path(path), Path(folder), int(count))))
        return
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "pictures"
        folder.mkdir()
        write_crops(folder, max(options.samples))
        path = options.model or export_model(Path(work) / "efficientnet_lite0.onnx")
        rows = [measure_apart(OWN, path, folder, count, options.runs) for count in sorted(options.samples)]
        rows.append(measure_apart(BARE, path, folder, min(options.samples), options.runs))
        rows += [measure_apart(what, path, folder, count, 1) for count in options.peer_samples for what in PEERS]
    found = ratios(rows)
    result = {
        "machine": this_machine().to_json(),
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "clock": "perf_counter around all samples, pictures read from JPEG; getrusage's largest resident size",
        "rows": rows,
        "ratios": found,
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    shown = [(row["what"], str(row["samples"]), f"{row['s']:.2f}", f"{row['peak_mb']:,.0f}") for row in rows]
    print(table([("what", "samples", "s", "peak MB"), *shown]))
    print(table([(name, f"{value:.3f}") for name, value in found.items()]))


def export_model(path: Path) -> Path:
    example = np.zeros((1, 3, SIZE, SIZE), np.float32)
    network = example_models.efficientnet_lite0()
    return export.torch(network, example, open_dims={"inputs": {0: "batch"}}, output=path).model.path


if __name__ == "__main__":
    main()
