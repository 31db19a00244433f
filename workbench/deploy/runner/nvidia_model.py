"""A plan of TensorRT 8.6 to 11, or of TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from workbench.deploy.runner.arrays import (
    Arrays,
    Facts,
    Failure,
    check_names,
    fitted,
    from_bfloat16,
    load_package,
    read_facts,
    types_of,
)
from workbench.deploy.runner.gpu import Gpu

HERE = Path(__file__).resolve().parent
OPTION = ("--device", 0, "number of the GPU (default 0)")
NUMPY_TYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT8": "int8", "UINT8": "uint8", "INT32": "int32",
    "INT64": "int64", "BOOL": "bool",
}  # fmt: skip


def open_model(folder: str | Path = HERE, device: int = 0) -> NvidiaModel:
    """The model of a hand-over folder. device: number of the GPU."""
    return NvidiaModel(read_facts(Path(folder)), Path(folder), device)


class NvidiaModel:
    clock = "CUDA events around each enqueue of the engine, inputs and outputs on the GPU"

    def __init__(self, facts: Facts, folder: Path, device: int) -> None:
        self._api, self._gpu = load_package(facts["runtime"], facts), Gpu(device)
        check_place(facts, self._api.__version__, self._gpu)
        self._logger = self._api.Logger(self._api.Logger.ERROR)
        self._runtime, self._engine = deserialized(self._api, self._logger, facts, folder)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise Failure("there is not enough memory on the GPU for the engine; close what else runs there.")
        self._told, self._profile = types_of(facts, "outputs"), 0
        self._held, self._kept = dict[str, Any](), dict[str, Any]()
        """Inputs, and what the engine writes outputs to on the host: it goes there again when it is timed."""
        self._read_tensors(self._api, self._engine)

    def _read_tensors(self, api: Any, engine: Any) -> None:
        """_types: numpy's by name; _on_host: what the engine reads or writes on the host, as sizes depend on it."""
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        kinds = {name: engine.get_tensor_dtype(name).name for name in names}
        for name, kind in kinds.items():
            if kind not in NUMPY_TYPES:
                raise Failure(f"{name} has the type {kind}, which this runner does not know.")
        self._types = {name: NUMPY_TYPES[kind] for name, kind in kinds.items()}
        inputs = {name for name in names if engine.get_tensor_mode(name) == api.TensorIOMode.INPUT}
        self._inputs = [name for name in names if name in inputs]
        self._outputs = [name for name in names if name not in inputs]
        self._on_host = {name for name in names if engine.get_tensor_location(name) == api.TensorLocation.HOST}

    # ---- running

    def run(self, feeds: Arrays) -> Arrays:
        self._gpu.use()
        self._set_inputs(feeds)
        fetchers = {name: self._set_output(name) for name in self._outputs}
        self._enqueue()
        self._gpu.wait()  # now the sizes of all outputs are known
        found = {name: fetch() for name, fetch in fetchers.items()}
        self._gpu.wait()
        return {name: self._as_told(name, array) for name, array in found.items()}

    def times_ms(self, feeds: Arrays, count: int) -> list[float]:
        self.run(feeds)
        marks = []
        for _ in range(count):
            start = self._gpu.mark()
            self._enqueue()
            marks.append((start, self._gpu.mark()))
        self._gpu.wait()
        return [self._gpu.elapsed_ms(start, end) for start, end in marks]

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._gpu.stream.value):
            raise Failure("the engine does not run on these arrays; TensorRT's reason stands above.")

    # ---- inputs

    def _set_inputs(self, feeds: Arrays) -> None:
        context = self._context
        check_names(self._inputs, feeds)
        self._held = {name: fitted(name, feeds[name], self._types[name]) for name in self._inputs}
        self._choose_profile()
        for name, array in self._held.items():
            if not context.set_input_shape(name, array.shape):
                raise Failure(f"input {name} does not take the shape {array.shape}; TensorRT's reason stands above.")
            address = array.ctypes.data
            if name not in self._on_host:
                address = self._gpu.memory(name, array.nbytes)
                self._gpu.send(address, array)
            context.set_tensor_address(name, address)
        missing = context.infer_shapes()
        if missing:
            raise Failure(f"the sizes do not fit each other, or a value is missing: {', '.join(missing)}.")

    def _choose_profile(self) -> None:
        """The first optimization profile that takes the arrays; the current one before all others."""
        context, count = self._context, self._engine.num_optimization_profiles
        order = [self._profile, *(index for index in range(count) if index != self._profile)]
        misfits = {index: self._misfit(index) for index in order}
        chosen = next((index for index in order if not misfits[index]), None)
        if chosen is None:
            others = "" if count == 1 else f"; none of the {count} optimization profiles takes it"
            raise Failure(f"{misfits[self._profile]}{others}.")
        if chosen != self._profile:
            if not context.set_optimization_profile_async(chosen, self._gpu.stream.value):
                raise Failure(f"optimization profile {chosen} cannot be used; TensorRT's reason stands above.")
            self._gpu.wait()
            self._profile = chosen

    def _misfit(self, profile: int) -> str:
        """Why a profile does not take the arrays; '' where it does. Content of arrays is TensorRT's to check."""
        engine = self._engine
        for name, array in self._held.items():
            own = low = high = tuple(engine.get_tensor_shape(name))
            if array.ndim != len(own):
                return f"input {name} has {len(own)} dimensions; the array has {array.ndim}"
            if min(own, default=0) < 0:
                low, _, high = engine.get_tensor_profile_shape(name, profile)
            for axis, size in enumerate(array.shape):
                if not low[axis] <= size <= high[axis]:
                    return f"input {name}, dimension {axis}: {size} is outside of {low[axis]} to {high[axis]}"
        return ""

    # ---- outputs

    def _set_output(self, name: str) -> Callable[[], Any]:
        """Tell the engine where an output goes; returns what fetches it after the run."""
        context, gpu = self._context, self._gpu
        shape, dtype = tuple(context.get_tensor_shape(name)), self._types[name].replace("bfloat16", "uint16")
        if min(shape, default=0) < 0:  # only the run tells its size
            allocator = self._kept[name] = output_allocator(self._api, gpu)
            context.set_output_allocator(name, allocator)
            return lambda: gpu.fetch(allocator.address, allocator.shape, dtype)
        if name in self._on_host:
            array = self._kept[name] = np.empty(shape, dtype)
            context.set_tensor_address(name, array.ctypes.data)
            return array.copy
        address = gpu.memory(name, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        context.set_tensor_address(name, address)
        return lambda: gpu.fetch(address, shape, dtype)

    def _as_told(self, name: str, array: Any) -> Any:
        """In the model's type, where the release computes in another: int64 in int32."""
        if self._types[name] == "bfloat16":
            return from_bfloat16(array)
        return array.astype(self._told.get(name, array.dtype), copy=False)

    def __enter__(self) -> NvidiaModel:
        return self

    def __exit__(self, *error: object) -> None:
        self._context = self._engine = self._runtime = None
        self._gpu.close()


def deserialized(api: Any, logger: Any, facts: Facts, folder: Path) -> tuple[Any, Any]:
    """The runtime and the engine of the plan. A plan is executable code: open those only whose origin you trust."""
    api.init_libnvinfer_plugins(logger, "")
    runtime = api.Runtime(logger)
    if facts["version_compatible"]:
        runtime.engine_host_code_allowed = True  # such a plan brings a small runtime along
    engine = runtime.deserialize_cuda_engine((folder / facts["plan"]).read_bytes())
    if engine is None:
        raise Failure(f"{facts['runtime']} {api.__version__} does not take {facts['plan']}; its reason stands above.")
    return runtime, engine


def check_place(facts: Facts, release: str, gpu: Gpu) -> None:
    """Raise Failure where the plan is for another release or GPU, before it is opened."""
    built, here = _numbers(facts["release"]), _numbers(release)
    is_later = facts["version_compatible"] and built[0] == here[0] and built < here
    if facts["runtime"] == "tensorrt" and built != here and not is_later:  # TensorRT-RTX judges by itself
        raise Failure(
            f"the plan was built with TensorRT {facts['release']}, here is {release}: ask for a plan of this release, "
            f"or install that one: {facts['install']}"
        )
    major, minor = gpu.capability
    if facts["targets"]:
        fits = f"sm{major}{minor}" in facts["targets"]
    elif facts["target"] == "ampere+":
        fits = major >= 8
    else:
        fits = f"{major}.{minor}" == facts["compute_capability"]
    if not fits:
        this = f"this is the {gpu.name} (compute capability {major}.{minor})"
        raise Failure(f"the plan runs on {facts['runs_on']}; {this}. Ask for one that was built for it.")


def _numbers(release: str) -> tuple[int, ...]:
    """'8.6.0.12' -> (8, 6, 0)."""
    return tuple(int(part) for part in release.split(".")[:3] if part.isdigit())


def output_allocator(api: Any, gpu: Gpu) -> Any:
    """Memory for an output whose size only a run tells; `address` and `shape` tell it afterwards."""

    class Allocator(api.IOutputAllocator):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            api.IOutputAllocator.__init__(self)
            self.address, self.shape = 0, tuple[int, ...]()

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            try:
                self.address = gpu.memory(name, size)
            except Failure:  # must not cross into TensorRT, where the run fails without memory
                self.address = 0
            return self.address

        def reallocate_output_async(self, name: str, memory: int, size: int, alignment: int, stream: int) -> int:
            return self.reallocate_output(name, memory, size, alignment)

        def notify_shape(self, name: str, shape: Any) -> None:
            self.shape = tuple(shape)

    return Allocator()
