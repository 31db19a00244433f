"""A report on runs of the history: one page, or Markdown for a pull request.

collect(names)              everything there is to tell, as plain data
html(report)                one self-contained page; markdown(report) the same facts, short
save_report(report, path)   .html or .md
"""

from workbench.report.collecting import collect
from workbench.report.facts import Report
from workbench.report.html import html
from workbench.report.markdown import markdown
from workbench.report.saving import save_report

__all__ = ["Report", "collect", "html", "markdown", "save_report"]
