"""Where the time of a run goes: layers' times summed by fusion group, and the share that no layer accounts for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.errors import ConfigError
from workbench.fusion.difference import diff
from workbench.fusion.linking import KERNELS, Fusion, Group
from workbench.types import count_of

UNACCOUNTED = "no layer accounts for it"
_OTHERS = {
    "reformat": "reformats and copies",
    "constant": "constants",
    "sync": "waiting",
    "other": "layers that name no node",
}


@dataclass(frozen=True)
class GroupTime:
    """Kernels that share nodes, or all layers of one other kind, and their time in ms; None if none was timed.

    label: a few words of what is fused. kind: as Group.kind, 'several' where the kernels are of different ones.
    nodes: all that they do the work of; empty for layers that do none.
    """

    label: str
    kind: str
    nodes: tuple[str, ...]
    layers: tuple[str, ...]
    time_ms: float | None

    @property
    def title(self) -> str:
        """The label, and the first node where there is one: 'conv + bias + relu · /layer1/conv1/Conv'."""
        return f"{self.label} · {self.nodes[0]}" if self.nodes else self.label


@dataclass(frozen=True)
class GroupTimes:
    """The time of one engine's run by groups, the longest first. name: of the engine, for people. whole_ms: of a run,
    None where it was not timed."""

    name: str
    fusion: Fusion
    groups: tuple[GroupTime, ...]
    whole_ms: float | None

    @property
    def layers_ms(self) -> float:
        """The sum over all groups that were timed."""
        return sum(item.time_ms or 0.0 for item in self.groups)

    @property
    def unaccounted_ms(self) -> float | None:
        """What the whole run takes beyond its layers; None where nobody can tell, and where the layers take more."""
        if self.whole_ms is None or self.whole_ms < self.layers_ms:
            return None
        return self.whole_ms - self.layers_ms

    @property
    def note(self) -> str:
        """Why there is no such share, in a sentence; '' where there is."""
        if self.whole_ms is None:
            return "The whole run was not timed, so the share that no layer accounts for is not known."
        if self.whole_ms < self.layers_ms:
            return (
                f"Timed one by one, its layers take {self.layers_ms:.4g} ms together, the whole run "
                f"{self.whole_ms:.4g} ms: layers run beside each other there, or timing each of them costs time. "
                "Compare layers with each other only."
            )
        return ""

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """A head, then every group that was timed, then what no layer accounts for. Shares are of the whole run, or of
        all layers where these take longer."""
        whole = max(self.layers_ms, self.whole_ms or 0.0)
        heads = ("what is fused", "first node", "kind", "nodes", "layers", "ms", "%")
        rows = [
            (item.label, next(iter(item.nodes), ""), item.kind, str(len(item.nodes)), str(len(item.layers)),
             *_share(item.time_ms, whole))
            for item in self.groups
            if item.time_ms is not None
        ]  # fmt: skip
        if self.unaccounted_ms is not None:
            rows.append((UNACCOUNTED, "", "", "", "", *_share(self.unaccounted_ms, whole)))
        return [heads, *rows]


def group_times(fusion: Fusion, whole_ms: float | None = None, name: str = "this engine") -> GroupTimes:
    """Sum the times of a fusion's layers by group. whole_ms: the median of a whole run, where it was timed.

    name: of the engine, for people. Raises ConfigError where no layer was timed.
    """
    if fusion.time_ms is None:
        raise ConfigError("no layer of this engine was timed; measure it with Timing(layers=True), or name a profile.")
    groups = [_group_time(part.before) for part in diff(fusion, fusion).parts if part.before]
    by_kind: dict[str, list[Group]] = {}
    for group in fusion.groups:
        if group.kind not in KERNELS:
            by_kind.setdefault(group.kind, []).append(group)
    groups += [_other(kind, found) for kind, found in by_kind.items()]
    longest = sorted(groups, key=lambda item: -(item.time_ms or 0.0))
    return GroupTimes(name, fusion, tuple(longest), whole_ms)


@dataclass(frozen=True)
class Pair:
    """The same nodes in two engines. label, nodes: as of GroupTime. Times are None where nothing was timed."""

    label: str
    nodes: tuple[str, ...]
    before_ms: float | None
    after_ms: float | None

    @property
    def longest_ms(self) -> float:
        return max(self.before_ms or 0.0, self.after_ms or 0.0)

    @property
    def title(self) -> str:
        return f"{self.label} · {self.nodes[0]}" if self.nodes else self.label


def paired_times(before: GroupTimes, after: GroupTimes) -> tuple[Pair, ...]:
    """Groups side by side, the longest first: the fewest nodes that no kernel of either engine shares with others.

    Raises ConfigError for engines of different models.
    """
    found = diff(before.fusion, after.fusion)
    if found.other_model:
        raise ConfigError(f"these engines cannot be compared layer by layer: {found.other_model}.")
    pairs = [
        Pair(_label(part.before or part.after), part.nodes, _time(part.before), _time(part.after))
        for part in found.parts
    ]
    sides = [
        {item.label: item.time_ms for item in side.groups if not item.nodes and item.kind in _OTHERS}
        for side in (before, after)
    ]
    pairs += [Pair(label, (), *(side.get(label) for side in sides)) for label in dict.fromkeys((*sides[0], *sides[1]))]
    return tuple(sorted((pair for pair in pairs if pair.longest_ms), key=lambda pair: -pair.longest_ms))


def _group_time(kernels: Sequence[Group]) -> GroupTime:
    kinds = {group.kind for group in kernels}
    nodes = dict.fromkeys(name for group in kernels for name in group.nodes)
    return GroupTime(
        _label(kernels), kinds.pop() if len(kinds) == 1 else "several", tuple(nodes),
        tuple(group.layer.name for group in kernels), _time(kernels),
    )  # fmt: skip


def _other(kind: str, groups: Sequence[Group]) -> GroupTime:
    return GroupTime(_OTHERS[kind], kind, (), tuple(group.layer.name for group in groups), _time(groups))


def _label(kernels: Sequence[Group]) -> str:
    """What the kernels fuse: those of one label counted, of many the first."""
    counts = Counter(group.label for group in kernels)
    told = [label if count == 1 else f"{count} x {label}" for label, count in counts.most_common(2)]
    more = len(counts) - len(told)
    return " | ".join([*told, *([f"and {count_of(more, 'other kind')}"] if more else [])])


def _time(groups: Sequence[Group]) -> float | None:
    times = [group.time_ms for group in groups if group.time_ms is not None]
    return sum(times) if times else None


def _share(time_ms: float | None, whole_ms: float) -> tuple[str, str]:
    time = time_ms or 0.0
    return f"{time:.4g}", f"{100 * time / whole_ms:.1f}" if whole_ms else ""
