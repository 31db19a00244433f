"""Studies: measured in turns, compared on the same arrays, ranked only where intervals are apart."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_clock import FakeClock, noisy

import workbench as wb
from workbench.baselines import baseline, onnxruntime_baseline
from workbench.errors import BackendError, ConfigError, ViewError
from workbench.machine import Gpu
from workbench.model import Model
from workbench.runs import Filter, History
from workbench.study import (
    TIED,
    Study,
    load_study,
    measurement_of_row,
    record,
    rest_of_row,
    save_study,
    study,
    study_from_json,
)
from workbench.timing import Measurement, Timing, measurement_from_json
from workbench.timing.throughput import Throughput
from workbench.types import Feeds, LogLine

X = {"x": np.ones((4, 3), np.float32)}
QUICK = Timing(100, 2)


class Contestant(FakeClock):
    """Answers with its own values at its own known pace."""

    def __init__(self, times: Iterator[float], answer: float = 1.0) -> None:
        super().__init__(times)
        self.answer = answer

    def run(self, feeds: Feeds) -> dict[str, np.ndarray]:
        super().run(feeds)
        return {"y": feeds["x"] * self.answer}


def compete(**medians_ms: float) -> Study:
    contestants = {name: Contestant(noisy(ms, seed=seed)) for seed, (name, ms) in enumerate(medians_ms.items())}
    return study(contestants, X, QUICK)


def test_what_is_faster_beyond_noise_is_ranked_and_what_is_not_is_tied() -> None:
    found = compete(reference=10.0, same=10.01, half=5.0, slow=20.0)
    assert found.ranks == {"half": (1, 1), "reference": (2, 3), "same": (2, 3), "slow": (4, 4)}
    assert found.verdict("same") == TIED == "no measurable difference"
    assert found.verdict("half").startswith("2.0") and "times as fast (1.9" in found.verdict("half")
    assert found.verdict("slow").startswith("2.0") and "times as slow" in found.verdict("slow")
    assert found.verdict("reference") == ""


def test_the_table_tells_intervals_percentiles_rate_and_rank() -> None:
    head, first, second = compete(one=10.0, two=5.0).rows()
    assert head == ("", "median ms", "95 % interval", "p90 ms", "p99 ms", "per second", "against one", "rank")
    assert first[0] == "one" and first[-2:] == ("", "2") and second[-1] == "1" and " to " in second[2]


def test_outputs_are_compared_with_the_reference_on_the_same_arrays() -> None:
    found = study({"a": Contestant(noisy(1.0)), "b": Contestant(noisy(1.0), 1.1)}, X, QUICK, reference="b")
    assert found.reference == "b" and found.comparison is not None
    assert "a" in str(found.comparison) and "y" in str(found.comparison)


def test_a_contestant_that_fails_is_left_out_and_the_reason_is_told() -> None:
    def broken(feeds: Feeds) -> np.ndarray:
        raise MemoryError("no room")

    found = study({"a": Contestant(noisy(1.0)), "b": baseline(broken)}, X, QUICK)
    assert list(found.failures) == ["b"] and "MemoryError" in found.failures["b"]
    assert [item.name for item in found.measurements] == ["a"] and found.comparison is None
    assert any(text.startswith("b: ") for text in found.notes)


def test_a_study_in_which_nothing_runs_is_an_error_with_all_reasons() -> None:
    def broken(feeds: Feeds) -> np.ndarray:
        raise MemoryError("no room")

    with pytest.raises(BackendError, match=r"a: the baseline fails.*; b: the baseline fails"):
        study({"a": baseline(broken), "b": baseline(broken)}, X, QUICK)
    with pytest.raises(ConfigError, match="needs something to measure"):
        study({}, X)


def test_engines_and_baselines_are_measured_together(fashion_cnn: Model) -> None:
    feeds = {"image": np.random.default_rng(0).random((2, 1, 28, 28), np.float32)}
    engines = {name: wb.build(fashion_cnn, wb.BuildConfig(name), "onnxruntime") for name in ("fp32", "fp16")}
    contestants = {"plain": onnxruntime_baseline(fashion_cnn, threads=1), **engines}
    found = study(contestants, feeds, Timing(20, 2, layers=True), threads=1)
    assert found.model == "fashion_cnn" and found.model_sha256 == engines["fp32"].engine.recipe["model"]
    assert found.subject("fp16").precision == "fp16" and found.subject("plain").backend == "onnxruntime"
    assert found["fp32"].layer_times_ms and found["fp32"].threads == 1 and found["fp32"].rivals == ("plain", "fp16")
    assert found.comparison is not None and found.failures == {}


@pytest.mark.rtx
def test_an_engine_that_cannot_run_here_does_not_stop_the_others(fashion_cnn: Model) -> None:
    engine = wb.build(fashion_cnn, wb.BuildConfig(), "rtx")
    here = wb.build(fashion_cnn, wb.BuildConfig(), "onnxruntime")
    found = study({"rtx": engine, "here": here}, {"image": np.zeros((1, 1, 28, 28), np.float32)}, Timing(5, 1))
    assert list(found.failures) == ["rtx"] and found.reference == "here"


def test_warnings_that_all_share_are_told_once() -> None:
    class Endless(Contestant):
        def times_ms(self, iterations: int) -> list[float]:
            self.taken += iterations
            return [float(self.taken + index) for index in range(iterations)]

    found = study({"a": Endless(noisy(1.0)), "b": Endless(noisy(1.0))}, X, Timing(20))
    settled = [text for text in found.notes if "had not settled" in text]
    assert settled == ["The times had not settled when the warm-up ended."]


def test_a_study_survives_its_file_and_tells_another_machine(tmp_path: Path) -> None:
    found = compete(one=10.0, two=5.0)
    path = save_study(found, tmp_path / "deep" / "study.json.gz")
    again = load_study(path)
    assert again.ranks == found.ranks and again.rows() == found.rows() and again.recorded == ""
    elsewhere = [_on_h200(item) for item in found.measurements]
    save_study(replace(found, measurements=tuple(elsewhere)), path)
    assert load_study(path).recorded == f"recorded on NVIDIA H200, TensorRT 8.6.0, {found.at[:10]}"
    assert str(load_study(path)).startswith("recorded on NVIDIA H200")
    assert study_from_json(json.loads(json.dumps(found.to_json()))).rows() == found.rows()


def _on_h200(item: Measurement) -> Measurement:
    machine = replace(item.machine, gpus=(Gpu("NVIDIA H200", "9.0", 1),))
    return replace(item, machine=machine, releases={"tensorrt": "8.6.0"})


def test_a_file_that_is_no_study_is_a_mistake_in_words(tmp_path: Path) -> None:
    path = tmp_path / "study.json.gz"
    with pytest.raises(ViewError, match="there is no such study"):
        load_study(path)
    path.write_bytes(b"PK")
    with pytest.raises(ViewError, match="not a study as this release reads them"):
        load_study(path)


def test_what_people_name_is_shown_as_text_in_a_notebook() -> None:
    contestants: Mapping[str, Contestant] = {"<b>x</b>": Contestant(noisy(1.0)), "y": Contestant(noisy(2.0))}
    html = study(contestants, X, QUICK)._repr_html_()
    assert "&lt;b&gt;x" in html and "<b>x" not in html


def test_a_name_that_was_not_measured_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="'three' was not measured; there are one, two"):
        compete(one=1.0, two=2.0)["three"]


def test_a_study_is_a_row_for_every_measurement_and_comparison_and_can_be_found_again() -> None:
    found = study({"a": Contestant(noisy(1.0)), "b": Contestant(noisy(2.0), 1.5)}, X, QUICK, model=("net", "f" * 64))
    rows = History().list(Filter(study=found.id))
    assert sorted((run.kind, run.subject) for run in rows) == [
        ("comparison", "b"), ("measurement", "a"), ("measurement", "b"),
    ]  # fmt: skip
    assert {(run.model, run.model_sha256) for run in rows} == {("net", "f" * 64)}
    measured = next(run for run in rows if run.subject == "a")
    assert measurement_from_json(History().data(measured)) == found["a"] and measured.median == found["a"].median
    compared = next(run for run in rows if run.kind == "comparison")
    assert compared.loss == pytest.approx(50) and compared.note == "against a"


def test_rows_tell_who_is_missing_and_the_throughput_once_the_study_is_recorded() -> None:
    found = study({"a": Contestant(noisy(1.0)), "b": Contestant(noisy(2.0))}, X, QUICK, keep=False)
    assert History().list() == ()
    rates = (Throughput(4, 1, ((10, 0.5), (11, 0.5)), 1.0, "clock"),)
    found = replace(found, failures={"c": "it fails."}, throughputs={"b": rates})
    record(found)
    rows = {run.subject: History().data(run) for run in History().list(Filter(kind="measurement"))}
    assert {name: rest_of_row(data) for name, data in rows.items()} == {
        "a": ({"c": "it fails."}, ()), "b": ({"c": "it fails."}, rates),
    }  # fmt: skip
    assert {name: measurement_of_row(data) for name, data in rows.items()} == {name: found[name] for name in "ab"}


def test_a_row_without_a_study_is_read_alike() -> None:
    (measured,) = compete(one=1.0).measurements
    data = json.loads(json.dumps(measured.to_json()))
    assert measurement_of_row(data) == measured and rest_of_row(data) == ({}, ())


def test_a_study_is_written_into_the_history_of_the_folder_that_is_named(tmp_path: Path) -> None:
    found = study({"a": Contestant(noisy(1.0))}, X, QUICK, keep=False)
    record(found, folder=tmp_path / "other")
    assert [run.study for run in History(tmp_path / "other").list()] == [found.id] and History().list() == ()


def test_samples_may_be_batches_that_are_read_while_they_are_compared() -> None:
    batches = ({"x": np.full((2, 3), value, np.float32)} for value in (1, 2, 3))
    found = study({"a": Contestant(noisy(1.0)), "b": Contestant(noisy(2.0))}, X, QUICK, samples=batches, keep=False)
    assert found.comparison is not None and found.comparison.count == 6


def test_a_history_that_cannot_be_written_does_not_lose_the_study(home: Path) -> None:
    home.mkdir()
    (home / "runs.sqlite").mkdir()
    heard: list[object] = []
    found = study({"a": Contestant(noisy(1.0))}, X, QUICK, listener=heard.append)
    assert len(found.measurements) == 1
    assert any(isinstance(event, LogLine) and "not in the history" in event.text for event in heard)


class OnGpu(Contestant):
    """Quick by its own clock, slower with the copies."""

    host_clock = "with copies"

    def host_times_ms(self, iterations: int) -> list[float]:
        return [20.0 * item for item in self.times_ms(iterations)]


def test_a_gpu_is_compared_with_a_processor_from_host_to_host() -> None:
    """Its own clock leaves the copies out, which the other one's work needs none of."""
    found = study({"processor": Contestant(noisy(10.0)), "gpu": OnGpu(noisy(1.0))}, X, QUICK)
    assert found["gpu"].median_ms < 2 and found.ranks == {"processor": (1, 1), "gpu": (2, 2)}
    assert "times as slow" in found.verdict("gpu")
    assert any("from host to host" in text for text in found.notes)
    assert found.rows()[0][3] == "host to host ms" and found.rows()[1][3] == ""


def test_gpus_are_compared_by_their_own_clock() -> None:
    found = study({"one": OnGpu(noisy(2.0)), "other": OnGpu(noisy(1.0))}, X, QUICK)
    assert found.latencies["other"] == found["other"].median and not any("host to host" in text for text in found.notes)
