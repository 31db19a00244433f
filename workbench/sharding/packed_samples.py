"""Some samples of a data set in one file, for machines that do not have the data set.

The file is a zip archive without compression: `samples.json` tells the samples in their order, the members 0, 1, ...
hold the arrays of a sample, one after the other, as they lie in memory.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from workbench.calibration.sample import Sample, Samples, Skipped, read_samples
from workbench.errors import ConfigError, FeedError
from workbench.preprocessing import Preprocessing, preprocessing_from_json, preprocessing_to_json

FORMAT = 1
_ABOUT = "samples.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DAMAGE = (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, EOFError, RuntimeError)


@dataclass(frozen=True)
class Packed:
    """What was packed: the file, the number of samples in it, and those that were left out."""

    path: Path
    count: int
    skipped: tuple[Skipped, ...]


def pack_samples(samples: Samples, indices: Iterable[int], path: str | Path, *, strict: bool = False) -> Packed:
    """Write these samples, in this order; the file appears when it is whole.

    Broken ones are left out, or refused when strict. Raises FeedError where not one can be read, ConfigError where the
    file cannot be written.
    """
    path = Path(os.path.abspath(Path(path).expanduser()))
    skipped: list[Skipped] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".packing-") as folder:
            draft = Path(folder) / "samples"
            with draft.open("wb") as file:
                count = write_packed(file, read_samples(samples, indices, strict=strict, skipped=skipped), samples)
            os.replace(draft, path)
    except OSError as error:
        raise ConfigError(f"{path}: the samples cannot be written ({error.strerror}).") from error
    return Packed(path, count, tuple(skipped))


def write_packed(file: IO[bytes], packed: Iterable[Sample], like: Samples) -> int:
    """Write samples, and return their number. like: tells what they are. Raises FeedError for texts, which have no
    fixed size."""
    rows = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number, sample in enumerate(packed):
            arrays = {name: np.asarray(array) for name, array in sample.feeds.items()}
            for name, array in arrays.items():
                if array.dtype.kind in "OSU":
                    raise FeedError(f"{sample.id}: input {name} is text, which cannot be packed.")
            content = b"".join(array.tobytes() for array in arrays.values())
            archive.writestr(zipfile.ZipInfo(str(number), _EPOCH), content)
            feeds = {name: [array.dtype.name, list(array.shape)] for name, array in arrays.items()}
            rows.append({"id": sample.id, "label": sample.label, "digest": sample.digest, "feeds": feeds})
        how = like.preprocessing
        about = {"format": FORMAT, "about": like.about, "has_labels": like.has_labels, "samples": rows}
        about["preprocessing"] = preprocessing_to_json(how) if how else None
        archive.writestr(zipfile.ZipInfo(_ABOUT, _EPOCH), json.dumps(about))
    return len(rows)


@dataclass(frozen=True, eq=False)
class PackedSamples:
    """Samples of such a file; each is read when it is asked for."""

    about: str
    preprocessing: Preprocessing | None
    has_labels: bool
    rows: tuple[Mapping[str, Any], ...] = field(repr=False)
    archive: zipfile.ZipFile = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def id_of(self, index: int) -> str:
        return str(self.rows[index]["id"])

    def read(self, index: int) -> Sample:
        row = self.rows[index]
        try:
            content, start = bytearray(self.archive.read(str(index))), 0  # arrays that can be written to
            feeds = {}
            for name, (dtype, shape) in row["feeds"].items():
                count = int(np.prod(shape, dtype=np.int64))
                feeds[name] = np.frombuffer(content, np.dtype(dtype), count, start).reshape(shape)
                start += feeds[name].nbytes
        except _DAMAGE as error:
            raise FeedError(f"{row['id']}: damaged in its packed file ({error}); pack it again.") from error
        sample = Sample(self.id_of(index), feeds, row["label"])
        if sample.digest != row["digest"] or start != len(content):
            raise FeedError(f"{row['id']}: its packed values are not those that were packed; pack it again.")
        return sample


def open_packed(source: str | Path | bytes) -> PackedSamples:
    """The samples of a packed file, or of its bytes: ids, labels, digests, words and preprocessing as they were.

    Raises FeedError for what is no such file, or damaged.
    """
    name = "packed samples" if isinstance(source, bytes) else str(source)
    try:
        archive = zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)
        about = json.loads(archive.read(_ABOUT))
        if about["format"] != FORMAT:
            raise FeedError(f"{name}: samples packed by another workbench (format {about['format']}); pack them again.")
        how = about["preprocessing"]
        return PackedSamples(
            about=str(about["about"]),
            preprocessing=preprocessing_from_json(how) if how else None,
            has_labels=bool(about["has_labels"]),
            rows=tuple({**row, "feeds": dict(row["feeds"])} for row in about["samples"]),
            archive=archive,
        )
    except _DAMAGE as error:
        raise FeedError(f"{name}: no packed samples, or damaged ({error}); pack them again.") from error
