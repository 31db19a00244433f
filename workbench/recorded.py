"""Runs that were recorded on a GPU, for people and notebooks without one; whatever shows them says so.

A folder `data/recorded/<name>/` holds `runs.json`, or the same as `runs.json.gz`, and the files that it names. Every
key stands in it; null where nothing was recorded:

    {
     "machine": {"cpu": "...", "cores": 16, "system": "Linux x86_64", "python": "3.10.12", "cuda_version": "13.0",
                 "gpus": [{"name": "NVIDIA H200", "compute_capability": "9.0", "memory_bytes": 150754820096}]},
     "releases": {"tensorrt": "8.6.0", "pycuda": "2026.1", "torch": "2.11.0", "driver": "580.159"},
     "date": "2026-08-01",
     "how": "python benchmarks/gpu_latency.py --output data/recorded/...",
     "models": {"resnet18": {"about": "ResNet-18, five outputs, generated weights", "sha256": "...",
                             "nodes": "resnet18.nodes.json.gz"}},
     "runs": [
      {"model": "resnet18", "precision": "fp16", "batch": 1, "shapes": {"x": [1, 3, 224, 224]}, "peer": "workbench",
       "clock": "CUDA events around the replay of a graph", "median_ms": 0.163, "p99_ms": 0.165, "mean_ms": 0.163,
       "iterations": 1000, "build_s": 34.6, "plan_bytes": 23113124, "relative": 0.0006,
       "inspector": "resnet18_fp16.inspector.json.gz", "profile": "resnet18_fp16.profile.json.gz",
       "table": null, "ranges": null, "top1": null}
     ]
    }

machine: as `this_machine().to_json()`. releases: of whatever took part, by name; 'tensorrt' among them. date: ISO, UTC.
models: `about` is a sentence, `sha256` of the ONNX file, `nodes` the file that `read_nodes` of workbench.fusion.files
reads. runs: one for each model, precision, batch, peer and clock. peer: 'workbench', 'polygraphy', 'torch eager', ...
clock: what was measured, in words. relative: norm of the difference to ONNX Runtime's outputs over their norm.
inspector: the engine's layers. profile: their times, as trtexec --exportProfile writes them. table: of calibration.
ranges: of int8, where they are from, in words. top1: per cent of right answers.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path
from typing import Any

from workbench.errors import ViewError
from workbench.machine import Gpu, Machine
from workbench.terminal import table
from workbench.types import Shape, count_of

RUNS = "runs.json"
_PACKED = f"{RUNS}.gz"
_FILES = ("inspector", "profile", "table")
_MAYBE_NUMBERS = ("build_s", "plan_bytes", "relative", "top1")
_WORDS = ("model", "precision", "peer", "clock")
_COUNTS = ("batch", "iterations")


@dataclass(frozen=True)
class RecordedModel:
    """nodes: the file with its ONNX nodes, where they were kept."""

    about: str
    sha256: str | None
    nodes: Path | None


@dataclass(frozen=True)
class RecordedRun:
    """One model timed by one peer with one clock; the fields are those of `runs.json`, files with their folder."""

    model: str
    precision: str
    batch: int
    shapes: Mapping[str, Shape]
    peer: str
    clock: str
    median_ms: float
    p99_ms: float
    mean_ms: float
    iterations: int
    build_s: float | None
    plan_bytes: int | None
    relative: float | None
    inspector: Path | None
    profile: Path | None
    table: Path | None
    ranges: str | None
    top1: float | None

    @property
    def inputs(self) -> str:
        """'x 1x3x224x224'."""
        return ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in self.shapes.items())


@dataclass(frozen=True, repr=False)
class Recorded:
    """What one session on a GPU recorded. Shows itself as a table, in a notebook and as text, with `label` above."""

    folder: Path
    machine: Machine
    releases: Mapping[str, str]
    date: str
    how: str
    models: Mapping[str, RecordedModel]
    runs: tuple[RecordedRun, ...]

    @property
    def label(self) -> str:
        """'recorded on NVIDIA H200, TensorRT 8.6.0, 2026-08-01'."""
        return f"recorded on {self._origin}"

    @property
    def _origin(self) -> str:
        gpus = ", ".join(gpu.name for gpu in self.machine.gpus) or self.machine.cpu
        return f"{gpus}, TensorRT {self.releases['tensorrt']}, {self.date}"

    def of(self, model: str, precision: str | None = None) -> Recorded:
        """The runs of one model, and of one precision if it is named. Raises ViewError where there are none."""
        runs = tuple(run for run in self.runs if run.model == model and precision in (None, run.precision))
        if not runs:
            known = ", ".join(dict.fromkeys(f"{run.model} {run.precision}" for run in self.runs))
            raise ViewError(f"{self.folder}: nothing of {model} {precision or ''} was recorded; there are {known}.")
        return replace(self, runs=runs)

    def __repr__(self) -> str:
        """Short: a notebook keeps it beside the table."""
        models = len({run.model for run in self.runs})
        return f"<Recorded {self._origin}: {count_of(len(self.runs), 'run')} of {count_of(models, 'model')}>"

    def __str__(self) -> str:
        return f"{self.label}\n{table(_rows(self.runs))}"

    def _repr_html_(self) -> str:
        head, *rows = _rows(self.runs)
        cells = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        caption = f"<caption>{escape(self.label)}</caption>"
        return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{cells}</tbody></table>"


def recorded_folders(start: Path | None = None) -> list[Path]:
    """The recordings in data/recorded of this folder, the one above it, or the repository."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, start.parent, Path(__file__).parents[1]):
        found = {path.parent for name in (RUNS, _PACKED) for path in (folder / "data" / "recorded").glob(f"*/{name}")}
        if found:
            return sorted(found)
    return []


def load_recorded(folder: str | Path) -> Recorded:
    """Read a recording. Raises ViewError where there is none, or it is not as the head of this module says."""
    folder = Path(folder).expanduser()
    path = next((folder / name for name in (RUNS, _PACKED) if (folder / name).exists()), folder / RUNS)
    try:
        data = json.loads(gzip.decompress(path.read_bytes()) if path.name == _PACKED else path.read_bytes())
    except FileNotFoundError as error:
        what = f"no recording, as it holds no {RUNS}; `workbench recorded` lists those here"
        raise ViewError(f"{folder}: {what}.") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ViewError(f"{path}: cannot be read ({error}).") from error
    try:
        return _recorded(folder, data)
    except KeyError as error:
        raise ViewError(f"{path}: {error.args[0]!r} is missing; record it again.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ViewError(f"{path}: not a recording as this release reads them: {error}; record it again.") from error


def recorded_to_json(recorded: Recorded) -> dict[str, Any]:
    """What `runs.json` holds, with folder and label; files with their folder."""

    def plain(item: RecordedRun | RecordedModel) -> dict[str, Any]:
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(item).items()}

    return {
        "folder": str(recorded.folder),
        "label": recorded.label,
        "machine": recorded.machine.to_json(),
        "releases": dict(recorded.releases),
        "date": recorded.date,
        "how": recorded.how,
        "models": {name: plain(item) for name, item in recorded.models.items()},
        "runs": [plain(run) for run in recorded.runs],
    }


def _recorded(folder: Path, data: Any) -> Recorded:
    machine, releases, models = data["machine"], dict(data["releases"]), data["models"]
    gpus = tuple(Gpu(**gpu) for gpu in machine["gpus"])
    if not isinstance(releases["tensorrt"], str):
        raise ValueError("the release of tensorrt is no text")
    return Recorded(
        folder=folder,
        machine=Machine(**{**machine, "gpus": gpus}),
        releases=releases,
        date=str(data["date"]),
        how=str(data["how"]),
        models={name: _model(folder, item) for name, item in models.items()},
        runs=tuple(_run(folder, item, number, models) for number, item in enumerate(data["runs"], 1)),
    )


def _model(folder: Path, item: Mapping[str, Any]) -> RecordedModel:
    return RecordedModel(str(item["about"]), item["sha256"], _file(folder, item["nodes"]))


def _run(folder: Path, item: Mapping[str, Any], number: int, models: Mapping[str, Any]) -> RecordedRun:
    for name in [field.name for field in fields(RecordedRun)]:
        if name not in item:
            raise KeyError(f"{name} of run {number}")
        if not _fits(name, item[name]):
            raise ValueError(f"{name} of run {number} is {json.dumps(item[name])}")
    if item["model"] not in models:
        raise ValueError(f"run {number} is of {item['model']}, which is not among the models")
    shapes = {name: tuple(int(size) for size in shape) for name, shape in item["shapes"].items()}
    files = {name: _file(folder, item[name]) for name in _FILES}
    return RecordedRun(**{**item, "shapes": shapes, **files})


def _fits(name: str, value: Any) -> bool:
    if name in _WORDS:
        return isinstance(value, str)
    if name in _COUNTS:
        return isinstance(value, int)
    if name in (*_FILES, "ranges"):
        return value is None or isinstance(value, str)
    if name == "shapes":
        return isinstance(value, dict)
    return isinstance(value, int | float) or (value is None and name in _MAYBE_NUMBERS)


def _file(folder: Path, name: str | None) -> Path | None:
    if name is None:
        return None
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise ValueError(f"there is no file {name} beside it")
    return path


def _rows(runs: Sequence[RecordedRun]) -> list[tuple[str, ...]]:
    """A head and a row for every run; columns of which nothing was recorded are left out."""
    heads = ("model", "precision", "input", "run by", "median ms", "p99 ms", "runs")
    more = ("build s", "plan MB", "error to ONNX Runtime", "ranges from", "top-1 %", "clock")
    rows = [(*heads, *more), *map(_row, runs)]
    kept = [index for index in range(len(rows[0])) if index < len(heads) or any(row[index] for row in rows[1:])]
    return [tuple(row[index] for index in kept) for row in rows]


def _row(run: RecordedRun) -> tuple[str, ...]:
    times = (f"{run.median_ms:,.3f}", f"{run.p99_ms:,.3f}", f"{run.iterations:,}")
    build = "" if run.build_s is None else f"{run.build_s:,.1f}"
    plan = "" if run.plan_bytes is None else f"{run.plan_bytes / 1e6:,.1f}"
    relative = "" if run.relative is None else f"{run.relative:.2g}"
    top1 = "" if run.top1 is None else f"{run.top1:.2f}"
    heads = (run.model, run.precision, run.inputs, run.peer)
    return (*heads, *times, build, plan, relative, run.ranges or "", top1, run.clock)
