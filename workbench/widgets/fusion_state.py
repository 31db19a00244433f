"""FusionState: everything FusionView shows and does, without a browser."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from traitlets import HasTraits, Int

from workbench.building import Built
from workbench.engine import Engine
from workbench.fusion import FusionDiff, OpenedFusion, Pass, diff, open_fusion, story
from workbench.model import Model
from workbench.picture import Picture
from workbench.picture.figures import fusion_picture
from workbench.store import EngineStore

Source = Built | Engine | str | Path
"""An engine, the start of its key, its folder, or a file that lists its layers."""


@dataclass(frozen=True)
class Files:
    """What is opened beside an engine's layers; None for what is found by itself, or for nothing."""

    model: Model | str | Path | None = None
    profile: str | Path | None = None
    log: str | Path | None = None
    times_ms: Mapping[str, float] | None = None


_TIMES = "layer_times.json"


class FusionState(HasTraits):
    """What became of a network in an engine, beside another engine if one is given; and how far its story was read.

    Raises what `open_fusion` raises.
    """

    place = Int(0, help="the pass of the builder's story that is shown")

    def __init__(self, source: Source, files: Files, against: Source | None = None) -> None:
        super().__init__()
        self.files = files
        self.other: OpenedFusion | None
        self.source, self.opened = _opened(source, files)
        self.against, self.other = "", None
        if against is not None:
            self.against, self.other = _opened(against, Files(files.model))

    @cached_property
    def picture(self) -> Picture:
        return fusion_picture(self.opened.fusion, self.opened.title)

    @cached_property
    def passes(self) -> tuple[Pass, ...]:
        """The builder's story; empty where no log counts layers."""
        return story(self.opened.log)

    @cached_property
    def difference(self) -> FusionDiff | None:
        return diff(self.opened.fusion, self.other.fusion) if self.other else None

    def turn(self, passes: int) -> None:
        """Read on in the story, or back."""
        self.place = max(0, min(self.place + passes, len(self.passes) - 1))

    def code(self) -> dict[str, str]:
        """The same in Python and for the shell, by title."""
        given = {
            "model": getattr(self.files.model, "path", self.files.model),
            "profile": self.files.profile or (_TIMES if self.files.times_ms else None),
            "log": self.files.log,
            "against": self.against,
        }
        options = {name: str(value) for name, value in given.items() if value}
        arguments = ", ".join([repr(self.source), *(f"{name}={value!r}" for name, value in options.items())])
        words = ["workbench", "fusion", self.source, *(f"--{name}={value}" for name, value in options.items())]
        lines, imports = [shlex.join(words)], "from workbench.widgets import FusionView"
        if options.get("profile") == _TIMES:
            timing = shlex.join(["workbench", "bench", "--engine", self.source, "--profile", _TIMES])
            lines, imports = [timing, *lines], f"# first: {timing}\n{imports}"
        return {"Python": f"{imports}\n\nFusionView({arguments})", "Command line": "\n".join(lines)}


def _opened(source: Source, files: Files) -> tuple[str, OpenedFusion]:
    """What a person would type for the source, and the source opened."""
    if isinstance(source, Built):
        source = source.engine
    if isinstance(source, Engine):
        is_found_by_key = source.folder.is_relative_to(EngineStore().folder)
        name = source.key[:8] if is_found_by_key else str(source.folder)
        return name, open_fusion(source.folder, files.model, files.profile, files.log, files.times_ms)
    return str(source), open_fusion(source, files.model, files.profile, files.log, files.times_ms)
