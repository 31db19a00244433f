"""int8 through NVIDIA's calibrators (TensorRT up to release 10): from samples on the GPU, or from a stored table."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from workbench.backends import CALIBRATION
from workbench.backends.cuda import the_gpu
from workbench.calibration_table import read_table
from workbench.errors import ConfigError
from workbench.model import Model
from workbench.profiles import default_profile, opt_shapes
from workbench.types import CALIBRATORS, BuildConfig, Calibration, Listener, LogLine, Progress, Shape, count_of

CALIBRATING = "Calibrating"


def is_samples(path: str | Path) -> bool:
    """Whether the file is an .npz archive; else it is taken for a table. Raises ConfigError if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(2) == b"PK"
    except OSError as error:
        raise ConfigError(f"{path}: the calibration file cannot be read ({error.strerror}).") from error


def check_calibration(model: Model, config: BuildConfig, given: Calibration) -> Calibration:
    """The calibration with its whole path and, for a table, the algorithm that the table names.

    Raises ConfigError for a file that is neither a table of this model's nor samples that fit its inputs.
    """
    path = Path(given.path).expanduser().absolute()
    if given.algorithm not in CALIBRATORS:
        raise ConfigError(f"there is no calibrator {given.algorithm!r}; choose one of {', '.join(CALIBRATORS)}.")
    if is_samples(path):
        _check_samples(model, config, path)
        return replace(given, path=str(path))
    table = read_table(path)
    names = {spec.name for spec in model.inputs} | {name for node in model.nodes for name in node.output}
    if not names & set(table.scales):
        some = ", ".join(list(table.scales)[:3]) or "nothing"
        raise ConfigError(
            f"{path}: none of its tensors ({some}, ...) is in {model.name}: give a table that this model was "
            "calibrated with, or samples as .npz."
        )
    return Calibration(str(path), table.calibrator)


def _check_samples(model: Model, config: BuildConfig, path: Path) -> None:
    shapes = dict(_array_shapes(path))
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


def _array_shapes(path: Path) -> Iterator[tuple[str, Shape]]:
    """Name and shape of every array, from the headers alone. Raises ConfigError."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as file:
                    version = np.lib.format.read_magic(file)
                    read = (
                        np.lib.format.read_array_header_1_0
                        if version == (1, 0)
                        else np.lib.format.read_array_header_2_0
                    )
                    yield name.removesuffix(".npy"), read(file)[0]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path}: not an .npz archive of arrays ({error}); save it with numpy.savez.") from error


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


def make_calibrator(trt: ModuleType, calibration: Calibration, batch: Batch, folder: Path, listener: Listener) -> Any:
    """A calibrator that leaves its table in `folder`; its `error` is what went wrong while TensorRT called it."""
    path, cache = Path(calibration.path), folder / CALIBRATION
    if is_samples(path):
        size = next((shape[0] for shape in batch.shapes.values()), 1)
        batches = _batches_on_gpu(path, batch, listener)
        return _calibrator(trt, _FOR_SAMPLES[calibration.algorithm], batches, size, None, cache)
    table = path.read_bytes()
    cache.write_bytes(table)
    listener(LogLine("info", f"Ranges come from the calibration table {path}"))
    return _calibrator(trt, read_table(path).algorithm, iter(()), 1, table, cache)


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
