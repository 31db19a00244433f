"""The frozen values: sizes, JSON, texts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError
from workbench.types import (
    PRECISIONS,
    BuildConfig,
    OptimizationProfile,
    Progress,
    ShapeRange,
    TensorSpec,
    config_from_json,
    config_to_json,
    parse_size,
    profile_to_json,
)

PROFILE = OptimizationProfile({"x": ShapeRange((1, 3), (2, 3), (4, 3))})
WITH_VALUES = OptimizationProfile(PROFILE.ranges, {"size": ShapeRange((1, -1), (2, -1), (4, -1))})
configs = st.builds(
    BuildConfig,
    precision=st.sampled_from(PRECISIONS),
    profiles=st.sampled_from([(), (PROFILE,), (PROFILE, WITH_VALUES)]),
    workspace_bytes=st.none() | st.integers(0, 2**40),
    targets=st.lists(st.sampled_from(["sm80", "sm89"]), unique=True).map(tuple),
    keep_io_types=st.booleans(),
)


@given(configs)
def test_a_configuration_survives_json(config: BuildConfig) -> None:
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config


def test_a_profile_without_values_is_written_as_it_always_was() -> None:
    """The keys of stored engines are made of it."""
    written = {"x": {"min": [1, 3], "opt": [2, 3], "max": [4, 3]}}
    assert profile_to_json(PROFILE) == written
    held = {"min_values": [1, -1], "opt_values": [2, -1], "max_values": [4, -1]}
    assert profile_to_json(WITH_VALUES) == {**written, "size": held}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512M", 512 << 20),
        ("1g", 1 << 30),
        ("1.5K", 1536),
        (" 2 GiB ", 2 << 30),
        ("2GB", 2 << 30),
    ],
)
def test_sizes_are_written_with_units_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1G", "1X", "1 000", "lots"])
def test_what_is_no_size_is_quoted(text: str) -> None:
    with pytest.raises(ConfigError, match=f"{text!r} is not a size"):
        parse_size(text)


def test_a_tensor_is_written_with_its_open_dimensions() -> None:
    spec = TensorSpec("x", "float32", ("batch", 3, None))
    assert str(spec) == "x: float32[batch, 3, ?]"
    assert spec.open_axes == (0, 2)


def test_a_step_is_finished_when_its_total_is_reached_and_never_without_one() -> None:
    assert Progress("a", 3, 3).finished
    assert not Progress("a", 2, 3).finished
    assert not Progress("a", 9, None).finished
