"""What NVIDIA's parsers and builders say, in plain words, and what to do about it."""

from __future__ import annotations

import re

_OTHERWISE = "export the model with other operators, or build it with onnxruntime."
_REMEDIES = (
    (
        r"no operator|no such operator|would take it for",
        "Export it as standard ONNX operators, or try the back end onnxruntime.",
    ),
    (r"data type", f"Try another precision, or {_OTHERWISE}"),
    (r"needs fixed dimensions", "Fix the open dimensions (--dim NAME=SIZE), or export the model with fixed ones."),
    (r"TensorRT does not take", f"Change it at the export: {_OTHERWISE}"),
    (
        r"[Bb]roadcast|shape mismatch|must match",
        "The sizes do not fit each other here: choose other shapes.",
    ),
    (
        r"shape tensor|[Ss]hape input",
        "Inputs that hold shapes do not work yet: export them as constants.",
    ),
    (r"for Turing|SM75", "Leave sm75 out of the targets, or choose fp16."),
    (
        r"contradictory|kMIN|kOPT|kMAX|[Pp]rofile",
        "Check the shapes: equal names need equal ranges, and min <= opt <= max.",
    ),
    (
        r"[Oo]ut of memory|OutOfMemory|bad_alloc",
        "Close other programs, or give smaller max shapes or a smaller workspace.",
    ),
    (r"[Cc]alibration failure|no scaling factors", "Give samples that the model can run on, or another table."),
    (r"find any implementation", "Give a larger workspace, more tactic sources, or fewer layer precisions."),
    (r"CUDA (?:init|driver|error)|driver version", "Check the driver: `workbench backends`, and nvidia-smi."),
    (r"workspace", "Give the builder a larger workspace."),
)
_NOISE = re.compile(
    r"^(?:\[[^\]\s]+::\d+\] )?(?:I\w+::\w+: )?(?:Error Code \d+: )?(?:API Usage Error |Internal Error |Myelin )?"
)


def plain(text: str) -> str:
    """An error line without its codes and source files."""
    line = _NOISE.sub("", text.strip()).split("\n")[0]
    return re.sub(r" In \w+ at /_src/\S+", "", line).strip("() ")


def remedy(text: str) -> str | None:
    """What to do about an error of NVIDIA's parser or builder, if we know."""
    return next((advice for pattern, advice in _REMEDIES if re.search(pattern, text)), None)
