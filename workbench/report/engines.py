"""What is known of the engines in a report and of the models they were built from: from the store, else the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.engine import NODES, Engine
from workbench.errors import WorkbenchError
from workbench.fusion.files import read_nodes
from workbench.model import Model, load_model
from workbench.recipe import differences
from workbench.report.choosing import Chosen, Group, Row
from workbench.report.facts import EngineFacts, ModelFacts, joined
from workbench.tables import Table
from workbench.types import BOUNDS, count_of

_NEAR, _MOST_OPERATORS = 3, 12


@dataclass(frozen=True)
class Stock:
    """What the store holds: engines by key, and the ONNX files they were built from, by content hash, as far as they
    are there and unchanged."""

    engines: Mapping[str, Engine]
    models: Mapping[str, Model]


def stock_of(engines: Iterable[Engine], wanted: Iterable[str]) -> Stock:
    """engines: of the store. wanted: keys."""
    found = {engine.key: engine for engine in engines}
    models: dict[str, Model] = {}
    for key in wanted:
        if key in found and str(found[key].recipe["model"]) not in models:
            sha256 = str(found[key].recipe["model"])
            model = _model_of(found[key])
            if model is not None and model.sha256 == sha256:
                models[sha256] = model
    return Stock(found, models)


def _model_of(engine: Engine) -> Model | None:
    """The file that it was built from, as it is now."""
    path = Path(engine.model_path)
    if path.suffix != ".onnx" or not path.is_file():
        return None
    try:
        return load_model(path)
    except WorkbenchError:  # it was another file then; the report says what it can without
        return None


# ---- engines


def engine_facts(chosen: Chosen, groups: Sequence[Group], stock: Stock) -> tuple[EngineFacts, ...]:
    """One for every engine that a row or a search names, in their order, with the names that studies give it."""
    rows = chosen.rows
    names: dict[str, list[str]] = {row.run.engine: [] for row in rows if row.run.engine}
    for search in chosen.searches:
        names.update({key: [name] for key, name in search.engines.items() if key in stock.engines})
    for group in groups:
        for item in group.study.subjects:
            if item.engine is not None:
                names.setdefault(item.engine.key, []).append(item.name)
    by_key = {row.run.engine: row for row in reversed(rows) if row.run.engine}
    return tuple(
        _stored(stock.engines[key], told, stock) if key in stock.engines else _remembered(by_key[key], told)
        for key, told in names.items()
    )


def _stored(engine: Engine, names: Sequence[str], stock: Stock) -> EngineFacts:
    gpus = dict.fromkeys(gpu["name"] for gpu in engine.machine["gpus"])
    targets = ", ".join(gpus) if engine.targets == ("gpu",) else ", ".join(engine.targets)
    return EngineFacts(
        key=engine.key, names=tuple(dict.fromkeys(names)), model=engine.model_name, backend=engine.backend,
        precision=engine.precision, release=engine.release, build_s=engine.build_s, plan_bytes=engine.plan_bytes,
        built_at=engine.built_at, nodes=engine.nodes, layers=engine.layers, runs_on=targets, why=_why(engine, stock),
    )  # fmt: skip


def _why(engine: Engine, stock: Stock) -> str:
    """What in the store of today comes nearest, among what was built before it."""
    mine = (engine.model_name, engine.backend)
    older = [
        item for item in stock.engines.values() if (item.model_name, item.backend) == mine and _age(item) < _age(engine)
    ]
    if not older:
        return f"No older engine of {engine.model_name} is stored for {engine.backend}."
    found = {item.key: differences(item.recipe, engine.recipe) for item in older}
    key = min(found, key=lambda key: len(found[key]))
    told = ", ".join(found[key][:_NEAR])
    more = f" and {len(found[key]) - _NEAR} more" if len(found[key]) > _NEAR else ""
    return f"The nearest older engine in the store, {key[:8]}, differs in {told}{more}." if told else ""


def _age(engine: Engine) -> tuple[str, int]:
    """When it was built; records tell seconds, the plan's file tells more."""
    return engine.built_at, engine.plan_path.stat().st_mtime_ns if engine.plan_path.exists() else 0


def _remembered(row: Row, names: Sequence[str]) -> EngineFacts:
    run, data = row.run, row.data if row.run.kind == "build" else {}
    return EngineFacts(
        key=run.engine, names=tuple(dict.fromkeys(names or filter(None, [run.subject]))), model=run.model,
        backend=run.backend, precision=run.precision, release=str(data.get("release", "")), build_s=run.build_s,
        plan_bytes=run.size_bytes, built_at=str(data.get("built_at", "")), nodes=data.get("nodes"),
        layers=data.get("layers"), note="It is no longer in the store; this is what the history knows of it.",
    )  # fmt: skip


# ---- shapes


def shape_table(engines: Sequence[EngineFacts], stock: Stock) -> Table | None:
    """The profiles of all engines that have some; None where none has."""
    rows = [row for item in engines if item.key in stock.engines for row in _shapes(item, stock.engines[item.key])]
    heads = ("engine", "profile", "input", *BOUNDS)
    return Table("Sizes that the engines take", heads, tuple(rows)) if rows else None


def _shapes(item: EngineFacts, engine: Engine) -> Iterator[tuple[str, ...]]:
    name = joined(item.names) or item.key[:8]
    for number, profile in enumerate(engine.config.profiles, 1):
        for kind, ranges in (("", profile.ranges), (" (its content)", profile.values)):
            for tensor, sizes in ranges.items():
                told = ("x".join(map(str, getattr(sizes, bound))) or "scalar" for bound in BOUNDS)
                yield name, str(number), tensor + kind, *told


# ---- models


def model_facts(chosen: Chosen, groups: Sequence[Group], stock: Stock) -> tuple[ModelFacts, ...]:
    """Every model that a row, a saved study or a search names, by its content."""
    named = [(row.run.model, row.run.model_sha256, row.run.engine) for row in chosen.rows]
    by_model = {str(engine.recipe["model"]): key for key, engine in stock.engines.items() if key in chosen.engines}
    for search in chosen.searches:
        named.append((search.model, search.model_sha256, by_model.get(search.model_sha256, "")))
    named += [(group.study.model, group.study.model_sha256, "") for group in groups]
    found: dict[tuple[str, str], list[str]] = {}
    for name, sha256, key in named:
        if name or sha256:
            found.setdefault((sha256, name), []).append(key)
    return tuple(_model_facts(name, sha256, keys, stock) for (sha256, name), keys in found.items())


def _model_facts(name: str, sha256: str, keys: Sequence[str], stock: Stock) -> ModelFacts:
    engine = next((stock.engines[key] for key in keys if key in stock.engines), None)
    path = engine.model_path if engine is not None else ""
    model = stock.models.get(sha256)
    if model is not None:
        return ModelFacts(name, sha256, path, _file_facts(model))
    if engine is not None and NODES in engine.files:
        facts, why = _node_facts(engine), _why_no_file(engine, sha256)
        return ModelFacts(name, sha256, path, facts, (f"{why} What is told here are the nodes kept with the engine.",))
    if engine is not None:
        return ModelFacts(
            name, sha256, path, (), (f"{_why_no_file(engine, sha256)} No nodes were kept with the engine.",)
        )
    return ModelFacts(name, sha256, "", (), ("No engine of it is in the store, so nothing tells where its file is.",))


def _why_no_file(engine: Engine, sha256: str) -> str:
    if str(engine.recipe["model"]) != sha256:
        return "The engine was built from another content than was measured."
    if not Path(engine.model_path).is_file():
        return "The file is no longer there."
    return "The file's content is another one now, or dimensions were changed before the build."


def _file_facts(model: Model) -> tuple[tuple[str, str], ...]:
    return (
        *(("input", str(spec)) for spec in model.inputs),
        *(("output", str(spec)) for spec in model.outputs),
        ("nodes", f"{len(model.nodes):,}"),
        ("operators", _operators(model.operators)),
        ("opset", str(model.opset)),
        ("parameters", f"{model.parameters:,}"),
        *((("made by", model.producer),) if model.producer else ()),
    )


def _node_facts(engine: Engine) -> tuple[tuple[str, str], ...]:
    nodes = read_nodes(engine.folder / NODES)
    made = {name for node in nodes for name in node.outputs}
    read = dict.fromkeys(name for node in nodes for name in node.inputs if name not in (*made, *node.weights, ""))
    results = [name for node in nodes for name in node.results]
    operators = dict(Counter(node.op_type for node in nodes).most_common())
    return (
        ("inputs", ", ".join(read)),
        ("outputs", ", ".join(results)),
        ("nodes", f"{len(nodes):,}"),
        ("operators", _operators(operators)),
    )


def _operators(operators: Mapping[str, int]) -> str:
    """'20 Conv, 17 Relu and 3 other kinds'."""
    told = ", ".join(f"{count:,} {name}" for name, count in list(operators.items())[:_MOST_OPERATORS])
    more = len(operators) - _MOST_OPERATORS
    return told if more <= 0 else f"{told} and {count_of(more, 'other kind')}"
