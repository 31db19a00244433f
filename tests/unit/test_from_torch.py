"""export_torch: what comes out, what is made right by itself, and what is refused, with the remedy."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
import warnings
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

if os.environ.get("WORKBENCH_TEST_TORCH") == "0":
    pytest.skip("PyTorch is left out: WORKBENCH_TEST_TORCH=0", allow_module_level=True)

import torch
import torch.nn.functional as F
from models import parse
from torch import Tensor, nn

from workbench.errors import ConfigError, ExportError, ShapeError
from workbench.export.exported import Exported, write_model
from workbench.export.pytorch import dims
from workbench.export.pytorch.exporting import export_torch
from workbench.export.pytorch.pt2 import code_in_pt2
from workbench.export.pytorch.source import load_torch
from workbench.model import load_model
from workbench.reference import Reference
from workbench.types import LogLine, Progress, TensorSpec

BATCH = {"x": {0: "batch"}}
BOTH = pytest.mark.parametrize("exporter", ["dynamo", "classic"])
PICTURES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def same_weights_each_time() -> None:
    torch.manual_seed(0)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return torch.relu(x) * 2


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.features(x).mean((2, 3)))


class Embed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 8)

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        return (self.words(ids) * mask.unsqueeze(-1)).sum(1)


class Frozen(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x.view(int(x.shape[0]), -1) * 1.5


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Any:
        if x.sum() > 0:
            return x * 2
        return x - 1


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(1, 8, 4))

    def forward(self, x: Tensor) -> Any:
        return x + self.table


class Nested(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return {"scores": x * 2, "rest": (x + 1, None, [x - 1])}


Pair = namedtuple("Pair", "left right")


class Named(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return Pair(x * 2, x * 3)


def run(exported: Exported, *arrays: Tensor) -> list[np.ndarray]:
    names = [spec.name for spec in exported.model.inputs]
    feeds = {name: array.numpy() for name, array in zip(names, arrays, strict=True)}
    return list(Reference(exported.model).run(feeds).values())


def specs(exported: Exported) -> list[str]:
    return [str(spec) for spec in (*exported.model.inputs, *exported.model.outputs)]


# ---- what comes out


@BOTH
def test_an_export_answers_as_the_module_at_sizes_that_were_never_tried(exporter: str, tmp_path: Path) -> None:
    module = Small().eval()
    open_dims = {"x": {0: "batch", 2: "height", 3: "width"}}
    exported = export_torch(module, PICTURES, open_dims=open_dims, exporter=exporter, output=tmp_path / "small.onnx")
    other = torch.rand(7, 3, 33, 21)
    (answer,) = run(exported, other)
    assert np.allclose(answer, module(other).detach().numpy(), atol=1e-5)
    assert specs(exported) == ["x: float32[batch, 3, height, width]", "output: float32[batch, 5]"]
    assert (exported.model.opset, exported.model.proto.ir_version) == (17, 8)
    assert exported.framework == f"PyTorch {torch.__version__.partition('+')[0]}"
    assert exported.converter == f"torch.onnx ({exporter})"


@BOTH
def test_nodes_are_named_after_their_modules_and_weights_as_in_the_state_dict(exporter: str, tmp_path: Path) -> None:
    model = export_torch(Small(), PICTURES, exporter=exporter, output=tmp_path / "small.onnx").model
    names = [node.name for node in model.nodes]
    assert [name for name in names if "Constant" not in name] == [
        "/features/0/Conv", "/features/2/Relu", "/ReduceMean", "/fc/Gemm",
    ]  # fmt: skip
    assert "fc.weight" in {tensor.name for tensor in model.proto.graph.initializer}


@BOTH
def test_two_exports_are_the_same_bytes_and_hold_no_path_of_this_machine(exporter: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Small()
    one, two = (
        export_torch(
            module, PICTURES, open_dims=BATCH, exporter=exporter, output=tmp_path / name
        ).model.path.read_bytes()
        for name in ("one.onnx", "two.onnx")
    )
    assert one == two
    assert b"site-packages" not in one and Path(__file__).name.encode() not in one


def test_shapes_are_the_examples_and_two_more_for_each_dimension_none_kept_equal_to_another(tmp_path: Path) -> None:
    open_dims = {"x": {0: "batch", 2: "height", 3: "width"}}
    exported = export_torch(Twice(), PICTURES, open_dims=open_dims, exporter="classic", output=tmp_path / "twice.onnx")
    tried = [parity.shapes["x"] for parity in exported.parity]
    assert tried[0] == (2, 3, 16, 16)
    assert all(len({shape[axis] for shape in tried}) == 3 for axis in (0, 2, 3))
    assert any(shape[2] != shape[3] for shape in tried)


def test_the_users_shapes_are_compared_in_place_of_those(tmp_path: Path) -> None:
    exported = export_torch(
        Twice(),
        PICTURES,
        open_dims=BATCH,
        shapes=[{"x": (9, 3, 16, 16)}],
        exporter="classic",
        output=tmp_path / "t.onnx",
    )
    assert [parity.shapes["x"][0] for parity in exported.parity] == [2, 9]


class Quarters(nn.Module):
    """Right at the example's batch of 4 only, once exported."""

    def forward(self, x: Tensor) -> Any:
        return x.sum(0, keepdim=True).expand(x.shape[0], -1) / int(x.shape[0])


FOUR = torch.rand(4, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "given",
    [
        {"shapes": [{"x": (4, 8)}]},
        {"shapes": [{}]},
        {"feeds": [{"x": FOUR.numpy() + 1}]},
        {"feeds": [{"x": FOUR + 1}], "shapes": [{"x": (4, 8)}]},
    ],
)
def test_the_examples_own_sizes_do_not_prove_a_dimension_open(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="batch shall be open, but the classic exporter froze a size"):
        export_torch(Quarters(), FOUR, open_dims=BATCH, exporter="classic", output=tmp_path / "q.onnx", **given)
    exported = export_torch(Twice(), FOUR, open_dims=BATCH, exporter="classic", output=tmp_path / "t.onnx", **given)
    assert len({parity.shapes["x"][0] for parity in exported.parity}) == 2


def test_a_dimension_that_the_users_sizes_leave_alone_is_tried_at_another(tmp_path: Path) -> None:
    open_dims = {"x": {0: "batch", 2: "height", 3: "width"}}
    exported = export_torch(
        Twice(), PICTURES, open_dims=open_dims, shapes=[{"x": (5, 3, 16, 24)}], exporter="classic",
        output=tmp_path / "t.onnx",
    )  # fmt: skip
    tried = [parity.shapes["x"] for parity in exported.parity]
    assert tried[:2] == [(2, 3, 16, 16), (5, 3, 16, 24)] and len(tried) == 3
    assert tried[2][2] != 16 and (tried[2][0], tried[2][3]) == (2, 16)


def test_the_users_arrays_are_compared_in_the_examples_types(tmp_path: Path) -> None:
    class Past(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {"y": x + 1, "rare": torch.where(x > 2, x, 0)}

    call = {"open_dims": BATCH, "exporter": "classic", "output": tmp_path / "past.onnx"}
    note = "output rare was zero on every trial: compare it on real inputs with feeds=[{input: array}]"
    assert note in export_torch(Past(), PICTURES, **call).notes
    exported = export_torch(Past(), PICTURES, feeds=[{"x": np.full((5, 3, 16, 16), 3.0)}], **call)
    assert [parity.shapes["x"][0] for parity in exported.parity] == [2, 5]
    assert not any("zero" in note for note in exported.notes)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shapes": []}, "shapes: no set of shapes is given; leave it out"),
        ({"feeds": [{}]}, "feeds: input x is missing"),
        ({"feeds": [{"x": FOUR, "z": FOUR}]}, "feeds: there is no input 'z'; the inputs are x"),
        ({"feeds": [{"x": FOUR[0]}]}, "feeds: 8 does not fit x: float32.batch, 8., which has 2 dimensions"),
    ],
)
def test_feeds_and_shapes_that_are_none_are_refused_in_words(given: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=words):
        export_torch(Twice(), FOUR, open_dims=BATCH, output=tmp_path / "t.onnx", **given)


@BOTH
def test_a_module_whose_outputs_say_nothing_is_refused(exporter: str, tmp_path: Path) -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return torch.relu(x - 9)

    with pytest.raises(ExportError, match=r"Silent: the export is not proven: output output was zero on every trial"):
        export_torch(Silent(), PICTURES, open_dims=BATCH, exporter=exporter, output=tmp_path / "silent.onnx")
    assert not list(tmp_path.iterdir())


def test_an_output_in_bfloat16_is_said_to_be_one(tmp_path: Path) -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {"y": x.to(torch.bfloat16)}

    with pytest.raises(ExportError, match=r"output y of the module is bfloat16, .* return it as y\.float\(\)"):
        export_torch(Half(), PICTURES, output=tmp_path / "half.onnx")


def test_a_size_of_an_output_that_varies_is_open_whatever_the_exporter_says() -> None:
    proto = parse("(float[workbench_input_0, 4] x) => (float[2, 4] y) { y = Relu(x) }")
    seen = [({"batch": size}, {"y": np.ones((size, 4), np.float32)}) for size in (2, 3)]
    dims.set_dims(proto, [TensorSpec("x", "float32", ("batch", 4))], seen)
    (batch, columns) = proto.graph.output[0].type.tensor_type.shape.dim
    assert (batch.dim_param, batch.dim_value, columns.dim_value) == ("batch", 0, 4)


def test_without_open_dimensions_everything_is_fixed(tmp_path: Path) -> None:
    exported = export_torch(Twice(), PICTURES, output=tmp_path / "twice.onnx")
    assert specs(exported) == ["x: float32[2, 3, 16, 16]", "output: float32[2, 3, 16, 16]"]
    assert len(exported.parity) == 1


@BOTH
def test_integers_two_inputs_and_a_shared_batch(exporter: str, tmp_path: Path) -> None:
    ids, mask = torch.randint(1, 50, (1, 6)), torch.ones(1, 6)
    open_dims = {"ids": {0: "batch", 1: "words"}, "mask": {0: "batch", -1: "words"}}
    module = Embed().eval()
    exported = export_torch(module, (ids, mask), open_dims=open_dims, exporter=exporter, output=tmp_path / "embed.onnx")
    assert specs(exported) == ["ids: int64[batch, words]", "mask: float32[batch, words]", "output: float32[batch, 8]"]
    ids, mask = torch.randint(0, 50, (4, 11)), torch.rand(4, 11)
    assert np.allclose(run(exported, ids, mask)[0], module(ids, mask).detach().numpy(), atol=1e-5)


def test_an_example_by_argument_names_and_inputs_with_names_of_their_own(tmp_path: Path) -> None:
    example = {"mask": torch.ones(2, 6), "ids": torch.randint(0, 50, (2, 6))}
    exported = export_torch(
        Embed(), example, open_dims={"ids": {0: "n"}, "weights": {0: "n"}}, input_names=["weights", "tokens"],
        output_names=["sum"], output=tmp_path / "embed.onnx",
    )  # fmt: skip
    assert specs(exported) == ["weights: float32[n, 6]", "tokens: int64[n, 6]", "sum: float32[n, 8]"]


@BOTH
def test_outputs_in_dicts_lists_and_none_get_names_from_their_keys(exporter: str, tmp_path: Path) -> None:
    exported = export_torch(Nested(), PICTURES, exporter=exporter, output=tmp_path / "nested.onnx")
    assert [spec.name for spec in exported.model.outputs] == ["scores", "rest_0", "rest_2_0"]
    assert np.array_equal(run(exported, PICTURES)[2], (PICTURES - 1).numpy())


def test_fields_of_a_named_tuple_name_the_outputs(tmp_path: Path) -> None:
    exported = export_torch(Named(), PICTURES, exporter="classic", output=tmp_path / "named.onnx")
    assert [spec.name for spec in exported.model.outputs] == ["left", "right"]


def test_progress_tells_the_three_phases_and_the_exporters_talk_goes_to_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[Progress | LogLine] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for exporter in ("dynamo", "classic"):
            export_torch(
                Twice(), PICTURES, open_dims=BATCH, exporter=exporter, output=tmp_path / "t.onnx", listener=heard.append
            )
        with pytest.raises(ExportError):
            export_torch(Unsupported(), PICTURES, exporter="classic", output=tmp_path / "u.onnx", listener=heard.append)
    phases = list(dict.fromkeys(event.phase for event in heard if isinstance(event, Progress)))
    assert phases == [
        "Exporting with torch.onnx (dynamo)", "Checking", "Comparing with PyTorch at 3 shapes",
        "Exporting with torch.onnx (classic)",
    ]  # fmt: skip
    assert capfd.readouterr() == ("", "")
    assert not told
    assert any(isinstance(event, LogLine) and "torchvision is not installed" in event.text for event in heard)


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    class Counting(Small):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Any:
            self.calls += 1
            return super().forward(x)

    module = Counting().train()
    module.features[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    handlers = list(logging.getLogger("torch").handlers)
    export_torch(module, PICTURES, exporter="classic", output=tmp_path / "counting.onnx")
    assert [part.training for part in (module, module.features[0], module.features[1])] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert torch.is_grad_enabled()
    assert logging.getLogger("torch").handlers == handlers


def test_weights_of_a_large_model_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    proto = export_torch(nn.Linear(64, 64), torch.rand(1, 64), output=tmp_path / "linear.onnx").model.proto
    write_model(proto, tmp_path / "large.onnx", large_bytes=1000)
    model = load_model(tmp_path / "large.onnx")
    (data,) = model.external_files
    assert re.fullmatch(r"large\.onnx\.[0-9a-f]{8}\.data", data.name)
    assert (tmp_path / "large.onnx").stat().st_size < 5000


def test_without_a_file_name_the_export_lies_in_the_workbenchs_folder(home: Path) -> None:
    exported = export_torch(Twice(), PICTURES, exporter="classic")
    assert exported.model.path == home / "exports" / "twice.onnx"
    assert export_torch(Twice(), PICTURES, exporter="classic", name="net-2").model.path.name == "net-2.onnx"


# ---- traps that are made right


@BOTH
def test_an_output_may_have_the_name_of_an_inner_value(exporter: str, tmp_path: Path) -> None:
    """Left alone, both exporters write a file that ONNX Runtime refuses or that has another name."""
    for name in ("relu", "/Relu_output_0"):
        exported = export_torch(Twice(), PICTURES, exporter=exporter, output_names=[name], output=tmp_path / "t.onnx")
        assert [spec.name for spec in exported.model.outputs] == [name]
        assert np.array_equal(run(exported, PICTURES)[0], (PICTURES * 2).numpy())


def test_an_inner_value_that_had_to_yield_its_name_is_noted(tmp_path: Path) -> None:
    exported = export_torch(Twice(), PICTURES, output_names=["relu"], output=tmp_path / "t.onnx")
    assert any("inside the graph was called relu" in note for note in exported.notes)


@BOTH
def test_an_input_handed_out_again_and_one_tensor_twice_are_outputs_of_their_own(exporter: str, tmp_path: Path) -> None:
    class Echo(nn.Module):
        def forward(self, x: Tensor) -> Any:
            y = x * 2
            return {"x": x, "y": y, "z": y}

    exported = export_torch(Echo(), PICTURES, exporter=exporter, output=tmp_path / "echo.onnx")
    assert [spec.name for spec in exported.model.outputs] == ["x_out", "y", "z"]
    assert np.array_equal(run(exported, PICTURES)[0], PICTURES.numpy())


def test_one_tensor_given_for_two_inputs_stays_two_inputs(tmp_path: Path) -> None:
    """torch.export takes them for one and reads the second only."""

    class Minus(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Any:
            return a - 2 * b

    exported = export_torch(Minus(), (PICTURES, PICTURES), output=tmp_path / "minus.onnx")
    assert np.allclose(run(exported, PICTURES, PICTURES + 1)[0], (PICTURES - 2 * (PICTURES + 1)).numpy())


@BOTH
def test_an_example_of_batch_one_leaves_the_batch_open(exporter: str, tmp_path: Path) -> None:
    class Squeezed(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return (x if x.shape[0] == 1 else x * 1.0).flatten(1)

    exported = export_torch(Squeezed(), PICTURES[:1], open_dims=BATCH, exporter=exporter, output=tmp_path / "s.onnx")
    assert specs(exported)[1] == "output: float32[batch, 768]"


def test_an_input_that_plays_no_part_is_noted_where_the_exporter_drops_it(tmp_path: Path) -> None:
    class First(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Any:
            return x * 2

    exported = export_torch(First(), (PICTURES, PICTURES), exporter="classic", output=tmp_path / "first.onnx")
    assert [spec.name for spec in exported.model.inputs] == ["x"]
    assert exported.notes == ("input y plays no part in what the module returns; the export leaves it out",)


class Reduced(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return x.amax((2, 3)), F.normalize(x, dim=1), torch.logsumexp(x, 1), x.mean()


class Chunks(nn.Module):
    def forward(self, x: Tensor) -> Any:
        first, second = x.chunk(2, 1)  # 2 and 1 of 3 channels
        left, right = x.chunk(2, 2)
        return first, second, left * right


class Padded(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return F.pad(x, (1, 2, 3, 4)), F.pad(x, (1, 1, 1, 1), mode="reflect")


class Soft(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return F.mish(x), F.gelu(x), F.hardswish(x)


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), F.interpolate(x, size=(7, 5))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")

    def forward(self, x: Tensor) -> Any:
        return self.layer(x[:, 0])


@pytest.mark.parametrize("module", [Reduced, Chunks, Padded, Soft, Scaled, Attending])
def test_what_the_dynamo_exporter_writes_in_opset_18_comes_down_to_17(module: type[nn.Module], tmp_path: Path) -> None:
    exported = export_torch(module(), PICTURES, open_dims=BATCH, output=tmp_path / "m.onnx")
    assert exported.model.opset == 17
    assert len(exported.parity) == 3
    onnx.checker.check_model(str(exported.model.path), full_check=True)


def test_a_transformer_exports_with_the_classic_exporter_too(tmp_path: Path) -> None:
    fast = torch.backends.mha.get_fastpath_enabled()
    export_torch(Attending(), PICTURES, open_dims=BATCH, exporter="classic", output=tmp_path / "a.onnx")
    assert torch.backends.mha.get_fastpath_enabled() == fast


# ---- refusals


@BOTH
def test_a_size_made_a_python_number_is_found_with_its_node(exporter: str, tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"(?s)batch.*node /Reshape \(Reshape to the constant shape 2x-1.*x\.shape\[0\]"
    ):
        export_torch(Frozen(), PICTURES, open_dims=BATCH, exporter=exporter, output=tmp_path / "frozen.onnx")
    assert not list(tmp_path.iterdir())


def test_the_dynamo_exporter_names_the_line_that_froze_a_size(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=rf"{Path(__file__).name}:\d+ `return x.view\(int"):
        export_torch(Frozen(), PICTURES, open_dims=BATCH, output=tmp_path / "frozen.onnx")


def test_a_module_that_runs_at_one_size_only_says_so_itself(tmp_path: Path) -> None:
    open_dims = {"x": {0: "batch", 1: "words"}}
    with pytest.raises(
        ExportError, match=r"words cannot be open: the module itself runs on x 2x8x4 but not .*must match"
    ):
        export_torch(Positions(), torch.rand(2, 8, 4), open_dims=open_dims, output=tmp_path / "positions.onnx")


def test_a_branch_on_values_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"depends on values.*test_from_torch.py:\d+ `if x.sum\(\) > 0:`.*torch.where"
    ):
        export_torch(Branch(), PICTURES, output=tmp_path / "branch.onnx")


def test_a_branch_that_the_classic_exporter_decided_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"signs changed.*`if x.sum\(\) > 0:` was decided while tracing.*torch\.where"
    ):
        export_torch(Branch(), PICTURES, exporter="classic", output=tmp_path / "branch.onnx")
    assert not list(tmp_path.iterdir())


class Unsupported(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return torch.linalg.svd(x)[1]


@BOTH
def test_an_operator_without_onnx_is_named(exporter: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=rf"the {exporter} exporter has no ONNX for the operator aten\S+linalg_svd"):
        export_torch(Unsupported(), PICTURES, exporter=exporter, output=tmp_path / "svd.onnx")


def test_an_operator_of_opset_18_is_named_with_its_remedy(tmp_path: Path) -> None:
    class Bits(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x & 3

    with pytest.raises(ExportError, match=r"BitwiseAnd cannot be written in opset 17.*opset=18"):
        export_torch(Bits(), torch.randint(0, 9, (2, 3)), output=tmp_path / "bits.onnx")
    assert export_torch(Bits(), torch.randint(0, 9, (2, 3)), opset=18, output=tmp_path / "bits.onnx").model.opset == 18


def test_a_module_that_leaves_pytorch_is_refused(tmp_path: Path) -> None:
    class Leaves(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return torch.from_numpy(x.numpy() * 2)

    with pytest.raises(ExportError, match=r"reads none of its inputs.*\.numpy\(\)"):
        export_torch(Leaves(), PICTURES, exporter="classic", output=tmp_path / "leaves.onnx")


def test_a_module_that_answers_by_chance_is_refused(tmp_path: Path) -> None:
    class Chance(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return F.dropout(x, 0.5, training=True)

    with pytest.raises(ExportError, match="answers differently each time"):
        export_torch(Chance(), PICTURES, exporter="classic", output=tmp_path / "chance.onnx")


def test_a_failing_module_is_told_before_any_export(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"does not run on its own example \(x 2x5x16x16\): RuntimeError"):
        export_torch(Small(), torch.rand(2, 5, 16, 16), output=tmp_path / "small.onnx")


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "returns no tensor"), ((), "returns no tensor"), (3, "the output of the module is an int"),
     ({"a": 1.5}, "output a of the module is a float")],
)  # fmt: skip
def test_outputs_that_are_no_tensors_are_refused(value: Any, words: str, tmp_path: Path) -> None:
    class Returns(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return value

    with pytest.raises(ExportError, match=words):
        export_torch(Returns(), PICTURES, output=tmp_path / "returns.onnx")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"open_dims": {"y": {0: "batch"}}}, "no input 'y'; the inputs are x"),
        ({"open_dims": {"x": {4: "batch"}}}, "input x has 4 dimensions; 4 is not one"),
        ({"open_dims": {"x": {0: ""}}}, "needs a name such as 'batch'"),
        ({"open_dims": {"x": {0: "n", 1: "n"}}}, "'n' is 2 in x axis 0 and 3 in x axis 1"),
        ({"open_dims": {"x": {-4: "a", 0: "b"}}}, "axis 0 of input x is called 'a' and 'b': name it once"),
        ({"exporter": "tracing"}, "no exporter 'tracing'; choose one of dynamo, classic"),
        ({"input_names": ["a", "b"]}, "give 1 different names, one for each of x"),
        ({"output_names": ["a", "b"]}, "give 1 names, different from each other and from the inputs"),
        ({"output_names": ["x"]}, "different from each other and from the inputs"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_words(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        export_torch(Twice(), PICTURES, output=tmp_path / "t.onnx", **arguments)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"y": (1, 2)}, "no input 'y'"),
        ({"x": (2, 3)}, "2x3 does not fit x: float32.batch, 3, 16, 16., which has 4 dimensions"),
        ({"x": (2, 3, 32, 16)}, "has 32 in dimension 2, which is fixed to 16; open it: open_dims="),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_words(shapes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=words):
        export_torch(Twice(), PICTURES, open_dims=BATCH, shapes=[shapes], output=tmp_path / "t.onnx")


@pytest.mark.parametrize(
    ("module", "example", "words"),
    [
        (Twice(), 3, "the example is an int; give a tensor"),
        (Twice(), (), "the example is a tuple"),
        (Twice(), (PICTURES, 3), "2 tensors, but forward takes 1: x"),
        (Embed(), {"ids": PICTURES, "mask": None}, "argument mask of the example is None"),
        (Embed(), {"ids": PICTURES, "masks": PICTURES}, "forward has no argument 'masks'; it takes ids, mask"),
        (torch.relu, PICTURES, "not a torch.nn.Module"),
    ],
)
def test_examples_and_modules_that_are_none_are_refused(module: Any, example: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        export_torch(module, example, output=tmp_path / "t.onnx")


def test_half_precision_is_refused_because_the_engine_chooses_it(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"features.0.weight is float16; export the module in float32"):
        export_torch(Small().half(), PICTURES.half(), output=tmp_path / "half.onnx")


@BOTH
def test_an_opset_that_does_not_exist_is_refused_and_not_replaced(exporter: str, tmp_path: Path) -> None:
    for opset in (5, 99):
        with pytest.raises(ConfigError, match=f"opset {opset}: choose one from 9 to"):
            export_torch(Twice(), PICTURES, opset=opset, exporter=exporter, output=tmp_path / "t.onnx")
    assert export_torch(Twice(), PICTURES, opset=20, exporter=exporter, output=tmp_path / "t.onnx").model.opset == 20


def test_an_operator_that_an_older_opset_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"LayerNormalization cannot be written in opset 13.*exporter='classic'"):
        export_torch(nn.LayerNorm(16), PICTURES, opset=13, output=tmp_path / "norm.onnx")


def test_outputs_that_nothing_can_be_compared_with_are_refused(tmp_path: Path) -> None:
    class Logarithm(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return torch.log(x - 2)

    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return torch.fft.fft(x)

    with pytest.raises(ExportError, match="output output holds infinite or undefined values on x 2x3x16x16"):
        export_torch(Logarithm(), PICTURES, output=tmp_path / "log.onnx")
    with pytest.raises(ExportError, match="output output is complex"):
        export_torch(Spectrum(), PICTURES, output=tmp_path / "fft.onnx")


# ---- sources of the command line


NET = """
import torch
from torch import nn
def make():
    return nn.Linear(4, 2), torch.rand(1, 4), {"input": {0: "batch"}}
def wrong():
    return 3
def fails():
    raise ValueError("no such weights")
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"


def test_a_function_in_a_file_or_module_gives_module_example_and_open_dimensions(
    net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(net.parent)
    for place in (f"{net}:make", "net:make"):
        source = load_torch(place)
        assert isinstance(source.module, nn.Linear) and source.example.shape == (1, 4)
        assert source.open_dims == {"input": {0: "batch"}}
    assert str(net.parent) not in sys.path


def test_a_function_imports_from_its_own_folder_while_it_runs(net: Path) -> None:
    (net.parent / "layers_of_net.py").write_text("from torch.nn import Linear as Net\n")
    net.write_text(NET + "def late():\n    from layers_of_net import Net\n    return Net(4, 2), torch.rand(1, 4)\n")
    assert isinstance(load_torch(f"{net}:late").module, nn.Linear)
    assert str(net.parent) not in sys.path


def test_a_function_may_change_the_path_of_imports(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    net.write_text(f"import sys\nsys.path.remove({str(net.parent)!r})\n" + NET)
    assert isinstance(load_torch(f"{net}:make").module, nn.Linear)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        (":missing", ConfigError, "has no function missing; it has make, wrong, fails"),
        ("", ConfigError, "name the function too"),
        (":wrong", ConfigError, r"shall return \(module, example\)"),
        (":fails", ExportError, r"its code fails at \S+net.py:9 .*ValueError: no such weights"),
        ("x:make", ConfigError, "there is no such"),
    ],
)
def test_a_source_that_is_none_is_refused_in_words(net: Path, name: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        load_torch(f"{net}{name}")


def test_a_pt2_file_brings_its_example_and_open_dimensions_and_a_warning(tmp_path: Path) -> None:
    heard: list[Any] = []
    program = torch.export.export(Small().eval(), (PICTURES,), dynamic_shapes={"x": {0: torch.export.Dim("n")}})
    torch.export.save(program, tmp_path / "small.pt2")
    source = load_torch(str(tmp_path / "small.pt2"), listener=heard.append)
    assert "open only what you trust" in heard[0].text and heard[0].severity == "warning"
    assert source.open_dims == {"x": {0: "batch"}}
    exported = export_torch(source.module, source.example, open_dims=source.open_dims, output=tmp_path / "small.onnx")
    assert specs(exported) == ["x: float32[batch, 3, 16, 16]", "output: float32[batch, 5]"]


class Sizes(torch.nn.Module):
    """Sizes and guards of many kinds, none of which is code."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        wide = torch.nn.functional.interpolate(x[None], scale_factor=1.7)[0]
        return wide, x.reshape(x.shape[0] * x.shape[1] // 2, -1), x[:, :, : x.shape[2] // 3], torch.nonzero(x > 0)


class Runs:
    def __init__(self, path: Path) -> None:
        self.command = f"touch {path}"

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.fixture(scope="session")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sizes") / "sizes.pt2"
    auto = torch.export.Dim.AUTO
    program = torch.export.export(Sizes(), (torch.rand(2, 4, 9),), dynamic_shapes={"x": {0: auto, 1: auto, 2: auto}})
    torch.export.save(program, path)
    return path


def changed(source: Path, path: Path, change: Callable[[str, bytes], bytes]) -> str:
    """A copy of a .pt2 file, each member by its name without the folder."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return str(path)


def saved(value: Any) -> bytes:
    torch.save(value, buffer := io.BytesIO())
    return buffer.getvalue()


def in_sizes(old: str, new: str) -> Callable[[str, bytes, Path], bytes]:
    def change(name: str, data: bytes, sign: Path) -> bytes:
        return data.replace(old.encode(), new.replace("SIGN", str(sign)).encode()) if "models/" in name else data

    return change


def in_example(name: str, data: bytes, sign: Path) -> bytes:
    return saved(((Runs(sign),), {})) if name.endswith(".pt") else data


SYMBOL = "Symbol('s77', positive=True, integer=True)"
SYSTEM = "__import__('os').system('touch SIGN')"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (in_example, r"a pickled (os|posix|nt)\.system"),
        (in_sizes(SYMBOL, f"{SYSTEM} or {SYMBOL}"), "a size that is code"),
        (in_sizes('"guards_code": [', f'"guards_code": ["{SYSTEM} == 0", '), "a guard that is code"),
        (in_sizes('{"name": "x"}', "{\"name\": \"x=open('SIGN','w')\"}"), "a name that is code"),
    ],
    ids=["example", "size", "guard", "name"],
)
def test_code_in_a_pt2_file_is_refused_before_it_runs(
    sizes: Path, tmp_path: Path, change: Callable[[str, bytes, Path], bytes], what: str
) -> None:
    sign = tmp_path / "sign"
    path = changed(sizes, tmp_path / "evil.pt2", lambda name, data: change(name, data, sign))
    with pytest.raises(ExportError, match=rf"it holds {what}.*runs code of whoever wrote it.*trust=True, or --trust"):
        load_torch(path)
    assert not sign.exists()
    with contextlib.suppress(ExportError):
        load_torch(path, trust=True)
    if change is in_example:
        assert sign.exists()


@pytest.mark.parametrize("member", ["data/weights/weight_9", "data/constants/tensor_9"])
def test_pickled_weights_of_a_pt2_file_are_read_as_weights_only(sizes: Path, tmp_path: Path, member: str) -> None:
    entry = {"path_name": member.rpartition("/")[2], "is_param": False, "use_pickle": True, "tensor_meta": None}
    config = json.dumps({"config": {"w": entry}}).encode()
    kind = "weights" if "weights" in member else "constants"
    for value, refused in ((torch.ones(2), False), (Runs(tmp_path / "sign"), True)):
        path = tmp_path / f"{refused}.pt2"
        changed(sizes, path, lambda name, data: config if name.endswith(f"{kind}_config.json") else data)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"sizes/{member}", saved(value))
        found = code_in_pt2(path)
        assert found.endswith(".system") if refused else not found


@pytest.mark.parametrize(
    ("member", "found"),
    [
        ("serialized_state_dict.pt", "a pickled "),
        ("serialized_example_inputs.pt", "a pickled "),
        ("serialized_constants.json", "a pickled "),
        ("net/data/weights/model.pt", "a pickled "),
        ("net/data/constants/opaque_obj_0", "a pickled object"),
        ("net/data/constants/custom_obj_0", "a pickled object"),
        ("net/data/aotinductor/model/net.so", "a compiled library"),
    ],
)
def test_other_layouts_of_pt2_files_are_looked_through_too(tmp_path: Path, member: str, found: str) -> None:
    with zipfile.ZipFile(tmp_path / "net.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("serialized_constants.pt", saved({}))
        archive.writestr(member, saved(Runs(tmp_path / "sign")))
    assert code_in_pt2(tmp_path / "net.pt2").startswith(found)
    assert not (tmp_path / "sign").exists()


def test_sizes_and_guards_of_many_kinds_are_no_code(sizes: Path) -> None:
    assert code_in_pt2(sizes) == ""
    assert load_torch(str(sizes)).open_dims["x"][0] == "batch"


def test_a_damaged_pt2_file_is_an_error_in_words(sizes: Path, tmp_path: Path) -> None:
    path = changed(sizes, tmp_path / "half.pt2", lambda name, data: data[:50] if "models/" in name else data)
    with pytest.raises(ExportError, match="not a file of PyTorch's, or damaged"):
        load_torch(path)


def test_torchscript_needs_shapes_and_goes_through_the_classic_exporter(tmp_path: Path) -> None:
    torch.jit.trace(Small().eval(), PICTURES).save(str(tmp_path / "small.pt"))
    with pytest.raises(ConfigError, match="give an example's, --shapes x:1x3x224x224"):
        load_torch(str(tmp_path / "small.pt"))
    source = load_torch(str(tmp_path / "small.pt"), shapes={"x": (2, 3, 16, 16)})
    exported = export_torch(source.module, source.example, open_dims=BATCH, output=tmp_path / "small.onnx")
    assert exported.converter == "torch.onnx (classic)"
    assert "TorchScript" in exported.notes[0]
    assert specs(exported)[0] == "x: float32[batch, 3, 16, 16]"


def test_weights_alone_are_refused_with_what_to_write(tmp_path: Path) -> None:
    torch.save(Small().state_dict(), tmp_path / "small.pth")
    with pytest.raises(ExportError, match=r"weights only \(features.0.weight.*FILE.py"):
        load_torch(str(tmp_path / "small.pth"))


def test_a_pickled_module_is_never_opened(tmp_path: Path) -> None:
    torch.save(Small(), tmp_path / "whole.pth")
    with pytest.raises(ExportError, match=r"holds a pickled .*Small; to read it runs code"):
        load_torch(str(tmp_path / "whole.pth"))
    (tmp_path / "text.pt").write_text("no model")
    with pytest.raises(ExportError, match="not a file of PyTorch's"):
        load_torch(str(tmp_path / "text.pt"))


def test_pytorch_is_asked_for_only_when_needed_and_its_absence_says_what_to_install() -> None:
    code = """
import sys
import workbench, workbench.export.pytorch.exporting, workbench.export.pytorch.source, workbench.export.example_models
assert "torch" not in sys.modules
sys.modules["torch"] = None  # as if it were not installed
try:
    workbench.export.pytorch.exporting.export_torch(object(), object())
except workbench.WorkbenchError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert (
        "PyTorch is not installed" in said and "make lab" in said and 'pip install "tensorrt-workbench[torch]"' in said
    )


@pytest.mark.parametrize("dim", ["1", "batch,", "", "a b"])
def test_a_dimension_needs_a_name_that_is_one(dim: str) -> None:
    with pytest.raises(ConfigError, match="needs a name such as 'batch'"):
        export_torch(torch.nn.ReLU(), torch.rand(2, 4), open_dims={"input": {0: dim}})


def test_what_people_try_first_is_answered_in_words() -> None:
    with pytest.raises(ConfigError, match=r"export\.load_torch\('net\.py:make'\)"):
        export_torch("net.py:make")
    with pytest.raises(ConfigError, match="give an example"):
        export_torch(torch.nn.ReLU())
    with pytest.raises(ConfigError, match=r"\{0: 'batch'\}"):
        export_torch(torch.nn.ReLU(), torch.rand(2, 4), open_dims={"input": [0]})  # type: ignore[dict-item]
