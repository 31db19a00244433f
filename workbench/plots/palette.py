"""Colours and shapes of all plots: E. Ito and M. Okabe's for colour-blind readers, darker where paper needs it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TEXT, QUIET, GRID, PAPER = "#212121", "#616161", "#dedede", "#ffffff"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b57a00", "#2f93cf", "#8c8300", "#7a7a7a")
"""Each stands out from white and from black by a contrast of 3 or more (WCAG 2.2, success criterion 1.4.11)."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""matplotlib's, one for each of SERIES, so that no plot is told by colour alone."""
_DARK = (
    "#e6e6e6", "#b0b0b0", "#454545", "#111111",
    "#5aa9e6", "#ff8a50", "#2fc59a", "#e39ac4", "#f0b030", "#8fd0f7", "#e5db4d", "#bdbdbd",
)  # fmt: skip
_NAMES = ("text", "quiet", "grid", "paper", *(f"series-{number}" for number in range(1, len(SERIES) + 1)))
_JUPYTER = {
    "text": "--jp-ui-font-color1",
    "quiet": "--jp-ui-font-color2",
    "grid": "--jp-border-color2",
    "paper": "--jp-layout-color1",
}

LIGHT: Mapping[str, str] = MappingProxyType(
    {f"--wb-{name}": color for name, color in zip(_NAMES, (TEXT, QUIET, GRID, PAPER, *SERIES), strict=True)}
)
DARK: Mapping[str, str] = MappingProxyType({f"--wb-{name}": color for name, color in zip(_NAMES, _DARK, strict=True)})
"""CSS variables that a page sets for its themes; without them JupyterLab's are taken, then the colours of LIGHT."""

_PRECISIONS = ("fp32", "fp16", "int8", "bf16", "tf32")


def variables(theme: Mapping[str, str]) -> str:
    """LIGHT or DARK as CSS declarations."""
    return " ".join(f"{name}: {color};" for name, color in theme.items())


def css_value(color: str) -> str:
    """'var(--wb-text, ...)' for a colour of this module; any other as it is."""
    name = next((name for name, known in LIGHT.items() if known == color), None)
    if name is None:
        return color
    jupyter = _JUPYTER.get(name.removeprefix("--wb-"))
    return f"var({name}, var({jupyter}, {color}))" if jupyter else f"var({name}, {color})"


def series(number: int) -> tuple[str, str]:
    """Colour and marker of the contestant with this number, from 0; after the eighth they begin again."""
    return SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]


def by_precision(precision: str) -> tuple[str, str]:
    """Colour and marker, the same in every plot."""
    return series(_PRECISIONS.index(precision) if precision in _PRECISIONS else len(SERIES) - 1)
