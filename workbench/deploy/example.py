"""The test vector of a hand-over: inputs, the outputs that are expected for them, and how far others may lie from it.

The engine itself answers where it runs on this machine. Else ONNX Runtime does with the model that the engine was built
from, in fp32; else whoever makes the hand-over brings the outputs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench import backends
from workbench.backends import check_feeds
from workbench.backends.nvidia_feeds import fit
from workbench.deploy.batches import Batches, find_batches
from workbench.engine import Engine, open_engine
from workbench.errors import BackendError, ConfigError, FeedError, ModelError, RunError
from workbench.machine import this_machine
from workbench.model import Model, load_model
from workbench.profiles import opt_shapes, opt_values
from workbench.reference import Reference, random_feeds
from workbench.types import Feeds, TensorSpec

_LOWERED = {"fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class Tolerance:
    """relative: largest norm of the difference over the norm, of floats; absolute: what no float is farther away than
    passes, too, as noise is all there is where a sigmoid gives 1e-8. different: largest share of values that are not
    equal, of integers, booleans and texts."""

    relative: float
    absolute: float
    different: float


SAME = {
    "fp32": Tolerance(1e-4, 1e-6, 0.0),
    "tf32": Tolerance(1e-3, 1e-5, 0.01),
    "fp16": Tolerance(5e-3, 1e-5, 0.01),
    "bf16": Tolerance(2e-2, 1e-4, 0.01),
    "int8": Tolerance(2e-2, 1e-4, 0.01),
}
"""Where the engine itself answered: kernels may sum in another order on another GPU of the same kind."""
OTHER = {
    "fp32": Tolerance(1e-3, 1e-6, 0.01),
    "tf32": Tolerance(5e-3, 1e-5, 0.01),
    "fp16": Tolerance(2e-2, 1e-5, 0.02),
    "bf16": Tolerance(1e-1, 1e-4, 0.05),
    "int8": Tolerance(2e-1, 1e-4, 0.1),
}
"""Where the model did in fp32: what the engine's precision costs comes on top (ResNet-18 on an H200: 6e-4 in fp16, 4e-2
in int8)."""


@dataclass(frozen=True)
class Wishes:
    """What a user may choose. feeds: the inputs (default: random ones in the shapes that the engine is tuned for);
    expected: the outputs for them. relative: the tolerance of floats, 0 for none. name: what the model is called
    where it is served. max_batch: the largest batch to serve, 0 for none."""

    feeds: Feeds | None = None
    expected: Feeds | None = None
    relative: float | None = None
    name: str = ""
    max_batch: int | None = None


@dataclass(frozen=True)
class Example:
    """made_by: who gave the outputs, as the end of 'The expected outputs are ...'. batches: None if not asked for."""

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, Any]
    made_by: str
    tolerance: Tolerance
    input_specs: tuple[TensorSpec, ...]
    output_specs: tuple[TensorSpec, ...]
    batches: Batches | None = None


@dataclass(frozen=True)
class _Source:
    """Who answers."""

    run: Callable[[Feeds], dict[str, Any]]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    made_by: str
    tolerances: Mapping[str, Tolerance]


def make_example(engine: Engine, wishes: Wishes, *, with_batches: bool = False) -> Example:
    """Raises ConfigError where nobody can tell the expected outputs, FeedError for feeds that do not fit."""
    if wishes.expected is not None:
        return _given(engine, wishes, with_batches)
    profiles = engine.config.profiles
    with _answering(engine) as source:
        feeds = wishes.feeds
        if feeds is None:
            feeds = random_feeds(source.inputs, opt_shapes(source.inputs, profiles), opt_values(profiles))
        fit(source.inputs, profiles, feeds, ())
        outputs = source.run(feeds)
        batches = None
        if with_batches:
            sides = (source.inputs, source.outputs)
            batches = find_batches(sides, profiles, wishes.max_batch, feeds, source.run)
    tolerance = _tolerance(engine, wishes, source.tolerances)
    return Example(dict(feeds), outputs, source.made_by, tolerance, source.inputs, source.outputs, batches)


def _given(engine: Engine, wishes: Wishes, with_batches: bool) -> Example:
    """With outputs that the user brings; nobody needs to run anything."""
    feeds, expected = wishes.feeds, wishes.expected
    if feeds is None or expected is None:
        raise ConfigError("expected outputs belong to inputs: give both, --feeds and --expected.")
    known = _known_specs(engine)
    inputs, outputs = known or (_specs_of(feeds), _specs_of(expected))
    fit(inputs, engine.config.profiles, feeds, ())
    missing = {spec.name for spec in outputs} ^ set(expected)
    if missing:
        raise FeedError(f"the expected outputs must be {', '.join(spec.name for spec in outputs)}: see {min(missing)}.")
    check_feeds(tuple(TensorSpec(spec.name, spec.dtype, (None,) * len(spec.shape)) for spec in outputs), expected)
    batches = None
    if with_batches:
        batches = find_batches((inputs, outputs), engine.config.profiles, wishes.max_batch, feeds, None)
    made_by = "those that came with the order to make this folder (--expected)"
    tolerance = _tolerance(engine, wishes, OTHER)
    return Example(dict(feeds), dict(expected), made_by, tolerance, inputs, outputs, batches)


def _tolerance(engine: Engine, wishes: Wishes, usual: Mapping[str, Tolerance]) -> Tolerance:
    own = usual[engine.precision]
    if wishes.relative is None:
        return own
    if not wishes.relative >= 0:
        raise ConfigError(
            f"a tolerance of {wishes.relative:g} lets nothing pass; give one of at least 0, such as 0.01."
        )
    return replace(own, relative=wishes.relative, absolute=own.absolute if wishes.relative else 0.0)


# ---- who answers


@contextlib.contextmanager
def _answering(engine: Engine) -> Iterator[_Source]:
    support = backends.load(engine.backend).support()
    with contextlib.ExitStack() as stack:
        try:
            session = stack.enter_context(open_engine(engine))
        except BackendError as error:
            reason = (support.run_reason or str(error)).partition(";")[0]  # what follows is advice for this machine
            yield _model_source(engine, reason.rstrip("."))
            return
        on_gpu = engine.backend != "onnxruntime" or "cuda" in engine.targets
        place = " and ".join(gpu.name for gpu in this_machine().gpus) if on_gpu else this_machine().cpu
        made_by = f"what the engine itself gave where this folder was made: {support.title} {engine.release}, {place}"
        yield _Source(session.run, session.inputs, session.outputs, made_by, SAME)


def _model_source(engine: Engine, reason: str) -> _Source:
    model, why_not = _model_of(engine)
    if model is None:
        raise ConfigError(
            f"nobody can tell the expected outputs: {reason}; {why_not}. Hand over on a machine where the "
            "engine runs, or give inputs and outputs: --feeds IN.npz --expected OUT.npz."
        )
    try:
        reference = Reference(model)
    except RunError as error:
        raise ConfigError(
            f"nobody can tell the expected outputs: {reason}; ONNX Runtime does not take the model: {error} "
            "Give inputs and outputs: --feeds IN.npz --expected OUT.npz."
        ) from error
    inputs, outputs = _engine_specs(engine, model)
    own = {spec.name: spec.dtype for spec in model.inputs}
    told = {spec.name: spec.dtype for spec in outputs}

    def run(feeds: Feeds) -> dict[str, Any]:
        check_feeds(inputs, feeds)
        found = reference.run({name: np.asarray(array).astype(own[name]) for name, array in feeds.items()})
        return {name: array.astype(told[name]) for name, array in found.items()}

    made_by = (
        "what ONNX Runtime gives for the model in fp32 on a processor, for the engine could not run where this folder "
        f"was made ({reason})"
    )
    return _Source(run, inputs, outputs, made_by, OTHER)


def _model_of(engine: Engine) -> tuple[Model | None, str]:
    """The model that the engine was built from, or why it is not to be had."""
    try:
        model = load_model(engine.model_path)
    except ModelError as error:
        return None, f"its model is not there any more: {str(error).rstrip('.')}"
    if model.sha256 != engine.recipe["model"]:
        return None, f"{model.path} is not what it was built from (its content differs, or a dimension was changed)"
    return model, ""


# ---- what the engine takes and gives


def _known_specs(engine: Engine) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]] | None:
    """Inputs and outputs, where anything tells them without the engine being run."""
    with contextlib.suppress(BackendError), open_engine(engine) as session:
        return session.inputs, session.outputs
    model, _ = _model_of(engine)
    return _engine_specs(engine, model) if model else _recorded_specs(engine)


def _engine_specs(engine: Engine, model: Model) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    return _recorded_specs(engine) or (_lowered(engine, model.inputs), _lowered(engine, model.outputs))


def _recorded_specs(engine: Engine) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]] | None:
    if engine.backend != "tensorrt":
        return None
    from workbench.backends.plan_record import read_plan_record

    record = read_plan_record(engine.plan_path)
    return record.inputs, record.outputs


def _lowered(engine: Engine, specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """With the types that --convert-io gives them."""
    config = engine.config
    lower = "float32" if config.keep_io_types else _LOWERED.get(config.precision, "float32")
    return tuple(TensorSpec(spec.name, lower if spec.dtype == "float32" else spec.dtype, spec.shape) for spec in specs)


def _specs_of(arrays: Feeds) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, array.dtype.name, (None,) * array.ndim) for name, array in arrays.items())
