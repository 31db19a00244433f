"""BuilderState: what the EngineBuilder does, without a browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import onnx
import pytest
from helpers_building import BOTH, PATIENCE_S, ROOT, children, leftovers, long, refused, slow_to_run, small, wait_until
from helpers_widgets import in_order

from workbench.errors import BuildError, Cancelled, ConfigError
from workbench.store import EngineStore
from workbench.types import Calibration, LogLine, Progress
from workbench.widgets.builder import EngineBuilder
from workbench.widgets.form_state import FORM
from workbench.widgets.phases import Phase, search_log, update_phases
from workbench.widgets.state import BUILDING, TIMING, BuilderState
from workbench.widgets.work_state import CANCELLED, DONE, FAILED, IDLE

OCR_CLS = ROOT / "data" / "models" / "ppocr_mobile_v2_cls.onnx"
rtx = pytest.mark.rtx


@pytest.fixture
def state(home: Path) -> BuilderState:
    """With its store in WORKBENCH_HOME, as in a notebook."""
    return BuilderState()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model whose batch is open."""
    return small(tmp_path / "open.onnx", batch="n").path


def finished(state: BuilderState) -> BuilderState:
    assert state.wait(PATIENCE_S), "it does not end"
    assert not state.busy
    return state


def ready(state: BuilderState, path: Path, backend: str = "onnxruntime") -> BuilderState:
    state.load(path)
    state.backend = backend
    assert state.problem() == ""
    return state


# ---- the model


def test_at_first_it_asks_for_a_model(state: BuilderState) -> None:
    assert state.problem() == "Choose a model first."
    assert state.code() == {} and state.status == IDLE and not state.busy
    assert state.backend in state.supports and state.timed_engine == ""


def test_a_good_model_fills_the_form(state: BuilderState, path: Path) -> None:
    state.load(path)
    assert state.model is not None and state.model.name == "open"
    assert (state.model_path, state.model_error) == (str(path), "")
    assert state.bounds == {"n": ("1", "1", "8")}
    assert state.problem() == ""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.onnx", None, "there is no such file"),
        ("text.onnx", b"not a model at all", "not an ONNX"),
        ("empty.onnx", b"", "not an ONNX"),
    ],
)
def test_a_bad_model_empties_the_form_and_the_problem_is_its_sentence(
    state: BuilderState, path: Path, tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    state.load(path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    state.load(tmp_path / name)
    assert (state.model, state.bounds, state.code()) == (None, {}, {})
    assert words in state.problem() and state.problem() == state.model_error
    assert state.model_path == str(tmp_path / name)
    state.load(path)
    assert (state.problem(), state.model_error) == ("", "")


def test_a_folder_is_a_bad_model_too(state: BuilderState, tmp_path: Path) -> None:
    state.load(tmp_path)
    assert state.model is None and state.problem()


def test_another_model_forgets_the_result_of_the_last(state: BuilderState, path: Path, tmp_path: Path) -> None:
    ready(state, path).start()
    assert finished(state).built is not None
    state.load(tmp_path / "missing.onnx")
    assert (state.built, state.measurement, state.error, state.status) == (None, None, None, IDLE)


# ---- uploads


@pytest.mark.parametrize("name", ["../../x.onnx", "/etc/x.onnx", "x.onnx", "..\\..\\x.onnx", ".onnx", "ü ✓.onnx"])
def test_an_upload_lies_in_the_stores_folder_whatever_it_is_called(
    state: BuilderState, path: Path, home: Path, tmp_path: Path, name: str
) -> None:
    before = {item for item in tmp_path.rglob("*") if home not in item.parents}
    state.upload(name, path.read_bytes())
    assert state.model is not None and state.model.path.parent.parent == home / "uploads"
    assert len(list((home / "uploads").iterdir())) == 1
    assert {item for item in tmp_path.rglob("*") if home not in item.parents} - {home} == before - {home}


@pytest.mark.parametrize("name", ["..", ".", "", "/", "a\0b.onnx", "a" * 300 + ".onnx"])
def test_an_upload_whose_name_cannot_be_a_file_is_taken_under_another_or_refused_in_words(
    state: BuilderState, path: Path, home: Path, name: str
) -> None:
    state.upload(name, path.read_bytes())
    assert state.model_error or (state.model is not None and state.model.path.parent.parent == home / "uploads")


def test_an_upload_that_is_no_model_says_so_and_the_next_one_is_taken(state: BuilderState, path: Path) -> None:
    state.upload("x.onnx", b"<html>")
    assert "not an ONNX" in state.problem()
    state.upload("x.onnx", path.read_bytes())
    assert state.problem() == ""


# ---- shapes while typing


@rtx
@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("abc", "1", "2"), "'abc' is not a whole number"),
        (("1", "2.5", "3"), "'2.5' is not a whole number"),
        (("1", "2", "1e3"), "'1e3' is not a whole number"),
        (("1", "", "2"), "a size is missing"),
        (("1", "1", "  "), "a size is missing"),
        (("0", "1", "2"), "min is 0; a size is at least 1"),
        (("-1", "1", "2"), "min is -1; a size is at least 1"),
        (("3", "2", "4"), "min 3 is larger than opt 2"),
        (("1", "9", "4"), "opt 9 is larger than max 4"),
    ],
)
def test_a_mistake_in_a_size_is_told_in_words_while_typing(
    state: BuilderState, path: Path, typed: tuple[str, str, str], words: str
) -> None:
    ready(state, path, "rtx").bounds = {"n": typed}
    assert state.shape_problems() == {"n": words}
    assert words in state.problem() and state.problem().startswith("n: ") and state.problem().endswith(".")
    assert state.code() == {}
    state.start()
    assert state.status == FAILED and words in str(state.error) and state.job is None
    state.bounds = {"n": (" 1", "2 ", "3")}
    assert state.shape_problems() == {} and state.problem() == "" and state.code()


@rtx
@pytest.mark.parametrize("huge", ["99999999999999999999", "9" * 5000, str(2**31), str(2**63)])
def test_a_size_beyond_all_machines_is_a_sentence_and_no_traceback(state: BuilderState, path: Path, huge: str) -> None:
    ready(state, path, "rtx").bounds = {"n": ("1", "1", huge)}
    if not state.problem():
        state.start()
        finished(state)
        assert isinstance(state.error, BuildError)
        assert "Error:" not in str(state.error) and "incompatible function arguments" not in str(state.error)


def test_with_onnxruntime_sizes_do_not_matter(state: BuilderState, path: Path) -> None:
    ready(state, path).bounds = {"n": ("abc", "", "0")}
    assert state.shape_problems() == {} and state.problem() == ""
    assert state.config().profiles == ()


@rtx
def test_every_wrong_row_has_its_own_words(state: BuilderState, tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")]
    from helpers_building import save

    ready(state, save(tmp_path / "two.onnx", nodes, ["n", "m"], ["n", "m"]).path, "rtx")
    state.bounds = {"n": ("1", "0", "1"), "m": ("x", "1", "1")}
    problems = state.shape_problems()
    assert set(problems) == {"n", "m"} and "'x' is not" in problems["m"] and "opt is 0" in problems["n"]


@rtx
def test_two_axes_of_one_name_are_one_row_so_their_ranges_cannot_differ(state: BuilderState) -> None:
    """NVIDIA's builder refuses equal names with different ranges; in this model two axes are both called '?'."""
    ready(state, OCR_CLS, "rtx")
    assert list(state.bounds) == ["x:0", "?"]
    state.bounds = {**state.bounds, "?": ("32", "48", "192")}
    assert state.problem() == ""
    ((name, item),) = state.config().profiles[0].ranges.items()
    assert name == "x"
    assert [bound[2:] for bound in (item.min, item.opt, item.max)] == [(32, 32), (48, 48), (192, 192)]


# ---- options


@rtx
def test_another_back_end_keeps_the_precision_it_knows_and_resets_the_others(state: BuilderState, path: Path) -> None:
    ready(state, path, "rtx")
    state.precision, state.targets = "fp16", ("sm89",)
    state.backend = "onnxruntime"
    assert (state.precision, state.targets) == ("fp16", None)
    state.backend = "rtx"
    assert state.precision == "fp16"
    state.precision = "bf16"
    state.backend = "onnxruntime"
    assert state.precision == "fp32" and state.problem() == ""


@pytest.mark.parametrize("backend", BOTH)
def test_int8_says_what_it_needs(state: BuilderState, path: Path, backend: str) -> None:
    ready(state, path, backend).precision = "int8"
    assert "calibration" in state.problem() and state.code() == {}


def test_a_calibration_is_part_of_the_form_and_of_the_code(state: BuilderState, path: Path, tmp_path: Path) -> None:
    ready(state, path, "onnxruntime")
    samples = tmp_path / "samples.npz"
    samples.touch()
    state.calibration = f" {samples} "
    assert state.config().calibration is None, "fp32 needs none"
    state.precision = "int8"
    assert state.config().calibration == Calibration(str(samples))
    for text in ("", str(tmp_path / "none.npz")):
        state.calibration = text
        assert state.problem() == state.calibration_problem() != ""
    assert "calibration" in FORM


@rtx
def test_a_workspace_that_is_no_size_is_told_in_words(state: BuilderState, path: Path) -> None:
    ready(state, path, "rtx")
    for text, size in (("512M", 512 << 20), ("1G", 1 << 30), (" ", None), ("", None), ("4096", 4096)):
        state.workspace = text
        assert (state.workspace_problem(), state.problem()) == ("", ""), text
        assert state.config().workspace_bytes == size
    state.workspace = "much"
    assert "'much' is not a size" in state.workspace_problem() and state.workspace_problem() == state.problem()
    assert state.code() == {}


# ---- code


@rtx
def test_the_code_follows_every_change(state: BuilderState, path: Path) -> None:
    ready(state, path, "rtx")
    changes: list[tuple[str, Any, str, str]] = [
        ("precision", "fp16", "Python", "precision='fp16'"),
        ("precision", "bf16", "Paddle-TRT", "Bfloat16"),
        ("bounds", {"n": ("2", "3", "5")}, "trtexec", "--maxShapes=x:5x3x8x8"),
        ("bounds", {"n": ("2", "4", "6")}, "Paddle-TRT", "{'x': [6, 3, 8, 8]},  # max"),
        ("workspace", "256M", "Command line", "--workspace 268435456"),
        ("targets", ("sm86", "sm89"), "Command line", "--targets sm86,sm89"),
        ("keep_io_types", False, "Command line", "--convert-io"),
        ("reuse", False, "Paddle-TRT", "use_static=False"),
        ("backend", "onnxruntime", "Command line", "--backend onnxruntime"),
    ]
    for trait, value, title, words in changes:
        before = state.code()
        assert words not in before[title]
        setattr(state, trait, value)
        assert words in state.code()[title], (trait, state.code()[title])
    assert set(state.code()) == {"Python", "Command line", "trtexec", "Paddle-TRT"}


@rtx
@pytest.mark.parametrize("title", ["Python", "Command line"])
def test_the_code_as_it_stands_asks_for_the_very_engine_that_was_built(
    state: BuilderState, tmp_path: Path, title: str
) -> None:
    ready(state, small(tmp_path / "it's a model.onnx", batch="batch size").path, "rtx")
    state.set_trait("precision", "fp16")
    state.bounds, state.workspace, state.targets = {"batch size": ("1", "2", "3")}, "1G", ("sm89", "sm86")
    state.start()
    assert finished(state).status == DONE
    code = state.code()[title]
    command = [sys.executable, "-c", code] if title == "Python" else ["sh", "-c", f"{code} --json"]
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": paths}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if title == "Python":
        assert "reused" in done.stdout
    else:
        assert json.loads(done.stdout)["reused"] is True


# ---- building


@pytest.mark.parametrize("backend", BOTH)
def test_build_and_build_again(state: BuilderState, path: Path, backend: str) -> None:
    ready(state, path, backend)
    statuses: list[str] = []
    state.observe(lambda change: statuses.append(change["new"]), "status")
    state.start()
    assert finished(state).built is not None and statuses == [BUILDING, DONE]
    assert (state.status, state.error) == (DONE, None)
    assert not state.built.reused and state.built.why_missed
    assert state.phases and all(phase.ended_s is not None for phase in state.phases)
    assert state.log and state.changed > 0
    first, log = state.built, list(state.log)

    state.start()
    assert finished(state).built.reused and state.built.why_missed is None
    assert state.built.engine == first.engine and state.log == log
    state.reuse = False
    state.start()
    assert not finished(state).built.reused and state.built.why_missed == "asked to build anew"


def test_elapsed_time_runs_while_it_builds_and_stands_still_afterwards(state: BuilderState, path: Path) -> None:
    assert state.elapsed_s == 0
    ready(state, path).start()
    seen: list[float] = []
    wait_until(lambda: seen.append(state.elapsed_s) or not state.busy, "the build ends")
    finished(state)
    assert seen[:-1] == sorted(seen[:-1])
    assert state.built is not None and state.elapsed_s >= state.built.engine.build_s - 0.01
    after = state.elapsed_s
    time.sleep(0.02)
    assert state.elapsed_s == after


@rtx
def test_a_second_click_on_build_is_ignored(state: BuilderState, tmp_path: Path) -> None:
    ready(state, long(tmp_path / "long.onnx").path, "rtx").start()
    job = state.job
    wait_until(children, "the build process starts")
    state.start()
    assert state.job is job and state.status == BUILDING and len(children()) == 1
    state.time_it()
    assert state.job is job
    state.cancel()
    assert finished(state).status == CANCELLED


@rtx
def test_cancel_stops_the_build_and_leaves_nothing(state: BuilderState, tmp_path: Path, home: Path) -> None:
    ready(state, long(tmp_path / "long.onnx", 6000).path, "rtx").start()
    wait_until(lambda: any(phase.name == "Building engine" for phase in list(state.phases)), "the builder is at work")
    state.cancel()
    assert state.wait(PATIENCE_S), "the build itself would take longer"
    assert state.status == CANCELLED and isinstance(state.error, Cancelled) and state.built is None
    assert not children() and not EngineStore().engines()
    state.load(small(tmp_path / "small.onnx").path)
    state.start()
    assert finished(state).status == DONE
    assert not [name for name in leftovers(EngineStore()) if not name.endswith(".lock")]


def test_cancel_without_a_build_does_nothing(state: BuilderState, path: Path) -> None:
    state.cancel()
    ready(state, path).start()
    finished(state).cancel()
    assert state.status == DONE
    state.start()
    assert finished(state).status == DONE and state.built is not None and state.built.reused


@pytest.mark.parametrize("backend", BOTH)
def test_a_model_the_back_end_refuses_fails_with_node_and_remedy_and_the_next_build_works(
    state: BuilderState, tmp_path: Path, path: Path, backend: str
) -> None:
    ready(state, refused(tmp_path / "refused.onnx").path, backend).start()
    assert finished(state).status == FAILED
    assert isinstance(state.error, BuildError) and state.error.node == "culprit" and state.error.remedy
    assert state.built is None and state.timed_engine == ""
    state.load(path)
    assert state.error is None and state.status == IDLE
    state.start()
    assert finished(state).status == DONE


def test_a_store_that_cannot_be_written_is_an_error_to_show(
    state: BuilderState, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(state, path)
    monkeypatch.setenv("WORKBENCH_HOME", "/dev/null/engines")
    state.start()
    assert finished(state).status == FAILED and "set WORKBENCH_HOME" in str(state.error)


def test_a_build_that_fails_leaves_what_was_built_before(path: Path, home: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    builder = EngineBuilder(path, store=EngineStore(store))
    state = ready(builder.state, path)
    state.start()
    found = finished(state).built
    state.time_it()
    measurement = finished(state).measurement
    assert found is not None and measurement is not None
    broken = path.read_bytes()
    path.write_bytes(b"no model")
    state.start()
    assert finished(state).status == FAILED and path.name in str(state.error)
    path.write_bytes(broken)
    shutil.rmtree(store)
    store.write_text("no folder")
    state.reuse = False
    state.start()
    assert finished(state).status == FAILED
    assert (state.built, state.measurement) == (found, measurement) and state.form_has_changed
    assert in_order(builder, "The result from before stands below", "data-reused")


@rtx
def test_another_model_waits_until_the_build_has_ended(state: BuilderState, path: Path, tmp_path: Path) -> None:
    ready(state, long(tmp_path / "long.onnx", 800).path, "rtx").start()
    wait_until(children, "the build process starts")
    with pytest.raises(ConfigError, match="cancel it first"):
        state.load(path)
    assert state.busy and state.model is not None and state.model.name == "long"
    state.cancel()
    assert finished(state).status == CANCELLED
    state.load(path)
    assert state.model.name == path.stem and not state.phases and not state.log


# ---- timing


def test_time_it_measures_the_engine_that_runs_here(state: BuilderState, path: Path) -> None:
    ready(state, path).precision = "fp16"
    state.start()
    finished(state)
    assert state.timed_engine == "onnxruntime fp16"
    statuses: list[str] = []
    state.observe(lambda change: statuses.append(change["new"]), "status")
    state.time_it()
    assert finished(state).measurement is not None and statuses == [TIMING, DONE]
    assert state.measured_on == "onnxruntime fp16" and state.error is None
    assert len(state.measurement.times_ms) == 100 and min(state.measurement.times_ms) > 0
    assert state.layer_times_ms and state.measurement.host_times_ms == (), "only a GPU has two clocks"
    state.start()
    assert finished(state).measurement is None, "a new build forgets the old measurement"


@rtx
@pytest.mark.parametrize(("precision", "timed"), [("fp16", "onnxruntime fp16"), ("bf16", "onnxruntime fp32")])
def test_after_an_rtx_build_without_a_gpu_onnxruntime_is_timed_and_named(
    state: BuilderState, path: Path, precision: str, timed: str
) -> None:
    ready(state, path, "rtx").precision = precision
    state.bounds = {"n": ("2", "3", "4")}
    state.start()
    finished(state)
    assert not state.supports["rtx"].can_run and state.timed_engine == timed
    built = state.built
    state.time_it()
    assert finished(state).status == DONE and state.error is None
    assert state.measurement is not None and state.measured_on == timed
    assert state.measurement.batch == 3, "at the profile's opt shapes"
    assert state.built is built


def test_time_it_without_an_engine_does_nothing(state: BuilderState, path: Path) -> None:
    ready(state, path).time_it()
    assert state.job is None and state.status == IDLE


@rtx
def test_time_it_works_or_says_why_when_the_form_was_changed_to_something_wrong(
    state: BuilderState, path: Path
) -> None:
    ready(state, path, "rtx").start()
    finished(state)
    state.bounds = {"n": ("abc", "1", "2")}
    state.time_it()
    finished(state)
    assert state.measurement is not None or state.error is not None


@rtx
def test_time_it_measures_the_built_engine_even_when_the_form_has_moved_on(state: BuilderState, path: Path) -> None:
    ready(state, path, "rtx").precision = "fp16"
    state.start()
    finished(state)
    state.backend = "onnxruntime"
    state.precision = "fp32"
    assert state.timed_engine == "onnxruntime fp16"
    state.time_it()
    assert finished(state).measured_on == "onnxruntime fp16"
    assert {engine.precision for engine in EngineStore().engines() if engine.backend == "onnxruntime"} == {"fp16"}


def test_cancel_stops_a_measurement_too(state: BuilderState, tmp_path: Path) -> None:
    """110 runs of this model take many seconds."""
    ready(state, slow_to_run(tmp_path / "slow.onnx").path).start()
    finished(state)
    state.time_it()
    wait_until(lambda: state.status == TIMING, "timing")
    time.sleep(0.3)
    state.cancel()
    assert finished(state).status == CANCELLED
    assert state.measurement is None


# ---- phases and log


def test_phases_are_entered_under_their_parents_and_may_run_twice() -> None:
    phases: list[Phase] = []
    for now_s, event in enumerate(
        (
            Progress("a", 0, 2),
            Progress("b", 0, 4, "a"),
            Progress("b", 2, 4, "a"),
            Progress("b", 4, 4, "a"),
            Progress("b", 0, 3, "a"),
            Progress("c", 0, None, "b"),
            Progress("a", 2, 2),
        )
    ):
        update_phases(phases, event, float(now_s))
    assert [(phase.name, phase.depth, phase.done, phase.total) for phase in phases] == [
        ("a", 0, 2, 2), ("b", 1, 0, 3), ("c", 2, 0, None),
    ]  # fmt: skip
    assert [(phase.started_s, phase.ended_s) for phase in phases] == [(0, 6), (4, None), (5, None)]


LOG = [
    LogLine("verbose", "Tactic 1"), LogLine("info", "Building"), LogLine("warning", "slow TACTIC"),
    LogLine("error", "failed [x]"), LogLine("verbose", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("severity", "words", "found"),
    [
        ("verbose", "", [0, 1, 2, 3, 4]),
        ("info", "", [1, 2, 3]),
        ("warning", "", [2, 3]),
        ("error", "", [3]),
        ("verbose", "tactic", [0, 2]),
        ("info", "tactic", [2]),
        ("verbose", "[x]", [3]),
        ("error", "tactic", []),
    ],
)
def test_the_log_is_searched_by_severity_and_words(severity: str, words: str, found: list[int]) -> None:
    assert search_log(LOG, severity, words) == ([LOG[index] for index in found], len(found))


def test_a_long_log_shows_its_last_lines_and_counts_them_all() -> None:
    lines = [LogLine("info", str(number)) for number in range(1200)]
    shown, count = search_log(lines, "info", "", limit=10)
    assert (len(shown), shown[-1].text, count) == (10, "1199", 1200)


def test_the_log_can_be_read_while_a_build_writes_it(state: BuilderState, tmp_path: Path) -> None:
    ready(state, small(tmp_path / "small.onnx").path).start()
    errors: list[Exception] = []

    def read() -> None:
        try:
            while state.busy:
                search_log(list(state.log), "verbose", "e"), list(state.phases)
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    finished(state)
    reader.join(PATIENCE_S)
    assert not errors


def test_the_error_of_a_wrong_form_is_a_config_error(state: BuilderState) -> None:
    state.start()
    assert state.status == FAILED and isinstance(state.error, ConfigError) and state.job is None


def test_targets_of_which_none_is_chosen_are_a_mistake(state: BuilderState, path: Path) -> None:
    ready(state, path).targets = ()
    assert "choose at least one target" in state.problem()
    state.targets = None
    assert state.problem() == ""


def test_two_uploads_of_one_name_are_two_models(state: BuilderState, path: Path, tmp_path: Path) -> None:
    other = small(tmp_path / "other.onnx", seed=7).path
    state.upload("model.onnx", path.read_bytes())
    first = state.model
    state.upload("model.onnx", other.read_bytes())
    assert first is not None and state.model is not None
    assert first.path != state.model.path and first.path.read_bytes() == path.read_bytes()


def test_a_model_exported_again_is_read_again(state: BuilderState, tmp_path: Path) -> None:
    path = small(tmp_path / "m.onnx", seed=1, batch="n").path
    ready(state, path, "onnxruntime").start()
    first = finished(state).built
    state.bounds = {"n": ("1", "2", "3")}
    small(path, seed=2, batch="n")
    state.start()
    second = finished(state).built
    assert first is not None and second is not None and not second.reused
    assert first.engine.recipe["model"] != second.engine.recipe["model"]
    assert state.bounds == {"n": ("1", "2", "3")}, "what was typed stays"


def test_a_shared_dimension_is_parted_so_that_sizes_may_differ(state: BuilderState) -> None:
    ready(state, OCR_CLS)
    assert [key for key in state.bounds if "?" in key] == ["?"]
    state.part("?")
    assert list(state.bounds) == ["x:0", "x_2", "x_3"]
    state.bounds = {**state.bounds, "x_2": ("48", "48", "48"), "x_3": ("192", "192", "192")}
    assert state.problem() == ""
    assert "x:2=x_2" in state.code()["Command line"]
