"""An ONNX file as a Model: what is read, what is refused, what an edit changes."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import FASHION_CNN, MATMUL, OCR_CLS, OCR_DET, RELU, save, save_external, save_over_2gb

from workbench import (
    BuildConfig,
    Model,
    build,
    check_support,
    edit,
    load_model,
    save_model,
)
from workbench.dimensions import read_places, set_dimension, set_input_dimension
from workbench.errors import ModelError
from workbench.reference import Reference

WEIGHTS = np.arange(16, dtype=np.float32)


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model whose weights lie in weights.bin beside it."""
    path = save_external(tmp_path / "model" / "net.onnx")
    (path.parent / "weights.bin").write_bytes(WEIGHTS.tobytes())
    return path


def shapes(model: Model) -> list[str]:
    return [str(spec) for spec in (*model.inputs, *model.outputs)]


# ---- what is read


def test_facts_of_a_model_are_read(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "net.onnx", MATMUL, w=WEIGHTS.reshape(4, 4)))
    assert shapes(model) == ["x: float32[n, 4]", "y: float32[n, 4]"]
    assert (model.name, model.opset, model.producer) == ("net", 17, "tests 1")
    assert (model.operators, model.parameters, model.external_files) == ({"MatMul": 1}, 16, ())


def test_operators_of_other_domains_carry_their_domain(tmp_path: Path) -> None:
    graph = "(float[4] x) => (float[4] y) { a = Relu(x) b = foreign.Relu(a) y = Relu(b) }"
    assert load_model(save(tmp_path / "net.onnx", graph)).operators == {"Relu": 2, "foreign.Relu": 1}


def test_weights_in_constant_nodes_are_parameters() -> None:
    model = load_model(OCR_DET)
    assert not model.proto.graph.initializer
    constants = [onnx.numpy_helper.to_array(node.attribute[0].t) for node in model.nodes if node.op_type == "Constant"]
    assert model.parameters == sum(item.size for item in constants if item.dtype == np.float32) > 1_000_000


def test_an_initializer_that_is_listed_as_input_is_not_an_input(tmp_path: Path) -> None:
    graph = "(float[n,4] x, float[4,4] w) => (float[n,4] y) { y = MatMul(x, w) }"
    assert [spec.name for spec in load_model(save(tmp_path / "net.onnx", graph, w=np.eye(4, dtype="f"))).inputs] == [
        "x"
    ]


def test_open_dimensions_keep_their_names_or_have_none(tmp_path: Path) -> None:
    graph = "(float[batch,?,4] x) => (float[batch,?,4] y) { y = Relu(x) }"
    assert load_model(save(tmp_path / "net.onnx", graph)).inputs[0].shape == ("batch", None, 4)


def test_a_dimension_of_minus_one_is_open_and_question_marks_are_a_name() -> None:
    (image,), (scores,) = load_model(OCR_CLS).inputs, load_model(OCR_CLS).outputs
    assert image.shape == (None, 3, "?", "?")
    assert scores.shape == (None, 2)


@pytest.mark.parametrize("path", [FASHION_CNN, OCR_DET, OCR_CLS], ids=lambda path: path.stem)
def test_every_node_of_the_data_models_has_a_name_of_its_own(path: Path) -> None:
    names = Counter(node.name for node in load_model(path).nodes)
    assert "" not in names
    assert set(names.values()) == {1}


def test_nameless_and_twin_nodes_get_names_of_their_own_in_subgraphs_too(tmp_path: Path) -> None:
    graph = """(float[4] x, bool c) => (float[4] y) {
        [twin] a = Relu(x)
        [twin] b = Relu(a)
        t = Relu(b)
        [node_of_t] u = Relu(t)
        y = If (c) <then_branch = yes () => (float[4] p) { [twin] p = Relu(u) },
                    else_branch = no () => (float[4] q) { q = Relu(u) }>
    }"""
    model = load_model(save(tmp_path / "net.onnx", graph))
    bodies = [node.name for item in model.nodes[-1].attribute for node in item.g.node]
    assert [node.name for node in model.nodes] == ["twin", "twin_2", "node_of_t_2", "node_of_t", "node_of_y"]
    assert sorted(bodies) == ["node_of_q", "twin_3"]


# ---- the hash


def test_the_hash_is_of_the_content_not_of_the_name(tmp_path: Path) -> None:
    first, second = (save(tmp_path / name, RELU) for name in ("one.onnx", "folder/two.onnx"))
    assert load_model(first).sha256 == load_model(second).sha256


def test_the_hash_tells_edits_apart(fashion_cnn: Model) -> None:
    hashes = {fashion_cnn.sha256, *(edit(fashion_cnn, change).sha256 for change in ("batch=4", "batch=5", "batch=n"))}
    assert len(hashes) == 4


@pytest.mark.parametrize("byte", [0, 31, 63])
def test_any_changed_external_byte_changes_the_hash(external: Path, byte: int) -> None:
    before = load_model(external).sha256
    weights = bytearray(WEIGHTS.tobytes())
    weights[byte] ^= 1
    (external.parent / "weights.bin").write_bytes(weights)
    assert load_model(external).sha256 != before


def test_external_weights_count_like_others(external: Path) -> None:
    model = load_model(external)
    assert model.parameters == 16
    assert model.external_files == (external.parent / "weights.bin",)
    assert len(model.to_bytes()) < 500


# ---- what is refused, each with a sentence that names the file


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "no such file"), (b"", "not an ONNX"), (b"hello " * 99, "not an ONNX"), (b"\x08\x08", "not an ONNX")],
    ids=["missing", "empty", "text", "nothing but a version"],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "net.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"net\.onnx: .*{says}"):
        load_model(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_a_cut_off_model_is_refused(tmp_path: Path, share: float) -> None:
    whole = FASHION_CNN.read_bytes()
    (tmp_path / "net.onnx").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"net\.onnx"):
        load_model(tmp_path / "net.onnx")


def test_the_checker_says_what_is_wrong_with_a_graph(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", "(float[4] x) => (float[4] y) { [lost] y = Relu(nowhere) }")
    with pytest.raises(ModelError, match=r"(?s)net\.onnx: the ONNX checker refuses it: .*nowhere"):
        load_model(path)


def test_inputs_that_are_no_tensors_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", "(seq(float[4]) x) => (int64 y) { y = SequenceLength(x) }")
    with pytest.raises(ModelError, match="x: a sequence; engines take and give tensors only"):
        load_model(path)


def test_missing_external_weights_are_named(external: Path) -> None:
    (external.parent / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights are missing: put weights\.bin beside it"):
        load_model(external)


def test_cut_off_external_weights_are_refused(external: Path) -> None:
    (external.parent / "weights.bin").write_bytes(WEIGHTS.tobytes()[:-1])
    with pytest.raises(ModelError, match=r"weights\.bin is cut off: 63 bytes, 64 needed"):
        load_model(external)


@pytest.mark.parametrize("location", ["/etc/hostname", "../secret.bin", "deeper/../../secret.bin", "link.bin"])
def test_weights_outside_the_models_folder_are_refused(tmp_path: Path, location: str) -> None:
    path = save_external(tmp_path / "model" / "net.onnx", location)
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    os.symlink(tmp_path / "secret.bin", path.parent / "link.bin")
    with pytest.raises(ModelError, match=f"tensor w reads '{location}', outside the model's folder; refused"):
        load_model(path)


@pytest.mark.parametrize("entries", [{"offset": "nine"}, {"offset": "-5"}, {"length": "-5"}, {"length": "16"}], ids=str)
def test_nonsense_about_external_weights_is_refused(external: Path, entries: dict[str, str]) -> None:
    save_external(external, **entries)
    with pytest.raises(ModelError, match=r"weights\.bin"):
        load_model(external)


def test_cut_off_weights_without_a_length_are_refused(external: Path) -> None:
    proto = onnx.load(external, load_external_data=False)
    del proto.graph.initializer[0].external_data[1:]
    external.write_bytes(proto.SerializeToString())
    assert load_model(external).parameters == 16
    (external.parent / "weights.bin").write_bytes(WEIGHTS.tobytes()[:40])
    with pytest.raises(ModelError, match="cut off: 40 bytes, 64 needed"):
        load_model(external)


def test_a_linked_model_finds_its_weights_beside_the_link(external: Path, tmp_path: Path) -> None:
    link = tmp_path / "linked" / "net.onnx"
    link.parent.mkdir()
    link.symlink_to(external)
    (link.parent / "weights.bin").write_bytes(WEIGHTS.tobytes())
    (external.parent / "weights.bin").unlink()
    assert load_model(link).external_files[0].read_bytes() == WEIGHTS.tobytes()


# ---- edits give a new model


def test_fixing_a_dimension_by_name_fixes_it_everywhere(fashion_cnn: Model) -> None:
    fixed = set_dimension(fashion_cnn, "batch", 4)
    assert shapes(fixed) == ["image: float32[4, 1, 28, 28]", "logits: float32[4, 10]"]
    assert fixed.edits == ("batch=4",)


def test_renaming_a_dimension_renames_it_everywhere(fashion_cnn: Model) -> None:
    assert shapes(set_dimension(fashion_cnn, "batch", "n")) == [
        "image: float32[n, 1, 28, 28]",
        "logits: float32[n, 10]",
    ]


def test_one_axis_is_named_apart_from_its_namesake() -> None:
    model = set_input_dimension(load_model(OCR_CLS), "x", 2, "height")
    assert model.inputs[0].shape == (None, 3, "height", "?")


def test_a_fixed_axis_can_be_opened_and_the_outputs_follow(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "net.onnx", RELU.replace("n,", "1,")))
    opened = set_input_dimension(model, "x", 0, "batch")
    assert opened.inputs[0].shape == ("batch", 4)
    assert not isinstance(opened.outputs[0].shape[0], int)


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        ("batch=4", (4, 1, 28, 28)),
        ("batch=n", ("n", 1, 28, 28)),
        ("image:0=4", (4, 1, 28, 28)),
        ("image:2=h", ("batch", 1, "h", 28)),
    ],
)
def test_edits_are_written_as_text(fashion_cnn: Model, change: str, shape: tuple[int | str, ...]) -> None:
    assert edit(fashion_cnn, change).inputs[0].shape == shape


def test_edits_follow_one_another(fashion_cnn: Model) -> None:
    model = edit(edit(fashion_cnn, "batch=n"), "n=2")
    assert model.inputs[0].shape[0] == 2
    assert model.edits == ("batch=n", "n=2")


def test_the_original_is_left_as_it_was(fashion_cnn: Model) -> None:
    before = fashion_cnn.to_bytes()
    for change in ("batch=4", "batch=n", "image:2=h"):
        edit(fashion_cnn, change)
    assert fashion_cnn.to_bytes() == before
    assert fashion_cnn.edits == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("batch", "write NAME=SIZE"),
        ("=4", "write NAME=SIZE"),
        ("batch=", "write NAME=SIZE"),
        ("depth=4", "no dimension 'depth'; it has batch"),
        ("batch=0", "at least 1"),
        ("batch=-4", "at least 1"),
        ("image:9=4", "has 4 dimensions; 9 is not one of them"),
        ("batch=--4", "--4"),
        ("batch=1.5", "1.5"),
        ("batch=²", "²"),
        ("batch=99999999999999999999", "99999999999999999999"),
    ],
)
def test_edits_that_cannot_be_say_why(fashion_cnn: Model, change: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        edit(fashion_cnn, change)


def test_an_unknown_input_is_refused_with_the_known_ones(fashion_cnn: Model) -> None:
    with pytest.raises(ModelError, match="no input 'picture'; it has image"):
        set_input_dimension(fashion_cnn, "picture", 0, 4)


@pytest.mark.parametrize(
    ("change", "places", "dim"),
    [
        ("image:2=h", (("image", 2),), "h"),
        ("image:2,image:3=side", (("image", 2), ("image", 3)), "side"),
        ("image:2, image:3=32", (("image", 2), ("image", 3)), 32),
        ("image:99=h", (("image", 99),), "h"),
        ("batch=4", (), 4),
        ("picture:2=h", (), "h"),
        ("image:2,batch=h", (), "h"),
        ("image:x=h", (), "h"),
    ],
)
def test_places_of_a_change_are_read_if_all_of_them_are_inputs(
    fashion_cnn: Model, change: str, places: tuple[tuple[str, int], ...], dim: int | str
) -> None:
    assert read_places(fashion_cnn, change) == (places, dim)


# ---- what is saved


def test_a_saved_model_reads_back_with_its_changes(fashion_cnn: Model, tmp_path: Path) -> None:
    changed = edit(fashion_cnn, "batch=4")
    saved = save_model(changed, tmp_path / "new" / "folder" / "net.onnx")
    assert shapes(saved) == shapes(changed) != shapes(fashion_cnn)
    assert (saved.sha256, saved.edits) == (changed.sha256, ())
    assert saved.path == tmp_path / "new" / "folder" / "net.onnx"
    assert [path.name for path in saved.path.parent.iterdir()] == ["net.onnx"]


def test_a_file_of_that_name_is_replaced(fashion_cnn: Model, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("something else")
    assert save_model(fashion_cnn, tmp_path / "net.onnx").sha256 == fashion_cnn.sha256


def test_the_home_folder_and_relative_paths_are_understood(
    fashion_cnn: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert save_model(fashion_cnn, "~/one.onnx").path == tmp_path / "one.onnx"
    assert save_model(fashion_cnn, "two.onnx").path == tmp_path / "two.onnx"


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def own_file(path: Path) -> list[str | Path]:
    """Ways to write the path of a model in tmp_path/model."""
    link = path.parents[1] / "linked"
    link.symlink_to(path.parent)
    return [path, str(path), path.parent / ".." / "model" / path.name, link / path.name]


@pytest.mark.parametrize("way", range(4), ids=["path", "text", "dots", "linked folder"])
def test_a_model_never_replaces_its_own_file(external: Path, way: int) -> None:
    model = set_dimension(load_model(external), "n", 3)
    before = listing(external.parent)
    with pytest.raises(ModelError, match="the model was read from this file; name another"):
        save_model(model, own_file(external)[way])
    assert listing(external.parent) == before


def test_weights_beside_the_model_are_copied_beside_the_new_one(external: Path, tmp_path: Path) -> None:
    saved = save_model(set_dimension(load_model(external), "n", 3), tmp_path / "other" / "net.onnx")
    shutil.rmtree(external.parent)
    assert (saved.path.parent / "weights.bin").read_bytes() == WEIGHTS.tobytes()
    answer = Reference(load_model(saved.path)).run({"x": np.eye(3, 4, dtype=np.float32)})["y"]
    np.testing.assert_array_equal(answer, WEIGHTS.reshape(4, 4)[:3])


def test_weights_in_a_folder_keep_it(tmp_path: Path) -> None:
    path = save_external(tmp_path / "model" / "net.onnx", "deep/weights.bin")
    (path.parent / "deep").mkdir()
    (path.parent / "deep" / "weights.bin").write_bytes(WEIGHTS.tobytes())
    saved = save_model(load_model(path), tmp_path / "other" / "copy.onnx")
    assert sorted(listing(saved.path.parent)) == ["copy.onnx", "deep/weights.bin"]
    assert saved.sha256 == load_model(path).sha256


def test_in_the_same_folder_the_weights_are_shared(external: Path) -> None:
    before = listing(external.parent)
    saved = save_model(set_dimension(load_model(external), "n", 3), external.with_name("fixed.onnx"))
    assert listing(external.parent) == {**before, "fixed.onnx": saved.path.read_bytes()}


def test_weights_of_another_model_are_not_replaced(external: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "weights.bin").write_bytes(b"precious")
    with pytest.raises(ModelError, match=r"weights\.bin: weights of another model lie here"):
        save_model(load_model(external), tmp_path / "other" / "net.onnx")
    assert listing(tmp_path / "other") == {"weights.bin": b"precious"}


@pytest.mark.parametrize("folder", ["model", "other"])
def test_a_model_cannot_take_the_name_of_its_weights(external: Path, tmp_path: Path, folder: str) -> None:
    model, before = load_model(external), listing(external.parent)
    with pytest.raises(ModelError, match=r"weights\.bin"):
        save_model(model, tmp_path / folder / "weights.bin")
    assert listing(external.parent) == before
    assert not (tmp_path / "other" / "weights.bin").exists()


def test_saving_the_same_again_is_no_clash(external: Path, tmp_path: Path) -> None:
    first, second = (save_model(load_model(external), tmp_path / "other" / "net.onnx") for _ in range(2))
    assert first.sha256 == second.sha256


@pytest.mark.parametrize(
    "name", ["taken/net.onnx", "folder", "\0.onnx", "n" * 300 + ".onnx"], ids=["file", "folder", "null", "long"]
)
def test_what_cannot_be_written_leaves_nothing_behind(external: Path, tmp_path: Path, name: str) -> None:
    room = tmp_path / "room"
    (room / "folder").mkdir(parents=True)
    (room / "taken").write_text("a file where a folder is needed")
    before = sorted(room.rglob("*"))
    with pytest.raises(ModelError):
        save_model(load_model(external), room / name)
    assert sorted(room.rglob("*")) == before


# ---- size


@pytest.fixture
def over_2gb(tmp_path: Path, home: Path) -> Iterator[Path]:
    yield save_over_2gb(tmp_path / "net.onnx")
    shutil.rmtree(home, ignore_errors=True)  # pytest keeps the folders of its last runs


def test_a_model_of_more_than_2_gb_is_read_hashed_and_built(over_2gb: Path) -> None:
    model = load_model(over_2gb)
    assert model.parameters == 23171**2
    assert len(model.to_bytes()) < 500
    engine = build(model, BuildConfig(), "onnxruntime").engine
    assert engine.recipe["model"] == model.sha256
    assert engine.plan_bytes > 2**31


@pytest.mark.rtx
def test_nvidias_parser_is_asked_about_a_model_of_more_than_2_gb(over_2gb: Path) -> None:
    assert check_support(load_model(over_2gb), "rtx").supported
