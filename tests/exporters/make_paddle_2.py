"""Models of Paddle 2.6, made inside its environment: `python make_paddle_2.py FOLDER FASHION_MNIST`.

A small network for Fashion-MNIST trained for a few steps and quantized in two ways, and a network that cannot become
ONNX. zlib and gzip come before Paddle, whose own zlib would crash Python's.
"""

import gzip
import lzma
import sys
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional
from paddle.quantization import QAT, QuantConfig
from paddle.quantization.imperative import ImperativeQuantAware
from paddle.quantization.quanters import FakeQuanterWithAbsMaxObserver
from paddle.static import InputSpec

TRAINED = 8000


class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv_1, self.norm = nn.Conv2D(1, 8, 3, stride=2, padding=1), nn.BatchNorm2D(8)
        self.conv_2, self.linear = nn.Conv2D(8, 16, 3, stride=2, padding=1), nn.Linear(16 * 49, 10)
        self.relu_1, self.relu_2 = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.relu_1(self.norm(self.conv_1(x)))
        return self.linear(self.relu_2(self.conv_2(x)).flatten(1))


class Unknown(nn.Layer):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return paddle.lgamma(self.linear(x))


def train(net, pictures, labels, steps, rate):
    net.train()
    optimizer = paddle.optimizer.Adam(rate, parameters=net.parameters())
    random = np.random.default_rng(0)
    for _ in range(steps):
        rows = random.integers(0, TRAINED, 64)
        loss = functional.cross_entropy(net(paddle.to_tensor(pictures[rows])), paddle.to_tensor(labels[rows]))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
    return net


def main():
    folder, data = Path(sys.argv[1]), Path(sys.argv[2])
    images = lzma.decompress((data / "t10k-images-idx3-ubyte.xz").read_bytes())
    classes = gzip.decompress((data / "t10k-labels-idx1-ubyte.gz").read_bytes())
    pictures = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28).astype(np.float32) / 255
    labels = np.frombuffer(classes, np.uint8, offset=8).astype(np.int64)
    paddle.seed(0)
    picture = [InputSpec([None, 1, 28, 28], "float32", "x")]
    net = train(Net(), pictures, labels, 150, 1e-3)

    quanter = FakeQuanterWithAbsMaxObserver(moving_rate=0.9)
    config = QuantConfig(activation=None, weight=None)
    config.add_type_config([nn.Conv2D, nn.Linear], activation=quanter, weight=quanter)
    net.train()
    aware = QAT(config)
    copy = train(aware.quantize(net, inplace=False), pictures, labels, 30, 3e-4)
    copy.eval()
    paddle.jit.save(aware.convert(copy, inplace=False), str(folder / "qat"), input_spec=picture)

    aware = ImperativeQuantAware(
        weight_quantize_type="channel_wise_abs_max",
        activation_quantize_type="moving_average_abs_max",
        onnx_format=True,
    )
    aware.quantize(net)
    train(net, pictures, labels, 50, 3e-4).eval()
    aware.save_quantized_model(net, str(folder / "imperative"), input_spec=picture)

    unknown = Unknown()
    unknown.eval()
    paddle.jit.save(unknown, str(folder / "unknown"), input_spec=[InputSpec([None, 4], "float32", "x")])


main()
