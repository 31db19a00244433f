"""Materials of a plan: ranges collected, layers put in order, samples packed; each kept in the store by its content."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from workbench.calibration.collect import collect
from workbench.calibration.collection import Collection, is_collection, load_collection, save_collection
from workbench.calibration.samples import Part, Samples, choose
from workbench.calibration.sensitivity import sensitivity
from workbench.calibration.source import TABLE, kind_of, read_ranges
from workbench.calibration.table import read_table
from workbench.errors import FeedError
from workbench.evaluation import overlap
from workbench.model import Model
from workbench.sharding.packed_samples import open_packed, pack_samples
from workbench.store import EngineStore
from workbench.tuning.space import Space
from workbench.types import Listener, LogLine, Progress

SENSITIVE = 64
Gather = Callable[[Model, Samples, Path, Listener, "threading.Event | None"], Collection]
"""Collects the ranges of all of these samples. The path is for what is half done; where that is kept, it goes on."""


def gather_here(
    model: Model, samples: Samples, partial: Path, listener: Listener, cancel: threading.Event | None
) -> Collection:
    """In this process, to the end, as all others do: the same samples give the same ranges."""
    return collect(model, samples, count=None, until_settled=False, partial=partial, listener=listener, cancel=cancel)


class Materials:
    """calibration: a file with ranges that is there already. calibrated: from so many samples ranges are collected, a
    third of few; compared: on so many others outputs are compared, None for all of them; both are spread over all.
    What is in the store from an earlier search is taken from there."""

    def __init__(
        self,
        model: Model,
        samples: Samples | None,
        calibration: str | None,
        counts: tuple[int, int | None],
        gather: Gather,
        listener: Listener,
        cancel: threading.Event | None,
    ) -> None:
        self.model, self.samples, self.given, self.gather = model, samples, calibration, gather
        self.listener, self.cancel = listener, cancel
        self.calibrated, self.compared = counts
        self.folder = EngineStore().folder / "tuning" / model.sha256[:16]

    def ranges(self, space: Space) -> tuple[Space, str | None]:
        """The space with the algorithms that the file with ranges offers, and that file; None where none is needed."""
        if not self._needs_ranges(space):
            return space, None
        if self.given is not None:
            if kind_of(self.given) == TABLE:
                own = read_table(self.given).algorithm
                space = replace(space, algorithm=(own if own in space.algorithm else space.algorithm[0],))
            return space, str(Path(self.given).absolute())
        if self.samples is None:
            return space, None
        indices, _ = self._parted()
        path = self.folder / f"{self._name('ranges', indices)}.calib"
        if not path.exists():
            partial = path.with_suffix(".part")
            found = self.gather(self.model, Part(self.samples, indices), partial, self.listener, self.cancel)
            save_collection(found, path)
            partial.unlink(missing_ok=True)
        return space, str(path)

    def order(self, space: Space, ranges: str | None) -> tuple[str, ...]:
        """The nodes that int8 harms most first; none where no layer may stay in float."""
        if ranges is None or self.samples is None or not any(space.in_float):
            return ()
        table = read_ranges(ranges, self.model, space.algorithm[0], listener=self.listener)
        _, rest = self._parted()
        indices = [rest[place] for place in choose(len(rest), SENSITIVE)]
        path = self.folder / f"{self._name('order', indices, sorted(table.amax.items()))}.json"
        try:
            return tuple(map(str, json.loads(path.read_text())))
        except (OSError, ValueError, TypeError):  # not there, or damaged
            found = sensitivity(
                self.model, table, Part(self.samples, indices), count=None, listener=self.listener, cancel=self.cancel
            )
        draft = path.with_name(f".{path.name}.{threading.get_ident()}.part")
        draft.write_text(json.dumps(found.order))
        draft.replace(path)
        return found.order

    def packed(self, ranges: str | None) -> Path:
        """The samples on which outputs are compared."""
        assert self.samples is not None
        _, rest = self._parted()
        indices = [rest[place] for place in choose(len(rest), self.compared)]
        path = self.folder / f"{self._name('samples', indices)}.samples"
        self.listener(Progress("Packing samples", 0, None))
        if not path.exists():
            pack_samples(self.samples, indices, path)
        if ranges is not None and self.given is not None and is_collection(ranges):
            kept = open_packed(path)  # without those that cannot be read
            told = [kept.read(index).digest for index in range(len(kept))]
            warning = overlap(told, list(load_collection(ranges).samples.values()))
            if warning:
                self.listener(LogLine("warning", warning))
        self.listener(Progress("Packing samples", 1, 1))
        return path

    def _needs_ranges(self, space: Space) -> bool:
        return "int8" in space.precision and not self.model.is_quantized

    def _parted(self) -> tuple[list[int], list[int]]:
        """Indices for calibration, and the others; a single sample has to serve for both. The same whether int8 is
        searched or not, so that what is measured of others counts in either search."""
        assert self.samples is not None
        total = len(self.samples)
        if self.given is not None:
            return [], list(range(total))
        own = list(choose(total, min(self.calibrated, max(1, total // 3))))
        taken = set(own)
        return own, [index for index in range(total) if index not in taken] or own

    def _name(self, what: str, indices: Sequence[int], more: object = None) -> str:
        """By the content of these samples, their names and labels."""
        whole = hashlib.sha256(json.dumps([what, more]).encode())
        for index in indices:
            whole.update(json.dumps(self._told(index)).encode())
        self.folder.mkdir(parents=True, exist_ok=True)
        return f"{what}-{whole.hexdigest()[:16]}"

    def _told(self, index: int) -> list[object]:
        assert self.samples is not None
        try:
            sample = self.samples.read(index)
        except FeedError as error:  # it is left out
            return [self.samples.id_of(index), str(error)]
        return [sample.id, sample.digest, sample.label]
