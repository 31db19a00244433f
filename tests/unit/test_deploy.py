"""What every hand-over holds, who gives the expected outputs, and that nothing of the user's is ever overwritten."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers_building import small
from helpers_deploy import DOUBLE_PLAN, DOUBLE_SHAPES, arrays_in, double, pretended
from models import FASHION_CNN, save

from workbench.building import build
from workbench.cli import main
from workbench.deploy import TARGETS, Wishes, deploy
from workbench.deploy.example import SAME
from workbench.deploy.joining import PARTS
from workbench.engine import Engine, open_engine
from workbench.errors import ConfigError, FeedError, StoreError
from workbench.model import Model, load_model
from workbench.profiles import parse_shapes
from workbench.store import EngineStore
from workbench.types import BuildConfig, BuilderOptions


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[EngineStore, Engine]:
    """ONNX Runtime's engine, built once: hand-overs leave the store as it is."""
    folder = tmp_path_factory.mktemp("origin")
    store = EngineStore(folder / "store")
    return store, build(small(folder / "small.onnx"), None, "onnxruntime", store=store).engine


@pytest.fixture
def engine(origin: tuple[EngineStore, Engine]) -> Engine:
    return origin[1]


@pytest.fixture
def doubling(store: EngineStore, tmp_path: Path) -> Engine:
    """TensorRT's, which cannot run here."""
    return pretended(store, double(tmp_path), DOUBLE_PLAN, DOUBLE_SHAPES)


def beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir())


# ---- the folder


def test_a_hand_over_holds_the_plan_the_vector_and_what_it_is(engine: Engine, tmp_path: Path) -> None:
    done = deploy(engine, "python", tmp_path / "new" / "there")
    assert done.files == (
        "README.md", "deployment.json", "model.onnx", "runner.py", "test_vector/inputs.npz", "test_vector/outputs.npz",
    )  # fmt: skip
    assert (done.folder / "model.onnx").read_bytes() == engine.plan_path.read_bytes()
    facts = json.loads((done.folder / "deployment.json").read_text())
    assert (facts["release"], facts["key"], facts["runtime"]) == (engine.release, engine.key, "onnxruntime")
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 8, 8]}]
    readme = (done.folder / "README.md").read_text()
    assert engine.release in readme and "python runner.py --verify" in readme and "float32 | 1 x 3 x 8 x 8" in readme
    assert beside(done.folder) == ["there"]


def test_an_empty_folder_is_taken(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    assert (deploy(engine, "python", folder).folder / "runner.py").is_file()


def test_a_folder_that_holds_something_is_refused_and_left_alone(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years")
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        deploy(engine, "python", folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_file_of_that_name_is_refused(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="a file of that name"):
        deploy(engine, "python", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("folder", ["", "a\0b", "~nobody-of-this-name/x"])
def test_what_is_no_place_for_a_folder_is_refused(engine: Engine, folder: str) -> None:
    with pytest.raises(ConfigError):
        deploy(engine, "python", folder)


def test_a_damaged_plan_is_not_handed_over(origin: tuple[EngineStore, Engine], tmp_path: Path) -> None:
    store, engine = origin
    copy = tmp_path / "copy"
    shutil.copytree(engine.folder, copy)
    loaded = store.load(copy)
    (copy / "model.onnx").write_bytes(b"half a plan")
    with pytest.raises(StoreError, match="damaged"):
        deploy(loaded, "python", tmp_path / "out")
    assert beside(tmp_path / "out") == ["copy"]


def test_nothing_is_left_behind_when_writing_fails(engine: Engine, tmp_path: Path) -> None:
    """A file stands where the parent folder would be made."""
    (tmp_path / "parent").write_text("a file")
    with pytest.raises(StoreError, match="cannot be written"):
        deploy(engine, "python", tmp_path / "parent" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["parent"]


# ---- what is refused


def test_an_unknown_target_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="triton, python, cpp"):
        deploy(engine, "rust", tmp_path / "out")


def test_a_plan_without_weights_is_refused(store: EngineStore, tmp_path: Path) -> None:
    stripped = pretended(
        store, double(tmp_path), DOUBLE_PLAN, DOUBLE_SHAPES, builder=BuilderOptions(strip_weights=True)
    )
    for to in TARGETS:
        with pytest.raises(ConfigError, match="no weights"):
            deploy(stripped, to, tmp_path / "out")


def test_cpp_does_not_take_engines_of_onnx_runtime(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hand over to python or triton"):
        deploy(engine, "cpp", tmp_path / "out")


@pytest.mark.parametrize("name", ["../elsewhere", "a b", ".hidden", "a/b"])
def test_names_that_are_no_folders_are_refused(engine: Engine, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        deploy(engine, "triton", tmp_path / "out", Wishes(name=name))


def test_there_is_a_runner_for_every_back_end() -> None:
    assert set(PARTS) == {"tensorrt", "tensorrt_rtx", "onnxruntime", "triton"}


# ---- who gives the expected outputs


def test_the_engine_itself_answers_where_it_runs(engine: Engine, tmp_path: Path) -> None:
    done = deploy(engine, "python", tmp_path / "out")
    inputs = arrays_in(done.folder / "test_vector" / "inputs.npz")
    with open_engine(engine) as session:
        wanted = session.run(inputs)["y"]
    assert np.array_equal(arrays_in(done.folder / "test_vector" / "outputs.npz")["y"], wanted)
    assert "the engine itself" in done.made_by and done.relative == SAME["fp32"].relative


def test_else_the_model_does_in_onnx_runtime_and_it_is_said(doubling: Engine, tmp_path: Path) -> None:
    done = deploy(doubling, "python", tmp_path / "out")
    inputs = arrays_in(done.folder / "test_vector" / "inputs.npz")["x"]
    assert inputs.shape == (2, 4)  # what the engine is tuned for
    assert np.array_equal(arrays_in(done.folder / "test_vector" / "outputs.npz")["y"], 2 * inputs)
    assert done.made_by.startswith("what ONNX Runtime gives for the model in fp32") and "GPU" in done.made_by
    assert done.relative > SAME["fp32"].relative
    assert done.made_by in (done.folder / "README.md").read_text()


@pytest.mark.rtx
def test_an_engine_with_other_types_gets_its_vector_in_them(store: EngineStore, model: Model, tmp_path: Path) -> None:
    built = build(model, BuildConfig("fp16", keep_io_types=False), "rtx", store=store).engine
    done = deploy(built, "python", tmp_path / "out")
    vector = [arrays_in(done.folder / "test_vector" / f"{side}.npz") for side in ("inputs", "outputs")]
    assert vector[0]["x"].dtype == vector[1]["y"].dtype == np.float16
    facts = json.loads((done.folder / "deployment.json").read_text())
    assert facts["inputs"][0]["dtype"] == "float16" and facts["runtime"] == "tensorrt_rtx"


def test_a_model_that_has_changed_since_answers_nothing(doubling: Engine, tmp_path: Path) -> None:
    save(Path(doubling.model_path), "(float[n,4] x) => (float[n,4] y) { [other] y = Relu(x) }")
    with pytest.raises(ConfigError, match=r"not what it was built from.*--feeds IN.npz --expected OUT.npz"):
        deploy(doubling, "python", tmp_path / "out")


def test_a_model_that_is_gone_answers_nothing(doubling: Engine, tmp_path: Path) -> None:
    Path(doubling.model_path).unlink()
    with pytest.raises(ConfigError, match="not there any more"):
        deploy(doubling, "python", tmp_path / "out")


def test_outputs_that_the_user_brings_need_neither_model_nor_engine(doubling: Engine, tmp_path: Path) -> None:
    Path(doubling.model_path).unlink()
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    done = deploy(doubling, "python", tmp_path / "out", Wishes(feeds={"x": x}, expected={"y": 2 * x}))
    assert np.array_equal(arrays_in(done.folder / "test_vector" / "outputs.npz")["y"], 2 * x)
    assert "--expected" in done.made_by


def test_feeds_of_the_users_own_are_the_vector(engine: Engine, tmp_path: Path) -> None:
    x = np.full((1, 3, 8, 8), 0.5, np.float32)
    done = deploy(engine, "python", tmp_path / "out", Wishes(feeds={"x": x}))
    assert np.array_equal(arrays_in(done.folder / "test_vector" / "inputs.npz")["x"], x)


GOOD = np.zeros((2, 4), np.float32)


@pytest.mark.parametrize(
    ("wishes", "error", "words"),
    [
        (Wishes(expected={"y": GOOD}), ConfigError, "give both"),
        (Wishes(feeds={"x": np.zeros((9, 4), np.float32)}), FeedError, "9 is outside of 1 to 8"),
        (Wishes(feeds={"x": GOOD.astype(np.float64)}), FeedError, "float64"),
        (Wishes(feeds={"z": GOOD}), FeedError, "input x is missing"),
        (Wishes(feeds={"x": GOOD}, expected={"z": GOOD}), FeedError, "must be y"),
        (Wishes(feeds={"x": GOOD}, expected={"y": GOOD.astype(np.int32)}), FeedError, "int32"),
        (Wishes(feeds={"x": np.zeros((9, 4), np.float32)}, expected={"y": GOOD}), FeedError, "9 is outside"),
        (Wishes(relative=-1.0), ConfigError, "tolerance"),
        (Wishes(relative=float("nan")), ConfigError, "tolerance"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(
    doubling: Engine, tmp_path: Path, wishes: Wishes, error: type, words: str
) -> None:
    with pytest.raises(error, match=words):
        deploy(doubling, "python", tmp_path / "out", wishes)
    assert not (tmp_path / "out").exists()


def test_a_vector_that_verifies_little_is_told(store: EngineStore, tmp_path: Path) -> None:
    model = double(tmp_path, "(float[n,4] x) => (float[n,4] y) { [off] y = Sub(x, x) }")
    done = deploy(pretended(store, model, DOUBLE_PLAN, DOUBLE_SHAPES), "python", tmp_path / "out")
    assert any("y is next to 0 everywhere" in note and "--feeds" in note for note in done.notes)


def test_the_tolerance_is_the_users_if_there_is_one(engine: Engine, tmp_path: Path) -> None:
    for wanted, absolute in ((0.25, SAME["fp32"].absolute), (0.0, 0.0)):
        done = deploy(engine, "python", tmp_path / f"out{wanted}", Wishes(relative=wanted))
        kept = json.loads((done.folder / "deployment.json").read_text())["tolerance"]
        assert done.relative == kept["relative"] == wanted and kept["absolute"] == absolute


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "int8"])
def test_each_precision_has_its_tolerance(store: EngineStore, tmp_path: Path, precision: str) -> None:
    lossy = pretended(store, double(tmp_path), DOUBLE_PLAN, DOUBLE_SHAPES, precision=precision)
    assert 0 < deploy(lossy, "python", tmp_path / "out").relative < 0.5


# ---- the command


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(item) for item in arguments])
    return status, *capsys.readouterr()


def test_the_command_takes_a_key_and_tells_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = build(load_model(FASHION_CNN), None, "onnxruntime").engine
    status, out, _ = told(capsys, "deploy", built.key[:8], "--to", "python", "-o", tmp_path / "out", "--json")
    data = json.loads(out)
    assert status == 0 and data["folder"] == str(tmp_path / "out") and data["key"] == built.key
    assert "runner.py" in data["files"] and data["relative"] > 0
    status, out, _ = told(capsys, "deploy", built.key[:8], "--to", "triton", "-o", tmp_path / "served")
    assert status == 0 and "config.pbtxt" in out and "--model-repository=" in out
    status, _, err = told(capsys, "deploy", built.key[:8], "--to", "triton", "-o", tmp_path / "served")
    assert status == 2 and "nothing is overwritten" in err


def test_the_command_reads_the_vector_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = pretended(EngineStore(), double(tmp_path), DOUBLE_PLAN, DOUBLE_SHAPES)
    np.savez(tmp_path / "in.npz", x=GOOD)
    np.savez(tmp_path / "out.npz", y=GOOD)
    files = ["--feeds", tmp_path / "in.npz", "--expected", tmp_path / "out.npz", "--tolerance", "0.5"]
    status, out, _ = told(capsys, "deploy", engine.key, "--to", "cpp", "-o", tmp_path / "out", *files, "--json")
    assert status == 0 and json.loads(out)["relative"] == 0.5
    assert np.array_equal(np.load(tmp_path / "out" / "test_vector" / "inputs" / "x.npy"), GOOD)


def test_an_engine_of_another_store_is_handed_over_with_trust_only(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["deploy", engine.folder, "--to", "python", "-o", tmp_path / "out"]
    status, _, err = told(capsys, *wanted)
    assert status == 2 and "--trust" in err and not (tmp_path / "out").exists()
    assert told(capsys, *wanted, "--trust")[0] == 0


def test_an_engine_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = told(capsys, "deploy", "ffff", "--to", "python", "-o", tmp_path / "out")
    assert status == 2 and "workbench engines" in err


def test_a_profile_is_what_random_feeds_follow(store: EngineStore, tmp_path: Path) -> None:
    model = load_model(FASHION_CNN)
    engine = pretended(store, model, DOUBLE_PLAN, ["image:1x1x28x28,3x1x28x28,8x1x28x28"])
    done = deploy(engine, "python", tmp_path / "out")
    assert arrays_in(done.folder / "test_vector" / "inputs.npz")["image"].shape == (3, 1, 28, 28)
    assert engine.config.profiles[0] == parse_shapes(["image:1x1x28x28,3x1x28x28,8x1x28x28"])
