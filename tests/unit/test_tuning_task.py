"""What a candidate is measured as, and what it is built from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.profiles import profile_of
from workbench.sharding.parcels import Parcel
from workbench.tuning.candidate import Candidate
from workbench.tuning.goals import Goals, Limit
from workbench.tuning.task import Task, config_of
from workbench.types import TensorSpec


def parcel(key: str) -> Parcel:
    return Parcel(key, f"{key}.onnx", Path(f"/nowhere/{key}.onnx"), ((f"{key}.onnx", key),))


TASK = Task(parcel("model"), {"x": (1, 3, 8, 8)}, Goals())
OTHER = replace(TASK, calibration=parcel("ranges"), order=("conv", "gemm"), goals=Goals(limits=(Limit("latency", 1),)))
INPUTS = (TensorSpec("x", "float32", ("batch", 3, 8, 8)),)


def test_a_float_candidate_is_the_same_whatever_int8_needs() -> None:
    plain, int8 = Candidate("onnxruntime"), Candidate("onnxruntime", "int8", "entropy")
    assert TASK.trial_id(plain, "here") == OTHER.trial_id(plain, "here")
    assert TASK.trial_id(int8, "here") != OTHER.trial_id(int8, "here")
    assert TASK.trial_id(plain, "here") != TASK.trial_id(plain, "elsewhere")


def test_what_goals_decide_is_kept_for_these_goals_only() -> None:
    plain = Candidate("onnxruntime")
    assert TASK.trial_id(plain, "here", judged=True) != OTHER.trial_id(plain, "here", judged=True)
    assert TASK.trial_id(plain, "here", judged=True) != TASK.trial_id(plain, "here")


@pytest.mark.parametrize(
    "changed",
    [
        {"model": parcel("another")},
        {"shapes": {"x": (1, 3, 16, 16)}},
        {"samples": parcel("samples")},
        {"on_gpu_clock": True},
        {"goals": Goals(metric="top1")},
    ],
)
def test_what_is_measured_otherwise_is_another_trial(changed: dict) -> None:
    plain = Candidate("onnxruntime")
    assert replace(TASK, **changed).trial_id(plain, "here") != TASK.trial_id(plain, "here")


def test_an_engine_takes_from_one_row_to_the_batch_that_is_timed() -> None:
    config = config_of(TASK, Candidate("tensorrt", batch=8), INPUTS, None)
    (profile,) = config.profiles
    assert (profile.ranges["x"].min, profile.ranges["x"].opt, profile.ranges["x"].max) == (
        (1, 3, 8, 8),
        (8, 3, 8, 8),
        (8, 3, 8, 8),
    )


def test_a_named_set_of_profiles_takes_the_place_of_the_timed_one() -> None:
    own = profile_of(INPUTS, {"batch": (1, 4, 16)})
    task = replace(TASK, profiles={"traffic": (own,)})
    assert config_of(task, Candidate("tensorrt", profiles="traffic"), INPUTS, None).profiles == (own,)


def test_ranges_are_for_int8_only_and_layers_in_float_come_from_the_order() -> None:
    int8 = Candidate("tensorrt", "int8", "minmax", in_float=1)
    config = config_of(OTHER, int8, INPUTS, "ranges.calib")
    assert config.calibration is not None and config.calibration.algorithm == "minmax"
    assert OTHER.in_float(int8) == ("conv",)
    assert config_of(OTHER, Candidate("tensorrt"), INPUTS, "ranges.calib").calibration is None


def test_rows_are_repeated_up_to_the_batch() -> None:
    feeds = {"x": np.arange(3, dtype=np.float32).reshape(3, 1)}
    assert TASK.rows(feeds, 5)["x"].ravel().tolist() == [0, 1, 2, 0, 1]
    assert replace(TASK, fixed_batch=3).rows(feeds, 5)["x"].shape == (3, 1)
