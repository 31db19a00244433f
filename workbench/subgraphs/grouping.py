"""Nodes of a graph that an engine takes, joined into as large parts as can run one after another. Integers only.

Two joined parts may run in one piece if no path leads from one to the other through a third. Such a path through a
node that no engine takes stays whatever else is joined; one through other parts goes when they are joined first. So
nothing more can be joined exactly where every two adjacent engines have a path through a native node between them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush


@dataclass(frozen=True)
class Group:
    """Nodes, in ascending order, that run together. is_engine: they were all taken."""

    is_engine: bool
    nodes: tuple[int, ...]


def group_nodes(
    sources: Sequence[Sequence[int]], taken: Sequence[bool], smallest: int = 1, late: Collection[int] = ()
) -> tuple[Group, ...]:
    """Every node in one group, in an order in which the groups can run.

    sources: for every node those that it reads, all of them before it. An engine is connected and has at least
    `smallest` nodes; no two adjacent ones could be joined without a cycle. Of the rest as few groups are made as
    these engines allow; a node runs as early as it can, one of `late` beside what reads it first. These are nodes
    whose sources are all late, too. Nearly linear in nodes and edges for graphs such as networks are.
    """
    depths = _depths(sources, taken)
    quotient = _Quotient(sources, taken, depths, _joined_at_one_depth(sources, taken, depths))
    quotient.join_all()
    while quotient.dissolve(smallest):
        quotient.join_all()
    return tuple(quotient.groups(frozenset(late)))


def _depths(sources: Sequence[Sequence[int]], taken: Sequence[bool]) -> list[int]:
    """How often a path to each node changes between taken and native, at most; odd for taken nodes."""
    depths: list[int] = []
    for reads, mine in zip(sources, taken, strict=True):
        depths.append(max((depths[node] + (taken[node] != mine) for node in reads), default=int(mine)))
    return depths


def _joined_at_one_depth(sources: Sequence[Sequence[int]], taken: Sequence[bool], depths: Sequence[int]) -> list[int]:
    """For every node the first of its group: taken nodes of one depth that are connected.

    A path that leaves such a group and returns would go through a deeper node, and from there none leads back.
    """
    first = list(range(len(depths)))

    def find(node: int) -> int:
        while first[node] != node:
            first[node] = node = first[first[node]]
        return node

    for node, reads in enumerate(sources):
        for source in reads if taken[node] else ():
            if depths[source] == depths[node]:
                one, other = sorted((find(source), find(node)))
                first[other] = one
    return [find(node) for node in range(len(first))]


class _Quotient:
    """The graph of groups and native nodes, in an order in which they can run.

    A vertex is called by one of its nodes. order: vertices and holes; place: of each vertex in it.
    """

    def __init__(
        self, sources: Sequence[Sequence[int]], taken: Sequence[bool], depths: Sequence[int], group_of: Sequence[int]
    ) -> None:
        self.sources = sources
        self.members: dict[int, list[int]] = {}
        for node, group in enumerate(group_of):
            self.members.setdefault(group, []).append(node)
        self.taken = {vertex for vertex in self.members if taken[vertex]}
        order = sorted(self.members, key=lambda vertex: (depths[vertex], vertex))
        self._connect(order)

    def _connect(self, order: Sequence[int]) -> None:
        self.order: list[int | None] = list(order)
        self.place = {vertex: index for index, vertex in enumerate(order)}
        group_of = {node: vertex for vertex, nodes in self.members.items() for node in nodes}
        self.reads: dict[int, set[int]] = {}
        self.readers: dict[int, set[int]] = {vertex: set() for vertex in order}
        for vertex, nodes in self.members.items():
            reads = {group_of[source] for node in nodes for source in self.sources[node]} - {vertex}
            self.reads[vertex] = reads
            for source in reads:
                self.readers[source].add(vertex)

    def join_all(self) -> None:
        for vertex in [vertex for vertex in self.order if vertex in self.taken]:
            if vertex in self.taken:  # not joined to another meanwhile
                self._join_readers(vertex)

    def _join_readers(self, group: int) -> None:
        """Join every group that reads this one and to which no path leads through a native node.

        What follows is gone through in order: a free group that is met before anything else leads to it may be joined.
        """
        free = self.readers[group] & self.taken
        seen = set(self.readers[group])
        waiting = [(self.place[vertex], vertex) for vertex in seen]
        heapify(waiting)
        joined: list[int] = []
        passed: list[int] = []
        while free:
            vertex = heappop(waiting)[1]
            following = self.readers[vertex]
            if vertex in free:
                free.remove(vertex)
                free |= (following & self.taken) - seen
                joined.append(vertex)
                passed_before = len(passed)
            else:
                free -= following
                passed.append(vertex)
            for reader in following - seen:
                seen.add(reader)
                heappush(waiting, (self.place[reader], reader))
        if joined:
            self._reorder(group, joined, passed[:passed_before])
            self._join(group, joined)

    def _reorder(self, group: int, joined: Sequence[int], passed: Sequence[int]) -> None:
        """The group moves to the place of the last that joins it, and what depends on it behind it."""
        start, end = self.place[group], self.place[joined[-1]] + 1
        moved = {group, *joined, *passed}
        window = [vertex for vertex in self.order[start:end] if vertex is not None and vertex not in moved]
        window += [group, *passed]
        self.order[start:end] = [*[None] * (end - start - len(window)), *window]
        self.place.update(zip(window, range(end - len(window), end), strict=True))

    def _join(self, group: int, joined: Sequence[int]) -> None:
        for other in joined:
            self.members[group] += self.members.pop(other)
            self.taken.discard(other)
            for reader in self.readers.pop(other):
                self.reads[reader].discard(other)
                self.reads[reader].add(group)
                self.readers[group].add(reader)
            for source in self.reads.pop(other):
                self.readers[source].discard(other)
                self.readers[source].add(group)
                self.reads[group].add(source)
            self.readers[group].discard(group)
            self.reads[group].discard(group)

    def dissolve(self, smallest: int) -> bool:
        """Give the nodes of the smallest groups back, if they have fewer than `smallest`; whether there were any.

        Not those of all smaller ones: some of them may be joined when the smallest no longer stand between them.
        """
        least = min((len(self.members[vertex]) for vertex in self.taken), default=smallest)
        if least >= smallest:
            return False
        small = {vertex for vertex in self.taken if len(self.members[vertex]) == least}
        order: list[int] = []
        for vertex in self.order:
            if vertex in small:
                nodes = sorted(self.members.pop(vertex))
                self.members |= {node: [node] for node in nodes}
                order += nodes
            elif vertex is not None:
                order.append(vertex)
        self.taken -= small
        self._connect(order)
        return True

    def groups(self, late: Collection[int]) -> Iterator[Group]:
        """Level by level: engines, then native nodes. A node has as many native groups before it as its level says."""
        order = [vertex for vertex in self.order if vertex is not None]
        levels: dict[int, int] = {}
        for vertex in order:
            is_engine = vertex in self.taken
            after = (levels[source] + (is_engine and source not in self.taken) for source in self.reads[vertex])
            levels[vertex] = max(after, default=0)
        for vertex in reversed(order):
            if vertex in late and vertex not in self.taken:
                before = (levels[reader] - (reader in self.taken) for reader in self.readers[vertex])
                levels[vertex] = min(before, default=levels[vertex])
        engines: dict[int, list[int]] = {}
        native: dict[int, list[int]] = {}
        for vertex in order:
            (engines if vertex in self.taken else native).setdefault(levels[vertex], []).append(vertex)
        for level in sorted({*engines, *native}):
            for vertex in engines.get(level, ()):
                yield Group(True, tuple(sorted(self.members[vertex])))
            if level in native:
                yield Group(False, tuple(sorted(native[level])))
