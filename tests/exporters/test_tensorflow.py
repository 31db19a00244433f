"""TensorFlow's own models, converted by tf2onnx and compared with TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.errors import ExportError
from workbench.export.from_tensorflow import export_tensorflow

BATCH, SIDE = (1, 2, 4), (32, 64, 128)
OPEN = (("batch", "height", "width", 3), {"batch": BATCH, "height": SIDE, "width": SIDE})
NETS = {
    "saved": (*OPEN, "output_0"),
    "net.keras": (*OPEN, "classes"),
    "net.h5": (*OPEN, "classes"),
    "frozen.pb": (("batch", 32, 32, 3), {"batch": BATCH}, "Identity"),
}


@pytest.mark.parametrize("name", NETS)
def test_models_answer_the_same_as_onnx(name: str, tensorflow_models: Path, tmp_path: Path, builds: Callable) -> None:
    shape, bounds, output = NETS[name]
    done = export_tensorflow(tensorflow_models / name, output=tmp_path / "out" / "net.onnx")
    print(done)
    assert (done.framework, done.converter) == ("TensorFlow 2.21.0", "tf2onnx 1.17.0")
    assert [(spec.name, spec.shape) for spec in done.model.inputs] == [("image", shape)]
    assert [(spec.name, spec.shape) for spec in done.model.outputs] == [(output, ("batch", 10))]
    assert len({parity.shapes["image"] for parity in done.parity}) == 2
    assert all(parity.relative <= 1e-4 for parity in done.parity)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["net.onnx"]
    builds(done, **bounds)


def test_several_inputs_and_outputs_keep_their_names(tensorflow_models: Path, tmp_path: Path) -> None:
    done = export_tensorflow(tensorflow_models / "two", output=tmp_path / "two.onnx")
    assert {spec.name for spec in done.model.inputs} == {"left", "right"}
    assert {spec.name for spec in done.model.outputs} == {"total", "length"}


def test_outputs_can_be_named(tensorflow_models: Path, tmp_path: Path) -> None:
    done = export_tensorflow(tensorflow_models / "two", output=tmp_path / "two.onnx", outputs=["total"])
    assert [spec.name for spec in done.model.outputs] == ["total"]


def test_a_frozen_graph_can_be_cut_at_a_named_node(tensorflow_models: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"the graph has no node absent; its outputs seem to be Identity"):
        export_tensorflow(tensorflow_models / "frozen.pb", output=tmp_path / "out" / "x.onnx", outputs=["absent"])
    assert not list((tmp_path / "out").iterdir())
    done = export_tensorflow(
        tensorflow_models / "frozen.pb", output=tmp_path / "cut.onnx", inputs=["image:0"], outputs=["Identity:0"]
    )
    assert [spec.name for spec in done.model.outputs] == ["Identity"]


def test_an_input_without_a_rank_needs_a_shape(tensorflow_models: Path, tmp_path: Path) -> None:
    source = tensorflow_models / "rankless.pb"
    with pytest.raises(ExportError, match="give shapes="):
        export_tensorflow(source, output=tmp_path / "out" / "x.onnx")
    done = export_tensorflow(source, output=tmp_path / "x.onnx", shapes=[{"x": (2, 5)}, {"x": (3, 7)}])
    assert done.model.inputs[0].shape == ("batch", "length")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unknown", r"tf2onnx 1\.17\.0 has no ONNX form for Svd \(node .*\): express it"),
        ("own.keras", r"a layer of your own, Own, which a file does not carry"),
        ("lambda.keras", r"a Lambda layer, which is code"),
    ],
)
def test_what_cannot_be_converted_is_named_and_leaves_nothing(
    name: str, message: str, tensorflow_models: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        export_tensorflow(tensorflow_models / name, output=tmp_path / "out" / "x.onnx")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["net.keras", "net.h5", "frozen.pb"])
def test_files_that_are_cut_off_are_refused(name: str, tensorflow_models: Path, tmp_path: Path) -> None:
    data = (tensorflow_models / name).read_bytes()
    cut = tmp_path / name
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(ExportError, match="cut off"):
        export_tensorflow(cut, output=tmp_path / "out" / "x.onnx")
    assert not list((tmp_path / "out").iterdir())
