"""A GPU has one name in every process, whatever it is called there. The driver library is pretended."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from workbench.machine import _uuid, gpu_uuid, this_machine
from workbench.tuning import ground
from workbench.tuning.clusters import visible_gpus
from workbench.tuning.ground import gpu_identity, nvml_uuid, this_ground

OCTETS = bytes.fromhex("5f0c2a1b00ff417d9e0280c3d4e5f607")
OF_THE_PART = bytes(range(16))
NAME = "GPU-5f0c2a1b-00ff-417d-9e02-80c3d4e5f607"


def library(**told: bytes | int) -> Any:
    """What the driver's functions of these names write about device 7, which CUDA calls 1 here; or their error."""

    def get(device: Any, index: int) -> int:
        device._obj.value = {1: 7}.get(index, -1)
        return 0 if index == 1 else 101  # CUDA_ERROR_INVALID_DEVICE

    def teller(answer: bytes | int) -> Any:
        def tell(octets: Any, device: ctypes.c_int) -> int:
            assert device.value == 7
            if isinstance(answer, int):
                return answer
            octets._obj[:] = answer
            return 0

        return tell

    return SimpleNamespace(cuDeviceGet=get, **{name: teller(answer) for name, answer in told.items()})


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({"cuDeviceGetUuid": OCTETS, "cuDeviceGetUuid_v2": OCTETS}, NAME),
        ({"cuDeviceGetUuid_v2": OCTETS}, NAME),
        ({"cuDeviceGetUuid": OCTETS}, NAME),
        ({"cuDeviceGetUuid": OCTETS, "cuDeviceGetUuid_v2": 801}, NAME),
        (
            {"cuDeviceGetUuid": OCTETS, "cuDeviceGetUuid_v2": OF_THE_PART},
            "MIG-00010203-0405-0607-0809-0a0b0c0d0e0f",
        ),
        ({"cuDeviceGetUuid": 801}, ""),
        ({}, ""),
    ],
)
def test_a_gpu_is_named_as_nvidias_tools_do(told: dict[str, bytes | int], name: str) -> None:
    assert _uuid(library(**told), 1) == name
    assert _uuid(library(**told), 0) == "", "a GPU that is not there"


def test_without_a_gpu_nothing_is_told() -> None:
    if this_machine().gpus:
        pytest.skip("there is one")
    assert gpu_uuid(0) == "" and visible_gpus() == () and this_ground().gpu == ""


@pytest.mark.parametrize("given", [None, "1,0", "GPU-5f0c", "MIG-1"])
def test_cuda_is_asked_first_by_its_own_number(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for one that was named by the beginning of its identity."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(ground, "gpu_uuid", lambda index: f"{NAME[:-1]}{index}")
    monkeypatch.setattr(ground, "nvml_uuid", lambda name: "another")
    assert gpu_identity(0) == f"{NAME[:-1]}0"
    assert gpu_identity(1) == f"{NAME[:-1]}1"


@pytest.mark.parametrize(
    ("given", "asked", "names"),
    [
        (None, ["0", "1"], ("0", "1")),
        ("", ["0", "1"], ("0", "1")),
        ("3, 2", ["3", "2"], ("3", "2")),
        ("GPU-5f0c,MIG-1", ["GPU-5f0c", "MIG-1"], ("GPU-5f0c", "MIG-1")),
    ],
)
def test_then_the_driver_is_asked_and_then_the_name_must_do(
    given: str | None, asked: list[str], names: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(ground, "gpu_uuid", lambda index: "")
    monkeypatch.setattr(ground, "nvml_uuid", {asked[0]: NAME}.get)
    assert (gpu_identity(0), gpu_identity(1)) == (NAME, names[1])
    monkeypatch.setattr(ground, "nvml_uuid", lambda name: "")
    assert (gpu_identity(0), gpu_identity(1)) == names


def test_the_driver_is_asked_for_numbers_only() -> None:
    assert nvml_uuid("GPU-5f0c") == nvml_uuid("") == ""
