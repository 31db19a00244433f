"""`workbench report`: runs of the history as one page, or as Markdown for a pull request."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.report import collect, save_report
from workbench.report.saving import check_path


def report(options: argparse.Namespace) -> tuple[Any, str]:
    path = check_path(options.output)
    found = collect(options.runs, options.title)
    saved = save_report(found, path)
    data = {"file": str(saved), "title": found.title, "verdict": list(found.verdict), "runs": list(found.runs)}
    return data, "\n".join([*found.verdict, str(saved)])
