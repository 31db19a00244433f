"""Widgets for JupyterLab: thin views over plain state."""

from workbench.widgets.builder import EngineBuilder
from workbench.widgets.calibration import CalibrationStudio
from workbench.widgets.exporter import ExportCard, Exporter
from workbench.widgets.fusion import FusionView
from workbench.widgets.graph import GraphView
from workbench.widgets.machine import MachineView
from workbench.widgets.pictures import Pictures
from workbench.widgets.shapes import DimensionTable, ShapeExplorer
from workbench.widgets.subgraphs import SubgraphView
from workbench.widgets.timing import TimingBoard
from workbench.widgets.tuner import Tuner

__all__ = [
    "CalibrationStudio",
    "DimensionTable",
    "EngineBuilder",
    "ExportCard",
    "Exporter",
    "FusionView",
    "GraphView",
    "MachineView",
    "Pictures",
    "ShapeExplorer",
    "SubgraphView",
    "TimingBoard",
    "Tuner",
]
