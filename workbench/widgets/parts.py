"""Small controls the widgets are put together from: a choice, a fold, code to copy, a labelled row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
from traitlets import Unicode, link

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

    def __init__(self, state: Any, titles: Sequence[str], traits: Sequence[str], label: str = "Show code") -> None:
        self.state = state
        self.kind = Choice([Option(name, name) for name in titles], titles[0])
        self.text = widgets.HTML()
        self.text.add_class("wb-code")
        self.copy = CopyButton(label="Copy")
        self.fold = Fold(label, self.kind, self.text, self.copy)
        self.kind.observe(lambda change: self._show(), "value")
        state.observe(lambda change: self._show(), list(traits))
        self._show()

    def _show(self) -> None:
        code = self.state.code().get(self.kind.value, "")
        self.copy.text = code
        self.text.value = render.code_block(code)


class Select:
    """A dropdown whose options follow the state. chosen: called with what the user takes."""

    def __init__(self, label: str, chosen: Any, width: str = "300px") -> None:
        self.control = widgets.Dropdown(layout=widgets.Layout(width=width), tooltip=label)
        self._is_offering = False
        self.control.observe(lambda change: self._is_offering or chosen(change["new"] or ""), "value")

    def offer(self, options: Sequence[Any], value: str | None) -> None:
        """options: texts, or pairs of a text and its value."""
        self._is_offering = True
        if list(self.control.options) != list(options):
            self.control.options = options
        self.control.value = value
        self._is_offering = False


def said(text: str) -> widgets.Label:
    """Words between the fields of a row."""
    label = widgets.Label(text)
    label.add_class("wb-quiet")
    return label


def field(state: Any, trait: str, width: str, placeholder: str = "", label: str = "") -> widgets.Text:
    """A text that is taken over with Enter or when it is left."""
    made = widgets.Text(
        placeholder=placeholder, continuous_update=False, layout=widgets.Layout(width=width), tooltip=label or trait
    )
    link((state, trait), (made, "value"))
    return made


def number(state: Any, trait: str, width: str = "76px") -> widgets.Text:
    made = field(state, trait, width)
    made.add_class("wb-number")
    return made


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
