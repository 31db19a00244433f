"""Ranges found here, beside those that TensorRT's own calibrators find in the same samples."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_gpu import FASHION, Builder, top1

import workbench as wb
from workbench.backends import CALIBRATION, tensorrt
from workbench.building import Built
from workbench.calibration.collect import collect
from workbench.calibration.collection import load_collection, save_collection
from workbench.calibration.samples import open_samples
from workbench.calibration.table import CalibrationTable, read_table
from workbench.calibration.thresholds import COMPUTED, thresholds
from workbench.calibration.writing import write_table
from workbench.engine import read_layers
from workbench.model import Model, load_model
from workbench.qdq import quantize

pytestmark = pytest.mark.gpu
TRIED = 9000  # pictures that no calibration has seen


@pytest.fixture(scope="module")
def collection(fashion_cnn: Model, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = collect(fashion_cnn, open_samples(samples, fashion_cnn), count=None, until_settled=False)
    return save_collection(found, tmp_path_factory.mktemp("collection") / "fashion.calib")


@pytest.fixture(scope="module")
def table(collection: Path) -> CalibrationTable:
    return thresholds(load_collection(collection), "entropy")


def test_entropy_ranges_are_those_of_tensorrts_calibrator(calibrated: Built, table: CalibrationTable) -> None:
    theirs = read_table(calibrated.engine.folder / CALIBRATION)
    ratios = [table.amax[name] / amax for name, amax in theirs.amax.items() if amax and table.amax.get(name)]
    assert len(ratios) >= 20
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    assert np.mean(np.abs(np.array(ratios) - 1) < 0.2) > 0.8


@pytest.mark.parametrize("algorithm", COMPUTED)
def test_int8_of_a_collection_keeps_the_accuracy(
    built: Builder, fashion_cnn: Model, fashion: Built, collection: Path, pictures, labels, algorithm: str
) -> None:
    calibration = wb.Calibration(str(collection), algorithm)
    engine = built(fashion_cnn, FASHION, precision="int8", calibration=calibration).engine
    assert "int8" in {layer.precision for layer in read_layers(engine)}
    lost = top1(fashion.engine, pictures[:TRIED], labels[:TRIED]) - top1(engine, pictures[:TRIED], labels[:TRIED])
    assert lost <= 0.3


def test_ours_and_tensorrts_table_are_equally_good(
    built: Builder, fashion_cnn: Model, calibrated: Built, collection: Path, pictures, labels
) -> None:
    ours = built(fashion_cnn, FASHION, precision="int8", calibration=wb.Calibration(str(collection))).engine
    found = [top1(engine, pictures[:TRIED], labels[:TRIED]) for engine in (ours, calibrated.engine)]
    assert abs(found[0] - found[1]) <= 0.2


@pytest.mark.parametrize("algorithm", ["entropy", "minmax", "legacy"])
def test_tensorrts_tables_are_read_and_written_byte_for_byte(
    built: Builder, fashion_cnn: Model, samples: Path, tmp_path: Path, algorithm: str
) -> None:
    engine = built(fashion_cnn, FASHION, precision="int8", calibration=wb.Calibration(str(samples), algorithm)).engine
    theirs = engine.folder / CALIBRATION
    found = read_table(theirs)
    assert (found.algorithm, found.release) == (algorithm, "" if algorithm == "legacy" else "8600")
    assert write_table(found, tmp_path / "again.cache", "trt-cache").read_bytes() == theirs.read_bytes()


def test_tensorrt_reads_a_table_written_here_and_asks_for_no_batch(
    fashion_cnn: Model, table: CalibrationTable, tmp_path: Path
) -> None:
    """TensorRT by itself: nothing of the workbench between it and the file."""
    trt: Any = tensorrt.nvidia_api()
    content = write_table(table, tmp_path / "ours.cache", "trt-cache", release="8.6.0").read_bytes()
    asked: list[str] = []

    class Calibrator(trt.IInt8EntropyCalibrator2):
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: list[str]) -> None:
            asked.append("batch")

        def read_calibration_cache(self) -> bytes:
            asked.append("table")
            return content

        def write_calibration_cache(self, data: Any) -> None:
            asked.append("written")

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    assert trt.OnnxParser(network, logger).parse(fashion_cnn.to_bytes())
    config, calibrator = builder.create_builder_config(), Calibrator()
    config.set_flag(trt.BuilderFlag.INT8)
    config.int8_calibrator = calibrator
    config.builder_optimization_level = 1
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (8, 1, 28, 28), (8, 1, 28, 28), (8, 1, 28, 28))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None and "table" in asked and "batch" not in asked
    inspector = trt.Runtime(logger).deserialize_cuda_engine(plan).create_engine_inspector()
    assert "Int8" in inspector.get_engine_information(trt.LayerInformationFormat.JSON)


def test_a_model_quantized_here_needs_no_calibration(
    built: Builder, fashion_cnn: Model, fashion: Built, table: CalibrationTable, pictures, labels, tmp_path: Path
) -> None:
    model = quantize(fashion_cnn, table.amax, tmp_path)
    engine = built(model, FASHION, precision="int8").engine
    convolutions = [layer for layer in read_layers(engine) if "conv" in layer.kind.lower()]
    assert {layer.precision for layer in convolutions} == {"int8"}
    lost = top1(fashion.engine, pictures[:TRIED], labels[:TRIED]) - top1(engine, pictures[:TRIED], labels[:TRIED])
    assert lost <= 0.3


def test_nodes_left_in_float_compute_in_float(built: Builder, fashion_cnn: Model, collection: Path) -> None:
    kept = next(node.name for node in fashion_cnn.nodes if node.op_type == "Conv")
    options = wb.BuilderOptions(layer_precisions={kept: "fp32"})
    calibration = wb.Calibration(str(collection))
    engine = built(fashion_cnn, FASHION, precision="int8", calibration=calibration, builder=options).engine
    by_node = {node: layer.precision for layer in read_layers(engine) for node in layer.nodes}
    assert by_node[kept] == "fp32" and "int8" in by_node.values()


def test_a_table_of_another_model_is_refused(built: Builder, fashion_cnn: Model, tmp_path: Path) -> None:
    other = CalibrationTable({"elsewhere": 1.0, "nowhere": 2.0}, "entropy")
    path = write_table(other, tmp_path / "other.cache", "trt-cache")
    with pytest.raises(wb.WorkbenchError, match="wrong model"):
        built(fashion_cnn, FASHION, precision="int8", calibration=wb.Calibration(str(path)))


def test_the_direction_classifier_is_quantized(built: Builder, tmp_path: Path) -> None:
    """Depthwise convolutions, HardSwish, squeeze and excitation: Q/DQ nodes for all that TensorRT 8.6 takes."""
    model = load_model(Path(__file__).parents[2] / "data" / "models" / "ppocr_mobile_v2_cls.onnx")
    model = load_model(_with_fixed_sides(model, tmp_path))
    picture = np.random.default_rng(0).random((8, 3, 48, 192), np.float32) * 2 - 1
    found = collect(model, open_samples({"x": picture}, model), until_settled=False)
    quantized = quantize(model, thresholds(found).amax, tmp_path)
    quick = wb.BuilderOptions(optimization_level=0)  # with open sizes TensorRT 8.6 tries kernels for minutes else
    engine = built(quantized, ["x:8x3x48x192,8x3x48x192,8x3x48x192"], precision="int8", builder=quick).engine
    assert "int8" in {layer.precision for layer in read_layers(engine)}


def _with_fixed_sides(model: Model, folder: Path) -> Path:
    """Its height and width share a name, and the batch is the number -1."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for axis, size in ((2, 48), (3, 192)):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    onnx.save(proto, str(folder / "cls.onnx"))
    return folder / "cls.onnx"
