"""What every runner does with arrays: read them, check them, bring them into the type that the model takes."""

from __future__ import annotations

import importlib
import io
import json
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Arrays = dict[str, Any]
Facts = dict[str, Any]
"""What deployment.json holds."""


class Failure(Exception):
    """A sentence: what went wrong, and what to do now."""


class Model(Protocol):
    clock: str
    """What times_ms measures."""

    def run(self, feeds: Arrays) -> Arrays:
        """Arrays by input name in, arrays by output name out."""

    def times_ms(self, feeds: Arrays, count: int) -> list[float]:
        """The time of each of `count` runs, in milliseconds."""

    def __enter__(self) -> Model: ...

    def __exit__(self, *error: object) -> None: ...


def read_facts(folder: Path) -> Facts:
    try:
        return dict(json.loads((folder / "deployment.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise Failure(f"{folder / 'deployment.json'} cannot be read ({error}); copy the whole folder again.") from error


def load_package(name: str, facts: Facts) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise Failure(
            f"the Python package {name} cannot be loaded ({error}). Install it: {facts['install']}"
        ) from error


def types_of(facts: Facts, side: str) -> dict[str, str]:
    """The model's own types by name; side: 'inputs' or 'outputs'."""
    return {item["name"]: item["dtype"] for item in facts[side]}


def read_arrays(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise Failure(f"{path} cannot be read as .npz with one array per tensor ({error}).") from error


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """As numpy.savez, for any names; texts as such, and what numpy has no name for (bfloat16) as float32."""
    with zipfile.ZipFile(path, "w") as file:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, plain(array), allow_pickle=False)
            file.writestr(f"{name}.npy", content.getvalue())


def plain(array: Any) -> Any:
    kinds = {"O": np.str_, "V": np.float32}
    return np.asarray(array).astype(kinds.get(array.dtype.kind, array.dtype), copy=False)


def check_names(wanted: Iterable[str], feeds: Arrays) -> None:
    names = list(wanted)
    for name in (*names, *feeds):
        if name not in feeds or name not in names:
            what = "is missing" if name not in feeds else "does not exist"
            raise Failure(f"input {name} {what}; the model takes {', '.join(names)}.")


def fitted(name: str, array: Any, dtype: str) -> Any:
    """The array in the type that is wanted; only what loses nothing is converted, and float64 to float32."""
    array = np.asarray(array)
    if dtype == "bfloat16":
        return to_bfloat16(fitted(name, array, "float32"))
    if dtype == "object":
        return array.astype(object)
    if array.dtype.name != dtype:
        array = _converted(name, array, np.dtype(dtype))
    return np.ascontiguousarray(array).reshape(array.shape)  # the former makes a scalar one-dimensional


def _converted(name: str, array: Any, wanted: np.dtype[Any]) -> Any:
    if {array.dtype.kind, wanted.kind} <= set("iu"):
        limits = np.iinfo(wanted)
        if array.size and (array.min() < limits.min or array.max() > limits.max):
            raise Failure(f"input {name} holds values beyond {wanted.name}, in which the model computes.")
    elif (array.dtype.name, wanted.name) != ("float64", "float32"):
        found = array.dtype.name
        raise Failure(f"input {name} is {found}; it must be {wanted.name}: use .astype({wanted.name!r}).")
    return array.astype(wanted)


def host_times_ms(model: Model, feeds: Arrays, count: int) -> list[float]:
    """By the host's clock, after one run that is not counted."""
    model.run(feeds)
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        model.run(feeds)
        times.append((time.perf_counter_ns() - start) / 1e6)
    return times


def to_bfloat16(array: Any) -> Any:
    """float32 rounded to the nearest bfloat16, ties to even; the bits as uint16."""
    bits = array.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    return np.where(np.isnan(array), np.uint32(0x7FC0), rounded).astype(np.uint16)


def from_bfloat16(array: Any) -> Any:
    return (array.astype(np.uint32) << 16).view(np.float32)
