"""Plots: the facts behind them, their tables, and what is drawn: text that stays text, themes, files."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers_fusion import layer, node
from matplotlib.figure import Figure
from PIL import Image

from workbench.accuracy import Interval
from workbench.errors import ConfigError
from workbench.fusion import link
from workbench.fusion.shares import GroupTimes, group_times
from workbench.machine import this_machine
from workbench.plots import ParetoPoint, Plot, distribution, layers, medians, pareto, png, save, svg, throughput
from workbench.plots.distribution import BINS
from workbench.plots.ink import shortened, text_px, ticks_to, wrap
from workbench.plots.labels import Box, overlap, part, place_labels
from workbench.plots.layers import MOST
from workbench.plots.palette import DARK, LIGHT, SERIES, css_value
from workbench.plots.pareto import draw_pareto, front_of
from workbench.timing import Measurement
from workbench.timing.throughput import Throughput

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '<script>alert(1)</script> $x_1$ \x1e" href="#a" id=\'b\' url(#c): #0072b2;'


def measured(name: str, *times_ms: float, host: tuple[float, ...] = ()) -> Measurement:
    clock = "CUDA events" if host else "perf_counter"
    host_clock = "perf_counter, copies included" if host else ""
    return Measurement(
        times_ms, 0, {"x": (1, 2)}, clock, this_machine(), host_times_ms=host, host_clock=host_clock, name=name
    )


def noisy(name: str, middle_ms: float, count: int = 60, host_ms: float = 0.0) -> Measurement:
    """Within 2 % of the middle, always the same for the same middle."""
    wave = 1 + 0.02 * np.sin(np.arange(count) * 2.4)
    host = tuple(map(float, host_ms * wave)) if host_ms else ()
    return measured(name, *map(float, middle_ms * wave), host=host)


def rate(batch: int, streams: int, per_s: float) -> Throughput:
    return Throughput(batch, streams, tuple((100 + step, 100 * batch / per_s) for step in range(8)), 1.0, "clock")


def point(name: str, latency_ms: float, loss: float, precision: str = "fp16") -> ParetoPoint:
    around = (Interval(value, value - 0.05, value + 0.05) for value in (latency_ms, loss))
    return ParetoPoint(name, precision, *around)


def times(count: int, name: str = "engine", scale: float = 1.0, whole_ms: float | None = None) -> GroupTimes:
    """So many nodes, each a layer of its own; the first takes longest."""
    names = [f"node{number}" for number in range(count)]
    nodes = [node(name, "Exp", [f"t{number}"], [f"t{number + 1}"]) for number, name in enumerate(names)]
    made = [layer(name, name, reads=f"t{number}", writes=f"t{number + 1}") for number, name in enumerate(names)]
    found = {name: scale * (count - number) for number, name in enumerate(names)}
    return group_times(link(made, nodes, times_ms=found), whole_ms, name)


EVERY = {
    "medians": lambda: medians([noisy("slow", 3.0), noisy("fast", 0.000123456, host_ms=0.2), noisy("b", 1, host_ms=9)]),
    "distribution": lambda: distribution([noisy("slow", 3.0), noisy("fast", 0.1)]),
    "throughput": lambda: throughput({"a": [rate(1, 1, 100), rate(8, 1, 300)], "b": [rate(1, 2, 150)]}),
    "pareto": lambda: pareto([point("a", 1, 3), point("b", 2, 1, "int8")]),
    "layers": lambda: layers(times(3, "before", whole_ms=7.0), times(3, "after", 0.5)),
}


# ---- what is drawn


def words(text: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(text).iter(f"{SVG}text")]


@pytest.mark.parametrize("kind", EVERY)
def test_text_stays_text_and_every_colour_follows_the_theme(kind: str) -> None:
    text = svg(EVERY[kind]())
    assert EVERY[kind]().title in words(text)
    colors = re.findall(r"(?:fill|stroke): (?!none)([^;\"]+)", text)
    assert colors
    assert all(color.startswith("var(--wb-") for color in colors)


@pytest.mark.parametrize("kind", EVERY)
def test_an_svg_asks_for_nothing_outside_and_styles_nothing_around_it(kind: str) -> None:
    text = svg(EVERY[kind]())
    assert not re.search(r"<style|<script|@import|<image|<metadata|<!DOCTYPE", text)
    addresses = set(re.findall(r"\w+://[^\"'<\s]+", text))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_same_plot_gives_the_same_svg_in_every_process_without_pyplot() -> None:
    code = (
        "import sys; from test_plots import EVERY, svg; print(svg(EVERY['pareto']()));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.strip() == svg(EVERY["pareto"]())


def test_ids_of_two_plots_never_meet() -> None:
    one, other = (re.findall(r' id="([^"]+)"', svg(EVERY[kind]())) for kind in ("pareto", "throughput"))
    assert one
    assert len(set(one)) == len(one)
    assert not set(one) & set(other)


def test_readers_of_a_screen_hear_title_and_notes() -> None:
    plot = medians([noisy("a", 1.0), noisy("b", 1.001)])
    root = ElementTree.fromstring(svg(plot))
    assert root.get("role") == "img"
    assert root.get("aria-label") == ". ".join([plot.title, *plot.notes])


@pytest.mark.parametrize("themed", [True, False])
def test_names_cannot_inject_and_start_no_formula(themed: bool) -> None:
    plot = medians([noisy(HOSTILE, 1.0), measured("b", 2.0)], title=HOSTILE)
    text = svg(plot, themed=themed, width_px=4000)
    shown = HOSTILE.replace("\x1e", " ")
    assert shown in words(text)
    assert "<script" not in text
    ids = re.findall(r"<[^>]* id=\"([^\"]*)\"", text)
    assert all(re.fullmatch(r"wb[0-9a-f]{10}-\d+", name) for name in ids)


def test_settings_of_matplotlib_change_nothing_and_are_not_changed() -> None:
    import matplotlib
    from matplotlib import style

    plot = EVERY["throughput"]()
    before = svg(plot)
    with matplotlib.rc_context():
        style.use("dark_background")
        matplotlib.rcParams.update({"font.size": 30, "lines.marker": "x", "figure.autolayout": True, "axes.grid": True})
        kept = dict(matplotlib.rcParams)
        assert svg(plot) == before
        assert dict(matplotlib.rcParams) == kept


def test_threads_draw_beside_each_other() -> None:
    plots = [EVERY[kind]() for kind in EVERY]
    alone = [svg(plot) for plot in plots]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(svg, plots)) == alone


def test_importing_plots_does_not_import_matplotlib() -> None:
    code = "import sys, workbench.plots; print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("width", [600, 1400])
@pytest.mark.parametrize("kind", EVERY)
def test_no_words_lie_on_others_or_outside(kind: str, width: int) -> None:
    from workbench.plots.figure import figure_of

    figure = figure_of(EVERY[kind](), width)
    texts = [*figure.texts, *figure.axes[0].texts]
    boxes = [Box(*item.get_window_extent().extents) for item in texts if item.get_text()]
    assert len(boxes) > 4
    for box in boxes:
        assert box.left >= 0
        assert box.right <= width + 1
    for one, other in itertools.combinations(boxes, 2):
        assert overlap(one, other) < 3, (kind, one, other)


# ---- files


def test_a_png_has_two_pixels_for_each_and_white_ground() -> None:
    plot = EVERY["layers"]()
    image = Image.open(io.BytesIO(png(plot, width_px=640)))
    assert image.width == 1280
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert len(image.convert("L").getcolors()) > 10


def test_a_plot_is_saved_as_its_name_ends(tmp_path: Path) -> None:
    plot = EVERY["medians"]()
    for suffix in (".png", ".svg", ".csv"):
        path = save(plot, tmp_path / "new" / f"plot{suffix}")
        assert path.stat().st_size > 50
    rows = list(csv.reader((tmp_path / "new" / "plot.csv").open(newline="")))
    assert rows == [list(row) for row in plot.rows]
    plain = (tmp_path / "new" / "plot.svg").read_text()
    assert "var(" not in plain
    assert SERIES[0] in plain
    assert ElementTree.fromstring(plain.encode()).tag == f"{SVG}svg"
    assert sorted(item.name for item in (tmp_path / "new").iterdir()) == ["plot.csv", "plot.png", "plot.svg"]


def test_other_endings_and_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.png, \.svg or \.csv"):
        save(EVERY["medians"](), tmp_path / "plot.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="name a file in another folder"):
        save(EVERY["medians"](), tmp_path / "file" / "plot.csv")


# ---- medians


def test_medians_are_rows_with_units_and_contestants_keep_their_order() -> None:
    plot = medians([measured("slow", 3.0, 3.0, 3.0), measured("fast", 1.0, 1.0, 1.0)])
    assert plot.rows[0][2] == "median ms"
    assert [row[:1] + row[2:] for row in plot.rows[1:]] == [
        ("slow", "3", "2.985", "3.015", "2", ""),
        ("fast", "1", "0.995", "1.005", "1", ""),
    ]


def test_what_cannot_be_told_apart_is_not_ranked() -> None:
    plot = medians([noisy("a", 1.0), noisy("b", 1.001), noisy("c", 2.0)])
    assert [row[-2:] for row in plot.rows[1:]] == [("1 to 2", "b"), ("1 to 2", "a"), ("3", "")]
    assert any("no measurable difference" in note for note in plot.notes)
    assert "rank 1 to 2" in words(svg(plot))


def test_the_gpus_clock_stands_apart_from_host_to_host() -> None:
    plot = medians([noisy("processor", 0.15), noisy("gpu", 0.1, host_ms=0.3)])
    (first, on_gpu), (second, from_host) = plot.facts.sections
    assert [bar.name for bar in on_gpu] == ["gpu"]
    assert [(bar.name, bar.places) for bar in from_host] == [("processor", (1, 1)), ("gpu", (2, 2))]
    assert "copies not counted" in first
    assert "copies included" in second


def test_one_run_has_no_interval_and_a_note_says_so() -> None:
    plot = medians([measured("once", 2.0)])
    assert plot.rows[1][3:5] == ("", "")
    assert any(note.startswith("once: a single run") for note in plot.notes)
    assert "rank 1" not in words(svg(plot))


@pytest.mark.parametrize("draw", [medians, distribution, lambda nothing: throughput({}), pareto])
def test_nothing_to_draw_is_told(draw: object) -> None:
    with pytest.raises(ConfigError, match="nothing to draw"):
        draw([])  # type: ignore[operator]


# ---- distributions


def test_every_run_is_in_a_bin_or_told_to_lie_beyond() -> None:
    plot = distribution([measured("spiky", *[1.0] * 200, 7.5)])
    (spread,) = plot.facts.spreads
    assert len(spread.counts) == BINS
    assert (sum(spread.counts), spread.beyond) == (200, 1)
    assert "spiky: 1 run of 201 took longer than the axis shows, up to 7.5\u00a0ms." in plot.notes


def test_medians_far_apart_get_axes_of_their_own_from_zero() -> None:
    far = distribution([noisy("slow", 3.0), noisy("fast", 0.1)])
    near = distribution([noisy("slow", 0.2), noisy("fast", 0.1)])
    assert not far.facts.is_shared
    assert any("axis of its own, from zero" in note for note in far.notes)
    assert near.facts.is_shared
    assert len({item.limit_ms for item in near.facts.spreads}) == 1
    for item in far.facts.spreads:
        assert item.percentiles_ms[-1] < item.limit_ms


def test_percentiles_are_the_median_and_measured_times() -> None:
    (spread,) = distribution([measured("a", *map(float, range(1, 101)))]).facts.spreads
    assert spread.percentiles_ms == (50.5, 90.0, 99.0)  # the median lies between two


def test_times_of_a_gpu_beside_those_of_a_processor_are_told_apart() -> None:
    plot = distribution([noisy("processor", 0.15), noisy("gpu", 0.1, host_ms=0.3)])
    assert "Times of gpu are the GPU's own, without copies; the others' are not." in plot.notes


# ---- throughput


def test_each_contestant_and_number_of_streams_is_a_line_by_batch() -> None:
    plot = throughput({"a": [rate(8, 1, 300), rate(1, 1, 100), rate(1, 2, 150)], "b": [rate(1, 1, 90)]})
    found = [(line.name, line.streams, [item.batch for item in line.points]) for line in plot.facts.lines]
    assert found == [("a", 1, [1, 8]), ("a", 2, [1]), ("b", 1, [1])]
    assert plot.facts.lines[0].look == plot.facts.lines[1].look != plot.facts.lines[2].look
    assert "a ×2" in words(svg(plot))


def test_a_rate_has_its_interval_in_the_table() -> None:
    plot = throughput({"a": [rate(4, 1, 1000)]})
    assert plot.rows[0][3:6] == ("per second", "95 % from", "95 % to")
    value, low, high = map(float, plot.rows[1][3:6])
    assert low < value < high


# ---- accuracy against latency


def test_the_front_holds_what_nothing_else_beats() -> None:
    points = [point("slow, exact", 5, 0), point("beaten", 4, 2), point("middle", 2, 1), point("fast", 1, 9)]
    assert [points[place].name for place in front_of(points)] == ["fast", "middle", "slow, exact"]
    assert [row[-1] for row in pareto(points).rows[1:]] == ["yes", "", "yes", "yes"]


def test_the_front_is_the_same_in_any_order_and_beats_every_other_point() -> None:
    generator = np.random.default_rng(0)
    points = [point(str(number), *generator.uniform(0, 9, 2)) for number in range(60)]
    front = {points[place].name for place in front_of(points)}
    assert {points[::-1][place].name for place in front_of(points[::-1])} == front
    for item in points:
        beaten = any(
            other.latency_ms.value < item.latency_ms.value and other.loss.value < item.loss.value for other in points
        )
        assert beaten == (item.name not in front)


def test_a_loss_that_is_not_finite_is_told_not_drawn() -> None:
    endless = ParetoPoint("broken", "int8", Interval(1, 1, 1), Interval(math.inf, math.inf, math.inf))
    plot = pareto([point("fine", 1, 2), endless])
    assert "broken is not drawn: its outputs are not finite." in plot.notes
    assert len(plot.rows) == 3


def test_accuracy_that_was_gained_lies_below_zero() -> None:
    text = words(svg(pareto([point("better", 1, -2), point("worse", 2, 2)], "top-1 points lost")))
    assert "top-1 points lost, from zero" in text
    assert "-2" in text


@pytest.mark.parametrize("loss", [Interval(-2, -math.inf, math.inf), Interval(-2, -2, -2), Interval(-2, -2.5, 0)])
def test_a_gain_lies_within_the_axes_with_and_without_an_interval(loss: Interval) -> None:
    plot = pareto([ParetoPoint("better", "fp16", Interval(1, 1, 1), loss), point("worse", 2, 0.1)])
    axes = Figure().add_subplot()
    draw_pareto(plot.facts, axes)
    bottom, top = axes.get_ylim()
    assert bottom < -2 < 0.1 < top


# ---- layers


def test_the_twenty_longest_are_drawn_and_the_table_has_all() -> None:
    plot = layers(times(30, whole_ms=500.0))
    drawn = plot.facts.bars
    assert len(drawn) == MOST + 2
    assert drawn[MOST].title == "the other 10"
    assert drawn[MOST].times_ms == (sum(range(1, 11)),)
    assert drawn[-1].times_ms == (500.0 - sum(range(1, 31)),)
    assert len(plot.rows) == 1 + 30 + 1


def test_layers_beyond_the_whole_run_are_told_and_no_bar_is_negative() -> None:
    plot = layers(times(3, "before", whole_ms=1.0), times(3, "after", whole_ms=10.0))
    assert any(note.startswith("before: Timed one by one, its layers take 6 ms") for note in plot.notes)
    assert plot.facts.bars[-1].times_ms == (None, 4.0)
    assert all(time is None or time >= 0 for bar in plot.facts.bars for time in bar.times_ms)
    assert "not known, see below" in words(svg(plot))


# ---- words, places, colours


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's."""

    def luminance(color: str) -> float:
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_colour_stands_out_in_its_theme(theme: dict[str, str]) -> None:
    for name, color in theme.items():
        if name in ("--wb-text", "--wb-quiet"):
            assert contrast(color, theme["--wb-paper"]) >= 4.5
        elif name.startswith("--wb-series"):
            assert contrast(color, theme["--wb-paper"]) >= 3


def test_what_a_page_does_not_theme_is_readable_on_black_too() -> None:
    assert min(contrast(color, DARK["--wb-paper"]) for color in SERIES) >= 3
    assert css_value(SERIES[0]) == f"var(--wb-series-1, {SERIES[0]})"


def test_labels_of_crowded_points_do_not_meet() -> None:
    anchors = [(300.0 + 4 * number, 200.0 + 3 * (number % 3)) for number in range(8)]
    placed = place_labels(anchors, [(90.0, 14.0)] * 8, Box(0, 0, 600, 400))
    for one, other in itertools.combinations(placed, 2):
        assert overlap(one, other) == 0
    for box in placed:
        assert overlap(box, Box(0, 0, 600, 400)) == pytest.approx(90 * 14)
        assert not any(overlap(box, Box(x - 6, y - 6, x + 6, y + 6)) for x, y in anchors)


def test_places_along_a_line_keep_their_distance_and_order() -> None:
    wanted = [10.0, 11.0, 12.0, 90.0, 99.0]
    places = part(wanted, 15, 0, 100)
    assert places == sorted(places)
    assert min(after - before for before, after in itertools.pairwise(places)) >= 15 - 1e-9
    assert places[0] >= 0
    assert places[-1] <= 100
    assert part([5.0, 50.0], 15, 0, 100) == [5.0, 50.0]


@pytest.mark.parametrize("limit", [3e-4, 0.163, 1.0, 7.3, 99.0, 12345.0])
def test_ticks_begin_at_zero_and_are_round(limit: float) -> None:
    ticks = ticks_to(limit, 400)
    assert ticks[0] == (0.0, "0")
    assert 2 <= len(ticks) <= 10
    assert ticks[-1][0] <= limit * 1.001
    assert all(float(text.replace(",", "")) == pytest.approx(at) for at, text in ticks)


def test_long_names_are_cut_to_their_room_and_stay_distinct() -> None:
    names = [f"the same beginning {number} and the same long end" for number in range(3)]
    cut = shortened(names, 120)
    assert len(set(cut)) == 3
    assert all(text_px(name) <= 120 for name in cut)
    assert shortened(["short"], 120) == ["short"]


def test_lines_are_no_wider_than_their_room() -> None:
    lines = wrap("many words that need several lines and an_extraordinarily_long_one_that_fits_none", 150, 11)
    assert len(lines) > 2
    assert all(text_px(line, 11) <= 150 for line in lines)


def test_a_plot_is_told_as_a_table_and_shown_in_notebooks() -> None:
    plot = EVERY["medians"]()
    assert isinstance(plot, Plot)
    assert str(plot).startswith("Median latency\n")
    assert plot.notes[0] in str(plot)
    assert plot._repr_html_().startswith("<svg ")
    assert plot.size_px == (720, plot.height_px)
