"""GraphView's program, its pages and its traits; what it draws is tested in a browser."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from traitlets import TraitError

from workbench.errors import ViewError
from workbench.picture import Arrow, Box, Pane, Picture, picture_to_json
from workbench.picture.page import page, program, save_page
from workbench.widgets.graph import GraphView

FOLDER = Path(__file__).parents[2] / "workbench/picture/graph"
PICTURE = Picture(
    "a & b <c>",
    Pane("Before", (Box("Conv", "/a/Conv", ("a",)), Box("Relu", "</script><b>")), (Arrow(0, 1, "float32[1×8]"),)),
    Pane("After", (Box("conv + relu", "k", time_ms=0.5),), ()),
    ((0, 0), (1, 0)),
    ("fusion", "time"),
)


def state_of(text: str) -> dict:
    (state,) = re.findall(r'<script type="application/json" id="state">(.*?)</script>', text, re.DOTALL)
    return json.loads(state)


def test_every_module_is_joined_once_and_after_those_it_imports() -> None:
    joined = re.findall(r"^const module_(\w+) =", program(), re.MULTILINE)
    assert sorted(joined) == sorted(path.stem for path in FOLDER.glob("*.js"))
    for name in joined:
        imports = re.findall(r'from "\./(\w+)\.js"', (FOLDER / f"{name}.js").read_text())
        assert all(joined.index(other) < joined.index(name) for other in imports), name


def test_what_a_module_takes_from_another_is_there() -> None:
    given = {
        path.stem: set(re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", path.read_text(), re.MULTILINE))
        for path in FOLDER.glob("*.js")
    }
    for path in FOLDER.glob("*.js"):
        for names, module in re.findall(r'^import \{ (.*) \} from "\./(\w+)\.js";$', path.read_text(), re.MULTILINE):
            assert set(names.split(", ")) <= given[module], f"{path.name} from {module}.js"


def test_no_import_or_export_is_left_in_the_program() -> None:
    assert not re.search(r"^\s*(import|export)\b", program(), re.MULTILINE)


def test_nothing_is_fetched() -> None:
    addresses = set(re.findall(r"https?://[\w./-]+", program()))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of SVG's namespace
    assert not re.search(r"\b(fetch|XMLHttpRequest|importScripts|WebSocket)\b", program())


def test_a_page_holds_its_picture_and_state() -> None:
    assert state_of(page(PICTURE, color_by="time")) == {
        "picture": json.loads(json.dumps(picture_to_json(PICTURE))),
        "color_by": "time",
    }


def test_names_cannot_break_out_of_a_page() -> None:
    text = page(PICTURE)
    assert text.count("</script>") == 2  # of the state and of the program
    (title,) = re.findall("<title>(.*)</title>\n</head>", text)
    assert "<" not in title
    assert unescape(title) == PICTURE.title


def test_a_page_is_saved(tmp_path: Path) -> None:
    path = save_page(PICTURE, tmp_path / "picture.html")
    assert path.read_text(encoding="utf-8") == page(PICTURE)


@pytest.mark.parametrize("name", ["missing/picture.html", ".", "a\0b"])
def test_a_page_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(ViewError, match=r"the page cannot be written \(.+\); name a file in another folder\."):
        save_page(PICTURE, tmp_path / name)


def test_the_browser_gets_the_picture_as_json() -> None:
    view = GraphView(PICTURE, height=300)
    state = view.get_state()
    assert state["picture"] == picture_to_json(PICTURE)
    assert (state["color_by"], state["selected"], state["height"]) == ("fusion", [], 300)


def test_a_picture_is_replaced() -> None:
    view = GraphView(PICTURE)
    sent = []
    view.observe(lambda change: sent.append(view.get_state(["picture"])["picture"]["title"]), "picture")
    view.picture = replace(PICTURE, title="another")
    assert sent == ["another"]
    with pytest.raises(TraitError):
        view.picture = {"title": "not a Picture"}


def test_what_the_browser_selects_arrives_in_python() -> None:
    view = GraphView(PICTURE)
    view.set_state({"selected": [{"pane": "after", "name": "k"}], "color_by": "time", "search": "conv"})
    assert view.selected == [{"pane": "after", "name": "k"}]
    assert (view.color_by, view.search) == ("time", "conv")


def test_a_selection_names_pane_and_box() -> None:
    with pytest.raises(TraitError):
        GraphView(PICTURE).selected = [{"pane": "after", "name": 3}]


def test_a_view_tells_in_words_what_it_shows() -> None:
    assert repr(GraphView(PICTURE)) == "a & b <c>: Before (2 boxes) and After (1 box)"
    empty = Picture("empty", Pane("", (), ()), Pane("", (), ()), ())
    assert repr(GraphView(empty)) == "empty: nothing to draw"
