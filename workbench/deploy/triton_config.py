"""A model's config.pbtxt, built as Triton's own protobuf message and read back.

The rules are those of Triton's documentation: docs/user_guide/model_configuration.md of triton-inference-server/server,
protobuf/model_config.proto of triton-inference-server/common.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from workbench.deploy.batches import Batches
from workbench.deploy.runner.arrays import fitted, plain
from workbench.deploy.runner.triton_model import TRITON_TYPES, to_bytes
from workbench.errors import BackendError, ConfigError
from workbench.types import OptimizationProfile, TensorSpec

QUEUE_DELAY_US = 100
"""How long a request waits for others to join it; what Triton's documentation takes as an example."""
_PLATFORMS = {"tensorrt": "tensorrt_plan", "onnxruntime": "onnxruntime_onnx"}
_NATIVE_INT64 = 9
"""The first release of TensorRT that has int64."""


@dataclass(frozen=True)
class Serving:
    """How a model is served. inputs, outputs: with the types that Triton is told. sample: an array for each input."""

    name: str
    backend: str
    on_gpu: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    profiles: tuple[OptimizationProfile, ...]
    batches: Batches
    sample: Mapping[str, np.ndarray]


def served_type(spec: TensorSpec, backend: str, release: str) -> str:
    """The type that the engine has: TensorRT knows no float64, and before release 9 no int64.

    Raises ConfigError for types that Triton does not know.
    """
    dtype = spec.dtype
    if backend == "tensorrt":
        narrower = {"float64": "float32"}
        if int(release.split(".")[0]) < _NATIVE_INT64:
            narrower["int64"] = "int32"
        dtype = narrower.get(dtype, dtype)
    if dtype not in TRITON_TYPES:
        raise ConfigError(f"Triton knows no tensors of the type {dtype} ({spec.name}); build the engine with others.")
    return dtype


def config_text(serving: Serving) -> str:
    """Raises ConfigError for shapes that Triton does not take, BackendError where its protobuf cannot be loaded."""
    from google.protobuf import text_format

    config = _config(_messages(), serving)
    text = text_format.MessageToString(config)
    if text_format.Parse(text, _messages().ModelConfig()) != config:
        raise BackendError("config.pbtxt does not say what it was made from; report this as a defect.")
    return text


def _config(messages: ModuleType, serving: Serving) -> Any:
    config = messages.ModelConfig(
        name=serving.name,
        platform=_PLATFORMS[serving.backend],
        backend=serving.backend,
        max_batch_size=serving.batches.largest,
    )
    sized = {name for profile in serving.profiles for name in profile.values}
    for spec in serving.inputs:
        item = config.input.add(
            name=spec.name, data_type=_data_type(messages, spec), is_shape_tensor=spec.name in sized
        )
        _set_dims(item, spec, serving)
    for spec in serving.outputs:
        _set_dims(config.output.add(name=spec.name, data_type=_data_type(messages, spec)), spec, serving)
    if serving.batches.largest > 1:
        config.dynamic_batching.preferred_batch_size.extend(serving.batches.preferred)
        config.dynamic_batching.max_queue_delay_microseconds = QUEUE_DELAY_US
    kinds = messages.ModelInstanceGroup
    group = config.instance_group.add(count=1, kind=kinds.KIND_GPU if serving.on_gpu else kinds.KIND_CPU)
    if len(serving.profiles) > 1:
        group.profile.extend(str(index) for index in range(len(serving.profiles)))
    _add_warmup(messages, config, serving)
    return config


def _data_type(messages: ModuleType, spec: TensorSpec) -> int:
    word = TRITON_TYPES[spec.dtype]
    return int(messages.DataType.Value(f"TYPE_{'STRING' if word == 'BYTES' else word}"))


def _set_dims(item: Any, spec: TensorSpec, serving: Serving) -> None:
    """Without the batch; Triton knows no tensors without dimensions, so those are one value that it reshapes."""
    dims = [dim if isinstance(dim, int) else -1 for dim in (spec.shape[1:] if serving.batches.largest else spec.shape)]
    item.dims.extend(dims or [1])
    if not dims and serving.batches.largest:
        item.reshape.SetInParent()
    elif not dims and serving.backend == "tensorrt":
        raise ConfigError(
            f"{spec.name} is a scalar, which Triton cannot serve from a plan; export the model with a dimension there."
        )


# ---- warm-up


def _add_warmup(messages: ModuleType, config: Any, serving: Serving) -> None:
    """One request as the test vector: Triton serves the model only once it has answered it."""
    warmup = config.model_warmup.add(name="test vector", batch_size=1)
    for index, spec in enumerate(serving.inputs):
        item = warmup.inputs[spec.name]
        item.data_type = _data_type(messages, spec)
        item.dims.extend(_row(serving, spec).shape[1 if serving.batches.largest else 0 :] or (1,))
        item.input_data_file = _file_name(index)


def warmup_samples(serving: Serving) -> dict[str, bytes]:
    """The files of the folder 'warmup' by name."""
    return {
        _file_name(index): to_bytes(fitted(spec.name, plain(_row(serving, spec)), spec.dtype), spec.dtype)
        for index, spec in enumerate(serving.inputs)
    }


def _file_name(index: int) -> str:
    return f"input_{index}"


def _row(serving: Serving, spec: TensorSpec) -> np.ndarray:
    """An input of the test vector; of a batch its first row."""
    array = np.asarray(serving.sample[spec.name])
    return array[:1] if serving.batches.largest else array


@cache
def _messages() -> ModuleType:
    """Triton's own messages: of the client's package only this file, as the rest of it needs gRPC."""
    found = importlib.util.find_spec("tritonclient")
    folders = list(found.submodule_search_locations or ()) if found else []
    for path in (Path(folder) / "grpc" / "model_config_pb2.py" for folder in folders):
        spec = importlib.util.spec_from_file_location("model_config_pb2", path)
        if path.is_file() and spec and spec.loader:
            module = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
            except Exception as error:  # protobuf's VersionError is an Exception of its own
                raise BackendError(f"Triton's protobuf cannot be loaded ({error}); pip install -U protobuf") from error
            return module
    raise BackendError("Triton's protobuf is not installed: pip install tritonclient")
