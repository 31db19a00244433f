"""Train the workbench's small example, a residual CNN on Fashion-MNIST, and export it to ONNX.

    apt-get install dataset-fashion-mnist
    pip install torch==2.13.0 onnx onnxruntime
    python train_fashion_cnn.py --out models/fashion_cnn.onnx

The ONNX file takes `image`, float32 [batch, 1, 28, 28] with pixels in [0, 1], and gives `logits`, float32
[batch, 10]. There is no normalisation step: the first BatchNormalization learns it. Convolution, batch norm and
ReLU stay separate nodes, because what TensorRT makes of them is what the workbench shows.
"""

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 7
BATCH = 128
PEAK_LEARNING_RATE = 0.01
MAX_RELATIVE_ERROR = 1e-4


class ConvBlock(nn.Sequential):
    """3x3 convolution, batch norm, and a ReLU unless a residual add follows."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)
        if relu:
            self.relu = nn.ReLU()


class ResidualBlock(nn.Module):
    """Two convolutions around which the input takes a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels)
        self.second = ConvBlock(channels, channels, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.first(x)) + x)


class FashionCNN(nn.Module):
    """28x28 at 16 channels, 14x14 at 32, 7x7 at 64, then the mean over each channel and a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBlock(1, 16)
        self.down1 = ConvBlock(16, 32, stride=2)
        self.residual1 = ResidualBlock(32)
        self.down2 = ConvBlock(32, 64, stride=2)
        self.residual2 = ResidualBlock(64)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        features = self.residual1(self.down1(self.stem(image)))
        features = self.residual2(self.down2(features))
        return self.classifier(self.flatten(self.pool(features)))


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped idx file of bytes: two zeros, type code, number of dimensions, big-endian sizes, data."""
    raw = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(raw, ">u4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes)


def load_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Pictures, float32 [n, 1, 28, 28] in [0, 1], and labels, int64 [n]; `split` is `train` or `t10k`."""
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz")
    return torch.from_numpy(images.astype(np.float32) / 255).unsqueeze(1), torch.from_numpy(labels.astype(np.int64))


def augment(images: Tensor) -> Tensor:
    """Mirror a random half of the batch, and shift the whole batch by up to two pixels."""
    mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
    images = torch.where(mirrored, images.flip(3), images)
    down, right = torch.randint(0, 5, (2,)).tolist()
    return F.pad(images, (2, 2, 2, 2))[:, :, down : down + 28, right : right + 28]


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """AdamW under a one-cycle learning rate with label smoothing; prints one line per epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    steps_per_epoch = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, epochs * steps_per_epoch)
    started = time.perf_counter()
    model.train()
    for epoch in range(1, epochs + 1):
        total_loss = 0.0
        for picked in torch.randperm(len(images)).split(BATCH):
            loss = F.cross_entropy(model(augment(images[picked])), labels[picked], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item() * len(picked)
        elapsed_s = time.perf_counter() - started
        print(f"epoch {epoch}/{epochs}: loss {total_loss / len(images):.4f}, {elapsed_s:.0f} s", flush=True)


@torch.no_grad()
def top1(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of pictures whose largest logit is the label's."""
    model.eval()
    guesses = torch.cat([model(part).argmax(1) for part in images.split(1000)])
    return (guesses == labels).double().mean().item()


def export(model: nn.Module, path: Path) -> None:
    """Write the model in inference mode as ONNX, opset 17, with an open batch dimension, and check the file.

    TrainingMode.PRESERVE keeps the exporter from folding batch norm into the convolutions; the module's own
    eval() still makes it use the running statistics.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        model.eval(),
        (torch.zeros(1, 1, 28, 28),),
        str(path),
        dynamo=False,
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
    )
    onnx.checker.check_model(str(path), full_check=True)


@torch.no_grad()
def relative_error(model: nn.Module, path: Path, images: Tensor) -> float:
    """Largest difference between ONNX Runtime's logits and PyTorch's, over PyTorch's largest logit."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (actual,) = session.run(["logits"], {"image": images.numpy()})
    expected = model.eval()(images).numpy()
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--threads", type=int, default=2, help="another number changes the last digits of the weights")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        help="folder with the four idx .gz files",
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models" / "fashion_cnn.onnx")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(SEED)
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    train_images, train_labels = load_split(arguments.data, "train")
    test_images, test_labels = load_split(arguments.data, "t10k")

    model = FashionCNN().to(memory_format=torch.channels_last)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters")
    train(model, train_images, train_labels, arguments.epochs)
    print(f"top-1 train {top1(model, train_images, train_labels):.2%}")
    print(f"top-1 test {top1(model, test_images, test_labels):.2%}")

    export(model.to(memory_format=torch.contiguous_format), arguments.out)
    for batch in (1, 64):
        error = relative_error(model, arguments.out, test_images[:batch])
        print(f"ONNX Runtime against PyTorch at batch {batch}: relative error {error:.1e}")
        if error > MAX_RELATIVE_ERROR:
            raise SystemExit(f"{arguments.out} differs from the trained model by more than {MAX_RELATIVE_ERROR}.")


if __name__ == "__main__":
    main()
