"""What a model answers as it stands: ONNX Runtime on the processor, in this process, nothing fused or converted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from workbench.errors import FeedError, RunError
from workbench.machine import usable_cores
from workbench.model import Model
from workbench.types import Feeds, Shape, TensorSpec

THREADS_REST = ("session.force_spinning_stop", "1")
"""Without this setting the threads of a session wait for its next run at full speed, and slow other sessions down."""
_FAILED_NODE = re.compile(r"while running \w+ node\. Name:'([^']*)'")
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_SOURCE = re.compile(r"\S*/onnxruntime/\S+:\d+ (?:\S+ )*?\S*\([^)]*\)(?: const)?(?:::[^ ]+)? ?")


class Reference:
    """A model open in ONNX Runtime, to have outputs to compare with. Raises RunError where it does not load or run.

    settings: of ONNX Runtime's SessionOptions, by name, where they shall differ from what is set here.
    """

    def __init__(self, model: Model, **settings: Any) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        options.log_severity_level = 4  # what goes wrong is raised
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.enable_mem_reuse = False  # planning it takes half a minute for 10,000 nodes with open dimensions
        for name, value in settings.items():
            options.add_session_config_entry(name, value) if "." in name else setattr(options, name, value)
        if model.external_files:
            folder = "session.model_external_initializers_file_folder_path"
            options.add_session_config_entry(folder, str(model.path.parent))
        self._names = [value.name for value in model.proto.graph.output]
        try:
            self._session = onnxruntime.InferenceSession(model.to_bytes(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common base but Exception
            raise _run_error(error) from error

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Outputs by name. Raises RunError naming the node that fails on these shapes."""
        try:
            values = self._session.run(self._names, dict(feeds))
        except Exception as error:  # its exceptions have no common base but Exception
            raise _run_error(error) from error
        return dict(zip(self._names, values, strict=True))


def random_feeds(
    inputs: Iterable[TensorSpec],
    shapes: Mapping[str, Shape],
    values: Mapping[str, Shape] | None = None,
    *,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Arrays of these shapes: floats in [0, 1), integers and booleans 0 or 1. The same for the same seed.

    values: the content, flattened, of inputs that hold sizes. Raises FeedError for other types, such as strings, and
    for content of another length.
    """
    generator = np.random.default_rng(seed)
    feeds = {}
    for spec in inputs:
        shape = shapes[spec.name]
        if values and spec.name in values:
            feeds[spec.name] = _holding(spec, shape, values[spec.name])
        elif spec.dtype.startswith(("float", "bfloat")):
            feeds[spec.name] = generator.random(shape, dtype=np.float32).astype(spec.dtype)
        elif spec.dtype.startswith(("int", "uint", "bool")):
            feeds[spec.name] = generator.integers(0, 2, shape).astype(spec.dtype)
        else:
            raise FeedError(f"input {spec} cannot be filled with random values; give feeds of your own.")
    return feeds


def _holding(spec: TensorSpec, shape: Shape, content: Shape) -> np.ndarray:
    if math.prod(shape) != len(content):
        sizes = "x".join(map(str, shape)) or "scalar"
        raise FeedError(f"input {spec} of the shape {sizes} cannot hold the {len(content)} values {list(content)}.")
    return np.array(content, spec.dtype).reshape(shape)


def _run_error(error: Exception) -> RunError:
    text = _PREFIX.sub("", str(error).strip())
    failed = _FAILED_NODE.search(text)
    reason = text.partition("Status Message: ")[2] or text
    return RunError(_SOURCE.sub("", reason).split("\n")[0].strip(), node=failed[1] if failed else None)
