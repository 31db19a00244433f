"""NVIDIA's own road: a network that a function describes layer by layer -> an engine, with no ONNX on the way.

The function crosses into the build's process as its source text. Pickles of functions carry whatever they refer to and
differ from session to session; a recording stand-in for the network could not answer what a description asks of
TensorRT on the way (a tensor's shape). Text can be hashed, so that the store reuses by content; kept beside the
engine; and quoted with its line when it fails. The price: the function stands by itself (see `functions.source_of`).
"""

from __future__ import annotations

import hashlib
import inspect
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from workbench import backends
from workbench.building import Built, Order, fulfil, recipe_of
from workbench.errors import ConfigError
from workbench.export.described import WEIGHTS
from workbench.export.functions import loaded_function, source_of
from workbench.model import Model
from workbench.store import EngineStore
from workbench.types import BuildConfig, Listener, config_to_json, ignore

Describe = Callable[..., None]
"""describe(trt, network) or describe(trt, network, weights): adds inputs and layers, and marks outputs. `trt` is the
back end's module, `network` its INetworkDefinition, `weights` the arrays that were handed in, by name."""

_FORMS = "FILE.py:NAME or package.module:NAME, a function describe(trt, network, weights)"
_KINDS = "fiub"
_PRECISIONS = ("fp32", "tf32")


def build_network(
    name: str,
    describe: Describe | str,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    config: BuildConfig | None = None,
    backend: str | None = None,
    store: EngineStore | None = None,
    reuse: bool = True,
    listener: Listener = ignore,
    cancel: threading.Event | None = None,
) -> Built:
    """The engine of the network that `describe` describes: from the store if it is there, built otherwise.

    describe: the function, or where it is: 'FILE.py:NAME'. It runs in the build's process, so it uses nothing from
    outside of itself: imports stand inside. weights: arrays of floats, integers or booleans. config: fp32 or tf32, the
    description states all other types itself; a profile for inputs with open dimensions (-1). backend, store, reuse,
    listener, cancel: as in `build`. The engine's layers name the description's layers, its folder holds the source.

    Raises ConfigError before anything is built; BuildError, with the layer or the line at fault, when the description
    fails or is refused; otherwise as `build`.
    """
    start = time.monotonic()
    store, cancel = store or EngineStore(), cancel or threading.Event()
    order = _order(name, _function(describe), dict(weights or {}), config or BuildConfig(), backend)
    return fulfil(order, store=store, reuse=reuse, listener=listener, cancel=cancel, start=start)


def _function(describe: Describe | str) -> Describe:
    if not isinstance(describe, str):
        return describe
    place, colon, name = describe.rpartition(":")
    if not colon or not name.isidentifier():
        raise ConfigError(f"{describe!r}: give {_FORMS}.")
    with loaded_function(place, name, _FORMS) as function:
        return function


def _order(
    name: str, describe: Describe, weights: Mapping[str, np.ndarray], config: BuildConfig, backend: str | None
) -> Order:
    source = source_of(describe)
    _check_call(describe, weights)
    arrays = {key: _checked(key, value) for key, value in weights.items()}
    if config.precision not in _PRECISIONS:
        raise ConfigError(
            f"a described network states its types itself (add_cast, inputs of half): {config.precision} converts "
            f"models that come from ONNX; choose one of {', '.join(_PRECISIONS)}."
        )
    backend = backend or backends.default_backend()
    # The profiles are checked where the inputs are known: in the process that runs the description.
    resolved = backends.load_for_networks(backend).resolve_network(config)
    recipe = recipe_of(_content(source, arrays), backend, resolved)
    task = {
        "task": "network",
        "source": source,
        "function": describe.__name__,
        "weights": list(arrays),
        "config": config_to_json(resolved),
    }
    no_onnx = Model(ModelProto(), Path(f"{name}.network"))
    return Order(no_onnx, backend, resolved, recipe, (), task, prepare=lambda folder: _write(arrays, folder))


def _check_call(describe: Describe, weights: Mapping[str, np.ndarray]) -> None:
    arguments = (None, None, weights) if weights else (None, None)
    try:
        inspect.signature(describe).bind(*arguments)
    except TypeError as error:
        wanted = "(trt, network, weights)" if weights else "(trt, network)"
        hand_in = "" if weights else " If it wants weights, hand them in: weights={name: array}, or --weights FILE.npz."
        raise ConfigError(f"{describe.__name__} is called with {wanted}: {error}.{hand_in}") from error


def _checked(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in _KINDS:
        raise ConfigError(f"weight {name} is {array.dtype}; give arrays of floats, integers or booleans.")
    return np.ascontiguousarray(array).reshape(array.shape)


def _content(source: str, weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of all that the description is made of."""
    digest = hashlib.sha256(source.encode())
    for name, array in sorted(weights.items()):
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _write(weights: Mapping[str, np.ndarray], folder: Path) -> None:
    """By number, as names may hold anything; the request lists them in this order."""
    np.savez(folder / WEIGHTS, *weights.values())
