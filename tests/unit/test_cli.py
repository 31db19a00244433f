"""The command line: JSON for programs, sentences for people, exit status 0, 1 (failure) or 2 (user's mistake)."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_sources import NEEDS_TORCH, PADDLE_SCALAR, write_net
from models import FASHION_CNN, FOREIGN, save

from workbench.backends.onnxruntime import OnnxRuntimeSession
from workbench.cli import main
from workbench.commands.options import BUILDER_FLAGS
from workbench.export.environments import ENVIRONMENTS
from workbench.model import load_model
from workbench.runs import History, run_of_measurement
from workbench.study import load_study
from workbench.timing import measurement_from_json
from workbench.types import BuilderOptions

NET = str(FASHION_CNN)
ORT = ["--backend", "onnxruntime"]
QUICK = ["--iterations", "3", "--warmup", "1"]


class Run:
    """Runs a command in this process; `json` expects success and gives what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        try:
            status = main([str(item) for item in arguments])
        except SystemExit as stop:  # argparse
            status = int(stop.code or 0)
        return status, *self.capsys.readouterr()

    def json(self, *arguments: object) -> dict[str, Any]:
        status, out, err = self(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def has_types(data: dict[str, Any], types: dict[str, Any]) -> bool:
    assert types.keys() <= data.keys()
    return all(isinstance(data[key], kind) for key, kind in types.items())


# ---- JSON


def test_backends_tells_what_each_can_do(run: Run) -> None:
    data = run.json("backends")
    assert list(data["backends"]) == ["tensorrt", "rtx", "onnxruntime"]
    for item in data["backends"].values():
        assert has_types(item, {"can_build": bool, "can_run": bool, "build_reason": str, "run_reason": str})
        assert has_types(item, {"precisions": list, "targets": list, "builder_options": list})
    assert data["backends"]["onnxruntime"]["can_run"] is True
    assert has_types(data["machine"], {"cpu": str, "cores": int, "gpus": list, "python": str})


def test_every_option_of_the_builder_has_a_flag_that_bench_and_build_know(run: Run) -> None:
    assert BUILDER_FLAGS.keys() == {field.name for field in fields(BuilderOptions)}
    for verb in ("build", "bench", "hybrid"):
        _, out, _ = run(verb, "--help")
        assert all(flag in out for flag in BUILDER_FLAGS.values())


@pytest.mark.rtx
def test_inspect_tells_tensors_operators_and_support(run: Run) -> None:
    data = run.json("inspect", NET)
    assert data["inputs"] == [
        {"name": "image", "dtype": "float32", "shape": [None, 1, 28, 28], "dims": ["batch", "1", "28", "28"]}
    ]
    assert [item["shape"] for item in data["outputs"]] == [[None, 10]]
    assert (data["opset"], data["nodes"], data["ops"]["Conv"]) == (17, 26, 7)
    assert [data["backends"][name]["supported"] for name in ("rtx", "onnxruntime")] == [True, True]
    can_build = run.json("backends")["backends"]["tensorrt"]["can_build"]
    assert data["backends"]["tensorrt"]["supported"] is (True if can_build else None)


@pytest.mark.rtx
def test_inspect_gives_the_reasons_of_a_refusal(run: Run, tmp_path: Path) -> None:
    data = run.json("inspect", save(tmp_path / "net.onnx", FOREIGN))
    for name in ("rtx", "onnxruntime"):
        assert data["backends"][name]["supported"] is False
        assert data["backends"][name]["reasons"][0].startswith("frob (foreign.Frobnicate): ")


@pytest.mark.rtx
def test_build_tells_what_was_built_and_then_reuses_it(run: Run) -> None:
    first = run.json("build", NET, "--backend", "rtx")
    assert has_types(first, {"engine": str, "key": str, "release": str, "precision": str, "targets": list})
    assert has_types(first, {"build_s": float, "plan_bytes": int, "layers": int, "nodes": int, "nodes_covered": int})
    assert (first["reused"], first["why_missed"]) == (False, "the store holds no engine yet")
    assert (first["backend"], first["precision"], first["nodes"]) == ("rtx", "fp32", 26)
    assert Path(first["engine"]).stat().st_size == first["plan_bytes"]
    second = run.json("build", NET, "--backend", "rtx")
    changed = {"reused": True, "why_missed": None, "elapsed_s": second["elapsed_s"]}
    assert second == {**first, **changed}


def test_why_missed_names_the_difference(run: Run) -> None:
    run.json("build", NET, *ORT)
    assert "precision (fp32 stored, fp16 wanted)" in run.json("build", NET, *ORT, "--precision", "fp16")["why_missed"]


def test_no_reuse_builds_anew(run: Run) -> None:
    run.json("build", NET, *ORT)
    again = run.json("build", NET, *ORT, "--no-reuse")
    assert (again["reused"], again["why_missed"]) == (False, "asked to build anew")


def test_bench_tells_times_and_where_they_were_taken(run: Run) -> None:
    data = run.json("bench", NET, *QUICK, "--shapes", "image:4x1x28x28")
    assert has_types(data, {"median_ms": float, "p99_ms": float, "mean_ms": float, "throughput_per_s": float})
    assert (data["iterations"], data["warmup"], data["batch"]) == (3, 1, 4)
    assert data["median_ms"] <= data["p99_ms"]
    assert data["throughput_per_s"] == pytest.approx(4000 / data["mean_ms"])
    assert data["backend"] == "onnxruntime"
    assert "perf_counter" in data["clock"]
    assert data["machine"]["cores"] >= 1


def test_bench_runs_a_stored_engine_by_the_start_of_its_key(run: Run) -> None:
    key = run.json("build", NET, *ORT)["key"]
    assert run.json("bench", "--engine", key[:10], *QUICK)["key"] == key


def test_compare_tells_how_far_two_precisions_lie_apart(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "feeds.npz", image=np.random.default_rng(0).random((8, 1, 28, 28), np.float32))
    data = run.json(
        "compare", NET, "onnxruntime:fp32", "onnxruntime:fp16", "--iterations", 3, "--feeds", tmp_path / "feeds.npz"
    )
    reference, other = data["contestants"]
    (logits,) = other["outputs"]
    assert (data["reference"], other["name"], logits["output"]) == ("onnxruntime:fp32", "onnxruntime:fp16", "logits")
    assert 0 < logits["max_abs"] < 0.05
    assert logits["cosine"]["value"] == pytest.approx(1, abs=1e-4)
    assert has_types(reference, {"median_ms": float, "median_interval_ms": list, "rank": list, "clock": str})
    kinds = [item["kind"] for item in run.json("runs", "--study", data["study"])]
    assert sorted(kinds) == ["comparison", "measurement", "measurement"]


def test_compare_takes_any_number_and_plain_onnxruntime_and_keeps_the_study(run: Run, tmp_path: Path) -> None:
    kept = tmp_path / "study.json.gz"
    names = ["plain", "onnxruntime:fp32", "onnxruntime:fp16"]
    data = run.json("compare", NET, *names, "--iterations", 3, "--output", kept)
    assert [item["name"] for item in data["contestants"]] == names and data["reference"] == "plain"
    assert [item.name for item in load_study(kept).measurements] == names
    assert all(item["median_interval_ms"][0] <= item["median_ms"] for item in data["contestants"])


def test_compare_tells_where_two_engines_part(run: Run) -> None:
    data = run.json("compare", NET, "--iterations", 3, "--where")
    assert data["divergence"]["tensors"]
    status, out, err = run("compare", NET, "plain", "onnxruntime:fp32", "--where")
    assert (status, out) == (2, "") and "plain is none" in err


def test_engines_lists_removes_and_prunes(run: Run, home: Path) -> None:
    assert run.json("engines")["engines"] == []
    keys = [run.json("build", NET, *ORT, "--precision", name)["key"] for name in ("fp32", "fp16")]
    listed = run.json("engines")
    assert [item["key"] for item in listed["engines"]] == keys[::-1]
    assert listed["folder"] == str(home)
    assert listed["size_bytes"] >= sum(item["size_bytes"] for item in listed["engines"]) > 0
    assert run.json("engines", "--remove", keys[0][:8])["removed"] == [keys[0]]
    pruned = run.json("engines", "--prune", "0")
    assert (pruned["removed"], pruned["engines"], pruned["size_bytes"]) == ([keys[1]], [], 0)


# ---- options


def test_dim_fixes_renames_and_splits_dimensions(run: Run) -> None:
    data = run.json("inspect", NET, "--dim", "batch=n", "--dim", "image:2=height", "--dim", "n=4")
    assert data["inputs"][0]["dims"] == ["4", "1", "height", "28"]


@pytest.mark.rtx
def test_shapes_are_the_engines_profiles(run: Run) -> None:
    one, many = "image:1x1x28x28", "image:1x1x28x28,4x1x28x28,8x1x28x28"
    data = run.json("build", NET, "--backend", "rtx", "--shapes", one, "--shapes", many)
    assert data["shapes"] == [[one], [many]]


@pytest.mark.rtx
def test_targets_and_convert_io_reach_the_engine(run: Run) -> None:
    options = ["--backend", "rtx", "--precision", "fp16", "--workspace", "1G"]
    data = run.json("build", NET, *options, "--targets", "sm89,sm120", "--convert-io")
    assert data["targets"] == ["sm89", "sm120"]
    assert data["key"] != run.json("build", NET, *options, "--targets", "sm89,sm120")["key"]


def test_an_engine_of_another_store_is_opened_only_with_trust(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(run.json("build", NET, *ORT)["engine"]).parent
    shutil.copytree(folder, tmp_path / "copied")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "elsewhere"))
    status, out, err = run("bench", "--engine", tmp_path / "copied", *QUICK)
    assert (status, out) == (2, "")
    assert "--trust" in err
    assert run.json("bench", "--engine", tmp_path / "copied", "--trust", *QUICK)["iterations"] == 3


# ---- text for people


def test_without_json_the_answers_are_text(run: Run) -> None:
    commands = {
        ("backends",): "ONNX Runtime",
        ("inspect", NET): "26 nodes, opset 17",
        ("build", NET, *ORT): "built in",
        ("bench", NET, *QUICK): "median",
        ("compare", NET, "--iterations", "3"): "classes changed",
        ("engines",): "fashion_cnn",
    }
    for arguments, words in commands.items():
        status, out, err = run(*arguments)
        assert (status, err) == (0, "")
        assert words.lower() in out.lower().replace("onnxruntime", "onnx runtime") or words in out


def test_verbose_shows_the_log_on_stderr(run: Run) -> None:
    status, out, err = run("build", NET, *ORT, "--json", "--verbose")
    assert status == 0
    assert json.loads(out)["reused"] is False
    assert "Optimized model written" in err


# ---- errors

Arguments = Callable[[Path], list[object]]


def broken(folder: Path) -> Path:
    (folder / "broken.onnx").write_bytes(b"no model")
    return folder / "broken.onnx"


def array_file(folder: Path, content: bytes | None = None) -> Path:
    path = folder / "feeds.npz"
    if content is None:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        path.write_bytes(content)
    return path


MISTAKES: dict[str, Arguments] = {
    "no such file": lambda folder: ["build", folder / "none.onnx"],
    "no model": lambda folder: ["inspect", broken(folder)],
    "precision": lambda _: ["build", NET, "--precision", "fp99"],
    "int8": lambda _: ["build", NET, *ORT, "--precision", "int8"],
    "back end": lambda _: ["build", NET, "--backend", "cuda"],
    "target": lambda _: ["build", NET, *ORT, "--targets", "sm90"],
    "dimension": lambda _: ["build", NET, "--dim", "depth=4"],
    "size of a dimension": lambda _: ["build", NET, "--dim", "batch=--4"],
    "shapes": lambda _: ["build", NET, "--shapes", "image:axb"],
    "input in shapes": lambda _: ["bench", NET, *QUICK, "--shapes", "picture:4x1x28x28"],
    "rank in shapes": lambda _: ["bench", NET, *QUICK, "--shapes", "image:4x28x28"],
    "model and engine": lambda _: ["bench", NET, "--engine", "abc"],
    "neither model nor engine": lambda _: ["bench"],
    "unknown engine": lambda _: ["engines", "--remove", "abc"],
    "unknown engine to bench": lambda _: ["bench", "--engine", "abc"],
    "feeds: missing": lambda folder: ["compare", NET, "--feeds", folder / "none.npz"],
    "feeds: text": lambda folder: ["compare", NET, "--feeds", array_file(folder, b"no arrays")],
    "feeds: empty": lambda folder: ["compare", NET, "--feeds", array_file(folder, b"")],
    "feeds: cut off": lambda folder: ["compare", NET, "--feeds", array_file(folder, b"PK\x03\x04")],
    "feeds: one array": lambda folder: ["compare", NET, "--feeds", array_file(folder)],
}
MISTAKES |= {
    name: lambda _, words=words: ["build", NET, *words]  # type: ignore[misc]
    for name, words in {
        "level": ["--opt-level", "high"],
        "level below zero": ["--opt-level=-1"],
        "pool without size": ["--pool", "tactic_dram"],
        "pool of no size": ["--pool", "tactic_dram=lots"],
        "pool twice": ["--pool", "a=1G", "--pool", "a=2G"],
        "core": ["--dla", "first"],
        "layer without precision": ["--layer-precision", "/conv"],
        "no such samples": ["--calibration", "none.npz"],
        "calibrator": ["--calibrator", "best"],
        "calibrator of nothing": ["--calibrator", "minmax"],
        "content of an input": ["--shapes", "image:[1x2]"],
    }.items()
}
MISTAKES |= {
    "graph without a GPU": lambda _: ["bench", NET, *ORT, *QUICK, "--no-cuda-graph"],
    "one engine twice": lambda _: ["compare", NET, "onnxruntime:fp32", "onnxruntime:fp32"],
    "no recording": lambda folder: ["recorded", folder],
}
FAILURES: dict[str, Arguments] = {
    "foreign operator": lambda folder: ["build", save(folder / "net.onnx", FOREIGN), *ORT],
    "cannot run here": lambda _: ["bench", NET, "--backend", "rtx"],
}


def assert_one_sentence(out: str, err: str) -> None:
    assert out == ""
    assert err.startswith("workbench: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_status_2(run: Run, tmp_path: Path, name: str) -> None:
    status, out, err = run(*MISTAKES[name](tmp_path))
    assert status == 2
    assert_one_sentence(out, err)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.rtx) for name in FAILURES])
def test_a_failure_is_one_sentence_and_status_1(run: Run, tmp_path: Path, name: str) -> None:
    status, out, err = run(*FAILURES[name](tmp_path))
    assert status == 1
    assert_one_sentence(out, err)


@pytest.mark.parametrize(
    "arguments",
    [["biuld"], ["build"], ["build", NET, "--workspace", "lots"], ["bench", NET, "--iterations", "0"], []],
    ids=["unknown command", "no model", "no size", "no iterations", "nothing"],
)
def test_a_wrong_option_is_status_2_and_says_which(run: Run, arguments: list[str]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "error: " in err.splitlines()[-1] or err.startswith("workbench: ")


def test_a_comparison_without_finite_numbers_is_still_json(run: Run, tmp_path: Path) -> None:
    graph = "(float[4] x) => (float[4] y) { [none] z = Sub(x, x) [division] y = Div(x, z) }"
    _, other = run.json("compare", save(tmp_path / "net.onnx", graph), "--iterations", 1)["contestants"]
    assert other["outputs"][0]["relative"]["value"] is None


def test_build_puts_a_copy_of_the_plan_where_it_is_wanted(run: Run, tmp_path: Path) -> None:
    wanted = tmp_path / "deploy" / "model.plan"
    built = run.json("build", NET, *ORT, "--output", wanted)
    assert built["engine"] == str(wanted)
    assert wanted.stat().st_size == built["plan_bytes"]
    assert [path.name for path in wanted.parent.iterdir()] == ["model.plan"]


def test_engines_lists_the_layers_of_one_engine(run: Run) -> None:
    built = run.json("build", NET, *ORT)
    layers = run.json("engines", "--layers", built["key"][:8])["layers"]
    assert len(layers) == built["layers"]
    assert {name for layer in layers for name in layer["nodes"]} >= {"/stem/conv/Conv", "/classifier/Gemm"}


def test_compare_fails_where_outputs_differ_by_more_than_is_allowed(run: Run) -> None:
    assert run("compare", NET, "--max-relative", "0.5")[0] == 0
    status, out, err = run("compare", NET, "--max-relative", "1e-9")
    assert (status, out) == (1, "") and "output logits of onnxruntime:fp16 differs by" in err


@pytest.mark.parametrize(
    "words", [["--precision", "fp16"], ["--dim", "batch=2"], ["--opt-level", "5"], ["--convert-io"]]
)
def test_bench_refuses_options_of_a_build_for_an_engine_that_is_built(run: Run, words: list[str]) -> None:
    key = run.json("build", NET, *ORT)["key"]
    status, _, err = run("bench", "--engine", key, *words)
    assert status == 2 and "an engine is built already" in err


def test_bench_says_that_no_gpu_was_timed(run: Run) -> None:
    data = run.json("bench", NET, *ORT, *QUICK)
    assert (data["host_median_ms"], data["host_clock"], data["profile"]) == (None, "", None)


def test_layers_are_timed_on_a_processor_too_and_fusion_reads_the_times(run: Run, tmp_path: Path) -> None:
    data = run.json("bench", NET, *ORT, *QUICK, "--profile", tmp_path / "p.json")
    assert data["profile"] == str(tmp_path / "p.json")
    _, out, _ = run("fusion", data["key"], "--profile", tmp_path / "p.json")
    assert "ms" in out and "rows of the profile name no layer" not in out


# ---- baselines


def test_a_run_becomes_a_baseline_and_another_one_is_held_against_it(run: Run) -> None:
    named = run.json("bench", NET, *ORT, *QUICK, "--name", "release 1")
    data = run.json("bench", NET, *ORT, *QUICK, "--against", "release 1", "--max-slowdown", "10000%")
    assert data["regression"]["failed"] is False and data["regression"]["ratio"] is not None
    listed = run.json("runs", "--kind", "measurement")
    assert [item["id"] for item in listed] == [data["run"], named["run"]]


def test_a_run_that_is_surely_slower_than_allowed_fails_with_status_1_and_its_numbers(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The baseline is this machine's run with its times divided by a hundred. Its clock is steady, as noise may hide
    any difference."""
    monkeypatch.setattr(OnnxRuntimeSession, "times_ms", lambda session, iterations: [1.0] * iterations)
    long_enough = ["--iterations", 30, "--warmup", 1]
    history, first = History(), run.json("bench", NET, *ORT, *long_enough)
    before = history.get(first["run"])
    measured = measurement_from_json(history.data(before))
    quick = replace(measured, times_ms=tuple(time / 100 for time in measured.times_ms))
    told = run_of_measurement(quick)
    history.add(
        before._replace(id="0" * 12, median_ms=told.median_ms, low_ms=told.low_ms, high_ms=told.high_ms),
        quick.to_json(),
    )
    history.name_baseline("quick", "0" * 12)
    status, out, _ = run("bench", NET, *ORT, *long_enough, "--against", "quick", "--json")
    assert status == 1 and json.loads(out)["regression"]["verdict"] == "slower"
    status, out, _ = run("bench", NET, *ORT, *long_enough, "--against", "quick")
    assert status == 1 and "FAILED: " in out and "slower" in out


@pytest.mark.parametrize(
    "words",
    [["--against", "none"], ["--max-slowdown", "5%"], ["--against", "a", "--max-slowdown", "0.05"], ["--name", "a/b"]],
)
def test_a_baseline_that_is_none_is_a_mistake(run: Run, words: list[str]) -> None:
    status, out, err = run("bench", NET, *ORT, *QUICK, *words)
    assert (status, out) == (2, "") and err.startswith("workbench: ")


def test_bench_tells_throughput_by_batch_and_streams(run: Run) -> None:
    data = run.json("bench", NET, *ORT, *QUICK, "--batches", "1,3", "--streams", "1,2")
    assert [(item["batch"], item["streams"]) for item in data["throughput"]] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    assert all(item["interval_per_s"][0] <= item["per_s"] <= item["interval_per_s"][1] for item in data["throughput"])


def test_version(run: Run) -> None:
    assert re.fullmatch(r"workbench \d+\.\d+\.\d+\n", run("--version")[1])


# ---- inspect: tensors, sizes, a file


def test_inspect_lists_every_tensor_by_names_of_dimensions(run: Run) -> None:
    data = run.json("inspect", NET, "--tensors")
    tensors = {item["name"]: item for item in data["tensors"]}
    assert tensors["image"] == {
        "name": "image", "dtype": "float32", "made_by": "input", "node": "",
        "shape": ["batch", 1, 28, 28], "bytes": None,
    }  # fmt: skip
    assert tensors["logits"]["shape"] == ["batch", 10]
    assert (tensors["logits"]["made_by"], tensors["logits"]["node"]) == ("Gemm", "/classifier/Gemm")
    assert len(tensors) >= data["nodes"] and data["activation_bytes"] is None
    assert "tensors" not in run.json("inspect", NET)


def test_inspect_lists_every_tensor_at_given_sizes_with_its_bytes(run: Run) -> None:
    data = run.json("inspect", NET, "--shapes", "image:4x1x28x28")
    tensors = {item["name"]: item for item in data["tensors"]}
    assert (tensors["image"]["shape"], tensors["image"]["bytes"]) == ([4, 1, 28, 28], 4 * 28 * 28 * 4)
    assert (tensors["logits"]["shape"], tensors["logits"]["bytes"]) == ([4, 10], 4 * 10 * 4)
    one = run.json("inspect", NET, "--shapes", "image:1x1x28x28")
    assert data["activation_bytes"] == 4 * one["activation_bytes"] > 0


def test_inspect_shows_tensors_as_a_table(run: Run) -> None:
    _, out, _ = run("inspect", NET, "--tensors")
    assert re.search(r"^logits +float32 +batchx10 +Gemm /classifier/Gemm$", out, re.MULTILINE)
    assert "activation memory" not in out
    _, out, _ = run("inspect", NET, "--shapes", "image:4x1x28x28")
    assert re.search(r"^logits +float32 +4x10 ", out, re.MULTILINE)
    assert re.search(r"^activation memory: \d+\.\d MB if every operator", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (["picture:1x1x28x28"], "picture"),
        (["image:1x28x28"], "image"),
        (["image:1x3x28x28"], "image"),
        (["image:1x1x28x28", "image:2x1x28x28"], "given twice"),
    ],
)
def test_inspect_refuses_sizes_that_do_not_fit(run: Run, shapes: list[str], words: str) -> None:
    status, out, err = run("inspect", NET, *(f"--shapes={text}" for text in shapes))
    assert status == 2 and words in err
    assert_one_sentence(out, err)


def test_inspect_refuses_sizes_at_which_the_graph_breaks(run: Run, tmp_path: Path) -> None:
    graph = "(float[n,m] x) => (float[n,k] y) { [scale] y = Mul(x, w) }"
    path = save(tmp_path / "net.onnx", graph, w=np.ones(4, np.float32))
    status, out, err = run("inspect", path, "--shapes", "x:2x3")
    assert status == 2 and "the graph does not take these sizes: " in err and "scale" in err
    assert_one_sentence(out, err)


def test_inspect_writes_the_model_with_its_changed_dimensions(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "fixed" / "net.onnx"
    data = run.json("inspect", NET, "--dim", "batch=4", "--output", path)
    assert data["model"] == str(path) and data["inputs"][0]["shape"] == [4, 1, 28, 28]
    assert [str(spec) for spec in load_model(path).inputs] == ["image: float32[4, 1, 28, 28]"]
    assert data["sha256"] == load_model(path).sha256
    assert [item.name for item in path.parent.iterdir()] == ["net.onnx"]
    status, out, _ = run("inspect", NET, "--output", path)
    assert (status, out.splitlines()[-1]) == (0, str(path))
    assert str(load_model(path).inputs[0]) == "image: float32[batch, 1, 28, 28]"


@pytest.mark.parametrize("place", ["", "file/net.onnx"])
def test_inspect_says_where_it_cannot_write(run: Run, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    status, out, err = run("inspect", NET, "--output", tmp_path / place)
    assert status == 2
    assert_one_sentence(out, err)
    assert run("inspect", NET, "--output", NET)[0] == 2, "not over the model itself"


# ---- export


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """net.py in the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_net(tmp_path)


@NEEDS_TORCH
def test_export_tells_the_file_and_how_close_it_answers(run: Run, net: Path, home: Path) -> None:
    data = run.json("export", "net.py:make")
    assert data["onnx"] == str(home / "exports" / "net_make.onnx")
    assert data["framework"].startswith("PyTorch ") and data["converter"] == "torch.onnx (dynamo)"
    assert (data["opset"], data["nodes"]) == (17, len(load_model(data["onnx"]).nodes))
    assert (data["inputs"], data["outputs"]) == (["input: float32[batch, 4]"], ["output: float32[batch, 2]"])
    assert [item["shapes"] for item in data["parity"]] == [{"input": [size, 4]} for size in (1, 2, 3)]
    for item in data["parity"]:
        (output,) = item["outputs"]
        assert output["output"] == "output" and 0 <= output["relative"] < 1e-5
    assert has_types(data, {"notes": list, "elapsed_s": float})


@NEEDS_TORCH
def test_export_takes_its_options_and_says_what_comes_next(run: Run, net: Path, tmp_path: Path) -> None:
    path = tmp_path / "deploy" / "net.onnx"
    options = ["--open", "input:0=rows", "--exporter", "classic", "--opset", "18", "--shapes", "input:5x4"]
    status, out, _ = run("export", "net.py:fixed", "--output", path, *options, "--verbose")
    assert status == 0
    assert "net.onnx: 1 nodes, opset 18, from PyTorch" in out and "by torch.onnx (classic)" in out
    assert "inputs input: float32[rows, 4]" in out and "at 2 sets of shapes" in out
    assert out.splitlines()[-2:] == [str(path), f"next: workbench inspect {path}"]
    assert [item.name for item in path.parent.iterdir()] == ["net.onnx"]


def paddle_model(folder: Path) -> Path:
    (folder / "net.pdmodel").write_bytes(b"program")
    (folder / "net.pdiparams").write_bytes(PADDLE_SCALAR)
    return folder / "net.pdmodel"


EXPORT_MISTAKES: dict[str, tuple[list[object], str]] = {
    "no such file": (["nowhere.pt2"], "there is no such file"),
    "nothing at all": (["nowhere"], "there is no such file or folder"),
    "onnx": ([NET], "this is ONNX already"),
    "open": (["net.py:make", "--open", "input"], "write INPUT:AXIS=NAME"),
    "framework": (["net.py:make", "--from", "caffe"], "choose one of torch, paddle, tensorflow"),
    "shapes": (["net.py:make", "--shapes", "input:axb"], "axb"),
    "no yes": (["net.pdmodel"], "159 MB to download, 593 MB on disk"),
}
TORCH_MISTAKES: dict[str, tuple[list[object], str]] = {
    "function": (["net.py:missing"], "has no function missing; it has "),
    "exporter": (["net.py:make", "--exporter", "jit"], "choose one of dynamo, classic"),
    "opset": (["net.py:make", "--opset", "99"], "opset 99: choose one from 9 to"),
    "input": (["net.py:fixed", "--open", "x:0=n"], "there is no input 'x'"),
    "sizes": (["net.py:fixed", "--shapes", "input:5x4"], "fixed to 3"),
}
EXPORT_FAILURES: dict[str, tuple[list[object], str]] = {
    "uff": (["old.uff"], "UFF is gone"),
    "output": (["net.py:make", "--output", "net.py/net.onnx"], "the export cannot be written"),
}


@pytest.mark.parametrize(
    "name", [*EXPORT_MISTAKES, *(pytest.param(name, marks=NEEDS_TORCH) for name in TORCH_MISTAKES)]
)
def test_a_mistake_in_an_export_is_one_sentence_and_status_2(run: Run, net: Path, name: str) -> None:
    paddle_model(net.parent)
    arguments, words = {**EXPORT_MISTAKES, **TORCH_MISTAKES}[name]
    status, out, err = run("export", *arguments)
    assert (status, words in err) == (2, True), err
    assert_one_sentence(out, err)


@pytest.mark.parametrize("name", EXPORT_FAILURES)
def test_an_export_that_fails_is_one_sentence_and_status_1(run: Run, net: Path, name: str) -> None:
    arguments, words = EXPORT_FAILURES[name]
    status, out, err = run("export", *arguments)
    assert (status, words in err) == (1, True), err
    assert_one_sentence(out, err)


@NEEDS_TORCH
def test_code_of_the_users_that_fails_is_one_sentence_and_status_1(run: Run, net: Path) -> None:
    status, out, err = run("export", "net.py:raises", "--json")
    assert status == 1 and "net.py:raises: its code fails at " in err and "no such weights" in err
    assert_one_sentence(out, err)


@pytest.mark.parametrize("option", ["--opset=0", "--opset=x", "--opset=²"])
def test_an_opset_that_is_no_number_is_status_2(run: Run, option: str) -> None:
    assert run("export", "net.py:make", option)[:2] == (2, "")


# ---- the converters' environments


def test_environments_lists_each_with_its_size_and_whether_it_is_made(run: Run, home: Path) -> None:
    data = run.json("environments")
    assert data["freed_bytes"] == 0
    assert [item["name"] for item in data["environments"]] == ["paddle-2", "paddle-3", "tensorflow"]
    for item in data["environments"]:
        known = ENVIRONMENTS[item["name"]]
        assert (item["made"], item["size_bytes"]) == (False, known.installed_bytes)
        assert item["folder"] == str(home / "environments" / item["name"])
        assert item["requirements"] == list(known.requirements)
    status, out, _ = run("environments")
    assert status == 0 and "made when first needed, if you say yes" in out and "593 MB" in out


def test_a_broken_environment_is_listed_with_its_fault_and_can_be_removed(run: Run, home: Path) -> None:
    folder = home / "environments" / "paddle-2"
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(bytes(1000))
    first = run.json("environments")["environments"][0]
    assert first["made"] is False and "is broken: " in first["state"] and "make it again" in first["state"]
    removed = run.json("environments", "--remove", "paddle-2")
    assert removed["freed_bytes"] >= 1000 and "made when first needed" in removed["environments"][0]["state"]
    assert not folder.exists()
    assert "freed 0 MB" in run("environments", "--remove", "paddle-2")[1]


@pytest.mark.parametrize("option", ["--make", "--remove"])
def test_an_environment_that_does_not_exist_is_a_mistake(run: Run, option: str) -> None:
    status, out, err = run("environments", option, "caffe")
    assert status == 2 and "there are paddle-2, paddle-3, tensorflow" in err
    assert_one_sentence(out, err)


# ---- networks by hand

DESCRIBE = """
def tiny(trt, network, weights):
    x = network.add_input("x", trt.float32, (-1, 4))
    keep = trt.MatrixOperation.NONE
    matrix = network.add_constant((4, 2), weights["w"])
    product = network.add_matrix_multiply(x, keep, matrix.get_output(0), keep)
    product.name = "fc"
    product.get_output(0).name = "y"
    network.mark_output(product.get_output(0))
"""


@pytest.mark.rtx
def test_network_builds_what_a_function_describes_and_then_reuses_it(run: Run, tmp_path: Path) -> None:
    (tmp_path / "hand.py").write_text(DESCRIBE)
    np.savez(tmp_path / "w.npz", w=np.ones((4, 2), np.float32))
    line = ["network", f"{tmp_path / 'hand.py'}:tiny", "--weights", tmp_path / "w.npz", "--shapes", "x:1x4,2x4,8x4"]
    first = run.json(*line, "--output", tmp_path / "tiny.plan")
    assert (first["reused"], first["backend"], first["precision"]) == (False, "rtx", "fp32")
    assert first["shapes"] == [["x:1x4,2x4,8x4"]] and (first["nodes"], first["nodes_covered"]) == (2, 1)
    assert first["engine"] == str(tmp_path / "tiny.plan")
    assert (tmp_path / "tiny.plan").stat().st_size == first["plan_bytes"]
    second = run.json(*line, "--name", "tiny")
    assert (second["reused"], second["key"]) == (True, first["key"])
    assert "tiny" in [item["model"] for item in run.json("engines")["engines"]]
    np.savez(tmp_path / "w.npz", w=np.zeros((4, 2), np.float32))
    assert run.json(*line)["reused"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py:describe"], "there is no such file"),
        (["hand.py"], "FILE.py:NAME"),
        (["hand.py:missing"], "has no function missing; it has tiny"),
        (["hand.py:tiny", "--weights", "none.npz"], "none.npz: cannot be read as .npz"),
        (["hand.py:tiny"], "missing a required argument: 'weights'"),
        (["hand.py:tiny", "--weights", "w.npz", "--precision", "fp99"], "fp99"),
        (["hand.py:tiny", "--weights", "w.npz", "--backend", "onnxruntime"], "builds from ONNX only"),
    ],
)
def test_a_mistake_in_a_network_by_hand_is_one_sentence_and_status_2(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hand.py").write_text(DESCRIBE)
    np.savez(tmp_path / "w.npz", w=np.ones((4, 2), np.float32))
    status, out, err = run("network", *arguments)
    assert (status, words in err) == (2, True), err
    assert_one_sentence(out, err)


def test_a_baseline_of_other_inputs_cannot_be_compared_and_ci_does_not_pass_silently(run: Run) -> None:
    run.json("bench", NET, *ORT, *QUICK, "--name", "one", "--shapes", "image:1x1x28x28")
    status, out, _ = run("bench", NET, *ORT, *QUICK, "--against", "one", "--shapes", "image:4x1x28x28")
    assert status == 1 and "FAILED: not comparable" in out
