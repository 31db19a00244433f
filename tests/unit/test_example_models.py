"""The models the notebooks export: what they answer, and that their engines are built from the exports."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_sources import NEEDS_TORCH

from workbench.building import build
from workbench.engine import read_layers
from workbench.export.exported import Exported
from workbench.export.pytorch.exporting import export_torch
from workbench.model import load_model
from workbench.preprocessing import apply
from workbench.reference import Reference
from workbench.store import EngineStore

pytestmark = NEEDS_TORCH
DATA = Path(__file__).parents[2] / "data"
NAMES = gzip.decompress((DATA / "imagenet_classes.txt.gz").read_bytes()).decode().splitlines()


@pytest.fixture(scope="module")
def resnet() -> Any:
    from workbench.export.example_models import resnet18

    return resnet18()


@pytest.fixture(scope="module")
def resnet_export(resnet: Any, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    import torch

    return export_torch(
        resnet,
        torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)),
        open_dims={"input": {0: "batch"}},
        output=tmp_path_factory.mktemp("resnet") / "resnet18.onnx",
        output_names=["output"],
    )


@pytest.fixture(scope="module")
def efficientnet_export(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    import torch

    from workbench.export.example_models import efficientnet_lite0

    return export_torch(
        efficientnet_lite0(),
        torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)),
        open_dims={"inputs": {0: "batch"}},
        output=tmp_path_factory.mktemp("efficientnet") / "efficientnet_lite0.onnx",
        input_names=["image"],
        output_names=["logits"],
    )


def test_resnet18_has_torchvisions_layers_and_five_values(resnet: Any) -> None:
    state = resnet.state_dict()
    assert len(state) == 122 and sum(item.numel() for item in resnet.parameters()) == 11_179_077
    assert state["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert state["fc.weight"].shape == (5, 512)
    assert not resnet.training


def test_resnet18_is_the_same_for_the_same_seed_and_leaves_pytorchs_random_numbers_alone() -> None:
    import torch

    from workbench.export.example_models import resnet18

    before = torch.random.get_rng_state()
    one, two, other = (resnet18(seed=seed).fc.weight for seed in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_resnet18s_outputs_differ_between_pictures(resnet: Any) -> None:
    import torch

    with torch.no_grad():
        values = resnet(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert values.std(0).min() > 1e-3 and values.abs().max() > 0.1


def test_resnet18_exports_in_opset_17_with_its_modules_as_names(resnet_export: Exported) -> None:
    model = resnet_export.model
    assert (model.opset, model.proto.ir_version, len(model.nodes)) == (17, 8, 49)
    assert [str(spec) for spec in (*model.inputs, *model.outputs)] == [
        "input: float32[batch, 3, 64, 64]",
        "output: float32[batch, 5]",
    ]
    assert {"/conv1/Conv", "/layer1/0/conv1/Conv", "/layer4/1/Add", "/fc/Gemm"} <= {node.name for node in model.nodes}
    assert "layer1.0.conv1.weight" in {tensor.name for tensor in model.proto.graph.initializer}
    assert [parity.shapes["input"][0] for parity in resnet_export.parity] == [1, 2, 3]
    assert max(parity.relative for parity in resnet_export.parity) < 1e-5


@pytest.mark.rtx
def test_an_engine_of_resnet18_names_the_modules(resnet_export: Exported, store: EngineStore) -> None:
    built = build(resnet_export.model, None, "rtx", store=store)
    nodes = {node for layer in read_layers(built.engine) for node in layer.nodes}
    assert "/layer3/0/downsample/0/Conv" in nodes


@pytest.mark.parametrize(
    ("picture", "meant"),
    [
        ("chelsea", {"tabby, tabby cat", "tiger cat", "Egyptian cat"}),
        ("coffee", {"espresso", "cup"}),
        ("rocket", {"missile"}),
        ("camera", {"tripod"}),
    ],
)
def test_efficientnet_lite0_knows_the_photographs(picture: str, meant: set[str], efficientnet_export: Exported) -> None:
    from workbench.export.example_models import EFFICIENTNET_LITE0

    feeds = {"image": apply(EFFICIENTNET_LITE0, DATA / "pictures" / f"{picture}.jpg")}
    logits = Reference(efficientnet_export.model).run(feeds)["logits"]
    assert NAMES[int(np.argmax(logits))] in meant


def test_the_list_of_classes_is_imagenets() -> None:
    assert len(NAMES) == 1000
    assert (NAMES[0], NAMES[967]) == ("tench, Tinca tinca", "espresso")


def test_an_export_read_back_is_the_one_returned(resnet_export: Exported) -> None:
    assert load_model(resnet_export.model.path).sha256 == resnet_export.model.sha256
