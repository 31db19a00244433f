"""Two engines of one model side by side: which nodes run together in one and not in the other, precision and time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from workbench.fusion.linking import KERNELS, Fusion, Group

_COUNTER = re.compile(r"(?:__mye\d+(?:_\d+)?)|_myl\d+(?:_\d+)?$")


@dataclass(frozen=True)
class Change:
    """Nodes, and the kernels that do their work before and after; both are empty where no kernel does.

    nodes: the fewest that no kernel of either engine shares with others, in the order of their first kernel.
    """

    nodes: tuple[str, ...]
    before: tuple[Group, ...]
    after: tuple[Group, ...]

    @property
    def regrouped(self) -> bool:
        """Whether the nodes are parted into kernels in another way."""
        own = set(self.nodes)
        before, after = (
            Counter(frozenset(own.intersection(group.nodes)) for group in side) for side in (self.before, self.after)
        )
        return before != after

    @property
    def precisions(self) -> tuple[str, str]:
        """Before and after, as 'fp16' or 'fp32, fp16'; '' where it is not told."""
        return _precisions(self.before), _precisions(self.after)

    @property
    def recast(self) -> bool:
        """Whether another precision is told after than before."""
        before, after = self.precisions
        return bool(before and after) and before != after

    @property
    def times_ms(self) -> tuple[float | None, float | None]:
        """Before and after, summed over the kernels; None unless all were measured."""
        return _time(self.before), _time(self.after)

    @property
    def is_change(self) -> bool:
        return self.regrouped or self.recast


@dataclass(frozen=True)
class FusionDiff:
    """parts: every node that a kernel of either does the work of, in exactly one. appeared, vanished: the layers that
    do no node's work (copies, reformats, constants, waiting) and are in one of the two only."""

    before: Fusion
    after: Fusion
    parts: tuple[Change, ...]
    appeared: tuple[Group, ...]
    vanished: tuple[Group, ...]

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        return tuple(part for part in self.parts if part.is_change)

    @property
    def other_model(self) -> str:
        """Why the two are hardly engines of one model, or ''; many models call their nodes alike."""
        if not any(part.before and part.after for part in self.parts):
            return "they have no node in common, so they are of different models"
        one, other = ({(node.name, node.op_type) for node in side.nodes} for side in (self.before, self.after))
        if one and other and 2 * len(one & other) < min(len(one), len(other)):
            share = f"{len(one & other)} of {len(one)} and {len(other)} nodes have the same name and operator"
            return f"only {share} in both, so they are hardly of one model"
        return ""

    @property
    def summary(self) -> str:
        """One sentence: kernels, what is grouped or computed in another way, layers that came and went, time."""
        kernels = f"kernels: {len(self.before.kernels)} before, {len(self.after.kernels)} after"
        if self.other_model:
            return f"{kernels}; {self.other_model}."
        told = [f"{len(self.parts) - len(self.changes)} of {len(self.parts)} groups of nodes are unchanged"]
        regrouped = sum(part.regrouped for part in self.parts)
        told += [f"{regrouped} fused in another way"] if regrouped else []
        precisions = Counter(part.precisions for part in self.parts if part.recast)
        told += [f"{count} in {after} instead of {before}" for (before, after), count in precisions.most_common()]
        told += [f"{len(self.appeared)} other layer{'s' * (len(self.appeared) > 1)} appeared"] if self.appeared else []
        told += [f"{len(self.vanished)} vanished"] if self.vanished else []
        times = self.before.time_ms, self.after.time_ms
        told += [f"{times[0]:.4g} ms before, {times[1]:.4g} ms after"] if None not in times else []
        return f"{kernels}; {', '.join(told)}."


def diff(before: Fusion, after: Fusion) -> FusionDiff:
    """Compare two engines of one model, by the names of its nodes."""
    appeared, vanished = _others(after, before), _others(before, after)
    return FusionDiff(before, after, _parts(before, after), appeared, vanished)


def _parts(before: Fusion, after: Fusion) -> tuple[Change, ...]:
    """Kernels that share a node, in either engine, belong together. Where both know their model, nodes that are in
    neither (casts that a conversion of precision added) part nothing."""
    root: dict[str, str] = {}
    known = {node.name for fusion in (before, after) for node in fusion.nodes} if before.nodes and after.nodes else None

    def find(name: str) -> str:
        root.setdefault(name, name)
        while root[name] != name:
            root[name] = name = root[root[name]]
        return name

    def members(group: Group) -> list[str]:
        return [name for name in group.nodes if known is None or name in known]

    for group in (*before.kernels, *after.kernels):
        for name in (names := members(group)):
            root[find(name)] = find(names[0])
    nodes: dict[str, list[str]] = {}
    for name in root:
        nodes.setdefault(find(name), []).append(name)
    sides: tuple[dict[str, list[Group]], ...] = ({}, {})
    for side, fusion in zip(sides, (before, after), strict=True):
        for group in fusion.kernels:
            if names := members(group):
                side.setdefault(find(names[0]), []).append(group)
    return tuple(
        Change(tuple(found), *(tuple(side.get(place, ())) for side in sides)) for place, found in nodes.items()
    )


def _others(fusion: Fusion, other: Fusion) -> tuple[Group, ...]:
    """The layers of no kernel in the first that the second has no counterpart of."""
    left = Counter(_plain_name(group) for group in other.groups if group.kind not in KERNELS)
    found = []
    for group in fusion.groups:
        if group.kind not in KERNELS:
            name = _plain_name(group)
            if left[name]:
                left[name] -= 1
            else:
                found.append(group)
    return tuple(found)


def _plain_name(group: Group) -> tuple[str, str]:
    """Myelin numbers its own layers anew in every build."""
    return group.kind, _COUNTER.sub("", group.layer.name)


def _precisions(groups: Iterable[Group]) -> str:
    return ", ".join(dict.fromkeys(group.layer.precision for group in groups if group.layer.precision))


def _time(groups: Sequence[Group]) -> float | None:
    times = [group.time_ms for group in groups if group.time_ms is not None]
    return sum(times) if len(times) == len(groups) else None
