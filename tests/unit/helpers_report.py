"""A store with engines, a study of them in its history, and the report on it: made once for all tests of reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers_building import small

from workbench.baselines import baseline
from workbench.building import Built, build
from workbench.model import Model
from workbench.study import Study, study
from workbench.timing import Timing
from workbench.types import BuildConfig, Calibration

HOSTILE = "<img src=x onerror=window.hacked=1>|`$@a"
"""As a contestant's name."""


@dataclass(frozen=True)
class Made:
    """home: of the store. built: by precision. found: the study."""

    home: Path
    model: Model
    built: dict[str, Built]
    found: Study


def make(folder: Path) -> Made:
    """Three engines of a small model and a function, measured in turns with times of layers. Takes a few seconds."""
    with pytest.MonkeyPatch.context() as patch:
        home = folder / "home"
        patch.setenv("WORKBENCH_HOME", str(home))
        model = small(folder / "small.onnx")
        ranges = folder / "ranges.txt"
        ranges.write_text("x: 1.0\nc: 3.0\ny: 3.0\n")
        configs = {
            "fp32": BuildConfig("fp32"),
            "fp16": BuildConfig("fp16"),
            "int8": BuildConfig("int8", calibration=Calibration(str(ranges))),
        }
        built = {name: build(model, config, "onnxruntime") for name, config in configs.items()}
        contestants = {**built, HOSTILE: baseline(lambda feeds: {"y": np.zeros((1, 4, 8, 8), np.float32)})}
        picture = {"x": np.random.default_rng(0).random((1, 3, 8, 8), np.float32)}
        found = study(contestants, picture, Timing(30, warmup=2, layers=True))
        return Made(home, model, built, found)
