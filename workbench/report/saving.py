"""A Report as a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workbench.errors import ConfigError
from workbench.report.facts import Report
from workbench.report.html import html
from workbench.report.markdown import markdown
from workbench.saving import replace_file

_FORMS: dict[str, Callable[[Report], str]] = {".html": html, ".htm": html, ".md": markdown}


def check_path(path: str | Path) -> Path:
    """Raises ConfigError for an ending that no report has; before anything is looked up."""
    path = Path(path).expanduser()
    if path.suffix.lower() not in _FORMS:
        raise ConfigError(f"{path}: a report is written as .html or .md; end the file's name with one of them.")
    return path


def save_report(report: Report, path: str | Path) -> Path:
    """Write it as the path's ending says, in one step; makes its folder. Returns where. Raises ConfigError."""
    path = check_path(path)
    text = _FORMS[path.suffix.lower()](report)
    try:
        replace_file(path, text.encode(errors="replace"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{str(path)[:200]}: cannot be written ({why}); name a file in another folder.") from error
    return path
