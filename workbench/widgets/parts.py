"""Small controls the widgets are put together from: a choice, a fold, code to copy, a labelled row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
from traitlets import Unicode

from workbench.widgets import render
from workbench.widgets.browser import CopyButton


@dataclass(frozen=True)
class Option:
    """One answer of a Choice; one that cannot be given carries the reason."""

    value: str
    label: str
    reason: str = ""


class Choice(widgets.HBox):
    """Buttons of which one is on. Those with a reason cannot be chosen and show it as their tooltip."""

    value = Unicode()

    def __init__(self, options: Sequence[Option] = (), value: str = "") -> None:
        super().__init__()
        self.add_class("wb-choice")
        self.offer(options, value)

    def offer(self, options: Sequence[Option], value: str) -> None:
        """Show other options, `value` being on."""
        self._buttons = {
            option.value: widgets.ToggleButton(
                description=option.label,
                tooltip=option.reason or option.label,
                disabled=bool(option.reason),
                value=option.value == value,
            )
            for option in options
        }
        for name, button in self._buttons.items():
            button.observe(lambda change, name=name: self._clicked(name, change["new"]), "value")
        self.children = tuple(self._buttons.values())
        self.value = value

    def _clicked(self, name: str, on: bool) -> None:
        if on:
            self.value = name
        self._show()

    def _show(self) -> None:
        for name, button in self._buttons.items():
            button.value = name == self.value

    def choose(self, value: str) -> None:
        self.value = value
        self._show()


class Fold(widgets.VBox):
    """A title that shows and hides what is below it."""

    def __init__(self, title: str, *children: Any, is_open: bool = False) -> None:
        self._title = title
        self._button = widgets.ToggleButton(value=is_open, tooltip=title)
        self._body = widgets.VBox(children)
        self._body.add_class("wb-foldbody")
        super().__init__([self._button, self._body])
        self.add_class("wb-fold")
        self._button.observe(lambda change: self._show(), "value")
        self._show()

    @property
    def is_open(self) -> bool:
        return bool(self._button.value)

    @is_open.setter
    def is_open(self, value: bool) -> None:
        self._button.value = value

    @property
    def title(self) -> str:
        return self._title

    @title.setter
    def title(self, text: str) -> None:
        self._title = text
        self._show()

    def on_toggle(self, callback: Any) -> None:
        self._button.observe(lambda change: callback(), "value")

    def _show(self) -> None:
        self._button.description = f"{'▾' if self.is_open else '▸'} {self._title}"
        self._body.layout.display = "" if self.is_open else "none"


class CodeFold:
    """The same as code, in the hands that `titles` names, always current: `state.code()` gives it by title."""

    def __init__(self, state: Any, titles: Sequence[str], traits: Sequence[str]) -> None:
        self.state = state
        self.kind = Choice([Option(name, name) for name in titles], titles[0])
        self.text = widgets.HTML()
        self.text.add_class("wb-code")
        self.copy = CopyButton(label="Copy")
        self.fold = Fold("Show code", self.kind, self.text, self.copy)
        self.kind.observe(lambda change: self._show(), "value")
        state.observe(lambda change: self._show(), list(traits))
        self._show()

    def _show(self) -> None:
        code = self.state.code().get(self.kind.value, "")
        self.copy.text = code
        self.text.value = render.code_block(code)


def row(label: str, *controls: Any) -> widgets.HBox:
    """A labelled row of a form."""
    box = widgets.HBox(controls)
    box.add_class("wb-controls")
    whole = widgets.HBox([widgets.HTML(f"<div class='wb-label'>{label}</div>"), box])
    whole.add_class("wb-row")
    return whole


def button(label: str, callback: Any, *, primary: bool = False) -> widgets.Button:
    made = widgets.Button(description=label, tooltip=label)
    made.add_class("wb-button")
    if primary:
        made.add_class("wb-primary")
    made.on_click(lambda _: callback())
    return made
