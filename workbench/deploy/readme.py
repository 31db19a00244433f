"""README.md of a hand-over, for the person who gets it and knows nothing of the workbench."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.deploy.example import Example
from workbench.deploy.facts import Facts
from workbench.deploy.triton_config import Serving
from workbench.types import Feeds, TensorSpec

_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX", "onnxruntime": "ONNX Runtime"}
_MATRIX = "https://docs.nvidia.com/deeplearning/frameworks/support-matrix/"


def notes(facts: Facts, example: Example) -> tuple[str, ...]:
    """What one ought to know of any plan of this kind, and of a vector that verifies little."""
    found = []
    if facts.runtime == "tensorrt" and facts.version_compatible:
        later = f"It opens with TensorRT {facts.release} and later releases of {facts.release.split('.')[0]}"
        found.append(f"{later}, through a small runtime that it brings along.")
    elif facts.runtime == "tensorrt":
        found.append(f"It opens with TensorRT {facts.release} and no other release.")
    if facts.runtime != "onnxruntime":
        found.append("A plan is executable code: open it only if you trust where it comes from.")
    found += [
        f"{name} is next to 0 everywhere in the test vector, which verifies little: give real inputs (--feeds)."
        for name, array in example.outputs.items()
        if is_next_to_zero(array, facts.tolerance.absolute)
    ]
    return tuple(found)


def is_next_to_zero(array: Any, absolute: float) -> bool:
    """Whether no value of a float output is farther from 0 than what passes as no difference."""
    is_float = np.size(array) > 0 and np.asarray(array).dtype.kind in "fV"
    return is_float and bool(np.all(np.abs(np.asarray(array, np.float32)) <= absolute))


def python_text(facts: Facts, example: Example, notes: tuple[str, ...]) -> str:
    is_nvidia = facts.runtime != "onnxruntime"
    needs = f"Python 3.10 or later, numpy and {facts.runtime} {facts.release}"
    needs += "; the GPU is used through NVIDIA's driver, without PyCUDA." if is_nvidia else "."
    sample = ", ".join(f'"{spec.name}": {_word(index)}' for index, spec in enumerate(facts.inputs))
    return _document(
        f"{facts.model} for Python",
        _what(facts, notes),
        f"""## Run

It needs {needs}
If that is missing: `{facts.install}`.

```
python runner.py --verify                    # the test vector: exit status 0 alike, 1 apart, 2 cannot run
python runner.py input.npz -o output.npz     # your own arrays, by the names above
python runner.py --time 1000                 # how long one run takes
```

```python
from runner import open_model

with open_model() as model:  # loaded once, run as often as you like, in any shapes that it takes
    outputs = model.run({{{sample}}})
```

`runner.py` finds the plan and `deployment.json` beside itself; `open_model(folder)` takes them from elsewhere.""",
        _verify(facts, example, "python runner.py --verify", "test_vector/inputs.npz", "test_vector/outputs.npz"),
    )


def cpp_text(facts: Facts, example: Example, files: Mapping[str, Mapping[str, str]], notes: tuple[str, ...]) -> str:
    title = _TITLES[facts.runtime]
    named = [f"| `{name}` | `{file}` |" for side in files.values() for name, file in side.items()]
    host = "`TENSORRT_ROOT` is the folder of its tar or zip file, with `include/` and `lib/`."
    return _document(
        f"{facts.model} for C++",
        _what(facts, notes),
        f"""## Build

It needs CMake 3.17, a compiler for C++17, the CUDA toolkit and {title} {facts.release}. {host}

```
cmake -S . -B build -DTENSORRT_ROOT=/path/to/{title.replace(" ", "")}
cmake --build build
```

Where the parts lie apart, name them: `-DTENSORRT_INCLUDE_DIR=` and `-DTENSORRT_LIB_DIR=`, or `-DTENSORRT_LIBRARY=` with
the full path of the library. `engine.hpp` is what a program of yours takes: load once, run as often as you like.

## Run

```
build/runner --verify              # the test vector: exit status 0 alike, 1 apart, 2 cannot run
build/runner in_folder out_folder  # your own arrays: a .npy file for each tensor
build/runner --time 1000           # how long one run takes
```

| tensor | file |
|---|---|
"""
        + "\n".join(named)
        + "\n\nbfloat16 tensors are float32 in these files.",
        _verify(facts, example, "build/runner --verify", "test_vector/inputs/", "test_vector/outputs/"),
    )


def triton_text(facts: Facts, example: Example, serving: Serving, notes: tuple[str, ...]) -> str:
    is_plan = serving.backend == "tensorrt"
    option = " --backend-config=tensorrt,version-compatible=true" if is_plan and facts.version_compatible else ""
    release = f"a release of Triton with {_TITLES[facts.runtime]} {facts.release}"
    needs = f"{release} (NVIDIA lists them: {_MATRIX})" if is_plan else f"{release} or later in its back end"
    gpus = "--gpus all " if serving.on_gpu else ""
    return _document(
        f"{facts.model} for Triton Inference Server",
        _what(facts, notes),
        f"""## Serve

`models/` is a model repository; the server is told of it alone. It needs {needs}.

```
tritonserver --model-repository="$PWD/models"{option}
```

In NVIDIA's container, with its release in place of YY.MM:

```
docker run --rm {gpus}-p 8000:8000 -v "$PWD/models:/models" nvcr.io/nvidia/tritonserver:YY.MM-py3 \\
    tritonserver --model-repository=/models{option}
```

The model is called `{facts.name}`. {_batches(serving)} The server answers one request of the test vector before it says
that the model is ready (`model_warmup`).""",
        _verify(
            facts, example, "python runner.py --verify --url http://localhost:8000", "test_vector/inputs.npz",
            "test_vector/outputs.npz",
        )
        + "\n\n`runner.py` is a client: it needs Python 3.10 or later and numpy, and sends the vector over HTTP.",
    )  # fmt: skip


def _batches(serving: Serving) -> str:
    if serving.batches.largest > 1:
        return f"Requests that wait at the same time are joined to batches of up to {serving.batches.largest}."
    return "Every request is one run of the model." if not serving.batches.largest else "It takes batches of one."


def _document(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *parts]) + "\n"


def _what(facts: Facts, notes: tuple[str, ...]) -> str:
    title = _TITLES[facts.runtime]
    rows = [_row("input", spec) for spec in facts.inputs] + [_row("output", spec) for spec in facts.outputs]
    listed = "\n".join(f"- {note}" for note in notes)
    return (
        f"`{facts.plan}` is the model {facts.model}, built in {facts.precision} with {title} {facts.release}.\n"
        f"It runs on {facts.runs_on}.\n\n"
        + (f"{listed}\n\n" if listed else "")
        + "| | name | type | shape |\n|---|---|---|---|\n"
        + "\n".join(rows)
    )


def _row(side: str, spec: TensorSpec) -> str:
    shape = " x ".join("?" if dim is None else str(dim) for dim in spec.shape) or "scalar"
    return f"| {side} | `{spec.name}` | {spec.dtype} | {shape} |"


def _word(index: int) -> str:
    return "array" if index == 0 else f"array_{index + 1}"


def _verify(facts: Facts, example: Example, command: str, inputs: str, outputs: str) -> str:
    allowed = facts.tolerance
    return f"""## Verify

`{command}` runs `{inputs}` ({_shapes(example.inputs)}) and compares with `{outputs}`.
The expected outputs are {facts.made_by}.
Floats are alike where the norm of the difference is at most {allowed.relative:g} of the norm, or no value is farther
away than {allowed.absolute:g}; of integers, booleans and texts a share of {allowed.different:g} may be others.

SHA-256 of `{facts.plan}`: `{facts.plan_sha256}`
Engine {facts.key} of the TensorRT workbench."""


def _shapes(feeds: Feeds) -> str:
    return ", ".join(f"{name} {'x'.join(map(str, array.shape)) or 'scalar'}" for name, array in feeds.items())
