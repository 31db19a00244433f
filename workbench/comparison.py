"""What came out when any number of sessions ran on the same feeds; plain data, with tables for whoever draws it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.accuracy import Interval, all_finite
from workbench.evaluation import Evaluation, evaluation_from_json
from workbench.tables import Cell, Table, html_of, text_of
from workbench.tally import TaskScore, Worst
from workbench.types import Shape, count_of


@dataclass(frozen=True)
class Contestant:
    """One of those compared, against the reference; the reference against itself.

    evaluation: how far its outputs lie apart, and the task's scores where there are labels; None where `failure`
    tells in a sentence why there is none. worst: the sample furthest apart, None where all agree. notes: what to know.
    """

    name: str
    evaluation: Evaluation | None
    worst: Worst | None = None
    notes: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class Shown:
    """The first values of an output for one sample. shape: the sample's, in the reference. values: by contestant,
    without those that have no such output."""

    output: str
    shape: Shape
    values: Mapping[str, tuple[float, ...]]

    @property
    def labels(self) -> tuple[str, ...]:
        """'logits[0]', or 'boxes[0, 3]'; for a scalar the output alone."""
        count = max((len(values) for values in self.values.values()), default=0)
        if not self.shape:
            return (self.output,) * count
        sizes = self.shape if math.prod(self.shape) >= count else (count,)
        places = (np.unravel_index(number, sizes) for number in range(count))
        return tuple(f"{self.output}[{', '.join(map(str, map(int, place)))}]" for place in places)


@dataclass(frozen=True)
class Comparison:
    """count: samples. values: of the first sample, `first_id`. digests: of what was fed, in order. notes: outputs that
    were left out for all."""

    reference: str
    count: int
    contestants: tuple[Contestant, ...]
    values: tuple[Shown, ...]
    first_id: str
    digests: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def others(self) -> tuple[Contestant, ...]:
        return tuple(item for item in self.contestants if item.name != self.reference)

    def value_rows(self) -> Table:
        """One row for every value that is shown, one column for every contestant."""
        names = tuple(item.name for item in self.contestants)
        rows = tuple(
            (label, *(_at(shown.values.get(name, ()), place) for name in names))
            for shown in self.values
            for place, label in enumerate(shown.labels)
        )
        return Table(f"Outputs of {self.first_id}", ("output", *names), rows, digits=7)

    def output_rows(self) -> Table:
        """One row for every output of every contestant but the reference."""
        headers = ("contestant", "output", "error, %", "with 95 %", "SNR, dB", "cosine", "same class, %", "largest")
        rows: tuple[tuple[Cell, ...], ...] = tuple(
            (
                item.name,
                output.output,
                output.relative.value,
                _span(output.relative),
                output.snr_db.value,
                output.cosine.value,
                output.argmax.value if output.argmax else None,
                output.max_abs,
            )
            for item in self.others
            if item.evaluation is not None
            for output in item.evaluation.outputs
        )
        return Table(f"Outputs against {self.reference}", headers, rows)

    def score_rows(self) -> Table:
        """One row for every contestant: the task's scores where there are labels, the worst sample, what to know."""
        known = {name: any(_score(item, name) for item in self.contestants) for name in ("top1", "top5")}
        headers = ["contestant"]
        for name, title in (("top1", "top-1"), ("top5", "top-5")):
            headers += [f"{title}, %", "with 95 %", "points lost", "with 95 %"] * known[name]
        headers += ["classes changed", "worst sample", "output", "error there, %", "note"]
        rows = (
            (
                item.name,
                *(cell for name in known if known[name] for cell in _score_cells(item, name)),
                *self._rest(item),
            )
            for item in self.contestants
        )
        return Table(f"{count_of(self.count, 'sample')} against {self.reference}", tuple(headers), tuple(rows))

    def _rest(self, item: Contestant) -> tuple[Cell, ...]:
        has_classes = item.evaluation is not None and "argmax" in item.evaluation.metrics
        changed = len(item.evaluation.changed) if item.evaluation is not None and has_classes else None
        worst = (item.worst.id, item.worst.output, item.worst.relative) if item.worst else (None, None, None)
        note = "the reference" if item.name == self.reference else item.failure or "; ".join(item.notes)
        return (changed, *worst, note)

    def rows(self) -> tuple[Table, ...]:
        """All tables, the most important first."""
        return self.score_rows(), self.output_rows(), self.value_rows()

    def __str__(self) -> str:
        return text_of(self.notes, self.rows())

    def _repr_html_(self) -> str:
        return html_of(self.notes, self.rows())

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity and no NaN: null in their place, and among the values shown their names."""
        return {
            "reference": self.reference,
            "count": self.count,
            "contestants": [_contestant_to_json(item) for item in self.contestants],
            "values": [_shown_to_json(item) for item in self.values],
            "first_id": self.first_id,
            "digests": list(self.digests),
            "notes": list(self.notes),
        }


def comparison_from_json(data: Mapping[str, Any]) -> Comparison:
    """The inverse of Comparison.to_json."""
    return Comparison(
        reference=data["reference"],
        count=data["count"],
        contestants=tuple(_contestant_from_json(item) for item in data["contestants"]),
        values=tuple(_shown_from_json(item) for item in data["values"]),
        first_id=data["first_id"],
        digests=tuple(data["digests"]),
        notes=tuple(data["notes"]),
    )


def _contestant_to_json(item: Contestant) -> dict[str, Any]:
    return {
        "name": item.name,
        "evaluation": item.evaluation.to_json() if item.evaluation else None,
        "worst": all_finite(asdict(item.worst)) if item.worst else None,
        "notes": list(item.notes),
        "failure": item.failure,
    }


def _contestant_from_json(data: Mapping[str, Any]) -> Contestant:
    worst = data["worst"]
    if worst is not None:
        worst = Worst(**{**worst, "relative": math.inf if worst["relative"] is None else worst["relative"]})
    return Contestant(
        name=data["name"],
        evaluation=evaluation_from_json(data["evaluation"]) if data["evaluation"] else None,
        worst=worst,
        notes=tuple(data["notes"]),
        failure=data["failure"],
    )


def _shown_to_json(item: Shown) -> dict[str, Any]:
    values = {
        name: [value if math.isfinite(value) else str(value) for value in row] for name, row in item.values.items()
    }
    return {"output": item.output, "shape": list(item.shape), "values": values}


def _shown_from_json(data: Mapping[str, Any]) -> Shown:
    values = {name: tuple(float(value) for value in row) for name, row in data["values"].items()}
    return Shown(data["output"], tuple(data["shape"]), values)


def _at(values: tuple[float, ...], place: int) -> Cell:
    return values[place] if place < len(values) else None


def _score(item: Contestant, name: str) -> TaskScore | None:
    return getattr(item.evaluation, name) if item.evaluation is not None else None


def _score_cells(item: Contestant, name: str) -> Iterator[Cell]:
    score = _score(item, name)
    for interval in (score.other, score.drop) if score is not None else ():
        yield from (interval.value, _span(interval))
    if score is None:
        yield from (None,) * 4


def _span(interval: Interval) -> str:
    return f"{interval.low:.4g} to {interval.high:.4g}"
