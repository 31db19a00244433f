"""What a configuration adds to a recipe, and how two recipes differ in words."""

from typing import Any

import pytest

from workbench.recipe import differences, recipe_entries, recipe_key
from workbench.types import BuildConfig, BuilderOptions, Calibration


def recipe(config: BuildConfig, **ingredients: Any) -> dict[str, Any]:
    return {"format": 2, "model": "m", "backend": "tensorrt", **recipe_entries(config), "ingredients": ingredients}


def test_where_a_calibration_lies_does_not_count_but_its_content_does() -> None:
    here, there = (recipe(BuildConfig("int8", calibration=Calibration(path))) for path in ("/a", "/b"))
    assert recipe_key(here) == recipe_key(there)
    other = {**here, "ingredients": {"calibration_content": "x"}}
    assert recipe_key(other) != recipe_key(here)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (BuilderOptions(optimization_level=5), "optimization level (none stored, 5 wanted)"),
        (BuilderOptions(tactic_sources=("cublas", "cudnn")), "tactic sources (none stored, cublas+cudnn wanted)"),
        (BuilderOptions(memory_pools={"tactic_dram": 1 << 30}), "memory pools (none stored, tactic_dram 1 GiB wanted)"),
        (BuilderOptions(layer_precisions={"a": "fp32"}), "layer precisions (none stored, a fp32 wanted)"),
        (BuilderOptions(refittable=True), "refittable (False stored, True wanted)"),
        (BuilderOptions(dla_core=0), "DLA core (none stored, 0 wanted)"),
    ],
    ids=lambda item: item.changed[0] if isinstance(item, BuilderOptions) else "",
)
def test_builder_options_differ_in_words(options: BuilderOptions, words: str) -> None:
    assert differences(recipe(BuildConfig()), recipe(BuildConfig(builder=options))) == [words]


def test_gpu_calibrator_and_content_of_a_calibration_differ_in_words() -> None:
    one = recipe(BuildConfig("int8", calibration=Calibration("a")), gpu="L4", calibration_content="1")
    other = recipe(BuildConfig("int8", calibration=Calibration("a", "minmax")), gpu="H200", calibration_content="2")
    assert differences(one, other) == [
        "the calibration's content",
        "calibrator (entropy stored, minmax wanted)",
        "GPU (L4 stored, H200 wanted)",
    ]
