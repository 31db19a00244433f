"""The story of a build, pass by pass. ResNet-18's numbers were counted by hand in the recorded log."""

from collections import Counter
from itertools import pairwise

import pytest
from helpers_fusion import RTX_RECORDED, lines, resnet_log

from workbench.fusion.files import read_text
from workbench.fusion.story import Pass, Step, read_build_log, story
from workbench.types import LogLine

SQUEEZENET = read_text(RTX_RECORDED / "light_squeezenet.build.log.xz")


def steps(*texts: str) -> tuple[Step, ...]:
    """The steps of one pass with these lines."""
    _, found = story(lines("Original: 9 layers", *texts, "After vertical fusions: 8 layers"))
    return found.steps


# ---- ResNet-18, TensorRT 8.6


def test_the_passes_of_resnet18_follow_one_another() -> None:
    passes = story(resnet_log())
    assert [(item.title, item.layers_after) for item in passes if item.layers_before != item.layers_after] == [
        ("Myelin optimization", 72), ("scale fusion", 69), ("dupe layer removal", 56), ("reformat layers", 66)
    ]  # fmt: skip
    assert (passes[0].title, passes[0].layers_after, len(passes)) == ("the network as parsed", 73, 14)
    assert all(earlier.layers_after == later.layers_before for earlier, later in pairwise(passes))


def test_the_steps_of_resnet18_account_for_its_layers() -> None:
    """12 copies of constants come, 17 ReLUs and 8 sums go into convolutions: 69 + 12 - 25 = 56."""
    (busy,) = (item for item in story(resnet_log()) if item.title == "dupe layer removal" and item.steps)
    assert Counter((step.kind, step.transform) for step in busy.steps) == {
        ("retype", "CastToCopyTransform"): 16, ("run", "ConstantSplit"): 4, ("fuse", "ConvReluFusion"): 17,
        ("fuse", "ConvEltwiseSumFusion"): 8, ("retype", "ReduceToPoolingFusion"): 1,
    }  # fmt: skip
    assert busy.steps[20] == Step(
        "fuse", "ConvReluFusion", ("/conv1/Conv", "/relu/Relu"), "ConvReluFusion: Fusing /conv1/Conv with /relu/Relu"
    )


def test_a_step_that_the_log_tells_no_more_of_than_its_name_is_kept() -> None:
    (scale,) = (item for item in story(resnet_log()) if item.title == "scale fusion")
    assert [step.kind for step in scale.steps] == ["retype", "fuse", "remove", "run"]
    assert scale.steps[2] == Step(
        "remove",
        "ShuffleErasure",
        ("/Flatten + reshape_before_/fc/Gemm",),
        "Removing /Flatten + reshape_before_/fc/Gemm",
    )
    assert scale.steps[3].subjects == ("/fc/Gemm",)


def test_reformats_come_last() -> None:
    last = story(resnet_log())[-1]
    assert (last.layers_before, last.layers_after, Counter(step.kind for step in last.steps)) == (56, 66, {"copy": 10})
    assert last.steps[2].subjects == ("Reformatted Input Tensor 0 to /layer4/layer4.0/conv2/Conv",)


# ---- TensorRT-RTX


def test_rtx_gives_all_to_myelin_and_the_story_says_that_no_more_is_told() -> None:
    passes = story(read_build_log(SQUEEZENET))
    (myelin,) = (item for item in passes if item.steps)
    assert (myelin.title, myelin.layers_before, myelin.layers_after) == ("Myelin optimization", 172, 1)
    region = myelin.steps[-1]
    name = "{ForeignNode[tmp_refittable_weight_37...ONNXTRT_ShapeShuffle_154]}"
    assert (region.kind, region.transform, len(region.subjects)) == ("region", name, 65)
    assert region.text == f"{name} takes 65 nodes; the log does not tell what Myelin does with them"


def test_a_regions_members_may_stand_on_lines_of_their_own() -> None:
    whole = story(read_build_log(SQUEEZENET))
    broken = [LogLine("verbose", text) for line in read_build_log(SQUEEZENET) for text in line.text.splitlines()]
    assert story(broken) == whole


# ---- forms


@pytest.mark.parametrize(
    ("text", "kind", "transform", "subjects"),
    [
        ("ConvReluFusion: Fusing a with b", "fuse", "ConvReluFusion", ("a", "b")),
        ("Fusing Conv_3 with Relu_4", "fuse", "", ("Conv_3", "Relu_4")),
        ("Fusing convolution weights from conv with scale bn", "fuse", "", ("conv", "bn")),
        ("QuantizeDoubleInputNodes: fusing q into conv", "fuse", "QuantizeDoubleInputNodes", ("q", "conv")),
        ("X: fusing (d1 and d2) into conv", "fuse", "X", ("d1", "d2", "conv")),
        ("Merging layers: a + b || c + d", "merge", "", ("a + b", "c + d")),
        ("Removing a + b", "remove", "", ("a + b",)),
        ("Eliminating concatenation cat", "remove", "", ("cat",)),
        ("Eliminating slice s by retargeting t from t to u", "remove", "", ("s",)),
        ("Eliminating q_1 which duplicates (Q) q_0", "remove", "", ("q_1",)),
        ("Swap the layer type of a from REDUCE to POOLING", "retype", "", ("a",)),
        ("Convert layer type of a from MATRIX_MULTIPLY to CONVOLUTION", "retype", "", ("a",)),
        ("Swapping slice with q", "swap", "", ("slice", "q")),
        ("Generating copy for a to b because of stomping hazard.", "copy", "", ("a",)),
        ("Adding reformat layer: r (t) from Float(4,1) to Half(4,1)", "copy", "", ("r",)),
        ("Retargeting a to b", "retarget", "", ("a",)),
    ],
)
def test_a_line_becomes_a_step(text: str, kind: str, transform: str, subjects: tuple[str, ...]) -> None:
    assert steps(text) == (Step(kind, transform, subjects, text),)


def test_several_lines_belong_to_the_transform_that_runs() -> None:
    found = steps("Running: Q on conv", "Q: fusing a into conv", "Removing a", "Running: R on x", "Running: S on y")
    assert [(step.kind, step.transform) for step in found] == [
        ("fuse", "Q"), ("remove", "Q"), ("run", "R"), ("run", "S")
    ]  # fmt: skip


def test_a_transform_ends_with_its_pass() -> None:
    later = lines(
        "Running: Q on a", "After slice removal: 9 layers", "Eliminating concatenation c", "After x: 8 layers"
    )
    *_, last = story(lines("Original: 9 layers") + later)
    assert last.steps[0].transform == ""


def test_lines_before_the_network_is_counted_are_no_steps() -> None:
    assert story(lines("Removing initializer 'w'. It is no longer used by any node.")) == ()
    assert story(lines("Fusing a with b", "Original: 2 layers")) == (Pass("the network as parsed", 2, 2, ()),)


@pytest.mark.parametrize(
    ("line", "severity", "text"),
    [
        ("[VERBOSE] Original: 73 layers", "verbose", "Original: 73 layers"),
        ("INFO ONNX IR version:  0.0.3", "info", "ONNX IR version:  0.0.3"),
        ("[11/16/2023-03:13:43] [V] [TRT] Fusing a with b", "verbose", "Fusing a with b"),
        ("[11/20/2026-11:15:01] [TRT] [E] it fails", "error", "it fails"),
        ("[TensorRT] WARNING: slow", "warning", "slow"),
        ("[INTERNAL_ERROR] broken", "error", "broken"),
        ("[ONNX Layer: a]", "verbose", "[ONNX Layer: a]"),
        ("Layer(Constant): w\r", "verbose", "Layer(Constant): w"),
    ],
)
def test_logs_are_read_as_the_tools_write_them(line: str, severity: str, text: str) -> None:
    assert read_build_log(line) == (LogLine(severity, text),)
