"""The same build for trtexec, NVIDIA's own tool.

Its flags are those of samples/common/sampleOptions.cpp in NVIDIA's repository TensorRT, releases 8.6 to 10.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from workbench.model import Model
from workbench.profiles import BOUNDS
from workbench.snippets import edits_text, shown_path
from workbench.types import BuildConfig, Calibration, OptimizationProfile

_FLAGS = {
    "fp32": ["--noTF32"],
    "fp16": ["--fp16", "--noTF32"],
    "bf16": ["--bf16", "--noTF32"],
    "int8": ["--int8", "--noTF32"],
}
_TARGETS = {"ampere+": "ampere+", "same-cc": "sameComputeCapability"}
_POOLS = {
    "workspace": "workspace",
    "dla_managed_sram": "dlaSRAM",
    "dla_local_dram": "dlaLocalDRAM",
    "dla_global_dram": "dlaGlobalDRAM",
    "tactic_shared_memory": "tacticSharedMem",
}
_TACTIC_SOURCES = ("cublas", "cublas_lt", "cudnn", "edge_mask_convolutions", "jit_convolutions")


def trtexec_line(model: Model, config: BuildConfig, backend: str) -> str:
    """The nearest trtexec call (TensorRT 8.6 to 10): precision is a flag there."""
    words = ["trtexec", f"--onnx={shown_path(model.path)}", f"--saveEngine={model.name}.{config.precision}.plan"]
    words += _FLAGS.get(config.precision, [])
    for index, profile in enumerate(config.profiles):
        words += [f"--profile={index}"] if len(config.profiles) > 1 else []
        words += [f"--{bound}Shapes={_shapes(profile, bound)}" for bound in BOUNDS]
    if not config.keep_io_types:
        words += [f"--inputIOFormats={config.precision}:chw", f"--outputIOFormats={config.precision}:chw"]
    words += _options(config)
    if backend == "tensorrt":
        levels = (_TARGETS[target] for target in config.targets if target in _TARGETS)
        words += [f"--hardwareCompatibilityLevel={level}" for level in levels]
        words += ["--timingCacheFile=timing.cache"] if config.builder.timing_cache else []
    words.append("--profilingVerbosity=detailed")
    notes = "".join(f"# {note}\n" for note in _notes(config, backend))
    return notes + edits_text(model) + " \\\n  ".join(shlex.quote(word) for word in words)


def _notes(config: BuildConfig, backend: str) -> list[str]:
    """How what trtexec builds differs."""
    notes = ["TensorRT itself: this plan fits the GPU it is built on, and no other"]
    if backend == "tensorrt":
        notes = ["NVIDIA's own tool, for the same kind of plan; TensorRT's archive holds it, the wheel does not"]
    notes += [f"trtexec cannot limit the pool {name}" for name in config.builder.memory_pools if name not in _POOLS]
    if config.calibration is not None and not _is_table(config.calibration):
        notes.append(
            "trtexec takes no samples, and no tables but TensorRT's: give it --calib=FILE, the one that the build here "
            "leaves with its engine"
        )
    return notes


def _options(config: BuildConfig) -> list[str]:
    """Memory, calibration and the builder's options; named as samples/common/sampleOptions.cpp of TensorRT does."""
    options, words = config.builder, []
    limits = {"workspace": config.workspace_bytes, **options.memory_pools}
    pools = [
        f"{_POOLS[name]}:{size / 2**20:g}M" for name, size in limits.items() if size is not None and name in _POOLS
    ]
    words += [f"--memPoolSize={','.join(pools)}"] if pools else []
    if config.calibration is not None and _is_table(config.calibration):
        words.append(f"--calib={shown_path(Path(config.calibration.path))}")
    if options.optimization_level is not None:
        words.append(f"--builderOptimizationLevel={options.optimization_level}")
    if options.tactic_sources:
        signs = {name: "+" if name in options.tactic_sources else "-" for name in _TACTIC_SOURCES}
        words.append("--tacticSources=" + ",".join(sign + name.upper() for name, sign in signs.items()))
    words += [] if options.timing_cache else ["--noBuilderCache"]
    words += ["--versionCompatible"] if options.version_compatible else []
    words += ["--refit"] if options.refittable else []
    words += ["--stripWeights"] if options.strip_weights else []
    if options.dla_core is not None:
        words += [f"--useDLACore={options.dla_core}", "--allowGPUFallback"]
    if options.layer_precisions:
        layers = ",".join(f"{node}:{precision}" for node, precision in options.layer_precisions.items())
        words += ["--precisionConstraints=obey", f"--layerPrecisions={layers}"]
    return words


def _is_table(calibration: Calibration) -> bool:
    """Whether it looks like TensorRT's; the file need not be there."""
    return Path(calibration.path).suffix not in (".npz", ".npy", ".calib", ".onnx", ".json", ".flatbuffers")


def _shapes(profile: OptimizationProfile, bound: str) -> str:
    """Of an input that holds sizes trtexec wants the content."""
    found = {**profile.ranges, **profile.values}
    return ",".join(f"{name}:{'x'.join(map(str, getattr(item, bound)))}" for name, item in found.items())
