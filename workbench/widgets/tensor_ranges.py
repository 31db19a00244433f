"""What the algorithms make of a collection, tensor by tensor: each is found when it is asked for, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.calibration.collection import Collection
from workbench.calibration.table import CalibrationTable
from workbench.calibration.thresholds import COMPUTED, clipped_share, quantization_error, threshold
from workbench.model import Model, operator


@dataclass(frozen=True)
class Threshold:
    """clipped: share of the values beyond amax. error: norm of what int8 changes over the norm of the values."""

    algorithm: str
    amax: float
    clipped: float
    error: float


@dataclass(frozen=True)
class TensorRow:
    """A tensor, who makes it (node '' for an input), its values, and the threshold that was chosen."""

    tensor: str
    op_type: str
    node: str
    minimum: float
    maximum: float
    not_finite: int
    chosen: Threshold


class TensorRanges:
    """Safe to be asked by several threads; what two find at once is found twice and the same."""

    def __init__(self, collection: Collection, model: Model) -> None:
        self.collection = collection
        makers = {name: node for node in model.nodes for name in node.output}
        self._makers = {
            name: (operator(makers[name]), makers[name].name) if name in makers else ("input", "")
            for name in collection.tensors
        }
        self._known: dict[tuple[str, str], TensorRow] = {}

    def row(self, tensor: str, algorithm: str) -> TensorRow:
        key = (tensor, algorithm)
        if key not in self._known:
            histogram = self.collection.histogram(tensor)
            amax = threshold(histogram, algorithm)
            clipped = clipped_share(histogram, amax) if amax < histogram.amax else 0.0
            chosen = Threshold(algorithm, amax, clipped, quantization_error(histogram, amax))
            self._known[key] = TensorRow(
                tensor, *self._makers[tensor], histogram.minimum, histogram.maximum, histogram.not_finite, chosen
            )
        return self._known[key]

    def thresholds(self, tensor: str) -> tuple[Threshold, ...]:
        """Every algorithm's."""
        return tuple(self.row(tensor, algorithm).chosen for algorithm in COMPUTED)

    def is_known(self, tensor: str, algorithm: str) -> bool:
        return (tensor, algorithm) in self._known

    def words(self, tensor: str) -> str:
        """What a search looks at."""
        return " ".join((tensor, *self._makers[tensor])).lower()

    def table(self, algorithm: str, overrides: Mapping[str, str]) -> CalibrationTable:
        """As calibration.thresholds.thresholds."""
        rows = (self.row(name, overrides.get(name, algorithm)) for name in self.collection.tensors)
        return CalibrationTable({row.tensor: row.chosen.amax for row in rows}, algorithm)
