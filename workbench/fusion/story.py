"""The passes of a build as TensorRT's VERBOSE log tells them: layer counts, and every step from one to the next."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workbench.fusion.roles import split_name
from workbench.layers import metadata_nodes
from workbench.types import LogLine

_PREFIX = re.compile(
    r"(?:\[(?:\d\d/[^\]]*|TRT|TensorRT|VERBOSE|INFO|WARNING|ERROR|INTERNAL_ERROR|[VIWEF])\] ?)*"
    r"(?:(?:VERBOSE|INFO|WARNING|ERROR):? )?"
)
_SEVERITY = re.compile(r"VERBOSE|INFO|WARNING|ERROR|\b[VIWEF]\b")
_SEVERITIES = {"V": "verbose", "I": "info", "W": "warning", "E": "error", "F": "error"}

_COUNT = re.compile(r"(Original|After (?P<title>.+)): (?P<layers>\d+) layers")
_RUNNING = re.compile(r"Running: (\S+) on (.+)")
_REGION = re.compile(r"ForeignNode (?P<region>\{ForeignNode\[.*\]\}) metadata: (?P<members>.*)", re.DOTALL)
_STEPS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("fuse", r"(?:(?P<by>\w+): )?[Ff]using (?:convolution weights from )?(.+?) (?:with scale|with|into) (.+)"),
        ("merge", r"Merging layers: (.+)"),
        ("remove", r"Eliminating (?:concatenation |slice )?(.+?)(?: by retargeting .*| which duplicates .*)?"),
        ("remove", r"Removing (.+)"),
        ("retype", r"(?:Swap the|Convert) layer type of (.+) from \w+ to \w+"),
        ("swap", r"Swapping (.+) with (.+)"),
        ("copy", r"Adding reformat layer: (.+) \(.+\) from .+ to .+"),
        ("copy", r"Generating copy for (.+) to .+ because .+"),
        ("retarget", r"Retargeting (.+) to .+"),
    )
)
_MYELIN = "Myelin optimization"
_TAKES_AWAY = ("fuse", "merge", "remove")


@dataclass(frozen=True)
class Step:
    """kind: 'fuse', 'merge' (siblings into one), 'remove', 'retype', 'swap' (order of two), 'copy' (one is added),
    'retarget' (a tensor is written elsewhere), 'region' (Myelin takes many), 'run' (only that it ran is told).
    transform: TensorRT's name of it, or of the region; ''. subjects: the layers, or the region's nodes. text: the log's
    own words, for a region those of this module."""

    kind: str
    transform: str
    subjects: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Pass:
    """layers_before, layers_after: the number of layers, as the log counts them."""

    title: str
    layers_before: int
    layers_after: int
    steps: tuple[Step, ...]


def read_build_log(text: str) -> tuple[LogLine, ...]:
    """Lines as trtexec, Polygraphy or TensorRT's own logger write them: '[V] [TRT] text', '[VERBOSE] text'."""
    lines = []
    for line in text.split("\n"):
        prefix = _PREFIX.match(line)
        head = prefix[0] if prefix else ""
        severity = _SEVERITY.search(head)
        lines.append(LogLine(_SEVERITIES[severity[0][0]] if severity else "verbose", line[len(head) :].rstrip("\r")))
    return tuple(lines)


def story(log: Iterable[LogLine]) -> tuple[Pass, ...]:
    """The passes in their order; the first is the network as it was parsed. Empty where the log counts no layers.

    TensorRT-RTX hands the whole network to Myelin, whose own steps no log tells: there the story is one step, 'region'.
    """
    passes: list[Pass] = []
    steps: list[Step] = []
    started: list[Step] = []  # of which the log may tell no more than that it ran
    transform = ""
    for text in _joined(log):
        count, running = _COUNT.fullmatch(text), _RUNNING.fullmatch(text)
        if count or running:
            steps += started
            started = [Step("run", running[1], (running[2],), text)] if running else []
            transform = running[1] if running else ""
        if count:
            passes.append(_pass(count, passes, steps))
            steps = []
        elif passes and (region := _REGION.fullmatch(text)):
            _add_region(passes, region)
        elif passes and (step := _step(text, transform)):
            steps.append(step)
            started = []
    return tuple(passes)


def _joined(log: Iterable[LogLine]) -> Iterator[str]:
    """A region's members stand on one line, or on lines of their own where the separators ended a line."""
    waiting = ""
    for line in log:
        text = line.text.strip(" \r\n")
        if waiting and text.startswith("[ONNX Layer: "):
            waiting += text
            continue
        if waiting:
            yield waiting
        waiting = text if _REGION.fullmatch(text) else ""
        if not waiting:
            yield text
    if waiting:
        yield waiting


def _pass(count: re.Match[str], passes: list[Pass], steps: list[Step]) -> Pass:
    after = int(count["layers"])
    if count["title"] is None:
        return Pass("the network as parsed", after, after, ())
    return Pass(count["title"], passes[-1].layers_after if passes else after, after, tuple(steps))


def _step(text: str, running: str) -> Step | None:
    for kind, pattern in _STEPS:
        match = pattern.fullmatch(text)
        if match:
            named = match.groupdict().get("by")
            names = [name for name in match.groups() if name and name != named]
            if kind == "merge":
                names = names[0].split(" || ")
            elif kind == "fuse":
                names = [part for name in names for part in _bracketed(name)]
            return Step(kind, named or running, tuple(names), text)
    return None


def _bracketed(name: str) -> list[str]:
    """'(a and b)' -> ['a', 'b'], as one fusion takes in two scales at once."""
    return name[1:-1].split(" and ") if name.startswith("(") and name.endswith(")") and " and " in name else [name]


def _add_region(passes: list[Pass], match: re.Match[str]) -> None:
    """The log names a region's members later, when it is compiled; they belong to the pass that made the region."""
    members = metadata_nodes(match["members"])
    text = f"{match['region']} takes {len(members)} nodes; the log does not tell what Myelin does with them"
    place = max((i for i, item in enumerate(passes) if item.title == _MYELIN), default=len(passes) - 1)
    found = passes[place]
    step = Step("region", match["region"], members, text)
    passes[place] = Pass(found.title, found.layers_before, found.layers_after, (*found.steps, step))


def told_of_nodes(passes: Iterable[Pass]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """What the log tells of names: the steps in which a layer of this name went into another or away, in the log's
    words, and the region that took it."""
    steps: dict[str, list[str]] = {}
    regions: dict[str, str] = {}
    for step in (step for item in passes for step in item.steps):
        if step.kind == "region":
            regions.update(dict.fromkeys(step.subjects, step.transform))
        elif step.kind in _TAKES_AWAY:
            for name in dict.fromkeys(part for subject in step.subjects for part in (subject, *split_name(subject))):
                steps.setdefault(name, []).append(step.text)
    return steps, regions
