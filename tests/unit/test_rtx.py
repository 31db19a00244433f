"""TensorRT-RTX on this machine, GPU or not: real builds by NVIDIA's own builder."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import FASHION_CNN, FOREIGN, LIGHT, OCR_CLS, OCR_DET, RELU, save, save_chain

from workbench import BuildConfig, EngineStore, Model, build, default_profile, edit, load_model, parse_shapes
from workbench.backends import rtx
from workbench.backends.plan_record import check_plan, read_plan_header
from workbench.errors import BackendError, BuildError, ConfigError, ShapeError
from workbench.layers import LayerInfo, covered_nodes
from workbench.precision import converter_release
from workbench.types import BuilderOptions, LogLine, Progress

pytestmark = pytest.mark.rtx

ALL_TARGETS = rtx.support().targets


@dataclass(frozen=True)
class Built:
    """A build in this process: quicker than in a child, and it shows every event."""

    plan: Path
    layers: tuple[LayerInfo, ...]
    events: list[Progress | LogLine]


Build = Callable[..., Built]


@pytest.fixture
def built(tmp_path: Path) -> Build:
    def build_here(model: Model, **options: Any) -> Built:
        events: list[Progress | LogLine] = []
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        config = rtx.resolve(model, BuildConfig(**options))
        layers = rtx.build(model, config, folder, events.append, caches=tmp_path)
        return Built(folder / rtx.PLAN, layers, events)

    return build_here


def failure(model: Model, config: BuildConfig | None = None) -> BuildError:
    with pytest.raises(BuildError) as caught:
        build(model, config, "rtx")
    return caught.value


# ---- builds


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_the_light_models_build_with_every_layer_listed(path: Path, built: Build) -> None:
    model = load_model(path)
    done = built(model)
    records = [
        record.removeprefix("Name: ").partition(", LayerType: ")[0]
        for event in done.events
        if isinstance(event, LogLine) and event.text.startswith("Layers:\n")
        for record in event.text.splitlines()
        if record.startswith("Name: ")
    ]
    assert [layer.name for layer in done.layers] == records
    assert len(records) > 30
    assert covered_nodes(done.layers) <= {node.name for node in model.nodes}
    assert len(covered_nodes(done.layers)) > 20


def test_there_are_nine_light_models() -> None:
    assert len(LIGHT) == 9


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("path", [FASHION_CNN, OCR_DET, OCR_CLS], ids=lambda path: path.stem)
def test_the_data_models_build_in_every_precision(path: Path, precision: str, built: Build) -> None:
    done = built(load_model(path), precision=precision)
    dtypes = {tensor.dtype for layer in done.layers for tensor in layer.outputs}
    assert dtypes & {"Half", "BFloat16"} == {"fp16": {"Half"}, "bf16": {"BFloat16"}}.get(precision, set())
    assert read_plan_header(done.plan).targets == rtx.PORTABLE


def test_plans_are_reproducible_and_tf32_is_another_one(fashion_cnn: Model, tmp_path: Path) -> None:
    """Built as users build, each in a process of its own: within one process names in the plan count on."""
    plans = [
        build(fashion_cnn, BuildConfig(name), "rtx", store=EngineStore(tmp_path / str(number))).engine.plan_path
        for number, name in enumerate(("fp32", "fp32", "tf32"))
    ]
    fp32, again, tf32 = (plan.read_bytes() for plan in plans)
    assert fp32 == again != tf32


def test_engines_depend_on_the_release_and_converted_ones_on_the_converter() -> None:
    release = {"release": rtx.support().release}
    assert rtx.ingredients(BuildConfig()) == release
    assert rtx.ingredients(BuildConfig(precision="fp16")) == {**release, "converter": converter_release()}


@pytest.mark.parametrize(("keep", "dtype"), [(True, "Float"), (False, "Half")])
def test_fp16_stays_float32_outside_unless_asked(fashion_cnn: Model, keep: bool, dtype: str, built: Build) -> None:
    log = "\n".join(str(event) for event in built(fashion_cnn, precision="fp16", keep_io_types=keep).events)
    assert re.findall(r"IOMode: (\w+), DataType: (\w+)", log) == [("Input", dtype), ("Output", dtype)]


@pytest.mark.parametrize(
    "targets", [("sm75",), ("sm89",), ("sm120", "sm80"), rtx.PORTABLE, ALL_TARGETS], ids=lambda item: "+".join(item)
)
def test_the_plan_is_for_the_targets_that_were_asked_for(
    fashion_cnn: Model, targets: tuple[str, ...], built: Build
) -> None:
    header = read_plan_header(built(fashion_cnn, precision="fp16", targets=targets).plan)
    assert header.backend == "rtx"
    assert header.release.startswith(rtx.support().release.rpartition(".")[0])
    assert set(header.targets) == set(targets)


def test_the_targets_name_every_capability_of_this_release() -> None:
    import tensorrt_rtx

    assert {name for name in tensorrt_rtx.ComputeCapability.__members__ if name.startswith("SM")} == {
        name.upper() for name in ALL_TARGETS
    }


def test_what_is_no_plan_has_no_header(tmp_path: Path) -> None:
    for content in (b"", b"vtrt", b"x" * 100):
        (tmp_path / "plan").write_bytes(content)
        assert read_plan_header(tmp_path / "plan") is None


def test_a_plan_for_other_gpus_or_another_back_end_is_refused(tmp_path: Path) -> None:
    def plan(magic: bytes, mask: int) -> Path:
        (tmp_path / "plan").write_bytes(magic + bytes(20) + bytes([1, 7, 1, 0]) + bytes(4) + mask.to_bytes(8, "little"))
        return tmp_path / "plan"

    assert check_plan(plan(b"vtrt", 0b110), "rtx", ("sm80",)).targets == ("sm80", "sm86")
    assert check_plan(plan(b"ftrt", 0), "tensorrt", ()).release == "1.7.1.0"  # it does not say for what GPUs
    for path, backend in ((plan(b"vtrt", 0b110), "tensorrt"), (plan(b"vtrt", 0b010), "rtx"), (plan(b"no", 2), "rtx")):
        with pytest.raises(BuildError, match="the plan is not the one that was asked for"):
            check_plan(path, backend, ("sm86",))


def test_every_profile_has_layers_of_its_own(fashion_cnn: Model, built: Build) -> None:
    profiles = tuple(parse_shapes([f"image:{batch}x1x28x28"]) for batch in (1, 8))
    names = {layer.name for layer in built(fashion_cnn, profiles=profiles).layers}
    assert {name.rpartition("_myl")[2][0] for name in names} == {"0", "1"}


def test_layers_name_nodes_with_brackets_and_commas(tmp_path: Path, built: Build) -> None:
    model = load_model(save(tmp_path / "net.onnx", RELU))
    model.proto.graph.node[0].name = "block[0], relu: 1"
    assert covered_nodes(built(model).layers) == {"block[0], relu: 1"}


def test_open_dimensions_get_the_proposed_profile_and_fixed_ones_none(fashion_cnn: Model) -> None:
    proposal = default_profile(fashion_cnn.inputs)
    fixed = edit(fashion_cnn, "batch=2")
    assert rtx.resolve(fashion_cnn, BuildConfig()).profiles == (proposal,)
    assert rtx.resolve(fixed, BuildConfig()).profiles == ()


def test_axes_that_share_a_name_build_with_one_range_and_apart_once_renamed(built: Build) -> None:
    model, line = load_model(OCR_CLS), parse_shapes(["x:1x3x48x192"])
    with pytest.raises(ShapeError, match="to part them, rename one"):
        built(model, profiles=(line,))
    assert built(edit(model, "x:3=width"), profiles=(line,)).layers


# ---- progress


def test_a_thousand_nodes_build_and_progress_moves(tmp_path: Path, built: Build) -> None:
    model = load_model(save_chain(tmp_path / "net.onnx", 1000))
    assert len(model.nodes) == 1000
    events = [event for event in built(model).events if isinstance(event, Progress)]
    done: dict[str, list[int]] = defaultdict(list)
    for event in events:
        assert 0 <= event.done <= event.total
        if event.done:  # 0 starts a run of the phase
            assert event.done >= done[event.phase][-1], f"{event.phase} goes back"
        done[event.phase].append(event.done)
    assert max(len(set(values)) for values in done.values()) > 1000
    assert all(values[0] == 0 for values in done.values())
    assert {event.phase for event in events if event.parent} > {"Optimizing graph", "Cloning network graph"}
    assert events[-1] == Progress("Building engine", 6, 6)


def test_progress_and_log_cross_from_the_build_process(fashion_cnn: Model) -> None:
    events: list[Progress | LogLine] = []
    build(fashion_cnn, BuildConfig(), "rtx", listener=events.append)
    phases = {event.phase: event for event in events if isinstance(event, Progress)}
    assert len(phases) > 5
    assert all(event.finished for event in phases.values())
    assert {event.severity for event in events if isinstance(event, LogLine)} >= {"info", "verbose"}


# ---- what is refused, and how it is told


def test_an_unsupported_operator_is_told_with_node_operator_reason_and_remedy(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "net.onnx", FOREIGN))
    (refusal,) = rtx.check(model).refusals
    assert (refusal.node, refusal.op_type) == ("frob", "foreign.Frobnicate")
    error = failure(model)
    assert error.node == "frob"
    assert error.reason.startswith("frob (foreign.Frobnicate): NVIDIA's parser refuses it: TensorRT knows no operator")
    assert "standard ONNX operators" in error.remedy
    assert error.log_tail
    assert error.repeat.startswith("workbench build ")


def test_every_refused_node_is_listed(tmp_path: Path) -> None:
    graph = "(float[4] x) => (float[4] y) { [a] s = foreign.A(x) [relu] t = Relu(s) [b] y = foreign.B(t) }"
    support = rtx.check(load_model(save(tmp_path / "net.onnx", graph)))
    assert not support.supported
    assert [refusal.node for refusal in support.refusals] == ["a", "b"]


def test_an_operator_of_another_domain_is_not_taken_for_the_standard_one(tmp_path: Path) -> None:
    """NVIDIA's parser itself looks at the operator's name only."""
    model = load_model(save(tmp_path / "net.onnx", "(float[4] x) => (float[4] y) { [odd] y = foreign.Relu(x) }"))
    (refusal,) = rtx.check(model).refusals
    assert refusal.node == "odd" and "would take it for the standard Relu" in refusal.reason
    error = failure(model)
    assert error.node == "odd" and error.reason.startswith("odd (foreign.Relu): ")
    assert "standard ONNX operators" in error.remedy


def test_a_model_it_takes_is_supported(fashion_cnn: Model) -> None:
    assert rtx.check(fashion_cnn).supported


def test_fp32_for_turing_is_told_with_its_node_and_remedy(fashion_cnn: Model) -> None:
    error = failure(fashion_cnn, BuildConfig(targets=("sm75",)))
    assert error.node == "/classifier/Gemm"
    assert "Turing" in error.reason
    assert error.remedy == "Leave sm75 out of the targets, or choose fp16."


def test_a_workspace_that_is_too_small_is_told(fashion_cnn: Model) -> None:
    assert failure(fashion_cnn, BuildConfig(workspace_bytes=1)).remedy == "Give the builder a larger workspace."


def test_shapes_that_break_the_network_name_the_node() -> None:
    error = failure(load_model(OCR_DET), BuildConfig(profiles=(parse_shapes(["x:1x3x100x100"]),)))
    assert "p2o.Add.248" in error.reason
    assert error.node == "p2o.Add.248"


def test_a_reason_is_one_line(tmp_path: Path) -> None:
    """The parser itself tells several lines here, of which one is about a missing CUDA driver."""
    graph = "(float[4] x) => (float[4] y) { [mixed] y = Mul(x, w) }"
    error = failure(load_model(save(tmp_path / "net.onnx", graph, w=np.ones(3, np.float32))))
    assert error.node == "mixed"
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (BuildConfig(precision="int8"), "int8 needs the range of every activation: give a calibration"),
        (BuildConfig(precision="fp4"), "no precision 'fp4'; choose one of fp32, tf32, fp16, bf16"),
        (BuildConfig(targets=("sm90",)), "no target 'sm90'; choose among sm75, sm80"),
        (BuildConfig(precision="bf16", targets=("sm75",)), r"Turing \(sm75\) has no bf16"),
    ],
    ids=["int8", "unknown precision", "unknown target", "bf16 on Turing"],
)
def test_options_it_cannot_fulfil_are_refused_before_building(
    fashion_cnn: Model, config: BuildConfig, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        rtx.resolve(fashion_cnn, config)


def test_a_profile_that_does_not_fit_is_refused_before_building(fashion_cnn: Model) -> None:
    with pytest.raises(ShapeError, match="the model fixes it to 28; 32 does not fit"):
        rtx.resolve(fashion_cnn, BuildConfig(profiles=(parse_shapes(["image:1x1x32x28"]),)))


def test_an_engine_that_cannot_run_here_says_why(tmp_path: Path) -> None:
    reason = rtx.support().run_reason
    assert len(reason.split()) > 5
    with pytest.raises(BackendError) as caught:
        rtx.open(tmp_path / rtx.PLAN, BuildConfig())
    assert reason in str(caught.value)


# ---- precision of single layers


def test_a_node_kept_in_fp32_computes_in_float(fashion_cnn: Model, built: Build) -> None:
    def types(**layer_precisions: str) -> set[str]:
        wish = BuilderOptions(layer_precisions={"/classifier/Gemm": "fp32"} if layer_precisions else {})
        layers = built(fashion_cnn, precision="fp16", builder=wish).layers
        (gemm,) = (layer for layer in layers if "/classifier/Gemm" in layer.nodes)
        return {tensor.dtype for tensor in gemm.inputs}

    assert types() == {"Half"}
    assert "Float" in types(gemm="fp32")
