"""Runs recorded on a GPU, chosen to stand beside those measured here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ViewError
from workbench.model import Model
from workbench.recorded import Recorded, RecordedRun, load_recorded, recorded_folders
from workbench.types import PRECISIONS

_PEERS = {"workbench": "TensorRT", "torch eager": "PyTorch eager", "torch compile": "PyTorch compiled"}
"""Those that stand in the tables, by what they are called there."""
_ORDER = {name: place for place, name in enumerate((*_PEERS, *PRECISIONS))}
_GPU_CLOCK = "CUDA events"
"""How clocks begin that leave the copies out."""


@dataclass(frozen=True)
class Recording:
    """One recorded model. key: folder and model. note: how it is related to the model here, '' where it is the same."""

    key: str
    recorded: Recorded
    model: str
    note: str = ""

    @property
    def title(self) -> str:
        """'resnet18 · NVIDIA H200'."""
        return (
            f"{self.model} · {', '.join(gpu.name for gpu in self.recorded.machine.gpus) or self.recorded.machine.cpu}"
        )

    @property
    def label(self) -> str:
        """'recorded on NVIDIA H200, TensorRT 8.6.0, 2026-11-20'."""
        return self.recorded.label


@dataclass(frozen=True)
class RecordedRow:
    """A recorded run as it stands in tables. times_as_fast: as fp32 of the same peer and batch, by medians; None for
    fp32 itself, and where none was recorded."""

    name: str
    run: RecordedRun
    times_as_fast: float | None

    @property
    def verdict(self) -> str:
        """'2.15 times as fast as its fp32'; '' of fp32 itself."""
        if self.times_as_fast is None:
            return ""
        faster = self.times_as_fast >= 1
        ratio = self.times_as_fast if faster else 1 / self.times_as_fast
        return f"{ratio:.2f} times as {'fast' if faster else 'slow'} as its fp32"

    @property
    def per_s(self) -> float:
        """Pictures (or rows) per second, one run after the other: batch over mean time."""
        return self.run.batch / self.run.mean_ms * 1000


def recordings(model: Model, start: Path | None = None) -> tuple[Recording, ...]:
    """Every model of every recording that can be read, the ones of this model first: by content, then by name."""
    found = []
    for folder in recorded_folders(start):
        try:
            recorded = load_recorded(folder)
        except ViewError:  # `workbench recorded` tells what is wrong with it
            continue
        found += [
            Recording(f"{folder.name}/{name}", recorded, name, _note(recorded, name, model)) for name in recorded.models
        ]
    return tuple(sorted(found, key=lambda item: (bool(item.note), item.model != model.name)))


def usual_recording(found: Sequence[Recording], model: Model) -> str:
    """The key of the one of this content, else of this name; '' where there is neither."""
    if found and (not found[0].note or found[0].model == model.name):
        return found[0].key
    return ""


def _note(recorded: Recorded, name: str, model: Model) -> str:
    told = recorded.models[name]
    if told.sha256 == model.sha256:
        return ""
    if name == model.name:
        return f"Recorded of a model of this name with other content: {told.about}."
    return f"Recorded of another model, {name}: {told.about}. It shows what a GPU brings, not how fast {model.name} is."


def recorded_rows(recording: Recording, batch: int) -> tuple[RecordedRow, ...]:
    """TensorRT and PyTorch by the GPU's own clock, at this batch or else the smallest that was recorded."""
    runs = _shown(recording)
    known = {run.batch for run in runs}
    wanted = batch if batch in known else min(known, default=0)
    return tuple(_row(run, runs, batch) for run in runs if run.batch == wanted)


def recorded_by_batch(recording: Recording) -> dict[str, tuple[RecordedRow, ...]]:
    """TensorRT's runs at every batch, the smallest first, by name; for plots of throughput."""
    runs = [run for run in _shown(recording) if run.peer == "workbench"]
    found: dict[str, list[RecordedRow]] = {}
    for run in sorted(runs, key=lambda run: run.batch):
        row = _row(run, runs, run.batch)
        found.setdefault(row.name, []).append(row)
    return {name: tuple(rows) for name, rows in found.items()}


def layered_runs(recording: Recording) -> dict[str, RecordedRun]:
    """TensorRT's runs whose layers and their times were kept, by precision, ranges and batch."""
    runs = [run for run in _shown(recording) if run.inspector and run.profile]
    return {f"{_what(run)}, batch {run.batch}": run for run in sorted(runs, key=lambda run: run.batch)}


def _shown(recording: Recording) -> list[RecordedRun]:
    found = [
        run
        for run in recording.recorded.runs
        if run.model == recording.model and run.peer in _PEERS and run.clock.startswith(_GPU_CLOCK)
    ]
    return sorted(found, key=lambda run: (_ORDER[run.peer], _ORDER.get(run.precision, len(_ORDER))))


def _row(run: RecordedRun, runs: Iterable[RecordedRun], batch: int) -> RecordedRow:
    plain = [item for item in runs if (item.peer, item.batch, item.precision) == (run.peer, run.batch, "fp32")]
    faster = plain[0].median_ms / run.median_ms if plain and run.precision != "fp32" else None
    where = "" if run.batch == batch else f", batch {run.batch}"
    return RecordedRow(_name(run) + where, run, faster)


def _name(run: RecordedRun) -> str:
    """'TensorRT int8 (entropy)'."""
    return f"{_PEERS[run.peer]} {_what(run)}"


def _what(run: RecordedRun) -> str:
    """'int8 (entropy)'."""
    ranges = f" ({run.ranges.removeprefix('collected here, ')})" if run.ranges else ""
    return f"{run.precision}{ranges}"
