"""TunerState and Tuner without a browser: set a trait, assert a trait; the searches are real."""

from __future__ import annotations

import ast
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import helpers_tuned
import helpers_tuning
import pytest
from helpers_building import PATIENCE_S, small, wait_until
from helpers_widgets import find, in_order, parts, texts
from models import FASHION_CNN

from workbench.calibration.samples import open_samples
from workbench.cli import main
from workbench.errors import ConfigError
from workbench.model import Model, load_model
from workbench.runs import History
from workbench.tuning import Data, Goals, Limit, Space, make_plan, save_tuned
from workbench.tuning.result import FINISHED, STOPPED
from workbench.types import BuildConfig, BuilderOptions, Calibration
from workbench.widgets import EngineBuilder, Tuner
from workbench.widgets.tuner_knobs import HINTS, knob_rows, texts_of, why_idle
from workbench.widgets.tuner_points import PointPlot, RowTable
from workbench.widgets.tuner_results import FINALISTS, FRONT, KNOBS, PROGRESS
from workbench.widgets.tuner_run import ADDRESS, LOCAL
from workbench.widgets.tuner_state import TunerState
from workbench.widgets.tuner_use import recipe_code, recipe_of
from workbench.widgets.work_state import CANCELLED, DONE, FAILED, IDLE

PICTURES = Path(__file__).parents[2] / "data" / "fashion_mnist_test"
TINY = Space(("onnxruntime",), ("fp32", "fp16"), threads=(1,))


@pytest.fixture
def state(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TunerState:
    """A small model whose batch is open, two candidates, nothing recorded."""
    monkeypatch.chdir(tmp_path)
    state = TunerState(space=TINY)
    state.recordings = ()
    state.take(small(tmp_path / "net.onnx", batch="n"))
    return state


@pytest.fixture
def form(home: Path) -> TunerState:
    """The classifier with its pictures, and what is usual here."""
    state = TunerState()
    state.take(load_model(FASHION_CNN))
    state.open_data(str(PICTURES))
    return state


def finished(state: TunerState) -> TunerState:
    assert state.wait(PATIENCE_S), "it does not end"
    return state


def searched(state: TunerState) -> TunerState:
    state.start()
    assert finished(state).status == DONE, state.error
    return state


# ---- the form


def test_at_first_it_asks_for_a_model(home: Path) -> None:
    state = TunerState()
    assert state.problem() == "Choose a model first." and state.code() == {} and state.knob_rows() == ()
    state.start()
    assert state.status == FAILED and isinstance(state.error, ConfigError)


def test_the_space_of_this_machine_is_shown_with_its_sizes(form: TunerState) -> None:
    sizes, reasons = form.sizes()
    assert sizes.endswith("after rules") and "combinations" in sizes
    assert form.is_usual and form.problem() == "" and reasons == form.rules().left_out(form.space())  # type: ignore[union-attr]
    assert [item.knob for item in form.knob_rows()] == list(HINTS)


def test_int8_joins_when_data_come_and_changed_knobs_stay(home: Path) -> None:
    state = TunerState()
    state.take(load_model(FASHION_CNN))
    assert "int8" not in state.knobs["precision"]
    state.set_knob("batch", "1, 4")
    state.open_data(str(PICTURES))
    assert state.knobs["precision"] == "fp32, fp16, int8" and state.knobs["batch"] == "1, 4"
    assert not state.is_usual
    state.as_usual()
    assert state.is_usual and state.knobs["batch"] == "1"


@pytest.mark.parametrize(
    ("trait", "text", "told"),
    [
        ("limits", "accuracy<0.2", "'accuracy<0.2' is no limit"),
        ("limits", "speed<=3", "there is no 'speed' to limit"),
        ("limits", "latency>=2", "so much at most: <="),
        ("limits", "top1<=1, argmax<=1", "name top1 or argmax, not both"),
        ("trials", "none", "Trials: 'none' is none"),
        ("trials", "1.5", "write a whole number above 0"),
        ("minutes", "-1", "Minutes: '-1' is none"),
        ("trials", "", "Say how many trials, or how many minutes."),
        ("compared", "few", "'few' is no number of samples"),
        ("calibration", "nowhere.calib", "there is no such file"),
        ("data", "", ""),
    ],
)
def test_what_is_wrong_is_told_in_words(state: TunerState, trait: str, text: str, told: str) -> None:
    setattr(state, trait, text)
    assert told in state.problem() and bool(state.code()) is not bool(told)


def test_data_that_are_none_are_told(state: TunerState) -> None:
    state.open_data("nowhere")
    assert "nowhere" in state.problem()


@pytest.mark.parametrize(
    ("knob", "text", "told"),
    [
        ("precision", "fp32, fp23", "there is no 'fp23'; choose among"),
        ("batch", "one", "'one' is no whole number."),
        ("batch", "", "give one value at least."),
        ("threads", "1, 1", "a value is given twice (1, 1)."),
        ("workspace_bytes", "much", "'much' is not a size"),
        ("optimization_level", "7", "7 is none; they go from 0 to 5."),
        ("cuda_graph", "maybe", "'maybe' is neither on nor off."),
    ],
)
def test_a_wrong_knob_is_told_beside_it(state: TunerState, knob: str, text: str, told: str) -> None:
    state.set_knob(knob, text)
    (row,) = (item for item in state.knob_rows() if item.knob == knob)
    assert told in row.problem and not row.problem.startswith(row.title)
    assert state.sizes() == ("", ()) and told in state.problem()
    assert not [item.problem for item in state.knob_rows() if item.knob != knob and item.problem]


def test_a_knob_without_effect_says_why() -> None:
    processor, gpu = helpers_tuning.ground(), helpers_tuning.ground(gpu="0")
    space = helpers_tuning.large_space(precision=("fp32",))
    told = {knob: why_idle(knob, space, helpers_tuning.rules(processor)) for knob in HINTS}
    assert told["algorithm"] == told["in_float"] == "only int8 has it, and no int8 is tried"
    assert told["workspace_bytes"] == "only NVIDIA's back ends have it"
    assert told["optimization_level"] == "no back end that is tried has it"
    assert told["cuda_graph"] == "only runs on an NVIDIA GPU have it" and told["threads"] == ""
    on_gpu = replace(space, backend=("tensorrt",), precision=("int8",))
    told = {knob: why_idle(knob, on_gpu, helpers_tuning.rules(gpu)) for knob in HINTS}
    assert {knob for knob, why in told.items() if why} == {"threads"}
    fixed = helpers_tuning.rules(gpu, fixed_batch=4, is_quantized=True)
    assert why_idle("batch", on_gpu, fixed) == "the model takes 4 at once"
    assert why_idle("algorithm", on_gpu, fixed) == "the model brings its ranges along"


def test_rows_of_workers_nobody_knows_are_not_dim() -> None:
    space = helpers_tuning.large_space()
    assert not any(item.idle for item in knob_rows(space, texts_of(space), None))


def test_objectives_keep_the_order_in_which_they_were_chosen(state: TunerState) -> None:
    state.wish_for("latency", False)
    state.wish_for("size", True)
    state.wish_for("latency", True)
    assert state.goals().objectives == ("accuracy", "size", "latency")
    for name in ("accuracy", "size", "latency"):
        state.wish_for(name, False)
    assert state.objectives == ("latency",), "one is always left"


def test_goals_are_filled_in_and_read_again(state: TunerState) -> None:
    goals = Goals(
        ("throughput", "size"), (Limit("accuracy", 0.2), Limit("size", 1e7), Limit("throughput", 500)), "argmax"
    )
    state.set_goals(goals)
    assert state.goals() == goals


def test_where_no_candidate_is_left_it_says_why(form: TunerState) -> None:
    if form.ground.supports["tensorrt"].can_run:
        pytest.skip("TensorRT runs here")
    form.set_knob("backend", "tensorrt")
    assert form.sizes()[0].endswith(" 0 after rules")
    assert "No candidate is left to try." in form.problem() and "tensorrt cannot build" in form.problem()


def test_a_cluster_is_not_judged_by_this_machine(form: TunerState) -> None:
    form.where = ADDRESS
    assert form.problem() == "Write the scheduler's address."
    form.address = "somewhere"
    assert "is no address" in form.problem()
    form.address = "tcp://host:8786"
    assert form.problem() == "" and form.order().space is None and form.scheduler == "tcp://host:8786"
    assert "space" not in form.code()["Python"] and "scheduler='tcp://host:8786'" in form.code()["Python"]
    form.set_knob("backend", "tensorrt")
    assert form.problem() == "" and form.order().space == replace(form.space(), backend=("tensorrt",))
    assert "--backend tensorrt --precision fp32,fp16,int8" in form.code()["Command line"]
    form.where = LOCAL
    assert form.scheduler == "local"


def test_the_code_says_all_that_was_filled_in(form: TunerState) -> None:
    form.limits, form.trials, form.minutes = "top1<=0.5, size<=1M", "9", "2.5"
    form.compared, form.calibrated = "", "100"
    form.set_knob("in_float", "0, 2")
    code = form.code()
    ast.parse(code["Python"])
    assert "in_float=(0, 2)" in code["Python"] and "Budget(trials=9, minutes=2.5)" in code["Python"]
    assert "Limit('accuracy', 0.5), Limit('size', 1048576.0)" in code["Python"] and "metric='top1'" in code["Python"]
    assert "calibrated=100, compared=None" in code["Python"]
    words = shlex.split(code["Command line"])
    assert words[:2] == ["workbench", "tune"] and words[words.index("--space") :][:2] == ["--space", "in-float=0,2"]
    assert words.count("--space") == 1, "what is usual is not said"
    assert {"--limit", "accuracy<=0.5", "size<=1048576", "--minutes", "2.5", "--compared", "0"} <= set(words)


# ---- searching


def test_a_search_is_carried_out_and_the_shell_knows_all_of_it(
    state: TunerState, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []
    state.observe(lambda change: seen.append(change["new"]), "tuned")
    searched(state)
    found = state.tuned
    assert found is not None and found.state == FINISHED and found.best is not None and len(found.trials) == 2
    assert [len(item.trials) for item in seen if item][-1] == 2 and not state.form_has_changed
    assert [phase.name for phase in state.phases if phase.ended_s is None] == []
    assert ("Tuning", 2, 2) in [(phase.name, phase.done, phase.total) for phase in state.phases]

    assert dict(state.plan.again)["Shell"] == state.code()["Command line"]  # type: ignore[union-attr]
    assert main([*shlex.split(state.code()["Command line"])[1:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["id"] == found.id and {item["id"] for item in again["trials"]} == {item.id for item in found.trials}
    assert all(item["at"] in {trial.at for trial in found.trials} for item in again["trials"]), "nothing is timed twice"


def test_what_was_cancelled_goes_on(state: TunerState) -> None:
    """Paused first, so that one trial alone has ended."""
    state.observe(lambda change: state.pause(), "tuned")
    state.start()
    wait_until(lambda: state.tuned is not None and state.tuned.trials and not state.tuned.running, "no trial ends")
    assert state.paused and state.busy
    state.cancel()
    assert finished(state).status == CANCELLED
    assert state.tuned is not None and state.tuned.state == STOPPED and len(state.tuned.trials) == 1
    assert "1 trial" in str(state.error) and "goes on" in str(state.error) and state.can_go_on
    first = state.tuned.trials[0]
    state.unobserve_all("tuned")
    searched(state)
    assert not state.paused and first in state.tuned.trials and len(state.tuned.trials) == 2


def test_finish_measures_the_finalists_of_what_was_found(state: TunerState) -> None:
    state.trials = "25"
    state.observe(lambda change: change["new"].trials and state.finish(), "tuned")
    searched(state)
    assert state.finishing and state.tuned is not None and state.tuned.state == FINISHED
    assert len(state.tuned.trials) == 1 and state.tuned.best is not None


def test_the_model_stays_while_it_is_searched_and_a_broken_one_is_told(state: TunerState, tmp_path: Path) -> None:
    state.observe(lambda change: state.pause(), "tuned")
    state.start()
    with pytest.raises(ConfigError, match="something runs already"):
        state.load(FASHION_CNN)
    state.cancel()
    finished(state)
    state.load(tmp_path / "gone.onnx")
    assert state.tuned is None and state.status == IDLE and "gone.onnx" in state.problem()


def test_a_start_that_fails_leaves_what_was_found_before(state: TunerState, tmp_path: Path) -> None:
    found, plan, path = searched(state).tuned, state.plan, state.model.path  # type: ignore[union-attr]
    (tmp_path / "broken.calib").write_text("no ranges")
    state.calibration = str(tmp_path / "broken.calib")
    state.set_knob("precision", "int8")
    state.start()
    assert finished(state).status == FAILED and "broken.calib" in str(state.error)
    assert (state.tuned, state.plan) == (found, plan) and state.viewed is found and state.form_has_changed
    state.calibration = ""
    state.as_usual()
    assert not state.form_has_changed
    path.write_bytes(b"no model")
    state.start()
    assert finished(state).status == FAILED and "net.onnx" in str(state.error)
    assert state.tuned is found and state.problem() == "", "the next Start reads it again"


def test_a_start_that_fails_leaves_the_recorded_search_that_is_looked_at(tmp_path: Path, fashion_cnn: Model) -> None:
    widget = Tuner(fashion_cnn, space=replace(TINY, precision=("int8",)))
    widget.state.explore(helpers_tuned.tuned())
    (tmp_path / "broken.calib").write_text("no ranges")
    widget.state.calibration = str(tmp_path / "broken.calib")
    find(widget, "Start").click()
    assert finished(widget.state).status == FAILED and widget.state.recorded == helpers_tuned.tuned().id
    assert in_order(widget, "The result from before stands below", "data-search")


# ---- looking


def test_a_recorded_search_is_explored(state: TunerState) -> None:
    state.explore(helpers_tuned.tuned())
    assert state.viewed is not None and state.viewed.recorded.startswith("kept from 2026-12-01")
    assert state.tuned is None and state.viewed_column.name == helpers_tuned.HERE
    for section in (FRONT, PROGRESS, KNOBS, FINALISTS):
        state.section = section
        assert state.picture().plots and state.picture().sheet.rows, section
    state.selected = "000000000003"
    assert state.trial is not None and state.trial.candidate.precision == "int8"
    with pytest.raises(ConfigError, match="with other inputs than the model above has"):
        state.recipe()
    assert state.trial_code() == {}
    state.recorded = ""
    assert state.trial is None and state.selected == ""


def test_the_recorded_search_of_the_model_is_shown_at_first(home: Path, fashion_cnn: Model) -> None:
    state = TunerState()
    other = replace(helpers_tuned.tuned(), id="1" * 12, recorded="recorded elsewhere")
    same = replace(other, id="2" * 12, model="renamed", model_sha256=fashion_cnn.sha256)
    alike = replace(other, id="3" * 12, model=fashion_cnn.name)
    state.recordings = (other, alike, same)
    state.take(fashion_cnn)
    assert state.recorded == same.id and state.viewed is same


def test_a_damaged_recording_is_told(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    broken = tmp_path / "data" / "recorded" / "gpu" / "net.sweep.json.gz"
    save_tuned(helpers_tuned.tuned(), broken)
    assert len(TunerState().recordings) == 1
    broken.write_bytes(b"nonsense")
    state = TunerState()
    assert state.recordings == () and "not a search" in state.recordings_error


def test_the_table_of_the_front_is_written_with_all_trials(state: TunerState, tmp_path: Path) -> None:
    state.explore(helpers_tuned.tuned())
    state.export("csv")
    assert state.exported == (str(tmp_path / "net-tuning-front.csv"),)
    lines = (tmp_path / "net-tuning-front.csv").read_text().splitlines()
    assert len(lines) == 7 and lines[0].startswith("#,candidate,latency ms")
    state.selected = "000000000001"
    assert state.exported == ()


# ---- one trial


def recipe_for(model: Model, tmp_path: Path, **knobs: Any) -> Any:
    plan = make_plan(
        model, Space(("onnxruntime",), ("int8",), in_float=(0, 1)),
        data=Data(open_samples(str(PICTURES), model), calibrated=9, compared=9),
    )  # fmt: skip
    found = helpers_tuned.tuned(id=plan.id, model_sha256=model.sha256)
    candidate = replace(found.trials[2].candidate, **knobs)
    return recipe_of(replace(found.trials[2], candidate=candidate), found, model, plan)


def test_layers_in_float_are_told_to_the_back_end(home: Path, fashion_cnn: Model, tmp_path: Path) -> None:
    recipe = recipe_for(fashion_cnn, tmp_path, in_float=1, threads=1)
    assert recipe.why_not == "" and list(recipe.config.builder.layer_precisions) == list(recipe.in_float)
    code = recipe_code(recipe)
    ast.parse(code["Python"])
    assert "layer_precisions" in code["Python"] and "--layer-precision" in code["Command line"]
    assert recipe.notes == ("It was run with threads=1.",)


def test_a_back_end_that_takes_no_layers_gets_a_quantized_model(home: Path, fashion_cnn: Model, tmp_path: Path) -> None:
    recipe = recipe_for(fashion_cnn, tmp_path, in_float=1)
    told = replace(recipe, config=replace(recipe.config, builder=BuilderOptions()))
    assert told.is_quantized and "quantize(model, ranges, Path('.'), keep=keep)" in recipe_code(told)["Python"]
    ast.parse(recipe_code(told)["Python"])


def test_a_model_in_parts_is_none_for_engine_builder(home: Path, fashion_cnn: Model, tmp_path: Path) -> None:
    recipe = recipe_for(fashion_cnn, tmp_path, min_subgraph_size=3)
    assert "SubgraphView does" in recipe.why_not
    python = recipe_code(recipe)["Python"]
    ast.parse(python)
    assert "wb.partition(model, 'onnxruntime', 3)" in python and "BuildConfig('int8'" in python
    with pytest.raises(ConfigError, match="in parts"):
        recipe.wish()


def test_of_a_recorded_trial_the_ranges_are_to_be_made(home: Path, fashion_cnn: Model) -> None:
    found = helpers_tuned.tuned(model=fashion_cnn.name)
    recipe = recipe_of(found.trials[2], found, fashion_cnn, None)
    assert recipe.why_not == "" and recipe_code(recipe)["Python"].startswith("# ranges.calib: yours;")
    unknown = replace(found.trials[2], candidate=replace(found.trials[2].candidate, algorithm="TensorRT's own"))
    assert "cannot be made here" in recipe_of(unknown, found, fashion_cnn, None).why_not
    bare = recipe_of(found.trials[2], replace(found, shapes={}), fashion_cnn, None)
    assert bare.config.profiles == recipe.config.profiles, "one row in the sizes that are proposed"
    lacking = replace(found.trials[2], candidate=replace(found.trials[2].candidate, in_float=2))
    assert "is not recorded" in recipe_of(lacking, found, fashion_cnn, None).why_not


def test_a_found_trial_goes_into_engine_builder_and_can_be_a_baseline(state: TunerState) -> None:
    searched(state)
    state.selected = next(item.id for item in state.tuned.trials if item.candidate.precision == "fp16")  # type: ignore[union-attr]
    assert state.recipe().plan is state.plan
    builder = EngineBuilder(FASHION_CNN)
    state.use(builder.state)
    assert builder.state.model is state.model and builder.state.precision == "fp16" and builder.state.problem() == ""
    state.name_baseline("fast")
    assert "--against fast" in state.baseline_said and History().baseline("fast").runs[0].id == state.selected
    state.name_baseline("no/name")
    assert "is no name for a baseline" in state.baseline_error and state.baseline_said == ""


def test_engine_builder_keeps_what_it_has_no_field_for(home: Path, tmp_path: Path) -> None:
    ranges = tmp_path / "net.calib"
    ranges.touch()
    state = EngineBuilder(FASHION_CNN).state
    config = BuildConfig(
        "int8", calibration=Calibration(str(ranges), "minmax"), workspace_bytes=1 << 20,
        builder=BuilderOptions(optimization_level=4),
    )  # fmt: skip
    state.take_config("onnxruntime", config)
    assert state.config() == config and state.taken() == "ranges by minmax, optimization level 4"
    state.drop_taken()
    assert state.taken() == "" and state.config().calibration == Calibration(str(ranges))
    state.take_config("onnxruntime", config)
    state.calibration = str(tmp_path / "other.calib")
    state.backend = "rtx"
    assert state.taken() == ""


# ---- the view


def test_the_widget_shows_the_state(state: TunerState, fashion_cnn: Model) -> None:
    widget = Tuner(fashion_cnn, data=str(PICTURES), goals=Goals(limits=(Limit("accuracy", 1.0),)), space=TINY)
    assert widget.tuned is None and widget.state.samples is not None and widget.state.limits == "accuracy<=1"
    widget.state.explore(helpers_tuned.tuned())
    assert "Its latency is the best." in texts(widget)
    rows = next(item for item in parts(widget) if isinstance(item, RowTable))
    points = next(item for item in parts(widget) if isinstance(item, PointPlot))
    assert len(rows.rows) == 6 and len(points.spots) == 5 and points.svg.startswith("<svg")
    rows.selected = "000000000003"
    assert widget.state.selected == points.selected == rows.selected
    assert "onnxruntime int8 entropy" in texts(widget) and "choose that model above" in texts(widget)


def test_use_this_makes_a_builder_where_none_was_given(state: TunerState, fashion_cnn: Model) -> None:
    for given in (None, EngineBuilder(fashion_cnn)):
        widget = Tuner(fashion_cnn, space=TINY, builder=given)
        widget.state.explore(helpers_tuned.tuned(model_sha256=fashion_cnn.sha256))
        widget.state.selected = "000000000002"
        find(widget, "Use this in EngineBuilder").click()
        made = given or next(item for item in parts(widget) if isinstance(item, EngineBuilder))
        assert made.state.precision == "fp16" and "click Build there" in texts(widget)
