"""A search as a report: one page or Markdown, with its front, its finals, the best engine and how to come to it again.

save_tuning_report(tuned, "tuning.html")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from workbench.accuracy import Interval
from workbench.engine import Engine
from workbench.report import Report, collect, save_report
from workbench.report.choosing import Search
from workbench.report.engines import Stock, stock_of
from workbench.report.facts import SearchColumn, SearchFacts, WinnerFacts
from workbench.report.saving import check_path
from workbench.store import EngineStore
from workbench.study import TIED, Study
from workbench.tables import Cell, Table
from workbench.tuning.again import build_again, search_again
from workbench.tuning.candidate import Candidate
from workbench.tuning.goals import Score, value_text
from workbench.tuning.html import told
from workbench.tuning.plots import plots_of
from workbench.tuning.result import Best, Column, Tuned
from workbench.tuning.telling import STATES
from workbench.tuning.trial import FAILED, Trial
from workbench.tuning.winning import gain


def save_tuning_report(tuned: Tuned, path: str | Path, again: Mapping[str, str] | None = None) -> Path:
    """Write it as .html or .md; returns where. again: code that runs the same search again, by title ('Shell', ...),
    from whoever started it; by default it is made from what the search itself keeps. Raises ConfigError, StoreError."""
    path = check_path(path)
    return save_report(collect_search(tuned, again=again), path)


def collect_search(
    tuned: Tuned, title: str = "", *, again: Mapping[str, str] | None = None, recordings: Sequence[Path] | None = None
) -> Report:
    """title, recordings: as `report.collect` takes them."""
    search = in_report(tuned, again)
    return collect([], title or f"The search for the best engine of {tuned.model}", recordings=recordings,
                   searches=[search])  # fmt: skip


def in_report(tuned: Tuned, again: Mapping[str, str] | None = None) -> Search:
    """A search made ready for `report.collect`, with the engines that the store of this machine has."""
    keys = {key for item in tuned.trials for key in item.engines}
    keys |= {key for column in tuned.columns if column.best for key in column.best.engines}
    stock = stock_of(EngineStore().engines(), sorted(keys))
    several = len(tuned.columns) > 1
    finals = {
        f"The finalists of {tuned.model} on {column.name}, in turns": _linked(tuned, column, stock)
        for column in tuned.columns
        if column.finals is not None
    }
    engines = {
        key: _name(tuned, column.best)
        for column in tuned.columns
        if column.best is not None and tuned.trial(column.best.trial).candidate.min_subgraph_size is None
        for key in column.best.engines
        if key in stock.engines
    }
    facts = SearchFacts(
        id=tuned.id,
        heading=f"{tuned.model} by {tuned.goals}",
        facts=tuple(_facts(tuned)),
        columns=tuple(_column(tuned, column, stock) for column in tuned.columns),
        trials=trials_table(tuned),
        again=search_again(tuned, stock.models.get(tuned.model_sha256), again or tuned.again),
        notes=tuned.notes,
        recorded=tuned.recorded,
    )
    verdict = tuple(_verdict(tuned, column, several) for column in tuned.columns)
    return Search(facts, tuned.model, tuned.model_sha256, tuple(filter(None, verdict)), finals, engines)


def _linked(tuned: Tuned, column: Column, stock: Stock) -> Study:
    """The finals with the engines of the store, which a file does not keep."""
    assert column.finals is not None
    engines: dict[str, Engine] = {}
    for item in tuned.trials:
        if len(item.engines) == 1 and item.engines[0] in stock.engines:
            engines[item.id] = stock.engines[item.engines[0]]
    subjects = tuple(
        replace(item, engine=engines.get(column.finalists.get(item.name, ""))) for item in column.finals.subjects
    )
    return replace(column.finals, subjects=subjects)


def _name(tuned: Tuned, best: Best) -> str:
    return str(tuned.trial(best.trial).candidate)


def _facts(tuned: Tuned) -> Iterator[tuple[str, str]]:
    yield "state", told(tuned)
    yield "ended", f"{tuned.at[:16].replace('T', ' ')} UTC" if tuned.at and tuned.seconds else tuned.at[:10]
    yield "id", tuned.id
    yield "data", tuned.data or "none: outputs were compared on random arrays"
    shapes = (f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in tuned.shapes.items())
    yield "one row", ", ".join(shapes)
    workers = dict.fromkeys(item.worker for item in tuned.trials if item.worker)
    yield "workers", ", ".join(workers) if len(workers) > 1 else ""


def _column(tuned: Tuned, column: Column, stock: Stock) -> SearchColumn:
    front = tuned.rows(column.name)
    table = replace(front, title=f"The front: {len(front.rows)} of {tuned.model}'s candidates") if front.rows else None
    space = [f"The space: {column.sizes}."] if column.sizes else []
    best = _winner(tuned, column.best, stock) if column.best is not None else None
    return SearchColumn(column.name, plots_of(tuned, column.name), table, best, (*space, *column.left_out))


def _winner(tuned: Tuned, best: Best, stock: Stock) -> WinnerFacts:
    trial = tuned.trial(best.trial)
    label = "engine" if len(best.engines) == 1 else "engines"
    missing = [key for key in best.engines if key not in stock.engines]
    facts = [(label, ", ".join(best.engines))]
    facts += [("in the store", "no longer, or not of this machine")] * bool(missing)
    facts += [("measured", _scores(trial.score))] if trial.score is not None else []
    facts.append(("built with", config_words(best)))
    facts.append(("run with", run_words(trial.candidate)))
    again = build_again(trial.candidate, best, stock, tuned.model_sha256)
    return WinnerFacts(str(trial.candidate), tuple(item for item in facts if item[1]), best.reason, again)


def _scores(score: Score) -> str:
    found = [value_text("latency", score.latency_ms.value), value_text("throughput", score.throughput.value)]
    found.append(f"{value_text('accuracy', score.loss.value, score.metric)} of {score.metric} lost")
    found.append(f"{score.size_bytes / 1e6:.2f} MB")
    return ", ".join(found)


def config_words(best: Best) -> str:
    """What is asked of the builder besides the defaults, in words."""
    config, options = best.config, best.config.builder
    told = [config.precision]
    if config.calibration is not None:
        told.append(f"ranges by {config.calibration.algorithm} from {config.calibration.path}")
    if config.workspace_bytes is not None:
        told.append(f"workspace of {config.workspace_bytes:,} bytes")
    told += [f"{name.replace('_', ' ')} {getattr(options, name)}" for name in options.changed]
    return ", ".join(told)


def run_words(candidate: Candidate) -> str:
    graph = {None: "", True: "with a CUDA graph", False: "without CUDA graph"}[candidate.cuda_graph]
    threads = "" if candidate.threads is None else f"threads={candidate.threads}"
    return ", ".join(filter(None, (f"batch {candidate.batch}", threads, graph)))


def _verdict(tuned: Tuned, column: Column, several: bool) -> str:
    """What was found, what it costs, and how it stands against what one would pick by hand."""
    where = f"On {column.name}: " if several else ""
    best = column.best
    if best is None:
        known = len(tuned.front(column.name))
        nothing = "nothing" if where else "Nothing"
        if known:
            return f"{where}{nothing} was chosen; {known} on the front."
        failed = all(item.state == FAILED for item in tuned.trials if item.column == column.name)
        return f"{where}{'every candidate failed' if failed else nothing + ' is within the limits'}."
    trial = tuned.trial(best.trial)
    loss = _loss(trial.score) if trial.score is not None else ""
    sentences = [f"{where}{trial.candidate} is the best found.", best.reason, _against(column), loss]
    return " ".join(filter(None, sentences))


def _loss(score: Score) -> str:
    loss, sure = score.loss, ""
    if not all(-1e300 < end < 1e300 for end in (loss.value, loss.low, loss.high)):
        return ""
    if loss.low < loss.high:
        sure = f" ({_text(loss.low, score.metric)} to {_text(loss.high, score.metric)} with 95 % confidence)"
    return f"It loses {_text(loss.value, score.metric)} of {score.metric}{sure}."


def _text(value: float, metric: str) -> str:
    return value_text("accuracy", value, metric)


def _against(column: Column) -> str:
    """In the finals' own terms, against the first of them, which is what one would have picked by hand."""
    finals, name = column.finals, column.best_name
    if finals is None or not name:
        return ""
    if name == finals.reference:
        return "It is what one would have picked by hand."
    other, found = gain(column)
    if found == TIED:
        return f"In turns there is no measurable difference to {other}."
    return f"In turns it is {found} compared with {other}." if found else ""


def trials_table(tuned: Tuned) -> Table:
    """Every trial, whatever became of it."""
    several = len(tuned.columns) > 1
    heads = ("trial", "candidate", "what became of it", "latency ms", "interval", "lost", "size MB", "seconds")
    more = (*(("machine",) if several else ()), "worker", "why")
    rows = tuple(_row(place, item, several) for place, item in enumerate(tuned.trials, 1))
    return Table(f"All {len(rows)} trials", (*heads, *more), rows)


def _row(place: int, item: Trial, several: bool) -> tuple[Cell, ...]:
    score = item.score
    times = (None, None) if score is None else (f"{score.latency_ms.value:.4g}", _ends(score.latency_ms))
    is_known = score is not None and abs(score.loss.value) < 1e300
    loss = _text(score.loss.value, score.metric) if score is not None and is_known else None
    size = None if score is None else f"{score.size_bytes / 1e6:.2f}"
    state = f"{STATES[item.state]}{', known from before' if item.known else ''}"
    state += f", try {item.attempts}" if item.attempts > 1 else ""
    why = " ".join(filter(None, (item.reason, *item.warnings)))
    seconds = f"{sum(item.seconds.values()):.1f}" if item.seconds else None
    where = (item.column,) if several else ()
    return (place, str(item.candidate), state, *times, loss, size, seconds, *where, item.worker or None, why or None)


def _ends(interval: Interval) -> str | None:
    if not (abs(interval.low) < 1e300 and abs(interval.high) < 1e300):
        return None
    return f"{interval.low:.4g} to {interval.high:.4g}"
