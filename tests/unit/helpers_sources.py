"""What exports start from: PyTorch models in a file, the mark of tests that need PyTorch, and a weight of Paddle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NEEDS_TORCH = pytest.mark.skipif(
    os.environ.get("WORKBENCH_TEST_TORCH") == "0", reason="PyTorch is left out: WORKBENCH_TEST_TORCH=0"
)
NET = """
import ctypes, multiprocessing, os, signal, sys, time
import torch

torch.manual_seed(0)

class Slow(torch.nn.Linear):
    def forward(self, input):
        if torch.compiler.is_exporting():
            open("slow", "w").close()
            time.sleep(600)
        return super().forward(input)

def make():
    print("making it, <b>now</b>")
    os.write(1, b"from native code\\n")
    return torch.nn.Linear(4, 2), torch.rand(1, 4), {"input": {0: "batch"}}

def fixed():
    return torch.nn.Linear(4, 2), torch.rand(3, 4)

def slow():
    return Slow(4, 2), torch.rand(3, 4)

def waits():
    open("waiting", "w").close()
    time.sleep(600)

def raises():
    raise KeyError("no such weights")

def exits():
    sys.exit(3)

def leaves():
    os._exit(7)

def asks():
    return input("which one? ")

def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)

def is_stopped():
    os.kill(os.getpid(), signal.SIGTERM)

def crashes():
    ctypes.string_at(0)

def leaves_a_process():
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,), daemon=True).start()
    raise ValueError("and then this")
"""

PADDLE_SCALAR = bytes(16) + b"\2\0\0\0" + b"\x08\x05" + bytes(4)
"""A .pdiparams file of one float32: headers, the size of its description, the description, the value."""


def write_net(folder: Path) -> Path:
    (folder / "net.py").write_text(NET)
    return folder / "net.py"
