"""int8 through NVIDIA's calibrators (TensorRT up to release 10): from samples on the GPU, or from a stored table."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from workbench.backends import CALIBRATION, int8
from workbench.backends.cuda import the_gpu
from workbench.calibration.source import SAMPLES, kind_of
from workbench.calibration.stored import open_npz
from workbench.calibration.table import read_table
from workbench.calibration.text_tables import release_digits, write_cache
from workbench.calibration.writing import write_table
from workbench.errors import ConfigError, FeedError
from workbench.model import Model
from workbench.profiles import default_profile, opt_shapes
from workbench.types import BuildConfig, Calibration, Listener, LogLine, Progress, Shape, count_of

CALIBRATING = "Calibrating"


def check_calibration(model: Model, config: BuildConfig) -> Calibration | None:
    """As int8.check_calibration; samples that TensorRT's own calibrator will be fed with must fit a batch."""
    calibration = int8.check_calibration(model, config)
    if calibration is not None and _is_tensorrts(calibration):
        _check_samples(model, config, Path(calibration.path))
    elif calibration is not None:
        int8.check_computed(model, calibration)
    return calibration


def _is_tensorrts(calibration: Calibration) -> bool:
    """Whether TensorRT's own calibrator finds the ranges: of .npz samples, by an algorithm that it has."""
    path = Path(calibration.path)
    return calibration.algorithm in _FOR_SAMPLES and kind_of(path) == SAMPLES and zipfile.is_zipfile(path)


def _check_samples(model: Model, config: BuildConfig, path: Path) -> None:
    try:
        shapes = {name: rows.shape for name, rows in open_npz(path).items()}
    except FeedError as error:
        raise ConfigError(str(error)) from error
    wanted = _batch_shapes(model, config)
    for name, batch in wanted.items():
        if name not in shapes:
            have = ", ".join(shapes) or "nothing"
            raise ConfigError(f"{path}: it holds {have}; samples of the input {name} are missing.")
        shape = shapes[name]
        if len(shape) != len(batch) or not batch or shape[1:] != batch[1:]:
            raise ConfigError(
                f"{path}: {name} has the shape {shape}; calibration wants samples like {batch}, "
                "stacked along the first axis (open dimensions as in opt of the first profile)."
            )
        if shape[0] < batch[0]:
            raise ConfigError(f"{path}: {name} holds {count_of(shape[0], 'sample')}; one batch takes {batch[0]}.")
    counts = {name: shapes[name][0] // batch[0] for name, batch in wanted.items()}
    if len(set(counts.values())) > 1:
        raise ConfigError(f"{path}: the inputs differ in the number of batches: {counts}; give all the same.")


def _batch_shapes(model: Model, config: BuildConfig) -> Mapping[str, Shape]:
    """The shape of one batch for every input: opt of the first profile where dimensions are open."""
    profiles = config.profiles or (default_profile(model.inputs),)
    return opt_shapes(model.inputs, profiles)


# ---- in the build's process

CLASSES = {
    "EntropyCalibration2": "IInt8EntropyCalibrator2",
    "EntropyCalibration": "IInt8EntropyCalibrator",
    "MinMaxCalibration": "IInt8MinMaxCalibrator",
    "LegacyCalibration": "IInt8LegacyCalibrator",
}
"""TensorRT's class for every algorithm, by the name that tables give it."""
_FOR_SAMPLES = {"entropy": "EntropyCalibration2", "minmax": "MinMaxCalibration", "legacy": "LegacyCalibration"}
_QUANTILE = 0.9999
"""The share of values that the legacy calibrator keeps within range; NVIDIA's samples take it."""


@dataclass(frozen=True)
class Batch:
    """What the network is fed with in one batch: the inputs' shape and type, by name."""

    shapes: Mapping[str, Shape]
    dtypes: Mapping[str, np.dtype[Any]]


def with_table(model: Model, config: BuildConfig, folder: Path, listener: Listener) -> BuildConfig:
    """The configuration with ranges in a table, which lies in `folder`, unless TensorRT's own calibrator finds them."""
    given = config.calibration
    if given is None or _is_tensorrts(given):
        return config
    table = int8.ranges(model, given, listener)
    path = write_table(table, folder / CALIBRATION, "trt-cache")
    return replace(config, calibration=Calibration(str(path), given.algorithm))


def make_calibrator(trt: ModuleType, calibration: Calibration, batch: Batch, folder: Path, listener: Listener) -> Any:
    """A calibrator that leaves its table in `folder`; its `error` is what went wrong while TensorRT called it."""
    path, cache = Path(calibration.path), folder / CALIBRATION
    if _is_tensorrts(calibration):
        size = next((shape[0] for shape in batch.shapes.values()), 1)
        batches = _batches_on_gpu(path, batch, listener)
        return _calibrator(trt, _FOR_SAMPLES[calibration.algorithm], batches, size, None, cache)
    table = read_table(path)
    text = write_cache(table.amax, release_digits(trt.__version__), table.cache_header)  # TensorRT takes its own alone
    content = text.encode("utf-8", "surrogateescape")
    cache.write_bytes(content)
    return _calibrator(trt, table.cache_header.split()[0], iter(()), 1, content, cache)


def _batches_on_gpu(path: Path, batch: Batch, listener: Listener) -> Iterator[dict[str, int]]:
    """Addresses of one batch after the other, by input; each is valid until the next is asked for."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in batch.shapes}
    sizes = {name: shape[0] for name, shape in batch.shapes.items()}
    count = min(len(array) // sizes[name] for name, array in arrays.items())
    rest = max(len(array) - count * sizes[name] for name, array in arrays.items())
    if rest:
        listener(LogLine("info", f"The last {count_of(rest, 'sample')} fill no batch and are left out"))
    gpu = the_gpu()
    with gpu:
        memory = {
            name: gpu.device_memory(int(np.prod(shape)) * batch.dtypes[name].itemsize, "a batch of samples")
            for name, shape in batch.shapes.items()
        }
    for index in range(count):
        listener(Progress(CALIBRATING, index, count))
        with gpu:
            for name, array in arrays.items():
                part = array[index * sizes[name] : (index + 1) * sizes[name]]
                gpu.driver.memcpy_htod(int(memory[name]), np.ascontiguousarray(part, batch.dtypes[name]))
            gpu.driver.Context.synchronize()  # TensorRT's streams do not wait for the copies
        yield {name: int(block) for name, block in memory.items()}
    listener(Progress(CALIBRATING, count, count))


def _calibrator(
    trt: ModuleType, algorithm: str, batches: Iterator[dict[str, int]], size: int, table: bytes | None, cache: Path
) -> Any:
    """Errors must not cross into TensorRT, which would go on with the ranges it has: `error` keeps the first."""
    interface = getattr(trt, CLASSES[algorithm])

    class Calibrator(interface):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            interface.__init__(self)
            self.error: Exception | None = None

        def get_batch_size(self) -> int:
            return size

        def get_batch(self, names: list[str]) -> list[int] | None:
            try:
                batch = next(batches, None)
                return None if batch is None else [batch[name] for name in names]
            except Exception as error:  # whatever it is, it is raised when the build has ended
                self.error = self.error or error
                return None

        def read_calibration_cache(self) -> bytes | None:
            return table

        def write_calibration_cache(self, content: Any) -> None:
            try:
                cache.write_bytes(bytes(content))
            except OSError as error:
                self.error = self.error or error

        def get_quantile(self) -> float:
            return _QUANTILE

        def get_regression_cutoff(self) -> float:
            return 1.0

        def read_histogram_cache(self, length: int) -> None:
            return None

        def write_histogram_cache(self, content: Any, length: int) -> None:
            return None

    return Calibrator()
