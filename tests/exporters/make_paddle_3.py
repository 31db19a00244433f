"""Models of Paddle 3, made inside its environment: `python make_paddle_3.py FOLDER`."""

import sys
import zlib  # noqa: F401  before Paddle, as in the converter
from pathlib import Path

import paddle
from paddle import nn
from paddle.nn import functional
from paddle.static import InputSpec


class Pyramid(nn.Layer):
    """Upsampling and skip connections, as in a text detector: its scales are float64 in Paddle 3.3's files."""

    def __init__(self):
        super().__init__()
        self.down_1 = nn.Conv2D(3, 8, 3, stride=2, padding=1)
        self.down_2 = nn.Conv2D(8, 16, 3, stride=2, padding=1)
        self.norm, self.side = nn.BatchNorm2D(16), nn.Conv2D(8, 16, 1)
        self.up, self.head = nn.Conv2DTranspose(16, 8, 2, stride=2), nn.Conv2D(8, 1, 1)

    def forward(self, x):
        fine = functional.hardswish(self.down_1(x))
        coarse = functional.relu(self.norm(self.down_2(fine)))
        coarse = functional.interpolate(coarse, scale_factor=2, mode="nearest")
        joined = functional.interpolate(coarse + self.side(fine), scale_factor=[1.0, 1.0], mode="bilinear")
        return functional.sigmoid(self.head(self.up(joined)))


class Norms(nn.Layer):
    """Epsilons in float64, which paddle2onnx 2.1 reads as whatever lies in memory."""

    def __init__(self):
        super().__init__()
        self.embed, self.layer_norm = nn.Linear(12, 16), nn.LayerNorm(16, epsilon=1e-3)
        self.group_norm, self.linear = nn.GroupNorm(4, 16, epsilon=1e-2), nn.Linear(16, 5)

    def forward(self, x):
        x = self.layer_norm(functional.leaky_relu(self.embed(x), 0.2))
        x = self.group_norm(x.transpose([0, 2, 1]).unsqueeze(-1)).squeeze(-1).transpose([0, 2, 1])
        return self.linear(functional.gelu(x))


class Unknown(nn.Layer):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return paddle.linalg.svd(paddle.lgamma(self.linear(x)))[1]


class Refused(nn.Layer):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return functional.softplus(self.linear(x), beta=2.0)


def save(layer, name, shape):
    layer.eval()
    spec = [InputSpec(shape, "float32", "x")]
    paddle.jit.save(paddle.jit.to_static(layer, input_spec=spec, full_graph=True), str(Path(sys.argv[1]) / name))


paddle.seed(0)
save(paddle.vision.models.mobilenet_v3_small(num_classes=20), "mobilenet", [None, 3, 64, 64])
save(Pyramid(), "pyramid", [None, 3, None, None])
save(Norms(), "norms", [None, None, 12])
save(Unknown(), "unknown", [None, 4, 4])
save(Refused(), "refused", [None, 4])
