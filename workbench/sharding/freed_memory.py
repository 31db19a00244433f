"""Memory that a worker frees stays with it: Dask starts workers so that every large array is new from the system."""

from __future__ import annotations

import ctypes
from functools import cache

_MMAP_THRESHOLD, _BYTES = -3, 32 << 20  # M_MMAP_THRESHOLD of malloc.h, and its largest value


@cache
def keep_freed_memory() -> bool:
    """Whether this process could be told to use freed memory again; only glibc can.

    Dask's nanny sets MALLOC_TRIM_THRESHOLD_, which stops glibc from raising the size from which on it maps memory anew
    for every array and unmaps it afterwards. Collecting activations takes more than twice as long then.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _BYTES))
    except (OSError, AttributeError, TypeError):
        return False
