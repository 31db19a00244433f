"""Exports -> HTML: pure functions, as in `render`."""

from __future__ import annotations

from html import escape

from workbench.export.environments import Environment, folder_of
from workbench.export.exported import Exported
from workbench.export.parity import Parity
from workbench.widgets.render import fact_row


def export_card(exported: Exported) -> str:
    """The file, what wrote it, and a line for every set of shapes it was compared at."""
    model = exported.model
    given = [
        ("exported in", f"{exported.elapsed_s:,.1f} s"),
        ("nodes", f"{len(model.nodes):,}"),
        ("opset", str(model.opset)),
        ("parameters", f"{model.parameters:,}"),
    ]
    specs = "".join(
        f"<p class='wb-quiet'>{kind} <code>{escape(str(spec))}</code></p>"
        for kind, found in (("in", model.inputs), ("out", model.outputs))
        for spec in found
    )
    notes = "".join(f"<p>Note: {escape(note)}</p>" for note in exported.notes)
    title = f"{escape(model.path.name)} · from {escape(exported.framework)} by {escape(exported.converter)}"
    return (
        f"<div class='wb-card' data-parity='{len(exported.parity)}'><h4>{title}<em>{escape(exported.verdict)}</em></h4>"
        f"{fact_row(given)}{specs}{parity_table(exported.parity, exported.framework)}{notes}"
        f"<p class='wb-quiet'><code>{escape(str(model.path))}</code></p></div>"
    )


def parity_table(parity: tuple[Parity, ...], framework: str) -> str:
    """ONNX Runtime against the framework, a row for every set of shapes."""
    rows = []
    for item in parity:
        shapes = ", ".join(f"{name} {'×'.join(map(str, shape)) or 'scalar'}" for name, shape in item.shapes.items())
        share = item.argmax_agreement
        agrees = "" if share is None else f"{share:.1%}"
        largest = max((difference.max_abs for difference in item.differences), default=0.0)
        rows.append(
            f"<tr><td>{escape(shapes)}</td><td class='wb-right'>{largest:.2g}</td>"
            f"<td class='wb-right'>{item.relative:.1e}</td><td class='wb-right'>{agrees}</td></tr>"
        )
    titles = (f"ONNX Runtime against {framework.split()[0]} at", "largest difference", "relative", "same largest value")
    first, *others = map(escape, titles)
    head = f"<tr><th>{first}</th>" + "".join(f"<th class='wb-right'>{title}</th>" for title in others) + "</tr>"
    return f"<table class='wb-table wb-numbers'><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def source_note(title: str) -> str:
    if title:
        return f"<span class='wb-quiet'>a model of {escape(title)}</span>"
    return (
        "<span class='wb-quiet'>PyTorch: FILE.py:NAME, a function that returns (module, example); .pt2; TorchScript. "
        "Paddle: .pdmodel or .json, or their folder. TensorFlow: SavedModel, Keras, frozen .pb.</span>"
    )


def environment_note(environment: Environment) -> str:
    """What would be made, how large, and where."""
    download, disk = environment.download_bytes / 1e6, environment.installed_bytes / 1e6
    return (
        f"<div>This export needs the converter of {escape(environment.title)} in an environment of its own, made once: "
        f"<b>{download:,.0f} MB</b> to download, <b>{disk:,.0f} MB</b> on disk.</div>"
        f"<div class='wb-quiet'>{escape(', '.join(environment.requirements))}</div>"
        f"<div class='wb-quiet'><code>{escape(str(folder_of(environment)))}</code></div>"
    )
