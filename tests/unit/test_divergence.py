"""Where two engines start to differ, on real engines, with faults whose place is known."""

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import FASHION_CNN, OCR_CLS, OCR_DET, save
from onnx import numpy_helper

from workbench import backends
from workbench.accuracy import compare_outputs
from workbench.building import build
from workbench.calibration.samples import open_samples
from workbench.calibration.table import read_table
from workbench.calibration.writing import write_table
from workbench.divergence import Divergence, Seen, compare_tensors, divergence_from_json, find_divergence
from workbench.divergence.exposing import (
    FusionChange,
    Network,
    Workshop,
    build_exposed,
    build_harmless,
    expose,
    fusion_of,
    places_by_nodes,
    places_in_layers,
)
from workbench.divergence.seeing import Looker
from workbench.engine import Engine, open_engine, read_layers
from workbench.errors import BackendError, Cancelled, ConfigError
from workbench.export.text_encoder import text_encoder
from workbench.fusion import open_fusion
from workbench.layers import precision_name
from workbench.model import Model, load_model
from workbench.profiles import parse_profiles
from workbench.reference import Reference, random_feeds
from workbench.store import EngineStore
from workbench.types import BuildConfig, Calibration, Progress

DATA = Path(__file__).parents[2] / "data"
TRANSFORMER = Path("a text encoder")
Builder = Callable[..., Engine]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> EngineStore:
    return EngineStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def made(shared: EngineStore) -> Builder:
    """made(model, precision, **fields of BuildConfig)"""

    def make(model: Model, precision: str = "fp32", backend: str = "onnxruntime", **fields: object) -> Engine:
        return build(model, BuildConfig(precision, **fields), backend, store=shared).engine  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def pictures(fashion_cnn: Model) -> np.ndarray:
    samples = open_samples(DATA / "fashion_mnist_test", fashion_cnn)
    return np.concatenate([samples.read(index).feeds["image"] for index in range(64)])


@pytest.fixture(scope="module")
def samples(pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "pictures.npz"
    np.savez(path, image=pictures)
    return path


@pytest.fixture(scope="module")
def int8(made: Builder, fashion_cnn: Model, samples: Path) -> Engine:
    return made(fashion_cnn, "int8", calibration=Calibration(str(samples)))


@pytest.fixture(scope="module")
def feeds(pictures: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": pictures[:4]}


def opened(path: Path, folder: Path) -> Model:
    return text_encoder(folder / "encoder.onnx") if path == TRANSFORMER else load_model(path)


def kept(engine: Engine, model: Model, feeds: Mapping[str, np.ndarray], store: EngineStore) -> Seen:
    """All that the engine keeps anyway."""
    looker = Looker(engine, Network(model))
    return looker.look([name for name in looker.network.tensors if name in looker.places], feeds, Workshop(store))


def all_of(engine: Engine, model: Model, feeds: Mapping[str, np.ndarray], store: EngineStore) -> Seen:
    return Looker(engine, Network(model)).look_at_all(feeds, Workshop(store))


# ---- what is seen is what is there


@pytest.mark.parametrize(
    ("path", "shapes", "fewest"),
    [
        (FASHION_CNN, {"image": (2, 1, 28, 28)}, 10),
        (OCR_CLS, {"x": (1, 3, 48, 192)}, 150),
        (OCR_DET, {"x": (1, 3, 64, 64)}, 300),
        (TRANSFORMER, {"embeddings": (2, 5, 64)}, 28),
    ],
)
def test_tensors_of_a_plan_are_those_of_the_model(
    path: Path, shapes: dict[str, tuple[int, ...]], fewest: int, made: Builder, shared: EngineStore, tmp_path: Path
) -> None:
    """Also where sums and activations were fused into a kernel, and in the blocked layout."""
    model = opened(path, tmp_path)
    feeds, network = random_feeds(model.inputs, shapes), Network(model)
    seen = kept(made(model), model, feeds, shared)
    wanted = Reference(expose(network, network.tensors)).run(feeds)
    assert len(seen.values) >= fewest
    for name, array in seen.values.items():
        assert array.shape == wanted[name].shape
        assert np.allclose(array, wanted[name], rtol=1e-3, atol=1e-4 * max(1, np.abs(wanted[name]).max())), name


def test_looking_into_a_plan_changes_no_output_by_a_bit(
    made: Builder, fashion_cnn: Model, int8: Engine, feeds: dict[str, np.ndarray], shared: EngineStore
) -> None:
    for engine in (made(fashion_cnn), made(fashion_cnn, "fp16"), int8):
        with open_engine(engine) as session:
            alone = session.run(feeds)["logits"]
        assert np.array_equal(kept(engine, fashion_cnn, feeds, shared).values["logits"], alone)


def test_fp16_and_int8_engines_are_seen_under_the_models_names(
    made: Builder, fashion_cnn: Model, int8: Engine, feeds: dict[str, np.ndarray], shared: EngineStore
) -> None:
    fp32, fp16 = made(fashion_cnn), made(fashion_cnn, "fp16")
    names = {name: set(kept(engine, fashion_cnn, feeds, shared).values) for name, engine in (("16", fp16), ("8", int8))}
    assert names["16"] == names["8"] == set(kept(fp32, fashion_cnn, feeds, shared).values)


def test_weights_beside_the_plan_are_found(made: Builder, shared: EngineStore, tmp_path: Path) -> None:
    graph = (
        "(float[n,64] x) => (float[n,64] y) { [first] a = MatMul(x, w) [second] b = Tanh(a) [third] y = MatMul(b, w) }"
    )
    path = save(tmp_path / "plain.onnx", graph, w=np.random.default_rng(0).random((64, 64), np.float32))
    onnx.save(onnx.load(str(path)), str(tmp_path / "large.onnx"), save_as_external_data=True, location="large.bin")
    model = load_model(tmp_path / "large.onnx")
    engine = made(model)
    assert "model.onnx.data" in engine.files
    feeds = {"x": np.random.default_rng(1).random((2, 64), np.float32)}
    seen = kept(engine, model, feeds, shared)
    weights = numpy_helper.to_array(load_model(path).proto.graph.initializer[0])
    assert np.allclose(seen.values["b"], np.tanh(feeds["x"] @ weights), atol=1e-5)
    found = find_divergence(engine, made(model, "fp16"), model, feeds, every_tensor=True, store=shared)
    assert len(found.tensors) == found.total == 3


# ---- what is found


def test_precisions_of_a_network_are_compared_layer_by_layer(
    made: Builder, fashion_cnn: Model, int8: Engine, feeds: dict[str, np.ndarray], shared: EngineStore
) -> None:
    fp32, fp16 = made(fashion_cnn), made(fashion_cnn, "fp16")
    half, eighth = (find_divergence(fp32, other, fashion_cnn, feeds, store=shared) for other in (fp16, int8))
    assert half.total == eighth.total == 26 and not (half.warnings or eighth.warnings)
    assert half.first_divergent is None and half.largest_jump is not None
    assert eighth.first_divergent is not None and eighth.first_divergent in eighth.tensors[:2]
    errors = [[item.relative for item in found.tensors] for found in (half, eighth)]
    assert 0 < max(errors[0]) < 0.01 < max(errors[1]) < 0.2
    assert [item.tensor for item in half.tensors][-1] == "logits"


def test_every_error_is_that_of_accuracy(
    made: Builder, fashion_cnn: Model, int8: Engine, feeds: dict[str, np.ndarray], shared: EngineStore
) -> None:
    fp32 = made(fashion_cnn)
    found = find_divergence(fp32, int8, fashion_cnn, feeds, store=shared)
    first, second = (kept(engine, fashion_cnn, feeds, shared).values for engine in (fp32, int8))
    for item, other in zip(found.tensors, compare_outputs(first, second), strict=True):
        assert (item.tensor, item.relative, item.max_abs) == (other.output, other.relative, other.max_abs)
        assert item.second.largest == np.abs(second[item.tensor]).max()


def test_every_tensor_is_seen_where_fusion_may_change_and_the_warning_counts_it(
    made: Builder, fashion_cnn: Model, feeds: dict[str, np.ndarray], shared: EngineStore
) -> None:
    fp32, fp16 = made(fashion_cnn), made(fashion_cnn, "fp16")
    found = find_divergence(fp32, fp16, fashion_cnn, feeds, every_tensor=True, store=shared)
    assert len(found.tensors) == found.total == 26 and found.every_tensor
    assert len(found.warnings) == 2
    assert f"exposing 25 tensors changed the fusion: {fp32.layers} layers became " in found.warnings[0]
    assert "than in the engine you ship" in str(found)
    assert all(item.first.layer and item.second.layer for item in found.tensors)


def changed(model: Model, weight: str, path: Path) -> Model:
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    (tensor,) = (item for item in proto.graph.initializer if item.name == weight)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), weight))
    onnx.save(proto, str(path))
    return load_model(path)


@pytest.mark.parametrize("node", ["/stem/conv/Conv", "/residual1/second/conv/Conv", "/residual2/first/conv/Conv"])
def test_a_node_with_other_weights_is_named(
    node: str, made: Builder, fashion_cnn: Model, feeds: dict[str, np.ndarray], shared: EngineStore, tmp_path: Path
) -> None:
    (weight,) = (item.input[1] for item in fashion_cnn.nodes if item.name == node)
    other = changed(fashion_cnn, weight, tmp_path / "changed.onnx")
    every = [all_of(made(model), model, feeds, shared) for model in (fashion_cnn, other)]
    first = compare_tensors(fashion_cnn, *every).first_divergent
    assert first is not None and (first.node, first.nodes) == (node, (node,))
    assert first.relative == pytest.approx(0.5, abs=0.01) and first.before < 1e-5
    fused = [kept(made(model), model, feeds, shared) for model in (fashion_cnn, other)]
    first = compare_tensors(fashion_cnn, *fused).first_divergent
    assert first is not None and first.nodes[0] == node  # and what is fused with it


def test_a_range_that_is_too_small_is_found_where_it_clips(
    made: Builder, fashion_cnn: Model, int8: Engine, feeds: dict[str, np.ndarray], shared: EngineStore, tmp_path: Path
) -> None:
    clipped, reader = "/down1/relu/Relu_output_0", "/residual1/first/conv/Conv"
    table = read_table(int8.folder / backends.CALIBRATION)
    table.amax[clipped] /= 50  # type: ignore[index]
    write_table(table, tmp_path / "wrong.cache", "trt-cache")
    wrong = made(fashion_cnn, "int8", calibration=Calibration(str(tmp_path / "wrong.cache")))
    found = find_divergence(made(fashion_cnn), wrong, fashion_cnn, feeds, threshold=0.3, store=shared)
    first = found.first_divergent
    assert first is not None and first.sources == (clipped,) and first.nodes[0] == reader
    assert found.largest_jump in found.introduced
    right = find_divergence(made(fashion_cnn), int8, fashion_cnn, feeds, threshold=0.3, store=shared)
    assert right.first_divergent is None


def test_a_value_beyond_fp16_is_told_and_the_node_that_makes_it(
    made: Builder, shared: EngineStore, tmp_path: Path
) -> None:
    """Where the outputs stay in fp16 it is infinite; within, a processor computes in float32."""
    graph = "(float[n,4] x) => (float[n,4] y) { [calm] a = Relu(x) [grow] b = Mul(a, w) [turn] y = Neg(b) }"
    model = load_model(save(tmp_path / "large.onnx", graph, w=np.full(1, 300, np.float32)))
    feeds = {"x": np.array([[1, 300, 2, 299]], np.float32)}
    fp16 = made(model, "fp16", keep_io_types=False)
    found = find_divergence(made(model), fp16, model, feeds, every_tensor=True, store=shared)
    beyond, lost = found.beyond_fp16, found.first_not_finite
    assert beyond is not None and (beyond.node, beyond.first.largest) == ("grow", 90_000)
    assert lost is not None and (lost.first.not_finite, lost.second.not_finite) == (0, 2)
    assert lost.relative == math.inf and lost is found.first_divergent
    assert "Infinity or NaN comes first in b: 0 values in fp32" in str(found)
    assert "b reaches 9e+04, and float16 ends at 65,504: keep grow in fp32." in found.sentences
    assert found.beyond_fp16 is not None and again(found) == found
    calm = find_divergence(made(model), made(model), model, feeds, store=shared)
    assert (calm.beyond_fp16, calm.first_not_finite, calm.largest_jump) == (None, None, None)


def test_infinities_that_both_have_are_no_overflow(fashion_cnn: Model, tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "log.onnx", "(float[n,2] x) => (float[n,2] y) { [log] y = Log(x) }"))
    seen = Seen("one", Reference(model).run({"x": np.array([[0, 1]], np.float32)}))
    found = compare_tensors(model, seen, seen)
    assert (found.first_not_finite, found.tensors[0].relative, found.tensors[0].first.not_finite) == (None, 0, 1)


def test_in_a_transformer_an_error_is_followed_over_every_branch(
    made: Builder, shared: EngineStore, tmp_path: Path
) -> None:
    model = text_encoder(tmp_path / "encoder.onnx")
    feeds = random_feeds(model.inputs, {"embeddings": (2, 6, 64)})
    found = find_divergence(made(model), made(model, "fp16"), model, feeds, threshold=1e-4, store=shared)
    assert 25 <= len(found.tensors) < found.total == 43
    order = {item.tensor: place for place, item in enumerate(found.tensors)}
    makers = {name: node.name for node in model.nodes for name in node.output}
    for item in found.tensors:
        assert all(order[source] < order[item.tensor] for source in item.sources)
        assert item.nodes[-1] == item.node == makers[item.tensor]
        assert item.before == max((found.tensors[order[source]].relative for source in item.sources), default=0)
    assert any(len(item.sources) > 1 for item in found.tensors)
    first = found.first_divergent
    assert first is not None and first.before <= 1e-4 < first.relative
    assert all(item.relative <= 1e-4 for item in found.tensors[: order[first.tensor]])


def test_tensors_of_other_shapes_and_text_are_left_out(tmp_path: Path) -> None:
    graph = "(float[n,2] x) => (float[n,2] y, float[n,2] z) { [a] y = Relu(x) [b] z = Neg(y) }"
    model = load_model(save(tmp_path / "two.onnx", graph))
    first = Seen("hooks", {"y": np.ones((3, 2)), "z": np.ones((3, 2))})
    found = compare_tensors(model, first, Seen("ours", {"y": np.ones((3, 2)), "z": np.ones((2, 3))}))
    assert [item.tensor for item in found.tensors] == ["y"]
    assert found.notes == ("left out, as their shapes are not the same in both: 1 tensor, such as z.",)
    words = compare_tensors(model, first, Seen("ours", {"y": np.array([["a"]], object)}))
    assert words.tensors == () and "Nothing can be told" in str(words)


# ---- NVIDIA's engines: built with outputs here, run on a GPU (tests/gpu)


@pytest.mark.rtx
def test_nvidias_engine_with_outputs_is_built_as_the_original_was(
    made: Builder, fashion_cnn: Model, int8: Engine, shared: EngineStore
) -> None:
    profiles = parse_profiles(["image:1x1x28x28,8x1x28x28,64x1x28x28"])
    network = Network(fashion_cnn)
    table = Calibration(str(int8.folder / backends.CALIBRATION))
    for precision, calibration in (("fp16", None), ("int8", table)):
        engine = made(fashion_cnn, precision, "rtx", profiles=profiles, calibration=calibration)
        exposed, change = build_exposed(engine, network, network.tensors, Workshop(shared))
        assert (exposed.config.profiles, exposed.targets, exposed.precision) == (profiles, engine.targets, precision)
        assert change.is_change and change.unit == "kernel" and change.exposed == 25
        assert len(exposed.files) == len(engine.files)
        places = places_by_nodes(fusion_of(exposed, network), network.tensors)
        names = {layer.name for layer in read_layers(exposed)}
        assert list(places) == list(network.tensors) and sum(place.layer in names for place in places.values()) >= 24


@pytest.mark.rtx
def test_nodes_that_are_fused_as_before_are_told_from_the_others(
    made: Builder, fashion_cnn: Model, shared: EngineStore
) -> None:
    network = Network(fashion_cnn)
    profiles = parse_profiles(["image:1x1x28x28,8x1x28x28,64x1x28x28"])
    engine = made(fashion_cnn, "fp32", "rtx", profiles=profiles)
    _, nothing = build_exposed(engine, network, ["logits"], Workshop(shared))
    assert not nothing.is_change and "left the fusion as it is: the same" in str(nothing)
    _, change = build_exposed(engine, network, ["/residual2/first/conv/Conv_output_0"], Workshop(shared))
    assert "/residual2/first/norm/BatchNormalization" in change.touched and "/stem/conv/Conv" not in change.touched
    wanted = ["/residual2/first/conv/Conv_output_0", "/residual2/relu/Relu_output_0", "logits"]
    _, change, left = build_harmless(engine, network, wanted, Workshop(shared))
    assert left == wanted[1:] and not change.is_change and change.exposed == 1


@pytest.mark.rtx
def test_an_engine_that_cannot_run_here_is_refused(
    made: Builder, fashion_cnn: Model, feeds: dict[str, np.ndarray], shared: EngineStore
) -> None:
    profiles = parse_profiles(["image:1x1x28x28,8x1x28x28,64x1x28x28"])
    rtx = made(fashion_cnn, "fp16", "rtx", profiles=profiles)
    with pytest.raises(BackendError, match=r"fashion_cnn fp16 on rtx .* cannot be looked into here: "):
        find_divergence(made(fashion_cnn), rtx, fashion_cnn, feeds, store=shared)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensors_between_the_kernels_of_tensorrt_are_known_by_its_layers(precision: str) -> None:
    """Of ResNet-18, as an H200 built it: what every block ends with, and the kernel that ends the block."""
    folder = DATA / "recorded" / "tensorrt-8.6.0-h200"
    fusion = open_fusion(
        folder / f"resnet18_{precision}_b1.inspector.json.gz", folder / "resnet18.nodes.json.gz"
    ).fusion
    places = places_in_layers(fusion)
    for block in (f"/blocks/blocks.{number}" for number in range(8)):
        place = places[f"{block}/Relu_1_output_0"]
        assert place.layer.endswith(f"{block}/Add + {block}/Relu_1")
        assert precision_name(place.dtype) == precision
    assert "/blocks/blocks.0/Add_output_0" not in places  # it is fused away


def test_a_change_of_fusion_is_told_in_numbers() -> None:
    none = frozenset[str]()
    assert str(FusionChange(3, "kernel", 23, 23, none, none)) == (
        "exposing 3 tensors left the fusion as it is: the same 23 kernels."
    )
    assert str(FusionChange(48, "kernel", 23, 49, frozenset("ab"), none)).startswith(
        "exposing 48 tensors changed the fusion: 23 kernels became 49 (2 nodes run together with others); the error may"
    )
    recast = FusionChange(1, "kernel", 9, 9, none, frozenset("a"))
    assert "there are 9 kernels still (1 node compute in another precision)" in str(recast)


# ---- the rest


def test_engines_of_another_model_are_refused(
    made: Builder, fashion_cnn: Model, feeds: dict[str, np.ndarray], shared: EngineStore, tmp_path: Path
) -> None:
    other = changed(fashion_cnn, "stem.conv.weight", tmp_path / "changed.onnx")
    with pytest.raises(ConfigError, match="was built from another model than fashion_cnn; give its own"):
        find_divergence(made(fashion_cnn), made(other), fashion_cnn, feeds, store=shared)


def test_progress_is_told_and_stopping_is_heeded(
    made: Builder, fashion_cnn: Model, feeds: dict[str, np.ndarray], shared: EngineStore
) -> None:
    told: list[object] = []
    cancel = threading.Event()
    engine = made(fashion_cnn)
    find_divergence(engine, engine, fashion_cnn, feeds, store=shared, listener=told.append)
    assert told == [Progress("Looking into the engines", done, 2) for done in range(3)]
    with pytest.raises(Cancelled, match="the engines were not compared"):
        find_divergence(
            engine, engine, fashion_cnn, feeds, store=shared, cancel=cancel, listener=lambda event: cancel.set()
        )


def again(found: Divergence) -> Divergence:
    return divergence_from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))


@pytest.fixture(scope="module")
def found(
    made: Builder, fashion_cnn: Model, int8: Engine, feeds: dict[str, np.ndarray], shared: EngineStore
) -> Iterator[Divergence]:
    yield find_divergence(made(fashion_cnn), int8, fashion_cnn, feeds, store=shared)


def test_a_divergence_is_the_same_after_json(found: Divergence) -> None:
    assert again(found) == found


def test_the_table_marks_where_to_look(found: Divergence) -> None:
    table = found.rows()
    assert len(table.rows) == len(found.tensors) and all(len(row) == len(table.headers) for row in table.rows)
    assert {"error, %", "largest value, fp32", "type, int8", "layer, int8"} <= set(table.headers)
    marked = [row[0] for row in table.rows if "begins here" in str(row[table.headers.index("remark")])]
    assert marked == [item.tensor for item in found.introduced]


def test_it_is_told_in_text_and_shown_in_a_notebook(found: Divergence) -> None:
    assert "10 of the model's 26 tensors are seen in both." in str(found)
    assert "/stem/relu/Relu_output_0" in str(found) and max(map(len, str(found).split("\n"))) < 400
    page = found._repr_html_()
    assert page.count("<tr>") == 1 + len(found.tensors) and "its plan gives its tensors out" in page
