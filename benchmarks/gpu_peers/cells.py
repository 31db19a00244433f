"""What is measured: models, precisions and batches, with the inputs and the outputs they shall have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLES = 64
"""Inputs of every model: the largest batch, and what the calibrator sees."""
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Input:
    """`shape` without the batch."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class BenchmarkModel:
    about: str
    inputs: Mapping[str, Input]
    output: str


_PICTURE = {"input": Input("float32", (3, 224, 224))}
_SENTENCE = {name: Input("int64", (128,)) for name in ("input_ids", "attention_mask", "token_type_ids")}
MODELS = {
    "resnet18": BenchmarkModel("ResNet-18 with five outputs, generated weights", _PICTURE, "output"),
    "efficientnet_lite0": BenchmarkModel("EfficientNet-Lite0, generated weights", _PICTURE, "output"),
    "minilm_l6": BenchmarkModel("MiniLM-L6, generated weights, 128 words", _SENTENCE, "last_hidden_state"),
}


@dataclass(frozen=True)
class Cell:
    """A row of the table: one model in one precision with one batch."""

    model: str
    precision: str
    batch: int

    def __str__(self) -> str:
        return f"{self.model} {self.precision} batch {self.batch}"

    @property
    def stem(self) -> str:
        """How its files are called."""
        return f"{self.model}_{self.precision}_b{self.batch}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: (self.batch, *item.shape) for name, item in MODELS[self.model].inputs.items()}


def feeds_of(folder: Path, cell: Cell) -> dict[str, np.ndarray]:
    """The first inputs of MODEL.npz, by name."""
    with np.load(folder / f"{cell.model}.npz") as data:
        return {name: np.ascontiguousarray(data[name][: cell.batch]) for name in MODELS[cell.model].inputs}


def reference_of(folder: Path, cell: Cell) -> np.ndarray:
    """What ONNX Runtime answers to them."""
    return np.load(folder / f"{cell.model}.reference.npy", mmap_mode="r")[: cell.batch]


def write_reference(folder: Path, model: str, count: int = SAMPLES) -> Path:
    """ONNX Runtime's outputs on the processor for the first `count` inputs, a few at a time; written once."""
    import onnxruntime

    path = folder / f"{model}.reference.npy"
    if not path.exists():
        session = onnxruntime.InferenceSession(str(folder / f"{model}.onnx"), providers=["CPUExecutionProvider"])
        feeds = feeds_of(folder, Cell(model, "fp32", count))
        parts = [{name: array[at : at + 8] for name, array in feeds.items()} for at in range(0, count, 8)]
        outputs = np.concatenate([session.run([MODELS[model].output], part)[0] for part in parts])
        np.save(path, outputs)
    return path


def relative_difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of the difference over the norm of what is wanted."""
    wanted = np.asarray(wanted, np.float64)
    return float(np.linalg.norm(found.astype(np.float64) - wanted) / np.linalg.norm(wanted))
