"""What is refused before a plan is deserialized: another release, another GPU, no plan at all."""

from dataclasses import replace
from pathlib import Path

import pytest

from workbench.backends.plan_record import PlanRecord, read_plan_record, why_not_open, write_plan_record
from workbench.errors import BackendError
from workbench.machine import Gpu
from workbench.types import TensorSpec

H200 = Gpu("NVIDIA H200", "9.0", 1 << 37)
H100 = Gpu("NVIDIA H100", "9.0", 1 << 36)
L4 = Gpu("NVIDIA L4", "8.9", 1 << 34)
T4 = Gpu("Tesla T4", "7.5", 1 << 34)
RECORD = PlanRecord(
    release="8.6.0",
    gpu=H200.name,
    compute_capability="9.0",
    target="gpu",
    version_compatible=False,
    refittable=False,
    stripped=False,
    inputs=(TensorSpec("ids", "int64", ("batch", None, 7)),),
    outputs=(TensorSpec("y", "float32", (1,)),),
)


def plan(folder: Path, release: bytes = bytes([8, 6, 0, 12]), magic: bytes = b"ftrt") -> Path:
    path = folder / "engine.plan"
    path.write_bytes(magic + bytes(20) + release + bytes(40))
    return path


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_plan_record(tmp_path / "engine.plan", RECORD)
    assert read_plan_record(tmp_path / "engine.plan") == RECORD


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"inputs": 1, "outputs": 2}'])
def test_an_unreadable_record_says_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(BackendError, match="build the engine again"):
        read_plan_record(tmp_path / "engine.plan")


def test_the_same_release_and_gpu_open_it(tmp_path: Path) -> None:
    assert why_not_open(plan(tmp_path), RECORD, "8.6.0", H200) == ""


@pytest.mark.parametrize("release", ["8.6.1", "8.6.1.post1", "8.5.3", "10.16.1"])
def test_another_release_is_refused(tmp_path: Path, release: str) -> None:
    reason = why_not_open(plan(tmp_path), RECORD, release, H200)
    assert reason.startswith(f"the engine was built with TensorRT 8.6.0, here is {release}: build it again here")


@pytest.mark.parametrize(("release", "opens"), [("8.6.1", True), ("8.5.3", False), ("10.0.0", False)])
def test_a_version_compatible_plan_opens_with_later_ones_of_its_major_release(
    tmp_path: Path, release: str, opens: bool
) -> None:
    reason = why_not_open(plan(tmp_path), replace(RECORD, version_compatible=True), release, H200)
    assert (reason == "") == opens
    assert opens or "later releases of 8 only" in reason


@pytest.mark.parametrize(
    ("target", "gpu", "opens"),
    [
        ("gpu", H200, True),
        ("gpu", H100, False),
        ("gpu", replace(H200, compute_capability="9.1"), False),
        ("same-cc", H100, True),
        ("same-cc", L4, False),
        ("ampere+", L4, True),
        ("ampere+", T4, False),
    ],
)
def test_a_plan_is_for_the_gpus_of_its_target(tmp_path: Path, target: str, gpu: Gpu, opens: bool) -> None:
    reason = why_not_open(plan(tmp_path), replace(RECORD, target=target), "8.6.0", gpu)
    assert (reason == "") == opens
    assert opens or (gpu.name in reason and "build it again here" in reason)


def test_what_is_no_plan_of_tensorrt_is_refused(tmp_path: Path) -> None:
    assert "not a plan of TensorRT" in why_not_open(plan(tmp_path, magic=b"vtrt"), RECORD, "8.6.0", H200)


def test_a_plan_without_weights_is_not_run(tmp_path: Path) -> None:
    assert "holds no weights" in why_not_open(plan(tmp_path), replace(RECORD, stripped=True), "8.6.0", H200)
