"""Samples that are pictures: a folder of them, or a list of files with their classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.calibration.picture_input import decide, picture_input, to_input
from workbench.calibration.sample import LABEL_LIMIT, Sample
from workbench.errors import FeedError
from workbench.model import Model
from workbench.preprocessing import Preprocessing
from workbench.types import TensorSpec, count_of

LIST = "val_list.txt"
SUFFIXES = frozenset((
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif",
    ".tiff", ".webp",
))  # fmt: skip
_NAMED = 5


@dataclass(frozen=True, eq=False)
class PictureSamples:
    """picture: gives the file, or uint8[height, width, 3] in RGB, of an index."""

    about: str
    preprocessing: Preprocessing
    input: TensorSpec
    ids: Sequence[str]
    labels: Sequence[int] | None
    picture: Callable[[int], Path | np.ndarray]

    @property
    def has_labels(self) -> bool:
        return self.labels is not None

    def __len__(self) -> int:
        return len(self.ids)

    def id_of(self, index: int) -> str:
        return self.ids[index]

    def read(self, index: int) -> Sample:
        values = to_input(self.preprocessing, self.input, self.picture(index))
        return Sample(self.ids[index], {self.input.name: values}, self.labels[index] if self.labels else None)


@dataclass(frozen=True)
class Listing:
    """Pictures and their classes. words: what is said of the labels."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...] | None
    words: str


def pictures_of(model: Model, path: Path, stated: Preprocessing | None) -> PictureSamples:
    """The pictures below a folder, or those that a list names. Raises FeedError, ConfigError."""
    spec = picture_input(model)
    folder, listing = (path, _folder(path)) if path.is_dir() else (path.parent, read_list(path))
    how, origin = decide(model, spec, stated, (model.path.parent, folder))
    about = f"{count_of(len(listing.paths), 'picture')} of {path}, {listing.words}. {origin}"
    ids = [_relative(file, folder) for file in listing.paths]
    return PictureSamples(about, how, spec, ids, listing.labels, listing.paths.__getitem__)


def _folder(folder: Path) -> Listing:
    if (folder / LIST).is_file():
        return read_list(folder / LIST)
    paths = tuple(sorted(_walk(folder), key=lambda path: path.relative_to(folder).parts))
    if not paths:
        raise FeedError(f"{folder}: holds no pictures ({', '.join(sorted(SUFFIXES))}), nor {LIST}.")
    classes = sorted({path.relative_to(folder).parts[0] for path in paths})
    if len(classes) < 2 or any(path.parent == folder for path in paths):
        return Listing(paths, None, "without labels")
    number = {name: index for index, name in enumerate(classes)}
    labels = tuple(number[path.relative_to(folder).parts[0]] for path in paths)
    first = ", ".join(f"{index} {name}" for name, index in list(number.items())[:_NAMED])
    return Listing(paths, labels, f"labels by subfolder ({first}{', ...' if len(number) > _NAMED else ''})")


def _walk(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise FeedError(f"{error.filename}: cannot be read ({error.strerror}).") from error

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]  # such as .ipynb_checkpoints
        found += [
            Path(place, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    return found


def read_list(path: Path) -> Listing:
    """Lines 'path label', the paths seen from the list's folder, as in ImageNet's val_list.txt. Raises FeedError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FeedError(f"{path}: not a list of pictures: it is no text ({error.reason}).") from error
    except OSError as error:
        raise FeedError(f"{path}: cannot be read ({error.strerror}).") from error
    paths, labels = [], []
    for number, line in enumerate(lines, 1):
        name, _, label = line.strip().replace("\t", " ").rpartition(" ")
        if not line.strip():
            continue
        if not name or not label.isdecimal() or int(label) >= LABEL_LIMIT:
            raise FeedError(
                f"{path}, line {number}: {line[:80]!r} is not a picture's path and its label, 0 to {LABEL_LIMIT - 1:,}."
            )
        paths.append(path.parent / name.strip())
        labels.append(int(label))
    if not paths:
        raise FeedError(f"{path}: the list is empty; write lines like 'val/picture.jpg 0'.")
    return Listing(tuple(paths), tuple(labels), f"labels from {path.name}")


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
