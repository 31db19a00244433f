"""Arrays that stay on the GPU: given to PyTorch, CuPy or JAX, and taken from them, without a copy.

Two protocols: `__cuda_array_interface__` (version 3) and DLPack (`__dlpack__`, the unversioned capsule).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.errors import FeedError
from workbench.types import Shape

_CUDA = 2  # kDLCUDA
_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    """DLManagedTensor of dlpack.h, the form before version 1."""


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_NAME = b"dltensor"
_api = ctypes.pythonapi
_api.PyCapsule_New.restype = ctypes.py_object
_api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Destructor]
_api.PyCapsule_GetPointer.restype = ctypes.c_void_p
_api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
_is_valid, _address = ctypes.pythonapi["PyCapsule_IsValid"], ctypes.pythonapi["PyCapsule_GetPointer"]
_is_valid.argtypes = _address.argtypes = [ctypes.c_void_p, ctypes.c_char_p]  # a dying capsule is no object any more
_address.restype = ctypes.c_void_p
_held: dict[int, tuple[Any, ...]] = {}
"""What lent tensors point to, by the address of their description, until the borrower gives them back."""


@_Deleter
def _give_back(address: int) -> None:
    _held.pop(address, None)


@_Destructor
def _forget(capsule: int) -> None:
    """A capsule that nobody took; a taken one has another name."""
    if _is_valid(capsule, _NAME):
        _held.pop(_address(capsule, _NAME), None)


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """A dense array in GPU memory, its content complete: nobody needs to wait for a stream.

    pointer: its address; dtype: numpy's name; owner: keeps the memory alive. to_host() copies it.
    """

    pointer: int
    shape: Shape
    dtype: str
    owner: Any
    copy: Callable[[DeviceArray], np.ndarray]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * numpy_dtype(self.dtype).itemsize

    def to_host(self) -> np.ndarray:
        return self.copy(self)

    @property
    def look(self) -> np.ndarray:
        """An array on the host of this shape and dtype, without its content and without memory."""
        return np.broadcast_to(np.zeros((), numpy_dtype(self.dtype)), self.shape)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        kind = numpy_dtype(self.dtype)
        if kind.kind == "V":
            raise AttributeError(f"{self.dtype} has no name in this protocol; use DLPack")
        return {"shape": self.shape, "typestr": kind.str, "data": (self.pointer, False), "strides": None, "version": 3}

    def __dlpack_device__(self) -> tuple[int, int]:
        return _CUDA, 0

    def __dlpack__(self, *, stream: Any = None, **newer: Any) -> Any:
        """stream and the arguments of newer versions of the protocol ask for nothing that is not so already."""
        kind = self.dtype.rstrip("0123456789")
        sizes = (ctypes.c_int64 * max(len(self.shape), 1))(*self.shape)
        bits = numpy_dtype(self.dtype).itemsize * 8
        managed = _Managed()
        managed.tensor = _Tensor(self.pointer, _CUDA, 0, len(self.shape), _CODES[kind], bits, 1, sizes, None, 0)
        managed.deleter = _give_back
        address = ctypes.addressof(managed)
        _held[address] = (managed, sizes, self)
        return _api.PyCapsule_New(address, _NAME, _forget)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's dtype for 'float32', and for names that ml_dtypes adds, such as 'bfloat16'."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def is_on_device(array: Any) -> bool:
    """Whether it lies in a GPU's memory; safe for arrays of every library."""
    if isinstance(array, np.ndarray):
        return False
    if isinstance(array, DeviceArray):
        return True
    if hasattr(array, "__dlpack_device__"):
        return int(array.__dlpack_device__()[0]) == _CUDA
    return hasattr(array, "__cuda_array_interface__")


def borrow(name: str, array: Any, stream: int, wait: Callable[[int], None]) -> DeviceArray:
    """Another library's array as it lies in GPU memory; its content is complete once `stream` gets there.

    name: of the input, for errors. stream: handle of the stream that will read it. wait: waits for a stream by its
    handle, for libraries that do not order streams themselves. Raises FeedError for arrays that are not dense, or lie
    on another GPU.
    """
    if isinstance(array, DeviceArray):
        return array
    if hasattr(array, "__dlpack__"):
        return _from_dlpack(name, array, stream)
    described = array.__cuda_array_interface__
    wait(described.get("stream") or 0)
    kind = np.dtype(described["typestr"])
    shape = tuple(described["shape"])
    _check_dense(name, shape, described.get("strides"), kind.itemsize)
    return DeviceArray(described["data"][0], shape, kind.name, array, _no_copy)


def _from_dlpack(name: str, array: Any, stream: int) -> DeviceArray:
    device = array.__dlpack_device__()
    if tuple(map(int, device)) != (_CUDA, 0):
        raise FeedError(f"input {name} lies on device {int(device[1])}; the engine runs on the first GPU.")
    try:
        capsule = array.__dlpack__(stream=stream)
    except (BufferError, RuntimeError, ValueError, TypeError) as error:
        raise FeedError(f"input {name} cannot be taken from its library: {error}") from error
    tensor = _Managed.from_address(_api.PyCapsule_GetPointer(capsule, _NAME)).tensor
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None
    _check_dense(name, shape, strides, 1)
    kind = next((kind for kind, code in _CODES.items() if code == tensor.code), f"type{tensor.code}_")
    dtype = kind if kind == "bool" else f"{kind}{tensor.bits}"
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, shape, dtype, (array, capsule), _no_copy)


def _check_dense(name: str, shape: Shape, strides: tuple[int, ...] | None, step: int) -> None:
    """strides in units of `step` per element; None means dense."""
    for size, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if size != 1 and stride != step:
            raise FeedError(f"input {name} is not contiguous in GPU memory: call .contiguous() on it.")
        step *= size


def _no_copy(array: DeviceArray) -> np.ndarray:
    raise FeedError("the array belongs to another library; copy it with that library.")
