"""What each subgraph's engine is built for: the sizes of the tensors at its border."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

from onnx import ValueInfoProto

from workbench import backends
from workbench.errors import ShapeError, ShapesNotSet
from workbench.hybrid.probe import shape_tensors
from workbench.hybrid.shapes import CollectedShapes, profile_for
from workbench.model import Model
from workbench.profiles import BOUNDS
from workbench.shape_arithmetic import values_from_shapes
from workbench.subgraphs import Part, Partition
from workbench.tensor_shapes import TensorShape
from workbench.tensor_types import find_types, type_proto
from workbench.types import BuildConfig, OptimizationProfile, Shape, ShapeRange


def part_configs(
    partition: Partition, config: BuildConfig, collected: CollectedShapes | None = None
) -> tuple[tuple[Part, BuildConfig], ...]:
    """Every engine's part, its inputs with ranks and fixed lengths as they are known now, and what it is built with.

    For each of the configuration's profiles, sizes at the border are those that follow from it; those that do not are
    taken from what was collected, and all are where the configuration has no profile. With neither, the profile is
    the one that the back end proposes for the whole model.

    Raises ShapesNotSet naming subgraph and tensors where nothing tells, ConfigError and ShapeError as the back end
    does for the whole model.
    """
    module = backends.load(partition.backend)
    resolved = module.resolve(partition.model, config)
    if module.support().takes_any_shape:
        return tuple((part, replace(config, profiles=())) for part in partition.engines)
    sources: tuple[_Followed | None, ...]
    if collected is not None and not config.profiles:
        sources = (None,)
    else:
        profiles = resolved.profiles or (OptimizationProfile({}),)
        sources = tuple(_Followed(partition.model, profile) for profile in profiles)
    types = cache(partial(find_types, partition.model))
    holders = (_holders(part, partition.model, types) for part in partition.engines)
    wanted = zip(partition.engines, holders, strict=True)
    return tuple(_part_config(part, config, sorted(names), sources, collected) for part, names in wanted)


def _part_config(
    part: Part,
    config: BuildConfig,
    holders: Sequence[str],
    sources: Iterable[_Followed | None],
    collected: CollectedShapes | None,
) -> tuple[Part, BuildConfig]:
    """holders: its inputs that hold sizes."""
    is_open = [tensor.name for tensor in part.inputs if _sizes(tensor) is None and tensor.name not in holders]
    if not is_open and not holders:
        return part, replace(config, profiles=())
    seen = OptimizationProfile({}) if collected is None else profile_for(collected, part)
    profiles = []
    for source in sources:
        ranges, values = dict(seen.ranges), dict(seen.values)
        if source is not None:
            ranges |= source.ranges(is_open)
            values |= source.values(holders)
        missing = [name for name in is_open if name not in ranges] + [name for name in holders if name not in values]
        if missing:
            raise _not_set(part, missing, is_collected=collected is not None)
        profiles.append(
            OptimizationProfile({name: ranges[name] for name in is_open}, {name: values[name] for name in holders})
        )
    return replace(part, inputs=_settled(part, profiles)), replace(config, profiles=tuple(profiles))


def other_opt(config: BuildConfig, collected: CollectedShapes) -> str:
    """What to do about samples that are not of the profiles' opt, as both may stand in one profile of a subgraph; empty
    where they agree."""
    for name, item in (pair for profile in config.profiles for pair in profile.ranges.items()):
        typical = collected.ranges[name].opt if name in collected.ranges else item.opt
        if typical != item.opt:
            sizes = ["x".join(map(str, shape)) for shape in (item.opt, typical)]
            return (
                f"Input {name} is {sizes[0]} at the profile's opt and {sizes[1]} in the typical sample: collect with "
                "more samples of the profile's opt, or leave the profile out, and all sizes come from the samples."
            )
    return ""


def _settled(part: Part, profiles: Sequence[OptimizationProfile]) -> tuple[TensorShape, ...]:
    """The inputs as NVIDIA's parser wants them: it must know how many sizes a shape tensor holds, and takes dimensions
    of one name for equal, although samples showed some that are not."""
    inputs = []
    apart = {name for profile in profiles for name in _unequal(part, profile)}
    for tensor in part.inputs:
        shape = tensor.shape
        if shape and tensor.name in profiles[0].values:
            shape = (len(profiles[0].values[tensor.name].opt),)
        elif shape:
            shape = tuple(None if dim in apart else dim for dim in shape)
        inputs.append(replace(tensor, shape=shape))
    return tuple(inputs)


def _unequal(part: Part, profile: OptimizationProfile) -> Iterator[str]:
    """Names of dimensions that have different ranges."""
    seen: dict[str, tuple[int, ...]] = {}
    for tensor in part.inputs:
        item = profile.ranges.get(tensor.name)
        if item is not None and tensor.shape is not None:
            for dim, *sizes in zip(tensor.shape, item.min, item.opt, item.max, strict=True):
                if isinstance(dim, str) and seen.setdefault(dim, tuple(sizes)) != tuple(sizes):
                    yield dim


def _not_set(part: Part, tensors: list[str], *, is_collected: bool) -> ShapesNotSet:
    why, remedy = "whose sizes do not follow from the model's inputs", "collect shapes, or "
    if is_collected:
        why, remedy = "whose sizes the samples do not tell, as their number is not always the same", ""
    shown = ", ".join(tensors[:5]) + (f" and {len(tensors) - 5} more" if len(tensors) > 5 else "")
    skip_at = len(part.nodes) + 1
    return ShapesNotSet(
        f"some trt inputs dynamic shape info not set: subgraph {part.id} reads {shown}, {why}; "
        f"{remedy}raise min_subgraph_size to {skip_at}, which leaves it native.",
        subgraph=part.id,
        tensors=tuple(tensors),
        skip_at=skip_at,
    )


def _holders(part: Part, model: Model, types: Callable[[], Mapping[str, TensorShape]]) -> frozenset[str]:
    """Which inputs of a part hold sizes; the types of the model's tensors are asked for only if one may."""
    may = frozenset(tensor.name for tensor in part.inputs if tensor.dtype in ("int32", "int64"))
    names = set(part.nodes)
    return may & shape_tensors((node for node in model.nodes if node.name in names), types()) if may else may


@dataclass(frozen=True)
class _Followed:
    """What follows from one profile of the model's inputs, at each of its bounds."""

    model: Model
    profile: OptimizationProfile

    @cached_property
    def _tensors(self) -> tuple[Mapping[str, TensorShape], ...]:
        return tuple(self._at(bound) for bound in BOUNDS)

    def _at(self, bound: str) -> Mapping[str, TensorShape]:
        shapes: dict[str, Shape] = {}
        for spec in self.model.inputs:
            item = self.profile.ranges.get(spec.name)
            fixed = tuple(dim for dim in spec.shape if isinstance(dim, int))
            shapes[spec.name] = getattr(item, bound) if item is not None else fixed
        try:
            return find_types(self.model, shapes)
        except ShapeError as error:
            raise ShapeError(f"{bound} of the profile: {error} Give --shapes that the model takes.") from error

    def ranges(self, names: Iterable[str]) -> dict[str, ShapeRange]:
        """Without those of which not every size follows."""
        found = {name: _range([_sizes(tensors[name]) for tensors in self._tensors]) for name in names}
        return {name: item for name, item in found.items() if item is not None}

    def values(self, names: Collection[str]) -> dict[str, ShapeRange]:
        """Without those that depend on more than shapes."""
        if not names:
            return {}
        bounds = [self._values_at(tensors, names) for tensors in self._tensors]
        found = {name: _range([values.get(name) for values in bounds]) for name in names}
        given = {name: self.profile.values.get(name, item) for name, item in found.items()}
        return {name: item for name, item in given.items() if item is not None}

    def _values_at(self, tensors: Mapping[str, TensorShape], names: Collection[str]) -> dict[str, Shape]:
        known = {name: ValueInfoProto(name=name, type=type_proto(tensor)) for name, tensor in tensors.items()}
        values = values_from_shapes(self.model.proto, names, known)
        return {name: tuple(array.ravel().tolist()) for name, array in values.items()}


def _sizes(tensor: TensorShape) -> Shape | None:
    """None while one is open. NVIDIA's profiles begin at 1, also where a tensor may be empty."""
    sizes = tuple(max(dim, 1) for dim in tensor.shape or () if isinstance(dim, int))
    return sizes if tensor.shape is not None and len(sizes) == len(tensor.shape) else None


def _range(bounds: Sequence[Shape | None]) -> ShapeRange | None:
    """From entries at min, opt and max, if all are there. A size may shrink where the inputs grow."""
    low, opt, high = bounds
    if low is None or opt is None or high is None or not len(low) == len(opt) == len(high):
        return None
    return ShapeRange(tuple(map(min, low, opt, high)), opt, tuple(map(max, low, opt, high)))
