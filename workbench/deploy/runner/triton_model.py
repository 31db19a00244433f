"""The model as a Triton server serves it, over HTTP (KServe's protocol 2, tensors in binary)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from workbench.deploy.runner.arrays import (
    Arrays,
    Facts,
    Failure,
    check_names,
    fitted,
    from_bfloat16,
    host_times_ms,
    read_facts,
    types_of,
)

HERE = Path(__file__).resolve().parent
OPTION = ("--url", "http://localhost:8000", "address of the server (default http://localhost:8000)")
TRITON_TYPES = {
    "float32": "FP32", "float16": "FP16", "float64": "FP64", "bfloat16": "BF16", "bool": "BOOL", "object": "BYTES",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
}  # fmt: skip
_LENGTH = "Inference-Header-Content-Length"
_PATIENCE_S = 300.0


def open_model(folder: str | Path = HERE, url: str = OPTION[1]) -> TritonModel:
    """The model of a hand-over folder, served at `url`."""
    return TritonModel(read_facts(Path(folder)), url)


class TritonModel:
    clock = "perf_counter around each HTTP request, server and network included"

    def __init__(self, facts: Facts, url: str) -> None:
        self._url = f"{url.rstrip('/')}/v2/models/{facts['name']}/infer"
        self._types, self._told = types_of(facts, "inputs"), types_of(facts, "outputs")

    def run(self, feeds: Arrays) -> Arrays:
        check_names(self._types, feeds)
        inputs, content = [], []
        for name, dtype in self._types.items():
            array = fitted(name, feeds[name], dtype)
            content.append(to_bytes(array, dtype))
            shape, size = list(array.shape) or [1], {"binary_data_size": len(content[-1])}
            inputs.append({"name": name, "shape": shape, "datatype": TRITON_TYPES[dtype], "parameters": size})
        outputs = [{"name": name, "parameters": {"binary_data": True}} for name in self._told]
        header = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
        return self._read(*self._post(header, b"".join(content)))

    def _post(self, header: bytes, content: bytes) -> tuple[bytes, int]:
        """The answer, and how many bytes of it are its header."""
        fields = {_LENGTH: str(len(header)), "Content-Type": "application/octet-stream"}
        try:
            request = urllib.request.Request(self._url, header + content, fields)
            with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
                text = answer.read()
                return text, int(answer.headers.get(_LENGTH, len(text)))
        except urllib.error.HTTPError as error:
            raise Failure(f"Triton refuses the request: {error.read().decode(errors='replace')}") from error
        except (OSError, ValueError) as error:
            raise Failure(f"{self._url} does not answer ({error}); start the server, or name it: --url.") from error

    def _read(self, text: bytes, at: int) -> Arrays:
        found = {}
        for item in json.loads(text[:at])["outputs"]:
            end = at + item["parameters"]["binary_data_size"]
            found[item["name"]] = from_bytes(text[at:end], self._told[item["name"]]).reshape(item["shape"])
            at = end
        return found

    def times_ms(self, feeds: Arrays, count: int) -> list[float]:
        return host_times_ms(self, feeds, count)

    def __enter__(self) -> TritonModel:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def to_bytes(array: Any, dtype: str) -> bytes:
    """Row by row; a text is preceded by its length in four bytes."""
    if dtype != "object":
        return bytes(array.tobytes())
    texts = [str(item).encode() for item in array.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def from_bytes(content: bytes, dtype: str) -> Any:
    if dtype == "bfloat16":
        return from_bfloat16(np.frombuffer(content, np.uint16))
    if dtype != "object":
        return np.frombuffer(content, dtype)
    texts, at = [], 0
    while at < len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "little")
        texts.append(content[at + 4 : end].decode())
        at = end
    return np.array(texts, object)
