"""The hand-over to Triton Inference Server: a model repository, and a client that verifies it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workbench.deploy import readme
from workbench.deploy.example import Example
from workbench.deploy.facts import Facts, placed, write_json
from workbench.deploy.joining import runner_text
from workbench.deploy.python_folder import write_vector
from workbench.deploy.triton_config import Serving, config_text, served_type, warmup_samples
from workbench.engine import Engine, export_plan
from workbench.types import TensorSpec

_FILES = {"tensorrt": "model.plan", "onnxruntime": "model.onnx"}


def refusal(engine: Engine) -> str:
    if engine.backend == "rtx":
        return (
            "Triton has no back end for plans of TensorRT-RTX. Build the model with tensorrt on the GPU that shall "
            "serve it, or with onnxruntime."
        )
    return ""


def write(engine: Engine, facts: Facts, example: Example, folder: Path) -> tuple[str, ...]:
    """Returns what whoever gets the folder ought to know. Raises ConfigError for tensors that Triton does not know."""
    serving = _serving(engine, facts, example)
    model = folder / "models" / facts.name
    text = config_text(serving)
    plan = model / "1" / _FILES[engine.backend]
    export_plan(engine, plan)
    (model / "config.pbtxt").write_text(text, encoding="utf-8")
    (model / "warmup").mkdir()
    for name, content in warmup_samples(serving).items():
        (model / "warmup" / name).write_bytes(content)
    facts = placed(facts, folder, plan.relative_to(folder).as_posix())
    served = replace(facts, inputs=serving.inputs, outputs=serving.outputs)
    write_json(replace(served, runtime="triton"), folder)
    (folder / "runner.py").write_text(runner_text("triton"), encoding="utf-8")
    write_vector(example, folder)
    notes = (*readme.notes(facts, example), *_notes(serving, facts, example))
    (folder / "README.md").write_text(readme.triton_text(served, example, serving, notes), encoding="utf-8")
    return notes


def _serving(engine: Engine, facts: Facts, example: Example) -> Serving:
    def as_served(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(replace(spec, dtype=served_type(spec, engine.backend, engine.release)) for spec in specs)

    assert example.batches is not None
    return Serving(
        name=facts.name,
        backend=engine.backend,
        on_gpu=engine.backend == "tensorrt" or "cuda" in engine.targets,
        inputs=as_served(example.input_specs),
        outputs=as_served(example.output_specs),
        profiles=engine.config.profiles,
        batches=example.batches,
        sample=example.inputs,
    )


def _notes(serving: Serving, facts: Facts, example: Example) -> tuple[str, ...]:
    notes = []
    if serving.batches.reason:
        notes.append(f"Requests are not joined to batches: {serving.batches.reason}.")
    elif not serving.profiles:
        notes.append(
            f"Batches of up to {serving.batches.largest} are served; ONNX Runtime takes larger ones, too: change "
            "max_batch_size in config.pbtxt."
        )
    for own, spec in zip(
        (*example.input_specs, *example.output_specs), (*serving.inputs, *serving.outputs), strict=True
    ):
        if own.dtype != spec.dtype:
            notes.append(
                f"{spec.name} is {own.dtype} in the model; TensorRT {facts.release} serves it as {spec.dtype}."
            )
    return tuple(notes)
