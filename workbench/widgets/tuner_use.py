"""A trial outside of its search: the model and the configuration that build it, as code and for EngineBuilder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench import snippets
from workbench.backends import load
from workbench.calibration.collect import fixed_batch
from workbench.errors import ConfigError
from workbench.model import Model
from workbench.profiles import format_shapes, opt_shapes
from workbench.sharding.parcels import Parcel
from workbench.store import EngineStore
from workbench.tuning import Candidate, Plan, Trial, Tuned
from workbench.tuning.opened import open_task
from workbench.tuning.task import Task, config_of, with_float_layers
from workbench.tuning.trying import wish_of
from workbench.types import CALIBRATORS, BuildConfig, Calibration, OptimizationProfile

_RANGES = "ranges.calib"
"""Of a trial that was recorded elsewhere: its ranges did not come along."""


@dataclass(frozen=True)
class Recipe:
    """A candidate of a search and what builds it.

    model: as the user has it. in_float: nodes that stay in float. plan: of the search, None where it was recorded.
    lacks: why it cannot be built here as it was, in a sentence; '' where it can.
    """

    candidate: Candidate
    model: Model
    config: BuildConfig
    in_float: tuple[str, ...] = ()
    plan: Plan | None = None
    lacks: str = ""

    @property
    def is_quantized(self) -> bool:
        """Whether a model with Q/DQ nodes is built, as the back end cannot be told of single layers."""
        return bool(self.in_float) and not self.config.builder.layer_precisions

    @property
    def notes(self) -> tuple[str, ...]:
        """What neither code nor EngineBuilder tells of it."""
        candidate, told = self.candidate, list[str]()
        told += ["without a CUDA graph"] if candidate.cuda_graph is False else []
        told += [f"with threads={candidate.threads}"] if candidate.threads is not None else []
        told += [f"with {candidate.batch} rows at once"] if candidate.batch != 1 else []
        return (f"It was run {', '.join(told)}.",) if told else ()

    @property
    def why_not(self) -> str:
        """Why EngineBuilder cannot take it, '' where it can."""
        if self.candidate.min_subgraph_size is not None:
            return "It runs in parts, which EngineBuilder does not build: SubgraphView does."
        return self.lacks

    def wish(self) -> tuple[Model, BuildConfig]:
        """What EngineBuilder is given; a model with Q/DQ nodes is written for it where it needs one. Raises
        WorkbenchError."""
        if self.why_not:
            raise ConfigError(self.why_not)
        if not self.is_quantized or self.plan is None:
            return self.model, self.config
        return wish_of(self.plan.task, self.candidate, open_task(self.plan.task, {}), EngineStore().folder)


def recipe_of(trial: Trial, tuned: Tuned, model: Model | None, plan: Plan | None) -> Recipe:
    """model: the one of the form. Raises ConfigError where that is not the model of the search."""
    if model is None or (model.sha256 != tuned.model_sha256 and model.name != tuned.model):
        raise ConfigError(f"This was found for {tuned.model}: choose that model above, then it can be built.")
    if tuned.shapes and any(len(tuned.shapes.get(spec.name, ())) != len(spec.shape) for spec in model.inputs):
        raise ConfigError(f"This was found for another {tuned.model}, with other inputs than the model above has.")
    candidate = trial.candidate
    if plan is not None and plan.id == tuned.id:
        config = config_of(plan.task, candidate, model.inputs, plan.calibration)
        return _with_layers(Recipe(candidate, model, config, plan.task.in_float(candidate), plan))
    ranges = _RANGES if candidate.precision == "int8" and not model.is_quantized else None
    config, lacks = config_of(_task_of(tuned, model), candidate, model.inputs, ranges), ""
    if ranges and candidate.algorithm not in CALIBRATORS:
        lacks = f"Its ranges, {candidate.algorithm}, cannot be made here: collect others in CalibrationStudio."
    elif candidate.in_float:
        lacks = "Which layers stay in float was found by that search and is not recorded: search here to find them."
    elif candidate.profiles:
        lacks = f"Its optimization profiles, {candidate.profiles}, are not recorded: search here with them."
    return Recipe(candidate, model, config, lacks=lacks)


def _task_of(tuned: Tuned, model: Model) -> Task:
    """As far as a configuration follows from it; one row in the sizes that are proposed, where none were recorded."""
    proposed = {name: (1, *shape[1:]) for name, shape in opt_shapes(model.inputs, ()).items()}
    parcel = Parcel(tuned.model_sha256, model.path.name, model.path, ())
    return Task(parcel, tuned.shapes or proposed, tuned.goals, fixed_batch=fixed_batch(model))


def _with_layers(recipe: Recipe) -> Recipe:
    keep = recipe.in_float
    if not keep or "layer_precisions" not in load(recipe.candidate.backend).support().builder_options:
        return recipe
    config = with_float_layers(recipe.config, keep)
    return Recipe(recipe.candidate, recipe.model, config, keep, recipe.plan)


# ---- as code


def recipe_code(recipe: Recipe) -> Mapping[str, str]:
    """By title: Python, Command line."""
    model, config, candidate = recipe.model, recipe.config, recipe.candidate
    if candidate.min_subgraph_size is not None:
        return _parts_code(recipe, candidate.min_subgraph_size)
    if recipe.is_quantized:
        return {"Python": _quantized(recipe), "Command line": f"# {model.name} with Q/DQ nodes: as in Python"}
    python = snippets.python_code(model, config, candidate.backend)
    shell = snippets.shell_line(model, config, candidate.backend)
    if _is_to_be_made(recipe):
        data = f"# {_RANGES}: yours; `workbench calibrate` makes one"
        python, shell = f"{data}\n{python}", f"{data}\n{shell}"
    return {"Python": python, "Command line": shell}


def _is_to_be_made(recipe: Recipe) -> bool:
    return recipe.config.calibration is not None and recipe.config.calibration.path == _RANGES


def _quantized(recipe: Recipe) -> str:
    config, model = recipe.config, recipe.model
    assert config.calibration is not None
    lines = [
        "import workbench as wb",
        "from pathlib import Path",
        "from workbench.calibration.source import read_ranges",
        "from workbench.qdq import quantize",
        "",
        f"model = wb.load_model({snippets.shown_path(model.path)!r})",
        *(f"model = wb.edit(model, {change!r})" for change in model.edits),
        f"ranges = read_ranges({snippets.shown_path(Path(config.calibration.path))!r}, model, "
        f"{config.calibration.algorithm!r}).amax",
        f"keep = {list(recipe.in_float)!r}",
        "model = quantize(model, ranges, Path('.'), keep=keep)",
    ]
    words = [repr(config.precision), *_profile_words(config.profiles)]
    lines.append(f"built = wb.build(model, wb.BuildConfig({', '.join(words)}), {recipe.candidate.backend!r})")
    return "\n".join([*lines, "print(built)"])


def _profile_words(profiles: tuple[OptimizationProfile, ...]) -> list[str]:
    made = ", ".join(f"wb.parse_shapes({format_shapes(item)!r})" for item in profiles)
    return [f"profiles=({made},)"] if profiles else []


def _parts_code(recipe: Recipe, size: int) -> Mapping[str, str]:
    """As SubgraphView tells it, with the precision."""
    profile = next(iter(recipe.config.profiles), OptimizationProfile({}))
    wish: Any = snippets.SubgraphWish(recipe.candidate.backend, size, (), profile, False)
    found = snippets.subgraph_code(recipe.model, wish)
    words = [repr(recipe.config.precision), *_profile_words(recipe.config.profiles)]
    if recipe.config.calibration is not None:
        words.append(f"calibration={_calibration(recipe.config.calibration)}")
    python = found["Python"].replace(
        "wb.build_parts(parts, wb.BuildConfig(profiles=(profile,)))",
        f"wb.build_parts(parts, wb.BuildConfig({', '.join(words)}))",
    )
    python = python.replace("wb.build_parts(parts)", f"wb.build_parts(parts, wb.BuildConfig({', '.join(words)}))")
    return {"Python": python, "Command line": found["Command line"]}


def _calibration(calibration: Calibration) -> str:
    return f"wb.Calibration({snippets.shown_path(Path(calibration.path))!r}, {calibration.algorithm!r})"
