"""Optimization profiles for the traffic that a model gets: 1 to K of them, and what each number of them saves.

What is counted: every request is padded up to the largest shape of its profile, as a service does that keeps one
buffer, or one CUDA graph, for each profile. (An engine can also run a request at its own size; then a profile's
kernels are those chosen for its opt, and a narrower profile is nearer to what it is asked for. Where profiles overlap,
sessions here take the one whose opt is nearest, which may be another than a request is counted with.)
Inputs of fixed shape count nowhere: no profile changes them.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from workbench.errors import ConfigError
from workbench.profiles import check_profile, format_shapes
from workbench.tables import Table
from workbench.traffic.cost import Interpolated, volume
from workbench.traffic.exact import Costs, Points
from workbench.traffic.requests import Request, Traffic
from workbench.traffic.search import part
from workbench.types import OptimizationProfile, Shape, ShapeRange, TensorSpec, count_of

GOALS = ("padding", "latency")
PAYS = 0.02
"""One more profile pays if it saves this share of what one profile computes, or takes, or more."""

Cost = Callable[[Mapping[str, Shape]], float]
"""The ms that a request of these shapes takes, by name of the inputs with open dimensions."""


@dataclass(frozen=True)
class Served:
    """A profile and the requests it serves.

    asked_elements: of all requests' own shapes; computed_elements: of all when padded to the profile's max; both of
    all inputs with open dimensions together. ms: of one padded request; None without a cost.
    """

    profile: OptimizationProfile
    requests: int
    asked_elements: int
    computed_elements: int
    ms: float | None

    @property
    def padding(self) -> float:
        return 1 - self.asked_elements / self.computed_elements


@dataclass(frozen=True)
class Proposal:
    """Profiles that together take all requests, the smallest first.

    is_best: no other choice of so many profiles is better; else it is what the search found. one_profile: what
    `expense` is with one profile.
    """

    served: tuple[Served, ...]
    goal: str
    is_best: bool
    one_profile: float

    @property
    def profiles(self) -> tuple[OptimizationProfile, ...]:
        return tuple(item.profile for item in self.served)

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the requests, by profile."""
        return tuple(item.requests / self.requests for item in self.served)

    @property
    def requests(self) -> int:
        return sum(item.requests for item in self.served)

    @property
    def padding(self) -> float:
        """The share of the elements computed that no request asked for."""
        return 1 - sum(item.asked_elements for item in self.served) / self.computed_elements

    @property
    def computed_elements(self) -> int:
        return sum(item.computed_elements for item in self.served)

    @property
    def latency_ms(self) -> float | None:
        """Expected for one request; None without a cost."""
        times = [item.requests * item.ms for item in self.served if item.ms is not None]
        return sum(times) / self.requests if times else None

    @property
    def expense(self) -> float:
        """What the goal makes small: elements of all requests, or ms of one."""
        return float(self.computed_elements) if self.latency_ms is None or self.goal == "padding" else self.latency_ms

    @property
    def gain(self) -> float:
        """The share of one profile's expense that is saved."""
        return 1 - self.expense / self.one_profile

    @property
    def options(self) -> str:
        """For `workbench build`, as a shell takes it."""
        return shlex.join(f"--shapes={text}" for profile in self.profiles for text in format_shapes(profile))

    def __str__(self) -> str:
        latency = "" if self.latency_ms is None else f", {self.latency_ms:.4g} ms a request"
        saved = f", {_percent(self.gain)} {_less(self.goal)} than with one" if len(self.served) > 1 else ""
        return f"{count_of(len(self.served), 'profile')}: {_percent(self.padding)} padding{latency}{saved}"


def propose(
    traffic: Traffic, model_inputs: Iterable[TensorSpec], most: int = 4, goal: str = "padding", cost: Cost | None = None
) -> tuple[Proposal, ...]:
    """Proposals of 1, 2, ... `most` profiles, each with less expense than the one before; fewer where the traffic has
    fewer distinct shapes, or where one more profile saves nothing.

    goal: 'padding' makes the elements computed few, 'latency' the expected ms by `cost`, which is asked once for every
    corner that the search looks at (up to some thousands): interpolate between what was measured. A profile's min and
    max are the elementwise smallest and largest of its requests; its opt is the shape most of its requests have, the
    larger one of two that are equally frequent.

    The best there is for up to 12 distinct shapes, and where the shapes form a chain, each at least as large as the one
    before in every dimension, as with one open dimension. Else a search, which tests hold to within 25 % of the best on
    small cases, and to the best itself on 95 % of them. Raises ConfigError, and ShapeError where requests do not fit
    the model.
    """
    if most < 1:
        raise ConfigError(f"{most} profiles: ask for 1 or more.")
    if goal not in GOALS:
        raise ConfigError(f"goal {goal!r}: choose one of {', '.join(GOALS)}.")
    if goal == "latency" and cost is None:
        raise ConfigError("the goal latency needs a cost: the ms that a request of some size takes.")
    specs = tuple(model_inputs)
    counts = [item.count for item in traffic.requests]
    requests = Traffic.from_shapes((item.shapes for item in traffic.requests), specs, counts).requests
    partings, is_best = part(_points(requests, cost if goal == "latency" else None), most)
    choices = [_served_by(requests, labels, specs, cost) for labels in partings]
    one = Proposal(choices[0], goal, True, math.inf).expense
    return tuple(Proposal(served, goal, is_best or len(served) == 1, one) for served in choices)


def advice(proposals: Sequence[Proposal]) -> str:
    """How many profiles pay, in a sentence; see PAYS."""
    gains = [item.gain for item in proposals]
    count = _paying(gains)
    if len(gains) == 1:
        fits = proposals[0].padding == 0
        return (
            "All requests have one shape." if fits else "No more than one profile was asked for, or more save nothing."
        )
    if count == 1:
        return f"One profile will do: a second saves {_percent(gains[1])}."
    verb = "compute" if proposals[0].goal == "padding" else "take"
    saved = f"{count} profiles {verb} {_percent(gains[count - 1])} {_less(proposals[0].goal)} than one"
    if count < len(gains):
        return f"{saved}; a {_ordinal(count + 1)} saves {_percent(gains[count] - gains[count - 1])} more."
    end = "no request is padded any more" if proposals[-1].padding == 0 else "still more may pay"
    return f"{saved}, the {_ordinal(count)} alone {_percent(gains[-1] - gains[-2])}; {end}."


def advised(proposals: Sequence[Proposal]) -> Proposal:
    """The proposal after which more profiles stop paying."""
    return proposals[_paying([item.gain for item in proposals]) - 1]


def proposals_table(proposals: Sequence[Proposal]) -> Table:
    """A row for every profile; the first of a proposal tells what the proposal saves."""
    timed = proposals[0].latency_ms is not None
    heads = ("profiles", "saved", "padding", *(("ms",) if timed else ()), "requests", "its padding", "min,opt,max")
    rows = []
    for item in proposals:
        for index, served in enumerate(item.served):
            saved = _percent(item.gain) if len(item.served) > 1 else "-"
            latency = (f"{item.latency_ms:.4g}",) if item.latency_ms is not None else ()
            head = (str(len(item.served)), saved, _percent(item.padding), *latency)
            shapes = " ".join(format_shapes(served.profile))
            own = (_percent(item.shares[index]), _percent(served.padding), shapes)
            rows.append((*(head if index == 0 else [""] * len(head)), *own))
    return Table(f"saved: {_less(proposals[0].goal)} than with one profile", heads, tuple(rows))


# ---- from requests to profiles


def _points(requests: Sequence[Request], cost: Cost | None) -> Points:
    ranks = {name: len(shape) for name, shape in requests[0].shapes.items()}
    sizes = np.array([[size for name in ranks for size in item.shapes[name]] for item in requests], np.int64)
    return Points(sizes, np.array([item.count for item in requests], np.float64), _costs(ranks, cost))


def _costs(ranks: Mapping[str, int], cost: Cost | None) -> Costs:
    """Of corners, whose columns are the dimensions of the inputs one after another; without a cost their volume."""
    ends = np.cumsum(list(ranks.values()))[:-1]

    def volumes(corners: np.ndarray) -> np.ndarray:
        parts = np.split(corners.astype(np.float64), ends, axis=1)
        found: np.ndarray = np.sum([item.prod(1) for item in parts], 0)
        return found

    if cost is None:
        return volumes
    if isinstance(cost, Interpolated):
        return lambda corners: cost.at(volumes(corners))
    known: dict[tuple[int, ...], float] = {}

    def asked(corners: np.ndarray) -> np.ndarray:
        for corner in map(tuple, corners.tolist()):
            if corner not in known:
                shapes = [tuple(item) for item in np.split(np.array(corner), ends)]
                known[corner] = _ms(cost, {name: tuple(map(int, s)) for name, s in zip(ranks, shapes, strict=True)})
        return np.array([known[tuple(corner)] for corner in corners.tolist()], np.float64)

    return asked


def _ms(cost: Cost, shapes: Mapping[str, Shape]) -> float:
    """Raises ConfigError for what is no time."""
    ms = float(cost(shapes))
    if not 0 < ms < math.inf:
        raise ConfigError(f"the cost of {_text(shapes)} is {ms} ms; a time is finite and above 0.")
    return ms


def _served_by(
    requests: Sequence[Request], labels: np.ndarray, specs: tuple[TensorSpec, ...], cost: Cost | None
) -> tuple[Served, ...]:
    groups: list[list[Request]] = [[] for _ in range(int(labels.max()) + 1)]
    for request, label in zip(requests, labels.tolist(), strict=True):
        groups[label].append(request)
    found = [_served(group, specs, cost) for group in groups]
    return tuple(sorted(found, key=lambda item: (volume(_tops(item.profile)), tuple(_tops(item.profile).values()))))


def _served(group: Sequence[Request], specs: tuple[TensorSpec, ...], cost: Cost | None) -> Served:
    usual = max(group, key=lambda item: (item.count, volume(item.shapes), tuple(item.shapes.values()))).shapes
    ranges = {}
    for name, best in usual.items():
        axes = list(zip(*(item.shapes[name] for item in group), strict=True))
        ranges[name] = ShapeRange(tuple(map(min, axes)), best, tuple(map(max, axes)))
    profile = OptimizationProfile(ranges)
    check_profile(specs, profile)
    top, count = _tops(profile), sum(item.count for item in group)
    asked = sum(item.count * volume(item.shapes) for item in group)
    return Served(profile, count, asked, count * volume(top), None if cost is None else _ms(cost, top))


def _tops(profile: OptimizationProfile) -> dict[str, Shape]:
    return {name: item.max for name, item in profile.ranges.items()}


# ---- words


def _paying(gains: Sequence[float]) -> int:
    """After how many profiles the next one saves less than PAYS; gains: of 1, 2, ... profiles."""
    return next((count for count in range(1, len(gains)) if gains[count] - gains[count - 1] < PAYS), len(gains))


def _less(goal: str) -> str:
    return "fewer elements" if goal == "padding" else "less time"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share == 0 or share >= 0.0995 else f"{share:.1%}" if share >= 0.0005 else "under 0.1%"


def _ordinal(number: int) -> str:
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
    return words[number - 1] if number <= len(words) else f"{number}th"


def _text(shapes: Mapping[str, Shape]) -> str:
    return " ".join(f"{name}:{'x'.join(map(str, shape)) or 'scalar'}" for name, shape in shapes.items())
