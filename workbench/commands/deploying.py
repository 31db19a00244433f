"""`workbench deploy`: a stored engine with the program that runs it, for somebody else."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.commands.common import read_arrays
from workbench.deploy import Wishes
from workbench.deploy import deploy as hand_over
from workbench.store import EngineStore

_NEXT = {
    "python": "python {folder}/runner.py --verify",
    "cpp": "cmake -S {folder} -B {folder}/build -DTENSORRT_ROOT=... && cmake --build {folder}/build && "
    "{folder}/build/runner --verify",
    "triton": "tritonserver --model-repository={folder}/models, then: python {folder}/runner.py --verify",
}


def deploy(options: argparse.Namespace) -> tuple[Any, str]:
    store, place = EngineStore(), Path(options.engine)
    engine = store.load(place, trust=options.trust) if place.is_dir() else store.by_prefix(options.engine)
    wishes = Wishes(
        feeds=read_arrays(options.feeds) if options.feeds else None,
        expected=read_arrays(options.expected) if options.expected else None,
        relative=options.tolerance,
        name=options.name,
        max_batch=options.max_batch,
    )
    done = hand_over(engine, options.to, options.output, wishes)
    data = {**asdict(done), "folder": str(done.folder), "key": engine.key}
    text = [
        f"{engine.model_name} {engine.precision} on {engine.backend} {engine.release} for {done.to}: {done.folder}",
        *(f"  {name}" for name in done.files),
        f"The expected outputs are {done.made_by}.",
        *(f"note: {note}" for note in done.notes),
        f"next: {_NEXT[done.to].format(folder=done.folder)}",
    ]
    return data, "\n".join(text)
