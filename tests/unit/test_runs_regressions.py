"""Regressions against a baseline, and two runs side by side: nothing is ranked inside its noise."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from helpers_runs import timed

from workbench.errors import ConfigError
from workbench.machine import this_machine
from workbench.runs import Run, check, diff, match, parse_percentage, run_of_measurement
from workbench.runs.history import Baseline
from workbench.runs.records import stamp
from workbench.timing import Measurement

BASE = timed(1.0, 0.98, 1.02)


# ---- percentages


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("2.5 %", 0.025), (" 0% ", 0.0), ("150%", 1.5)])
def test_a_percentage_bears_its_sign(text: str, share: float) -> None:
    assert parse_percentage(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["5", "0.05", "", "%", "-5%", "5%%", "5 percent", "nan%", "inf%", "1e3%", "5,5%"])
def test_what_may_mean_anything_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write it with its sign, 0 or more, as 5%"):
        parse_percentage(text)


# ---- regressions


@pytest.mark.parametrize(
    ("median", "low", "high", "verdict", "failed"),
    [
        (1.20, 1.18, 1.22, "slower", True),  # even the lower end, 1.18 / 1.02, is above 1.05
        (1.08, 1.06, 1.10, "slower", False),  # 1.06 / 1.02 is not: it may be 4 %
        (1.03, 1.025, 1.035, "slower", False),
        (1.10, 0.90, 1.30, "no measurable difference", False),
        (1.00, 0.99, 1.01, "no measurable difference", False),
        (0.90, 0.89, 0.91, "faster", False),
        (5.00, 0.50, math.inf, "no measurable difference", False),
    ],
)
def test_it_fails_only_if_it_is_surely_slower_than_allowed(
    median: float, low: float, high: float, verdict: str, failed: bool
) -> None:
    found = check(timed(median, low, high), BASE, 0.05)
    assert (found.verdict, found.failed) == (verdict, failed)
    assert found.ratio is not None and found.ratio.value == pytest.approx(median)
    assert (found.ratio.low, found.ratio.high) == pytest.approx((low / 1.02, high / 0.98))


def test_the_border_is_not_crossed_by_touching_it() -> None:
    exact = timed(1.0, 1.0, 1.0)
    assert not check(timed(1.5, 1.5, 1.5), exact, 0.5).failed
    assert check(timed(1.5, math.nextafter(1.5, 2), 1.6), exact, 0.5).failed
    assert not check(exact, exact, 0.0).failed


def test_a_failure_says_by_how_much_and_what_was_allowed() -> None:
    assert check(timed(1.2, 1.18, 1.22), BASE, 0.05).sentence == (
        "net, onnxruntime fp32: 1.2 ms (1.18 to 1.22), the baseline 1 ms (0.98 to 1.02); slower, 1.2 (1.157 to 1.245 "
        "with 95 % confidence) times as long where 5 % more is allowed."
    )


def test_noise_that_hides_the_answer_is_told() -> None:
    sentence = check(timed(1.1, 0.9, 1.3), BASE, 0.05).sentence
    assert sentence.endswith("and the interval reaches from 0.882 to 1.33: run longer to tell 5 %.")
    slower = check(timed(1.08, 1.06, 1.10), BASE, 0.05).sentence
    assert "slower, 1.08 times as long, and the interval reaches from 1.04 to 1.12: run longer to tell 5 %" in slower


def test_one_run_tells_nothing_and_says_so() -> None:
    single = timed(1.0)._replace(low_ms=None, high_ms=None)
    for measured, baseline in ((single, BASE), (BASE, single), (single, single)):
        found = check(measured, baseline, 0.05)
        assert (found.verdict, found.failed) == ("no measurable difference", False)
        assert found.sentence.endswith("so few runs tell no interval: run longer to tell 5 %.")
        json.dumps(found.to_json(), allow_nan=False)


def test_what_is_within_the_limit_is_told_as_such() -> None:
    assert check(timed(1.03, 1.025, 1.035), BASE, 0.1).sentence.endswith("within the 10 % that are allowed.")
    assert "; faster, 0.9 (" in check(timed(0.9, 0.89, 0.91), BASE, 0.05).sentence


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_sha256": "c" * 64}, "their models differ in content"),
        ({"machine_id": "m2", "machine": "Xeon"}, r"they were measured on different machines \(Xeon; EPYC\)"),
        ({"clock": "CUDA events"}, r"their times are by different clocks \(CUDA events; perf_counter\)"),
        ({"copies": True}, r"only one of them counts the copies between host and GPU \(yes; none\)"),
        (
            {"shapes": "x 4x3", "batch": 4},
            r"their batches differ \(4; 1\); their inputs differ in shape \(x 4x3; x 1x3\)",
        ),
        ({"threads": 1}, r"they may use different numbers of processors \(1; 2\)"),
        ({"median_ms": None}, r"\(measurement\) holds no times"),
        ({"median_ms": 0.0}, r"\(measurement\) holds no times"),
    ],
)
def test_what_was_measured_otherwise_is_not_compared(change: dict[str, Any], reason: str) -> None:
    found = check(timed(9.0, 8.9, 9.1)._replace(**change), BASE, 0.05)
    assert (found.verdict, found.failed, found.ratio) == ("not comparable", False, None)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found.sentence)


@pytest.mark.parametrize(
    "change", [{"precision": "int8"}, {"subject": "x"}, {"engine": "e"}, {"note": "n"}, {"study": "s"}]
)
def test_what_may_be_the_change_under_test_is_compared(change: dict[str, Any]) -> None:
    assert check(timed(1.2, 1.18, 1.22)._replace(**change), BASE, 0.05).failed


def test_a_measurement_of_real_times_is_checked() -> None:
    def run(times_ms: tuple[float, ...]) -> Run:
        shapes = {"x": (1, 3)}
        return run_of_measurement(Measurement(times_ms, 5, shapes, "perf_counter", this_machine(), name="eager"))

    before, same, slow = (run(tuple(scale * (1 + 0.01 * (i * 7 % 5)) for i in range(100))) for scale in (1, 1.001, 1.5))
    assert check(slow, before, 0.05).failed and not check(same, before, 0.05).failed
    assert check(same, before, 0.05).verdict == "no measurable difference"
    assert not check(slow, before, 0.6).failed


# ---- which run of a baseline


def baseline(*runs: Run) -> Baseline:
    return Baseline("v1", stamp(), "s1", runs)


def test_a_baseline_of_one_run_is_that_run() -> None:
    assert match(timed(1.0, subject="another"), baseline(BASE)) == BASE


def test_of_a_study_the_run_of_the_same_subject_and_shapes_is_taken() -> None:
    runs = [timed(1.0, subject=subject, shapes=shapes) for subject in ("a", "b") for shapes in ("x 1x3", "x 4x3")]
    assert match(timed(2.0, subject="b", shapes="x 1x3"), baseline(*runs)) == runs[2]


def test_a_study_without_the_subject_or_with_several_is_a_sentence() -> None:
    runs = timed(1.0, subject="a"), timed(1.0, subject="b"), timed(None, subject="c", kind="build")
    with pytest.raises(ConfigError, match="'v1' holds no run of c at x 1x3, but a at x 1x3; b at x 1x3; name a single"):
        match(timed(2.0, subject="c"), baseline(*runs))
    with pytest.raises(ConfigError, match="'v1' holds 2 runs of a at x 1x3"):
        match(timed(2.0, subject="a"), baseline(runs[0], runs[0]))


# ---- two side by side


def test_a_difference_names_fields_and_provenance_that_differ_and_nothing_else() -> None:
    config = {"precision": "fp32", "targets": ["cpu"]}
    one = timed(1.0, subject="a", config=json.dumps(config))
    other = timed(1.0, subject="b", config=json.dumps({**config, "precision": "fp16"}))
    data: dict[str, Any] = {
        "times_ms": [1.0], "releases": {"trt": "8.6"}, "conditions": {"setting": {"driver": "580", "governor": "fast"}},
        "machine": {"gpus": [{"name": "H200"}]}, "copies": False, "rivals": [],
    }  # fmt: skip
    changed = {
        **data, "times_ms": [2.0], "releases": {"trt": "10.3", "onnx": "1"}, "copies": True,
        "conditions": {"setting": {"driver": "581", "governor": "fast"}}, "machine": {"gpus": [{"name": "H100"}]},
    }  # fmt: skip
    found = diff(one, other, data, changed)
    assert found.fields == (("subject", "a", "b"), ("config.precision", "fp32", "fp16"))
    assert found.provenance == (
        ("releases.trt", "8.6", "10.3"),
        ("conditions.setting.driver", "580", "581"),
        ("machine.gpus.0.name", "H200", "H100"),
        ("copies", "no", "yes"),
        ("releases.onnx", "none", "1"),
    )
    json.dumps(found.to_json(), allow_nan=False)


def test_runs_are_ranked_only_if_their_intervals_do_not_touch() -> None:
    one, same, slow = timed(1.0, 0.9, 1.1), timed(1.2, 1.1, 1.3), timed(2.0, 1.9, 2.1)
    found = diff(one, same, {}, {})
    assert found.verdict == "no measurable difference"
    assert found.sentence.startswith(
        f"no measurable difference: {one.id} takes 1 ms (0.9 to 1.1), {same.id} takes 1.2 ms (1.1 to 1.3); the inter"
    )
    assert diff(one, slow, {}, {}).verdict == "faster" and diff(slow, one, {}, {}).verdict == "slower"
    assert diff(slow, one, {}, {}).sentence.startswith(f"{slow.id} is slower: {slow.id} takes 2 ms (1.9 to 2.1)")


def test_runs_that_were_not_measured_in_turns_say_so() -> None:
    assert "They were not measured in turns" in diff(timed(1.0), timed(2.0), {}, {}).sentence
    assert "They were not measured in turns" in diff(timed(1.0, study="a"), timed(2.0, study="b"), {}, {}).sentence
    assert "in turns" not in diff(timed(1.0, study="a"), timed(2.0, study="a"), {}, {}).sentence


@pytest.mark.parametrize(
    "change", [{"machine_id": "m2"}, {"clock": "c"}, {"batch": 2}, {"shapes": "x 2x3"}, {"copies": False}]
)
def test_other_machines_clocks_batches_shapes_and_copies_are_not_comparable(change: dict[str, Any]) -> None:
    found = diff(BASE, BASE._replace(**change), {}, {})
    assert (found.verdict, found.ratio) == ("not comparable", None) and found.sentence.startswith("not comparable: ")


def test_threads_and_models_may_be_what_differs() -> None:
    for change in ({"threads": 1}, {"model_sha256": "c" * 64}):
        assert diff(BASE, timed(2.0)._replace(**change), {}, {}).verdict == "faster"


def test_builds_have_no_times_to_compare() -> None:
    one, other = timed(None, kind="build", build_s=1.0), timed(None, kind="build", build_s=2.0)
    found = diff(one, other, {}, {})
    assert found.fields == (("build_s", "1", "2"),)
    assert found.sentence == f"not comparable: {one.id} (build) holds no times; {other.id} (build) holds no times."
