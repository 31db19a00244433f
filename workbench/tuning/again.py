"""How to come to the same again: code that runs a search once more, and that builds and opens its best engine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from workbench.model import Model
from workbench.report.engines import Stock
from workbench.report.facts import Repeat
from workbench.snippets import python_code, shell_line, shown_path
from workbench.tuning.candidate import Candidate
from workbench.tuning.findings import Best, Findings
from workbench.tuning.goals import Limit

_BYTES = ("size", "memory")


def limit_text(limit: Limit) -> str:
    """What goals.parse_limit reads: 'latency<=2'."""
    sign = ">=" if limit.objective == "throughput" else "<="
    return f"{limit.objective}{sign}{int(limit.bound) if limit.objective in _BYTES else f'{limit.bound:g}'}"


def search_again(tuned: Findings, model: Model | None, again: Mapping[str, str] | None = None) -> Repeat:
    """model: as it is now, if it is at hand. again: code that is known to do it, by title."""
    what = "Search again"
    if again:
        return Repeat(what, dict(again), "What was measured before is found again in the history.")
    if not tuned.seconds:
        return Repeat(what, note="Nothing was searched: these were measured one by one, as the notes above tell.")
    path = shown_path(model.path) if model is not None else f"{tuned.model}.onnx"
    words = ["workbench", "tune", path]
    for change in model.edits if model is not None else ():
        words += ["--dim", change]
    words += ["--objective", ",".join(tuned.goals.objectives)]
    for limit in tuned.goals.limits:
        words += ["--limit", limit_text(limit)]
    words += ["--metric", tuned.goals.metric] if tuned.goals.metric else []
    words += ["--data", "DATA"] if tuned.data else []
    words += ["--trials", str(len(tuned.trials))]
    notes = ["The space is the usual one here; name what was chosen otherwise with --space."]
    notes += [f"DATA stands for {tuned.data.rstrip('.')}."] if tuned.data else []
    return Repeat(what, {"Shell": shlex.join(words), "Python": _python(tuned, path)}, " ".join(notes))


def _python(tuned: Findings, path: str) -> str:
    limits = ", ".join(f"Limit({item.objective!r}, {item.bound!r})" for item in tuned.goals.limits)
    goals = [repr(tuned.goals.objectives)]
    goals += [f"({limits},)"] if limits else []
    goals += [f"metric={tuned.goals.metric!r}"] if tuned.goals.metric else []
    data = ", data=Data(...)" if tuned.data else ""
    names = ["Budget", *(["Data"] if data else []), "Goals", *(["Limit"] if limits else []), "tune"]
    return "\n".join([
        "import workbench as wb",
        f"from workbench.tuning import {', '.join(names)}",
        "",
        f"goals = Goals({', '.join(goals)})",
        f"tuned = tune(wb.load_model({path!r}), goals=goals{data}, budget=Budget({len(tuned.trials)}))",
        "print(tuned)",
    ])  # fmt: skip


def build_again(candidate: Candidate, best: Best, stock: Stock, model_sha256: str) -> Repeat:
    """Lines that build the best engine and open it as it was measured. model_sha256: of the model that was searched."""
    what = f"Build and open {candidate}"
    in_parts = candidate.min_subgraph_size is not None
    engine = None if in_parts else next((stock.engines[key] for key in best.engines if key in stock.engines), None)
    if engine is None and not in_parts:
        return Repeat(what, note="Its engine is not in this store, so nothing tells which file it was built from.")
    model = stock.models.get(model_sha256 if engine is None else str(engine.recipe["model"]))
    if model is None:
        return Repeat(what, note="Its model is not at hand as it was, so no lines can be given that build the same.")
    if engine is None:
        return Repeat(what, {"Python": _in_parts(model, candidate, best)})
    shell = shell_line(model, engine.config, engine.backend)
    opened = [f"session = wb.open_engine(built.engine{_threads(candidate)})", *_graph(candidate)]
    code = [python_code(model, engine.config, engine.backend), *opened]
    return Repeat(what, {"Shell": shell, "Python": "\n".join(code)})


def _in_parts(model: Model, candidate: Candidate, best: Best) -> str:
    *lines, _, _ = python_code(model, best.config, candidate.backend).splitlines()  # all but the build of the whole
    lines.append(f"parts = wb.partition(model, {candidate.backend!r}, {candidate.min_subgraph_size})")
    lines.append(f"session = wb.HybridSession(wb.build_parts(parts, config){_threads(candidate)})")
    return "\n".join([*lines, *_graph(candidate)])


def _threads(candidate: Candidate) -> str:
    return "" if candidate.threads is None else f", threads={candidate.threads}"


def _graph(candidate: Candidate) -> list[str]:
    return [] if candidate.cuda_graph is None else [f"session.cuda_graph = {candidate.cuda_graph}"]
