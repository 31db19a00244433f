"""Other people's viewers in a frame of the notebook, each with one model, asking nothing outside this machine.

view.netron(model)      any size, any format that Netron opens
view.visualdl(model)    up to 1,400 nodes, ONNX or Paddle
"""

from workbench.view.netron_view import netron
from workbench.view.viewer import Viewer
from workbench.view.visualdl_view import visualdl

__all__ = ["Viewer", "netron", "visualdl"]
