"""Opens whatever tells of an engine's layers: a stored engine, the inspector's JSON, trtexec's files, a build log."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workbench.engine import NODES, RECORD, Engine, read_layers, read_log
from workbench.errors import ConfigError, ViewError
from workbench.fusion import roles
from workbench.fusion.files import read_nodes, read_text
from workbench.fusion.linking import Fusion, Group, link
from workbench.fusion.nodes import Node, nodes_of
from workbench.fusion.story import read_build_log
from workbench.inspector import is_profile, load_json, parse_inspection, parse_layer_times
from workbench.layers import LayerInfo, parse_layer_records
from workbench.model import Model, load_model
from workbench.store import EngineStore
from workbench.types import LogLine, count_of

_JSON = re.compile(r'\s*(?:\{|\[\s*[{"\]])')
_GRAPH, _PROFILE = ".graph.json", ".profile.json"
"""How the engine explorer ends the names of the files it writes: what the layers are, and how long each takes."""


@dataclass(frozen=True)
class OpenedFusion:
    """title: what was opened, for a heading. log: of the build, empty where there is none. notes: what is missing or
    does not fit, in sentences. engine: where the store has it."""

    title: str
    fusion: Fusion
    log: tuple[LogLine, ...] = ()
    notes: tuple[str, ...] = ()
    engine: Engine | None = None


def open_fusion(
    source: str | Path,
    model: str | Path | Model | None = None,
    profile: str | Path | None = None,
    log: str | Path | None = None,
    times_ms: Mapping[str, float] | None = None,
) -> OpenedFusion:
    """Open a stored engine by the start of its key, an engine's folder, or a file with an engine's layers.

    A file is the inspector's JSON, what `trtexec --exportLayerInfo` or the engine explorer wrote, or a VERBOSE build
    log that lists the layers. model: ONNX file, the model itself, or a JSON list of its nodes (`read_nodes`); default
    is what the engine was built from, or a file of the same name beside the source. profile: what
    `trtexec --exportProfile` wrote; times_ms: instead of it, the layers' times by name. log: VERBOSE build log. Files
    may be compressed (.gz, .xz).

    Raises UnknownEngine, ViewError (a file that cannot be read or holds something else), ModelError, ConfigError.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return _open_file(path, model, times_ms or _times(profile or _profile_beside(path)), log)
    if path.suffix in (".json", ".log", ".txt"):
        raise ViewError(f"{path}: there is no such file.")
    if path.is_dir() and not (path / RECORD).is_file():
        raise ViewError(f"{path}: a folder that holds no engine; name an engine's key, its folder, or a file.")
    store = EngineStore()
    # Nothing of the plan is run, so it does not matter who built it.
    engine = store.load(path, trust=True) if path.is_dir() else store.by_prefix(str(source))
    found, notes = (_network(model), []) if model else _network_of(engine)
    lines = read_build_log(read_text(log)) if log else read_log(engine)
    title = f"{engine.model_name} in {engine.precision}, {engine.backend} {engine.release}"
    return _opened(title, read_layers(engine), found, times_ms or _times(profile), lines, notes, engine)


def _open_file(
    path: Path, model: str | Path | Model | None, times_ms: Mapping[str, float], log: str | Path | None
) -> OpenedFusion:
    if path.suffix == ".onnx":
        raise ViewError(f"{path}: a model; build an engine of it and name its key: `workbench engines` lists them.")
    text = read_text(path)
    notes: list[str] = []
    if _JSON.match(text):
        layers = _inspected(path, text, notes)
        lines = read_build_log(read_text(log)) if log else ()
    else:
        layers = _listed(path, text)
        lines = read_build_log(read_text(log) if log else text)
    found = model or next((item for item in _models_beside(path) if item.is_file()), None)
    if found is None:
        notes.append(
            f"no ONNX file of this name lies beside {path.name}: name it with --model to see every node's fate."
        )
    return _opened(path.name, layers, _network(found) if found else None, times_ms, lines, notes)


def _opened(
    title: str,
    layers: tuple[LayerInfo, ...],
    network: _Network | None,
    times_ms: Mapping[str, float],
    log: tuple[LogLine, ...],
    notes: list[str],
    engine: Engine | None = None,
) -> OpenedFusion:
    if not layers:
        raise ViewError(f"{title}: no layers were recorded; build the engine with detailed profiling verbosity.")
    fusion = link(layers, network.nodes if network else (), log=log, times_ms=times_ms)
    notes += _misfits(fusion, times_ms, network, "; the build added them" if engine else "")
    return OpenedFusion(title, fusion, log, tuple(notes), engine)


def _misfits(fusion: Fusion, times_ms: Mapping[str, float], network: _Network | None, origin: str) -> Iterator[str]:
    """Raises ConfigError where the model or the times are of another engine altogether."""
    names = {group.layer.name for group in fusion.groups}
    foreign = [name for name in times_ms if name not in names]
    if foreign and len(foreign) == len(times_ms):
        raise ConfigError(f"the profile times other layers than this engine has, such as {foreign[0]}; take its own.")
    if foreign:
        yield f"{len(foreign)} rows of the profile name no layer of this engine, such as {foreign[0]}."
    if network is None:
        return
    known = {node.name for node in fusion.nodes}
    told = dict.fromkeys(name for group in fusion.groups for name in group.nodes)
    added = [name for name in told if name not in known]
    if not any(name in known for name in told):
        if told or _tells_another(fusion):
            raise ConfigError(f"no layer names a node of {network.name}: the engine was built from another model.")
        what = f"what became of those of {network.name}"
        yield f"the layers name no node, so {what} is not told, nor whether the engine was built from it."
    between = {name for group in fusion.groups if _is_closed(group) for name in group.nodes}
    if between:
        what = f"{count_of(len(between), 'node')} stand in a Myelin region that names none of them"
        yield f"{what}: they are what lies between its tensors, and how it runs them is not told."
    if added:
        yield f"{len(added)} nodes that layers name are not in {network.name}, such as {added[0]}{origin}."


def _tells_another(fusion: Fusion) -> bool:
    """Whether the names of layers are made of nodes' names, or they name tensors, but none of the model's. A region's
    name does not count: it may be made of weights' and of TensorRT's own."""
    layers = [group.layer for group in fusion.groups]
    tensors = {tensor.name for layer in layers for tensor in (*layer.inputs, *layer.outputs)}
    known = {name for node in fusion.nodes for name in (*node.inputs, *node.outputs)}
    named = any(roles.named_nodes(layer, ()) for layer in layers if roles.role(layer) == roles.COMPUTE)
    return named or (bool(tensors) and tensors.isdisjoint(known))


def _is_closed(group: Group) -> bool:
    """A region whose nodes only its tensors tell."""
    return group.kind == "region" and not group.layer.nodes


@dataclass(frozen=True)
class _Network:
    """The nodes before the build, and where they are from."""

    name: str
    nodes: tuple[Node, ...]


def _network(given: str | Path | Model) -> _Network:
    if not isinstance(given, Model) and Path(given).name.endswith((".json", ".json.gz", ".json.xz")):
        return _Network(Path(given).name, read_nodes(given))
    model = given if isinstance(given, Model) else load_model(given)
    return _Network(model.path.name, nodes_of(model))


def _network_of(engine: Engine) -> tuple[_Network | None, list[str]]:
    """The nodes that the engine was built from, as they were then; else a note that says what to do."""
    if NODES in engine.files:
        return _Network(Path(engine.model_path).name, read_nodes(engine.folder / NODES)), []
    return None, ["no ONNX nodes were kept with this engine; name an ONNX file with --model to see every node's fate."]


def _inspected(path: Path, text: str, notes: list[str]) -> tuple[LayerInfo, ...]:
    try:
        if is_profile(load_json(text)):
            raise ViewError(f"{path}: the times of layers, not the layers; open the layers, and this with --profile.")
        inspection = parse_inspection(text)
    except ValueError as error:
        raise ViewError(f"{path}: not what TensorRT's inspector or trtexec write: {error}.") from error
    if not inspection.is_detailed:
        notes.append(
            "names of layers only: build with detailed profiling verbosity for tensors, tactics and precision."
        )
    if inspection.other_profiles:
        more = f"{len(inspection.other_profiles)} layers of further optimization profiles are not shown"
        notes.append(f"the first optimization profile; {more}.")
    return inspection.layers


def _listed(path: Path, text: str) -> tuple[LayerInfo, ...]:
    try:
        layers = parse_layer_records(text)
    except ValueError as error:
        raise ViewError(f"{path}: not a build log that can be read: {error}.") from error
    if not layers:
        raise ViewError(f"{path}: it lists no layers; open the inspector's JSON, and name a build log with --log.")
    return layers


def _times(profile: str | Path | None) -> Mapping[str, float]:
    if profile is None:
        return {}
    try:
        return parse_layer_times(read_text(profile)).times_ms
    except ValueError as error:
        raise ViewError(f"{profile}: not a profile: {error}.") from error


def _profile_beside(path: Path) -> Path | None:
    """The engine explorer writes both."""
    beside = path.with_name(path.name.removesuffix(_GRAPH) + _PROFILE)
    return beside if path.name.endswith(_GRAPH) and beside.is_file() else None


def _models_beside(path: Path) -> Iterator[Path]:
    """For 'net.onnx.engine.graph.json': 'net.onnx.engine.graph.onnx', ..., 'net.onnx', 'net.onnx.onnx'."""
    stem = path.name
    while "." in stem.strip("."):
        stem = stem.rpartition(".")[0]
        yield path.with_name(stem if stem.endswith(".onnx") else f"{stem}.onnx")
