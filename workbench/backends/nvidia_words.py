"""What NVIDIA's parsers and builders say, in plain words, and what to do about it."""

from __future__ import annotations

import re
from typing import Any

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
        "Give the smallest, usual and largest content of inputs that hold sizes: --shapes NAME:[MIN],[OPT],[MAX].",
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
    (
        r"libnvinfer_lean",
        "Such plans bring NVIDIA's lean runtime along: install it (tensorrt-lean, of TensorRT's release) where the "
        "loader finds it under that name, or leave version_compatible out.",
    ),
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


def is_out_of_memory(text: str) -> bool:
    return bool(re.search(r"[Oo]ut ?[Oo]f ?[Mm]emory|cudaErrorMemoryAllocation|bad_alloc", text))


def wanted_bytes(text: str) -> int | None:
    """'Requested size was 12345 bytes' -> 12345."""
    found = re.search(r"[Rr]equested (?:size|amount of GPU memory)[^\d]*(\d+)", text)
    return int(found[1]) if found else None


_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "FP8": "float8_e4m3fn", "INT8": "int8",
    "UINT8": "uint8", "INT32": "int32", "INT64": "int64", "BOOL": "bool",
}  # fmt: skip


def dtype_name(dtype: Any) -> str:
    """numpy's name for a DataType; `trt.nptype` knows neither bfloat16 nor float8."""
    return _DTYPES.get(dtype.name, dtype.name.lower())
