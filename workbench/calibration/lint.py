"""What is wrong with a calibration table, by itself and for a model: so that no build passes over it in silence."""

from __future__ import annotations

import difflib
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from workbench.calibration.collection import Collection
from workbench.calibration.exposed import float_tensors
from workbench.calibration.table import CalibrationTable
from workbench.calibration.text_tables import LEVELS, release_digits
from workbench.errors import ConfigError
from workbench.model import Model, graphs
from workbench.types import count_of

_INTERNAL = ("(Unnamed Layer", "(Unnamed ITensor", "ONNXTRT_")
"""How names begin that TensorRT gives to tensors of its own; no ONNX model holds them."""
_SHOWN = 5
_SCALES = np.finfo(np.float32)
SMALLEST, LARGEST = float(_SCALES.tiny) * LEVELS, float(_SCALES.max) * LEVELS
"""The ranges that a float32 scale of full precision can express."""
_FAR = 2.0**15
"""How far a range may lie from the table's median. A changed digit in the exponent moves it by 4, 16, 2**8 or more."""
_MORE = 4.0
"""How far a range may lie above that of what it is made of, as algorithms cut differently."""
_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
_MOVES = ("Concat", "Dropout", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_NO_GROWTH = frozenset((*_POOLS, *_MOVES, "Relu"))
"""Operators whose results are no larger than what they read."""


@dataclass(frozen=True)
class Finding:
    """severity: 'error' (the table must not be used), 'warning' or 'info'. tensor: '' where it is about the table."""

    severity: str
    tensor: str
    text: str

    def __str__(self) -> str:
        return f"{self.tensor}: {self.text}" if self.tensor else self.text


def raise_for(findings: Iterable[Finding], where: str = "calibration table") -> None:
    """Raise ConfigError if there is an error among the findings. where: the file that they are about."""
    errors = [str(item) for item in findings if item.severity == "error"]
    if errors:
        more = f"; and {count_of(len(errors) - _SHOWN, 'more error')}" if len(errors) > _SHOWN else ""
        raise ConfigError(f"{where}: {'; '.join(errors[:_SHOWN])}{more}.")


def lint(table: CalibrationTable, model: Model, *, release: str = "") -> tuple[Finding, ...]:
    """Everything that speaks against using the table for this model; errors first.

    release: of the TensorRT that shall read the table ('8.6.1' or '8601'); '' if only the workbench will, which gives
    every table to TensorRT under the release that runs. Raises ConfigError for a release that does not exist.
    """
    findings = [
        *broken_ranges(table),
        *_names(table, model),
        *_release(table, release_digits(release) if release else ""),
        *_implausible(table, model),
        *(Finding("warning", "", note) for note in table.notes),
    ]
    return tuple(sorted(findings, key=lambda item: ("error", "warning", "info").index(item.severity)))


def lint_collection(collection: Collection) -> tuple[Finding, ...]:
    """What a table that is made of it no longer tells: tensors with values that no histogram can hold."""
    return tuple(
        Finding("warning", name, f"{count_of(item.not_finite, 'value')} left out, being infinite or no number (NaN)")
        for name, item in collection.histograms.items()
        if item.not_finite
    )


def broken_ranges(table: CalibrationTable) -> Iterator[Finding]:
    """What can be no range of a tensor, whatever the model."""
    for name, amax in table.amax.items():
        if not math.isfinite(amax) or abs(amax) > LARGEST:
            yield Finding("error", name, f"{amax:g} is no range; calibrate again")
        elif amax < 0:
            yield Finding("error", name, f"the range {amax:g} is below 0; calibrate again")
        elif 0 < amax < SMALLEST:
            yield Finding("error", name, f"the range {amax:g} is too small for int8; calibrate again")
    if not table.amax:
        yield Finding("error", "", "nothing to calibrate: no tensor that depends on the inputs is floating-point")
    elif not any(table.amax.values()):
        yield Finding("error", "", "no tensor has a range; calibrate again")


def _names(table: CalibrationTable, model: Model) -> Iterator[Finding]:
    """Tensors that only one of the two knows; one error if they do not belong together."""
    if not table.amax:
        return
    activations = activations_of(model)
    known = _tensor_names(model)
    named = [name for name in table.amax if not name.startswith(_INTERNAL)]
    strange = [name for name in named if name not in known]
    missing = [name for name in activations if name not in table.amax]
    if len(strange) == len(named) or (2 * len(strange) > len(named) and 2 * len(missing) > len(activations)):
        which = "none of its tensors" if strange == named else f"{len(strange)} of its {len(named)} tensors"
        state = "is" if strange == named else "are not"
        text = f"wrong model: {which} ({_some(strange or list(table.amax))}) {state} in {model.name}"
        text += "; give a table that this model was calibrated with"
        yield Finding("error", "", text)
        return
    for name in strange[:_SHOWN]:
        close = difflib.get_close_matches(name, missing or activations, n=1)
        yield Finding("warning", name, f"{model.name} has no such tensor" + (f"; is it {close[0]}?" if close else ""))
    if len(strange) > _SHOWN:
        more = count_of(len(strange) - _SHOWN, "more tensor")
        yield Finding("warning", "", f"{model.name} does not have {more} of the table")
    if missing:
        of_all = f"{len(missing)} of {count_of(len(activations), 'tensor')} of {model.name}"
        yield Finding("warning", "", f"no range for {of_all} ({_some(missing)}): what reads them cannot run in int8")
    for name in activations:
        if table.amax.get(name) == 0:
            yield Finding("warning", name, "its range is 0, so it has none: what reads it cannot run in int8")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def activations_of(model: Model) -> tuple[str, ...]:
    """The tensors of the main graph that int8 needs ranges of: floating-point ones that depend on the inputs."""
    counted, aliases = float_tensors(model)
    return (*counted, *aliases)


def _tensor_names(model: Model) -> set[str]:
    names = {spec.name for spec in model.inputs}
    for graph in graphs(model.proto.graph):
        names.update(tensor.name for tensor in graph.initializer)
        names.update(name for node in graph.node for name in node.output)
    return names


def _release(table: CalibrationTable, release: str) -> Iterator[Finding]:
    """NVIDIA calls caches portable between devices, not between releases; TensorRT 10 refuses one with TRT-8600."""
    if not release or not table.release or table.release == release:
        return
    text = f"it is of TensorRT {table.release}, so {release} may pass over it and calibrate anew; convert it first"
    yield Finding("warning" if _major(table.release) == _major(release) else "error", "", text)


def _major(release: str) -> int:
    """'8600' -> 8, '100300' -> 10."""
    number = int(release.replace("X", "0"))
    return number // (10_000 if number >= 100_000 else 1000)


def _implausible(table: CalibrationTable, model: Model) -> Iterator[Finding]:
    """Ranges far from all others, or above those of what a tensor is made of: a sign of a damaged file."""
    ranges = {name: amax for name, amax in table.amax.items() if SMALLEST <= amax <= LARGEST}
    middle = statistics.median(ranges.values()) if ranges else 0.0
    far = {name: amax for name, amax in ranges.items() if not middle / _FAR <= amax <= middle * _FAR}
    for name, amax in far.items():
        text = f"its range {amax:.3g} is far from the others' (median {middle:.3g}); look at it"
        yield Finding("warning", name, text)
    near = ranges.keys() - far.keys()
    for node in model.nodes:
        if node.op_type in _NO_GROWTH and node.output[0] in near:
            yield from _grown(node, ranges)


def _grown(node: NodeProto, ranges: Mapping[str, float]) -> Iterator[Finding]:
    sources, made = node.input if node.op_type == "Concat" else node.input[:1], node.output[0]
    if all(name in ranges for name in sources):
        most = max(ranges[name] for name in sources)
        if ranges[made] > _MORE * most:
            text = f"its range {ranges[made]:.3g} is above that of what it is made of ({most:.3g}); look at it"
            yield Finding("warning", made, text)
