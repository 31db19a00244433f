"""Folders and lists of pictures as samples: order, labels, how they become inputs, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from models import FASHION_CNN, OCR_DET, save
from PIL import Image

from workbench.calibration.samples import Samples, Skipped, open_samples, read_samples
from workbench.errors import ConfigError, FeedError
from workbench.model import Model, load_model
from workbench.preprocessing import Preprocessing, apply

PICTURES = Path(__file__).parents[2] / "data" / "pictures"
CONFIGS = Path(__file__).parents[1] / "data" / "paddle_configs"


def model_of(folder: Path, shape: str, dtype: str = "float") -> Model:
    folder.mkdir(parents=True, exist_ok=True)
    graph = f"({dtype}[{shape}] image) => ({dtype}[{shape}] y) {{ [same] y = Identity(image) }}"
    return load_model(save(folder / "model.onnx", graph))


@pytest.fixture
def rgb(tmp_path: Path) -> Model:
    return model_of(tmp_path / "model", "n,3,8,12")


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 12, 3), value, np.uint8)).save(path)
    return path


def ids(samples: Samples) -> list[str]:
    return [samples.id_of(index) for index in range(len(samples))]


def labels(samples: Samples) -> list[int | None]:
    return [samples.read(index).label for index in range(len(samples))]


# ---- which pictures, and which labels


def test_pictures_are_found_through_all_folders_in_order(rgb: Model, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for name in ("b/2.PNG", "b/10.png", "a.jpg", "b/deep/er.bmp", ".ipynb_checkpoints/x.png", "b/._a.jpg"):
        picture(folder / name)
    (folder / "notes.txt").write_text("no picture")
    samples = open_samples(folder, rgb)
    assert ids(samples) == ["a.jpg", "b/10.png", "b/2.PNG", "b/deep/er.bmp"]
    assert not samples.has_labels and labels(samples) == [None] * 4
    assert samples.about.startswith(f"4 pictures of {folder}, without labels. Preprocessing derived from the input")


def test_subfolders_are_classes_in_the_order_of_their_names(rgb: Model, tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/1.png", "cat/more/2.png", "Zebra/1.png"):
        picture(tmp_path / "sets" / name)
    samples = open_samples(tmp_path / "sets", rgb)
    assert samples.has_labels
    assert dict(zip(ids(samples), labels(samples), strict=True)) == {
        "Zebra/1.png": 0,
        "cat/1.png": 1,
        "cat/more/2.png": 1,
        "dog/1.png": 2,
    }
    assert "labels by subfolder (0 Zebra, 1 cat, 2 dog)" in samples.about


@pytest.mark.parametrize("names", [("val/1.png", "val/2.png"), ("a/1.png", "b/1.png", "1.png")])
def test_one_subfolder_or_pictures_beside_them_are_no_classes(rgb: Model, tmp_path: Path, names: tuple[str]) -> None:
    for name in names:
        picture(tmp_path / "sets" / name)
    assert not open_samples(tmp_path / "sets", rgb).has_labels


@pytest.mark.parametrize("by_list", [False, True])
def test_a_list_tells_pictures_and_labels(rgb: Model, tmp_path: Path, by_list: bool) -> None:
    """As PaddleSlim's tutorial has it: val_list.txt beside the folder val."""
    for name in ("val/b.png", "val/a b.png", "val/unlisted.png"):
        picture(tmp_path / "user" / name)
    (tmp_path / "user" / "val_list.txt").write_text("val/b.png 7\r\n\nval/a b.png 0\n")
    samples = open_samples(tmp_path / "user" / ("val_list.txt" if by_list else ""), rgb)
    assert ids(samples) == ["val/b.png", "val/a b.png"] and labels(samples) == [7, 0]
    assert "labels from val_list.txt" in samples.about


def test_a_listed_picture_that_is_gone_is_left_out_by_name(rgb: Model, tmp_path: Path) -> None:
    picture(tmp_path / "there.png")
    (tmp_path / "val_list.txt").write_text("there.png 1\ngone.png 2\n")
    skipped: list[Skipped] = []
    samples = open_samples(tmp_path, rgb)
    assert [sample.id for sample in read_samples(samples, range(2), skipped=skipped)] == ["there.png"]
    assert [item.id for item in skipped] == ["gone.png"] and "there is no such picture" in skipped[0].reason


@pytest.mark.parametrize(
    "line", ["a.png", "a.png cat", "a.png -1", "a.png 1.0", "a.png 1000000", " 3", "a.png ³", "a b.png"]
)
def test_a_line_without_a_label_is_refused_with_its_number(rgb: Model, tmp_path: Path, line: str) -> None:
    (tmp_path / "val_list.txt").write_text(f"ok.png 1\n{line}\n", encoding="utf-8")
    with pytest.raises(FeedError, match=r"val_list\.txt, line 2: "):
        open_samples(tmp_path, rgb)


def test_an_empty_list_and_an_empty_folder_are_refused(rgb: Model, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FeedError, match="holds no pictures"):
        open_samples(tmp_path / "empty", rgb)
    (tmp_path / "list.txt").write_text("\n\n")
    with pytest.raises(FeedError, match="the list is empty"):
        open_samples(tmp_path / "list.txt", rgb)
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(FeedError, match="it is no text"):
        open_samples(tmp_path / "list.txt", rgb)


def test_nothing_is_read_before_it_is_asked_for(rgb: Model, tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(b"no picture")
    assert len(open_samples(tmp_path, rgb)) == 3


@pytest.mark.parametrize("content", [b"", b"text", b"cut", b"\x89PNG\r\n\x1a\n"])
def test_broken_pictures_are_named_and_left_out(rgb: Model, tmp_path: Path, content: bytes) -> None:
    shutil.copytree(PICTURES, tmp_path / "pictures")
    path = tmp_path / "pictures" / "coffee.jpg"
    path.write_bytes(path.read_bytes()[:20000] if content == b"cut" else content)
    skipped: list[Skipped] = []
    samples = open_samples(tmp_path / "pictures", rgb)
    assert len(list(read_samples(samples, range(4), skipped=skipped))) == 3
    assert [item.id for item in skipped] == ["coffee.jpg"] and str(path) in skipped[0].reason
    with pytest.raises(FeedError, match=r"coffee\.jpg"):
        list(read_samples(samples, range(4), strict=True, skipped=[]))


# ---- how pictures become inputs


def test_a_stated_preprocessing_is_applied(rgb: Model) -> None:
    how = Preprocessing((8, 12), "letterbox", channels="BGR", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0))
    samples = open_samples(PICTURES, rgb, how)
    sample = samples.read(1)
    assert sample.id == "chelsea.jpg" and samples.preprocessing == how
    assert np.array_equal(sample.feeds["image"], apply(how, PICTURES / "chelsea.jpg"))
    assert "Preprocessing as stated: BGR, fitted into 8x12" in samples.about


def test_a_stated_preprocessing_takes_its_size_from_the_input(rgb: Model) -> None:
    samples = open_samples(PICTURES, rgb, Preprocessing(resize="letterbox", pad=114))
    assert samples.preprocessing == Preprocessing((8, 12), "letterbox", pad=114)
    assert samples.read(0).feeds["image"].shape == (1, 3, 8, 12)


@pytest.mark.parametrize("beside", ["model", "pictures"])
def test_paddles_configuration_is_read_beside_the_model_or_in_the_folder(tmp_path: Path, beside: str) -> None:
    model = model_of(tmp_path / "model", "n,3,224,224")
    picture(tmp_path / "pictures" / "1.png")
    shutil.copy(CONFIGS / "pplcnet_doc_ori" / "inference.yml", tmp_path / beside)
    samples = open_samples(tmp_path / "pictures", model)
    assert samples.preprocessing is not None and samples.preprocessing.resize_to == 256
    assert f"Preprocessing from {tmp_path / beside / 'inference.yml'}: RGB, shorter side to 256" in samples.about


def test_a_stated_preprocessing_counts_more_than_a_configuration(tmp_path: Path) -> None:
    model = model_of(tmp_path, "n,3,224,224")
    (tmp_path / "inference.yml").write_text("PreProcess: {transform_ops: [")
    how = Preprocessing((224, 224))
    assert open_samples(PICTURES, model, how).preprocessing == how
    with pytest.raises(ConfigError, match="cannot be understood"):
        open_samples(PICTURES, model)


@pytest.mark.parametrize(
    ("shape", "dtype", "derived", "read"),
    [
        ("n,3,8,12", "float", Preprocessing((8, 12)), (1, 3, 8, 12)),
        ("1,1,8,12", "float16", Preprocessing((8, 12), channels="GRAY"), (1, 1, 8, 12)),
        ("n,8,12,3", "double", Preprocessing((8, 12), layout="NHWC"), (1, 8, 12, 3)),
        ("n,8,12,1", "uint8", Preprocessing((8, 12), channels="GRAY", layout="NHWC", scale=1.0), (1, 8, 12, 1)),
        ("n,3,h,w", "float", Preprocessing(resize="none", multiple_of=32), (1, 3, 512, 512)),
        ("n,3,8,12", "bfloat16", Preprocessing((8, 12)), (1, 3, 8, 12)),
    ],
)
def test_without_any_it_is_derived_from_the_input(
    tmp_path: Path, shape: str, dtype: str, derived: Preprocessing, read: tuple[int, ...]
) -> None:
    model = model_of(tmp_path, shape, dtype)
    samples = open_samples(PICTURES, model)
    assert samples.preprocessing == derived
    assert "State your own if the model was trained with another." in samples.about
    array = samples.read(0).feeds["image"]
    assert array.shape == read and array.dtype.name == model.inputs[0].dtype
    assert float(array.max()) > 1 if dtype == "uint8" else 0 <= float(array.min()) < float(array.max()) <= 1


def test_pictures_of_several_sizes_keep_theirs_where_the_model_takes_any() -> None:
    samples = open_samples(PICTURES, load_model(OCR_DET))
    shapes = {samples.read(index).feeds["x"].shape for index in range(len(samples))}
    assert len(shapes) == 4 and all(side % 32 == 0 for shape in shapes for side in shape[2:])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Preprocessing((8, 12), channels="GRAY"), r"GRAY in the layout NCHW, the input .* has 3 channels"),
        (Preprocessing((8, 12), layout="NHWC"), "has 12 channels there"),
        (Preprocessing((16, 16)), r"makes pictures of \(16, 16\), the input .* takes another size"),
        (Preprocessing(resize="longer", resize_to=8), "sizes that follow the picture, the input .* does not"),
        (Preprocessing(multiple_of=32), "not multiples of 32"),
        (Preprocessing(resize="squeeze"), "there is no resize 'squeeze'"),
        (Preprocessing((8, 12), mean=(0.1, 0.2)), "2 values for 3 channels"),
    ],
)
def test_a_preprocessing_that_does_not_fit_the_input_is_refused(rgb: Model, how: Preprocessing, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_samples(PICTURES, rgb, how)


def test_pixels_for_uint8_are_not_scaled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes pixels as they are: state scale=1"):
        open_samples(PICTURES, model_of(tmp_path, "n,3,8,12", "uint8"), Preprocessing((8, 12)))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("float[n,3,8,12] a, float[n,2] b", r"m has 2 inputs \(a, b\); pictures feed a model with one"),
        ("float[n,8] a", r"input a: float32\[n, 8\] of m takes no pictures"),
        ("int64[n,3,8,12] a", "takes no pictures, which are floats or uint8"),
        ("float[n,64,8,12] a", "neither 1 nor 3 channels"),
        ("float[n,c,h,w] a", "neither 1 nor 3 channels"),
        ("float[n,3,48,w] a", "one side of any size: state a preprocessing with the size"),
    ],
)
def test_models_that_take_no_pictures_are_refused(tmp_path: Path, inputs: str, words: str) -> None:
    path = save(tmp_path / "m.onnx", f"({inputs}) => (float[n] y) {{ [c] t = Cast<to=1>(a) [r] y = ReduceSum(t) }}")
    with pytest.raises(FeedError, match=words):
        open_samples(PICTURES, load_model(path))


def test_a_stated_layout_tells_what_the_input_does_not(tmp_path: Path) -> None:
    model = model_of(tmp_path, "n,c,h,w")
    samples = open_samples(PICTURES, model, Preprocessing((8, 12)))
    assert samples.read(0).feeds["image"].shape == (1, 3, 8, 12)


def test_a_color_picture_feeds_a_gray_model() -> None:
    samples = open_samples(PICTURES, load_model(FASHION_CNN))
    assert samples.read(1).feeds["image"].shape == (1, 1, 28, 28)
