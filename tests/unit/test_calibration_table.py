"""Calibration tables: read completely in every form, written byte for byte, or refused with what is wrong."""

import gzip
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import RELU, parse, save, save_external
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.quant_utils import write_calibration_table

from workbench.calibration.table import FORMATS, CalibrationTable, read_table, table_to_json
from workbench.calibration.text_tables import release_digits
from workbench.calibration.writing import write_table
from workbench.errors import ConfigError, WorkbenchError
from workbench.model import Model, load_model

ROOT = Path(__file__).parents[2]
RECORDED = (
    ROOT / "tests/data/tensorrt-8.6.0-h200/resnet18.entropy2.calibration.table",
    ROOT / "data/recorded/tensorrt-8.6.0-h200/resnet18_int8_b1.calibration.cache.gz",
)
TABLE = """TRT-8600-EntropyCalibration2
input: 3d1817e4
(Unnamed Layer* 0) [Constant]_output: 0
a: b [c]: 3c010204
"""


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def convert(source: Path, target: Path, form: str, **options: Any) -> None:
    write_table(read_table(source), target, form, **options)


# ---- TensorRT's cache


def test_a_cache_tells_release_algorithm_and_ranges(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "cache", TABLE))
    assert (table.format, table.release, table.algorithm, table.header) == (
        "trt-cache",
        "8600",
        "entropy",
        "EntropyCalibration2",
    )
    assert list(table.amax) == ["input", "(Unnamed Layer* 0) [Constant]_output", "a: b [c]"]
    assert table.scale("input") == pytest.approx(0.03713, abs=1e-5)
    assert table.amax["a: b [c]"] == pytest.approx(1)
    assert table.amax["(Unnamed Layer* 0) [Constant]_output"] == 0


@pytest.mark.parametrize(
    ("header", "algorithm"),
    [
        ("TRT-7103-EntropyCalibration", "entropy"),
        ("TRT-100300-MinMaxCalibration", "minmax"),
        ("TRT-101601-LegacyCalibration", "legacy"),
    ],
)
def test_every_release_and_calibrator_is_written_as_it_was_read(tmp_path: Path, header: str, algorithm: str) -> None:
    source = written(tmp_path / "cache", f"{header}\nx: 3d1817e4\n")
    table = read_table(source)
    assert table.algorithm == algorithm
    assert write_table(table, tmp_path / "again", "trt-cache").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda path: path.name)
def test_what_tensorrt_wrote_is_written_byte_for_byte(tmp_path: Path, recorded: Path) -> None:
    again = write_table(read_table(recorded), tmp_path / "again", "trt-cache")
    content = recorded.read_bytes()
    assert again.read_bytes() == (gzip.decompress(content) if recorded.suffix == ".gz" else content)


@pytest.mark.parametrize("text", [TABLE, "x: 1.5\ny: 2\n", '{"x": [-3.0, 2.0]}'], ids=["trt-cache", "ranges", "ort"])
def test_a_table_compressed_by_gzip_is_read_as_it_is_unpacked(tmp_path: Path, text: str) -> None:
    (tmp_path / "packed").write_bytes(gzip.compress(text.encode()))
    assert read_table(tmp_path / "packed") == read_table(written(tmp_path / "plain", text))


PACKED = gzip.compress(TABLE.encode(), mtime=0)


@pytest.mark.parametrize(
    "content",
    [PACKED[:-5], PACKED[:12], PACKED[:2], PACKED[:10] + b"\xff" * 30, PACKED[:-8] + bytes(8), PACKED + b"more"],
    ids=["its end is gone", "only its beginning", "only its magic", "other bytes", "wrong checksum", "more behind it"],
)
def test_a_damaged_gzip_file_is_no_table(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cache.gz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"cache\.gz: it is no whole gzip file \(.+\); copy the calibration table"):
        read_table(tmp_path / "cache.gz")


NAMES = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1).filter(str.strip)
SCALES = st.floats(min_value=2.0**-126, max_value=2.0**127, width=32)


@given(st.dictionaries(NAMES, SCALES | st.just(0.0), min_size=1))
def test_any_name_and_any_scale_survive_a_cache(
    tmp_path_factory: pytest.TempPathFactory, scales: Mapping[str, float]
) -> None:
    if not any(scales.values()):
        scales = {**scales, "x": 1.0}
    table = CalibrationTable({name: scale * 127 for name, scale in scales.items()}, "minmax")
    path = write_table(table, tmp_path_factory.mktemp("fuzz") / "cache", "trt-cache")
    again = read_table(path)
    assert list(again.amax.items()) == list(table.amax.items())
    assert {name: again.scale(name) for name in scales} == scales


def test_the_table_of_paddle2onnx_is_read(tmp_path: Path) -> None:
    """It pads its digits, and writes no release but 8XXX with a space after the line."""
    text = "TRT-8XXX-EntropyCalibration2 \nrelu_0.tmp_0: 3d1817e4\nconst: 00000000\n"
    table = read_table(written(tmp_path / "calibration.cache", text))
    assert (table.release, table.amax["const"]) == ("8XXX", 0)
    assert table.scale("relu_0.tmp_0") == struct.unpack(">f", bytes.fromhex("3d1817e4"))[0]


def test_a_release_is_written_by_its_version_or_its_digits(tmp_path: Path) -> None:
    versions = {"8.6.0": "8600", "8.5.3.1": "8503", "10.3.0": "100300", "10.16.1.11": "101601", "7103": "7103"}
    assert {version: release_digits(version) for version in versions} == versions
    convert(written(tmp_path / "cache", TABLE), tmp_path / "ten", "trt-cache", release="10.3.0")
    assert (tmp_path / "ten").read_text() == TABLE.replace("8600", "100300")
    with pytest.raises(ConfigError, match="'newest' is no release of TensorRT"):
        convert(tmp_path / "cache", tmp_path / "other", "trt-cache", release="newest")


def test_an_algorithm_that_tensorrt_has_not_is_written_as_its_entropy(tmp_path: Path) -> None:
    path = write_table(CalibrationTable({"x": 1.0}, "percentile"), tmp_path / "cache", "trt-cache")
    assert path.read_text().startswith("TRT-8600-EntropyCalibration2\n")


# ---- where Paddle keeps them


def test_paddles_table_is_found_by_its_file_its_folder_and_its_models_folder(tmp_path: Path) -> None:
    file = written(tmp_path / "_opt_cache" / "trt_calib_1234567890", TABLE)
    assert read_table(file) == read_table(file.parent) == read_table(tmp_path)


def test_of_several_tables_of_paddle_one_must_be_named(tmp_path: Path) -> None:
    for key in ("17", "42"):
        written(tmp_path / "_opt_cache" / f"trt_calib_{key}", TABLE)
    with pytest.raises(ConfigError, match=r"2 tables, .*; name trt_calib_17, trt_calib_42"):
        read_table(tmp_path)
    assert read_table(tmp_path / "_opt_cache" / "trt_calib_42").release == "8600"


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder without a calibration table"):
        read_table(tmp_path)


# ---- NVIDIA's dynamic ranges


def test_nvidias_dynamic_ranges_are_read(tmp_path: Path) -> None:
    text = "gpu_0/data_0: 1.00024\ngpu_0/conv1_1: 5.43116\ngpu_0/res_conv1_bn_1:8.69736\n"
    table = read_table(written(tmp_path / "resnet50_per_tensor_dynamic_range.txt", text))
    assert (table.format, table.release, table.algorithm) == ("ranges", "", "")
    assert table.amax == {"gpu_0/data_0": 1.00024, "gpu_0/conv1_1": 5.43116, "gpu_0/res_conv1_bn_1": 8.69736}


def test_a_file_without_a_last_line_end_is_read_with_a_warning(tmp_path: Path) -> None:
    table = read_table(written(tmp_path / "ranges.txt", "x: 1.5\ny: 2"))
    assert table.amax == {"x": 1.5, "y": 2.0}
    assert "may be cut off" in table.notes[0]


def test_ranges_keep_every_bit_and_leave_out_what_has_no_range(tmp_path: Path) -> None:
    convert(RECORDED[0], tmp_path / "ranges.txt", "ranges")
    table, found = read_table(RECORDED[0]), read_table(tmp_path / "ranges.txt")
    assert found.format == "ranges"
    assert list(found.amax.items()) == [(name, amax) for name, amax in table.amax.items() if amax]


def test_a_cache_without_its_first_line_is_not_taken_for_ranges(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 1: 'x: 39000000' is no 'tensor name: number'"):
        read_table(written(tmp_path / "cache", "x: 39000000\n"))


# ---- ONNX Runtime's table


def test_onnx_runtimes_own_files_are_read(tmp_path: Path) -> None:
    ends = {"x:0": (-1.5, 0.5), "a b": (0.0, 6.0)}
    data = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32), hist=np.ones(3))
        for name, (low, high) in ends.items()
    }
    write_calibration_table(data, str(tmp_path))
    assert list(read_table(tmp_path).amax.items()) == [("x:0", 1.5), ("a b", 6.0)]
    assert read_table(tmp_path / "calibration.json").format == "ort"
    high_ends = {"a b": 6.0, "x:0": 0.5}  # all that ONNX Runtime keeps in the others
    assert read_table(tmp_path / "calibration.cache").amax == high_ends


@pytest.mark.parametrize("method", ["Entropy", "MinMax", "Percentile"])
def test_the_algorithm_of_onnx_runtimes_cache_is_told(tmp_path: Path, method: str) -> None:
    """As its `save_tensors_data` writes it, which older releases do not have."""
    text = """{"CLS": "TensorsData",
        "calibration_method": {"CLS": "CalibrationMethod", "value": "CalibrationMethod.%s"},
        "data": {"x": {"CLS": "TensorData", "lowest": {"data": -1.0, "dtype": "float32", "CLS": "numpy.array"},
                       "highest": {"data": 2.0, "dtype": "float32", "CLS": "numpy.array"}}}, "smooth_quant": false}"""
    table = read_table(written(tmp_path / "cache.json", text % method))
    assert (table.format, table.algorithm, table.amax) == ("ort", method.lower(), {"x": 2.0})


def test_the_pairs_of_older_releases_of_onnx_runtime_are_read(tmp_path: Path) -> None:
    assert read_table(written(tmp_path / "old.json", '{"x": [-3.0, 2.0]}')).amax == {"x": 3.0}


@pytest.mark.parametrize("suffix", ["", "/calibration.json", "/calibration.cache", "/calibration.flatbuffers"])
def test_a_table_goes_through_onnx_runtimes_files(tmp_path: Path, suffix: str) -> None:
    convert(RECORDED[0], tmp_path / "ort", "ort")
    table, found = read_table(RECORDED[0]), read_table(f"{tmp_path}/ort{suffix}")
    assert found.format == "ort"
    assert dict(found.amax) == pytest.approx({name: amax for name, amax in table.amax.items() if amax}, rel=1e-7)
    if suffix in ("", "/calibration.json"):
        assert list(found.amax) == [name for name, amax in table.amax.items() if amax]


def test_one_of_onnx_runtimes_files_is_written_alone(tmp_path: Path) -> None:
    convert(written(tmp_path / "in" / "cache", TABLE), tmp_path / "out" / "table.flatbuffers", "ort")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["table.flatbuffers"]
    assert set(read_table(tmp_path / "out" / "table.flatbuffers").amax) == {"input", "a: b [c]"}


# ---- models with Q/DQ nodes

QDQ = """(float[n,4] x) => (float[n,4] y) {
    q = QuantizeLinear(x, s, z) t = DequantizeLinear(q, s, z)
    r = Relu(t)
    rq = QuantizeLinear(r, s2, z2) y = DequantizeLinear(rq, s2, z2)
}"""
SCALE, SCALE_2 = np.array(0.5, np.float32), np.array(0.25, np.float32)


def qdq(path: Path, zero: np.ndarray, zero_2: np.ndarray) -> CalibrationTable:
    return read_table(save(path / "m.onnx", QDQ, s=SCALE, z=zero, s2=SCALE_2, z2=zero_2))


def test_ranges_of_a_quantized_model_are_read_under_the_float_models_names(tmp_path: Path) -> None:
    table = qdq(tmp_path, np.array(0, np.int8), np.array(128, np.uint8))
    assert (table.format, dict(table.amax), table.notes) == ("qdq", {"x": 63.5, "y": 31.75}, ())


def test_an_uneven_zero_point_gives_the_largest_magnitude_and_a_note(tmp_path: Path) -> None:
    table = qdq(tmp_path, np.array(0, np.int8), np.array(0, np.uint8))
    assert dict(table.amax) == {"x": 63.5, "y": 255 * 0.25}
    assert table.notes == ("y: its zero point is not in the middle; its range is the largest magnitude kept.",)


def test_weights_of_a_quantized_model_are_no_tensors_of_the_table(tmp_path: Path) -> None:
    graph = """(float[n,4] x) => (float[n,4] y) {
        q = QuantizeLinear(x, s) t = DequantizeLinear(q, s)
        wq = QuantizeLinear(w, s) v = DequantizeLinear(wq, s)
        y = MatMul(t, v)
    }"""
    weights = np.ones((4, 4), np.float32)
    assert dict(read_table(save(tmp_path / "m.onnx", graph, s=SCALE, w=weights)).amax) == {"x": 127.5}


def test_a_scale_in_a_constant_node_is_found(tmp_path: Path) -> None:
    proto = parse("(float[n,4] x) => (float[n,4] y) { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }")
    for name, value in (("s", SCALE), ("z", np.array(0, np.int8))):
        proto.graph.node.insert(0, helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert dict(read_table(tmp_path / "m.onnx").amax) == {"y": 63.5}


def test_a_node_tells_its_type_where_it_has_no_zero_point(tmp_path: Path) -> None:
    proto = parse("(float[n,4] x) => (float[n,4] y) { q = QuantizeLinear(x, s) y = DequantizeLinear(q, s) }", s=SCALE)
    (tmp_path / "uint8.onnx").write_bytes(proto.SerializeToString())
    proto.opset_import[0].version = 21
    proto.ir_version = 10
    proto.graph.node[0].attribute.append(helper.make_attribute("output_dtype", TensorProto.INT8))
    (tmp_path / "int8.onnx").write_bytes(proto.SerializeToString())
    assert dict(read_table(tmp_path / "uint8.onnx").amax) == {"y": 127.5}
    assert dict(read_table(tmp_path / "int8.onnx").amax) == {"y": 63.5}


def test_a_model_without_ranges_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tensor of it is quantized"):
        read_table(save(tmp_path / "m.onnx", RELU))


def test_ranges_go_into_a_model_and_come_back(tmp_path: Path, fashion_cnn: Model) -> None:
    names = ["image", "/stem/relu/Relu_output_0", "/down1/relu/Relu_output_0", "/residual1/relu/Relu_output_0"]
    names += ["/down2/relu/Relu_output_0", "/residual1/first/relu/Relu_output_0", "/residual2/relu/Relu_output_0"]
    source = write_table(CalibrationTable({name: 2.0 for name in names}), tmp_path / "ranges.txt", "ranges")
    convert(source, tmp_path / "int8.onnx", "qdq", model=fashion_cnn)
    found = read_table(tmp_path / "int8.onnx")
    assert set(found.amax) <= set(names)
    assert found.amax["image"] == pytest.approx(2.0)
    assert load_model(tmp_path / "int8.onnx").is_quantized


def test_writing_into_a_model_wants_the_model_that_the_table_belongs_to(tmp_path: Path, fashion_cnn: Model) -> None:
    with pytest.raises(ConfigError, match="name the one that the table belongs to"):
        convert(RECORDED[0], tmp_path / "int8.onnx", "qdq")
    with pytest.raises(ConfigError, match=r"wrong model: none of its tensors .* is in fashion_cnn"):
        convert(RECORDED[0], tmp_path / "int8.onnx", "qdq", model=fashion_cnn)
    assert not list(tmp_path.glob("*.onnx"))


# ---- what is refused


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not a calibration table: it is empty"),
        ("x: 3d1817e4\n", "not a calibration table: it begins with 'x: 3d1817e4"),
        ("TRT-8600-Guessing\nx: 1\n", "it begins with 'TRT-8600-Guessing'"),
        ("TRT-8600-EntropyCalibration2\n", "it names no tensor"),
        ("TRT-8600-EntropyCalibration2\nx: 3d1817e4\ny 12\n", "line 3: 'y 12' is no 'tensor name: 8 hexadecimal"),
        ("TRT-8600-EntropyCalibration2\nx: 3d1817e4\nx: 3d1817e4\n", "line 3: 'x' stands in it twice"),
        ("x: 1.5\nx: 1.5\n", "line 2: 'x' stands in it twice"),
        ("x: 1.5\ny: nan\n", "line 2: 'y: nan' is no"),
        ("x 1.5\ny: 2\n", "not a calibration table"),
        ("\x00\x01\ufffd", "not a calibration table"),
        ("PK\x03\x04", "an archive of arrays is not a calibration table"),
        ('{"x": [1, -1]}', "low end lies above its high end"),
        ('{"x": [-1, 1], "x": [-2, 2]}', "a name stands in it twice"),
        ('{"x": "y"}', "no calibration table of ONNX Runtime"),
        ('{"\\ud800": [-1, 1]}', "no calibration table of ONNX Runtime"),
        ("{}", "it names no tensor"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_table(written(tmp_path / "file", content))


def test_what_is_no_text_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"TRT-8600-EntropyCalibration2\nx\xff: 3d1817e4\n")
    with pytest.raises(ConfigError, match="damaged: byte 30 is no text"):
        read_table(tmp_path / "cache")


@pytest.mark.parametrize("path", ["nothing", "nothing.onnx", "file/below", "\0"])
def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path, path: str) -> None:
    written(tmp_path / "file", TABLE)
    with pytest.raises(WorkbenchError, match=r"cannot be read|there is no such file|not a path"):
        read_table(tmp_path / path)


@pytest.mark.parametrize("amax", [float("nan"), float("inf"), -1.0, 1e-44, 1e300])
def test_a_range_that_is_none_is_not_written(tmp_path: Path, amax: float) -> None:
    with pytest.raises(ConfigError, match=r"is not written: x: .*calibrate again"):
        write_table(CalibrationTable({"x": amax, "y": 1.0}), tmp_path / "table", "ranges")
    assert not (tmp_path / "table").exists()


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    table = CalibrationTable({"x\ny": 1.0})
    with pytest.raises(ConfigError, match="cannot hold the tensor name"):
        write_table(table, tmp_path / "out" / "table", "trt-cache")
    with pytest.raises(ConfigError, match="no form of tables 'text'; choose one of trt-cache, ranges, ort, qdq"):
        write_table(table, tmp_path / "out" / "table", "text")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_table(table, written(tmp_path / "file", "") / "below", "ort")
    assert not list((tmp_path / "out").iterdir())


# ---- for programs


def test_a_table_as_json_has_scale_and_range_of_every_tensor(tmp_path: Path) -> None:
    shown = table_to_json(read_table(written(tmp_path / "cache", TABLE)))
    assert (shown["format"], shown["release"], shown["algorithm"]) == ("trt-cache", "8600", "entropy")
    assert shown["tensors"][1] == {"tensor": "(Unnamed Layer* 0) [Constant]_output", "amax": 0.0, "scale": 0.0}
    assert shown["tensors"][2]["scale"] * 127 == shown["tensors"][2]["amax"]
    broken = table_to_json(CalibrationTable({"x": float("nan")}))
    assert json.loads(json.dumps(broken, allow_nan=False))["tensors"] == [{"tensor": "x", "amax": None, "scale": None}]


def test_a_cache_of_the_legacy_calibrator_names_no_release_and_comes_back_byte_for_byte(tmp_path: Path) -> None:
    """As TensorRT 8.6.0 wrote it on an H200."""
    path = tmp_path / "legacy.cache"
    path.write_text("0 3ff0000000000000 3fefff2e48e8a71e\nimage: 3c010204\n/stem/relu/Relu_output_0: 3d1817e4\n")
    found = read_table(path)
    assert (found.algorithm, found.release, found.format) == ("legacy", "", "trt-cache")
    assert found.amax["image"] == pytest.approx(1.0)
    again = write_table(found, tmp_path / "again.cache", "trt-cache")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("form", FORMATS)
def test_no_form_is_written_over_the_model_or_its_weights(tmp_path: Path, form: str) -> None:
    path = save_external(tmp_path / "net.onnx")
    weights = tmp_path / "weights.bin"
    weights.write_bytes(np.ones(16, np.float32).tobytes())
    (tmp_path / "link").symlink_to(weights)
    model, before = load_model(path), path.read_bytes()
    for target in (path, weights, tmp_path / "link"):
        with pytest.raises(ConfigError, match=r"the model or its weights lie there|a file; name a folder"):
            write_table(CalibrationTable({"x": 1.0, "y": 1.0}), target, form, model=model)
    assert (path.read_bytes(), weights.read_bytes()) == (before, np.ones(16, np.float32).tobytes())


def test_what_holds_samples_is_no_table_in_plain_words(tmp_path: Path) -> None:
    content = struct.pack("<q", 2) + np.ones(2 * 12, "<f4").tobytes() + struct.pack("<qq", 0, 1)
    (tmp_path / "d.bin").write_bytes(content)
    with pytest.raises(ConfigError, match=r"d\.bin: not a calibration table.*`workbench calibrate` makes") as caught:
        read_table(tmp_path / "d.bin")
    assert "unpack" not in str(caught.value)
