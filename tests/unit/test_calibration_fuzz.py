"""Damaged calibration tables: an error, or the very table that now stands in the file. Never another one."""

import json
import math
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_calibration_lint import resnet18
from test_calibration_table import RECORDED

from workbench.calibration.lint import activations_of, broken_ranges, lint, raise_for
from workbench.calibration.table import CalibrationTable, read_table
from workbench.calibration.text_tables import write_cache
from workbench.calibration.writing import write_table
from workbench.errors import WorkbenchError

COUNT = 1500


def mutations(content: bytes, count: int) -> Iterator[bytes]:
    """Flipped bits, other bytes, parts that are gone, doubled, exchanged or shuffled, and the file cut off."""
    draw = random.Random(6)
    for index in range(count):
        data = bytearray(content)
        start, end = sorted((draw.randrange(len(data)), draw.randrange(len(data))))
        kind = index % 7
        if kind == 0:
            data[start] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[start : start + draw.randrange(5)] = draw.randbytes(draw.randrange(5))
        elif kind == 2:
            del data[start : start + draw.randrange(1, 12)]
        elif kind == 3:
            data[end:end] = data[start : start + 40]
        elif kind == 4:
            data[start], data[end] = data[end], data[start]
        elif kind == 5:
            lines = bytes(data).split(b"\n")
            draw.shuffle(lines)
            data = bytearray(b"\n".join(lines))
        else:
            del data[start:]
        yield bytes(data)


def read(path: Path, content: bytes) -> CalibrationTable | None:
    """None where it is refused, by itself or when it shall be written again."""
    path.write_bytes(content)
    try:
        table = read_table(path)
        raise_for(broken_ranges(table))  # as writing it does
        return table
    except WorkbenchError:
        return None


def lines(content: bytes) -> list[str]:
    text = content.decode()
    return [line.rstrip(" \t\r") for line in text.split("\n") if line.strip()]


def cache_in(content: bytes) -> dict[str, int]:
    """What stands in a cache: the bits of every scale."""
    return {line[: line.rindex(": ")]: int(line[line.rindex(": ") + 2 :], 16) for line in lines(content)[1:]}


def ranges_in(content: bytes) -> dict[str, float]:
    return {line[: line.rindex(":")]: float(line[line.rindex(":") + 1 :]) for line in lines(content)}


def plain_in(content: bytes) -> dict[str, float]:
    return {line[: line.rindex(" ")]: float(line[line.rindex(" ") + 1 :]) for line in lines(content)}


def json_in(content: bytes) -> dict[str, float]:
    def end(value: dict[str, float]) -> float:
        return abs(float(value["data"]))

    return {name: max(end(value["lowest"]), end(value["highest"])) for name, value in json.loads(content).items()}


def test_a_damaged_cache_is_refused_or_holds_what_stands_in_it(tmp_path: Path) -> None:
    content, model = RECORDED[0].read_bytes(), resnet18()
    activations = set(activations_of(model))
    taken = 0
    for data in mutations(content, COUNT):
        table = read(tmp_path / "cache", data)
        if table is None:
            continue
        taken += 1
        again = write_cache(table.amax, table.release, table.header)
        assert cache_in(again.encode()) == cache_in(data)
        assert list(table.amax) == list(cache_in(data))
        if taken < 200 and not table.amax.keys() >= activations:  # the rest would take too long
            assert lint(table, model)
    assert 0 < taken < COUNT  # a flipped digit and a changed name cannot be told from the file alone


@pytest.mark.parametrize(
    ("form", "name", "stands_in"),
    [
        ("ranges", "ranges.txt", ranges_in),
        ("ort", "calibration.cache", plain_in),
        ("ort", "calibration.json", json_in),
    ],
)
def test_a_damaged_list_of_ranges_is_refused_or_holds_what_stands_in_it(
    tmp_path: Path, form: str, name: str, stands_in: Callable[[bytes], dict[str, float]]
) -> None:
    content = write_table(read_table(RECORDED[0]), tmp_path / "whole" / name, form).read_bytes()
    taken = 0
    for data in mutations(content, COUNT):
        table = read(tmp_path / name, data)
        if table is not None:
            taken += 1
            assert dict(table.amax) == stands_in(data)
    assert 0 < taken < COUNT


def test_a_damaged_flatbuffer_is_refused_or_is_what_onnx_runtime_writes(tmp_path: Path) -> None:
    content = write_table(read_table(RECORDED[0]), tmp_path / "whole.flatbuffers", "ort").read_bytes()
    assert read(tmp_path / "table", content) is not None
    taken = 0
    for data in mutations(content, 500):
        table = read(tmp_path / "table", data)
        if table is not None:
            taken += 1
            assert write_table(table, tmp_path / "again.flatbuffers", "ort").read_bytes() == data
    assert taken < 100


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_give_a_table_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    table = read(tmp_path_factory.mktemp("fuzz") / "file", content)
    assert table is None or all(math.isfinite(amax) and amax >= 0 for amax in table.amax.values())


LINE = st.from_regex(re.compile(r"[ -~]{1,12}(: ?| )([0-9a-f]{0,9}|[0-9.e-]{0,9})\r?\n"), fullmatch=True)


@given(st.sampled_from(["", "TRT-8600-EntropyCalibration2\n", "TRT-100300-MinMaxCalibration\n"]), st.lists(LINE))
def test_lines_that_look_right_are_read_whole(
    tmp_path_factory: pytest.TempPathFactory, header: str, body: list[str]
) -> None:
    content = (header + "".join(body)).encode()
    table = read(tmp_path_factory.mktemp("fuzz") / "file", content)
    if table is not None:
        assert len(table.amax) == len(lines(content)) - bool(header)
