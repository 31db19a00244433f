"""MachineView: what this machine can do."""

from __future__ import annotations

import ipywidgets as widgets

from workbench.backends import available
from workbench.machine import this_machine
from workbench.widgets import render


class MachineView(widgets.HTML):
    """A table of the back ends: which build and run here, and why the others do not."""

    def __init__(self) -> None:
        super().__init__(render.STYLE + render.machine_table(this_machine(), available().values()))
        self.add_class("wb")
