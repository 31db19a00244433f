"""Which input shapes a model is asked for, and how often: in memory, or read from a log.

`lines` tells the forms of a log. Empty lines and those that begin with # are passed over; inputs of fixed shape
may be left away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from workbench.errors import ConfigError, ShapeError
from workbench.profiles import LARGEST
from workbench.traffic.lines import FORMS, REMEMBERED, Read, reader
from workbench.types import Shape, TensorSpec

_Key = tuple[Shape, ...]
"""The shapes of one request, in the order of the inputs with open dimensions."""


@dataclass(frozen=True)
class Request:
    """shapes: of every input with open dimensions. count: how often they came."""

    shapes: Mapping[str, Shape]
    count: int


@dataclass(frozen=True)
class Traffic:
    """The distinct requests, the most frequent first. Inputs of fixed shape are left out."""

    requests: tuple[Request, ...]

    @classmethod
    def from_shapes(
        cls,
        shapes: Iterable[Mapping[str, Sequence[int]]],
        inputs: Iterable[TensorSpec],
        counts: Iterable[int] | None = None,
    ) -> Traffic:
        """Shapes by input name, one mapping for each request, in memory or from a generator.

        counts: how often each came (default: once). Raises ShapeError for shapes that the inputs do not take,
        ConfigError for a count below 1 or where there is no request.
        """
        specs = tuple(inputs)
        tally: Counter[_Key] = Counter()
        if counts is None:
            for given in shapes:
                tally[_key(given, specs)] += 1
        else:
            for given, count in zip(shapes, counts, strict=True):
                tally[_key(given, specs)] += _count(count)
        if not tally:
            raise ConfigError("there is no request: give the shapes of one at least.")
        return _traffic(tally, specs)

    @cached_property
    def total(self) -> int:
        return sum(item.count for item in self.requests)


def read_traffic(path: str | Path, inputs: Iterable[TensorSpec]) -> Traffic:
    """The requests in a log, in one pass that keeps the distinct ones only.

    Raises ConfigError for a file or line that cannot be read, ShapeError for a shape that the inputs do not take; both
    name file and line.
    """
    specs = tuple(inputs)
    tally: Counter[_Key] = Counter()
    _open_inputs(specs)
    try:
        with open(path, encoding="utf-8-sig") as file:
            for key, count in _entries(file, path, specs):
                tally[key] += count
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}. Name a log of input shapes.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no text in UTF-8 ({error.reason}). {FORMS}") from error
    if not tally:
        raise ConfigError(f"{path}: holds no request. {FORMS}")
    return _traffic(tally, specs)


def _traffic(tally: Counter[_Key], specs: tuple[TensorSpec, ...]) -> Traffic:
    names = [spec.name for spec in _open_inputs(specs)]
    ordered = sorted(tally.items(), key=lambda item: (-item[1], item[0]))
    return Traffic(tuple(Request(dict(zip(names, key, strict=True)), count) for key, count in ordered))


def _open_inputs(specs: tuple[TensorSpec, ...]) -> list[TensorSpec]:
    """Raises ShapeError where there is none."""
    found = [spec for spec in specs if spec.open_axes]
    if not found:
        given = ", ".join(map(str, specs)) or "none"
        raise ShapeError(
            f"no input of the model has an open dimension ({given}), so it needs no optimization profile; "
            "to open one: --dim INPUT:AXIS=NAME."
        )
    return found


# ---- one request


def _count(count: int) -> int:
    if (type(count) is not int and not isinstance(count, np.integer)) or count < 1:
        raise ConfigError(f"count {count!r}: how often a request came is a whole number, 1 or more.")
    return int(count)


def _key(given: Mapping[str, Sequence[int]], specs: tuple[TensorSpec, ...]) -> _Key:
    """Raises ShapeError, naming input and dimension."""
    unknown = given.keys() - {spec.name for spec in specs}
    if unknown:
        names = ", ".join(spec.name for spec in specs)
        raise ShapeError(f"the model has no input {min(unknown)}; its inputs are {names}.")
    named: dict[str, tuple[str, int]] = {}
    for spec in specs:
        if spec.name in given:
            _check(spec, given[spec.name], named)
        elif spec.open_axes:
            raise ShapeError(f"there is no shape for input {spec}, whose dimensions are open: give one.")
    return tuple(tuple(map(int, given[spec.name])) for spec in _open_inputs(specs))


def _check(spec: TensorSpec, shape: Sequence[int], named: dict[str, tuple[str, int]]) -> None:
    """named: the sizes that names of dimensions stand for so far in this request, and where they came first."""
    if len(shape) != len(spec.shape):
        raise ShapeError(f"input {spec} has {len(spec.shape)} dimensions, not {len(shape)}.")
    for axis, (dim, size) in enumerate(zip(spec.shape, shape, strict=True)):
        where = f"input {spec.name}, dimension {axis}"
        if type(size) is not int and not isinstance(size, np.integer):
            raise ShapeError(f"{where}: {size!r} is no size; write a whole number.")
        if isinstance(dim, int) and size != dim:
            raise ShapeError(f"{where}: the model fixes it to {dim}; {size} does not fit.")
        if size < 1:
            raise ShapeError(f"{where} is {size}; a size is at least 1.")
        if size > LARGEST:
            raise ShapeError(f"{where} is {size:,}; TensorRT takes at most {LARGEST:,}.")
        if isinstance(dim, str):
            place, first = named.setdefault(dim, (where, size))
            if first != size:
                raise ShapeError(
                    f"{where} is {size}, but {place} is {first}, and the model calls both {dim!r}: equal names mean "
                    f"equal sizes; to part them, rename one: --dim {spec.name}:{axis}=another."
                )


# ---- a log


def _entries(file: Iterable[str], path: str | Path, specs: tuple[TensorSpec, ...]) -> Iterator[tuple[_Key, int]]:
    """The request and the count of every line. Raises ConfigError and ShapeError, naming the line."""
    checked = lru_cache(REMEMBERED)(lambda shapes: _key(dict(shapes), specs))
    names = [spec.name for spec in specs]
    read: Read | None = None
    for number, line in enumerate(file, 1):
        text = line.strip()
        if not text or text[0] == "#":
            continue
        try:
            if read is None:
                read, is_header = reader(text, names)
                if is_header:
                    continue
            shapes, count = read(text)
            key = checked(shapes)
        except (ConfigError, ShapeError) as error:
            raise type(error)(f"{path}, line {number}: {error}") from error
        yield key, count
