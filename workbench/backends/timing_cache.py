"""What builds measured about kernels, kept for later ones: one file for every release and GPU.

A file is what TensorRT serializes and, in its last 32 bytes, the SHA-256 of that, so that a damaged one is not read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from workbench.types import Listener, LogLine, count_of

_DIGEST_BYTES = 32


def cache_path(caches: Path, release: str, gpu: str) -> Path:
    """'.../timing-8.6.0-nvidia-h200.cache'."""
    return caches / f"timing-{release}-{re.sub(r'[^a-z0-9]+', '-', gpu.lower()).strip('-')}.cache"


def read_cache(path: Path, listener: Listener) -> bytes:
    """What the file holds; b"" where there is none, or, with a warning, where it is damaged or cannot be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        listener(
            LogLine("warning", f"{path}: the timing cache cannot be read ({error.strerror}); kernels are timed anew")
        )
        return b""
    content, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        listener(LogLine("warning", f"{path}: the timing cache is damaged; kernels are timed anew and it is replaced"))
        return b""
    return content


def merge_cache(path: Path, combine: Callable[[bytes], bytes], listener: Listener) -> None:
    """Replace the file by what `combine` makes of its present content (b"" where there is none), under a lock.

    A cache that cannot be written is told in the log: the engine itself is good.
    """
    try:
        with FileLock(path.with_suffix(".lock")):
            content = combine(read_cache(path, listener))
            draft = path.with_name(f".{path.name}.{os.getpid()}.part")
            draft.write_bytes(content + hashlib.sha256(content).digest())
            draft.replace(path)
    except OSError as error:
        listener(LogLine("warning", f"{path}: the timing cache cannot be written ({error.strerror})"))
        return
    listener(LogLine("info", f"Timing cache {path.name}: {count_of(len(content), 'byte')} kept for later builds"))
