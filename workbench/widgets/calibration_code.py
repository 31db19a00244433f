"""A calibration as Python and for the shell, to copy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from workbench import snippets
from workbench.model import Model
from workbench.preprocessing import SIDED, Preprocessing
from workbench.profiles import default_profile, format_shapes
from workbench.types import Calibration

_FLOAT = "fp16"
"""Of the plan's layers on TensorRT up to 10; the other back ends leave them in fp32."""


@dataclass(frozen=True)
class Wish:
    """data: '' where the program gave arrays. opened: the collection that was read instead of collecting.
    preprocessing: where it was changed by hand. form, path, release, keep: of the file that was written last.
    plan: nodes to leave in float."""

    data: str
    opened: str
    preprocessing: Preprocessing | None
    count: int | None
    until_settled: bool
    algorithm: str
    overrides: Mapping[str, str]
    form: str = ""
    path: str = ""
    release: str = ""
    keep: tuple[str, ...] = ()
    plan: tuple[str, ...] = ()

    @property
    def table_path(self) -> str:
        """Of the table that was written; a collection is none."""
        return snippets.shown_path(Path(self.path)) if self.form not in ("", "collection") else ""


def calibration_code(model: Model, wish: Wish) -> dict[str, str]:
    """By title: Python, Command line."""
    return {"Python": "\n".join(_python(model, wish)), "Command line": "\n".join(_shell(model, wish))}


def _collection_path(model: Model, wish: Wish) -> str:
    if wish.opened:
        return snippets.shown_path(Path(wish.opened))
    return snippets.shown_path(Path(wish.path)) if wish.form == "collection" else f"{model.name}.calib"


def _python(model: Model, wish: Wish) -> list[str]:
    path = snippets.shown_path(model.path)
    imports = ["import workbench as wb"]
    lines = [f"model = wb.load_model({path!r})", *(f"model = wb.edit(model, {change!r})" for change in model.edits)]
    where = _collection_path(model, wish)
    if wish.opened:
        imports.append("from workbench.calibration.collection import load_collection")
        lines.append(f"collection = load_collection({where!r})")
    else:
        imports += [
            "from workbench.calibration.collect import collect",
            "from workbench.calibration.collection import save_collection",
            "from workbench.calibration.samples import open_samples",
        ]
        lines += _collecting(wish)
        imports += ["from workbench.preprocessing import Preprocessing"] if wish.preprocessing else []
        lines.append(f"save_collection(collection, {where!r})")
    calibration = f"wb.Calibration({where!r}{_algorithm(wish)})"
    if wish.table_path or wish.overrides:
        imports.append("from workbench.calibration.thresholds import thresholds")
        overrides = f", overrides={dict(wish.overrides)!r}" if wish.overrides else ""
        lines.append(f"table = thresholds(collection, {wish.algorithm!r}{overrides})")
        more, written = _writing(model, wish)
        imports += more
        lines += written
        calibration = f"wb.Calibration({wish.table_path or _table_path(model)!r})"
    imports.sort(key=lambda line: line.startswith("from"))
    return [*imports, "", *lines, *_building(model, wish, calibration)]


def _collecting(wish: Wish) -> list[str]:
    source = repr(wish.data) if wish.data else "arrays"
    first = [] if wish.data else ["arrays = ...  # yours: one array for each input, by its name"]
    how = f", {preprocessing_text(wish.preprocessing)}" if wish.preprocessing else ""
    settled = "" if wish.until_settled else ", until_settled=False"
    return [
        *first,
        f"samples = open_samples({source}, model{how})",
        f"collection = collect(model, samples, count={wish.count}{settled})",
    ]


def preprocessing_text(how: Preprocessing) -> str:
    """As Python makes it: what differs from the usual one."""
    usual = Preprocessing()
    names = [item.name for item in fields(how) if item.name != "source"]
    changed = [f"{name}={getattr(how, name)!r}" for name in names if getattr(how, name) != getattr(usual, name)]
    return f"Preprocessing({', '.join(changed)})"


def _writing(model: Model, wish: Wish) -> tuple[list[str], list[str]]:
    """Imports and lines that write the table."""
    release = f", release={wish.release!r}" if wish.release else ""
    path, form = wish.table_path or _table_path(model), wish.form if wish.table_path else "ranges"
    needs_model = ", model=model" if form == "qdq" else ""
    keep = f", keep={list(wish.keep)!r}" if wish.keep else ""
    return ["from workbench.calibration.writing import write_table"], [
        f"write_table(table, {path!r}, {form!r}{needs_model}{release}{keep})"
    ]


def _table_path(model: Model) -> str:
    return f"{model.name}.ranges.txt"


def _algorithm(wish: Wish) -> str:
    return f", {wish.algorithm!r}" if wish.algorithm != Calibration.algorithm else ""


def _building(model: Model, wish: Wish, calibration: str) -> list[str]:
    has_open = any(spec.open_axes for spec in model.inputs)
    profile = ", profiles=(wb.default_profile(model.inputs),)" if has_open else ""
    if wish.form == "qdq":
        first = f"model = wb.load_model({wish.table_path!r})  # it brings its ranges along"
        return [first, f"built = wb.build(model, wb.BuildConfig('int8'{profile}))"]
    lines = [f"calibration = {calibration}"]
    if wish.plan:
        precisions = dict.fromkeys(wish.plan, _FLOAT)
        lines.append(f"plan = wb.BuilderOptions(layer_precisions={precisions!r})")
    plan = ", builder=plan" if wish.plan else ""
    return [*lines, f"built = wb.build(model, wb.BuildConfig('int8', calibration=calibration{plan}{profile}))"]


def _shell(model: Model, wish: Wish) -> list[str]:
    path, where = snippets.shown_path(model.path), _collection_path(model, wish)
    dims = [f"--dim={change}" for change in model.edits]
    lines = [] if wish.opened else [*_collect_lines(wish, [path, *dims], where)]
    if wish.table_path and (wish.overrides or wish.keep):
        lines.append(f"# {wish.table_path}: with what was chosen for single tensors and layers, as in Python")
    elif wish.table_path:
        release = ["--release", wish.release] if wish.release else []
        words = ["workbench", "calibration", "convert", where, "--to", wish.form, "--algorithm", wish.algorithm]
        lines.append(shlex.join([*words, "--model", path, *dims, *release, "-o", wish.table_path]))
    return [*lines, shlex.join(_build_words(model, wish, [path, *dims], where))]


def _collect_lines(wish: Wish, source: Sequence[str], where: str) -> list[str]:
    first = [] if wish.data else ["# save your arrays with numpy.savez('samples.npz', ...) first"]
    words = [
        "workbench",
        "calibrate",
        *source,
        "--data",
        wish.data or "samples.npz",
        *picture_words(wish.preprocessing),
    ]
    words += ["--samples", str(wish.count or 0), *([] if wish.until_settled else ["--to-the-end"]), "-o", where]
    return [*first, shlex.join(words)]


def picture_words(how: Preprocessing | None) -> list[str]:
    """As options of the shell's commands."""
    if how is None:
        return []
    words = [f"--size={how.size[0]}x{how.size[1]}"] if how.size else []
    words += [f"--resize={how.resize}"]
    words += [f"--resize-to={how.resize_to}"] if how.resize_to and how.resize in SIDED else []
    words += [f"--channels={how.channels}", f"--scale={how.scale!r}"]
    return [*words, *(f"--{name}={','.join(map(repr, getattr(how, name)))}" for name in ("mean", "std"))]


def _build_words(model: Model, wish: Wish, source: Sequence[str], where: str) -> list[str]:
    words = ["workbench", "build", *([wish.table_path] if wish.form == "qdq" else source), "--precision", "int8"]
    if wish.form != "qdq":
        words += ["--calibration", wish.table_path or where]
    if not wish.table_path and wish.algorithm != Calibration.algorithm:
        words += ["--calibrator", wish.algorithm]
    if wish.form != "qdq":
        words += [f"--layer-precision={node}={_FLOAT}" for node in wish.plan]
    return [*words, *(f"--shapes={text}" for text in format_shapes(default_profile(model.inputs)))]
