"""How accurate: every back end and precision on all pictures of a data set, against the first of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workbench.accuracy import Interval
from workbench.calibration.collection import is_collection, load_collection
from workbench.calibration.samples import Samples, Skipped, batches, choose, read_samples
from workbench.comparing import PHASE, compare
from workbench.comparison import Comparison
from workbench.contest.entrants import Field, check_entrants, needs_profile, opened
from workbench.contest.feeding import Whole, check_batches, profile_of_sizes, read_sizes, whole_batch
from workbench.contest.rules import PADDLE, Contest, Entrant, Rules
from workbench.contest.source import Source
from workbench.engine import Engine
from workbench.errors import AccuracyError, ConfigError
from workbench.evaluation import Runs, overlap
from workbench.runs import Run, new_id, run_of_evaluation
from workbench.study import Subject
from workbench.types import Listener, LogLine, OptimizationProfile, Progress, count_of

Elsewhere = Callable[[Contest, Mapping[str, Engine], Mapping[str, Runs], list[Skipped]], Comparison]
"""Compares engines, which are open here too, on the contest's samples; adds those that cannot be read to the list."""
_TITLES = {
    "top1": "points of top-1 accuracy",
    "top5": "points of top-5 accuracy",
    "argmax": "points of pictures that keep their class",
    "relative": "percent of error in the outputs",
}


@dataclass(frozen=True)
class Accuracy:
    """id: of the study in the history. about: what was fed. failures: why one is missing, in a sentence, by name.
    warnings: what makes the numbers less than they seem."""

    id: str
    source: Source
    about: str
    subjects: tuple[Subject, ...]
    comparison: Comparison
    failures: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """The one that matters most among evaluation.METRICS that were measured."""
        known = (item.evaluation for item in self.comparison.contestants)
        return next((item.metrics[0] for item in known if item is not None), "relative")

    def check(self, most: float, metric: str = "") -> None:
        """Raise AccuracyError where the measured loss of one, in the metric's points, is larger; or cannot be told.

        What was measured decides; how sure it is, the sentence says. Raises ConfigError for a metric that was not, and
        where nothing was compared.
        """
        if len(self.comparison.contestants) + len(self.failures) < 2:
            raise ConfigError(f"{self.comparison.reference} is alone, and loses nothing against itself: name two.")
        metric = metric or self.metric
        lost = []
        for item in self.comparison.others:
            if item.evaluation is None:
                lost.append(f"{item.name} cannot be compared ({item.failure})")
                continue
            drop = item.evaluation.drop(metric)
            if not drop.value <= most:
                lost.append(
                    f"{item.name} lost {drop.value:.2f} ({drop.low:.2f} to {drop.high:.2f} with 95 % confidence)"
                )
        lost += [f"{name} is missing ({reason.rstrip('.')})" for name, reason in self.failures.items()]
        if lost:
            raise AccuracyError(f"{'; '.join(lost)}, where {most:g} {_TITLES[metric]} may be lost.")

    @property
    def verdicts(self) -> tuple[str, ...]:
        """What each lost against the first one, or that it lost nothing that can be told from chance; needs labels."""
        if self.metric != "top1":
            return ()
        found = ((item.name, item.evaluation.drop("top1")) for item in self.comparison.others if item.evaluation)
        return tuple(f"{name} {_verdict(drop)} against {self.comparison.reference}." for name, drop in found)

    def __str__(self) -> str:
        tables = [self.comparison.score_rows()]
        if self.comparison.others:
            tables.append(self.comparison.output_rows())
        missing = [f"{name}: {reason}" for name, reason in self.failures.items()]
        told = [*self.comparison.notes, *self.verdicts, *missing, *self.warnings]
        return "\n".join([self.about, *(f"\n{item}" for item in tables), "", *told]).rstrip()

    @property
    def runs(self) -> list[tuple[Run, dict[str, Any]]]:
        """For the history: a row for every one that was compared."""
        model, engines = self.source.model, {item.name: item.engine for item in self.subjects}
        return [
            (
                run_of_evaluation(found, model=model, engine=engines[item.name], subject=item.name, study=self.id),
                found.to_json(),
            )
            for item in self.comparison.contestants
            if (found := item.evaluation) is not None
        ]

    def to_json(self) -> dict[str, Any]:
        model = self.source.model
        about = {"model": str(model.path), "model_sha256": model.sha256, "data": self.about, "note": self.source.note}
        subjects = [{**vars(item), "engine": item.engine.key if item.engine else None} for item in self.subjects]
        return {
            **about,
            "study": self.id,
            "samples": self.comparison.count,
            "metric": self.metric,
            "subjects": subjects,
            "comparison": self.comparison.to_json(),
            "failures": dict(self.failures),
            "warnings": list(self.warnings),
        }


def accuracy(contest: Contest, elsewhere: Elsewhere | None = None) -> Accuracy:
    """Run all samples through all that can run here, one batch after another, and compare them with the first.

    Data without labels tell how far outputs agree. elsewhere: compares them in place of this process; what cannot run
    here is left out all the same. Raises as `benchmark` does, and ConfigError for Paddle, which runs here only.
    """
    source, samples, rules = contest.source, contest.samples, contest.rules
    check_entrants(contest)
    if elsewhere is not None:
        check_engines(contest.entrants)
    check_batches(source.model, rules.batches[:1])
    chosen, skipped = choose(len(samples), rules.samples), list[Skipped]()
    first = next(read_samples(samples, chosen, strict=rules.strict, skipped=[])).feeds
    with opened(contest, _profile(contest, chosen), whole_batch(source.model, first)) as field:
        runs: dict[str, Runs] = {name: Whole(session, source.model) for name, session in field.sessions.items()}
        if elsewhere is None:
            read = batches(read_samples(samples, chosen, strict=rules.strict, skipped=skipped), rules.batches[0])
            compared = compare(runs, read, listener=_counted(contest.listener, len(chosen)), cancel=contest.cancel)
        else:
            compared = elsewhere(contest, _engines(field), runs, skipped)
        contest.listener(Progress(PHASE, len(chosen), len(chosen)))
    warnings = (*_left_out(skipped), *_served_twice(compared, rules), *_unlabelled(samples, compared))
    return Accuracy(new_id(), source, samples.about, tuple(field.subjects.values()), compared, field.failures, warnings)


def check_engines(entrants: Sequence[Entrant]) -> None:
    """Raise ConfigError for one that is no engine, and cannot be sent to workers."""
    if any(item.backend == PADDLE for item in entrants):
        raise ConfigError(
            "paddle runs in an environment of this machine, not on a scheduler's workers: leave out paddle or the "
            "scheduler."
        )


def _engines(field: Field) -> dict[str, Engine]:
    return {name: item.engine for name, item in field.subjects.items() if item.engine is not None}


def _profile(contest: Contest, chosen: Sequence[int]) -> OptimizationProfile | None:
    """For all samples. They are read for it only where their sizes may differ and an engine has to know."""
    model = contest.source.model
    by_size = any(axis > 0 for spec in model.inputs for axis in spec.open_axes)
    if not (by_size and any(map(needs_profile, contest.entrants))):
        chosen = chosen[:1]
    return profile_of_sizes(model, read_sizes(contest, chosen), contest.rules.batches[0])


def _counted(listener: Listener, total: int) -> Listener:
    """Progress with the number of samples, which `compare` does not know."""

    def tell(event: Progress | LogLine) -> None:
        listener(replace(event, total=total) if isinstance(event, Progress) else event)

    return tell


def _verdict(drop: Interval) -> str:
    sure = f"{drop.low:+.2f} to {drop.high:+.2f} with 95 % confidence"
    if drop.low <= 0 <= drop.high:
        return f"shows no measurable loss of top-1 accuracy ({drop.value:+.2f} points, {sure})"
    word = "loses" if drop.value > 0 else "gains"
    return f"{word} {abs(drop.value):.2f} points of top-1 accuracy ({sure} lost)"


def _left_out(skipped: Sequence[Skipped]) -> tuple[str, ...]:
    if not skipped:
        return ()
    names = ", ".join(item.id for item in skipped[:5])
    return (f"{count_of(len(skipped), 'sample')} left out for being unreadable: {names}.",)


def _served_twice(compared: Comparison, rules: Rules) -> tuple[str, ...]:
    path = rules.calibration.path if rules.calibration else None
    if path is None or not is_collection(path):
        return ()
    warning = overlap(compared.digests, load_collection(path).samples.values())
    return (warning,) if warning else ()


def _unlabelled(samples: Samples, compared: Comparison) -> tuple[str, ...]:
    if not samples.has_labels:
        return (
            f"The data have no labels: accuracy cannot be told, but how far outputs agree with {compared.reference}.",
        )
    scores = [item.evaluation.top1 for item in compared.contestants if item.evaluation]
    return () if any(scores) else ("No output gives one number for each class, so the labels tell no accuracy.",)
