"""Where TensorRT's engines start to differ, seen with the fusion as it is and with every tensor given out."""

import numpy as np
import pytest
from helpers_gpu import FASHION, Builder

import workbench as wb
from workbench.backends import CALIBRATION
from workbench.building import Built
from workbench.calibration.table import read_table
from workbench.comparing import compare
from workbench.divergence import Divergence, Seen, compare_tensors, find_divergence
from workbench.divergence.exposing import Network, Workshop, build_exposed, expose
from workbench.divergence.seeing import Looker
from workbench.engine import open_engine
from workbench.model import Model
from workbench.reference import Reference

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def half(built: Builder, fashion_cnn: Model) -> Built:
    return built(fashion_cnn, FASHION, precision="fp16")


@pytest.fixture(scope="module")
def feeds(pictures: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": pictures[:8]}


def kept(built: Built, model: Model, feeds: dict, store: wb.EngineStore) -> Seen:
    looker = Looker(built.engine, Network(model))
    return looker.look([name for name in looker.network.tensors if name in looker.places], feeds, Workshop(store))


def worst(found: Divergence) -> float:
    return max(item.relative for item in found.tensors)


def test_what_is_seen_between_kernels_are_the_models_tensors(
    fashion: Built, fashion_cnn: Model, feeds: dict, store: wb.EngineStore
) -> None:
    network = Network(fashion_cnn)
    wanted = Seen("ONNX Runtime", Reference(expose(network, network.tensors)).run(feeds))
    seen = kept(fashion, fashion_cnn, feeds, store)
    assert len(seen.values) >= 8
    found = compare_tensors(fashion_cnn, wanted, seen)
    assert len(found.tensors) == len(seen.values) and worst(found) < 1e-4


def test_by_default_the_fusion_stays_as_it_is(
    half: Built, fashion: Built, fashion_cnn: Model, feeds: dict, store: wb.EngineStore
) -> None:
    found = find_divergence(fashion.engine, half.engine, fashion_cnn, feeds, store=store)
    print(found)
    assert all("left the fusion as it is: the same" in note for note in found.notes)
    for warning in found.warnings:  # a kernel or two may compute in another precision after any build anew
        assert "kernels still" in warning and "run together with others" not in warning
    assert 5 <= len(found.tensors) < found.total == 26
    assert 1e-5 < worst(found) < 0.01
    assert all(item.first.layer and item.second.layer for item in found.tensors)
    assert found.first_not_finite is None


def test_what_int8_kernels_write_is_left_out_or_a_warning_says_what_looking_changed(
    calibrated: Built, fashion: Built, fashion_cnn: Model, feeds: dict, store: wb.EngineStore
) -> None:
    found = find_divergence(fashion.engine, calibrated.engine, fashion_cnn, feeds, store=store)
    print(found)
    assert len(found.notes) + len(found.warnings) == 2 and 1e-3 < worst(found) < 0.2
    assert all("than in the engine you ship" in warning for warning in found.warnings)


def test_looking_changes_the_outputs_by_no_more_than_rounding(
    half: Built, fashion_cnn: Model, feeds: dict, store: wb.EngineStore
) -> None:
    with open_engine(half.engine) as session:
        alone = session.run(feeds)["logits"]
    seen = kept(half, fashion_cnn, feeds, store).values["logits"]
    assert np.linalg.norm(seen - alone) < 2e-3 * np.linalg.norm(alone)


def test_giving_out_every_tensor_changes_the_fusion_and_the_warning_says_by_how_much(
    fashion: Built, half: Built, fashion_cnn: Model, feeds: dict, store: wb.EngineStore
) -> None:
    found = find_divergence(fashion.engine, half.engine, fashion_cnn, feeds, every_tensor=True, store=store)
    assert len(found.tensors) == found.total == 26
    assert len(found.warnings) == 2
    assert all("exposing 25 tensors changed the fusion: " in warning for warning in found.warnings)
    assert all("than in the engine you ship" in warning for warning in found.warnings)


def test_profiles_and_the_calibration_are_those_of_the_engine(
    calibrated: Built, fashion_cnn: Model, pictures: np.ndarray, store: wb.EngineStore
) -> None:
    network = Network(fashion_cnn)
    exposed, change = build_exposed(calibrated.engine, network, network.tensors, Workshop(store))
    assert change.is_change and exposed.config.profiles == calibrated.engine.config.profiles
    tables = [read_table(engine.folder / CALIBRATION).amax for engine in (calibrated.engine, exposed)]
    assert tables[0] == tables[1]
    with open_engine(exposed) as session:
        assert session.run({"image": pictures[:64]})["logits"].shape == (64, 10)


def test_an_engine_of_onnx_runtime_is_compared_with_one_of_tensorrt(
    half: Built, fashion_cnn: Model, feeds: dict, store: wb.EngineStore
) -> None:
    native = wb.build(fashion_cnn, wb.BuildConfig(), "onnxruntime", store=store).engine
    found = find_divergence(native, half.engine, fashion_cnn, feeds, store=store)
    assert len(found.tensors) >= 5 and 1e-5 < worst(found) < 0.01
    assert found.titles[0].startswith("fp32 on onnxruntime") and found.titles[1].startswith("fp16 on tensorrt")


def test_engines_and_the_model_itself_are_compared_side_by_side(
    fashion: Built, half: Built, calibrated: Built, fashion_cnn: Model, feeds: dict
) -> None:
    with open_engine(fashion.engine) as fp32, open_engine(half.engine) as fp16, open_engine(calibrated.engine) as int8:
        sessions = {"ONNX Runtime": Reference(fashion_cnn), "FP32": fp32, "FP16": fp16, "INT8": int8}
        found = compare(sessions, feeds)
    errors = [item.evaluation.outputs[0].relative.value for item in found.others if item.evaluation]
    assert len(errors) == 3 and errors[0] < 0.01 < errors[1] <= errors[2]
    assert found.value_rows().headers == ("output", "ONNX Runtime", "FP32", "FP16", "INT8")
