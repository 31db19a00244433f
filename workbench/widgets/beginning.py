"""The model that a widget begins with."""

from __future__ import annotations

from pathlib import Path

from workbench.model import Model
from workbench.widgets.shape_state import ShapeState


def sample_models(start: Path | None = None) -> list[Path]:
    """The models of data/models in this folder, the one above it, or the repository."""
    start = (start or Path.cwd()).resolve()
    for folder in (start, start.parent, Path(__file__).parents[2]):
        found = sorted(path.resolve() for path in (folder / "data" / "models").glob("*.onnx"))
        if found:
            return found
    return []


def begin(state: ShapeState, model: Model | str | Path | None) -> None:
    """With this model or, without any, with the first of the samples, if there are."""
    if isinstance(model, Model):
        state.take(model)
    elif model or sample_models():
        state.load(model or sample_models()[0])
