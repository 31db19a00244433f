"""The same build as Python, command line, trtexec and Paddle-TRT: for people to copy, and for error messages."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from workbench.model import Model
from workbench.profiles import format_shapes
from workbench.types import BuildConfig, Calibration, OptimizationProfile, TensorSpec


def shell_line(model: Model, config: BuildConfig, backend: str, *, reuse: bool = True) -> str:
    """One line for a POSIX shell that repeats the build."""
    words = ["workbench", "build", shown_path(model.path), "--backend", backend, "--precision", config.precision]
    for change in model.edits:
        words += ["--dim", change]
    for profile in config.profiles:
        words += [f"--shapes={text}" for text in format_shapes(profile)]
    if config.workspace_bytes is not None:
        words += ["--workspace", str(config.workspace_bytes)]
    if config.targets:
        words += ["--targets", ",".join(config.targets)]
    if not config.keep_io_types:
        words.append("--convert-io")
    words += _builder_words(config)
    if not reuse:
        words.append("--no-reuse")
    return shlex.join(words)


_SWITCHES = {
    "version_compatible": "--version-compatible",
    "refittable": "--refittable",
    "strip_weights": "--strip-weights",
}


def _builder_words(config: BuildConfig) -> list[str]:
    """Calibration and the builder's options for `workbench build`."""
    options, words = config.builder, []
    if config.calibration is not None:
        words += ["--calibration", shown_path(Path(config.calibration.path))]
        if config.calibration.algorithm != Calibration.algorithm:
            words += ["--calibrator", config.calibration.algorithm]
    if options.optimization_level is not None:
        words += ["--opt-level", str(options.optimization_level)]
    if options.tactic_sources:
        words += ["--tactic-sources", ",".join(options.tactic_sources)]
    for name, size in options.memory_pools.items():
        words += ["--pool", f"{name}={size}"]
    if not options.timing_cache:
        words.append("--no-timing-cache")
    words += [flag for name, flag in _SWITCHES.items() if getattr(options, name)]
    if options.dla_core is not None:
        words += ["--dla", str(options.dla_core)]
    for node, precision in options.layer_precisions.items():
        words += ["--layer-precision", f"{node}={precision}"]
    return words


def python_code(model: Model, config: BuildConfig, backend: str, *, reuse: bool = True) -> str:
    """A script that does the same and can be run as it is."""
    lines = ["import workbench as wb", "", *_load_lines(model)]
    fields = [f"precision={config.precision!r}"]
    if config.profiles:
        profiles = ", ".join(f"wb.parse_shapes({format_shapes(profile)!r})" for profile in config.profiles)
        fields.append(f"profiles=({profiles},)")
    if config.workspace_bytes is not None:
        fields.append(f"workspace_bytes={_bytes(config.workspace_bytes)}")
    if config.targets:
        fields.append(f"targets={config.targets!r}")
    if not config.keep_io_types:
        fields.append("keep_io_types=False")
    if config.calibration is not None:
        other = config.calibration.algorithm
        algorithm = f", {other!r}" if other != Calibration.algorithm else ""
        fields.append(f"calibration=wb.Calibration({shown_path(Path(config.calibration.path))!r}{algorithm})")
    if config.builder.changed:
        options = (f"{name}={getattr(config.builder, name)!r}" for name in config.builder.changed)
        fields.append(f"builder=wb.BuilderOptions({', '.join(options)})")
    lines.append("config = wb.BuildConfig(")
    lines += [f"    {field}," for field in fields]
    lines += [")", f"built = wb.build(model, config, {backend!r}{'' if reuse else ', reuse=False'})", "print(built)"]
    return "\n".join(lines)


def profile_code(model: Model, profile: OptimizationProfile) -> str:
    """A script that changes the dimensions and makes the profile, for `EngineBuilder` or `build`."""
    lines = ["import workbench as wb", "", *_load_lines(model)]
    if profile.ranges:
        lines.append(f"profile = wb.parse_shapes({format_shapes(profile)!r})")
    return "\n".join(lines)


def inspect_line(model: Model, profile: OptimizationProfile) -> str:
    """One line for a POSIX shell that shows the same dimensions, and every tensor at the profile's opt."""
    words = ["workbench", "inspect", shown_path(model.path)]
    for change in model.edits:
        words += ["--dim", change]
    words += [f"--shapes={text}" for text in format_shapes(profile)]
    return shlex.join(words)


@dataclass(frozen=True)
class SubgraphWish:
    """How a model is to be cut and built. is_collected: sizes come from samples where they do not follow."""

    backend: str
    min_subgraph_size: int
    disable_ops: tuple[str, ...]
    profile: OptimizationProfile
    is_collected: bool


def subgraph_code(model: Model, wish: SubgraphWish, *, own_samples: bool = False) -> dict[str, str]:
    """The same subgraphs in Python, for a shell and for Paddle-TRT, by title. own_samples: they are the user's."""
    return {
        "Python": "\n".join(_subgraph_python(model, wish, own_samples)),
        "Command line": "\n".join(_subgraph_shell(model, wish, own_samples)),
        "Paddle-TRT": _subgraph_paddle(model, wish),
    }


def _subgraph_python(model: Model, wish: SubgraphWish, own_samples: bool) -> list[str]:
    disabled = f", disable_ops={list(wish.disable_ops)!r}" if wish.disable_ops else ""
    lines = ["import workbench as wb", "", *_load_lines(model)]
    arguments = ["parts"]
    if wish.profile.ranges:
        lines.append(f"profile = wb.parse_shapes({format_shapes(wish.profile)!r})")
        arguments.append("wb.BuildConfig(profiles=(profile,))")
    lines.append(f"parts = wb.partition(model, {wish.backend!r}, {wish.min_subgraph_size}{disabled})")
    if wish.is_collected:
        if own_samples:
            lines.append("samples = [...]  # yours: arrays by input name")
        else:
            lines.insert(1, "from workbench.hybrid import usual_samples")
            lines.append("samples = usual_samples(model, profile)  # random ones; real ones are better")
        lines.append("shapes = wb.collect_shapes(model, samples)")
        arguments.append("shapes=shapes")
    return [*lines, f"hybrid = wb.build_parts({', '.join(arguments)})", "session = wb.HybridSession(hybrid)"]


def _subgraph_shell(model: Model, wish: SubgraphWish, own_samples: bool) -> list[str]:
    dims = [word for change in model.edits for word in ("--dim", change)]
    cut = ["--backend", wish.backend, "--min-subgraph-size", str(wish.min_subgraph_size)]
    cut += ["--disable-ops", ",".join(wish.disable_ops)] if wish.disable_ops else []
    shapes = [f"--shapes={text}" for text in format_shapes(wish.profile)]
    path, lines = shown_path(model.path), []
    lines.append(shlex.join(["workbench", "subgraphs", path, *dims, *cut]))
    collected = []
    if wish.is_collected:
        samples = ["--feeds", "samples.npz"] if own_samples or not shapes else shapes
        lines.append(shlex.join(["workbench", "shapes", path, *dims, *samples, "-o", "sizes.json"]))
        collected = ["--collected", "sizes.json"]
    lines.append(shlex.join(["workbench", "hybrid", path, *dims, *cut, *shapes, *collected]))
    return lines


def _subgraph_paddle(model: Model, wish: SubgraphWish) -> str:
    text = paddle_code(model, BuildConfig(profiles=(wish.profile,) if wish.profile.ranges else ()))
    text = text.replace("min_subgraph_size=3,", f"min_subgraph_size={wish.min_subgraph_size},")
    lines = []
    if wish.disable_ops:
        lines.append(f"config.exp_disable_tensorrt_ops({list(wish.disable_ops)!r})  # Paddle's names of operators")
    if wish.is_collected:
        lines.append("config.collect_shape_range_info('shapes.pbtxt')  # run samples once, then in its place:")
        lines.append("# config.enable_tuned_tensorrt_dynamic_shape('shapes.pbtxt', True)")
    return text.replace("predictor =", "\n".join([*lines, "predictor ="]))


def paddle_code(model: Model, config: BuildConfig, *, reuse: bool = True) -> str:
    """The Paddle-TRT calls that ask for the same, for a Paddle model of this network."""
    modes = {"fp16": "Half", "bf16": "Bfloat16", "int8": "Int8"}
    lines = [
        "# for this network as a Paddle model; Paddle builds with TensorRT on the GPU it runs on",
        *edits_text(model).splitlines(),
        "import paddle.inference as paddle_infer",
        "",
        f'config = paddle_infer.Config("{model.name}.pdmodel", "{model.name}.pdiparams")',
        "config.enable_use_gpu(256, 0)",
        "config.enable_tensorrt_engine(",
        f"    workspace_size={_bytes(config.workspace_bytes or 1 << 30)},",
        f"    max_batch_size={_max_batch(model.inputs, config)},",
        "    min_subgraph_size=3,",
        f"    precision_mode=paddle_infer.PrecisionType.{modes.get(config.precision, 'Float32')},",
        f"    use_static={reuse},",
        f"    use_calib_mode={config.calibration is not None},",
        ")",
    ]
    if config.builder.optimization_level is not None:
        lines.append(f"config.set_tensorrt_optimization_level({config.builder.optimization_level})")
    if config.builder.dla_core is not None:
        lines.append(f"config.enable_tensorrt_dla({config.builder.dla_core})")
    if config.profiles:
        lines.append("config.set_trt_dynamic_shape_info(")
        for bound in ("min", "max", "opt"):  # Paddle's order
            shapes = {name: list(getattr(item, bound)) for name, item in config.profiles[0].ranges.items()}
            lines.append(f"    {shapes!r},  # {bound}")
        lines.append(")")
    lines.append("predictor = paddle_infer.create_predictor(config)")
    return "\n".join(lines)


def _load_lines(model: Model) -> list[str]:
    edits = [f"model = wb.edit(model, {change!r})" for change in model.edits]
    return [f"model = wb.load_model({shown_path(model.path)!r})", *edits]


def edits_text(model: Model) -> str:
    """The changes that only the workbench can make, as comments."""
    return "".join(f"# of the model with dimension {change}\n" for change in model.edits)


def shown_path(path: Path) -> str:
    """Relative to the working folder where that is shorter to read."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _bytes(size: int) -> str:
    """1073741824 -> '1 << 30'."""
    power = size.bit_length() - 1
    return f"1 << {power}" if size == 1 << power else str(size)


def _max_batch(inputs: tuple[TensorSpec, ...], config: BuildConfig) -> int:
    profile = config.profiles[0].ranges if config.profiles else {}
    largest = [item.max[0] for item in profile.values() if item.max]
    fixed = [spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], int)]
    return max([*largest, *fixed, 1])
