"""Whether an ONNX model answers as its framework does: of every output the whole, and every slice by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.accuracy import Difference, compare_outputs
from workbench.errors import ExportError, FeedError, RunError
from workbench.model import load_model
from workbench.reference import Reference
from workbench.types import Feeds, Shape, TensorSpec

MOST_RELATIVE = 1e-4
"""An export in float32 whose outputs lie further from the framework's than this is refused."""
MOST_SLICE_RELATIVE = 1e-3
"""As MOST_RELATIVE, for a single slice: fewer values, so rounding averages out less. See `worst_slice`."""
LEAST_COSINE, LEAST_AGREEMENT = 0.8, 0.5
"""Below either, a quantized model's outputs have nothing to do with the framework's."""

Answers = Sequence[tuple[Feeds, Mapping[str, np.ndarray]]]
"""Feeds and the framework's outputs on them, by name."""


@dataclass(frozen=True)
class Parity:
    """The ONNX model in ONNX Runtime against the framework, on inputs of these shapes."""

    shapes: Mapping[str, Shape]
    differences: tuple[Difference, ...]

    @property
    def relative(self) -> float:
        """Of the output that differs most."""
        return max((item.relative for item in self.differences), default=0.0)

    @property
    def argmax_agreement(self) -> float | None:
        """Of the output that agrees least; None where no output has a largest value to compare."""
        shares = [item.argmax_agreement for item in self.differences if item.argmax_agreement is not None]
        return min(shares, default=None)


def check_parity(path: Path, answers: Answers, *, most_relative: float | None = MOST_RELATIVE) -> tuple[Parity, ...]:
    """Load the ONNX file and compare what it answers on each feeds with the framework's outputs, by name.

    Shapes and types must be the framework's and what the model states; integers and booleans must be equal, and
    floating-point outputs closer than `most_relative` as a whole and MOST_SLICE_RELATIVE in every slice.
    most_relative: None where a difference is expected (quantized models); then only LEAST_COSINE and LEAST_AGREEMENT
    are asked for. Raises ModelError for a file the checker refuses, ExportError when it does not run on these shapes or
    differs.
    """
    model = load_model(path)
    try:
        reference = Reference(model)
    except RunError as error:
        raise ExportError(f"{path.name}: ONNX Runtime refuses the export: {error}") from error
    found = []
    for feeds, wanted in answers:
        shapes: dict[str, Shape] = {name: tuple(np.shape(array)) for name, array in feeds.items()}
        on = "on " + ", ".join(f"{name} {by(shape)}" for name, shape in shapes.items())
        try:
            given = reference.run(feeds)
            _check_types(wanted, given)
            parity = Parity(shapes, compare_outputs(wanted, given))
        except (RunError, FeedError) as error:
            raise ExportError(f"{path.name}: the export does not run as the framework does {on}: {error}") from error
        sizes = _sizes(model.inputs, shapes)
        reasons = [_misstated(spec, wanted[spec.name].shape, sizes, on) for spec in model.outputs]
        for item in parity.differences:
            pair = wanted[item.output], given[item.output]
            reasons.append(
                _unrelated(item, pair[0], on) if most_relative is None else _apart(item, *pair, most_relative, on)
            )
        if any(reasons):
            raise ExportError(f"{path.name}: {next(filter(None, reasons))}")
        found.append(parity)
    return tuple(found)


def check_told(title: str, answers: Answers) -> tuple[str, ...]:
    """A note for every output that was empty or zero every time: agreement there proves nothing.

    Raises ExportError where that holds for all outputs.
    """
    silent = {}
    for name in answers[0][1] if answers else ():
        arrays = [np.asarray(outputs[name]) for _, outputs in answers if name in outputs]
        if not any(array.size for array in arrays):
            silent[name] = "empty"
        elif not any(array.any() for array in arrays):
            silent[name] = "zero"
    remedy = "compare it on real inputs with feeds=[{input: array}]"
    notes = tuple(f"output {name} was {how} on every trial: {remedy}" for name, how in silent.items())
    if answers and len(notes) == len(answers[0][1]):
        raise ExportError(f"{title}: the export is not proven: {'; '.join(notes)}.")
    return notes


def worst_slice(wanted: np.ndarray, given: np.ndarray) -> tuple[float, int, int]:
    """Of all slices along all axes the one that differs most: how much, its axis, its place on that axis.

    One norm over boxes in pixels and scores hides scores that are all wrong. So each channel, class, row and picture
    is judged by itself: the norm of its difference over its own norm. That norm counts for no less than a tenth of
    the median of its axis (slices without any value left out), because a layer rounds all its channels alike, those
    near zero too; and for no less than 1e-3 for each value, because sigmoid and softmax round beside 1, not beside
    their result: 1e-12 has no digit that two runtimes share.
    """
    left = wanted.astype(np.float64)
    wanted_squares, apart_squares = np.square(left), np.square(left - given.astype(np.float64))
    worst = (0.0, 0, 0)
    for axis in range(wanted.ndim if wanted.size else 0):
        others = tuple(other for other in range(wanted.ndim) if other != axis)
        own, apart = (np.sqrt(np.sum(squares, axis=others)) for squares in (wanted_squares, apart_squares))
        typical = np.median(own[own > 0]) if own.any() else 0.0
        least = max(0.1 * typical, 1e-3 * np.sqrt(wanted.size / wanted.shape[axis]))
        relative = apart / np.maximum(own, least)
        place = int(np.argmax(relative))
        worst = max(worst, (float(relative[place]), axis, place))
    return worst


def _apart(difference: Difference, wanted: np.ndarray, given: np.ndarray, most: float, on: str) -> str:
    """How an output differs by more than is taken; '' where it does not."""
    said = f"output {difference.output} differs from the framework's"
    frozen = "a branch or a size may be frozen into the export."
    if wanted.dtype.kind in "biu":
        wrong = int(np.count_nonzero(wanted != given))
        return f"{said} in {wrong:,} of {wanted.size:,} values {on}: {frozen}" if wrong else ""
    whole = difference.relative
    if not whole <= most:
        return f"{said} by {whole:.1e} {on} (at most {most:.0e} is taken): {frozen}"
    relative, axis, place = worst_slice(wanted, given)
    if not relative <= MOST_SLICE_RELATIVE:
        taken = f"at most {MOST_SLICE_RELATIVE:.0e} is taken of a slice; of the whole output it is {whole:.1e}"
        return f"{said} by {relative:.1e} at index {place} of axis {axis} {on} ({taken}): {frozen}"
    return ""


def _unrelated(difference: Difference, wanted: np.ndarray, on: str) -> str:
    """That a quantized output has nothing to do with the framework's; '' where it has."""
    share = difference.argmax_agreement
    if wanted.dtype.kind != "f" or (difference.cosine >= LEAST_COSINE and (share is None or share >= LEAST_AGREEMENT)):
        return ""
    agree = "" if share is None else f", {share:.0%} of the largest values at the same place"
    return (
        f"output {difference.output} has little to do with the framework's {on} (cosine {difference.cosine:.2f}"
        f"{agree}), which quantization alone does not explain: compare it on real inputs with feeds=[...], "
        "or quantize and save the model anew."
    )


def _check_types(wanted: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> None:
    for name in wanted.keys() & given.keys():
        theirs, ours = np.asarray(wanted[name]).dtype, np.asarray(given[name]).dtype
        if {theirs.kind, ours.kind} & set("OSU"):
            raise FeedError(f"output {name} holds strings, which engines do not give; leave it out.")
        if theirs != ours:
            raise FeedError(f"output {name} is {theirs} in the framework and {ours} in the export; cast it there.")


def _misstated(spec: TensorSpec, shape: Shape, sizes: Mapping[str, int], on: str) -> str:
    """What the model says of an output's shape and is not so. sizes: of the inputs' open dimensions, by name."""
    stated = [sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in spec.shape]
    fits = len(stated) == len(shape) and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(stated, shape, strict=True)
    )
    return "" if fits or not stated else f"the export states the output {spec}, but it is {by(shape)} {on}."


def _sizes(inputs: Sequence[TensorSpec], shapes: Mapping[str, Shape]) -> dict[str, int]:
    return {
        dim: size
        for spec in inputs
        for dim, size in zip(spec.shape, shapes.get(spec.name, ()), strict=False)
        if isinstance(dim, str)
    }


def by(shape: Shape) -> str:
    """(1, 3, 64) -> '1x3x64', () -> 'scalar'."""
    return "x".join(map(str, shape)) or "scalar"
