"""A collection: what a calibration saw of every tensor, in one file that serves every algorithm and every release.

The file (`*.calib`) is a zip archive: `collection.json` tells model, data and tensors, `counts.npy` holds
int64[tensors, 2 * BINS], a row for each tensor of "histograms" in its order.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench.calibration.histograms import BINS, Histogram, merge_histograms
from workbench.errors import ConfigError
from workbench.preprocessing import Preprocessing, preprocessing_from_json, preprocessing_to_json

FORMAT = 1
SUFFIX = ".calib"
_ABOUT, _COUNTS = "collection.json", "counts.npy"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Repeated:
    """A tensor that holds another one's values, in another shape or set within limits as Relu and Clip do."""

    source: str
    low: float = -math.inf
    high: float = math.inf

    def within(self, low: float, high: float) -> Repeated:
        """The same after one more such step."""
        return Repeated(self.source, min(max(self.low, low), high), max(min(self.high, high), low))


@dataclass(frozen=True, eq=False)
class Collection:
    """histograms: by tensor, in the model's order. repeated: tensors whose values follow from another one's.

    model_name, model_sha256: what was run. data: what it was fed with, in words. samples: id -> digest of what was fed,
    ids in order. skipped: ids of samples that could not be read. settled: whether collecting ended early, because no
    range grew any more. made_with: the release that ran the model.
    """

    model_name: str
    model_sha256: str
    histograms: Mapping[str, Histogram] = field(repr=False)
    repeated: Mapping[str, Repeated] = field(default_factory=dict, repr=False)
    data: str = ""
    preprocessing: Preprocessing | None = None
    samples: Mapping[str, str] = field(default_factory=dict, repr=False)
    skipped: tuple[str, ...] = ()
    settled: bool = False
    made_with: str = ""

    @property
    def tensors(self) -> tuple[str, ...]:
        """All that have a histogram, their own or, right after it, one that follows from it."""
        found = {name: [name] for name in self.histograms}
        for name, item in self.repeated.items():
            found[item.source].append(name)
        return tuple(name for names in found.values() for name in names)

    def histogram(self, tensor: str) -> Histogram:
        if tensor in self.histograms:
            return self.histograms[tensor]
        item = self.repeated[tensor]
        return self.histograms[item.source].within(item.low, item.high)


def merge(first: Collection, second: Collection) -> Collection:
    """The collection of the samples of both, as if all had been collected at once.

    Raises ConfigError for collections of different models or preprocessings, and for samples that are in both.
    """
    if first.model_sha256 != second.model_sha256:
        raise ConfigError(
            f"collections of different models ({first.model_name}, {second.model_name}) cannot be merged; "
            "collect both with the same file."
        )
    if first.preprocessing != second.preprocessing or first.histograms.keys() != second.histograms.keys():
        raise ConfigError("the collections were made in different ways (preprocessing, tensors); collect one anew.")
    both = first.samples.items() & second.samples.items()
    if both:
        raise ConfigError(
            f"{len(both):,} of the samples are in both collections ({min(both)[0]}, ...) and would count twice; "
            "collect different ones."
        )
    samples = dict(first.samples)
    for name, digest in second.samples.items():
        samples[f"{name} ({digest})" if name in samples else name] = digest  # another file of the same name
    return replace(
        first,
        histograms={
            name: merge_histograms(first.histograms[name], second.histograms[name]) for name in first.histograms
        },
        data=" and ".join(dict.fromkeys(filter(None, (first.data, second.data)))),
        samples={name: samples[name] for name in sorted(samples)},
        skipped=tuple(sorted({*first.skipped, *second.skipped})),
        settled=first.settled or second.settled,
    )


def save_collection(collection: Collection, path: str | Path) -> Path:
    """Write it whole or not at all; the same collection gives the same bytes. Raises ConfigError."""
    path = Path(path).expanduser().absolute()
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    histograms = collection.histograms
    counts = (
        np.stack([item.counts for item in histograms.values()]) if histograms else np.zeros((0, 2 * BINS), np.int64)
    )
    array = io.BytesIO()
    np.save(array, counts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, content in ((_ABOUT, json.dumps(_about(collection), indent=1)), (_COUNTS, array.getvalue())):
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content)
        os.replace(draft, path)
    except OSError as error:
        raise ConfigError(f"{path}: the collection cannot be written ({error.strerror}).") from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def load_collection(path: str | Path) -> Collection:
    """Raises ConfigError for a file that cannot be read, is no collection, is damaged or of a newer workbench."""
    try:
        with zipfile.ZipFile(Path(path).expanduser()) as archive:
            about = json.loads(archive.read(_ABOUT))
            if about["format"] != FORMAT:
                raise ConfigError(
                    f"{path}: a collection of another workbench (format {about['format']}); collect anew."
                )
            counts = np.load(io.BytesIO(archive.read(_COUNTS)), allow_pickle=False)
        return _collection(about, counts)
    except OSError as error:
        raise ConfigError(f"{path}: the collection cannot be read ({error.strerror or error}).") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        NotImplementedError,
    ) as error:
        raise ConfigError(f"{path}: no collection of activations, or damaged ({error}); collect again.") from error


def is_collection(path: str | Path) -> bool:
    """Whether the file calls itself one; False for any other and for one that cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _ABOUT in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _about(collection: Collection) -> dict[str, Any]:
    preprocessing = collection.preprocessing
    return {
        "format": FORMAT,
        "model": {"name": collection.model_name, "sha256": collection.model_sha256},
        "data": collection.data,
        "preprocessing": preprocessing_to_json(preprocessing) if preprocessing else None,
        "samples": dict(collection.samples),
        "skipped": list(collection.skipped),
        "settled": collection.settled,
        "made_with": collection.made_with,
        "repeated": {
            name: [item.source, *(None if math.isinf(limit) else limit for limit in (item.low, item.high))]
            for name, item in collection.repeated.items()
        },
        "histograms": {
            name: {"exponent": item.exponent, "min": item.minimum, "max": item.maximum, "not_finite": item.not_finite}
            for name, item in collection.histograms.items()
        },
    }


def _collection(about: Mapping[str, Any], counts: np.ndarray) -> Collection:
    rows = about["histograms"]
    if counts.shape != (len(rows), 2 * BINS) or counts.dtype != np.int64 or (counts < 0).any():
        raise ValueError(f"{len(rows)} histograms are told, counts have the shape {counts.shape}")
    histograms = {
        name: Histogram(row, int(item["exponent"]), float(item["min"]), float(item["max"]), int(item["not_finite"]))
        for row, (name, item) in zip(counts, rows.items(), strict=True)
    }
    repeated = {
        name: Repeated(source, -math.inf if low is None else low, math.inf if high is None else high)
        for name, (source, low, high) in about["repeated"].items()
    }
    if not histograms.keys() >= {item.source for item in repeated.values()}:
        raise ValueError("a tensor repeats one that is missing")
    preprocessing = about["preprocessing"]
    return Collection(
        model_name=str(about["model"]["name"]),
        model_sha256=str(about["model"]["sha256"]),
        histograms=histograms,
        repeated=repeated,
        data=str(about["data"]),
        preprocessing=preprocessing_from_json(preprocessing) if preprocessing else None,
        samples=dict(about["samples"]),
        skipped=tuple(about["skipped"]),
        settled=bool(about["settled"]),
        made_with=str(about["made_with"]),
    )
