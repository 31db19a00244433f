"""TensorRT's Python package, as far as the runner uses it, for plans like those in fake.cpp. Its kernels run in the
stream of the pretended driver, on memory that is the host's."""

import ctypes
import os
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np

__version__ = os.environ.get("FAKE_RELEASE", "8.6.0")
DataType = Enum("DataType", ["FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8", "BF16", "INT64"])
TensorIOMode = Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
TensorLocation = Enum("TensorLocation", ["DEVICE", "HOST"])
_TYPES = {
    "f4": (DataType.FLOAT, "f4"), "f2": (DataType.HALF, "f2"), "i4": (DataType.INT32, "i4"),
    "i8": (DataType.INT64, "i8"), "b1": (DataType.BOOL, "?"), "fp8": (DataType.FP8, "u1"),
    "bf16": (DataType.BF16, "u2"),
}  # fmt: skip
_driver = ctypes.CDLL("libcuda.so.1")
_Kernel = ctypes.CFUNCTYPE(None)


class Logger:
    ERROR = 1

    def __init__(self, least: int) -> None:
        pass


def init_libnvinfer_plugins(logger: Logger, namespace: str) -> bool:
    return True


class IOutputAllocator:
    pass


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split("x"))


class Tensor:
    def __init__(self, kind: str, name: str, dtype: str, *rest: str) -> None:
        self.kind, self.name, self.shape = kind, name, (-1,)
        self.dtype, self.kept = _TYPES[dtype]
        self.profiles: list[tuple] = []
        self.source, self.factor, self.count = "", 1.0, ""
        if kind == "input":
            self.shape, bounds = _sizes(rest[0]), [_sizes(item) for item in rest[1:]]
            self.profiles = [(low, low, high) for low, high in zip(bounds[::2], bounds[1::2], strict=True)]
        elif kind == "scale":
            self.shape, self.source, self.factor = _sizes(rest[0]), rest[1], float(rest[2])
        else:
            self.source, self.count = rest[0], rest[1] if kind == "repeat" else ""

    def at(self, address: int, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(self.kept).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(address), self.kept).reshape(shape)

    def values(self, array: np.ndarray) -> np.ndarray:
        return (array.astype(np.uint32) << 16).view(np.float32) if self.dtype is DataType.BF16 else array

    def bits(self, values: np.ndarray) -> np.ndarray:
        if self.dtype is DataType.BF16:
            return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return values.astype(self.kept)


class Runtime:
    def __init__(self, logger: Logger) -> None:
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        lines = content.decode().splitlines()
        if lines[0] != f"fake {__version__.split('.')[0]}" or (
            "host_code" in lines and not self.engine_host_code_allowed
        ):
            return None
        return Engine([Tensor(*line.split()) for line in lines[1:] if line != "host_code"])


class Engine:
    def __init__(self, tensors: list[Tensor]) -> None:
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.num_io_tensors = len(tensors)
        self.num_optimization_profiles = max(1, *(len(tensor.profiles) for tensor in tensors))

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> DataType:
        return self.tensors[name].dtype

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if self.tensors[name].kind == "input" else TensorIOMode.OUTPUT

    def get_tensor_location(self, name: str) -> TensorLocation:
        counts = {tensor.count for tensor in self.tensors.values()}
        return TensorLocation.HOST if self.tensors[name].kind == "shape" or name in counts else TensorLocation.DEVICE

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape

    def get_tensor_profile_shape(self, name: str, profile: int) -> tuple:
        tensor = self.tensors[name]
        return tensor.profiles[profile] if tensor.profiles else (tensor.shape,) * 3

    def create_execution_context(self) -> Any:
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.profile = engine, 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.allocators: dict[str, Any] = {}
        self.kernels: list[Callable] = []

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.get_tensor_profile_shape(name, self.profile)
        if name != "times" and not all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True)):
            return False
        self.shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [
            name for name, tensor in self.engine.tensors.items() if tensor.kind == "input" and name not in self.shapes
        ]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        tensor = self.engine.tensors[name]
        if tensor.kind == "positive":
            return (-1,)
        shape = self.shapes.get(tensor.source or name, ())
        if tensor.kind == "repeat":
            times = self.engine.tensors[tensor.count].at(self.addresses[tensor.count], self.shapes[tensor.count])
            return (shape[0] * int(times.ravel()[0]), *shape[1:])
        return (len(shape),) if tensor.kind == "shape" else shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        self.allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> bool:
        tensors = self.engine.tensors.values()
        if any(tensor.kind == "positive" for tensor in tensors):
            _driver.cuStreamSynchronize(ctypes.c_void_p(stream))  # its size depends on the input's content
        for tensor in tensors:
            if tensor.kind == "positive":
                self.select(tensor)
            elif tensor.kind != "input":
                self.kernels.append(_Kernel(lambda tensor=tensor: self.compute(tensor)))
                _driver.fake_launch(self.kernels[-1])
        return True

    def read(self, name: str) -> np.ndarray:
        tensor = self.engine.tensors[name]
        return tensor.values(tensor.at(self.addresses[name], self.shapes[name]))

    def compute(self, tensor: Tensor) -> None:
        shape = self.get_tensor_shape(tensor.name)
        if tensor.kind == "shape":
            values = np.array(self.shapes[tensor.source])
        else:
            source = self.read(tensor.source)
            values = np.concatenate([source] * (shape[0] // max(1, len(source)))) * tensor.factor
        tensor.at(self.addresses[tensor.name], shape)[...] = tensor.bits(values)

    def select(self, tensor: Tensor) -> None:
        values = self.read(tensor.source)
        found = tensor.bits(values[values > 0])
        allocator = self.allocators[tensor.name]
        address = allocator.reallocate_output(tensor.name, 0, max(1, found.nbytes), 256)
        if found.size:
            tensor.at(address, found.shape)[...] = found
        allocator.notify_shape(tensor.name, found.shape)
