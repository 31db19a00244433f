"""`workbench runs`: the history of builds, measurements and comparisons."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from workbench.errors import ConfigError, UnknownRun
from workbench.runs import Filter, History, Run, diff, export_runs, parse_since, run_to_json
from workbench.runs.differences import flat, median_words, texts, word
from workbench.runs.history import Baseline
from workbench.terminal import table
from workbench.types import LogLine, Progress, count_of

if TYPE_CHECKING:
    from workbench.tuning import Tuned

_FILTERS = tuple(item.name for item in fields(Filter))
_WIDE = 60
_NOTHING = word(None)


def runs(options: argparse.Namespace) -> tuple[Any, str]:
    """Lists them, or does what the first word says."""
    do, *given = options.what or ["list"]
    if do not in _VERBS:
        raise ConfigError(f"runs {do}: there is no such verb; choose one of {', '.join(_VERBS)}.")
    wanted, run = _VERBS[do]
    if len(given) != len(wanted.split()):
        takes = f"takes {wanted}" if wanted else "takes nothing more"
        raise ConfigError(f"runs {do} {takes}, not {count_of(len(given), 'word')}.")
    if do not in ("list", "export"):
        for name in _FILTERS:
            if getattr(options, name) not in ("", None):
                raise ConfigError(f"--{name} has no effect with `runs {do}`; leave it out.")
    return run(History(listener=_tell), given, options)


def _tell(event: Progress | LogLine) -> None:
    if isinstance(event, LogLine):
        print(f"workbench: {event.text}", file=sys.stderr)


def _filter(options: argparse.Namespace, limit: int | None) -> Filter:
    """limit: where --limit is not given; --limit 0 means all."""
    given = {name: getattr(options, name) for name in _FILTERS}
    if options.limit is not None:
        limit = options.limit or None
    return Filter(**{**given, "limit": limit, "since": parse_since(options.since) if options.since else None})


def _list(history: History, given: Sequence[str], options: argparse.Namespace) -> tuple[Any, str]:
    wanted = _filter(options, Filter.limit)
    found = history.list(wanted)
    if not found and wanted.study and _search(wanted.study):
        return [], f"no such runs: {wanted.study} is a search; `workbench runs show {wanted.study}` lists its runs"
    return [run_to_json(run) for run in found], _list_text(found, wanted)


def _list_text(found: Sequence[Run], wanted: Filter) -> str:
    if not found:
        return "no runs yet" if wanted == Filter() else "no such runs"
    rows = [("id", "at (UTC)", "kind", "model", "subject", "what came out", "inputs", "machine")]
    for run in found:
        when = run.at[:16].replace("T", " ")
        named = (run.id, when, run.kind, run.model or "-", _short(run.subject) or "-")
        rows.append((*named, _outcome(run), _short(run.shapes) or "-", run.machine_id))
    machines = {run.machine_id: run.machine for run in reversed(found) if run.machine_id}
    lines = [table(rows), "", *(f"{key}: {words}" for key, words in machines.items())]
    if wanted.limit == len(found):
        lines.append(f"The newest {len(found):,} are shown; --limit 0 shows all.")
    return "\n".join(lines)


def _outcome(run: Run) -> str:
    """The number that matters."""
    if run.kind == "trial":
        return _short(_trial_outcome(run))
    if run.median_ms is not None:
        return median_words(run)
    if run.loss is not None:
        return _loss(run)
    if run.kind == "build" and run.build_s is not None:
        size = "" if run.size_bytes is None else f", {run.size_bytes / 1e6:.1f} MB"
        return f"built in {run.build_s:.1f} s{size}"
    return "-"


def _loss(run: Run) -> str:
    unit = "% relative error" if run.metric == "relative" else f"points of {run.metric} lost"
    return f"{run.loss:.3g} {unit}"


def _trial_outcome(run: Run) -> str:
    """Time and loss, or why there is no more than a short look, or nothing."""
    if run.note:
        return f"{'failed' if run.median_ms is None else 'given up'}: {run.note}"
    told = [median_words(run)] if run.median_ms is not None else []
    return ", ".join([*told, *([_loss(run)] if run.loss is not None else [])]) or "-"


def _short(text: str) -> str:
    return text if len(text) <= _WIDE else text[: _WIDE - 3] + "..."


def _show(history: History, given: Sequence[str], options: argparse.Namespace) -> tuple[Any, str]:
    """A run; else the runs of a study, or of a search."""
    (which,) = given
    if run := history.find(which):
        return _show_run(history, run)
    every = Filter(limit=None)
    if found := history.list(replace(every, study=which.lower())) if which else ():
        return [run_to_json(run) for run in found], f"the study {which.lower()}\n\n{_list_text(found, every)}"
    if search := _search(which):
        return _show_search(history, search)
    raise UnknownRun(f"no run, study or search has an id that starts with {which!r}; `workbench runs` lists the runs.")


def _show_run(history: History, run: Run) -> tuple[Any, str]:
    data = history.data(run)
    told = [row for row in texts(run).items() if row[1] != _NOTHING]
    kept = _trial_rows(data) if run.kind == "trial" else []
    kept = kept or [(name, _short(value)) for name, value in flat(data) if value != _NOTHING]
    lines = [table(told), "", table(kept) if kept else "nothing more is kept of it"]
    return {**run_to_json(run), "data": data}, "\n".join(lines)


def _show_search(history: History, search: Tuned) -> tuple[Any, str]:
    """Its trials, those known from before it too, and what was measured in turns at its end."""
    every = Filter(limit=None)
    trials, finals = {item.id for item in search.trials}, {item.finals.id for item in search.columns if item.finals}
    found = tuple(run for run in history.list(every) if run.id in trials or run.study in finals)
    told = f"the search {search.id} of {search.model}: {search.summary}"
    more = f"`workbench report {search.id} -o report.html` tells what came out of it"
    data = {**search.to_json(), "runs": [run_to_json(run) for run in found]}
    listed = _list_text(found, every) if found else "none of its runs is in the history any more"
    return data, "\n\n".join([told, listed, more])


def _search(which: str) -> Tuned | None:
    """A search that was run here; its id looks as that of a run. Asked where no run is known, as the tuner takes half a
    second to import."""
    if not re.fullmatch("[0-9a-f]{1,12}", which.lower()):
        return None
    from workbench.tuning.recorded import stored_search

    return stored_search(which)


def _run(history: History, which: str) -> Run:
    """As History.get; of a search it says how its runs are found."""
    found = history.find(which)
    if found is None and _search(which):
        raise UnknownRun(f"{which} is a search, not a run; `workbench runs show {which}` lists its runs.")
    return found or history.get(which)


def _trial_rows(data: Any) -> list[tuple[str, str]]:
    """None where it cannot be read, as one of another release."""
    from workbench.tuning.telling import trial_rows
    from workbench.tuning.trial import trial_from_json

    try:
        return trial_rows(trial_from_json(data["trial"]))
    except (KeyError, TypeError, ValueError):
        return []


def _diff(history: History, given: Sequence[str], options: argparse.Namespace) -> tuple[Any, str]:
    one, other = (_run(history, which) for which in given)
    found = diff(one, other, *history.data_of([one, other]))
    rows = [(name, _short(mine), _short(theirs)) for name, mine, theirs in (*found.fields, *found.provenance)]
    text = table([("", one.id, other.id), *rows]) if rows else "nothing differs"
    return {"one": one.id, "other": other.id, **found.to_json()}, f"{text}\n\n{found.sentence}"


def _export(history: History, given: Sequence[str], options: argparse.Namespace) -> tuple[Any, str]:
    found = history.list(_filter(options, None))
    path = export_runs(history, found, given[0])
    return {"file": str(path), "runs": len(found)}, f"{count_of(len(found), 'run')}: {path}"


def _name(history: History, given: Sequence[str], options: argparse.Namespace) -> tuple[Any, str]:
    name, which = given
    before = {item.name: item for item in history.baselines()}.get(name)
    found = history.name_baseline(name, which)
    moved = f" (before: {_held(before)})" if before and before.runs != found.runs else ""
    return _baseline_to_json(found), f"{name}: {_held(found)}{moved}"


def _names(history: History, given: Sequence[str], options: argparse.Namespace) -> tuple[Any, str]:
    found = history.baselines()
    rows = [("name", "since (UTC)", "run or study", "what")]
    for item in found:
        what = "; ".join(f"{run.title}: {_outcome(run)}" for run in item.runs)
        rows.append((item.name, item.at[:16].replace("T", " "), item.study or item.runs[0].id, what))
    text = table(rows) if found else "no baselines yet: `workbench runs name NAME ID` names one"
    return [_baseline_to_json(item) for item in found], text


def _forget(history: History, given: Sequence[str], options: argparse.Namespace) -> tuple[Any, str]:
    """A baseline's name, else a run."""
    (which,) = given
    if which in {item.name for item in history.baselines()}:
        history.forget_baseline(which)
        return {"forgotten": which, "kind": "baseline"}, f"forgotten: the name {which}; its runs stay"
    run = _run(history, which)
    history.delete(run)
    return {"forgotten": run.id, "kind": "run"}, f"forgotten: {run.id} ({run.title})"


def _held(baseline: Baseline) -> str:
    if baseline.study:
        return f"{count_of(len(baseline.runs), 'run')} of the study {baseline.study}"
    return f"{baseline.runs[0].id} ({baseline.runs[0].title})"


def _baseline_to_json(baseline: Baseline) -> dict[str, Any]:
    found = {"name": baseline.name, "at": baseline.at, "study": baseline.study}
    return {**found, "runs": [run_to_json(run) for run in baseline.runs]}


_Verb = Callable[[History, Sequence[str], argparse.Namespace], tuple[Any, str]]
_VERBS: dict[str, tuple[str, _Verb]] = {
    "list": ("", _list),
    "show": ("ID", _show),
    "diff": ("ID ID", _diff),
    "export": ("FILE", _export),
    "name": ("NAME ID", _name),
    "names": ("", _names),
    "forget": ("ID", _forget),
}
"""By the first word: what must follow it, and what does it."""
