"""The same build as Python, command line, trtexec and Paddle-TRT: what is copied does what was clicked."""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from models import FASHION_CNN, OCR_CLS

from workbench import BuildConfig, Model, OptimizationProfile, build, edit, load_model, parse_shapes
from workbench.cli import main
from workbench.snippets import inspect_line, paddle_code, profile_code, python_code, shell_line, trtexec_line

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
    words = shlex.split(trtexec_line(fashion_cnn, FULL).replace("\\\n", " "), comments=True)
    assert words[0] == "trtexec"
    assert {"--fp16", "--minShapes=image:1x1x28x28", "--optShapes=image:4x1x28x28"} < set(words)
    assert {"--maxShapes=image:8x1x28x28", "--memPoolSize=workspace:1024M"} < set(words)


FLAGS = {"fp32": {"--noTF32"}, "tf32": set(), "fp16": {"--fp16", "--noTF32"}}
FLAGS |= {"bf16": {"--bf16", "--noTF32"}, "int8": {"--int8", "--noTF32"}}


@pytest.mark.parametrize("precision", FLAGS)
def test_trtexecs_flags_follow_the_precision(fashion_cnn: Model, precision: str) -> None:
    words = set(shlex.split(trtexec_line(fashion_cnn, BuildConfig(precision)).replace("\\\n", " ")))
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
