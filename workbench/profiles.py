"""Optimization profiles: written as text, proposed for a model, and checked against it in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workbench.errors import ShapeError
from workbench.types import BOUNDS, Dim, OptimizationProfile, Shape, ShapeRange, TensorSpec

LARGEST = 2**31 - 1


@dataclass(frozen=True)
class ProfileProblem:
    """What is wrong with one input's range. axis is None when the whole shape is meant."""

    input: str
    axis: int | None
    text: str


@dataclass(frozen=True)
class OpenDimension:
    """An open dimension wherever it occurs: `places` are (input, axis). Equal names are one dimension.

    key: its name, or 'input:axis' where it has none.
    """

    key: str
    name: str | None
    places: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return self.name or f"{self.places[0][0]}, axis {self.places[0][1]}"


def open_dimensions(inputs: Iterable[TensorSpec]) -> tuple[OpenDimension, ...]:
    """The open dimensions of the inputs in order of appearance."""
    places: dict[str, list[tuple[str, int]]] = {}
    names: dict[str, str | None] = {}
    for spec in inputs:
        for axis in spec.open_axes:
            dim = spec.shape[axis]
            name = dim if isinstance(dim, str) else None
            key = name or f"{spec.name}:{axis}"
            names[key] = name
            places.setdefault(key, []).append((spec.name, axis))
    return tuple(OpenDimension(key, names[key], tuple(found)) for key, found in places.items())


def profile_of(inputs: Iterable[TensorSpec], bounds: Mapping[str, tuple[int, int, int]]) -> OptimizationProfile:
    """The profile with these (min, opt, max) for every open dimension, by its key."""
    specs = tuple(inputs)
    sizes = {place: bounds[item.key] for item in open_dimensions(specs) for place in item.places}
    ranges = {}
    for spec in specs:
        if spec.open_axes:
            axes = [
                (dim, dim, dim) if isinstance(dim, int) else sizes[spec.name, axis]
                for axis, dim in enumerate(spec.shape)
            ]
            low, best, high = (tuple(axis[index] for axis in axes) for index in range(3))
            ranges[spec.name] = ShapeRange(low, best, high)
    return OptimizationProfile(ranges)


def parse_shapes(texts: Iterable[str]) -> OptimizationProfile:
    """`['input:1x3x64x64,4x3x224x224,16x3x640x640']` -> a profile: min, opt, max; one shape means all three.

    `size:[64x64],[320x320],[640x640]` is the content of an input that holds sizes, flattened; such an input may be
    given twice, with its shape and with its content. An input's name may hold colons: the last one counts.
    Raises ShapeError naming the text at fault.
    """
    ranges: dict[str, ShapeRange] = {}
    values: dict[str, ShapeRange] = {}
    for text in texts:
        name, colon, shapes = text.rpartition(":")
        if not colon or not name:
            raise ShapeError(
                f"shapes {text!r}: write NAME:MIN,OPT,MAX such as image:1x3x64x64,4x3x224x224,8x3x640x640."
            )
        parts = shapes.split(",")
        if len(parts) not in (1, 3):
            raise ShapeError(f"shapes {text!r}: give one shape, or three with commas: MIN,OPT,MAX.")
        found, read = (values, _content) if _is_content(text) else (ranges, _shape)
        if name in found:
            raise ShapeError(f"shapes {text!r}: input {name} is given twice.")
        bounds = [read(part, text) for part in parts]
        found[name] = ShapeRange(*(bounds * 3 if len(bounds) == 1 else bounds))
    return OptimizationProfile(ranges, values)


def parse_profiles(texts: Iterable[str]) -> tuple[OptimizationProfile, ...]:
    """As parse_shapes for any number of profiles: an input that comes again starts the next one."""
    groups: list[list[str]] = []
    given: set[tuple[str, bool]] = set()
    for text in texts:
        item = (text.rpartition(":")[0], _is_content(text))
        if not groups or item in given:
            groups.append([])
            given = set()
        groups[-1].append(text)
        given.add(item)
    return tuple(parse_shapes(group) for group in groups)


def format_shapes(profile: OptimizationProfile) -> list[str]:
    """The inverse of parse_shapes."""
    shapes = [f"{name}:{_bounds_text(item, '{}', 'scalar')}" for name, item in profile.ranges.items()]
    return shapes + [f"{name}:{_bounds_text(item, '[{}]', '')}" for name, item in profile.values.items()]


def _bounds_text(item: ShapeRange, form: str, empty: str) -> str:
    bounds = [item.opt] if item.min == item.opt == item.max else [item.min, item.opt, item.max]
    return ",".join(form.format("x".join(map(str, sizes)) or empty) for sizes in bounds)


def default_profile(inputs: Iterable[TensorSpec]) -> OptimizationProfile:
    """A first proposal for every input with open dimensions.

    Batch 1, 1, 8; height and width of pictures 1, 640, 1280, as Paddle-TRT proposes; sequence length 1, 128, 512.
    Fixed dimensions are kept.
    """
    specs = tuple(inputs)
    by_name = {spec.name: spec for spec in specs}
    bounds = {item.key: _guess(by_name[item.places[0][0]], item.places[0][1]) for item in open_dimensions(specs)}
    return profile_of(specs, bounds)


def profile_problems(inputs: Iterable[TensorSpec], profile: OptimizationProfile) -> tuple[ProfileProblem, ...]:
    """Everything that keeps a profile from fitting the inputs; empty when it fits."""
    specs = {spec.name: spec for spec in inputs}
    problems = [
        ProfileProblem(name, None, f"the model has no input {name}; its inputs are {', '.join(specs) or 'none'}")
        for name in dict.fromkeys((*profile.ranges, *profile.values))
        if name not in specs
    ]
    named: dict[str, tuple[str, int, tuple[int, int, int]]] = {}
    for spec in specs.values():
        item = profile.ranges.get(spec.name)
        if item is None:
            if spec.open_axes:
                problems.append(ProfileProblem(spec.name, None, f"{spec} has open dimensions: give min, opt and max"))
            continue
        ranks = {len(shape) for shape in (item.min, item.opt, item.max)}
        if ranks != {len(spec.shape)}:
            problems.append(
                ProfileProblem(spec.name, None, f"{spec} has {len(spec.shape)} dimensions, not {_ranks(ranks)}")
            )
            continue
        for axis, dim in enumerate(spec.shape):
            bounds = (item.min[axis], item.opt[axis], item.max[axis])
            text = _axis_problem(dim, bounds) or _name_problem(named, dim, spec.name, axis, bounds)
            if text:
                problems.append(ProfileProblem(spec.name, axis, text))
    for name, item in profile.values.items():
        text = _content_problem(specs[name], item, profile.ranges.get(name)) if name in specs else ""
        if text:
            problems.append(ProfileProblem(name, None, text))
    return tuple(problems)


def check_profile(inputs: Iterable[TensorSpec], profile: OptimizationProfile) -> None:
    """Raise ShapeError with the first problem, if there is one."""
    problems = profile_problems(inputs, profile)
    if problems:
        first = problems[0]
        axis = "" if first.axis is None else f", dimension {first.axis}"
        others = len(problems) - 1
        more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
        raise ShapeError(f"profile of input {first.input}{axis}: {first.text}{more}.")


def _shape(part: str, text: str) -> Shape:
    part = part.strip().lower()
    if part == "scalar":
        return ()
    try:
        return tuple(int(size) for size in part.split("x"))
    except ValueError as error:
        raise ShapeError(
            f"shapes {text!r}: {part!r} is not a shape; write sizes joined by x, such as 1x3x224x224."
        ) from error


def _is_content(text: str) -> bool:
    return text.rpartition(":")[2].lstrip().startswith("[")


def _content(part: str, text: str) -> Shape:
    """'[64x64]' -> (64, 64); '[]' is an empty input."""
    part = part.strip().lower()
    inner = part[1:-1]
    try:
        if part[:1] + part[-1:] != "[]":
            raise ValueError
        return tuple(int(value) for value in inner.split("x")) if inner else ()
    except ValueError as error:
        raise ShapeError(
            f"shapes {text!r}: {part!r} is no content; write values joined by x in brackets, such as [640x480]."
        ) from error


def _guess(spec: TensorSpec, axis: int) -> tuple[int, int, int]:
    dim = spec.shape[axis]
    if axis == 0 or (isinstance(dim, str) and "batch" in dim.lower()):
        return 1, 1, 8
    if len(spec.shape) == 4 and spec.dtype.startswith(("float", "bfloat", "uint8")):
        return 1, 640, 1280
    return 1, 128, 512


def _ranks(ranks: set[int]) -> str:
    return " or ".join(str(rank) for rank in sorted(ranks))


def _axis_problem(dim: Dim, bounds: tuple[int, int, int]) -> str | None:
    low, best, high = bounds
    if isinstance(dim, int) and set(bounds) != {dim}:
        wrong = next(size for size in bounds if size != dim)
        return f"the model fixes it to {dim}; {wrong} does not fit"
    for bound, size in zip(BOUNDS, bounds, strict=True):
        if size < 1:
            return f"{bound} is {size}; a size is at least 1"
        if size > LARGEST:
            return f"{bound} is {size:,}; TensorRT takes at most {LARGEST:,}"
    if low > best:
        return f"min {low} is larger than opt {best}"
    if best > high:
        return f"opt {best} is larger than max {high}"
    return None


def _content_problem(spec: TensorSpec, item: ShapeRange, shapes: ShapeRange | None) -> str:
    """What is wrong with the content of an input, flattened; '' where nothing is."""
    if not spec.dtype.startswith(("int", "uint")):
        return f"{spec} holds no sizes, as its values are no integers: leave its content away"
    counts = {len(getattr(item, bound)) for bound in BOUNDS}
    held = {math.prod(getattr(shapes, bound)) for bound in BOUNDS} if shapes else _count(spec)
    if len(counts) != 1 or len(held) > 1 or (held and counts != held):
        wanted = _ranks(held) if len(held) == 1 else "one number of"
        return f"{spec} holds {wanted} values; min, opt and max of its content have {_ranks(counts)}"
    for index, (low, best, high) in enumerate(zip(item.min, item.opt, item.max, strict=True)):
        if not low <= best <= high:
            return f"value {index} of its content goes from {low} over {best} to {high}; it must not fall"
    return ""


def _count(spec: TensorSpec) -> set[int]:
    """How many values it holds; empty where its size is open."""
    sizes = [dim for dim in spec.shape if isinstance(dim, int)]
    return set() if spec.open_axes else {math.prod(sizes)}


def _name_problem(
    named: dict[str, tuple[str, int, tuple[int, int, int]]],
    dim: Dim,
    name: str,
    axis: int,
    bounds: tuple[int, int, int],
) -> str | None:
    """Dimensions of one name are equal at run time, so NVIDIA's builder refuses different ranges for them."""
    if not isinstance(dim, str):
        return None
    first = named.setdefault(dim, (name, axis, bounds))
    if first[2] == bounds:
        return None
    other = f"dimension {first[1]} of {first[0]}"
    return (
        f"it is called {dim!r} like {other}, so both need the same range "
        f"({_range(first[2])} there, {_range(bounds)} here); to part them, rename one: --dim {name}:{axis}=another"
    )


def _range(bounds: tuple[int, int, int]) -> str:
    return ", ".join(map(str, bounds))


def opt_shapes(inputs: Iterable[TensorSpec], profiles: tuple[OptimizationProfile, ...]) -> Mapping[str, Shape]:
    """A shape for every input: the first profile's opt, or the proposal's where there is none."""
    given: dict[str, ShapeRange] = dict(profiles[0].ranges) if profiles else {}
    specs = tuple(inputs)
    proposed = default_profile(specs).ranges
    shapes: dict[str, Shape] = {}
    for spec in specs:
        item = given.get(spec.name) or proposed.get(spec.name)
        shapes[spec.name] = item.opt if item else tuple(int(dim) for dim in spec.shape if isinstance(dim, int))
    return shapes


def opt_values(profiles: tuple[OptimizationProfile, ...]) -> Mapping[str, Shape]:
    """The content, flattened, of the inputs that hold sizes: the first profile's opt; empty where there is none."""
    return {name: item.opt for name, item in profiles[0].values.items()} if profiles else {}
