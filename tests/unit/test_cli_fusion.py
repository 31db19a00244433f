"""`workbench fusion`, and everything that it opens."""

import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_fusion import RECORDED, RTX_RECORDED
from models import FASHION_CNN, LIGHT
from test_cli import Run, run

from workbench.building import build
from workbench.errors import ConfigError, UnknownEngine, ViewError
from workbench.export.example_models import small_cnn, small_cnn_weights
from workbench.export.network import build_network
from workbench.fusion.opening import open_fusion
from workbench.model import Model, load_model
from workbench.profiles import parse_shapes
from workbench.recorded import load_recorded, recorded_folders
from workbench.store import EngineStore
from workbench.types import BuildConfig

_ = run  # the fixture
FP16, INT8 = (RECORDED / f"resnet18_{name}.inspector.json.gz" for name in ("fp16", "int8"))
FP32_LOG = RECORDED / "resnet18_fp32.build.log.xz"
SQUEEZENET_LOG = RTX_RECORDED / "light_squeezenet.build.log.xz"
(SQUEEZENET,) = (path for path in LIGHT if path.stem == "light_squeezenet")


def times(path: Path, *names: str) -> Path:
    """A profile as trtexec writes it: 1 ms for the first layer, 2 ms for the second, ..."""
    rows = [
        {"name": name, "timeMs": 10.0 * place, "averageMs": float(place), "medianMs": float(place), "percentage": 1.0}
        for place, name in enumerate(names, start=1)
    ]
    path.write_text(json.dumps([{"count": 10}, *rows]))
    return path


@pytest.fixture
def explorer(tmp_path: Path) -> Path:
    """The files of NVIDIA's engine explorer: a layer file, the times and the model beside it."""
    shutil.copy(FASHION_CNN, tmp_path / "net.onnx")
    conv = {
        "Name": "/stem/conv/Conv + /stem/relu/Relu", "LayerType": "CaskConvolution",
        "Inputs": [{"Name": "image", "Dimensions": [1, 1, 28, 28], "Format/Datatype": "Row major linear FP32"}],
        "Outputs": [{"Name": "t", "Dimensions": [1, 16, 28, 28], "Format/Datatype": "Row major linear FP32"}],
    }  # fmt: skip
    (tmp_path / "net.onnx.engine.graph.json").write_text(json.dumps({"Layers": [conv], "Bindings": []}))
    times(tmp_path / "net.onnx.engine.profile.json", conv["Name"])
    return tmp_path / "net.onnx.engine.graph.json"


# ---- opening


def test_an_engine_explorers_file_is_opened_with_its_model_and_its_times(explorer: Path) -> None:
    opened = open_fusion(explorer)
    (group,) = opened.fusion.groups
    assert (group.nodes, group.time_ms) == (("/stem/conv/Conv", "/stem/relu/Relu"), 1.0)
    assert (len(opened.fusion.fates), opened.notes) == (26, ())


def test_a_layer_file_without_its_model_says_what_is_missing() -> None:
    opened = open_fusion(FP16)
    assert (opened.fusion.fates, opened.log) == ((), ())
    assert "name it with --model" in opened.notes[0]


def test_a_build_log_that_lists_layers_is_opened_and_tells_its_own_story() -> None:
    opened = open_fusion(SQUEEZENET_LOG, model=load_model(SQUEEZENET))
    assert (opened.fusion.coverage, len(opened.fusion.kernels)) == (1.0, 31)
    assert len(opened.log) > 1000


def test_names_only_are_opened_and_said_to_be_so(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text('{"Layers": ["conv + relu", "conv + relu [profile 1]"]}')
    opened = open_fusion(path)
    assert opened.fusion.groups[0].nodes == ("conv", "relu")
    assert [note.split(":")[0] for note in opened.notes[:2]] == ["names of layers only", opened.notes[1]]
    assert opened.notes[1] == (
        "the first optimization profile; 1 layers of further optimization profiles are not shown."
    )


@pytest.mark.rtx
def test_a_stored_engine_is_opened_by_its_key_and_by_its_folder() -> None:
    engine = build(load_model(FASHION_CNN), BuildConfig(), "rtx").engine
    opened = open_fusion(engine.key[:12])
    assert opened.title == f"fashion_cnn in fp32, rtx {engine.release}"
    assert (opened.engine, opened.notes) == (engine, ())
    assert opened.fusion.counts == {"kernel": 25, "removed": 1}
    assert open_fusion(engine.folder).fusion == opened.fusion
    assert EngineStore().engines() == (engine,)


@pytest.mark.rtx
def test_casts_of_a_converted_model_are_noted() -> None:
    engine = build(load_model(FASHION_CNN), BuildConfig(precision="fp16"), "rtx").engine
    opened = open_fusion(engine.key)
    assert opened.fusion.coverage == 1.0
    (note,) = opened.notes
    assert note.startswith("2 nodes that layers name are not in fashion_cnn.onnx, such as graph_input_cast0;")


def test_onnx_runtimes_engine_is_opened_as_well(fashion_cnn: Model) -> None:
    engine = build(fashion_cnn, BuildConfig(), "onnxruntime").engine
    assert open_fusion(engine.key).fusion.coverage == 1.0


def test_an_engine_keeps_the_nodes_that_it_was_built_from(model: Model) -> None:
    """Whatever becomes of the model's file; a part of a model never had one."""
    engine = build(model, BuildConfig(), "onnxruntime").engine
    before = open_fusion(engine.key)
    shutil.copy(FASHION_CNN, model.path)
    assert open_fusion(engine.key).fusion == before.fusion
    model.path.unlink()
    opened = open_fusion(engine.key)
    assert (opened.fusion, opened.notes) == (before.fusion, ()) and opened.fusion.coverage == 1.0


@pytest.mark.rtx
def test_an_engine_that_was_described_layer_by_layer_has_no_nodes() -> None:
    batches = BuildConfig(profiles=(parse_shapes(["image:1x1x28x28,2x1x28x28,4x1x28x28"]),))
    engine = build_network("small", small_cnn, small_cnn_weights(), config=batches, backend="rtx").engine
    opened = open_fusion(engine.key)
    assert opened.fusion.fates == () and "no ONNX nodes were kept" in opened.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", '{"Layers": [', "not what TensorRT's inspector or trtexec write"),
        ("a.json", '{"Layers": []}', "no layers were recorded"),
        ("a.json", '[{"count": 1}]', "the times of layers, not the layers"),
        ("a.log", "[VERBOSE] Original: 3 layers", "it lists no layers"),
        ("a.log", "Layers:\nName: conv", "not a build log that can be read"),
        ("a.onnx", "", "a model; build an engine of it"),
    ],
)
def test_files_that_hold_something_else_are_refused_in_words(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ViewError, match=words):
        open_fusion(tmp_path / name)


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("xz", lzma.compress)], ids=["gz", "xz"])
def test_a_damaged_compressed_file_is_refused_in_words(
    tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"a.json.{ending}"
    for content in (b"nonsense", compress(b'{"Layers": []}')[:-5], compress(b"a" * 99)[:12]):
        path.write_bytes(content)
        with pytest.raises(ViewError, match="no whole compressed file"):
            open_fusion(path)


def test_what_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(ViewError, match="there is no such file"):
        open_fusion(tmp_path / "none.json")
    with pytest.raises(UnknownEngine, match="no stored engine"):
        open_fusion("abcdef")
    with pytest.raises(ViewError, match="cannot be read"):
        open_fusion(FP16, profile=tmp_path / "none.json")


def test_the_model_or_the_profile_of_another_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="built from another model"):
        open_fusion(FP16, model=FASHION_CNN)
    with pytest.raises(ConfigError, match="times other layers than this engine has, such as elsewhere"):
        open_fusion(FP16, profile=times(tmp_path / "p.json", "elsewhere"))
    with pytest.raises(ViewError, match="not a profile"):
        open_fusion(FP16, profile=FP16)
    opened = open_fusion(FP16, profile=times(tmp_path / "p.json", "elsewhere", "/fc/Gemm"))
    assert opened.notes[-1] == "1 rows of the profile name no layer of this engine, such as elsewhere."


RECORDED_RUNS = {
    run.profile.name.removesuffix(".profile.json.gz"): run
    for folder in recorded_folders(RECORDED)
    for run in load_recorded(folder).runs
    if run.inspector is not None and run.profile is not None
}
MINILM = [run.inspector for run in RECORDED_RUNS.values() if run.model == "minilm_l6"]


@pytest.mark.parametrize("name", RECORDED_RUNS)
def test_every_recorded_engine_opens_with_its_model_and_its_times(name: str) -> None:
    run = RECORDED_RUNS[name]
    (nodes,) = [*RECORDED.glob(f"{run.model}.nodes.json.*")] or [FASHION_CNN]
    opened = open_fusion(run.inspector, nodes, run.profile)
    assert (opened.fusion.coverage, opened.fusion.unmatched) == (1.0, ())
    assert opened.fusion.time_ms


def test_the_transformer_is_one_region_in_every_precision_and_what_is_not_told_is_said() -> None:
    assert len(MINILM) == 4
    for path in MINILM:
        opened = open_fusion(path, RECORDED / "minilm_l6.nodes.json.xz")
        (kernel,) = opened.fusion.kernels
        assert (kernel.kind, len(kernel.nodes)) == ("region", 458)
        (note,) = opened.notes
        assert note.startswith("458 nodes stand in a Myelin region that names none of them: ")


def test_a_region_of_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="built from another model"):
        open_fusion(MINILM[0], model=FASHION_CNN)


def test_names_of_layers_that_tell_no_node_are_shown_and_said_to_tell_none(tmp_path: Path) -> None:
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"Layers": ["{ForeignNode[words.weight...(Unnamed Layer* 846) [Normalization]]}"]}))
    opened = open_fusion(path, RECORDED / "minilm_l6.nodes.json.xz")
    assert len(opened.fusion.groups) == 1 and "kernel" not in opened.fusion.counts
    assert "what became of those of minilm_l6.nodes.json.xz is not told, nor whether" in opened.notes[-1]
    path.write_text(json.dumps({"Layers": ["conv + relu"]}))
    with pytest.raises(ConfigError, match="built from another model"):
        open_fusion(path, RECORDED / "minilm_l6.nodes.json.xz")


# ---- the command


def test_json_has_what_the_issue_asks_for(run: Run) -> None:
    data = run.json("fusion", SQUEEZENET_LOG, "--model", SQUEEZENET)
    assert {"nodes", "layers", "groups", "coverage", "unmatched"} <= data.keys()
    assert (data["nodes"], data["layers"], data["coverage"], data["unmatched"]) == (105, 66, 1.0, [])
    conv = data["groups"][1]
    assert (conv["layer"], conv["kind"], conv["nodes"], conv["time_ms"]) == (
        "n0_myl0_1", "vertical", ["n0", "n1"], None
    )  # fmt: skip
    assert (conv["words"], conv["precision"]) == ("conv + bias + relu", "fp32")
    assert data["fates"][0] == {
        "node": "node_of_conv10_b_0", "kind": "folded", "layers": [], "reason": "it works on constants only"
    }  # fmt: skip


def test_people_read_a_table_and_a_summary(run: Run, explorer: Path) -> None:
    status, out, err = run("fusion", explorer)
    assert (status, err) == (0, "")
    title, head, row, *rest = out.splitlines()
    assert (title, head.split()) == (
        "net.onnx.engine.graph.json", ["layer", "kind", "what", "it", "fuses", "precision", "time"]
    )  # fmt: skip
    assert row.split("  ")[0] == "/stem/conv/Conv + /stem/relu/Relu"
    assert row.endswith("conv + relu    fp32       1 ms")
    assert rest[-1] == "26 nodes -> 1 kernel; 2 in kernels, 1 removed, 23 unmatched; coverage 11.54 %"
    assert rest[-2] == "unmatched: 13 more; --json lists them"


def test_layers_that_do_no_work_are_counted_and_not_listed(run: Run) -> None:
    _, out, _ = run("fusion", SQUEEZENET_LOG)
    assert "layers not listed: 32 that make a stream wait, 2 that bring constants" in out.splitlines()
    assert "signal" not in out


def test_the_story_is_told_with_a_log_and_asked_for_without(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_bytes(lzma.decompress(FP32_LOG.read_bytes()))
    fp32 = RECORDED / "resnet18_fp32.inspector.json.gz"
    _, out, _ = run("fusion", fp32, "--log", log, "--story")
    lines = out.splitlines()
    assert "Myelin optimization: 72 layers (-1)" in lines
    assert "  ConvReluFusion: Fusing /conv1/Conv with /relu/Relu" in lines
    assert lines[-1].startswith("without effect: dead-layer removal, final dead-layer removal, tensor merging")
    data = run.json("fusion", fp32, "--log", log, "--story")
    assert data["story"][0] == {
        "title": "the network as parsed", "layers_before": 73, "layers_after": 73, "steps": []
    }  # fmt: skip
    status, _, err = run("fusion", fp32, "--story")
    assert (status, err) == (
        2, f"workbench: {fp32.name}: there is no build log; name TensorRT's VERBOSE log with --log.\n"
    )  # fmt: skip


def test_two_engines_are_compared(run: Run, tmp_path: Path) -> None:
    before, after = (times(tmp_path / f"{i}.json", "/fc/Gemm", *["/maxpool/MaxPool"] * (i == 0)) for i in range(2))
    arguments = ("fusion", FP16, "--against", INT8, "--profile", before, "--profile", after)
    _, out, _ = run(*arguments)
    assert out.splitlines()[-2].startswith("kernels: 23 before, 22 after; 17 of 22 groups of nodes are unchanged")
    data = run.json(*arguments)["against"]
    assert (data["unchanged"], len(data["changes"]), len(data["appeared"]), len(data["vanished"])) == (17, 5, 4, 2)
    first, *_, last = data["changes"]
    assert (first["regrouped"], first["precisions"], len(first["before"]), len(first["after"])) == (
        True, ["fp16", "int8"], 2, 1
    )  # fmt: skip
    assert (last["nodes"], last["times_ms"]) == (["/fc/Gemm"], [1.0, 1.0])


def test_a_second_profile_without_a_second_engine_is_refused(run: Run) -> None:
    status, _, err = run("fusion", FP16, "--profile", "a.json", "--profile", "b.json")
    assert (status, "once more with the one of --against" in err) == (2, True)
