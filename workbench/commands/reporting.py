"""`workbench report`: runs of the history as one page, or as Markdown for a pull request."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.errors import UnknownRun
from workbench.report import collect, save_report
from workbench.report.choosing import Search, choose
from workbench.report.saving import check_path
from workbench.runs import History


def _parted(given: list[str]) -> tuple[list[str], list[Search]]:
    """What the history knows, or are files of studies, and searches of the tuner by id or file."""
    names, searches = [], []
    for name in given:
        search = _search(name)
        if search is None:
            names.append(name)
        else:
            searches.append(search)
    return names, searches


def _search(name: str) -> Search | None:
    """Looked up only where the history does not know the name, as the tuner takes half a second to import."""
    is_file = Path(name).expanduser().is_file()
    if not is_file and _is_known(name):
        return None
    from workbench.tuning.recorded import find_search, is_search
    from workbench.tuning.report import in_report

    if is_file and not is_search(name):
        return None
    try:
        return in_report(find_search(name))
    except UnknownRun:
        return None  # the report itself says what is not known


def _is_known(name: str) -> bool:
    try:
        choose(History(), [name])
    except UnknownRun:
        return False
    return True


def _title(names: list[str], searches: list[Search]) -> str:
    """Of searches alone; the report finds one for runs."""
    if names or not searches:
        return ""
    return f"The search for the best engine of {', '.join(dict.fromkeys(item.model for item in searches))}"


def report(options: argparse.Namespace) -> tuple[Any, str]:
    path = check_path(options.output)
    names, searches = _parted(options.runs)
    found = collect(names, options.title or _title(names, searches), searches=searches)
    saved = save_report(found, path)
    data = {"file": str(saved), "title": found.title, "verdict": list(found.verdict), "runs": list(found.runs)}
    return data, "\n".join([*found.verdict, str(saved)])
