"""The same build as Python, command line, trtexec and Paddle-TRT: what is copied does what was clicked."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from models import FASHION_CNN, OCR_CLS

from workbench import BuildConfig, Model, OptimizationProfile, build, edit, load_model, parse_shapes
from workbench.cli import _parser, main
from workbench.commands.common import read_config
from workbench.snippets import inspect_line, paddle_code, profile_code, python_code, shell_line
from workbench.trtexec import trtexec_line
from workbench.types import BuilderOptions, Calibration

PROFILE = parse_shapes(["image:1x1x28x28,4x1x28x28,8x1x28x28"])
FULL = BuildConfig("fp16", (PROFILE,), 1 << 30, ("sm89", "sm120"), keep_io_types=False)
CASES = [
    pytest.param(BuildConfig(), "onnxruntime", id="plain"),
    pytest.param(BuildConfig("fp16", keep_io_types=False), "onnxruntime", id="onnxruntime fp16"),
    pytest.param(FULL, "rtx", id="everything", marks=pytest.mark.rtx),
    pytest.param(BuildConfig(profiles=(PROFILE, PROFILE)), "rtx", id="two profiles", marks=pytest.mark.rtx),
    pytest.param(BuildConfig(workspace_bytes=3 << 29), "rtx", id="odd workspace", marks=pytest.mark.rtx),
]


@pytest.fixture
def awkward(tmp_path: Path) -> Model:
    """A model in a folder whose name needs quotes, with an edit."""
    folder = tmp_path / "it's a folder"
    folder.mkdir()
    return edit(load_model(shutil.copy(FASHION_CNN, folder / "my net.onnx")), "batch=n")


@pytest.mark.parametrize(("config", "backend"), CASES)
def test_the_python_code_runs_as_a_script_and_meets_the_same_engine(
    awkward: Model, config: BuildConfig, backend: str, tmp_path: Path
) -> None:
    key = build(awkward, config, backend).engine.key
    script = tmp_path / "script.py"
    script.write_text(python_code(awkward, config, backend) + "\nprint(built.engine.key, built.reused)")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == f"{key} True"


@pytest.mark.parametrize(("config", "backend"), CASES)
def test_the_shell_line_repeats_the_build_and_meets_the_same_engine(
    awkward: Model, config: BuildConfig, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = build(awkward, config, backend).engine.key
    program, *arguments = shlex.split(shell_line(awkward, config, backend))
    assert program == "workbench"
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["key"], told["reused"]) == (key, True)


@pytest.mark.rtx
def test_the_code_of_axes_named_apart_builds() -> None:
    model = edit(load_model(OCR_CLS), "x:3=width")
    config = BuildConfig(profiles=(parse_shapes(["x:1x3x48x192"]),))
    assert main(shlex.split(shell_line(model, config, "rtx"))[1:]) == 0


def test_the_code_of_a_profile_runs_as_a_script_and_makes_the_same(awkward: Model, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(profile_code(awkward, PROFILE) + "\nprint(model.sha256, profile)")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path)
    assert (done.stderr, done.stdout) == ("", f"{awkward.sha256} {PROFILE}\n")


def test_a_profile_without_open_dimensions_is_no_part_of_the_code(fashion_cnn: Model) -> None:
    code = profile_code(edit(fashion_cnn, "batch=4"), OptimizationProfile({}))
    assert code.splitlines()[-1] == "model = wb.edit(model, 'batch=4')"
    assert "profile" not in code


def test_the_line_that_inspects_shows_the_changed_dimensions(
    awkward: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = shlex.split(inspect_line(awkward, PROFILE))
    assert program == "workbench" and main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["sha256"], told["model"]) == (awkward.sha256, str(awkward.path))
    ((name, item),) = PROFILE.ranges.items()
    assert told["tensors"][0]["name"] == name and told["tensors"][0]["shape"] == list(item.opt)


def test_building_anew_is_part_of_the_code(fashion_cnn: Model) -> None:
    assert shell_line(fashion_cnn, BuildConfig(), "rtx", reuse=False).endswith(" --no-reuse")
    assert "reuse=False" in python_code(fashion_cnn, BuildConfig(), "rtx", reuse=False)
    assert "use_static=False" in paddle_code(fashion_cnn, BuildConfig(), reuse=False)


def test_paths_are_shown_relative_to_the_working_folder(fashion_cnn: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FASHION_CNN.parents[2])
    assert shell_line(fashion_cnn, BuildConfig(), "rtx").startswith("workbench build data/models/fashion_cnn.onnx ")


def test_trtexec_gets_precision_shapes_and_workspace(fashion_cnn: Model) -> None:
    words = shlex.split(trtexec_line(fashion_cnn, FULL, "rtx").replace("\\\n", " "), comments=True)
    assert words[0] == "trtexec"
    assert {"--fp16", "--minShapes=image:1x1x28x28", "--optShapes=image:4x1x28x28"} < set(words)
    assert {"--maxShapes=image:8x1x28x28", "--memPoolSize=workspace:1024M"} < set(words)


FLAGS = {"fp32": {"--noTF32"}, "tf32": set(), "fp16": {"--fp16", "--noTF32"}}
FLAGS |= {"bf16": {"--bf16", "--noTF32"}, "int8": {"--int8", "--noTF32"}}


@pytest.mark.parametrize("precision", FLAGS)
def test_trtexecs_flags_follow_the_precision(fashion_cnn: Model, precision: str) -> None:
    words = set(shlex.split(trtexec_line(fashion_cnn, BuildConfig(precision), "rtx").replace("\\\n", " ")))
    assert words & set().union(*FLAGS.values()) == FLAGS[precision]


def test_paddle_gets_precision_batch_workspace_and_shapes(fashion_cnn: Model) -> None:
    code = paddle_code(fashion_cnn, FULL)
    calls = {node.func.attr: node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)}  # type: ignore[attr-defined]
    engine = {item.arg: ast.unparse(item.value) for item in calls["enable_tensorrt_engine"].keywords}
    assert engine["workspace_size"] == "1 << 30"
    assert engine["max_batch_size"] == "8"
    assert engine["precision_mode"] == "paddle_infer.PrecisionType.Half"
    assert engine["use_static"] == "True"
    low, high, best = (ast.literal_eval(item) for item in calls["set_trt_dynamic_shape_info"].args)
    assert (low, best, high) == ({"image": [1, 1, 28, 28]}, {"image": [4, 1, 28, 28]}, {"image": [8, 1, 28, 28]})


def test_code_is_short(fashion_cnn: Model) -> None:
    for code in (python_code(fashion_cnn, FULL, "rtx"), paddle_code(fashion_cnn, FULL)):
        assert len(code.splitlines()) < 22
        assert not re.search(r"[ \t]+$", code, re.MULTILINE)


# ---- what only NVIDIA's builder can be told


OPTIONS = BuilderOptions(
    optimization_level=5,
    tactic_sources=("cublas", "jit_convolutions"),
    memory_pools={"tactic_dram": 2 << 30, "dla_local_dram": 1 << 20},
    timing_cache=False,
    version_compatible=True,
    refittable=True,
    strip_weights=True,
    dla_core=1,
    layer_precisions={"/a=b/Conv": "fp32", "/head/Gemm": "fp16"},
)
INT8 = BuildConfig(
    "int8",
    (parse_shapes(["image:1x1x28x28", "size:[1x2],[3x4],[5x6]"]),),
    1 << 30,
    ("ampere+",),
    calibration=Calibration("my samples.npz", "minmax"),
    builder=OPTIONS,
)
TABLE = BuildConfig("int8", calibration=Calibration("a.table"))


def words_of(line: str) -> list[str]:
    return shlex.split(line.replace("\\\n", " "), comments=True)


@pytest.mark.parametrize("config", [INT8, TABLE, BuildConfig()], ids=["everything", "a table", "nothing"])
def test_the_shell_line_says_every_option_and_is_read_back_as_the_same(
    fashion_cnn: Model, config: BuildConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("my samples.npz", image=np.zeros((1, 1, 28, 28), np.float32))
    Path("a.table").touch()
    line = shell_line(fashion_cnn, config, "tensorrt")
    assert read_config(_parser().parse_args(shlex.split(line)[1:])) == config


@pytest.mark.parametrize("config", [INT8, TABLE, BuildConfig()], ids=["everything", "a table", "nothing"])
def test_the_python_code_makes_the_same_configuration(fashion_cnn: Model, config: BuildConfig) -> None:
    code = python_code(fashion_cnn, config, "tensorrt")
    lines = code.splitlines()
    made: dict[str, BuildConfig] = {}
    exec("\n".join(line for line in lines if not line.startswith(("built =", "print("))), {}, made)
    assert made["config"] == config
    assert ("BuilderOptions" in code) == (config.builder != BuilderOptions())


def test_trtexec_gets_its_own_names_of_the_builders_options(fashion_cnn: Model) -> None:
    words = set(words_of(trtexec_line(fashion_cnn, INT8, "tensorrt")))
    assert {
        "--builderOptimizationLevel=5",
        "--tacticSources=+CUBLAS,-CUBLAS_LT,-CUDNN,-EDGE_MASK_CONVOLUTIONS,+JIT_CONVOLUTIONS",
        "--memPoolSize=workspace:1024M,dlaLocalDRAM:1M",
        "--noBuilderCache",
        "--versionCompatible",
        "--refit",
        "--stripWeights",
        "--useDLACore=1",
        "--allowGPUFallback",
        "--precisionConstraints=obey",
        "--layerPrecisions=/a=b/Conv:fp32,/head/Gemm:fp16",
        "--hardwareCompatibilityLevel=ampere+",
        "--minShapes=image:1x1x28x28,size:1x2",
        "--maxShapes=image:1x1x28x28,size:5x6",
    } <= words


def test_trtexec_says_what_it_cannot_do(fashion_cnn: Model) -> None:
    line = trtexec_line(fashion_cnn, INT8, "tensorrt")
    assert "# trtexec cannot limit the pool tactic_dram\n" in line
    assert "no samples" in line and "--calib=" not in words_of(line)
    assert "--calib=a.table" in words_of(trtexec_line(fashion_cnn, TABLE, "tensorrt"))


def test_for_tensorrt_trtexec_makes_the_same_kind_of_plan_and_keeps_its_measurements(fashion_cnn: Model) -> None:
    here, other = (trtexec_line(fashion_cnn, BuildConfig(), name) for name in ("tensorrt", "rtx"))
    assert "same kind of plan" in here and "no other" in other
    assert "--timingCacheFile=timing.cache" in words_of(here)
    assert not any(word.startswith(("--timingCache", "--hardware")) for word in words_of(other))


def test_paddle_calibrates_and_gets_what_it_knows_of_the_builders_options(fashion_cnn: Model) -> None:
    code = paddle_code(fashion_cnn, INT8)
    assert "use_calib_mode=True" in code and "use_calib_mode=False" in paddle_code(fashion_cnn, BuildConfig("int8"))
    assert "config.set_tensorrt_optimization_level(5)" in code and "config.enable_tensorrt_dla(1)" in code
    ast.parse(code)
    assert "set_tensorrt" not in paddle_code(fashion_cnn, BuildConfig())
