"""RangeState: the tensors of a collection, sorted and searched, and the algorithm that is chosen for each."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from traitlets import Bool, Dict, HasTraits, Instance, Int, Unicode, observe

from workbench.calibration.collection import Collection
from workbench.calibration.table import CalibrationTable
from workbench.calibration.thresholds import COMPUTED
from workbench.errors import ConfigError
from workbench.model import Model
from workbench.widgets.jobs import Job
from workbench.widgets.tensor_ranges import TensorRanges, TensorRow, Threshold

ORDERS = {"model": "the model's order", "clipped": "most clipped first", "error": "largest error first"}
PAGE = 50
_AT_ONCE = 20
_MEASURES = {"clipped": lambda row: -row.chosen.clipped, "error": lambda row: -row.chosen.error}


class RangeState(HasTraits):
    """Rows of the whole collection are found in the background; `found` counts them."""

    collection = Instance(Collection, allow_none=True)
    algorithm = Unicode("entropy")
    overrides = Dict(help="tensor -> its own algorithm")
    order = Unicode("model")
    words = Unicode(help="what the names, nodes or operators must hold")
    page = Int(0)
    selected = Unicode(help="a tensor")
    log_counts = Bool(True)
    log_values = Bool(False)
    found = Int(0, help="how many tensors have the chosen algorithm's range already")

    def __init__(self) -> None:
        super().__init__()
        self.model: Model | None = None
        self._ranges: TensorRanges | None = None
        self._job: Job | None = None
        self._given_up = threading.Event()

    def take(self, collection: Collection | None, model: Model | None) -> None:
        """Look at another collection, or at none."""
        self._stop()
        self.model = model
        self._ranges = TensorRanges(collection, model) if collection is not None and model is not None else None
        with self.hold_trait_notifications():
            self.overrides, self.page, self.words = {}, 0, ""
            self.selected = collection.tensors[0] if collection is not None and collection.tensors else ""
            self.collection = collection
        self._find()

    @property
    def tensors(self) -> tuple[str, ...]:
        return self.collection.tensors if self.collection is not None else ()

    @property
    def is_complete(self) -> bool:
        return self.found == len(self.tensors)

    def algorithm_of(self, tensor: str) -> str:
        return str(self.overrides.get(tensor, self.algorithm))

    def choose(self, algorithm: str) -> None:
        """For all tensors but those with one of their own. Raises ConfigError."""
        self.algorithm = _known(algorithm)

    def override(self, tensor: str, algorithm: str) -> None:
        """For this tensor alone; the algorithm of all the others takes it back. Raises ConfigError."""
        if tensor not in self.tensors:
            raise ConfigError(f"{tensor}: no tensor of this name was collected.")
        others = {name: value for name, value in self.overrides.items() if name != tensor}
        self.overrides = others if _known(algorithm) == self.algorithm else {**others, tensor: algorithm}

    def reset(self) -> None:
        """The same algorithm for all."""
        self.overrides = {}

    def rows(self) -> list[TensorRow]:
        """Those of the page. As long as not all are found, in the model's order."""
        start = self.page * PAGE
        return [self._row(name) for name in self._ordered()[start : start + PAGE]]

    @property
    def matching(self) -> int:
        """How many tensors hold the words."""
        return len(self._filtered())

    @property
    def pages(self) -> int:
        return max(1, -(-self.matching // PAGE))

    def turn(self, pages: int) -> None:
        self.page = min(max(self.page + pages, 0), self.pages - 1)

    def thresholds(self) -> tuple[Threshold, ...]:
        """Every algorithm's for the selected tensor."""
        return self._ranges.thresholds(self.selected) if self._ranges and self.selected else ()

    def row(self) -> TensorRow | None:
        """The selected tensor's."""
        return self._row(self.selected) if self._ranges and self.selected else None

    def table(self) -> CalibrationTable:
        """What is chosen, for writing; finds what is not found yet. Raises ConfigError where nothing was collected."""
        if self._ranges is None:
            raise ConfigError("nothing was collected yet: collect first, or open a collection.")
        return self._ranges.table(self.algorithm, self.overrides)

    @property
    def choice(self) -> tuple[str, Mapping[str, str]]:
        """Equal for equal tables of the same collection."""
        return self.algorithm, dict(self.overrides)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until all ranges are found; False if they are not within timeout_s."""
        return self._job is None or self._job.wait(timeout_s)

    def _row(self, tensor: str) -> TensorRow:
        assert self._ranges is not None
        return self._ranges.row(tensor, self.algorithm_of(tensor))

    def _filtered(self) -> list[str]:
        words, ranges = self.words.lower().split(), self._ranges
        if ranges is None or not words:
            return list(self.tensors)
        return [name for name in self.tensors if all(word in ranges.words(name) for word in words)]

    def _ordered(self) -> list[str]:
        names, measure = self._filtered(), _MEASURES.get(self.order)
        if measure is None or not self.is_complete:
            return names
        return sorted(names, key=lambda name: measure(self._row(name)))

    @observe("words", "order")
    def _back_to_the_start(self, change: Any) -> None:
        self.page = 0

    @observe("algorithm", "overrides")
    def _chosen(self, change: Any) -> None:
        self._find()

    def _stop(self) -> None:
        self._given_up.set()
        self._given_up, self._job = threading.Event(), None

    def _find(self) -> None:
        """Every tensor's range: a few at once, many in the background."""
        self._stop()
        ranges, overrides = self._ranges, self.overrides
        wanted = [(name, overrides.get(name, self.algorithm)) for name in self.tensors] if ranges else []
        missing = [pair for pair in wanted if ranges is not None and not ranges.is_known(*pair)]
        if ranges is not None and len(missing) <= _AT_ONCE:
            for pair in missing:
                ranges.row(*pair)
            missing = []
        self.found = len(wanted) - len(missing)
        if ranges is not None and missing:
            self._job = self._background(ranges, missing, self._given_up)

    def _background(self, ranges: TensorRanges, missing: list[tuple[str, str]], given_up: threading.Event) -> Job:
        done = [len(self.tensors) - len(missing)]

        def work(cancel: threading.Event) -> None:
            for pair in missing:
                if given_up.is_set():
                    return
                ranges.row(*pair)
                done[0] += 1

        def tick() -> None:
            if not given_up.is_set():
                self.found = done[0]

        return Job(work, tick)


def _known(algorithm: str) -> str:
    if algorithm not in COMPUTED:
        raise ConfigError(f"a collection serves no algorithm {algorithm!r}; choose one of {', '.join(COMPUTED)}.")
    return algorithm
