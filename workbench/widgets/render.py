"""State -> HTML: pure functions, so that what people read is tested without a browser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from workbench.building import Built
from workbench.errors import BuildError, Cancelled, WorkbenchError
from workbench.layers import LayerInfo
from workbench.machine import Machine
from workbench.model import Model
from workbench.timing import Measurement, format_rate
from workbench.types import LogLine, Support
from workbench.widgets.phases import Phase

STYLE = f"<style>{(Path(__file__).parent / 'static' / 'workbench.css').read_text()}</style>"
_SEPARATORS = {0x1E: " ", 0x1F: " "}  # NVIDIA puts them between the names of fused nodes
_MARKS = {"error": "wb-bad", "warning": "wb-bad", "verbose": "wb-quiet"}


def model_facts(model: Model) -> str:
    """Two quiet lines: size and origin, then the operators."""
    operators = list(model.operators.items())
    shown = ", ".join(f"{count} {escape(name)}" for name, count in operators[: 7 if len(operators) == 7 else 6])
    more = f" and {len(operators) - 6} other kinds" if len(operators) > 7 else ""
    facts = [
        f"{len(model.nodes):,} {'node' if len(model.nodes) == 1 else 'nodes'}",
        f"opset {model.opset}",
        f"{model.parameters:,} parameters",
    ]
    if model.producer:
        facts.append(f"from {escape(model.producer)}")
    specs = "<br>".join(
        f"{kind} <code>{escape(str(spec))}</code>"
        for kind, found in (("in", model.inputs), ("out", model.outputs))
        for spec in found
    )
    return f"<div>{' · '.join(facts)}</div><div class='wb-quiet'>{shown}{more}<br>{specs}</div>"


def dimension(name: str, where: str) -> str:
    return f"<div class='wb-dim'><b>{escape(name)}</b> <span class='wb-quiet'>{escape(where)}</span></div>"


def mistake(text: str) -> str:
    return f"<span class='wb-bad' role='alert'>{escape(text)}</span>" if text else ""


def backend_note(support: Support) -> str:
    """What the chosen back end will and will not do here."""
    if not support.can_build:
        return mistake(support.build_reason)
    runs = (
        "Builds and runs here." if support.can_run else f"Builds here. Does not run here: {escape(support.run_reason)}"
    )
    return f"<span class='wb-quiet'>{escape(support.title)} {escape(support.release or '')}. {runs}</span>"


def quiet(text: str) -> str:
    return f"<span class='wb-quiet'>{escape(text)}</span>" if text else ""


def reasons(pairs: Iterable[tuple[str, str]]) -> str:
    """Why some choices are struck out, a line each."""
    return "".join(f"<div class='wb-quiet'><b>{escape(name)}</b>: {escape(text)}</div>" for name, text in pairs)


def phase_tree(phases: Sequence[Phase], now_s: float, *, running: bool = True) -> str:
    """Phases indented under their parents with a bar, the steps and the seconds each takes."""
    cells = []
    for phase in phases:
        over, counted = phase.ended_s is not None, phase.total is not None and phase.total > 1
        share = 100 * phase.done / phase.total if counted and phase.total else 100.0 * over
        kind = "wb-over" if over else "wb-stopped" if not running else "" if counted else "wb-open"
        width = "" if kind == "wb-open" else f" style='width:{share:.0f}%'"
        steps = f"{phase.done:,} of {phase.total:,}" if counted else ""
        seconds = (phase.ended_s if phase.ended_s is not None else now_s) - phase.started_s
        cells.append(
            f"<div style='padding-left:{16 * phase.depth}px'>{escape(phase.name)}</div>"
            f"<div class='wb-bar {kind}'><i{width}></i></div>"
            f"<div class='wb-right wb-quiet'>{steps}</div><div class='wb-right'>{seconds:.1f} s</div>"
        )
    return f"<div class='wb-phases' data-phases='{len(phases)}'>{''.join(cells)}</div>" if cells else ""


def log_lines(lines: Sequence[LogLine], total: int) -> str:
    if not total:
        return "<div class='wb-quiet'>No line of the log fits.</div>"
    text = "\n".join(map(_log_line, lines))
    count = f"{total:,} lines" if total == len(lines) else f"the last {len(lines):,} of {total:,} lines"
    return f"<div class='wb-quiet'>{count}</div><div class='wb-log'><pre>{text}</pre></div>"


def _log_line(line: LogLine) -> str:
    text = escape(line.text.translate(_SEPARATORS))
    return f"<span class='{_MARKS.get(line.severity, '')}'><b>{line.severity[0].upper()}</b> {text}</span>"


def result_card(built: Built, *, form_has_changed: bool = False) -> str:
    engine = built.engine
    took = f"{built.elapsed_s * 1000:,.0f} ms" if built.reused else f"{engine.build_s:,.1f} s"
    facts = [
        ("found and checked in" if built.reused else "built in", took),
        ("plan", f"{engine.plan_bytes / 1e6:,.2f} MB"),
        ("nodes before", f"{engine.nodes:,}"),
        ("layers after", f"{engine.layers:,}"),
        ("nodes traced to layers", f"{engine.nodes_covered:,} of {engine.nodes:,}"),
        ("runs on", ", ".join(engine.targets) if engine.targets != ("gpu",) else _gpus(engine.machine)),
    ]
    why = (
        f"building it took {engine.build_s:,.1f} s on {engine.built_at[:10]}"
        if built.reused
        else f"not reused: {built.why_missed}"
    )
    return (
        f"<div class='wb-card' data-reused='{str(built.reused).lower()}'>"
        f"<h4>{escape(engine.model_name)} · {engine.precision} · {escape(engine.backend)} {escape(engine.release)}"
        f"<em>{'reused' if built.reused else 'built'}</em></h4>{fact_row(facts)}"
        f"<p class='wb-quiet'>{escape(why)}{' · The form has changed since.' if form_has_changed else ''}</p>"
        f"<p class='wb-quiet'><code>{escape(str(engine.plan_path))}</code></p></div>"
    )


def _gpus(machine: Mapping[str, Any]) -> str:
    """What an engine that is built for 'this GPU' runs on."""
    return ", ".join(dict.fromkeys(gpu["name"] for gpu in machine["gpus"])) or "gpu"


def layer_table(layers: Sequence[LayerInfo]) -> str:
    """The network after building: every layer with what it makes and the ONNX nodes it does the work of."""
    rows = []
    for layer in layers:
        if not layer.nodes and not layer.outputs:
            continue  # counted below
        made = "<br>".join(escape(f"{item.dtype} {_shape(item.shape)}") for item in layer.outputs)
        nodes = " + ".join(layer.nodes) or "copy or conversion"
        quiet = "" if layer.nodes else " class='wb-quiet'"
        rows.append(f"<tr><td>{escape(layer.kind)}</td><td>{made}</td><td{quiet}>{escape(nodes)}</td></tr>")
    head = "<tr><th>kind</th><th>output</th><th>ONNX nodes</th></tr>"
    table = f"<table class='wb-table'><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"
    silent = len(layers) - len(rows)
    more = f"<div class='wb-quiet'>{silent:,} more compute shapes or keep streams in order.</div>" if silent else ""
    return f"<div class='wb-layers'>{table}{more}</div>"


def _shape(sizes: tuple[int, ...]) -> str:
    """(-1, 3, 64) -> '?x3x64'"""
    return "x".join("?" if size < 0 else str(size) for size in sizes)


def measurement_card(measured: Measurement, measured_on: str, note: str = "") -> str:
    median = f"{measured.median_ms:,.3f} ms"
    medians = [("median", median)]
    if measured.host_median_ms is not None:
        medians = [("median on the GPU", median), ("host to host", f"{measured.host_median_ms:,.3f} ms")]
    facts = [
        *medians,
        ("p99", f"{measured.p99_ms:,.3f} ms"),
        ("throughput", format_rate(measured.throughput_per_s)),
        ("input", measured.inputs),
        ("runs", f"{len(measured.times_ms)}, after {measured.warmup} to warm up"),
    ]
    clocks = "<br>".join(escape(clock) for clock in (measured.clock, measured.host_clock) if clock)
    return (
        f"<div class='wb-card'><h4>Timed: {escape(measured_on)}</h4>{fact_row(facts)}"
        f"<p>{escape(note)}</p><p class='wb-quiet'>{clocks}</p>"
        f"<p class='wb-quiet'>{escape(str(measured.machine))}</p></div>"
    )


def error_card(error: WorkbenchError | None, former: object = None) -> str:
    """'' for none. former: what was there before and stands below the card."""
    if error is None:
        return ""
    stays = "" if former is None else "<p class='wb-quiet'>The result from before stands below.</p>"
    if isinstance(error, Cancelled):
        text = str(error).removeprefix("cancelled; ")
        text = _sentence(text[:1].upper() + text[1:])
        return f"<div class='wb-card wb-note' role='status'><h4>Cancelled</h4><p>{escape(text)}</p>{stays}</div>"
    parts = ["<div class='wb-card wb-error' role='alert'>"]
    if isinstance(error, BuildError):
        parts.append(f"<h4>The build failed</h4><p>{escape(_sentence(error.reason))}</p>")
        if error.node:
            parts.append(f"<p><span class='wb-quiet'>node</span> <code>{escape(error.node)}</code></p>")
        if error.remedy:
            parts.append(f"<p><b>What to do:</b> {escape(error.remedy)}</p>")
        if error.log_tail:
            parts.append(
                f"<p class='wb-quiet'>last lines of the log</p><pre>{escape(chr(10).join(error.log_tail))}</pre>"
            )
        if error.repeat:
            parts.append(f"<p class='wb-quiet'>the same from a shell</p><pre>{escape(error.repeat)}</pre>")
    else:
        parts.append(f"<h4>This does not work</h4><p>{escape(_sentence(str(error)))}</p>")
    return "".join([*parts, stays, "</div>"])


def fact_row(pairs: Iterable[tuple[str, str]]) -> str:
    return "<div class='wb-facts'>" + "".join(
        f"<div><span>{escape(name)}</span><b>{escape(value)}</b></div>" for name, value in pairs if value
    ) + "</div>"  # fmt: skip


def html_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], note: str = "", *, numbers: Sequence[int] = ()
) -> str:
    """A table that scrolls in its box. rows: HTML; numbers: the columns that stand on the right."""
    marks = [" class='wb-right'" if index in numbers else "" for index in range(len(heads))]

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(f"<{tag}{mark}>{cell}</{tag}>" for mark, cell in zip(marks, cells, strict=True))

    head = line("th", [escape(item) for item in heads])
    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    more = f"<div class='wb-quiet'>{escape(note)}</div>" if note else ""
    table = f"<table class='wb-table wb-numbers'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class='wb-layers wb-wrap'>{table}{more}</div>"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else text + "."


def code_block(code: str) -> str:
    if not code:
        return "<span class='wb-quiet'>Complete the form first; the code follows it.</span>"
    return f"<pre>{escape(code)}</pre>"


def machine_table(machine: Machine, supports: Iterable[Support]) -> str:
    """What each back end can do here, with the reason wherever it cannot."""
    rows = []
    for item in supports:
        cells = []
        for can, reason in ((item.can_build, item.build_reason), (item.can_run, item.run_reason)):
            mark = "<b class='wb-good'>✓ yes</b>" if can else "<b class='wb-bad'>✕ no</b>"
            cells.append(f"{mark}<div class='wb-quiet'>{escape(reason)}</div>")
        rows.append(
            f"<tr><td><b>{escape(item.title)}</b>"
            f"<div class='wb-quiet'>{escape(item.release or 'not installed')}</div></td>"
            f"<td>{cells[0]}</td><td>{cells[1]}</td><td>{escape(', '.join(item.precisions))}</td></tr>"
        )
    gpus = ", ".join(f"{gpu.name} (compute capability {gpu.compute_capability})" for gpu in machine.gpus)
    facts = [("processor", f"{machine.cpu}, {machine.cores} cores"), ("NVIDIA GPU", gpus or "none found")]
    if machine.cuda_version:
        facts.append(("driver supports", f"CUDA {machine.cuda_version}"))
    facts.append(("Python", machine.python))
    return (
        f"{fact_row(facts)}<table class='wb-table'><thead><tr><th>back end</th><th>builds engines here</th>"
        f"<th>runs them here</th><th>precisions</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
