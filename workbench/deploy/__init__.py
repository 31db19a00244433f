"""A hand-over: a folder with a stored engine's plan, the program that runs it, and a test vector to verify both.

engine = EngineStore().by_prefix("3f2a")
deploy(engine, "python", "handed_over")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench.deploy import cpp_folder, python_folder, triton_folder
from workbench.deploy.draft import absolute, check_free, drafted
from workbench.deploy.example import Wishes, make_example
from workbench.deploy.facts import described, model_name
from workbench.engine import Engine, verify
from workbench.errors import ConfigError

TARGETS = {"triton": triton_folder, "python": python_folder, "cpp": cpp_folder}
"""What may be handed over: each module says what it does not take (`refusal`) and writes its folder (`write`)."""

__all__ = ["TARGETS", "Deployed", "Wishes", "deploy"]


@dataclass(frozen=True)
class Deployed:
    """A finished hand-over. files: relative to `folder`. made_by: who gave the expected outputs, in words; relative:
    the largest relative difference from them that passes. notes: what whoever gets it ought to know."""

    folder: Path
    to: str
    name: str
    files: tuple[str, ...]
    made_by: str
    relative: float
    notes: tuple[str, ...]


def deploy(engine: Engine, to: str, folder: str | Path, wishes: Wishes | None = None) -> Deployed:
    """Write a hand-over for one of TARGETS into `folder`, which must be new or empty; it is whole or not there.

    Raises ConfigError for what the target does not take and where nothing tells the expected outputs, FeedError for
    feeds that do not fit, StoreError where the plan is damaged or the folder cannot be written.
    """
    wishes = wishes or Wishes()
    if to not in TARGETS:
        raise ConfigError(f"there is no target {to!r}; choose one of {', '.join(TARGETS)}.")
    stripped = "its plan holds no weights; build it without --strip-weights."
    refusal = stripped if engine.config.builder.strip_weights else TARGETS[to].refusal(engine)
    if refusal:
        raise ConfigError(f"{engine.model_name} ({engine.key[:8]}) cannot be handed over to {to}: {refusal}")
    folder = absolute(folder)
    check_free(folder)
    verify(engine)
    example = make_example(engine, wishes, with_batches=to == "triton")
    facts = described(engine, model_name(engine, wishes), example)
    with drafted(folder) as draft:
        notes = TARGETS[to].write(engine, facts, example, draft)
        files = sorted(str(path.relative_to(draft).as_posix()) for path in draft.rglob("*") if path.is_file())
    return Deployed(folder, to, facts.name, tuple(files), example.made_by, example.tolerance.relative, notes)
