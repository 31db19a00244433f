"""Runs of the history -> Report: everything is looked up here, nothing is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from workbench.accuracy import difference_from_json
from workbench.comparison import Comparison
from workbench.errors import ConfigError, ViewError
from workbench.plots import Plot, distribution, layers, medians, pareto, throughput
from workbench.recorded import load_recorded, recorded_folders
from workbench.report.choosing import Chosen, Group, Search, choose, comparisons_of, groups_of
from workbench.report.engines import engine_facts, model_facts, shape_table, stock_of
from workbench.report.facts import AccuracyFacts, FusionFacts, ModelFacts, RecordedFacts, Report, TimingFacts
from workbench.report.insides import calibration_facts, change_between, fusion_facts, measured_by_engine, shown_engines
from workbench.report.repeating import repeats
from workbench.report.verdict import pareto_points, verdict
from workbench.runs import History
from workbench.store import EngineStore
from workbench.study import Study
from workbench.tables import Table


def collect(
    names: Sequence[str],
    title: str = "",
    *,
    recordings: Iterable[Path] | None = None,
    searches: Sequence[Search] = (),
) -> Report:
    """names: as `choose` takes them; none are needed beside searches, which tuning.report makes ready. title: default
    tells the models. recordings: folders of what was recorded on a GPU; those in data/recorded by default.

    Raises UnknownRun, StoreError, ViewError, ConfigError.
    """
    chosen = choose(History(), names) if names or not searches else Chosen(())
    chosen = replace(chosen, searches=tuple(searches))
    stock = stock_of(EngineStore().engines(), chosen.engines)
    groups = groups_of(chosen, stock.engines)
    engines = engine_facts(chosen, groups, stock)
    models = model_facts(chosen, groups, stock)
    shown = shown_engines(engines, groups, stock)
    fusions = fusion_facts(shown, measured_by_engine(groups))
    recorded, notes = _recorded(models, recorded_folders() if recordings is None else recordings)
    best = {key for search in searches for key in search.engines}  # built again as their search tells
    told = ", ".join(dict.fromkeys(item.name for item in models if item.name)) or "runs"
    return Report(
        title=title or f"Report on {told}",
        written_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        verdict=(*(text for search in searches for text in search.verdict), *_verdict(groups)),
        models=models,
        engines=engines,
        shapes=shape_table(engines, stock),
        fusions=fusions,
        change=change_between(shown),
        calibrations=calibration_facts(engines, stock),
        accuracies=tuple(_accuracies(chosen)),
        losses=tuple(_losses(chosen)),
        timings=tuple(_timing(group, fusions if place == 0 else ()) for place, group in enumerate(groups)),
        repeats=repeats([item for item in engines if item.key not in best], groups, stock),
        recorded=tuple(recorded),
        notes=(*notes, *_trials(chosen)),
        runs=tuple(row.run.id for row in chosen.rows),
        searches=tuple(search.facts for search in searches),
    )


def _trials(chosen: Chosen) -> list[str]:
    """What is said of rows that only make sense beside others."""
    count = sum(row.run.kind == "trial" for row in chosen.rows)
    told = "of these runs are trials of the tuner; `workbench report SEARCH` tells a whole search"
    return [f"{count} {told}, and `workbench tune` the id of each."] if count else []


def _verdict(groups: Sequence[Group]) -> Iterable[str]:
    groups = [group for group in groups if not group.heading]  # of a search its own verdict tells
    for group in groups:
        sentences = " ".join(filter(None, verdict(group.study, in_turns=group.in_turns)))
        yield f"{_heading(group)}: {sentences}" if len(groups) > 1 else sentences


def _heading(group: Group) -> str:
    """'fashion_cnn at image 1x1x28x28'."""
    study = group.study
    at = study.measurements[0].inputs
    if group.heading:
        return group.heading
    told = f"{study.model or 'a model'}{' at ' + at if at else ''}"
    return f"{told} ({study.recorded})" if study.recorded else told


def _timing(group: Group, fusions: Sequence[FusionFacts]) -> TimingFacts:
    study = group.study
    plots = [medians(study.measurements), distribution(study.measurements)]
    swept = any(study.throughputs.values())
    plots += [throughput(study.throughputs)] if swept else []
    points, unit = pareto_points(study)
    finite = [item for item in points if item.loss.value < float("inf")]
    plots += [pareto(points, unit)] if len(finite) > 1 else []
    more, notes = _layers(fusions)
    if group.heading:
        notes = _batches(study)
    elif not swept:
        notes += ("No throughput against batch was measured with these runs; TimingBoard does.",)
    return TimingFacts(_heading(group), study, group.in_turns, (*plots, *more), notes)


def _batches(study: Study) -> tuple[str, ...]:
    """What to bear in mind where candidates took different numbers of rows at once."""
    found = sorted({item.batch for item in study.measurements})
    if len(found) < 2:
        return ()
    told = ", ".join(f"{batch:,}" for batch in found)
    return (f"These ran with different batches ({told} rows); a time is that of one run with all of its rows.",)


def _layers(fusions: Sequence[FusionFacts]) -> tuple[list[Plot], tuple[str, ...]]:
    """Of the engines that are drawn; side by side where they can be."""
    times = [item.times for item in fusions if item.times is not None]
    if not fusions:
        return [], ()
    if not times:
        return [], ("No layer was timed by itself; measure with Timing(layers=True) for times by layer.",)
    try:
        return [layers(times[0], times[1] if len(times) > 1 else None)], ()
    except ConfigError as error:
        return [layers(item, title=f"Time by layer, {item.name}") for item in times], (f"{error}",)


def _accuracies(chosen: Chosen) -> Iterable[AccuracyFacts]:
    found: list[tuple[str, Comparison]] = []
    models = {row.run.study or row.run.id: row.run.model for row in chosen.rows}
    found += [(models.get(study, ""), item) for study, item in comparisons_of(chosen.rows).items()]
    found += [(study.model, study.comparison) for study in chosen.studies if study.comparison is not None]
    for model, item in found:
        yield AccuracyFacts(f"{model or 'Outputs'} against {item.reference}", item)


def _losses(chosen: Chosen) -> Iterable[Table]:
    """Of comparisons of two outputs alone."""
    heads = ("output", "largest difference", "relative error", "cosine", "same class, %")
    for row in chosen.rows:
        if row.run.kind == "comparison" and "outputs" in row.data:
            found = [difference_from_json(item) for item in row.data["outputs"]]
            rows = tuple(
                (item.output, item.max_abs, item.relative, item.cosine,
                 None if item.argmax_agreement is None else 100 * item.argmax_agreement)
                for item in found
            )  # fmt: skip
            yield Table(f"{row.run.title} {row.run.note}".strip(), heads, rows)


def _recorded(models: Sequence[ModelFacts], folders: Iterable[Path]) -> tuple[list[RecordedFacts], list[str]]:
    """What was recorded of the same content, or else of the same name; and why a recording could not be read."""
    wanted, named = {item.sha256 for item in models if item.sha256}, {item.name for item in models if item.name}
    facts, notes = [], []
    for folder in folders:
        try:
            found = load_recorded(folder)
        except ViewError as error:
            notes.append(f"A recording could not be read: {error}")
            continue
        same = {name for name, item in found.models.items() if item.sha256 in wanted}
        alike = same or named & set(found.models)
        if alike:
            runs = tuple(run for run in found.runs if run.model in alike)
            facts.append(RecordedFacts(replace(found, runs=runs), bool(same)))
    return facts, notes
