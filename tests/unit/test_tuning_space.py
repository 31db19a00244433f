"""Which candidates there are, and what rules leave out."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from helpers_tuning import ground, large_space, rules, support

from workbench.errors import ConfigError
from workbench.tuning.candidate import KNOBS, Candidate, candidate_from_json
from workbench.tuning.proposing import changed, parameters
from workbench.tuning.space import MOST, Space, count, firsts, sizes
from workbench.types import OptimizationProfile, ShapeRange

PROCESSOR = ground()
INT8 = Space(("onnxruntime",), ("int8",), in_float=(0, 2, 4, 8))


def profile(most: int) -> tuple[OptimizationProfile, ...]:
    return (OptimizationProfile({"x": ShapeRange((1, 3), (most, 3), (most, 3))}, {}),)


def test_sizes_are_counted_with_and_without_rules() -> None:
    assert large_space().size == 2 * 3 * 3 * 4 * 3 * 3 * 4 * 4 * 2 * 4
    assert count(large_space(), rules()) == 4256
    assert sizes(large_space(), rules()) == "82,944 combinations, 4,256 after rules"


def test_a_space_too_large_to_count_says_so() -> None:
    space = large_space(batch=tuple(range(1, 100)), workspace_bytes=tuple(range(1, 20)))
    assert sizes(space, rules()).endswith(f"more than {MOST:,} after rules")


def test_candidates_are_all_different_and_admitted_and_the_usual_comes_first() -> None:
    found = list(rules().candidates(large_space()))
    assert len({item.key for item in found}) == len(found)
    assert all(rules().admits(large_space(), item) for item in found[::37])
    assert found[0] == Candidate("tensorrt", cuda_graph=True)


def test_what_rules_leave_out_is_not_admitted() -> None:
    assert not rules().admits(large_space(), Candidate("tensorrt", batch=3, cuda_graph=True))
    assert not rules().admits(large_space(), Candidate("tensorrt", threads=2, cuda_graph=True))
    assert not rules().admits(large_space(), Candidate("rtx", cuda_graph=True))


@pytest.mark.parametrize(
    ("knob", "values", "left"),
    [
        ("threads", (None, 1, 2), {None}),
        ("cuda_graph", (True, False), {True, False}),
        ("workspace_bytes", (None, 1 << 20), {None, 1 << 20}),
        ("optimization_level", (None, 5), {None, 5}),
        ("min_subgraph_size", (None, 3), {None, 3}),
    ],
)
def test_knobs_that_have_an_effect_on_a_gpu(knob: str, values: tuple[object, ...], left: set[object]) -> None:
    space = replace(Space(("tensorrt",), ("fp32",)), **{knob: values})
    assert {getattr(item, knob) for item in rules().candidates(space)} == left


@pytest.mark.parametrize(
    ("knob", "values", "left"),
    [
        ("threads", (None, 1, 2, 99), {None, 1, 2}),
        ("threads", (99,), {None}),
        ("cuda_graph", (True, False), {None}),
        ("workspace_bytes", (None, 1 << 20), {None}),
        ("optimization_level", (None, 5), {None}),
        ("tactic_sources", ((), ("CUBLAS",)), {()}),
        ("min_subgraph_size", (None, 3), {None}),
    ],
)
def test_knobs_that_have_an_effect_on_a_processor(knob: str, values: tuple[object, ...], left: set[object]) -> None:
    space = replace(Space(("onnxruntime",), ("fp32",)), **{knob: values})
    assert {getattr(item, knob) for item in rules(PROCESSOR).candidates(space)} == left


def test_algorithms_and_layers_in_float_belong_to_int8() -> None:
    space = large_space(precision=("fp16", "int8"))
    of_half = [item for item in rules().candidates(space) if item.precision == "fp16"]
    assert {(item.algorithm, item.in_float) for item in of_half} == {("", 0)}
    assert {item.in_float for item in rules(PROCESSOR).candidates(INT8)} == {0, 2, 4}
    assert "6 layers are in int8; no more can be left in float." in rules(PROCESSOR).left_out(INT8)


def test_a_quantized_model_has_its_ranges() -> None:
    found = list(rules(PROCESSOR, is_quantized=True, has_ranges=False).candidates(INT8))
    assert found == [Candidate("onnxruntime", "int8")]


def test_without_ranges_there_is_no_int8_and_the_reason_is_told() -> None:
    bare = rules(PROCESSOR, has_ranges=False)
    assert not list(bare.candidates(INT8))
    assert any("give data to calibrate with" in text for text in bare.left_out(INT8))


def test_a_back_end_that_cannot_run_is_left_out_with_its_reason() -> None:
    space = large_space()
    found = rules(PROCESSOR)
    assert {item.backend for item in found.candidates(space)} == {"onnxruntime"}
    assert any("tensorrt cannot run on one: there is no GPU." in text for text in found.left_out(space))


def test_a_precision_that_a_back_end_lacks_is_left_out_with_its_reason() -> None:
    old = ground(gpu="0", tensorrt=support("tensorrt", precisions=("fp32",), precision_reasons={"fp16": "too old"}))
    space = Space(("tensorrt",), ("fp32", "fp16"))
    assert [item.precision for item in rules(old).candidates(space)] == ["fp32"]
    assert "tensorrt cannot build fp16: too old" in rules(old).left_out(space)


def test_a_model_of_one_batch_is_tried_with_that_batch() -> None:
    found = rules(PROCESSOR, fixed_batch=4)
    assert {item.batch for item in found.candidates(large_space())} == {4}
    assert "The model takes 4 rows at once, no other batch." in found.left_out(large_space())


def test_profiles_are_tried_with_batches_that_they_take() -> None:
    space = Space(("tensorrt",), ("fp32",), batch=(1, 8), profiles={"": (), "small": profile(4), "large": profile(8)})
    found = rules(batches={"small": (1, 4), "large": (2, 8)})
    assert {(item.profiles, item.batch) for item in found.candidates(space)} == {
        ("", 1), ("", 8), ("small", 1), ("large", 8),
    }  # fmt: skip
    anything = replace(space, backend=("onnxruntime",))
    assert {item.profiles for item in rules(PROCESSOR).candidates(anything)} == {""}


def test_firsts_are_every_back_end_and_precision_as_usual() -> None:
    found = firsts(large_space(), rules())
    assert [(item.backend, item.precision) for item in found] == [
        (backend, precision) for backend in ("tensorrt", "onnxruntime") for precision in ("fp32", "fp16", "int8")
    ]
    assert all(item.batch == 1 and item.in_float == 0 for item in found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backend": ()}, "give one value at least"),
        ({"backend": ("tensorflow",)}, "there is no 'tensorflow'"),
        ({"precision": ("fp32", "fp32")}, "given twice"),
        ({"precision": ("fp13",)}, "there is no 'fp13'"),
        ({"algorithm": ("guess",)}, "there is no 'guess'"),
        ({"batch": (0,)}, "take 1 or more"),
        ({"in_float": (-1,)}, "take 0 or more"),
        ({"threads": (None, 0)}, "take 1 or more"),
        ({"optimization_level": (6,)}, "from 0 to 5"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(large_space(), **changes)


def test_candidates_survive_json_and_have_keys_of_their_own() -> None:
    one = Candidate("tensorrt", "int8", "entropy", 2, None, 1 << 26, 5, ("CUBLAS", "CUDNN"), 8, "", True)
    assert candidate_from_json({**vars(one), "tactic_sources": list(one.tactic_sources)}) == one
    assert one.key != replace(one, batch=4).key


def test_a_changed_candidate_is_admitted_and_differs() -> None:
    draw, one = random.Random(0), Candidate("onnxruntime", "int8", "minmax", 2, batch=4)
    for _ in range(300):
        other = changed(large_space(), rules(), one, draw)
        assert other != one
        assert rules().admits(large_space(), other)
        one = other


def test_a_change_keeps_what_rules_allow_to_stay() -> None:
    draw = random.Random(0)
    one = Candidate("tensorrt", "fp16", "", 0, None, 1 << 26, 5, ("CUDNN",), 8, "", False)
    for _ in range(50):
        other = changed(large_space(precision=("fp32", "fp16")), rules(), one, draw)
        differing = [knob for knob in KNOBS if getattr(other, knob) != getattr(one, knob)]
        assert len(differing) == 1 or differing[0] == "backend"


def test_parameters_tell_candidates_apart() -> None:
    space = large_space()
    found = {str(sorted(parameters(space, rules(), item)[0].items())) for item in rules().candidates(space)}
    assert len(found) == 4256
