"""What TimingBoard shows of a study and of recorded runs: plots, and the same as tables; plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workbench.errors import WorkbenchError
from workbench.fusion.shares import GroupTimes
from workbench.plots.distribution import distribution
from workbench.plots.layers import layers
from workbench.plots.plot import Plot
from workbench.study import HEADS, HOSTS, Study
from workbench.tables import Table, cell_text
from workbench.timing import format_rate
from workbench.widgets.timing_pareto import pareto_beside
from workbench.widgets.timing_plots import medians_beside, throughput_beside
from workbench.widgets.timing_recorded import RecordedRow, Recording, recorded_by_batch, recorded_rows

LATENCY, THROUGHPUT, PARETO, LAYERS, OUTPUTS = "latency", "throughput", "pareto", "layers", "outputs"
SECTIONS = {
    LATENCY: "Latency",
    THROUGHPUT: "Throughput",
    PARETO: "Accuracy against latency",
    LAYERS: "Layers",
    OUTPUTS: "Outputs",
}
NOT_MEASURED = "Nothing was measured here yet: choose above and click Run."
UNTOLD = "–"
Row = tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """A table as text. recorded: rows that stand apart below the others. label: where those were recorded."""

    heads: Row
    rows: tuple[Row, ...]
    recorded: tuple[Row, ...] = ()
    label: str = ""


@dataclass(frozen=True)
class Picture:
    """One view of the results. stem: of the names of its files. plots: none where a table tells it better. empty: why
    there is nothing, in a sentence; '' where there is something. notes: sentences to read with the table."""

    stem: str
    title: str
    plots: tuple[Plot, ...]
    sheet: Sheet
    empty: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """What there is to show. batch: of the feeds here. layers: of one engine, or of two to lie side by side.
    layers_problem: why these cannot be shown."""

    study: Study | None = None
    recording: Recording | None = None
    batch: int = 1
    layers: tuple[GroupTimes, ...] = ()
    layers_problem: str = ""

    @property
    def rows(self) -> tuple[RecordedRow, ...]:
        return recorded_rows(self.recording, self.batch) if self.recording else ()

    @property
    def label(self) -> str:
        """'recorded on NVIDIA H200, TensorRT 8.6.0, 2026-11-20', with the model's name where it is another one."""
        if self.recording is None:
            return ""
        return f"{self.recording.model}, {self.recording.label}" if self.recording.note else self.recording.label


def pictures(section: str, shown: Shown) -> tuple[Picture, ...]:
    """The views of a section, the most important first."""
    made: dict[str, Callable[[Shown], tuple[Picture, ...]]] = {
        LATENCY: _latency, THROUGHPUT: _throughput, PARETO: _pareto, LAYERS: _layers, OUTPUTS: _outputs,
    }  # fmt: skip
    return made[section](shown)


# ---- latency


def latency_sheet(shown: Shown) -> Sheet:
    """Medians with their intervals, percentiles, rate, verdict and rank; recorded runs below, without a rank."""
    heads, *rows = shown.study.rows() if shown.study else [tuple(text.format("the reference") for text in HEADS)]
    recorded = [_recorded_row(row) for row in shown.rows]
    if HOSTS in heads:
        at = heads.index(HOSTS)
        recorded = [(*row[:at], UNTOLD, *row[at:]) for row in recorded]
    return Sheet(heads, tuple(rows), tuple(recorded), shown.label)


def _recorded_row(row: RecordedRow) -> Row:
    times = (f"{row.run.median_ms:.3f}", UNTOLD, UNTOLD, f"{row.run.p99_ms:.3f}")
    return (row.name, *times, format_rate(row.per_s), row.verdict, UNTOLD)


def _latency(shown: Shown) -> tuple[Picture, ...]:
    measured = shown.study.measurements if shown.study else ()
    found = []
    if measured or shown.rows:
        plot = medians_beside(measured, shown.rows, shown.label)
        own = len(plot.rows) - 1 - len(shown.rows)
        found.append(_picture("medians", "medians", (plot,), own, shown.label))
    if measured:
        spread = distribution(measured)
        note = ("Recorded runs kept median, mean and p99 alone, so nothing tells how they were spread.",)
        found.append(
            Picture("distribution", "distribution", (spread,), _sheet(spread), notes=note if shown.rows else ())
        )
    return tuple(found) or (_nothing("medians", "medians", NOT_MEASURED),)


# ---- throughput, accuracy, layers, outputs


def _throughput(shown: Shown) -> tuple[Picture, ...]:
    points = shown.study.throughputs if shown.study else {}
    recorded = recorded_by_batch(shown.recording) if shown.recording else {}
    plots = throughput_beside(points, recorded, shown.label)
    why = NOT_MEASURED if shown.study is None else "No batches were swept: name some above and click Run."
    if not plots:
        return (_nothing("throughput", "throughput", why),)
    own = sum(map(len, points.values()))
    return (_picture("throughput", "throughput", plots, own, shown.label, notes=() if own else (why,)),)


def _pareto(shown: Shown) -> tuple[Picture, ...]:
    beside = pareto_beside(
        shown.study, shown.rows, shown.label, same_model=not (shown.recording and shown.recording.note)
    )
    notes = (NOT_MEASURED,) if shown.study is None else beside.notes
    if not beside.plots:
        return (_nothing("pareto", "pareto", " ".join(notes)),)
    return (_picture("pareto", "pareto", beside.plots, beside.own, shown.label, notes=notes),)


def _layers(shown: Shown) -> tuple[Picture, ...]:
    if shown.layers_problem or not shown.layers:
        why = "No engine whose layers were timed: choose an engine of the workbench above and click Run."
        return (_nothing("layers", "layers", shown.layers_problem or why),)
    try:
        first, second = (*shown.layers, None)[:2]
        assert first is not None
        plot = layers(first, second)
    except WorkbenchError as error:  # such as engines of two models
        return (_nothing("layers", "layers", str(error)),)
    return (Picture("layers", "layers", (plot,), _sheet(plot)),)


def _outputs(shown: Shown) -> tuple[Picture, ...]:
    found = shown.study.comparison if shown.study else None
    if found is None:
        alone = "Only one was measured: choose another one to compare its outputs with."
        return (_nothing("outputs", "outputs", NOT_MEASURED if shown.study is None else alone),)
    tables = {"scores": found.score_rows(), "differences": found.output_rows(), "values": found.value_rows()}
    return tuple(
        Picture(f"outputs-{name}", name, (), _table_sheet(table), notes=(f"{table.title}.", *found.notes))
        for name, table in tables.items()
    )


# ---- tables


def _picture(
    stem: str, title: str, plots: Sequence[Plot], own: int, label: str, *, notes: tuple[str, ...] = ()
) -> Picture:
    """own: so many rows of the plots are of what was measured here, the others are recorded."""
    heads, *rows = plots[0].rows
    rows += [row for plot in plots[1:] for row in plot.rows[1:]]
    sheet = Sheet(heads, tuple(rows[:own]), tuple(rows[own:]), label if rows[own:] else "")
    return Picture(stem, title, tuple(plots), sheet, notes=notes)


def _sheet(plot: Plot) -> Sheet:
    heads, *rows = plot.rows
    return Sheet(heads, tuple(rows))


def _table_sheet(table: Table) -> Sheet:
    return Sheet(table.headers, tuple(tuple(cell_text(cell, table.digits) for cell in row) for row in table.rows))


def _nothing(stem: str, title: str, why: str) -> Picture:
    return Picture(stem, title, (), Sheet((), ()), empty=why)
