"""Slower than a named baseline, by more than is allowed, or noise: what a release can be staked on."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from workbench.accuracy import Interval
from workbench.errors import ConfigError
from workbench.runs.differences import (
    FASTER,
    INCOMPARABLE,
    SAME,
    TIMED_ALIKE,
    compare_times,
    median_words,
    obstacles,
    ratio_to_json,
    ratio_words,
)
from workbench.runs.history import Baseline
from workbench.runs.records import Run

MUST_AGREE = ("model_sha256", *TIMED_ALIKE, "threads")
"""Fields of Run in which a run and its baseline must agree; the rest may be what is tested."""


@dataclass(frozen=True)
class Regression:
    """ratio: of the median times, measured over baseline, with its 95 % interval; None where they are not comparable.
    verdict: 'faster', 'slower', 'no measurable difference' or 'not comparable'. failed: surely slower than allowed."""

    ratio: Interval | None
    verdict: str
    failed: bool
    sentence: str

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": ratio_to_json(self.ratio)}


def check(measured: Run, baseline: Run, max_slowdown: float) -> Regression:
    """max_slowdown: the share by which it may be slower: 0.05 for 5 %. It fails only if the lower end of the ratio's
    interval lies above 1 + max_slowdown: what noise may have done is no regression."""
    ratio, verdict = compare_times(measured, baseline, MUST_AGREE)
    if ratio is None:
        reasons = "; ".join(obstacles(measured, baseline, MUST_AGREE))
        return Regression(None, INCOMPARABLE, False, f"{INCOMPARABLE} with the baseline: {reasons}.")
    failed = ratio.low > 1 + max_slowdown
    return Regression(ratio, verdict, failed, _sentence(measured, baseline, (ratio, verdict), max_slowdown))


def match(measured: Run, baseline: Baseline) -> Run:
    """The run of the baseline that this one is to be compared with: the only one, or that of the same subject.

    Raises ConfigError where there is none, or no single one."""
    if len(baseline.runs) == 1:
        return baseline.runs[0]
    timed = [run for run in baseline.runs if run.median_ms is not None]
    alike = [run for run in timed if (run.subject, run.shapes) == (measured.subject, measured.shapes)]
    if len(alike) != 1:
        held = "; ".join(f"{run.subject} at {run.shapes}" for run in timed) or "nothing that was timed"
        what = "no run" if not alike else f"{len(alike)} runs"
        raise ConfigError(
            f"the baseline {baseline.name!r} holds {what} of {measured.subject} at {measured.shapes}, but {held}; "
            "name a single run: `workbench runs name NAME ID`."
        )
    return alike[0]


def parse_percentage(text: str) -> float:
    """'5%' -> 0.05. Raises ConfigError for what bears no % sign: 5 and 0.05 may mean either."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if not found:
        raise ConfigError(f"{text!r} is no percentage; write it with its sign, 0 or more, as 5% or 2.5%.")
    return float(found[1]) / 100


def _sentence(measured: Run, baseline: Run, found: tuple[Interval, str], max_slowdown: float) -> str:
    ratio, verdict = found
    allowed = f"{100 * max_slowdown:.4g} %"
    times = f"{measured.title}: {median_words(measured)}, the baseline {median_words(baseline)}"
    ratio_text = f"{ratio_words(ratio)} times as long"
    if not math.isfinite(ratio.high):
        return f"{times}; so few runs tell no interval: run longer to tell {allowed}."
    if ratio.low > 1 + max_slowdown:
        return f"{times}; {verdict}, {ratio_text} where {allowed} more is allowed."
    if ratio.high > 1 + max_slowdown:
        reach = f"the interval reaches from {ratio.low:.3g} to {ratio.high:.3g}: run longer to tell {allowed}"
        return f"{times}; {verdict}, {ratio.value:.4g} times as long, and {reach}."
    if verdict in (SAME, FASTER):
        return f"{times}; {verdict}, {ratio_text}."
    return f"{times}; {verdict}, {ratio_text}, within the {allowed} that are allowed."
