"""When have ranges settled? When more samples have stopped to change them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from workbench.calibration.histograms import Counter
from workbench.calibration.thresholds import threshold
from workbench.types import count_of

_LEAST, _STEP, _WINDOW, _GROWTH = 128, 32, 64, 0.02


class Settling:
    """Looks every 32 samples, from 128 on: settled is what in the last 64 grew by 2 % at most, in its largest
    magnitude and in its 99.99th percentile, for every tensor. `words` tells what was found."""

    words = ""

    def __init__(self) -> None:
        self._seen: list[tuple[int, np.ndarray]] = []

    def look(self, done: int, counters: Mapping[str, Counter]) -> bool:
        """done: samples so far."""
        if self._seen and done < self._seen[-1][0] + _STEP:
            return False
        histograms = [counter.histogram() for counter in counters.values()]
        ranges = np.array([(item.amax, threshold(item, "percentile")) for item in histograms])
        self._seen.append((done, ranges))
        earlier = [seen for count, seen in self._seen if count <= done - _WINDOW]
        if done < _LEAST or not earlier or (np.abs(ranges - earlier[-1]) > _GROWTH * earlier[-1]).any():
            return False
        self.words = (
            f"Ranges have settled after {count_of(done, 'sample')}: in the last {_WINDOW} none of "
            f"{count_of(len(ranges), 'tensor')} changed by more than {_GROWTH:.0%}"
        )
        return True
