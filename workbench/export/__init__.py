"""Every road into ONNX: a framework's model -> a checked Model that answers as the framework does.

export.torch(module, example, open_dims={"input": {0: "batch"}})
export.paddle("inference/")          export.tensorflow("saved_model/")
export.network("tiny", describe)     NVIDIA's API, layer by layer, no ONNX at all
"""

from workbench.export.exported import Exported, Parity
from workbench.export.from_paddle import export_paddle as paddle
from workbench.export.from_tensorflow import export_tensorflow as tensorflow
from workbench.export.network import build_network as network
from workbench.export.pytorch.exporting import export_torch as torch
from workbench.export.pytorch.source import load_torch
from workbench.paddle_config import read_preprocessing

__all__ = ["Exported", "Parity", "load_torch", "network", "paddle", "read_preprocessing", "tensorflow", "torch"]
