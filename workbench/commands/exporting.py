"""`workbench export` and `environments`: from a framework's model to ONNX."""

from __future__ import annotations

import argparse
import threading
from typing import Any

from workbench.commands.common import asks_for_yes
from workbench.errors import ConfigError, ExportError
from workbench.export.environments import ENVIRONMENTS, Environment, folder_of, make, remove, status
from workbench.export.exported import exported_to_json
from workbench.export.sources import ExportRequest, environment_for, export_source, parse_open_dims, parse_shape_sets
from workbench.terminal import Printer, table


def export(options: argparse.Namespace) -> tuple[Any, str]:
    request = ExportRequest(
        source=options.source,
        framework=options.framework or "",
        output=options.output,
        opset=options.opset,
        exporter=options.exporter,
        open_dims=parse_open_dims(options.open),
        inputs=_names(options.inputs),
        outputs=_names(options.outputs),
        shapes=parse_shape_sets(options.shapes),
        trust=options.trust,
    )
    environment = environment_for(request)
    yes = options.yes or (environment is not None and asks_for_yes(environment))
    exported = export_source(request, make_environment=yes, listener=Printer(options.verbose))
    lines = [str(exported), str(exported.model.path), "next: workbench inspect " + str(exported.model.path)]
    return exported_to_json(exported), "\n".join(lines)


def environments(options: argparse.Namespace) -> tuple[Any, str]:
    freed = 0
    if options.remove:
        freed = remove(_environment(options.remove))
    if options.make:
        make(_environment(options.make), listener=Printer(options.verbose), cancel=threading.Event())
    rows = [("environment", "state", "on disk", "folder")]
    data = []
    for environment in ENVIRONMENTS.values():
        try:
            made = status(environment)
            state = "made" if made else "made when first needed, if you say yes"
        except ExportError as error:
            made, state = None, str(error)
        size = made.size_bytes if made else environment.installed_bytes
        rows.append((environment.name, state, f"{size / 1e6:,.0f} MB", str(folder_of(environment))))
        data.append(
            {"name": environment.name, "made": made is not None, "state": state, "size_bytes": size,
             "requirements": list(environment.requirements), "folder": str(folder_of(environment))}
        )  # fmt: skip
    text = table(rows) + (f"\nfreed {freed / 1e6:,.0f} MB" if options.remove else "")
    return {"environments": data, "freed_bytes": freed}, text


def _environment(name: str) -> Environment:
    if name not in ENVIRONMENTS:
        raise ConfigError(f"there is no environment {name!r}; there are {', '.join(ENVIRONMENTS)}.")
    return ENVIRONMENTS[name]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
