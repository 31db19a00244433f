"""What the tests on a GPU share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from models import parse

from workbench.building import Built
from workbench.model import Model, load_model

DATA = Path(__file__).parents[2] / "data"
FASHION = ["image:1x1x28x28,8x1x28x28,64x1x28x28"]
Builder = Callable[..., Built]


def saved(folder: Path, graph: str, **weights: np.ndarray) -> Model:
    path = folder / "model.onnx"
    onnx.save(parse(graph, **weights), str(path))
    return load_model(path)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    """The norm of the difference over the norm."""
    wanted = wanted.astype(np.float64)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def on_cpu(model: Model, feeds: dict) -> dict[str, np.ndarray]:
    """ONNX Runtime's answer on the processor."""
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))
