"""Runs the description of a network, in the build's process: layers checked one by one, errors with line or layer."""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from workbench.backends import NetworkBackend
from workbench.backends.nvidia_build import network_specs
from workbench.backends.nvidia_words import plain, remedy
from workbench.errors import BuildError, WorkbenchError
from workbench.export.functions import run_source
from workbench.layers import LayerInfo
from workbench.profiles import check_profile
from workbench.types import BuildConfig, Listener, LogLine, Progress

WEIGHTS = "weights.npz"
SOURCE = "network.py"
DESCRIBING = "Describing the network"
_FILE = "<description>"


def build_described(
    backend: NetworkBackend,
    request: Mapping[str, Any],
    config: BuildConfig,
    folder: Path,
    listener: Listener,
    *,
    caches: Path,
) -> tuple[tuple[LayerInfo, ...], tuple[str, ...]]:
    """Describe, check, build and write the plan into `folder/out`; returns the engine's layers and the described ones.

    Raises BuildError naming the line of the source or the layer; ShapeError for a profile that does not fit.
    """
    log = _Log(listener)
    with np.load(folder / WEIGHTS) as archive:
        weights = {name: archive[f"arr_{index}"] for index, name in enumerate(request["weights"])}
    names: tuple[str, ...] = ()

    def describe(api: ModuleType, network: Any) -> tuple[str, ...]:
        nonlocal names
        listener(Progress(DESCRIBING, 0, None))
        _describe(api, network, request, weights, log)
        names = _checked_layers(network, log)
        _check_profiles(network, config)
        listener(Progress(DESCRIBING, 1, 1))
        return names

    layers = backend.build_network(describe, config, folder / "out", log, caches=caches)
    (folder / "out" / SOURCE).write_text(request["source"])
    return layers, names


class _Log:
    """Passes lines on and keeps each error, with the line of the description that was running."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.errors: list[str] = []
        self.lines: list[int | None] = []

    def __call__(self, event: Progress | LogLine) -> None:
        if isinstance(event, LogLine) and event.severity == "error":
            self.errors.append(event.text)
            self.lines.append(_running_line())
        self.listener(event)


def _running_line() -> int | None:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_filename == _FILE:
            return frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _describe(
    api: ModuleType, network: Any, request: Mapping[str, Any], weights: dict[str, np.ndarray], log: _Log
) -> None:
    source, name = request["source"], request["function"]
    linecache.cache[_FILE] = (len(source), None, source.splitlines(keepends=True), _FILE)
    try:
        function = run_source(source, name, _FILE)
        function(api, network, *([weights] if weights else []))
    except WorkbenchError:
        raise
    except Exception as error:  # the user's own code may raise anything
        if not log.errors:
            frames = [item for item in traceback.extract_tb(error.__traceback__) if item.filename == _FILE]
            said = str(error).partition("\n")[0].partition(" The following argument")[0]
            text = f"{type(error).__name__}: {said or 'without a message'}"
            raise BuildError(
                f"{name}{_at(frames[-1].lineno if frames else None)}: {text}", remedy=_remedy(text)
            ) from error
    if log.errors:
        raise BuildError(f"{name}{_at(log.lines[0])}: {_words(log.errors[0])}", remedy=_remedy(log.errors[0]))


def _words(text: str) -> str:
    """An error of TensorRT's without its codes; where it opens a bracket that is lost with them, without that too."""
    return plain(text).removeprefix("Shape Error (")


def _at(line: int | None) -> str:
    return f", line {line} `{linecache.getline(_FILE, line).strip()}`" if line else ""


def _remedy(text: str) -> str | None:
    if "incompatible function arguments" in text:
        return "Compare the arguments with help(trt.INetworkDefinition); weights are float32 arrays."
    return remedy(text)


def _checked_layers(network: Any, log: _Log) -> tuple[str, ...]:
    """The layers' names. Each must give shapes; each is made to tell its name in the engine."""
    names = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        names.append(layer.name)
        layer.metadata = layer.metadata or f"[ONNX Layer: {layer.name}]"
        for number in range(layer.num_outputs):
            try:
                tuple(layer.get_output(number).shape)
            except (RuntimeError, ValueError) as error:
                raise _refusal(log, names) from error
    if not network.num_inputs:
        raise BuildError("the description adds no input", remedy="Begin with network.add_input(name, type, shape).")
    if not network.num_outputs:
        raise BuildError("the description marks no output", remedy="End with network.mark_output(tensor).")
    return tuple(names)


def _refusal(log: _Log, names: list[str] | tuple[str, ...]) -> BuildError:
    """What TensorRT said, with the layer it spoke of: the one that was being looked at if it named none."""
    text = log.errors[-1] if log.errors else "its shape cannot be computed"
    found = [name for name in names if name in text]
    node = max(found, key=len, default=names[-1] if names else None)
    reason = _words(text)
    if node and node not in reason:
        reason = f"layer {node}: {reason}"
    return BuildError(reason, node=node, remedy=_remedy(text))


def _check_profiles(network: Any, config: BuildConfig) -> None:
    specs, _ = network_specs(network)
    if not config.profiles and any(spec.open_axes for spec in specs):
        open_ones = ", ".join(str(spec) for spec in specs if spec.open_axes)
        raise BuildError(
            f"{open_ones} has open dimensions", remedy="Give a profile: BuildConfig(profiles=(parse_shapes([...]),))."
        )
    for profile in config.profiles:
        check_profile(specs, profile)
