"""`workbench runs`: lists, shows, compares, exports and names what the history holds."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers_building import small
from helpers_runs import timed
from helpers_tuned import trials, tuned

from workbench.cli import main
from workbench.runs import Filter, History, Run, run_to_json
from workbench.runs.history import FILE
from workbench.tuning.recorded import keep_search
from workbench.tuning.result import Tuned


class Shell:
    """Runs `workbench runs` with these words."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *words: object, status: int = 0) -> str:
        """What it prints; on stderr where it fails."""
        try:
            found = main(["runs", *map(str, words)])
        except SystemExit as stop:  # argparse
            found = int(stop.code or 0)
        out, err = self.capsys.readouterr()
        assert found == status, err
        return err if status else out

    def json(self, *words: object) -> Any:
        return json.loads(self(*words, "--json"), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def runs(home: Path) -> dict[str, Run]:
    """The newest last."""
    found = {
        "build": timed(None, kind="build", precision="fp16", backend="rtx", build_s=2.5, size_bytes=5_000_000),
        "accuracy": timed(None, kind="accuracy", metric="top1", loss=0.125, model="other"),
        "comparison": timed(None, kind="comparison", metric="relative", loss=0.5),
        "fast": timed(1.0, subject="onnxruntime fp16", precision="fp16", study="s1"),
        "slow": timed(2.0, study="s1", config='{"precision":"fp32"}'),
        "far": timed(0.5, machine_id="m2", machine="Xeon, NVIDIA H200", subject="tensorrt fp16"),
    }
    data = {"times_ms": [1.0, 2.0], "releases": {"onnxruntime": "1.20"}, "copies": None}
    History().add_many((run, {**data, "warmup": number}) for number, run in enumerate(found.values()))
    return found


# ---- list


def test_an_empty_history_says_so(shell: Shell, home: Path) -> None:
    assert shell() == "no runs yet\n"
    assert shell.json() == [] and shell.json("names") == []
    assert shell("--kind", "build") == "no such runs\n"
    assert not (home / FILE).exists()


def test_the_list_is_a_list_of_runs_the_newest_first(shell: Shell, runs: dict[str, Run]) -> None:
    wanted = [run_to_json(run) for run in reversed(runs.values())]
    assert shell.json() == shell.json("list") == wanted
    assert shell.json("--limit", 2) == wanted[:2]


def test_the_table_tells_what_came_out_and_where(shell: Shell, runs: dict[str, Run]) -> None:
    lines = shell().splitlines()
    assert lines[0].split() == [
        "id",
        "at",
        "(UTC)",
        "kind",
        "model",
        "subject",
        "what",
        "came",
        "out",
        "inputs",
        "machine",
    ]
    rows = {line.split()[0]: line for line in lines[1 : 1 + len(runs)]}
    assert list(rows) == [run.id for run in reversed(runs.values())]
    for name, outcome in {
        "build": "built in 2.5 s, 5.0 MB",
        "accuracy": "0.125 points of top1 lost",
        "comparison": "0.5 % relative error",
        "fast": "1 ms (0.99 to 1.01)",
    }.items():
        assert f"  {outcome}  " in rows[runs[name].id]
    assert lines[-2:] == ["m1: EPYC", "m2: Xeon, NVIDIA H200"]


def test_a_table_that_stops_at_fifty_says_how_to_see_all(shell: Shell, home: Path) -> None:
    History().add_many((timed(1.0 + number), {}) for number in range(60))
    assert shell().splitlines()[-1] == "The newest 50 are shown; --limit 0 shows all."
    assert len(shell.json()) == 50 and len(shell.json("--limit", 0)) == 60
    assert "are shown" not in shell("--limit", 0)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--kind measurement", "far slow fast"),
        ("--model other", "accuracy"),
        ("--precision FP16", "fast build"),
        ("--backend RTX", "build"),
        ("--machine h200", "far"),
        ("--study s1", "slow fast"),
        ("--search onnxruntime --study s1", "slow fast"),
        ("--since 1h", "far slow fast comparison accuracy build"),
        ("--since 2999-01-01", ""),
    ],
)
def test_every_filter_is_an_option(shell: Shell, runs: dict[str, Run], words: str, found: str) -> None:
    names = {run.id: name for name, run in runs.items()}
    assert [names[item["id"]] for item in shell.json(*words.split())] == found.split()


# ---- show and diff


def test_show_tells_everything_of_a_run(shell: Shell, runs: dict[str, Run]) -> None:
    run = runs["slow"]
    data = shell.json("show", run.id[:10])
    assert data == {**run_to_json(run), "data": History().data(run)}
    rows = dict(line.split(maxsplit=1) for line in shell("show", run.id).splitlines() if line)
    assert (rows["id"], rows["median_ms"], rows["machine"], rows["config.precision"]) == (run.id, "2", "EPYC", "fp32")
    assert rows["releases.onnxruntime"] == "1.20" and not {"times_ms", "copies", "note"} & rows.keys()


def test_diff_names_what_differs_and_ranks_only_what_can_be_told_apart(shell: Shell, runs: dict[str, Run]) -> None:
    fast, slow = runs["fast"].id, runs["slow"].id
    data = shell.json("diff", fast, slow)
    assert (data["one"], data["other"], data["verdict"]) == (fast, slow, "faster")
    assert data["ratio"]["value"] == 0.5 and ["precision", "fp16", "none"] in data["fields"]
    assert data["provenance"] == [["warmup", "3", "4"]]
    text = shell("diff", fast, slow)
    assert text.splitlines()[0].split() == [fast, slow] and f"{fast} is faster: " in text.splitlines()[-1]
    assert "not comparable: they were measured on different machines (EPYC; Xeon" in shell("diff", fast, runs["far"].id)
    assert shell("diff", fast, fast).startswith("nothing differs\n\nno measurable difference: ")


def test_ids_that_fit_none_or_several_are_mistakes(shell: Shell, home: Path) -> None:
    History().add_many((timed(1.0)._replace(id=name), {}) for name in ("abc000000000", "abc100000000"))
    assert "2 runs have an id that starts with 'abc'; write more of it" in shell("show", "abc", status=2)
    assert "no run has an id that starts with 'f'; `workbench runs` lists them" in shell("diff", "abc0", "f", status=2)
    assert shell.json("show", "ABC1")["id"] == "abc100000000"


# ---- studies and searches


@pytest.fixture
def search(home: Path) -> Tuned:
    """Kept as `workbench tune` keeps it: two of its trials are in the history, and a run that is none of them."""
    found = tuned()
    runs = [timed(2.0, kind="trial", study="of-the-task")._replace(id=item.id) for item in trials()[:2]]
    History().add_many((run, {}) for run in [*runs, timed(1.0)])
    keep_search(found)
    return found


def test_the_id_of_a_study_shows_its_runs(shell: Shell, runs: dict[str, Run]) -> None:
    assert shell.json("show", "s1") == [run_to_json(runs[name]) for name in ("slow", "fast")]
    assert shell("show", "s1").startswith("the study s1\n\nid  ")


def test_the_id_that_tune_prints_shows_the_runs_of_that_search(shell: Shell, search: Tuned) -> None:
    text = shell("show", search.id)
    assert text.startswith(f"the search {search.id} of {search.model}: 6 trials: ")
    assert f"`workbench report {search.id} -o report.html`" in text.splitlines()[-1]
    data = shell.json("show", search.id[:5])
    assert [run["id"] for run in data["runs"]] == [item.id for item in reversed(search.trials[:2])]
    assert data["id"] == search.id and all(run["id"] in text for run in data["runs"])


def test_what_takes_runs_says_how_those_of_a_search_are_found(shell: Shell, search: Tuned) -> None:
    shown = f"{search.id} is a search, not a run; `workbench runs show {search.id}` lists its runs"
    assert shown in shell("diff", search.id, search.trials[0].id, status=2)
    assert shown in shell("forget", search.id, status=2)
    assert f"`workbench runs show {search.id}`" in shell("--study", search.id)
    assert shell.json("--study", search.id) == []


def test_a_search_whose_runs_were_forgotten_says_so(shell: Shell, home: Path) -> None:
    keep_search(tuned())
    assert "none of its runs is in the history any more" in shell("show", tuned().id)


def test_of_several_searches_more_of_the_id_is_asked_for(shell: Shell, search: Tuned) -> None:
    keep_search(replace(search, id=f"{search.id[:4]}ffffffff"))
    assert "2 searches have an id that starts with" in shell("show", search.id[:4], status=2)


def test_what_is_neither_is_told(shell: Shell, search: Tuned) -> None:
    for unknown in ("ffff", "nonsense", "../x"):
        assert f"no run, study or search has an id that starts with '{unknown}'" in shell("show", unknown, status=2)


# ---- export


def test_export_writes_all_that_the_filters_let_through(shell: Shell, runs: dict[str, Run], tmp_path: Path) -> None:
    history, path = History(), tmp_path / "out" / "runs.csv"
    history.add_many((timed(3.0, model="many"), {}) for _ in range(60))
    assert shell.json("export", path) == {"file": str(path), "runs": 66}
    with path.open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [run.id for run in history.list(Filter(limit=None))]
    whole = tmp_path / "runs.json"
    assert shell("export", whole, "--kind", "build") == f"1 run: {whole}\n"
    (item,) = json.loads(whole.read_text())
    assert item == {**run_to_json(runs["build"]), "data": history.data(runs["build"])}
    assert "written as .csv (the table) or .json" in shell("export", tmp_path / "runs.txt", status=2)


# ---- baselines


def test_a_run_and_a_study_get_names_that_can_move(shell: Shell, runs: dict[str, Run]) -> None:
    fast = runs["fast"].id
    assert shell("name", "v1", fast[:9]) == f"v1: {fast} (net, onnxruntime fp16)\n"
    assert shell("name", "v1", "s1") == f"v1: 2 runs of the study s1 (before: {fast} (net, onnxruntime fp16))\n"
    data = shell.json("name", "v2", fast)
    assert (data["name"], data["study"], [run["id"] for run in data["runs"]]) == ("v2", "", [fast])
    assert {item["name"]: len(item["runs"]) for item in shell.json("names")} == {"v1": 2, "v2": 1}
    lines = shell("names").splitlines()
    assert lines[0].split()[0] == "name" and any(line.startswith("v1") and "  s1  " in line for line in lines[1:])
    assert History().baseline("v1").study == "s1"


def test_what_a_baseline_names_is_not_forgotten_until_its_name_is(shell: Shell, runs: dict[str, Run]) -> None:
    fast = runs["fast"].id
    shell("name", "v1", fast)
    assert f"{fast} is kept: the baseline 'v1' names it" in shell("forget", fast, status=1)
    assert shell("forget", "v1") == "forgotten: the name v1; its runs stay\n"
    assert shell.json("forget", fast) == {"forgotten": fast, "kind": "run"}
    assert fast not in {item["id"] for item in shell.json()}
    assert "no run has an id" in shell("forget", fast, status=2)
    assert shell("names").startswith("no baselines yet: `workbench runs name NAME ID`")


# ---- mistakes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("remove abc", "runs remove: there is no such verb; choose one of list, show, diff"),
        ("show", "runs show takes ID, not 0 words"),
        ("show a b", "runs show takes ID, not 2 words"),
        ("diff a", "runs diff takes ID ID, not 1 word"),
        ("names x", "runs names takes nothing more, not 1 word"),
        ("show a --kind build", "--kind has no effect with `runs show`; leave it out"),
        ("names --limit 0", "--limit has no effect with `runs names`"),
        ("--since soon", "since 'soon': write a date"),
        ("name -- -v1 abc", "'-v1' is no name for a baseline"),
        ("--kind builds", "invalid choice: 'builds'"),
        ("--limit -1", "not a whole number"),
    ],
)
def test_mistakes_are_sentences(shell: Shell, runs: dict[str, Run], words: str, told: str) -> None:
    assert told in shell(*words.split(), status=2)


def test_damage_is_told_on_stderr_and_the_answer_stays_json(
    shell: Shell, runs: dict[str, Run], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / FILE).write_bytes(b"nonsense")
    assert main(["runs", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == [] and err.startswith(f"workbench: {home / FILE} was damaged (")


def test_a_build_from_the_shell_is_in_the_list(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = small(tmp_path / "net.onnx")
    assert main(["build", str(model.path), "--backend", "onnxruntime", "--json"]) == 0
    built = json.loads(capsys.readouterr().out)
    (item,) = shell.json()
    assert (item["kind"], item["engine"], item["model"]) == ("build", built["key"], "net")
