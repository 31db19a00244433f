"""Widgets for JupyterLab: thin views over plain state."""

from workbench.widgets.builder import EngineBuilder
from workbench.widgets.machine import MachineView

__all__ = ["EngineBuilder", "MachineView"]
