"""benchmarks/gpu_latency.py, as far as it goes without a GPU: its models, its arithmetic, its files."""

from __future__ import annotations

import gzip
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from gpu_peers.cells import MODELS, SAMPLES, Cell, feeds_of, reference_of, relative_difference, write_reference
from gpu_peers.recording import keep_engine, keep_profile, write_recording
from gpu_peers.report import Ratio, merged, ratio_rows, ratios, summary, time_rows

from workbench.calibration.table import read_table
from workbench.layer_times import layer_times_to_json
from workbench.model import load_model
from workbench.recorded import load_recorded
from workbench.types import TensorSpec

FP16, FP32, LARGE = Cell("resnet18", "fp16", 1), Cell("resnet18", "fp32", 1), Cell("resnet18", "fp16", 64)


def run(cell: Cell, peer: str, what: str, median_ms: float) -> dict[str, Any]:
    numbers = {"median_ms": median_ms, "p99_ms": median_ms, "mean_ms": median_ms, "iterations": 1000}
    return {**vars(cell), "peer": peer, "what": what, "clock": f"{peer} {what}", "relative": 1e-4, **numbers}


def built(cell: Cell, kind: str, build_s: float) -> dict[str, Any]:
    return {**vars(cell), "kind": kind, "build_s": build_s}


def opened(cell: Cell, peer: str, total_ms: float) -> dict[str, Any]:
    return {**vars(cell), "peer": peer, "total_ms": total_ms}


def result(**parts: Any) -> dict[str, Any]:
    machine = {"cpu": "a processor", "cores": 16, "system": "Linux x86_64", "python": "3.10.1"}
    gpu = {"name": "a GPU", "compute_capability": "9.0", "memory_bytes": 1}
    heads = {"machine": {**machine, "cuda_version": "13.0", "gpus": [gpu]}, "releases": {"tensorrt": "8.6.0"}}
    models = {"resnet18": {"about": "ResNet-18", "sha256": "0" * 64, "nodes": None}}
    lists: dict[str, Any] = {name: [] for name in ("runs", "builds", "openings", "failures", "gpu")}
    return {**heads, "date": "2026-08-01", "how": "by hand", "models": models, "cells": {}, **lists, **parts}


def verdicts(found: list[Ratio]) -> dict[tuple[str, int], tuple[float, str]]:
    return {(ratio.what, ratio.cell.batch): (round(ratio.value, 4), ratio.verdict) for ratio in found}


def test_ratios_are_of_the_numbers_the_issue_names_and_judged_by_its_targets() -> None:
    runs = [
        run(FP16, "workbench", "replay", 0.2),
        run(FP16, "workbench", "host", 0.3),
        run(FP16, "workbench", "host_in_place", 0.24),
        run(FP16, "bare", "replay_mean", 0.4),
        run(FP16, "bare", "replay", 0.19),
        run(FP16, "bare", "host", 0.3),
        run(FP16, "bare", "host_in_place", 0.2),
        run(FP16, "polygraphy", "host", 1.2),
        run(FP32, "eager", "gpu", 1.6),
        run(FP16, "eager", "gpu", 9.9),
        run(FP16, "compile", "gpu", 0.25),
    ]
    found = verdicts(ratios(result(runs=runs)))
    assert found == {
        ("graph replay: workbench / bare", 1): (1.0526, "not reached"),
        ("host to host: workbench / by hand", 1): (1.0, "reached"),
        ("host to host in place: workbench / by hand", 1): (1.2, "not reached"),
        ("host to host: Polygraphy infer / workbench", 1): (4.0, "reached"),
        ("GPU: PyTorch eager fp32 / workbench fp16", 1): (8.0, "reached"),
        ("GPU: torch.compile / workbench, same precision", 1): (1.25, "not reached"),
    }


def test_only_what_holds_everywhere_is_judged_for_other_batches() -> None:
    names = (("workbench", "replay"), ("workbench", "host"), ("bare", "replay"), ("polygraphy", "host"))
    found = verdicts(ratios(result(runs=[run(LARGE, *name, 2.0) for name in names])))
    assert found == {
        ("graph replay: workbench / bare", 64): (1.0, "reached"),
        ("host to host: Polygraphy infer / workbench", 64): (1.0, ""),
    }


def test_builds_and_openings_are_compared_in_the_same_unit() -> None:
    builds = [built(FP16, "cold", 30.0), built(FP16, "warm", 10.0), built(LARGE, "other", 50.0)]
    openings = [opened(FP16, "workbench", 50.0), opened(FP16, "bare", 40.0), opened(LARGE, "bare", 1.0)]
    found = verdicts(ratios(result(builds=builds, openings=openings)))
    assert found == {
        ("building cold / opening a stored engine", 1): (600.0, "reached"),
        ("opening a stored engine / bare deserializing and running", 1): (1.25, "reached"),
        ("building cold / with a warm timing cache, fp16", 1): (3.0, "not reached"),
    }


def test_a_summary_is_the_median_of_the_rounds() -> None:
    rounds = [[1.0, 2.0, 3.0], [5.0, 5.0, 50.0], [4.0, 4.0, 4.0]]
    assert summary(rounds, 3) == {
        "median_ms": 4.0,
        "p99_ms": 4.0,
        "mean_ms": 4.0,
        "iterations": 3,
        "rounds_ms": [2.0, 5.0, 4.0],
    }


def test_tables_show_every_number_and_every_target() -> None:
    runs = [run(FP32, "eager", "gpu", 1.6), run(FP16, "workbench", "replay", 0.2)]
    assert time_rows(result(runs=runs)) == [
        ("median ms", "eager gpu", "workbench replay"),
        ("resnet18 fp16 batch 1", "", "0.2000"),
        ("resnet18 fp32 batch 1", "1.6000", ""),
    ]
    what = "GPU: PyTorch eager fp32 / workbench fp16"
    assert ratio_rows(ratios(result(runs=runs)))[1:] == [(what, "resnet18 fp16 batch 1", "8.000", ">= 8", "reached")]


def test_several_results_become_one_in_which_the_later_number_stays() -> None:
    first = result(runs=[run(FP16, "bare", "host", 1.0), run(FP32, "bare", "host", 2.0)], cells={"a": 1}, how="one")
    second = result(runs=[run(FP16, "bare", "host", 3.0)], cells={"b": 2}, how="two", failures=["broken"])
    both = merged([first, second])
    assert [(item["precision"], item["median_ms"]) for item in both["runs"]] == [("fp16", 3.0), ("fp32", 2.0)]
    assert (both["cells"], both["how"], both["failures"]) == ({"a": 1, "b": 2}, "one; two", ["broken"])


def test_what_is_recorded_can_be_loaded_with_the_files_beside_it(tmp_path: Path) -> None:
    engine, records = tmp_path / "engine", tmp_path / "records"
    engine.mkdir()
    records.mkdir()
    (engine / "inspector.json").write_text("x" * 300_000)
    (engine / "calibration.cache").write_text("TRT-8600-EntropyCalibration2\nx: 3c010204\n")
    kept = {**keep_engine(records, FP16.stem, engine), "build_s": 3.5, "plan_bytes": 7}
    kept["profile"] = keep_profile(records, FP16.stem, layer_times_to_json({"conv": [1.0, 2.0]}))
    runs = [run(FP16, "workbench", "replay", 0.2), run(FP16, "eager", "gpu", 0.9)]
    write_recording(records, result(runs=runs, cells={FP16.stem: kept}))
    ours, eager = load_recorded(records).runs
    assert (ours.peer, ours.build_s, ours.plan_bytes) == ("workbench", 3.5, 7)
    assert ours.inputs == "input 1x3x224x224"
    assert ours.inspector and ours.inspector.name == "resnet18_fp16_b1.inspector.json.gz"
    assert gzip.decompress(ours.inspector.read_bytes()) == b"x" * 300_000
    assert ours.profile and json.loads(gzip.decompress(ours.profile.read_bytes()))[1]["medianMs"] == 1.5
    assert ours.table and read_table(ours.table).algorithm == "entropy"
    assert (eager.peer, eager.build_s, eager.profile) == ("torch eager", None, None)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.environ.get("WORKBENCH_TEST_TORCH") == "0":
        pytest.skip("PyTorch is left out: WORKBENCH_TEST_TORCH=0")
    import gpu_models

    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        gpu_models.write(folder, name)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_onnx_runtime_answers_as_pytorch_does(written: Path, name: str) -> None:
    import gpu_models
    import torch

    write_reference(written, name, 2)
    cell = Cell(name, "fp32", 2)
    with torch.inference_mode():
        network = gpu_models.load(written, name)
        found = network(*(torch.from_numpy(array) for array in feeds_of(written, cell).values())).numpy()
    assert relative_difference(found, reference_of(written, cell)) < 1e-5
    assert 0.05 < found.std() < 5
    assert not np.allclose(found[0], found[1], rtol=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_models_are_such_that_tensorrt_86_takes_them(written: Path, name: str) -> None:
    proto = onnx.load(written / f"{name}.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")] <= [17]
    model = load_model(written / f"{name}.onnx")
    shape = ("batch", "sequence") if name == "minilm_l6" else ("batch", 3, 224, 224)
    wanted = [TensorSpec(key, item.dtype, shape) for key, item in MODELS[name].inputs.items()]
    assert list(model.inputs) == wanted
    assert [output.name for output in model.outputs] == [MODELS[name].output]


def test_calibration_finds_an_array_of_samples_for_each_input_and_nothing_else(written: Path) -> None:
    for name, model in MODELS.items():
        with np.load(written / f"{name}.npz") as data:
            found = {key: (data[key].dtype.name, data[key].shape) for key in data.files}
        assert found == {key: (item.dtype, (SAMPLES, *item.shape)) for key, item in model.inputs.items()}
