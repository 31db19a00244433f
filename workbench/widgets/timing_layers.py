"""Whose layers can be looked at: engines that were timed here, and recorded ones whose layers and times were kept."""

from __future__ import annotations

from workbench.errors import ConfigError
from workbench.fusion import open_fusion
from workbench.fusion.shares import GroupTimes, group_times
from workbench.layer_times import median_times
from workbench.model import Model
from workbench.recorded import RecordedRun
from workbench.study import Study
from workbench.widgets.timing_recorded import Recording, layered_runs


def layer_sources(study: Study | None, recording: Recording | None) -> dict[str, str]:
    """By name, in the order of the tables: why its layers cannot be looked at, '' where they can."""
    found = {subject.name: _problem(study, subject.name) for subject in study.subjects} if study else {}
    return {**found, **dict.fromkeys(_recorded(recording), "")}


def _problem(study: Study, name: str) -> str:
    if study.subject(name).engine is None:
        return "not an engine of the workbench, so nobody tells its layers"
    return "" if study[name].layer_times_ms else "its layers were not timed"


def usual_sides(study: Study | None, recording: Recording | None) -> tuple[str, str]:
    """The first and the last that can be looked at, of those measured here, else of those recorded at one batch; ''
    where there is none, or no second one."""
    able = [name for name, problem in layer_sources(study, recording).items() if not problem]
    runs = _recorded(recording)
    measured = [name for name in able if name not in runs]
    alike = [name for name in able if name in runs and runs[name].batch == runs[able[0]].batch] if not measured else []
    chosen = measured or alike
    return (chosen[0] if chosen else "", chosen[-1] if len(chosen) > 1 else "")


def _recorded(recording: Recording | None) -> dict[str, RecordedRun]:
    """By what they are called beside those that were measured here: 'recorded int8 (entropy), batch 32'."""
    return {f"recorded {name}": run for name, run in layered_runs(recording).items()} if recording else {}


def group_times_of(name: str, study: Study | None, recording: Recording | None, model: Model) -> GroupTimes:
    """Open one of `layer_sources`. Raises ConfigError for another name, and what `open_fusion` raises."""
    run = _recorded(recording).get(name)
    if run is not None and recording is not None:
        assert run.inspector is not None
        nodes = recording.recorded.models[run.model].nodes or (model if not recording.note else None)
        return group_times(open_fusion(run.inspector, nodes, run.profile).fusion, run.median_ms, name)
    engine = study.subject(name).engine if study and name in {item.name for item in study.subjects} else None
    if study is None or engine is None:
        raise ConfigError(f"{name}: nobody tells its layers; choose an engine.")
    opened = open_fusion(engine.folder, model, times_ms=median_times(study[name].layer_times_ms))
    return group_times(opened.fusion, study[name].median_ms, name)
