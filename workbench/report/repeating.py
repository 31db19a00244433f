"""How to come to the same numbers: lines for a shell, and scripts."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from workbench.engine import Engine
from workbench.report.choosing import Group
from workbench.report.engines import Stock
from workbench.report.facts import EngineFacts, Repeat
from workbench.snippets import python_code, shell_line
from workbench.study import Study
from workbench.timing import Measurement
from workbench.types import Shape

_KEY = 12


def repeats(engines: Sequence[EngineFacts], groups: Sequence[Group], stock: Stock) -> tuple[Repeat, ...]:
    """Every build, then every table of times."""
    builds = [build_again(item, stock) for item in engines]
    return (*builds, *(_study(group) for group in groups))


def build_again(item: EngineFacts, stock: Stock) -> Repeat:
    """Lines for a shell and a script that ask for the same engine, or why there are none."""
    what = f"Build {item.title}"
    engine = stock.engines.get(item.key)
    if engine is None:
        return Repeat(
            what, note="The engine is no longer in the store, so nothing tells what was asked of the builder."
        )
    model = stock.models.get(str(engine.recipe["model"]))
    if model is None:
        why = f"Its model is not at hand as it was ({engine.model_path}), so no line can be given that builds the same."
        return Repeat(what, note=why)
    config = engine.config
    return Repeat(
        what,
        {"Shell": shell_line(model, config, engine.backend), "Python": python_code(model, config, engine.backend)},
    )


def _study(group: Group) -> Repeat:
    study = group.study
    lines = [line for item in study.measurements if (line := _bench_line(study, item))]
    others = [item.name for item in study.subjects if item.engine is None]
    note = f"{', '.join(others)}: no engine of this store; give them as they were." if others else ""
    code = {"Shell, each by itself": "\n".join(lines)} if lines else {}
    title = f"Time {group.heading or study.measurements[0].inputs or study.model}"
    return Repeat(title, {**code, "Python, in turns": "\n".join(_study_lines(study))}, note)


def _bench_line(study: Study, item: Measurement) -> str:
    engine = study.subject(item.name).engine
    if engine is None:
        return ""
    sizes = item.shapes if _is_open(engine) else {}
    shapes = [f"--shapes={name}:{'x'.join(map(str, shape)) or 'scalar'}" for name, shape in sizes.items()]
    words = ["workbench", "bench", "--engine", engine.key[:_KEY], *shapes, "--iterations", str(len(item.times_ms))]
    words += ["--threads", str(item.threads)] if item.threads else []
    return shlex.join(words)


def _is_open(engine: Engine) -> bool:
    """Whether the engine may take other sizes; ONNX Runtime's has no profiles and takes any that the model does."""
    return bool(engine.config.profiles) or engine.backend == "onnxruntime"


def _study_lines(study: Study) -> list[str]:
    first = study.measurements[0]
    count = max(len(item.times_ms) for item in study.measurements)
    timing = (
        f"Timing({count}, layers=True)"
        if any(item.layer_times_ms for item in study.measurements)
        else f"Timing({count})"
    )
    engines = [study.subject(item.name).engine for item in study.measurements]
    lines = ["import workbench as wb", "from workbench.study import study", "from workbench.timing import Timing"]
    opened = next((engine for engine in engines if engine is not None), None)
    lines += ["from workbench.reference import random_feeds"] if opened else []
    lines += ["", "store = wb.EngineStore()", "contestants = {"]
    lines += [_contestant(item.name, engine) for item, engine in zip(study.measurements, engines, strict=True)]
    lines.append("}")
    return [
        *lines,
        *_feeds_lines(opened, first.shapes),
        f"print(study(contestants, feeds, {timing}, reference={study.reference!r}))",
    ]


def _contestant(name: str, engine: Engine | None) -> str:
    made = f"store.by_prefix({engine.key[:_KEY]!r})" if engine is not None else "...  # yours, as it was measured"
    return f"    {name!r}: {made}," if engine is not None else f"    {name!r}: {made}"


def _feeds_lines(engine: Engine | None, shapes: Mapping[str, Shape]) -> list[str]:
    """Random arrays of the same sizes, as those that were fed are not kept."""
    sizes = dict(shapes)
    if engine is None:
        return [f"feeds = ...  # yours, of the sizes {sizes!r}"]
    return [
        f"with wb.open_engine(store.by_prefix({engine.key[:_KEY]!r})) as session:",
        f"    feeds = random_feeds(session.inputs, {sizes!r})  # or yours, of these sizes",
    ]
