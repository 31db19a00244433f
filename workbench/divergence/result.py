"""How far two networks lie apart, tensor by tensor, in the order in which they are computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from workbench.accuracy import finite
from workbench.layers import precision_name
from workbench.tables import Cell, Table, html_of, text_of
from workbench.types import count_of

THRESHOLD = 0.01
"""A relative error that rounding to float16 hardly reaches, and a coarse range of int8 does."""
FP16_MAX = 65504.0


@dataclass(frozen=True)
class Side:
    """A tensor in one of the two. layer: the one that writes it, '' if that is not told. dtype: what it lies in there.
    largest: of its finite magnitudes. not_finite: how many values are infinite or NaN."""

    layer: str
    dtype: str
    largest: float
    not_finite: int


@dataclass(frozen=True)
class TensorError:
    """A tensor of the model, in the second against the first.

    node: the one that makes it, of `operator`. relative: norm of the difference over the norm of the first, infinite
    where a value is not finite; max_abs: largest difference (accuracy.Difference has both). sources: the tensors
    nearest before it that were seen too, and of which it is made by `nodes`. before: the largest error among them, 0
    where it is made of the model's inputs.
    """

    tensor: str
    node: str
    operator: str
    relative: float
    max_abs: float
    sources: tuple[str, ...]
    nodes: tuple[str, ...]
    before: float
    first: Side
    second: Side

    @property
    def jump(self) -> float:
        """By how much the error is larger than before; 0 where it was infinite before."""
        return self.relative - self.before if math.isfinite(self.before) else 0.0

    @property
    def overflows(self) -> bool:
        """Whether one of both has infinities or NaN that the other has not."""
        return self.first.not_finite != self.second.not_finite


@dataclass(frozen=True)
class Divergence:
    """titles, precisions: of the first and the second. total: tensors of the model that could be seen. tensors: those
    that were seen in both, in the model's order. every_tensor: whether all were made outputs for it. notes: how they
    were come by. warnings: why the error may be another one than without looking."""

    model: str
    titles: tuple[str, str]
    precisions: tuple[str, str]
    total: int
    tensors: tuple[TensorError, ...]
    threshold: float = THRESHOLD
    every_tensor: bool = False
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @cached_property
    def introduced(self) -> tuple[TensorError, ...]:
        """Where the error exceeds the threshold, and does not yet in what the tensor is made of."""
        return tuple(item for item in self.tensors if item.before <= self.threshold < item.relative)

    @property
    def first_divergent(self) -> TensorError | None:
        """The first of those."""
        return next(iter(self.introduced), None)

    @property
    def largest_jump(self) -> TensorError | None:
        """Where the error grows most; None where it grows nowhere."""
        worst = max(self.tensors, key=lambda item: item.jump, default=None)
        return worst if worst is not None and worst.jump > 0 else None

    @property
    def first_not_finite(self) -> TensorError | None:
        """The first tensor with infinities or NaN in one of both that the other has not."""
        return next((item for item in self.tensors if item.overflows), None)

    @property
    def beyond_fp16(self) -> TensorError | None:
        """The first tensor that float16 cannot hold, where one of both is an fp16 engine."""
        if "fp16" not in self.precisions:
            return None
        return next((item for item in self.tensors if max(item.first.largest, item.second.largest) > FP16_MAX), None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was found, the most important first."""
        return (
            f"{self.model}: {self.titles[1]} against {self.titles[0]}; {len(self.tensors)} of the model's "
            f"{count_of(self.total, 'tensor')} are seen in both.",
            *(f"Warning: {warning}" for warning in self.warnings),
            *self._found(),
            *self.notes,
        )

    def _found(self) -> Iterator[str]:
        yield self._begin()
        if jump := self.largest_jump:
            errors = f"from {_percent(jump.before)} to {_percent(jump.relative)}"
            yield f"It grows most in {jump.tensor}: {errors}, by {_made_by(jump)}."
        if lost := self.first_not_finite:
            yield f"Infinity or NaN comes first in {lost.tensor}: {self._lost(lost)}, made by {_made_by(lost)}."
        if large := self.beyond_fp16:
            largest = max(large.first.largest, large.second.largest)
            yield f"{large.tensor} reaches {largest:.4g}, and float16 ends at 65,504: keep {large.node} in fp32."

    def _begin(self) -> str:
        first, limit = self.first_divergent, _percent(self.threshold)
        worst = max(self.tensors, key=lambda item: item.relative, default=None)
        if worst is None:
            return "Nothing can be told of where they differ."
        if first is None:
            return f"No error exceeds {limit}; the largest is {_percent(worst.relative)}, in {worst.tensor}."
        more = len(self.introduced) - 1
        also = f"; so it does in {count_of(more, 'more tensor')} apart from it" if more else ""
        return (
            f"The error exceeds {limit} first in {first.tensor}: {_percent(first.relative)}, "
            f"made by {_made_by(first)}, {_came_from(first)}{also}."
        )

    def _lost(self, item: TensorError) -> str:
        sides = zip(self.titles, (item.first, item.second), strict=True)
        return ", ".join(f"{count_of(side.not_finite, 'value')} in {title}" for title, side in sides)

    def rows(self) -> Table:
        """One row for every tensor that was seen."""
        each = [f"{what}, {name}" for what in ("largest value", "type", "layer") for name in self._names]
        headers = ("tensor", "node", "operator", "error, %", "largest difference", "remark", *each)
        title = "Tensors, in the order in which they are computed"
        return Table(title, headers, tuple(self._row(item) for item in self.tensors), digits=3)

    @property
    def _names(self) -> tuple[str, str]:
        """The shortest words that tell both apart."""
        return next((pair for pair in (self.precisions, self.titles) if "" not in pair and len({*pair}) > 1), _NUMBERED)

    def _row(self, item: TensorError) -> tuple[Cell, ...]:
        sides = (item.first, item.second)
        return (
            item.tensor,
            item.node,
            item.operator,
            100 * item.relative,
            item.max_abs,
            self._mark(item),
            *(_largest(side) for side in sides),
            *(precision_name(side.dtype) for side in sides),
            *(side.layer for side in sides),
        )

    def _mark(self, item: TensorError) -> str:
        """Why to look at the row."""
        marks = {"begins here": item in self.introduced, "grows most": item is self.largest_jump}
        return ", ".join(word for word, holds in marks.items() if holds)

    def __str__(self) -> str:
        return text_of(self.sentences, [_narrow(self.rows())])

    def _repr_html_(self) -> str:
        return html_of(self.sentences, [self.rows()])

    def to_json(self) -> dict[str, Any]:
        """JSON has no infinity and no NaN: null in their place."""
        data = {**asdict(self), "tensors": [_tensor_to_json(item) for item in self.tensors]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}


def divergence_from_json(data: Mapping[str, Any]) -> Divergence:
    """The inverse of Divergence.to_json."""
    pairs = {name: (data[name][0], data[name][1]) for name in ("titles", "precisions")}
    told = {name: tuple(data[name]) for name in ("notes", "warnings")}
    return Divergence(**{**data, **pairs, **told, "tensors": tuple(map(_tensor_from_json, data["tensors"]))})


def _tensor_to_json(item: TensorError) -> dict[str, Any]:
    data = {name: finite(value) for name, value in asdict(item).items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}


def _tensor_from_json(data: Mapping[str, Any]) -> TensorError:
    errors = {name: math.inf if data[name] is None else data[name] for name in ("relative", "max_abs", "before")}
    names = {name: tuple(data[name]) for name in ("sources", "nodes")}
    return TensorError(**{**data, **errors, **names, "first": Side(**data["first"]), "second": Side(**data["second"])})


def _percent(error: float) -> str:
    return f"{100 * error:.3g} %" if math.isfinite(error) else "an error without end"


def _made_by(item: TensorError) -> str:
    """The node, or the stretch of nodes in which nothing can be seen."""
    if len(item.nodes) < 2:
        return f"{item.node} ({item.operator})"
    return f"{count_of(len(item.nodes), 'node')} from {item.nodes[0]} to {item.nodes[-1]}"


def _came_from(item: TensorError) -> str:
    if not item.sources:
        return "straight from the model's inputs"
    return f"while what that is made of differs by {_percent(item.before)} at most"


def _largest(side: Side) -> Cell:
    return f"{side.largest:.3g} and {side.not_finite} not finite" if side.not_finite else side.largest


_NUMBERED = ("first", "second")
_LONGEST = 40
_LEFT_OUT = ("node", "type, ")


def _narrow(table: Table) -> Table:
    """For a terminal: without some columns, and long names cut; kernels of many nodes have hundreds of letters."""
    places = [place for place, header in enumerate(table.headers) if not header.startswith(_LEFT_OUT)]
    rows = (tuple(_short(cell) if isinstance(cell, str) else cell for cell in row) for row in table.rows)
    headers = tuple(_short(table.headers[place]) for place in places)
    return Table(table.title, headers, tuple(tuple(row[place] for place in places) for row in rows), table.digits)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}…{text[1 - _LONGEST // 2 :]}"
