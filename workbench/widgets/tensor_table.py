"""TensorTable: one page of tensors, drawn in the browser; and how a TensorRow becomes what it draws."""

from __future__ import annotations

import anywidget
import numpy as np
from traitlets import Dict, List, Unicode

from workbench.calibration.histograms import Histogram
from workbench.widgets.browser import script
from workbench.widgets.tensor_ranges import TensorRow

_BARS = 36


class TensorTable(anywidget.AnyWidget):
    """rows: as `shown_row` makes them. order: one of range_state.ORDERS. selected: a tensor's name."""

    _esm = script("selecting", "tensors")

    rows = List(Dict()).tag(sync=True)
    order = Unicode("model").tag(sync=True)
    selected = Unicode().tag(sync=True)


def shown_row(row: TensorRow, histogram: Histogram, usual: str) -> dict[str, object]:
    """Texts of a line, and the heights of its small histogram in percent. usual: the algorithm for all tensors."""
    made_by = f"{row.op_type} {row.node}" if row.node else row.op_type
    return {
        "tensor": row.tensor,
        "made_by": made_by + (f" · {row.not_finite:,} values not finite" if row.not_finite else ""),
        "minimum": f"{row.minimum:.4g}",
        "maximum": f"{row.maximum:.4g}",
        "amax": f"{row.chosen.amax:.4g}" if row.chosen.amax else "none",
        "own": row.chosen.algorithm if row.chosen.algorithm != usual else "",
        "clipped": share(row.chosen.clipped),
        "error": share(row.chosen.error),
        "spark": small_bars(histogram),
    }


def share(value: float) -> str:
    """0.0123 -> '1.23 %'; what is little keeps two digits."""
    percent = 100 * value
    if percent == 0 or percent >= 100:
        return f"{percent:.0f} %"
    return f"{percent:.2f} %" if percent >= 0.01 else f"{percent:.1g} %"


def small_bars(histogram: Histogram) -> list[int]:
    """Heights in percent, of magnitudes from 0 to the largest; the logarithm of the counts."""
    counts = histogram.magnitudes
    used = max(min(int(histogram.amax / histogram.width) + 1, counts.size), 1)
    edges = np.linspace(0, used, min(_BARS, used) + 1).astype(int)
    sums = np.log1p(np.add.reduceat(counts[:used], edges[:-1]))
    return [round(100 * height / sums.max()) if sums.max() else 0 for height in sums.tolist()]
