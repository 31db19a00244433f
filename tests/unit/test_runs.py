"""The history: what is written comes back, is found by every filter, and keeps the names it is given."""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_building import small
from helpers_runs import MODEL, filled, timed

from workbench.accuracy import compare_outputs
from workbench.building import build
from workbench.engine import Engine
from workbench.errors import ConfigError, StoreError, UnknownRun
from workbench.evaluation import evaluation_from_json
from workbench.machine import Machine, this_machine
from workbench.model import Model
from workbench.recipe import recipe_entries
from workbench.runs import (
    Filter,
    History,
    Run,
    new_id,
    parse_since,
    record_build,
    run_of_build,
    run_of_comparison,
    run_of_evaluation,
    run_of_measurement,
    run_to_json,
)
from workbench.runs.records import machine_id, stamp
from workbench.store import EngineStore
from workbench.timing import Measurement, measurement_from_json
from workbench.types import LogLine, Progress

ALL = Filter(limit=None)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "store")


def measurement(*times_ms: float, **fields: Any) -> Measurement:
    usual: dict[str, Any] = {"shapes": {"x": (4, 3)}, "clock": "perf_counter", "machine": this_machine(), "threads": 2}
    return Measurement(times_ms, warmup=3, **{**usual, **fields})


# ---- writing and reading


def test_a_run_comes_back_as_it_was_written(history: History) -> None:
    run = timed(1.25, study=new_id(), note="after the fix", copies=True, loss=None, size_bytes=123, build_s=4.5)
    history.add(run, {"times_ms": [1.2, 1.3], "warmup": 3})
    (found,) = history.list()
    assert found == run and found.copies is True and history.get(run.id) == run
    assert history.data(run) == {"times_ms": [1.2, 1.3], "warmup": 3}


def test_an_empty_history_is_read_without_making_a_file(history: History) -> None:
    assert history.list() == () and history.baselines() == ()
    with pytest.raises(UnknownRun, match="no run has an id that starts with 'abc'"):
        history.get("abc")
    assert not history.path.exists()


def test_the_history_lies_in_the_stores_folder(home: Path) -> None:
    History().add(timed(1.0))
    assert History().path == EngineStore().folder / "runs.sqlite" == home / "runs.sqlite"
    assert [path.name for path in home.iterdir() if path.name.startswith(("runs", ".runs"))] == ["runs.sqlite"]


def test_the_newest_come_first_fifty_unless_told_otherwise(tmp_path: Path) -> None:
    history, runs = filled(tmp_path / "store", 60)
    assert list(history.list()) == runs[::-1][:50]
    assert list(history.list(ALL)) == runs[::-1]
    assert list(history.list(Filter(limit=3))) == runs[::-1][:3]
    assert history.list(Filter(limit=0)) == ()
    with pytest.raises(ConfigError, match="-1 runs cannot be listed"):
        Filter(limit=-1)


def test_what_belongs_together_is_written_wholly_or_not_at_all(history: History) -> None:
    first, second, third = (timed(value, study="s1") for value in (1.0, 2.0, 3.0))
    history.add(second)
    with pytest.raises(StoreError, match=f"the run {second.id} is in the history already"):
        history.add_many([(first, {}), (second, {}), (third, {})])
    assert history.list() == (second,)
    history.add_many([(first, {}), (third, {})])
    assert {run.id for run in history.list()} == {first.id, second.id, third.id}


def test_runs_of_one_setup_share_it_and_the_last_takes_it_along(history: History) -> None:
    runs = [timed(1.0), timed(2.0), timed(3.0, subject="another")]
    history.add_many((run, {}) for run in runs)

    def setups() -> int:
        with sqlite3.connect(history.path) as connection:
            return int(connection.execute("SELECT count(*) FROM setups").fetchone()[0])

    counts = [setups()]
    for run in runs:
        history.delete(run)
        counts.append(setups())
    assert counts == [2, 2, 1, 0]
    assert history.list() == ()


def test_lists_never_read_the_data(tmp_path: Path) -> None:
    history, runs = filled(tmp_path / "store")
    with sqlite3.connect(history.path) as connection:
        connection.execute("UPDATE data SET zipped = ?", (b"nonsense",))
    connection.close()
    assert len(history.list()) == len(runs)
    with pytest.raises(
        StoreError, match=f"the data of the run {runs[0].id} are damaged .* what the list tells remains"
    ):
        history.data(runs[0])


def test_data_that_are_gone_are_told_and_the_run_is_known_all_the_same(tmp_path: Path) -> None:
    history, runs = filled(tmp_path / "store", 3)
    with sqlite3.connect(history.path) as connection:
        connection.execute("DELETE FROM data WHERE number = 2")
    connection.close()
    with pytest.raises(StoreError, match=f"the data of the run {runs[1].id} are missing; what the list tells remains"):
        history.data(runs[1])
    assert len(history.list()) == 3 and history.data(runs[2]) == {"times_ms": [3.0] * 50}


def test_data_of_a_thousand_runs_come_in_the_order_asked_for(tmp_path: Path) -> None:
    history, runs = filled(tmp_path / "store", 1200)
    mixed = runs[::-7] + runs[:5]
    assert [data["times_ms"][0] for data in history.data_of(mixed)] == [run.median_ms for run in mixed]


def test_what_was_deleted_is_unknown(tmp_path: Path) -> None:
    history, runs = filled(tmp_path / "store", 3)
    history.delete(runs[1])
    assert [run.id for run in history.list()] == [runs[2].id, runs[0].id]
    for ask in (history.delete, history.data):
        with pytest.raises(UnknownRun, match=f"there is no run {runs[1].id}; `workbench runs` lists them"):
            ask(runs[1])
    later = timed(9.0)
    history.add(later, {"its": "own"})
    assert history.data(later) == {"its": "own"}


def test_threads_of_one_process_write_and_read_at_once(history: History) -> None:
    runs = [[timed(1.0 + number) for number in range(10)] for _ in range(8)]
    errors: list[BaseException] = []

    def work(mine: list[Run]) -> None:
        try:
            for run in mine:
                history.add(run, {"id": run.id})
                assert history.get(run.id) == run and history.data(run) == {"id": run.id}
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert {run.id for run in history.list(ALL)} == {run.id for mine in runs for run in mine}


# ---- what is hard to write


@pytest.mark.parametrize(
    "text", ["größer 模型 🚀", 'it\'s "quoted", 100 %', "line\nbreak\ttab", "null\0byte", "' OR 1=1 --"]
)
def test_text_of_any_kind_comes_back(history: History, text: str) -> None:
    run = timed(1.0, model=text, subject=text, note=text, study=text, shapes=text)
    history.add(run, {text: text})
    assert history.list(Filter(study=text)) == (run,)
    assert history.list(Filter(model=text)) == (run,)
    assert history.data(run) == {text: text}


def test_a_file_name_that_is_no_unicode_gets_a_mark(history: History) -> None:
    run = timed(1.0, model="net\udcff")
    history.add(run, {"path": "net\udcff"})
    assert history.get(run.id).model == "net?" and history.data(run) == {"path": "net\udcff"}


def test_huge_and_tiny_times_come_back_to_the_last_digit(history: History) -> None:
    for value in (1.7976931348623157e308, 5e-324, 0.1 + 0.2, 0.0):
        run = timed(value, value, value, p99_ms=value, throughput_per_s=value)
        history.add(run, {"times_ms": [value]})
        assert history.get(run.id) == run and history.data(run) == {"times_ms": [value]}


def test_what_is_not_finite_is_not_told(history: History) -> None:
    run = timed(1.0, math.nan, math.inf, loss=math.inf)
    history.add(run, {"low": -math.inf, "nested": [{"cosine": math.nan}, (1, math.inf)]})
    found = history.get(run.id)
    assert (found.low_ms, found.high_ms, found.loss) == (None, None, None)
    assert history.data(run) == {"low": None, "nested": [{"cosine": None}, [1, None]]}
    assert found.median is not None and (found.median.low, found.median.high) == (0.0, math.inf)


def test_a_run_is_json(history: History) -> None:
    run = timed(1.0, high_ms=math.inf)
    assert json.loads(json.dumps(run_to_json(run), allow_nan=False)) == {**run._asdict(), "high_ms": None}


# ---- filters

NOW = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
CONFIG = json.dumps({"profiles": [{"image": {"opt": [1, 3, 640, 640]}}], "targets": ["sm_89%"]})
KNOWN = {
    "trt": timed(1.0, model="ResNet18", subject="tensorrt fp16", backend="tensorrt", precision="fp16", config=CONFIG,
                 machine="Intel Xeon, NVIDIA H200", machine_id="beef0001", study="s1", at=stamp(NOW)),
    "ort": timed(2.0, model="resnet18", subject="onnxruntime int8", backend="onnxruntime", precision="int8",
                 machine="AMD EPYC", machine_id="beef0002", study="s1", at=stamp(NOW - timedelta(days=1))),
    "eager": timed(3.0, model="minilm", model_sha256="b" * 64, subject="PyTorch eager",
                   at=stamp(NOW - timedelta(days=9))),
    "build": timed(None, kind="build", model="minilm", model_sha256="b" * 64, precision="fp16",
                   at=stamp(NOW - timedelta(days=30))),
}  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"kind": "build"}, "build"),
        ({"kind": "measurement"}, "trt ort eager"),
        ({"model": "resnet18"}, "trt ort"),
        ({"model": "RESNET18"}, "trt ort"),
        ({"model": "resnet"}, ""),
        ({"model": "b" * 8}, "eager build"),
        ({"model": "B" * 12}, "eager build"),
        ({"model": MODEL}, "trt ort"),
        ({"model": "bbbb"}, ""),
        ({"precision": "fp16"}, "trt build"),
        ({"backend": "tensorrt"}, "trt"),
        ({"machine": "h200"}, "trt"),
        ({"machine": "beef0002"}, "ort"),
        ({"machine": "nvidia intel"}, "trt"),
        ({"study": "s1"}, "trt ort"),
        ({"study": "s"}, ""),
        ({"search": "pytorch"}, "eager"),
        ({"search": "resnet18 epyc"}, "ort"),
        ({"search": "640"}, "trt"),
        ({"search": "sm_89%"}, "trt"),
        ({"search": "sm_8%9"}, ""),
        ({"search": "sm189"}, ""),
        ({"search": "%"}, "trt"),
        ({"since": NOW}, "trt"),
        ({"since": NOW - timedelta(days=1)}, "trt ort"),
        ({"since": (NOW - timedelta(days=9)).astimezone(timezone(timedelta(hours=5)))}, "trt ort eager"),
        ({"since": datetime(2026, 11, 19, 12, 0, 0, 1000)}, "trt"),
        ({"kind": "measurement", "precision": "fp16"}, "trt"),
        ({"model": "resnet18", "since": NOW - timedelta(hours=1), "study": "s1"}, "trt"),
        ({"model": "resnet18", "limit": 1}, "trt"),
        ({}, "trt ort eager build"),
    ],
)
def test_every_filter_finds_what_it_says(history: History, wanted: dict[str, Any], found: str) -> None:
    history.add_many((run, {}) for run in reversed(KNOWN.values()))
    names = {run.id: name for name, run in KNOWN.items()}
    assert " ".join(names[run.id] for run in history.list(Filter(**wanted))) == found


def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="no runs of the kind 'builds'; choose one of build, measurement"):
        Filter(kind="builds")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=timezone.utc)),
        ("2026-11-20T14:30", datetime(2026, 11, 20, 14, 30, tzinfo=timezone.utc)),
        (" 2026-11-20 14:30:05 ", datetime(2026, 11, 20, 14, 30, 5, tzinfo=timezone.utc)),
        ("2026-11-20T14:30:00Z", datetime(2026, 11, 20, 14, 30, tzinfo=timezone.utc)),
        ("2026-11-20T14:30:00+02:00", datetime(2026, 11, 20, 12, 30, tzinfo=timezone.utc)),
        ("30m", NOW - timedelta(minutes=30)),
        ("12H", NOW - timedelta(hours=12)),
        ("7d", NOW - timedelta(days=7)),
        ("2w", NOW - timedelta(weeks=2)),
    ],
)
def test_since_is_a_date_or_an_age(text: str, moment: datetime) -> None:
    assert parse_since(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7y", "-7d", "2026-13-01", "99999999d", "20/11/2026"])
def test_another_since_is_refused_in_words(text: str) -> None:
    with pytest.raises(ConfigError, match="write a date, as 2026-11-20 or 2026-11-20T14:30, or an age, as 7d"):
        parse_since(text, NOW)


# ---- ids


def test_the_beginning_of_an_id_will_do_unless_several_begin_so(history: History) -> None:
    runs = [timed(1.0)._replace(id=name) for name in ("abc000000000", "abc100000000", "abf000000000", "0bc000000000")]
    history.add_many((run, {}) for run in runs)
    assert history.get("abf") == history.get("ABF0") == runs[2]
    assert history.get("0") == runs[3]
    assert history.get("abc000000000") == runs[0]
    with pytest.raises(UnknownRun, match="3 runs have an id that starts with 'ab'; write more of it, as abc00000"):
        history.get("ab")


@pytest.mark.parametrize("prefix", ["", "%", "abg", "xyz", "a" * 13, "ab c", "абв"])
def test_what_is_no_beginning_of_an_id_is_unknown(tmp_path: Path, prefix: str) -> None:
    history, _ = filled(tmp_path / "store", 3)
    with pytest.raises(UnknownRun, match="no run has an id that starts with") as caught:
        history.get(prefix)
    assert caught.value.exit_code == 2


# ---- baselines


def test_a_name_for_a_run_moves_and_is_taken_away(tmp_path: Path) -> None:
    history, runs = filled(tmp_path / "store", 3)
    assert history.name_baseline("v1", runs[0].id[:8]).runs == (runs[0],)
    assert history.baseline("v1").runs == (runs[0],) and history.baseline("v1").study == ""
    history.name_baseline("v1", runs[2].id)
    history.name_baseline("Größe 2.0", runs[2].id)
    assert {item.name: item.runs for item in history.baselines()} == {"v1": (runs[2],), "Größe 2.0": (runs[2],)}
    history.forget_baseline("v1")
    assert [item.name for item in history.baselines()] == ["Größe 2.0"]
    assert len(history.list()) == 3


def test_a_name_for_a_study_holds_all_of_its_runs(history: History) -> None:
    runs = [timed(1.0, study="s1"), timed(2.0, study="s1"), timed(3.0, study="s2"), timed(4.0)]
    history.add_many((run, {}) for run in runs)
    found = history.name_baseline("release", "s1")
    assert found.study == "s1" and set(found.runs) == set(runs[:2])
    assert history.baseline("release") == found


def test_what_a_baseline_names_is_not_deleted(history: History) -> None:
    runs = [timed(1.0, study="s1"), timed(2.0, study="s1"), timed(3.0), timed(4.0)]
    history.add_many((run, {}) for run in runs)
    history.name_baseline("release", "s1")
    history.name_baseline("v1", runs[2].id)
    for run, name in ((runs[0], "release"), (runs[1], "release"), (runs[2], "v1")):
        with pytest.raises(StoreError, match=f"{run.id} is kept: the baseline '{name}' names it.*runs forget '{name}'"):
            history.delete(run)
    history.delete(runs[3])
    assert len(history.list()) == 3
    history.forget_baseline("v1")
    history.delete(runs[2])
    assert set(history.list()) == set(runs[:2])


def test_unknown_baselines_are_told_with_those_there_are(tmp_path: Path) -> None:
    history, runs = filled(tmp_path / "store", 1)
    with pytest.raises(UnknownRun, match="no baseline 'v1'; `workbench runs name NAME ID` makes one"):
        history.baseline("v1")
    history.name_baseline("v2", runs[0].id)
    with pytest.raises(UnknownRun, match="no baseline 'v1'; there are v2"):
        history.baseline("v1")
    with pytest.raises(UnknownRun, match="no baseline 'v1'; `workbench runs names` lists them"):
        history.forget_baseline("v1")
    with pytest.raises(UnknownRun, match="no run has an id that starts with 'ffff'"):
        history.name_baseline("v1", "ffff" if not runs[0].id.startswith("ffff") else "eeee")


@pytest.mark.parametrize("name", ["", " ", "-v1", "a/b", "a\nb", "x" * 101, "a;b", "%"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    history, runs = filled(tmp_path / "store", 1)
    with pytest.raises(ConfigError, match="is no name for a baseline"):
        history.name_baseline(name, runs[0].id)


# ---- what becomes a run


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    folder = tmp_path_factory.mktemp("built")
    return build(small(folder / "net.onnx"), None, "onnxruntime", store=EngineStore(folder / "store")).engine


def test_a_build_that_was_made_is_a_row_and_one_that_was_reused_is_none(store: EngineStore, model: Model) -> None:
    built = build(model, None, "onnxruntime", store=store)
    assert build(model, None, "onnxruntime", store=store).reused
    (run,) = History(store.folder).list()
    engine = built.engine
    assert (run.kind, run.engine, run.model, run.model_sha256) == ("build", engine.key, model.name, model.sha256)
    assert (run.build_s, run.size_bytes) == (engine.build_s, engine.plan_bytes)
    assert (run.subject, run.backend, run.precision) == ("onnxruntime fp32", "onnxruntime", "fp32")
    assert json.loads(run.config) == recipe_entries(engine.config)
    assert datetime.fromisoformat(run.at) == datetime.fromisoformat(engine.built_at)
    assert (run.machine, run.machine_id) == (str(this_machine()), machine_id(this_machine()))
    data = History(store.folder).data(run)
    assert data["recipe"] == engine.recipe and (data["nodes"], data["layers"]) == (engine.nodes, engine.layers)


def test_a_history_that_cannot_be_written_fails_no_build(store: EngineStore, model: Model, engine: Engine) -> None:
    """It is of a later workbench; then another process holds it and does not let go."""
    heard: list[Progress | LogLine] = []
    History(store.folder).add(timed(1.0))
    with sqlite3.connect(History(store.folder).path, isolation_level=None) as connection:
        connection.execute("PRAGMA user_version=99")
        built = build(model, None, "onnxruntime", store=store, listener=heard.append)
        connection.execute("PRAGMA user_version=1")
        connection.execute("BEGIN IMMEDIATE")
        record_build(engine, store.folder, heard.append)
        connection.execute("ROLLBACK")
    connection.close()
    lines = [item for item in heard if isinstance(item, LogLine) and item.severity == "warning"]
    told = [line.text for line in lines if line.text.startswith("The build is not in the history: ")]
    assert not built.reused and len(told) == 2
    assert "later workbench" in told[0] and "busy for 1 s" in told[1]
    assert [run.kind for run in History(store.folder).list()] == ["measurement"]


def test_a_measurement_tells_its_engine_and_comes_back_whole(history: History, engine: Engine) -> None:
    times_ms = np.random.default_rng(0).uniform(1, 1.1, 50).tolist()
    measured = measurement(*times_ms, name="candidate", copies=False)
    run = run_of_measurement(measured, engine=engine, study="s1", note="quiet")
    history.add(run, measured.to_json())
    assert measurement_from_json(history.data(history.get(run.id))) == measured
    assert (run.kind, run.subject, run.engine, run.model) == ("measurement", "candidate", engine.key, engine.model_name)
    assert (run.model_sha256, run.precision, run.study, run.note) == (engine.recipe["model"], "fp32", "s1", "quiet")
    assert run.median == measured.median
    assert (run.p99_ms, run.throughput_per_s, run.batch) == (measured.p99_ms, measured.throughput_per_s, 4)
    assert (run.shapes, run.clock, run.copies, run.threads) == ("x 4x3", "perf_counter", False, 2)
    assert history.get(run.id) == run


def test_a_measurement_without_a_name_is_called_by_its_engine(engine: Engine) -> None:
    assert run_of_measurement(measurement(1.0, 1.1), engine=engine).subject == "onnxruntime fp32"


def test_a_baseline_of_a_framework_stands_beside_a_model(model: Model) -> None:
    run = run_of_measurement(measurement(1.0, 1.1, name="PyTorch eager"), model=model)
    assert (run.model, run.model_sha256, run.subject) == (model.name, model.sha256, "PyTorch eager")
    assert (run.engine, run.backend, run.precision, run.config) == ("", "", "", "")


def test_a_single_run_has_a_median_without_an_interval(model: Model) -> None:
    run = run_of_measurement(measurement(1.5), model=model)
    assert (run.median_ms, run.low_ms, run.high_ms) == (1.5, None, None)


def test_the_worst_output_is_the_loss_of_a_comparison_in_percent(model: Model) -> None:
    one = {"a": np.array([[1.0, 0.0]]), "b": np.array([[2.0, 0.0]])}
    other = {"a": np.array([[1.0, 0.0]]), "b": np.array([[2.1, 0.0]])}
    run = run_of_comparison(compare_outputs(one, other), model=model, subject="fp16")
    assert (run.kind, run.metric, run.median_ms) == ("comparison", "relative", None)
    assert run.loss == pytest.approx(5.0)


def test_the_loss_of_an_evaluation_is_in_the_metric_that_matters_most(model: Model, engine: Engine) -> None:
    interval = {"value": 1.0, "low": 0.5, "high": 1.5}
    output = {
        "output": "y",
        "relative": interval,
        "snr_db": interval,
        "cosine": interval,
        "argmax": None,
        "max_abs": 0.1,
    }
    score = {"reference": interval, "other": interval, "drop": {**interval, "value": 0.25}, "lost": 3, "gained": 1}
    data: dict[str, Any] = {
        "count": 100,
        "top1": score,
        "top5": None,
        "outputs": [output],
        "changed": [],
        "digests": [],
    }
    run = run_of_evaluation(evaluation_from_json(data), model=model, engine=engine)
    assert (run.kind, run.metric, run.loss, run.precision) == ("accuracy", "top1", 0.25, "fp32")
    unlabelled = run_of_evaluation(evaluation_from_json({**data, "top1": None}), model=model)
    assert (unlabelled.metric, unlabelled.loss) == ("relative", 1.0)


def test_the_id_of_a_machine_is_the_same_for_every_python(engine: Engine) -> None:
    here = this_machine()
    assert machine_id(replace(here, python="3.99")) == machine_id(here)
    for other in (replace(here, cores=99), replace(here, cpu="Z80"), replace(here, cuda_version="99.9")):
        assert machine_id(other) != machine_id(here)
    read_back = Machine(**{**json.loads(json.dumps(here.to_json())), "gpus": here.gpus})
    assert machine_id(read_back) == machine_id(here) == run_of_build(engine).machine_id
