"""ONNX Runtime: the 'engine' is the optimized, serialized model for this machine. Runs everywhere."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from workbench import precision
from workbench.backends import Session, check_config, check_feeds, int8
from workbench.backends.onnxruntime_layers import layer_times_ms, optimized_layers
from workbench.errors import BackendError, BuildError, ConfigError
from workbench.layers import LayerInfo
from workbench.machine import cpu_features, this_machine, usable_cores
from workbench.model import LARGE_BYTES, Model, operator
from workbench.profiles import check_profile
from workbench.reference import THREADS_REST
from workbench.types import (
    BuildConfig,
    Feeds,
    Listener,
    LogLine,
    ModelSupport,
    Progress,
    Refusal,
    Support,
    TensorSpec,
    ignore,
)

PLAN = "model.onnx"
STARTS_SLOWLY = False
EXACT_INT8 = ("session.x64quantprecision", "1")
"""Without this setting sums of int8 products saturate on processors with AVX2 and no VNNI, and answers are wrong."""
_WEIGHTS = "model.onnx.data"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_NO_TF32 = "tf32 is a mode of NVIDIA GPUs, and ONNX Runtime's CUDA provider is not installed; choose fp32."
_FP16_ON_CPU = (
    "on a processor ONNX Runtime mostly computes in float32 from weights rounded to float16: "
    "it shows what the rounding costs, but neither overflow beyond 65,504 nor speed."
)
_INT8_ON_CPU = (
    "on a processor it mostly computes in float32 from values rounded to int8: it shows what the rounding costs, but "
    "no speed. Ranges come from a calibration, or with the model (Q/DQ nodes)."
)
_NO_BF16 = "ONNX Runtime has next to no bf16 operators; choose fp16, or the back end rtx."


@cache
def support() -> Support:
    targets = tuple(name for name, provider in _PROVIDERS.items() if provider in _runtime().get_available_providers())
    cuda = "cuda" in targets
    notes = {"int8": int8.NOTE} if cuda else {"fp16": _FP16_ON_CPU, "int8": _INT8_ON_CPU}
    return Support(
        backend="onnxruntime",
        title="ONNX Runtime",
        release=version_of_runtime(),
        can_build=True,
        build_reason="",
        can_run=True,
        run_reason="",
        precisions=("fp32", "tf32", "fp16", "int8") if cuda else ("fp32", "fp16", "int8"),
        precision_reasons={"bf16": _NO_BF16} if cuda else {"bf16": _NO_BF16, "tf32": _NO_TF32},
        targets=targets,
        default_targets=("cpu",),
        takes_any_shape=True,
        precision_notes=notes,
        builder_options=("layer_precisions",),
        one_target=True,
    )


def resolve(model: Model, config: BuildConfig) -> BuildConfig:
    """Profiles and workspace have no effect: ONNX Runtime takes any shape."""
    here = support()
    check_config(here, config)
    precision.check_mix(config, precision.MIXES)
    precision.check_nodes(model, config)
    for profile in config.profiles:
        check_profile(model.inputs, profile)
    if len(config.targets) > 1:
        raise ConfigError(f"onnxruntime builds for one target: choose one of {', '.join(here.targets)}.")
    config = replace(
        config,
        targets=config.targets or (("cuda",) if config.precision == "tf32" else ("cpu",)),
        profiles=(),
        workspace_bytes=None,
        keep_io_types=config.keep_io_types or config.precision not in precision.CONVERTED,
    )
    return int8.settled(model, config)


def ingredients(config: BuildConfig) -> dict[str, Any]:
    machine = this_machine()
    gpus = {"gpus": [gpu.name for gpu in machine.gpus]} if "cuda" in config.targets else {}
    features = hashlib.sha256(" ".join(cpu_features()).encode()).hexdigest()[:16]
    cpu = {"cpu": machine.cpu, "cpu_features": features, "int8": "exact"}
    return {"release": version_of_runtime(), **cpu, **gpus, **int8.ingredients(config)}


def check(model: Model, listener: Listener = ignore) -> ModelSupport:
    options = _runtime().SessionOptions()
    options.graph_optimization_level = _runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_mem_reuse = False  # planning it takes half a minute for 10,000 nodes with open dimensions
    try:
        _create(model, options, BuildConfig(targets=("cpu",)))
    except Exception as error:  # its exceptions have no common base but Exception
        return ModelSupport("onnxruntime", False, (_refusal(model, str(error)),))
    return ModelSupport("onnxruntime", True)


def build(
    model: Model, config: BuildConfig, folder: Path, listener: Listener, *, caches: Path
) -> tuple[LayerInfo, ...]:
    runtime = _runtime()
    with tempfile.TemporaryDirectory(dir=folder) as work:
        source = int8.rewritten(model, config, Path(work), folder, listener)
        options = runtime.SessionOptions()
        options.log_severity_level = 1
        options.add_session_config_entry(*EXACT_INT8)
        options.enable_mem_reuse = False  # this session only writes; see check
        options.optimized_model_filepath = str(folder / PLAN)
        if source.external_files or source.proto.ByteSize() > LARGE_BYTES:  # else the plan points at the model's files
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        listener(Progress("Optimizing the graph for this machine", 0, None))
        try:
            _create(source, options, config)
        except Exception as error:  # its exceptions have no common base but Exception
            refusal = _refusal(model, str(error))
            raise BuildError(refusal.reason, node=refusal.node or None, remedy=_remedy(refusal.reason)) from error
        listener(Progress("Optimizing the graph for this machine", 1, 1))
    listener(LogLine("info", f"Optimized model written: {(folder / PLAN).stat().st_size:,} bytes"))
    return optimized_layers(model, onnx.load(str(folder / PLAN), load_external_data=False))


def open(plan: Path, config: BuildConfig, *, threads: int | None = None, in_turns: bool = False) -> Session:
    """threads: processors one run may use; None for all that this process may."""
    return OnnxRuntimeSession(plan, config, threads or usable_cores(), in_turns)


class OnnxRuntimeSession:
    """An optimized model, open on the CPU or, when it was built for it, on the CUDA provider."""

    clock = "perf_counter around InferenceSession.run, arrays on the host in and out"

    def __init__(self, plan: Path, config: BuildConfig, threads: int, in_turns: bool) -> None:
        self._plan, self._config = plan, config
        options = _plan_options(threads, in_turns)
        try:
            self._session = _runtime().InferenceSession(str(plan), options, providers=_providers(config))
        except Exception as error:  # its exceptions have no common base but Exception
            raise BackendError(f"{plan}: ONNX Runtime cannot open it: {_first_line(str(error))}") from error
        names = {provider: name for name, provider in _PROVIDERS.items()}
        self.provider = names[self._session.get_providers()[0]]
        """'cpu' or 'cuda': where it really runs; ONNX Runtime falls back to the CPU when CUDA cannot be loaded."""
        self.threads, self.copies = threads, True if self.provider == "cuda" else None
        self.releases = {"onnxruntime": version_of_runtime(), "numpy": np.__version__}
        if self.provider not in config.targets:
            raise BackendError(f"{plan.name} was built for {config.targets[0]}, and ONNX Runtime cannot load it there.")
        self.inputs = tuple(_spec(item) for item in self._session.get_inputs())
        self.outputs = tuple(_spec(item) for item in self._session.get_outputs())
        self._feeds: Feeds | None = None

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        check_feeds(self.inputs, feeds)
        self._feeds = feeds
        try:
            values = self._session.run(None, dict(feeds))
        except Exception as error:  # its exceptions have no common base but Exception
            raise BackendError(f"ONNX Runtime fails on this input: {_first_line(str(error))}") from error
        return {spec.name: value for spec, value in zip(self.outputs, values, strict=True)}

    def times_ms(self, iterations: int) -> list[float]:
        if self._feeds is None:
            raise BackendError("nothing to repeat: run the session once before timing it.")
        feeds, run, times = dict(self._feeds), self._session.run, []
        for _ in range(iterations):
            start = time.perf_counter_ns()
            run(None, feeds)
            times.append((time.perf_counter_ns() - start) / 1e6)
        return times

    def layer_times_ms(self, iterations: int) -> dict[str, tuple[float, ...]]:
        """By ONNX Runtime's profiler, in a session of its own: it times every layer by itself, to a microsecond."""
        if self._feeds is None:
            raise BackendError("nothing to repeat: run the session once before timing it.")
        with tempfile.TemporaryDirectory() as folder:
            options = _plan_options(self.threads, in_turns=True)
            options.enable_profiling, options.profile_file_prefix = True, f"{folder}/layers"
            session = _runtime().InferenceSession(str(self._plan), options, providers=_providers(self._config))
            for _ in range(iterations + 1):  # the first run warms up
                session.run(None, dict(self._feeds))
            profile = Path(session.end_profiling()).read_text()
        return layer_times_ms(profile, onnx.load(str(self._plan), load_external_data=False), iterations)

    def __enter__(self) -> OnnxRuntimeSession:
        return self

    def __exit__(self, *raised: object) -> None:
        del self._session


def _plan_options(threads: int, in_turns: bool) -> Any:
    options = _runtime().SessionOptions()
    options.intra_op_num_threads = threads
    if in_turns:
        options.add_session_config_entry(*THREADS_REST)
    options.graph_optimization_level = _runtime().GraphOptimizationLevel.ORT_DISABLE_ALL  # the plan is optimized
    return options


@cache
def _runtime() -> Any:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    if _PROVIDERS["cuda"] in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()  # CUDA and cuDNN from their pip packages, where they are installed so
    return onnxruntime


@cache
def version_of_runtime() -> str:
    return str(_runtime().__version__)


def _create(model: Model, options: Any, config: BuildConfig) -> Any:
    if model.external_files:
        folder = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(folder, str(model.path.parent))
    return _runtime().InferenceSession(model.to_bytes(), options, providers=_providers(config))


def _providers(config: BuildConfig) -> list[Any]:
    """The processor always, as CUDA leaves it what it does not take. ONNX Runtime's own default for tf32 is on."""
    tf32 = str(int(config.precision == "tf32"))
    names = dict.fromkeys((*config.targets, "cpu"))
    return [(_PROVIDERS[name], {"use_tf32": tf32} if name == "cuda" else {}) for name in names]


def _spec(item: Any) -> TensorSpec:
    """ONNX Runtime writes types as 'tensor(float)' and nameless dimensions as None or 'unk__0'."""
    kinds = {"float": "float32", "double": "float64", "string": "object"}
    kind = item.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(None if isinstance(dim, str) and dim.startswith("unk__") else dim for dim in item.shape)
    return TensorSpec(item.name, kinds.get(kind, kind), shape)


def _first_line(text: str) -> str:
    """The sentence in '[ONNXRuntimeError] : 1 : FAIL : sentence'."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text.strip()).split("\n")[0]


def _refusal(model: Model, text: str) -> Refusal:
    """Find the node in ONNX Runtime's sentence: by its name, else by its operator."""
    reason = _first_line(text)
    quoted = set(re.findall(r"[\w./:\-]+", reason))
    for node in model.nodes:
        if node.name in quoted or re.search(rf"\b{re.escape(node.op_type)}\(-?\d+\)", reason):
            return Refusal(node.name, operator(node), reason)
    return Refusal("", "", reason)


def _remedy(reason: str) -> str | None:
    if "is not a registered function/op" in reason:
        return "ONNX Runtime has no such operator: export the model with standard ONNX operators."
    if "Could not find an implementation" in reason:
        return "The operator exists, but not for this type or processor: choose another precision."
    return None
