"""What is wrong with a calibration table is said, and a table that must not be used stops a build."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from models import RELU, save
from onnx import helper
from test_calibration_table import RECORDED, ROOT

from workbench.calibration.lint import Finding, activations_of, lint, raise_for
from workbench.calibration.table import CalibrationTable, read_table
from workbench.errors import ConfigError
from workbench.fusion.files import read_text
from workbench.model import Model, load_model


def table_of(model: Model, **changes: float) -> CalibrationTable:
    """A range of 1 for every activation, but for these changes."""
    return CalibrationTable({**dict.fromkeys(activations_of(model), 1.0), **changes}, "entropy", "8600")


def texts(table: CalibrationTable, model: Model, severity: str = "") -> list[str]:
    return [str(item) for item in lint(table, model) if severity in ("", item.severity)]


def resnet18() -> Model:
    """The graph that the recorded table was made from: all its nodes, without weights and sizes."""
    nodes = json.loads(read_text(ROOT / "data/recorded/tensorrt-8.6.0-h200/resnet18_classic.nodes.json.gz"))
    made = {name for node in nodes for name in node["outputs"]}
    weights = sorted({name for node in nodes for name in node["inputs"]} - made - {"input", ""})
    values = {name: helper.make_tensor_value_info(name, 1, None) for name in ("input", *sorted(made))}
    graph = helper.make_graph(
        [helper.make_node(node["op_type"], node["inputs"], node["outputs"], name=node["name"]) for node in nodes],
        "resnet18",
        [values["input"]],
        [values["output"]],
        [helper.make_tensor(name, 1, [0], []) for name in weights],
        value_info=[values[name] for name in sorted(made)],
    )
    return Model(helper.make_model(graph), Path("resnet18.onnx"))


def test_a_table_of_tensorrt_has_nothing_wrong_for_its_model() -> None:
    """It names constants of the model and tensors of TensorRT's own, and gives 0 to the constants."""
    assert len(activations_of(resnet18())) == 50
    assert lint(read_table(RECORDED[0]), resnet18()) == ()


def test_a_complete_table_has_nothing_wrong(fashion_cnn: Model) -> None:
    assert lint(table_of(fashion_cnn), fashion_cnn) == ()


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.name)
def test_a_table_of_another_model_is_an_error(fashion_cnn: Model, recorded: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cache: wrong model: none of its tensors \(.*\) is in fashion_cnn; give"):
        raise_for(lint(read_table(recorded), fashion_cnn), "cache")


def test_a_table_that_shares_little_but_the_inputs_name_is_of_another_model() -> None:
    other = read_table(RECORDED[1])
    assert "input" in other.amax
    (error,) = texts(other, resnet18(), "error")
    assert error.startswith("wrong model: 46 of its 50 tensors (/Relu_output_0, ")
    assert error.endswith("are not in resnet18; give a table that this model was calibrated with")


def test_tensors_without_a_range_are_counted_and_named(fashion_cnn: Model) -> None:
    table = table_of(fashion_cnn)
    names = list(table.amax)
    (text,) = texts(replace(table, amax={name: 1.0 for name in names[2:]}), fashion_cnn, "warning")
    assert text.startswith(f"no range for 2 of {len(names)} tensors of fashion_cnn ({names[0]}, {names[1]}): ")


def test_weights_and_integers_need_no_range(tmp_path: Path) -> None:
    graph = """(float[n,4] x) => (float[n,4] y, int64[2] s) {
        s = Shape(x) w = Constant<value = float[4] {1, 2, 3, 4}>() v = Neg(w) y = Mul(x, v)
    }"""
    assert activations_of(load_model(save(tmp_path / "m.onnx", graph))) == ("x", "y")


def test_a_range_of_zero_is_said_by_tensor(fashion_cnn: Model) -> None:
    assert [(item.severity, item.tensor) for item in lint(table_of(fashion_cnn, image=0.0), fashion_cnn)] == [
        ("warning", "image")
    ]


def test_an_unknown_tensor_comes_with_the_closest_name(fashion_cnn: Model) -> None:
    table = table_of(fashion_cnn)
    renamed = {name.replace("/stem/relu/Relu", "/stem/relu/Rela"): amax for name, amax in table.amax.items()}
    found = texts(replace(table, amax=renamed), fashion_cnn)
    assert found[0] == ("/stem/relu/Rela_output_0: fashion_cnn has no such tensor; is it /stem/relu/Relu_output_0?")
    assert found[1].startswith("no range for 1 of ")


def test_many_unknown_tensors_are_summed_up(fashion_cnn: Model) -> None:
    table = table_of(fashion_cnn, **{f"strange{index}": 1.0 for index in range(12)})
    assert texts(table, fashion_cnn)[-1] == "fashion_cnn does not have 7 more tensors of the table"


@pytest.mark.parametrize(
    ("amax", "says"),
    [
        (float("nan"), "nan is no range"),
        (float("inf"), "inf is no range"),
        (-1.0, "the range -1 is below 0"),
        (1e-40, "too small for int8"),
    ],
)
def test_a_range_that_is_none_is_an_error(fashion_cnn: Model, amax: float, says: str) -> None:
    (error,) = texts(table_of(fashion_cnn, image=amax), fashion_cnn, "error")
    assert error.startswith("image: ")
    assert says in error


def test_a_table_without_any_range_is_an_error(fashion_cnn: Model) -> None:
    table = CalibrationTable(dict.fromkeys(activations_of(fashion_cnn), 0.0))
    assert texts(table, fashion_cnn, "error") == ["no tensor has a range; calibrate again"]


@pytest.mark.parametrize(
    ("release", "severities"),
    [("", []), ("8600", []), ("8503", ["warning"]), ("7103", ["error"]), ("100300", ["error"]), ("8XXX", ["warning"])],
)
def test_tensorrt_of_another_release_may_pass_over_a_cache(
    fashion_cnn: Model, release: str, severities: list[str]
) -> None:
    found = lint(table_of(fashion_cnn), fashion_cnn, release=release)
    assert [item.severity for item in found] == severities
    assert all("it is of TensorRT 8600, so" in item.text for item in found)


def test_a_table_in_another_form_has_no_release(fashion_cnn: Model) -> None:
    assert lint(replace(table_of(fashion_cnn), release="", format="ranges"), fashion_cnn, release="100300") == ()


def test_what_reading_showed_is_among_the_findings(fashion_cnn: Model) -> None:
    table = replace(table_of(fashion_cnn), notes=("the last line has no end",))
    assert lint(table, fashion_cnn) == (Finding("warning", "", "the last line has no end"),)


def test_a_range_far_from_the_others_is_said(fashion_cnn: Model) -> None:
    (text,) = texts(table_of(fashion_cnn, image=1e6), fashion_cnn)
    assert text == "image: its range 1e+06 is far from the others' (median 1); look at it"


def test_what_grows_where_it_cannot_is_said(fashion_cnn: Model) -> None:
    (text,) = texts(table_of(fashion_cnn, **{"/stem/relu/Relu_output_0": 5.0}), fashion_cnn)
    assert text == "/stem/relu/Relu_output_0: its range 5 is above that of what it is made of (1); look at it"


@pytest.mark.parametrize("bit", [28, 29, 30, 31])
def test_a_changed_first_digit_of_any_scale_is_found(bit: int) -> None:
    """A cache has no checksum; sign and high bits of the exponent show all the same."""
    table, model = read_table(RECORDED[0]), resnet18()
    for name in activations_of(model):
        (bits,) = struct.unpack(">I", struct.pack(">f", table.scale(name)))
        (scale,) = struct.unpack(">f", struct.pack(">I", bits ^ 1 << bit))
        assert lint(replace(table, amax={**table.amax, name: scale * 127}), model), name


def test_errors_come_first_and_are_cut_short(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", RELU))
    table = CalibrationTable({"x": 0.0, "y": 1.0, **{f"n{index}": float("nan") for index in range(7)}})
    found = lint(table, model)
    assert [item.severity for item in found] == sorted(item.severity for item in found)
    with pytest.raises(ConfigError, match=r"; and 2 more errors\.$"):
        raise_for(found)


def test_only_errors_stop() -> None:
    warning, error = Finding("warning", "x", "look at it"), Finding("error", "y", "no range")
    raise_for([warning], "table")
    with pytest.raises(ConfigError) as raised:
        raise_for([warning, error], "table")
    assert str(raised.value) == "table: y: no range."


def test_a_release_may_be_written_with_dots(fashion_cnn: Model) -> None:
    table = table_of(fashion_cnn)
    for dotted, digits in (("8.6.0", "8600"), ("8.6.1", "8601"), ("10.3", "100300")):
        assert lint(table, fashion_cnn, release=dotted) == lint(table, fashion_cnn, release=digits)
    assert [item.severity for item in lint(table, fashion_cnn, release="10.3")] == ["error"]
    with pytest.raises(ConfigError, match="'abc' is no release of TensorRT"):
        lint(table, fashion_cnn, release="abc")


def test_a_table_of_no_tensors_says_that_there_is_nothing_to_calibrate(fashion_cnn: Model) -> None:
    assert texts(CalibrationTable({}), fashion_cnn) == [
        "nothing to calibrate: no tensor that depends on the inputs is floating-point"
    ]


def test_a_range_of_0_for_a_tiny_tensor_is_only_a_warning(fashion_cnn: Model) -> None:
    table = table_of(fashion_cnn, image=0.0)
    assert texts(table, fashion_cnn, "warning") == [
        "image: its range is 0, so it has none: what reads it cannot run in int8"
    ]
    assert not texts(table, fashion_cnn, "error")
