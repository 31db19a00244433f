"""The space of a search as rows of a form: what was typed for every knob, and whether it has any effect here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from workbench.backends import NAMES, NETWORK_NAMES
from workbench.errors import ConfigError
from workbench.tuning.candidate import TITLES
from workbench.tuning.space import Rules, Space
from workbench.tuning.space_text import WRITABLE, format_values, parse_values
from workbench.types import COMPUTED, PRECISIONS

HINTS = {
    "backend": ", ".join(NAMES),
    "precision": ", ".join(PRECISIONS),
    "algorithm": ", ".join(COMPUTED),
    "in_float": "so many layers, those that int8 harms most, stay in float",
    "min_subgraph_size": "whole, or numbers: then the model runs in parts",
    "workspace_bytes": "default, or sizes as 256M, 1G",
    "optimization_level": "default, or 0 to 5",
    "tactic_sources": "default, or names joined by +",
    "batch": "rows of a run",
    "cuda_graph": "on, off",
    "threads": "default, or numbers: processors of a run",
}
"""What may be written for a knob."""
_FOR_INT8 = ("algorithm", "in_float")
_FOR_NVIDIA = ("min_subgraph_size", "workspace_bytes")
_FOR_BUILDERS = ("optimization_level", "tactic_sources")


@dataclass(frozen=True)
class KnobRow:
    """text: the values as typed. problem: what is wrong with them. idle: why they change nothing here, '' where they do
    or nobody can tell. Both are sentences."""

    knob: str
    text: str
    problem: str = ""
    idle: str = ""

    @property
    def title(self) -> str:
        return TITLES[self.knob]


def texts_of(space: Space) -> dict[str, str]:
    """What the form shows of a space, by knob: 'default, 1, 2'."""
    return {knob: format_values(space, knob).replace(",", ", ") for knob in WRITABLE}


def read_space(base: Space, texts: Mapping[str, str]) -> Space:
    """The space that was typed. Raises ConfigError for the first knob that is wrong."""
    return replace(base, **{knob: parse_values(knob, text) for knob, text in texts.items()})  # type: ignore[arg-type]


def knob_problem(base: Space, knob: str, text: str) -> str:
    """What is wrong with the values of one knob, without its name, which stands before them."""
    try:
        read_space(base, {knob: text})
    except ConfigError as error:
        return str(error).removeprefix(f"{TITLES[knob]}: ")
    return ""


def knob_rows(base: Space, texts: Mapping[str, str], rules: Rules | None) -> tuple[KnobRow, ...]:
    """One for every knob. rules: None where nobody knows yet what the workers can do."""
    problems = {knob: knob_problem(base, knob, text) for knob, text in texts.items()}
    space = read_space(base, {knob: text for knob, text in texts.items() if not problems[knob]})
    return tuple(
        KnobRow(knob, text, problems[knob], why_idle(knob, space, rules) if rules else "")
        for knob, text in texts.items()
    )


def why_idle(knob: str, space: Space, rules: Rules) -> str:
    """Why the values of a knob change nothing, '' where they do."""
    running = rules.values(space, "backend", {})
    if not running or knob in ("backend", "precision"):
        return ""
    supports = [rules.ground.supports[name] for name in running]
    nvidia = [name for name in running if name in NETWORK_NAMES]
    if knob in _FOR_INT8:
        found = {value for name in running for value in rules.values(space, "precision", {"backend": name})}
        if "int8" not in found:
            return "only int8 has it, and no int8 is tried"
        return "the model brings its ranges along" if rules.is_quantized else ""
    if knob in _FOR_NVIDIA:
        return "" if nvidia else "only NVIDIA's back ends have it"
    if knob in _FOR_BUILDERS:
        return "" if any(knob in item.builder_options for item in supports) else "no back end that is tried has it"
    if knob == "cuda_graph":
        return "" if nvidia and rules.ground.gpu else "only runs on an NVIDIA GPU have it"
    if knob == "threads":
        return "" if len(nvidia) < len(running) else "only runs on the processor have it"
    return f"the model takes {rules.fixed_batch} at once" if knob == "batch" and rules.fixed_batch is not None else ""
