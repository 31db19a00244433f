"""What a log of input shapes says: three forms, checked against the model's inputs."""

import json
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError, ShapeError
from workbench.traffic.cost import interpolated, read_cost, volume
from workbench.traffic.requests import Request, Traffic, read_traffic
from workbench.types import TensorSpec

IMAGE = TensorSpec("x", "float32", ("batch", 3, None, None))
WORDS = TensorSpec("words:0", "int64", ("batch", "length"))
FIXED = TensorSpec("scale", "float32", (1, 2))
BOTH = (IMAGE, WORDS, FIXED)


def read(folder: Path, text: str, *inputs: TensorSpec) -> Traffic:
    path = folder / "shapes.log"
    path.write_text(text)
    return read_traffic(path, inputs or (IMAGE,))


def counts(traffic: Traffic) -> list[tuple[dict[str, tuple[int, ...]], int]]:
    return [(dict(item.shapes), item.count) for item in traffic.requests]


SMALL, LARGE = {"x": (1, 3, 64, 64)}, {"x": (2, 3, 640, 480)}
FORMS = {
    "json": '{"x": [1, 3, 64, 64]}\n{"x": [2, 3, 640, 480], "count": 5}\n\n{"count": 2, "x": [1, 3, 64, 64]}\n',
    "plain": "# a day in May\nx:1x3x64x64\nx:2x3x640x480 *5\n\n  x:1X3X64X64   *2  \n",
    "csv": "x,count\n1x3x64x64,1\n2x3x640x480,5\n\n1x3x64x64,2\n",
    "csv, quoted": '\ufeff"count","x"\n"1","1x3x64x64"\n5, 2x3x640x480\n2,1x3x64x64\n',
    "windows": "x,count\r\n1x3x64x64,3\r\n2x3x640x480,5\r\n",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_every_form_is_read_and_equal_requests_are_counted_together(tmp_path: Path, text: str) -> None:
    traffic = read(tmp_path, text)
    assert counts(traffic) == [(LARGE, 5), (SMALL, 3)]
    assert traffic.total == 8


SEVERAL = {
    "json": '{"x": [2, 3, 64, 64], "words:0": [2, 9]}',
    "spaces": "x:2x3x64x64 words:0:2x9",
    "commas": "x:2x3x64x64, words:0:2x9 *1",
    "csv": "x,words:0\n2x3x64x64,2x9",
    "with the fixed one": "scale:1x2 x:2x3x64x64 words:0:2x9",
    "csv, some without the fixed one": "x,words:0,scale\n2x3x64x64,2x9,",
}


@pytest.mark.parametrize("text", SEVERAL.values(), ids=SEVERAL)
def test_several_inputs_stand_on_one_line_and_fixed_ones_may_be_left_away(tmp_path: Path, text: str) -> None:
    assert counts(read(tmp_path, text, *BOTH)) == [({"x": (2, 3, 64, 64), "words:0": (2, 9)}, 1)]


def test_an_input_may_be_called_count(tmp_path: Path) -> None:
    count = TensorSpec("count", "int64", (None,))
    for text in ('{"count": [7]}', "count\n7", "count:7"):
        assert counts(read(tmp_path, text, count)) == [({"count": (7,)}, 1)]


def test_a_scalar_has_no_sizes(tmp_path: Path) -> None:
    scalar = TensorSpec("s", "float32", ())
    assert counts(read(tmp_path, "x:1x3x64x64 s:scalar", IMAGE, scalar)) == [(SMALL, 1)]


BAD = {
    "rank": ("x:1x3x64", ShapeError, "4 dimensions, not 3"),
    "fixed": ("x:1x4x64x64", ShapeError, "dimension 1: the model fixes it to 3; 4 does not fit"),
    "zero": ("x:1x3x0x64", ShapeError, "dimension 2 is 0; a size is at least 1"),
    "huge": ("x:1x3x64x9999999999", ShapeError, "TensorRT takes at most"),
    "unknown": ("x:1x3x64x64 y:4", ShapeError, "no input y; its inputs are x"),
    "missing": ('{"count": 4}', ShapeError, "no shape for input x"),
    "twice": ("x:1x3x64x64 x:1x3x64x64", ConfigError, "given twice"),
    "range": ("x:1x3x64x64,2x3x64x64,4x3x64x64", ConfigError, "is no NAME:SHAPE"),
    "no shape": ("x:large", ConfigError, "'large' is not a shape"),
    "count": ("x:1x3x64x64 *0", ConfigError, "a whole number, 1 or more"),
    "long count": (f"x:1x3x64x64 *{'9' * 9999}", ConfigError, "a whole number, 1 or more"),
    "json count": ('{"x": [1, 3, 64, 64], "count": 1.5}', ConfigError, "a whole number, 1 or more"),
    "json": ('{"x": [1, 3,', ConfigError, "is no JSON"),
    "deep json": ('{"x":' * 9999, ConfigError, "is no JSON"),
    "json twice": ('{"x": [1], "x": [1]}', ConfigError, "a name comes twice"),
    "json fraction": ('{"x": [1, 3, 64.5, 64]}', ConfigError, "is no shape; write whole numbers"),
    "json truth": ('{"x": [true, 3, 64, 64]}', ConfigError, "is no shape; write whole numbers"),
    "json number": ('{"x": 3}', ConfigError, "is no shape"),
}


@pytest.mark.parametrize(("line", "kind", "words"), BAD.values(), ids=BAD)
def test_a_bad_line_is_named_with_what_is_wrong(tmp_path: Path, line: str, kind: type[Exception], words: str) -> None:
    good = '{"x": [1, 3, 64, 64]}' if line.startswith("{") else "x:1x3x64x64"
    with pytest.raises(kind, match=words) as caught:
        read(tmp_path, f"{good}\n\n{line}\n")
    assert str(caught.value).startswith(f"{tmp_path / 'shapes.log'}, line 3: ")


BAD_CSV = {
    "column": ("when,x\n12:00,1x3x64x64", "line 1: 'when' is no input of the model"),
    "column twice": ("x,x\n1,2", "line 1: two columns have the same name"),
    "cells": ("x,count\n1x3x64x64", "line 2: .* has 1 cells, but the first line names 2"),
    "count": ("x,count\n1x3x64x64,many", "line 2: count 'many'"),
}


@pytest.mark.parametrize(("text", "words"), BAD_CSV.values(), ids=BAD_CSV)
def test_bad_csv_is_named_with_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, text)


def test_dimensions_of_one_name_must_be_equal(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="line 1: input words:0, dimension 0 is 3, but input x, dimension 0 is 2"):
        read(tmp_path, "x:2x3x64x64 words:0:3x9", *BOTH)


def test_what_is_no_log_is_told(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\0")
    for name, words in ((".", "cannot be read"), ("none", "cannot be read"), ("bytes", "UTF-8")):
        with pytest.raises(ConfigError, match=words):
            read_traffic(tmp_path / name, (IMAGE,))
    with pytest.raises(ConfigError, match="holds no request"):
        read(tmp_path, "\n# nothing\n")


def test_a_model_without_open_dimensions_needs_no_profile(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="no input of the model has an open dimension"):
        read(tmp_path, "scale:1x2", FIXED)


def test_a_long_log_takes_the_memory_of_its_distinct_shapes(tmp_path: Path) -> None:
    choose = random.Random(0)
    shapes = [f"x:1x3x{choose.randint(1, 999)}x{choose.randint(1, 999)}" for _ in range(50)]
    (tmp_path / "log").write_text("".join(f"{choose.choice(shapes)}\n" for _ in range(100_000)))
    tracemalloc.start()
    traffic = read_traffic(tmp_path / "log", (IMAGE,))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert traffic.total == 100_000
    assert peak < 500_000  # the log has 1.5 MB


# ---- in memory


def test_shapes_in_memory_are_counted_too() -> None:
    array = np.zeros((1, 3, 64, 64), np.float32)
    given = [{"x": array.shape}, {"x": [2, 3, 640, 480]}, {"x": tuple(np.array([1, 3, 64, 64]))}]
    assert counts(Traffic.from_shapes(given, [IMAGE])) == [(SMALL, 2), (LARGE, 1)]
    assert counts(Traffic.from_shapes(given, [IMAGE], [1, 9, 2])) == [(LARGE, 9), (SMALL, 3)]


def test_the_order_of_requests_does_not_matter() -> None:
    ways = [Traffic.from_shapes(order, [IMAGE]) for order in ([SMALL, LARGE], [LARGE, SMALL])]
    assert ways[0] == ways[1] == Traffic((Request(SMALL, 1), Request(LARGE, 1)))


def test_bad_shapes_and_counts_in_memory_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"64\.0 is no size"):
        Traffic.from_shapes([{"x": (1, 3, 64.0, 64)}], [IMAGE])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="1 or more"):
        Traffic.from_shapes([SMALL], [IMAGE], [0])
    with pytest.raises(ConfigError, match="no request"):
        Traffic.from_shapes([], [IMAGE])


sizes = st.integers(1, 2000)
requests = st.lists(st.tuples(sizes, sizes, sizes, st.integers(1, 99)), min_size=1, max_size=9)


@given(requests)
def test_all_forms_say_the_same(tmp_path_factory: pytest.TempPathFactory, items: list[tuple[int, ...]]) -> None:
    folder = tmp_path_factory.mktemp("log")
    shapes = [(batch, 3, height, width) for batch, height, width, _ in items]
    texts = ["x".join(map(str, shape)) for shape in shapes]
    times = [item[3] for item in items]
    expected = Traffic.from_shapes([{"x": shape} for shape in shapes], [IMAGE], times)
    assert read(folder, "".join(f"x:{text} *{n}\n" for text, n in zip(texts, times, strict=True))) == expected
    assert read(folder, "x,count\n" + "".join(f"{t},{n}\n" for t, n in zip(texts, times, strict=True))) == expected
    lines = [json.dumps({"x": shape, "count": n}) for shape, n in zip(shapes, times, strict=True)]
    assert read(folder, "\n".join(lines)) == expected


# ---- what a request costs


def test_latency_is_straight_between_points_flat_below_and_proportional_beyond() -> None:
    cost = interpolated([(200, 4.0), (100, 2.0), (100, 4.0)])
    assert cost.points == ((100.0, 3.0), (200.0, 4.0))
    assert [cost({"x": (n,)}) for n in (1, 100, 150, 200, 400)] == pytest.approx([3, 3, 3.5, 4, 8])
    assert cost({"x": (10, 10), "y": (50,)}) == pytest.approx(3.5)


def test_one_point_is_enough() -> None:
    assert [interpolated([(100, 2.0)])({"x": (n,)}) for n in (1, 100, 300)] == [2, 2, 6]


def test_costs_are_read_from_pairs_and_from_what_bench_prints(tmp_path: Path) -> None:
    path = tmp_path / "cost.json"
    bench = {"shapes": {"x": [1, 3, 64, 64], "words:0": [1, 8], "scale": [1, 2]}, "median_ms": 1.5, "p90_ms": 2}
    path.write_text(f"{json.dumps(bench, indent=1)}\n[[20000, 2.0], [30000, 3]] [40000, 4]")
    assert read_cost(path, BOTH).points == ((12296, 1.5), (20000, 2), (30000, 3), (40000, 4))
    assert volume({"x": (1, 3, 64, 64), "words:0": (1, 8)}) == 12296


BAD_COSTS = {
    "empty": ("", "no point"),
    "no JSON": ("x:1", "is no JSON"),
    "zero": ("[[0, 1]]", "both are finite and above 0"),
    "not finite": ("[[5, Infinity]]", "both are finite and above 0"),
    "other": ('{"median_ms": 3}', "neither a pair nor an object"),
    "another model": ('{"shapes": {"y": [1]}, "median_ms": 3}', "no shape for input"),
    "sizes": ('{"shapes": {"x": [1, "a"]}, "median_ms": 3}', "are no shapes"),
}


@pytest.mark.parametrize(("text", "words"), BAD_COSTS.values(), ids=BAD_COSTS)
def test_a_bad_cost_is_named_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "cost.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_cost(path, (IMAGE,))
    assert str(caught.value).startswith(str(path))
