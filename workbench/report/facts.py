"""What a report tells, as plain data that `html` and `markdown` write down; nothing is opened any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workbench.comparison import Comparison
from workbench.fusion.shares import GroupTimes
from workbench.picture import Picture
from workbench.plots import Plot
from workbench.recorded import Recorded
from workbench.study import Study
from workbench.tables import Table


@dataclass(frozen=True)
class ModelFacts:
    """path: '' where no engine tells it. facts: (name, value). notes: what is not known and why, in sentences."""

    name: str
    sha256: str
    path: str
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineFacts:
    """An engine that was built or measured. names: as studies call it. why: why it was built; a sentence.

    Where only the history knows the engine, release, built_at, runs_on are '', nodes, layers None; `note` says so.
    """

    key: str
    names: tuple[str, ...]
    model: str
    backend: str
    precision: str
    release: str = ""
    build_s: float | None = None
    plan_bytes: int | None = None
    built_at: str = ""
    nodes: int | None = None
    layers: int | None = None
    runs_on: str = ""
    why: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """'tensorrt 8.6.0 fp16', with the names that studies give it."""
        what = " ".join(filter(None, (self.backend, self.release, self.precision)))
        return f"{joined(self.names)} ({what})" if self.names else what


def joined(names: Sequence[str]) -> str:
    """Names side by side; parted by ';' where some hold a comma themselves, as a candidate's does."""
    return ("; " if any("," in name for name in names) else ", ").join(names)


@dataclass(frozen=True)
class FusionFacts:
    """What became of the network in one engine. picture: None where there is none to draw, and a note says why."""

    title: str
    summary: str
    notes: tuple[str, ...] = ()
    picture: Picture | None = None
    times: GroupTimes | None = None


@dataclass(frozen=True)
class CalibrationFacts:
    """Where an int8 engine's ranges are from. findings: what speaks against them, in sentences."""

    engine: str
    file: str
    algorithm: str
    ranges: int | None
    findings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TimingFacts:
    """What was measured on the same inputs. in_turns: in one study; otherwise one after the other, at other times."""

    heading: str
    study: Study
    in_turns: bool
    plots: tuple[Plot, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AccuracyFacts:
    heading: str
    comparison: Comparison


@dataclass(frozen=True)
class Repeat:
    """How to come to the same numbers. code: by title, such as 'Shell'. note: what cannot be told."""

    what: str
    code: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class WinnerFacts:
    """What a search found to be the best on one kind of machine. facts: (name, value), its engines among them. reason:
    why it was taken. again: how to build and open it."""

    name: str
    facts: tuple[tuple[str, str], ...]
    reason: str
    again: Repeat


@dataclass(frozen=True)
class SearchColumn:
    """What was found on one kind of machine. front: None where nothing is within the limits. notes: in sentences."""

    name: str
    plots: tuple[Plot, ...]
    front: Table | None
    best: WinnerFacts | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SearchFacts:
    """A search of the tuner. facts: (name, value). trials: all, with what became of them. again: how to run it again.
    notes: what to know of it, in sentences. recorded: 'recorded on NVIDIA H200, ...', '' if it ran here."""

    id: str
    heading: str
    facts: tuple[tuple[str, str], ...]
    columns: tuple[SearchColumn, ...]
    trials: Table
    again: Repeat
    notes: tuple[str, ...] = ()
    recorded: str = ""


@dataclass(frozen=True)
class RecordedFacts:
    """recorded: the runs of these models alone. same_content: by the model's hash; otherwise the name alone."""

    recorded: Recorded
    same_content: bool


@dataclass(frozen=True)
class Report:
    """verdict: two sentences for each study, and some for each search. written_at: ISO 8601, UTC. change: what differs
    between the two engines that are drawn. losses: outputs that were compared without any study, as tables. recorded:
    of the same models, on a GPU. runs: ids of the rows that it tells of. notes: what could not be read. steps: what led
    there, where somebody tells it. searches: of the tuner; their finals are among the timings."""

    title: str
    written_at: str
    verdict: tuple[str, ...]
    models: tuple[ModelFacts, ...]
    engines: tuple[EngineFacts, ...]
    shapes: Table | None
    fusions: tuple[FusionFacts, ...]
    change: str
    calibrations: tuple[CalibrationFacts, ...]
    accuracies: tuple[AccuracyFacts, ...]
    losses: tuple[Table, ...]
    timings: tuple[TimingFacts, ...]
    repeats: tuple[Repeat, ...]
    recorded: tuple[RecordedFacts, ...]
    runs: tuple[str, ...]
    notes: tuple[str, ...] = ()
    steps: Table | None = None
    searches: tuple[SearchFacts, ...] = ()
