"""Back ends: what builds engines and opens them. Each is a module that satisfies Backend."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from workbench.errors import BackendError, ConfigError, FeedError
from workbench.layers import LayerInfo
from workbench.model import Model
from workbench.profiles import check_profile, default_profile
from workbench.types import BuildConfig, Feeds, Listener, ModelSupport, OptimizationProfile, Support, TensorSpec

NAMES = ("tensorrt", "rtx", "onnxruntime")
NETWORK_NAMES = ("tensorrt", "rtx")
CALIBRATION = "calibration.cache"
"""The calibration table's file name inside an engine's folder, whether it was made by the build or handed in."""


class Session(Protocol):
    """An open engine; a context manager.

    A session may tell more of itself, for the record: `copies` (whether times_ms holds the copies between host and
    GPU), `threads` (processors that one run may use), `releases` (of whatever takes part, by name).
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    clock: str
    """What `times_ms` measures, in words."""

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Arrays on the host in, arrays on the host out. Raises FeedError when they do not fit `inputs`."""

    def times_ms(self, iterations: int) -> list[float]:
        """Repeat the last run and return each repetition's time in milliseconds by the back end's own clock."""

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class HostClock(Protocol):
    """A session whose `times_ms` leaves the copies between host and GPU out, and that can count them, too."""

    host_clock: str
    """What `host_times_ms` measures, in words."""

    def host_times_ms(self, iterations: int) -> list[float]:
        """As `times_ms`, from arrays on the host to arrays on the host."""


@runtime_checkable
class LayerClock(Protocol):
    """A session that can time its layers."""

    def layer_times_ms(self, iterations: int) -> dict[str, tuple[float, ...]]:
        """The time of every layer in ms, by the name it has in LayerInfo; one value for every iteration."""


@runtime_checkable
class GpuSession(Session, HostClock, LayerClock, Protocol):
    """A session on an NVIDIA GPU: `times_ms` is the GPU's own time, and arrays may stay on the device."""

    cuda_graph: bool
    """Whether a CUDA graph is captured for every shape and replayed; may be switched between runs."""

    def run_on_device(self, feeds: Feeds) -> dict[str, Any]:
        """As `run`, with outputs that stay on the GPU; they offer `__cuda_array_interface__` and DLPack."""


class Backend(Protocol):
    PLAN: str
    """The plan's file name inside an engine's folder."""
    STARTS_SLOWLY: bool
    """Whether its build process shall wait a while for more work: its library takes seconds to load."""

    def support(self) -> Support:
        """What this back end can do on this machine; quick, and safe in the notebook's kernel."""

    def resolve(self, model: Model, config: BuildConfig) -> BuildConfig:
        """What will really be built: defaults filled in, what has no effect dropped.

        Raises ConfigError or ShapeError for what the back end cannot fulfil."""

    def ingredients(self, config: BuildConfig) -> dict[str, Any]:
        """Whatever besides model and configuration makes two engines differ: releases, the processor."""

    def check(self, model: Model, listener: Listener) -> ModelSupport:
        """Whether it takes the model's nodes. Runs in a child process."""

    def build(
        self, model: Model, config: BuildConfig, folder: Path, listener: Listener, *, caches: Path
    ) -> tuple[LayerInfo, ...]:
        """Build a resolved configuration and write the plan into `folder`. Runs in a child process.

        caches: a folder for what later builds can reuse."""

    def open(self, plan: Path, config: BuildConfig, *, threads: int | None = None, in_turns: bool = False) -> Session:
        """Open a plan built for this resolved configuration. Raises BackendError when it cannot run on this machine.

        in_turns: it runs in turns with other sessions, and shall leave them the processors between its runs."""


Describe = Callable[[ModuleType, Any], tuple[str, ...]]
"""describe(api, network): adds inputs, layers and outputs with NVIDIA's API; returns the layers' names."""


class NetworkBackend(Backend, Protocol):
    """A back end of NVIDIA's: it also builds networks that are described layer by layer."""

    def resolve_network(self, config: BuildConfig) -> BuildConfig:
        """As `resolve`, for a network that is not described yet: profiles stay as they are."""

    def build_network(
        self, describe: Describe, config: BuildConfig, folder: Path, listener: Listener, *, caches: Path
    ) -> tuple[LayerInfo, ...]:
        """As `build`. `listener` hears an error of the API while `describe` runs the line at fault."""


def load(name: str) -> Backend:
    """The back end called `name`. Raises ConfigError for names that are none."""
    if name not in NAMES:
        raise ConfigError(f"there is no back end {name!r}; choose one of {', '.join(NAMES)}.")
    return cast(Backend, importlib.import_module(f"workbench.backends.{name}"))


def load_for_networks(name: str) -> NetworkBackend:
    """Raises ConfigError for a back end that takes ONNX only."""
    backend = load(name)
    if name not in NETWORK_NAMES:
        raise ConfigError(
            f"{name} builds from ONNX only; a described network needs one of NVIDIA's back ends, such as rtx."
        )
    return cast(NetworkBackend, backend)


def available() -> dict[str, Support]:
    """What every back end can do on this machine, by name."""
    return {name: load(name).support() for name in NAMES}


def default_backend() -> str:
    """The first back end that can build here."""
    return next(name for name, support in available().items() if support.can_build)


def ready(support: Support) -> Support:
    """The same. Raises BackendError, with the reason, where the back end cannot build on this machine."""
    if not support.can_build:
        raise BackendError(support.build_reason)
    return support


def check_config(support: Support, config: BuildConfig) -> None:
    """Raise ConfigError for options, a precision or targets that the back end does not fulfil."""
    check_builder_options(support, config)
    check_precision(support, config)
    check_targets(support, config)


def check_precision(support: Support, config: BuildConfig) -> None:
    """Raise ConfigError, with the reason, for a precision the back end does not fulfil."""
    if config.precision in support.precisions:
        return
    reason = (support.precision_reasons or {}).get(config.precision)
    if reason is None:
        raise ConfigError(f"there is no precision {config.precision!r}; choose one of {', '.join(support.precisions)}.")
    raise ConfigError(f"{support.backend} cannot build {config.precision}: {reason}")


def check_builder_options(support: Support, config: BuildConfig) -> None:
    """Raise ConfigError for an option that the back end would ignore."""
    for name in config.builder.changed:
        if name not in support.builder_options:
            have = ", ".join(support.builder_options) or "none of them"
            raise ConfigError(
                f"{support.backend} {support.release} has no use for the builder option {name}; it takes {have}."
            )
    if config.calibration is not None and config.precision != "int8":
        raise ConfigError(
            f"calibration serves int8 only, and the precision is {config.precision}; leave one of them out."
        )


def settle_profiles(model: Model, config: BuildConfig) -> tuple[OptimizationProfile, ...]:
    """The profiles that a model needs: the given ones, checked, or a proposal; none where all shapes are fixed.

    Raises ShapeError."""
    for profile in config.profiles:
        check_profile(model.inputs, profile)
    has_open_axes = any(spec.open_axes for spec in model.inputs)
    holds_values = any(profile.values for profile in config.profiles)
    return config.profiles or (default_profile(model.inputs),) if has_open_axes or holds_values else ()


def check_targets(support: Support, config: BuildConfig) -> None:
    """Raise ConfigError for a target the back end does not know."""
    unknown = [target for target in config.targets if target not in support.targets]
    if unknown:
        raise ConfigError(f"{support.backend} has no target {unknown[0]!r}; choose among {', '.join(support.targets)}.")


def check_feeds(inputs: tuple[TensorSpec, ...], feeds: Feeds) -> None:
    """Raise FeedError for a missing or unknown input, another dtype, or a size that does not fit."""
    specs = {spec.name: spec for spec in inputs}
    for name in [*specs, *feeds]:
        if name not in feeds:
            raise FeedError(f"input {name} is missing: feed {specs[name]}.")
        if name not in specs:
            raise FeedError(f"there is no input {name}; feed {', '.join(map(str, inputs))}.")
    for name, spec in specs.items():
        array = np.asarray(feeds[name])
        if array.dtype.name != spec.dtype:
            raise FeedError(
                f"input {name} is {array.dtype.name}; it must be {spec.dtype}: use .astype({spec.dtype!r})."
            )
        if array.ndim != len(spec.shape):
            raise FeedError(f"input {spec} has {len(spec.shape)} dimensions; the array has the shape {array.shape}.")
        for axis, (dim, size) in enumerate(zip(spec.shape, array.shape, strict=True)):
            if isinstance(dim, int) and dim != size:
                raise FeedError(f"input {name}, dimension {axis}: it must be {dim}; the array has {size}.")
