"""The networks of gpu_latency.py in plain PyTorch, with weights generated from a seed, and their ONNX files.

python benchmarks/gpu_models.py FOLDER MODEL...     writes MODEL.onnx (opset 17, open batch), MODEL.pt, MODEL.npz
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from gpu_peers.cells import MODELS, SAMPLES
from torch import Tensor, nn

SEED = 0
OPSET = 17
"""The last one that TensorRT 8.6 takes."""


class Block(nn.Module):
    """ResNet's basic block: two 3x3 convolutions and what they are added to."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """As torchvision's, with five outputs in place of a thousand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        sizes = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        self.blocks = nn.Sequential(
            *(block for a, b, stride in sizes for block in (Block(a, b, stride), Block(b, b, 1)))
        )
        self.fc = nn.Linear(512, 5)

    def forward(self, input: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(input))), 3, 2, 1)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.blocks(x), 1), 1))


def conv_bn(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class MBConv(nn.Module):
    """Widen by 1x1, 3x3 or 5x5 depth-wise, narrow by 1x1; added to its input where the sizes allow."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, widen: int) -> None:
        super().__init__()
        wide = inputs * widen
        layers = [*conv_bn(inputs, wide, 1), nn.ReLU6()] if widen != 1 else []
        layers += [*conv_bn(wide, wide, size, stride, wide), nn.ReLU6(), *conv_bn(wide, outputs, 1)]
        self.layers = nn.Sequential(*layers)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """EfficientNet without squeeze-and-excite, ReLU6 in place of swish; a thousand outputs."""

    STAGES = (
        (16, 3, 1, 1, 1),
        (24, 3, 2, 6, 2),
        (40, 5, 2, 6, 2),
        (80, 3, 2, 6, 3),
        (112, 5, 1, 6, 3),
        (192, 5, 2, 6, 4),
        (320, 3, 1, 6, 1),
    )
    """Channels, kernel, stride of the first block, how much wider inside, blocks."""

    def __init__(self) -> None:
        super().__init__()
        layers, channels = [*conv_bn(3, 32, 3, 2), nn.ReLU6()], 32
        for outputs, size, stride, widen, repeats in self.STAGES:
            for index in range(repeats):
                layers.append(MBConv(channels, outputs, size, 1 if index else stride, widen))
                channels = outputs
        self.features = nn.Sequential(*layers, *conv_bn(320, 1280, 1), nn.ReLU6())
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, input: Tensor) -> Tensor:
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(self.features(input), 1), 1))


class TransformerLayer(nn.Module):
    """BERT's: attention, then two linear layers, each added to what came in and normalized."""

    def __init__(self, hidden: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(hidden, hidden) for _ in range(4))
        self.widen, self.narrow = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.norm1, self.norm2 = nn.LayerNorm(hidden, 1e-12), nn.LayerNorm(hidden, 1e-12)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.size(0), x.size(1), self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.norm1(x + self.output(seen.transpose(1, 2).reshape(x.shape)))
        return self.norm2(x + self.narrow(F.gelu(self.widen(x))))


class MiniLM(nn.Module):
    """The encoder of all-MiniLM-L6: BERT with 6 layers, 12 heads, 384 numbers for every word."""

    HIDDEN, HEADS, INNER, LAYERS, WORDS, LONGEST = 384, 12, 1536, 6, 30522, 512

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(self.WORDS, self.HIDDEN)
        self.positions = nn.Embedding(self.LONGEST, self.HIDDEN)
        self.types = nn.Embedding(2, self.HIDDEN)
        self.norm = nn.LayerNorm(self.HIDDEN, 1e-12)
        self.layers = nn.ModuleList(TransformerLayer(self.HIDDEN, self.HEADS, self.INNER) for _ in range(self.LAYERS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        x = self.words(input_ids) + self.types(token_type_ids) + self.positions.weight[: input_ids.size(1)]
        x = self.norm(x)
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * -10000.0
        for layer in self.layers:
            x = layer(x, mask)
        return x


CLASSES: dict[str, Callable[[], nn.Module]] = {
    "resnet18": ResNet18,
    "efficientnet_lite0": EfficientNetLite0,
    "minilm_l6": MiniLM,
}


def make(name: str) -> nn.Module:
    """The network in eval mode, its weights drawn from SEED so that activations keep their size from layer to layer."""
    torch.manual_seed(SEED)
    network = CLASSES[name]()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Embedding) or (isinstance(module, nn.Linear) and not norms):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight.shape[-1]))
    if norms:
        _learn_statistics(network, norms, samples(name, 16, SEED + 1))
    return network.eval()


def _learn_statistics(network: nn.Module, norms: list[nn.BatchNorm2d], feeds: dict[str, np.ndarray]) -> None:
    """What training would leave in the batch norms: mean and variance of what comes in, over a few pictures."""
    for norm in norms:
        norm.momentum = None  # the plain average of all batches
    with torch.no_grad():
        for half in torch.from_numpy(feeds["input"]).chunk(2):
            network.train()(half)


def samples(name: str, count: int, seed: int = SEED) -> dict[str, np.ndarray]:
    """Inputs by name, `count` of them: patches of colour with noise, or sentences of random words, some shorter."""
    draw = np.random.default_rng(seed)
    inputs = MODELS[name].inputs
    if "input" in inputs:
        patches = draw.standard_normal((count, 3, 14, 14), np.float32).repeat(16, 2).repeat(16, 3)
        return {"input": patches + 0.3 * draw.standard_normal(patches.shape, np.float32)}
    (length,) = inputs["input_ids"].shape
    lengths = draw.integers(length // 2, length + 1, count)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    words = draw.integers(1, MiniLM.WORDS, (count, length)) * mask
    return {"input_ids": words, "attention_mask": mask, "token_type_ids": np.zeros_like(words)}


def load(folder: Path, name: str) -> nn.Module:
    """The network with the very weights that `write` gave the ONNX file."""
    network = CLASSES[name]()
    network.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    return network.eval()


def write(folder: Path, name: str) -> Path:
    """MODEL.onnx, MODEL.pt with the weights and MODEL.npz with SAMPLES inputs, the ONNX file last."""
    network, model = make(name), MODELS[name]
    np.savez(folder / f"{name}.npz", **samples(name, SAMPLES))
    torch.save(network.state_dict(), folder / f"{name}.pt")
    example = tuple(torch.from_numpy(array) for array in samples(name, 2).values())
    axes = {0: "batch"} if "input" in model.inputs else {0: "batch", 1: "sequence"}
    path = folder / f"{name}.onnx"
    with tempfile.TemporaryDirectory(dir=folder) as work, warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            example,
            str(Path(work) / path.name),
            dynamo=False,
            opset_version=OPSET,
            input_names=[*model.inputs],
            output_names=[model.output],
            dynamic_axes=dict.fromkeys(model.inputs, axes) | {model.output: axes},
        )
        (Path(work) / path.name).replace(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+", choices=CLASSES, metavar="MODEL")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        print(write(options.folder, name))


if __name__ == "__main__":
    main()
