"""Arrays on a GPU, as far as their description goes; no GPU is asked."""

import gc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workbench.backends import device_arrays
from workbench.backends.device_arrays import DeviceArray, borrow, is_on_device, numpy_dtype
from workbench.errors import FeedError

ADDRESS = 0x7F0000000000


def array(shape: tuple[int, ...] = (2, 3), dtype: str = "float32") -> DeviceArray:
    return DeviceArray(ADDRESS, shape, dtype, object(), lambda array: np.zeros(array.shape, numpy_dtype(array.dtype)))


class Foreign:
    """Another library's array: it lends what a DeviceArray lends."""

    def __init__(self, lent: DeviceArray, device: tuple[int, int] = (2, 0)) -> None:
        self.lent, self.device = lent, device

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        return self.lent.__dlpack__(stream=stream)


def never(handle: int) -> None:
    raise AssertionError("nobody needs to wait")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8", "uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("shape", [(2, 3), (), (1, 0, 4)])
def test_what_dlpack_lends_is_borrowed_as_it_was(dtype: str, shape: tuple[int, ...]) -> None:
    found = borrow("x", Foreign(array(shape, dtype)), 7, never)
    assert (found.pointer, found.shape, found.dtype) == (ADDRESS, shape, dtype)


def test_what_is_lent_is_kept_until_the_borrower_lets_go() -> None:
    gc.collect()  # what earlier tests let go
    before = len(device_arrays._held)
    capsule = array().__dlpack__()
    assert len(device_arrays._held) == before + 1
    del capsule
    gc.collect()
    assert len(device_arrays._held) == before


def test_the_array_interface_tells_address_shape_and_type() -> None:
    described = array((2, 3), "float16").__cuda_array_interface__
    assert described == {
        "shape": (2, 3), "typestr": "<f2", "data": (ADDRESS, False), "strides": None, "version": 3,
    }  # fmt: skip


def test_bfloat16_has_dlpack_only() -> None:
    assert not hasattr(array(dtype="bfloat16"), "__cuda_array_interface__")
    assert is_on_device(array(dtype="bfloat16"))


def interface(**changes: Any) -> SimpleNamespace:
    described = {"shape": (2, 3), "typestr": "<f4", "data": (ADDRESS, False), "version": 3, "strides": None}
    return SimpleNamespace(__cuda_array_interface__={**described, **changes})


@pytest.mark.parametrize(("changes", "stream"), [({}, 0), ({"stream": 5}, 5), ({"version": 2}, 0)])
def test_the_owners_stream_is_waited_for(changes: dict[str, Any], stream: int) -> None:
    waited: list[int] = []
    found = borrow("x", interface(**changes), 7, waited.append)
    assert (found.pointer, found.shape, found.dtype, waited) == (ADDRESS, (2, 3), "float32", [stream])


@pytest.mark.parametrize("strides", [(12, 4), None])
def test_dense_strides_are_taken(strides: tuple[int, ...] | None) -> None:
    assert borrow("x", interface(strides=strides), 7, lambda handle: None).shape == (2, 3)


@pytest.mark.parametrize("strides", [(4, 8), (24, 8), (0, 4)])
def test_an_array_with_gaps_is_refused_in_words(strides: tuple[int, ...]) -> None:
    with pytest.raises(FeedError, match="input x is not contiguous"):
        borrow("x", interface(strides=strides), 7, lambda handle: None)


def test_an_array_on_another_gpu_is_refused() -> None:
    with pytest.raises(FeedError, match="device 1"):
        borrow("x", Foreign(array(), (2, 1)), 7, never)


def test_arrays_on_the_host_are_not_on_a_device() -> None:
    assert not is_on_device(np.zeros(3))
    assert not is_on_device([1, 2])
    assert is_on_device(array()) and is_on_device(Foreign(array())) and is_on_device(interface())


def test_its_look_has_shape_and_type_but_no_content_of_its_own() -> None:
    look = array((1000, 1000, 1000)).look
    assert (look.shape, look.dtype, look.strides) == ((1000, 1000, 1000), np.float32, (0, 0, 0))


def test_nbytes_and_the_way_home() -> None:
    assert array((2, 3), "float16").nbytes == 12 and array((), "int64").nbytes == 8
    assert array((2, 3)).to_host().shape == (2, 3)
