"""How far the outputs of two engines lie apart on the same feeds, and how sure a share of pictures is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from workbench.errors import FeedError
from workbench.types import Feeds


@dataclass(frozen=True)
class Difference:
    """One output, `other` against `reference`.

    max_abs: largest absolute difference. relative: norm of the difference over the norm of the reference (0 if both
    are 0). cosine: of the flattened outputs. Equal infinities beside other values count nothing; where another value is
    not finite they are infinite, infinite and NaN.
    argmax_agreement: share of rows whose largest value is at the same place, None for outputs without rows or
    without a last axis to compare.
    """

    output: str
    max_abs: float
    relative: float
    cosine: float
    argmax_agreement: float | None


def compare_outputs(reference: Feeds, other: Feeds) -> tuple[Difference, ...]:
    """Compare outputs by name. Raises FeedError when names or shapes differ."""
    if reference.keys() != other.keys():
        raise FeedError(f"the outputs differ: {sorted(reference)} and {sorted(other)}; compare engines of one model.")
    return tuple(_difference(name, reference[name], other[name]) for name in reference)


def _difference(name: str, reference: np.ndarray, other: np.ndarray) -> Difference:
    if reference.shape != other.shape:
        raise FeedError(
            f"output {name} has the shapes {reference.shape} and {other.shape}; compare engines of one model."
        )
    left, right = reference.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    alike = np.isinf(left) & (left == right)  # masked scores
    if not alike.all():
        left, right = left[~alike], right[~alike]
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return Difference(name, math.inf, math.inf, math.nan, _agreement(reference, other))
    norm = float(np.linalg.norm(left))
    apart = float(np.linalg.norm(left - right))
    scale = norm * float(np.linalg.norm(right))
    return Difference(
        output=name,
        max_abs=float(np.max(np.abs(left - right), initial=0.0)),
        relative=0.0 if apart == 0 else (apart / norm if norm else float("inf")),
        cosine=float(left @ right) / scale if scale else float(apart == 0),
        argmax_agreement=_agreement(reference, other),
    )


def _agreement(reference: np.ndarray, other: np.ndarray) -> float | None:
    if reference.ndim < 2 or reference.shape[-1] < 2 or not reference.size:
        return None
    return float(np.mean(reference.argmax(-1) == other.argmax(-1)))


def difference_to_json(difference: Difference) -> dict[str, Any]:
    """JSON has no infinity and no NaN: null in their place."""
    return {name: finite(value) for name, value in asdict(difference).items()}


def finite(value: Any) -> Any:
    """None for infinity and NaN, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def all_finite(data: Any) -> Any:
    """As `finite`, of whatever is in a mapping or a list; a tuple becomes a list."""
    if isinstance(data, Mapping):
        return {name: all_finite(value) for name, value in data.items()}
    return [all_finite(value) for value in data] if isinstance(data, list | tuple) else finite(data)


def difference_from_json(data: Mapping[str, Any]) -> Difference:
    """The inverse of difference_to_json."""
    not_finite = {"max_abs": math.inf, "relative": math.inf, "cosine": math.nan}
    values: dict[str, Any] = {name: not_finite.get(name) if value is None else value for name, value in data.items()}
    return Difference(**values)


_NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A measured value and where the true one lies with 95 % confidence."""

    value: float
    low: float
    high: float


def percentage(count: float, total: int) -> Interval:
    """`count` of `total` in percent, with Wilson's score interval (E. B. Wilson, 1927, Journal of the American
    Statistical Association 22, 209-212)."""
    share, low, high = _wilson(count / total, total)
    return Interval(100 * share, 100 * low, 100 * high)


def percentage_lost(lost: int, gained: int, both: int, total: int) -> Interval:
    """By how many points a share of `total` pictures fell: `lost` were right before only, `gained` after only, `both`
    each time. Negative where it rose.

    The interval is Newcombe's for paired proportions, method 10 (R. G. Newcombe, 1998, Statistics in Medicine 17,
    2635-2650): Wilson's intervals of both shares, joined by their correlation.
    """
    neither = total - lost - gained - both
    before, after = _wilson((both + lost) / total, total), _wilson((both + gained) / total, total)
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    together = both * neither - lost * gained
    corrected = max(together - total / 2, 0) if together > 0 else together
    correlation = corrected / math.sqrt(margins) if margins else 0.0
    down = _joined(before[0] - before[1], after[2] - after[0], correlation)
    up = _joined(before[2] - before[0], after[0] - after[1], correlation)
    change = (lost - gained) / total
    return Interval(100 * change, 100 * (change - down), 100 * (change + up))


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0.0))


def _wilson(share: float, total: int) -> tuple[float, float, float]:
    """The share, the lower and the upper end."""
    square = _NORMAL_95**2 / total
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))
