"""Random graphs are cut into connected engines and native groups that can run one after another, and no further."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from workbench.subgraphs.grouping import Group, group_nodes

Graph = tuple[list[list[int]], list[bool]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Sources of every node, and whether it is taken."""
    count = draw(st.integers(0, 16))
    sources = [sorted(draw(st.sets(st.integers(0, node - 1), max_size=3))) if node else [] for node in range(count)]
    return sources, draw(st.lists(st.booleans(), min_size=count, max_size=count))


def group_of(groups: Sequence[Group]) -> dict[int, int]:
    return {node: number for number, group in enumerate(groups) for node in group.nodes}


def links(sources: list[list[int]], groups: Sequence[Group]) -> set[tuple[int, int]]:
    """Pairs of groups, the second of which reads the first."""
    of = group_of(groups)
    return {(of[source], of[node]) for node, reads in enumerate(sources) for source in reads} - {
        (number, number) for number in range(len(groups))
    }


def leads_around(edges: set[tuple[int, int]], start: int, end: int) -> bool:
    """Whether a path of more than one step leads from one group to the other."""
    waiting = [after for before, after in edges if before == start and after != end]
    seen: set[int] = set()
    while waiting:
        group = waiting.pop()
        if group == end:
            return True
        if group not in seen:
            seen.add(group)
            waiting += [after for before, after in edges if before == group]
    return False


def is_connected(sources: list[list[int]], nodes: Sequence[int]) -> bool:
    left = set(nodes)
    waiting = [left.pop()]
    while waiting:
        node = waiting.pop()
        near = {other for other in left if other in sources[node] or node in sources[other]}
        left -= near
        waiting += near
    return not left


@given(graphs(), st.integers(1, 4))
def test_every_node_is_in_one_group_and_reads_none_that_comes_later(graph: Graph, smallest: int) -> None:
    sources, taken = graph
    groups = group_nodes(sources, taken, smallest)
    assert sorted(node for group in groups for node in group.nodes) == list(range(len(sources)))
    assert all(before < after for before, after in links(sources, groups))


@given(graphs(), st.integers(1, 4))
def test_an_engine_is_connected_taken_and_large_enough(graph: Graph, smallest: int) -> None:
    sources, taken = graph
    for group in group_nodes(sources, taken, smallest):
        if group.is_engine:
            assert all(taken[node] for node in group.nodes)
            assert len(group.nodes) >= smallest
            assert is_connected(sources, group.nodes)


@given(graphs(), st.integers(1, 4))
def test_no_two_adjacent_engines_could_be_one(graph: Graph, smallest: int) -> None:
    sources, taken = graph
    groups = group_nodes(sources, taken, smallest)
    edges = links(sources, groups)
    for before, after in edges:
        if groups[before].is_engine and groups[after].is_engine:
            assert leads_around(edges, before, after)


@given(graphs())
def test_every_taken_node_is_in_an_engine_if_one_node_is_enough(graph: Graph) -> None:
    sources, taken = graph
    groups = group_nodes(sources, taken)
    assert sorted(node for group in groups if group.is_engine for node in group.nodes) == [
        node for node, mine in enumerate(taken) if mine
    ]


@given(graphs(), st.integers(1, 4))
def test_there_are_as_many_native_groups_as_one_path_meets(graph: Graph, smallest: int) -> None:
    """On a path through the groups each native one has an engine before the next, so no fewer would do."""
    sources, taken = graph
    groups = group_nodes(sources, taken, smallest, late_nodes(sources))
    edges = links(sources, groups)
    longest = [0] * len(groups)
    for number, group in enumerate(groups):
        before = [first for first, second in edges if second == number]
        longest[number] = max((longest[first] for first in before), default=0) + (not group.is_engine)
    assert sum(not group.is_engine for group in groups) == max(longest, default=0)


def late_nodes(sources: list[list[int]]) -> set[int]:
    """Every second node without sources, and what reads nothing else."""
    late: set[int] = set()
    for node, reads in enumerate(sources):
        if late.issuperset(reads) and (reads or node % 2):
            late.add(node)
    return late


@given(graphs(), st.integers(1, 4))
def test_late_nodes_leave_the_order_right(graph: Graph, smallest: int) -> None:
    sources, taken = graph
    groups = group_nodes(sources, taken, smallest, late_nodes(sources))
    assert sorted(node for group in groups for node in group.nodes) == list(range(len(sources)))
    assert all(before < after for before, after in links(sources, groups))


def test_a_late_node_runs_beside_what_reads_it() -> None:
    sources = [[], [], [1], [0, 2]]  # 0: from weights alone, read by 3 after the engine {2}
    taken = [False, False, True, False]
    early = group_nodes(sources, taken)
    late = group_nodes(sources, taken, late=[0])
    assert [group.nodes for group in early] == [(0, 1), (2,), (3,)]
    assert [group.nodes for group in late] == [(1,), (2,), (0, 3)]


def test_a_wholly_taken_chain_is_one_engine() -> None:
    assert group_nodes([[], [0], [1], [2]], [True] * 4) == (Group(True, (0, 1, 2, 3)),)


def test_an_engine_never_goes_around_a_native_node() -> None:
    sources = [[], [0], [0, 1]]  # 2 reads 0 at once and through the native 1
    assert [group.nodes for group in group_nodes(sources, [True, False, True])] == [(0,), (1,), (2,)]


def test_engines_are_joined_across_depths_where_nothing_is_in_between() -> None:
    """1 stands beside the native node, and 3 after it; only 0 leads to that."""
    sources = [[], [], [0], [1, 2]]
    groups = group_nodes(sources, [True, True, False, True])
    assert [group.nodes for group in groups] == [(0,), (2,), (1, 3)]


def test_engines_that_only_a_small_one_kept_apart_become_one() -> None:
    """0 and 5 as one engine stand between 1 to 3 and 7 to 9; as two native nodes they do not."""
    sources = [[], [], [1], [2], [3], [0, 4], [0], [3, 6], [7], [8]]
    taken = [node not in (4, 6) for node in range(10)]
    engines = {
        smallest: [group.nodes for group in group_nodes(sources, taken, smallest) if group.is_engine]
        for smallest in (2, 3, 6, 7)
    }
    joined = [(1, 2, 3, 7, 8, 9)]
    assert engines == {2: [(1, 2, 3), (0, 5), (7, 8, 9)], 3: joined, 6: joined, 7: []}


def test_a_native_part_need_not_be_connected() -> None:
    sources = [[], [], [0, 1]]
    assert group_nodes(sources, [False, False, True]) == (Group(False, (0, 1)), Group(True, (2,)))


def test_a_graph_without_nodes_has_no_groups() -> None:
    assert group_nodes([], []) == ()
