"""What the tests on a GPU share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from models import parse

from workbench.building import Built
from workbench.engine import Engine, open_engine
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


def top1(engine: Engine, pictures: np.ndarray, labels: np.ndarray) -> float:
    """The share of right answers over all pictures, in per cent."""
    with open_engine(engine) as session:
        chunks = [session.run({"image": pictures[at : at + 64]})["logits"] for at in range(0, len(pictures), 64)]
    return float(np.mean(np.concatenate(chunks).argmax(1) == labels) * 100)
