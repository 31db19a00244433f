"""What every export ends with: the file appears whole or not at all, and answers as the framework does."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import MATMUL, RELU, SCALE, parse, save, save_external

from workbench.accuracy import Difference
from workbench.errors import ExportError, ModelError
from workbench.export.exported import Exported, default_path, staged, write_model
from workbench.export.parity import Parity, check_parity
from workbench.model import load_model
from workbench.types import Feeds

X = np.array([[1, -2, 3, -4]], np.float32)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def answers(*pairs: tuple[np.ndarray, np.ndarray]) -> list[tuple[Feeds, Mapping[str, np.ndarray]]]:
    return [({"x": given}, {"y": wanted}) for given, wanted in pairs]


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    return save(tmp_path / "relu.onnx", RELU)


# ---- the file


def test_nothing_lies_under_the_final_name_until_all_is_well(tmp_path: Path) -> None:
    path = tmp_path / "new" / "net.onnx"
    with staged(path) as draft:
        draft.write_bytes(b"whole")
        assert draft.name == "net.onnx" and draft.parent.parent == path.parent
        assert not path.exists()
    assert names(path.parent) == ["net.onnx"] and path.read_bytes() == b"whole"


def test_an_older_export_stays_until_it_is_replaced_and_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="mine"), staged(path) as draft:
        draft.write_bytes(b"half")
        draft.with_name("net.onnx.data").write_bytes(b"half")
        raise RuntimeError("mine")
    assert names(tmp_path) == ["net.onnx"] and path.read_bytes() == b"old"
    with staged(path) as draft:
        draft.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["net.onnx"] and path.read_bytes() == b"new"


def test_external_data_comes_along_before_the_model(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with staged(path) as draft:
        save_external(draft, "net.onnx.data")
        draft.with_name("net.onnx.data").write_bytes(np.eye(4, dtype=np.float32).tobytes())
    assert names(tmp_path) == ["net.onnx", "net.onnx.data"]
    (parity,) = check_parity(path, answers((X, X)))
    assert parity.relative == 0


def test_data_is_called_by_its_content_and_that_of_the_model_it_replaces_is_removed(tmp_path: Path) -> None:
    """So an old graph never reads new weights, whatever happens in between."""
    path, other = tmp_path / "net.onnx", tmp_path / "net.onnx.0123abcd.data"
    other.write_bytes(b"of nobody")
    save_external(tmp_path / "twin.onnx", "shared.data")
    (tmp_path / "shared.data").write_bytes(bytes(64))
    kept = {other.name, "twin.onnx", "shared.data", "net.onnx"}

    def export(scale: float) -> str:
        with staged(path) as draft:
            proto = parse(MATMUL, w=np.eye(4, dtype=np.float32) * scale)
            write_model(proto, draft, large_bytes=1)
        (name,) = (file.name for file in load_model(path).external_files)
        (parity,) = check_parity(path, answers((X, X * np.float32(scale))))
        assert parity.relative == 0 and set(names(tmp_path)) == {*kept, name}
        return name

    first, second = export(1), export(2)
    assert first != second and first.startswith("net.onnx.") and first.endswith(".data")
    assert export(2) == second
    with staged(path) as draft:
        save(draft, RELU)
    assert set(names(tmp_path)) == kept


def test_data_that_other_models_may_read_stays(tmp_path: Path) -> None:
    path = save_external(tmp_path / "net.onnx", "shared.data")
    (tmp_path / "shared.data").write_bytes(bytes(64))
    with staged(path) as draft:
        save(draft, RELU)
    assert names(tmp_path) == ["net.onnx", "shared.data"]


def test_data_that_cannot_be_put_in_place_leaves_no_model_without_it(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    (tmp_path / "net.onnx.data" / "full").mkdir(parents=True)
    with pytest.raises(ExportError, match=r"net\.onnx: the export cannot be written"), staged(path) as draft:
        draft.write_bytes(b"model")
        draft.with_name("net.onnx.data").write_bytes(b"data")
    assert names(tmp_path) == ["net.onnx.data"]


def test_a_block_that_writes_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be written"), staged(tmp_path / "net.onnx"):
        pass
    assert names(tmp_path) == []


def test_a_folder_is_no_file_and_that_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "exports").mkdir()
    with pytest.raises(ExportError, match="exports: a folder; name a file in it"), staged(tmp_path / "exports"):
        pytest.fail("the work began")


@pytest.mark.parametrize("place", ["file/net.onnx", "/proc/net.onnx", f"{'n' * 250}.onnx"])
def test_a_place_that_cannot_be_written_is_said_before_any_work(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    words = r"the export cannot be written \([^)]+\); name another"
    with pytest.raises(ExportError, match=words), staged(tmp_path / place):
        pytest.fail("the work began")
    assert names(tmp_path) == ["file"]


def test_an_error_of_the_work_itself_comes_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mine"), staged(tmp_path / "net.onnx"):
        raise FileNotFoundError("mine")
    assert names(tmp_path) == []


def test_two_exports_to_one_place_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    meeting = threading.Barrier(2, timeout=30)

    def export(content: bytes) -> None:
        with staged(path) as draft:
            meeting.wait()
            draft.write_bytes(content * 1000)
            meeting.wait()
            assert draft.read_bytes() == content * 1000

    threads = [threading.Thread(target=export, args=(content,)) for content in (b"a", b"b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["net.onnx"]
    assert path.read_bytes() in (b"a" * 1000, b"b" * 1000)


def test_without_a_name_of_the_users_an_export_lies_in_the_workbenchs_folder(home: Path) -> None:
    assert default_path("net") == home / "exports" / "net.onnx"


# ---- its answers


def test_every_set_of_shapes_is_compared(relu: Path) -> None:
    many = np.tile(X, (3, 1))
    found = check_parity(relu, answers((X, np.maximum(X, 0)), (many, np.maximum(many, 0))))
    assert [item.shapes for item in found] == [{"x": (1, 4)}, {"x": (3, 4)}]
    assert [(item.relative, item.argmax_agreement) for item in found] == [(0.0, 1.0), (0.0, 1.0)]


def test_an_export_that_differs_at_one_of_them_is_refused_with_output_and_shapes(relu: Path) -> None:
    many = np.tile(X, (2, 1))
    with pytest.raises(ExportError, match=r"relu\.onnx: output y differs .* by 9\.9e-01 on x 2x4 \(at most 1e-04"):
        check_parity(relu, answers((X, np.maximum(X, 0)), (many, 100 * np.maximum(many, 0))))


@pytest.mark.parametrize("factor", [1 + 2e-5, 1 + 5e-4])
def test_the_bound_is_one_in_ten_thousand(relu: Path, factor: float) -> None:
    pairs = answers((X, (np.maximum(X, 0) * factor).astype(np.float32)))
    if factor < 1 + 1e-4:
        assert 0 < check_parity(relu, pairs)[0].relative < 1e-4
    else:
        with pytest.raises(ExportError, match="differs"):
            check_parity(relu, pairs)


def test_without_a_bound_the_difference_is_stated_only(relu: Path) -> None:
    (parity,) = check_parity(relu, answers((X, np.maximum(X, 0) * np.float32(0.8))), most_relative=None)
    assert parity.relative == pytest.approx(0.25)
    assert parity.argmax_agreement == 1.0
    with pytest.raises(ExportError, match=r"relu\.onnx: output y has little to do with the framework's on x 1x4"):
        check_parity(relu, answers((X, -X)), most_relative=None)


def test_values_that_are_not_finite_are_no_agreement(tmp_path: Path) -> None:
    path = save(tmp_path / "log.onnx", "(float[n,4] x) => (float[n,4] y) { [log] y = Log(x) }")
    with pytest.raises(ExportError, match="differs from the framework's by inf"):
        check_parity(path, answers((X, X)))


@pytest.mark.parametrize(
    ("feeds", "wanted", "words"),
    [
        ({"x": X.reshape(2, 2)}, {"y": X}, "does not run as the framework does on x 2x2"),
        ({"z": X}, {"y": X}, "does not run as the framework does on z 1x4"),
        ({"x": X}, {"other": X}, r"on x 1x4: the outputs differ: \['other'\] and \['y'\]"),
        ({"x": X}, {"y": X[0]}, r"on x 1x4: output y has the shapes \(4,\) and \(1, 4\)"),
    ],
    ids=["rank", "input", "output", "shape"],
)
def test_an_export_that_does_not_run_as_the_framework_does_is_refused(
    relu: Path, feeds: Feeds, wanted: Mapping[str, np.ndarray], words: str
) -> None:
    with pytest.raises(ExportError, match=words):
        check_parity(relu, [(feeds, wanted)], most_relative=None)


def test_what_onnx_runtime_does_not_load_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "frob.onnx", "(float[n,4] x) => (float[n,4] y) { [frob] y = foreign.Frobnicate(x) }")
    with pytest.raises(ExportError, match=r"frob\.onnx: ONNX Runtime refuses the export: .*Frobnicate"):
        check_parity(path, answers((X, X)))


def test_what_the_checker_refuses_is_a_model_error(tmp_path: Path) -> None:
    proto = parse(RELU)
    proto.graph.node[0].input[0] = "nowhere"
    onnx.save(proto, tmp_path / "broken.onnx")
    with pytest.raises(ModelError, match="nowhere"):
        check_parity(tmp_path / "broken.onnx", answers((X, X)))


# ---- in words


def test_parity_is_that_of_the_output_that_does_worst() -> None:
    parity = Parity(
        {"x": (1, 4)},
        (Difference("a", 1.0, 0.5, 1.0, 0.25), Difference("b", 9.0, 0.1, 1.0, None), Difference("c", 0, 0, 1, 1.0)),
    )
    assert (parity.relative, parity.argmax_agreement) == (0.5, 0.25)
    assert (Parity({}, ()).relative, Parity({}, ()).argmax_agreement) == (0.0, None)


def test_an_export_says_what_it_is_how_close_it_is_and_its_notes(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "scale.onnx", SCALE, w=np.ones(2, np.float32)))
    parity = tuple(Parity({"x": (1, 2)}, (Difference("y", 1.0, relative, 1.0, None),)) for relative in (1e-7, 3e-6))
    said = str(Exported(model, "PyTorch 2.13.0", "torch.onnx (dynamo)", parity, ("mind the gap",), 1.5))
    assert said.splitlines() == [
        "scale.onnx: 1 nodes, opset 17, from PyTorch 2.13.0 by torch.onnx (dynamo)",
        "  inputs x: float32[n, 2]; outputs y: float32[n, 2]",
        "  answers as PyTorch does at 2 sets of shapes: relative difference at most 3.0e-06",
        "  note: mind the gap",
    ]


@pytest.mark.parametrize(
    ("shares", "verdict"), [((0.9876, 1.0), "98.8 % agree"), ((None, None), "compared, not judged")]
)
def test_what_was_not_judged_is_not_said_to_agree(
    shares: tuple[float | None, ...], verdict: str, tmp_path: Path
) -> None:
    model = load_model(save(tmp_path / "scale.onnx", SCALE, w=np.ones(2, np.float32)))
    parity = tuple(Parity({"x": (1, 2)}, (Difference("y", 1.0, 0.25, 0.9, share),)) for share in shares)
    exported = Exported(model, "Paddle 2.6.2", "paddle2onnx", parity, (), 1.5, most_relative=None)
    assert exported.verdict == verdict
    assert f"  against Paddle: {verdict} at 2 sets of shapes: relative difference at most 2.5e-01" in str(exported)
    assert "answers as" not in str(exported)


# ---- where it goes


def test_sources_of_one_name_keep_their_exports(home: Path, tmp_path: Path) -> None:
    def export(source: Path | None) -> str:
        path = default_path("net", source)
        path.parent.mkdir(exist_ok=True)
        path.touch()
        return path.name

    assert default_path("net") == home / "exports" / "net.onnx"
    assert [export(tmp_path / "a.pt2"), export(tmp_path / "b.pt2"), export(None)] == [
        "net.onnx", "net-2.onnx", "net-3.onnx",
    ]  # fmt: skip
    assert [export(tmp_path / "a.pt2"), export(tmp_path / "b.pt2"), export(None)] == [
        "net.onnx", "net-2.onnx", "net-3.onnx",
    ]  # fmt: skip
    (home / "exports" / "net.onnx").unlink()
    assert export(tmp_path / "c.pt2") == "net.onnx"


def test_an_export_never_replaces_what_is_no_onnx_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("mine")
    with pytest.raises(ExportError, match=r"an export is called NAME\.onnx"), staged(tmp_path / "net.py") as draft:
        draft.write_bytes(b"")
    assert [path.name for path in tmp_path.iterdir()] == ["net.py"] and (tmp_path / "net.py").read_text() == "mine"
