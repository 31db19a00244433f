"""Reading what PaddleDetection, PaddleOCR, PaddleClas and PaddleX write beside their models."""

from pathlib import Path

import numpy as np
import pytest

from workbench.errors import ConfigError
from workbench.paddle_config import read_preprocessing
from workbench.preprocessing import Preprocessing, apply

CONFIGS = Path(__file__).parents[1] / "data" / "paddle_configs"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

WANTED = {
    "ppyoloe_plus": Preprocessing((640, 640), "stretch", interpolation="bicubic"),
    "paddlex_picodet": Preprocessing((416, 416), "stretch", interpolation="bicubic", **IMAGENET),
    "faster_rcnn": Preprocessing(
        (800, 1344), "letterbox", multiple_of=32, pad=114, interpolation="bicubic", placement="top-left", **IMAGENET
    ),
    "old_rcnn": Preprocessing(
        None,
        "letterbox",
        multiple_of=32,
        pad=114,
        placement="top-left",
        channels="BGR",
        scale=1.0,
        mean=(122.7717, 115.9465, 102.9801),
        std=(3.0, 2.0, 1.0),
    ),
    "ppocrv5_det": Preprocessing(
        None, "longer", resize_to=960, multiple_of=128, round_up=True, channels="BGR", **IMAGENET
    ),
    "ppocrv5_rec": Preprocessing((48, 320), "letterbox", channels="BGR", pad=127, placement="top-left", **HALVES),
    "pplcnet_doc_ori": Preprocessing((224, 224), "shorter", resize_to=256, scale=0.00392156862745098, **IMAGENET),
    "pplcnet_textline_ori": Preprocessing((80, 160), "stretch", scale=0.00392156862745098, **IMAGENET),
}


def test_every_sample_is_expected() -> None:
    assert {path.name for path in CONFIGS.iterdir() if path.is_dir()} == set(WANTED)


@pytest.mark.parametrize("name", WANTED)
def test_a_configuration_says_how_pictures_become_inputs(name: str) -> None:
    found = read_preprocessing(CONFIGS / name)
    assert found is not None
    assert Path(found.source).parent == CONFIGS / name
    wanted = WANTED[name]
    assert found == Preprocessing(**{**vars(wanted), "source": found.source})


@pytest.mark.parametrize("name", WANTED)
def test_what_was_read_can_be_applied(name: str) -> None:
    found = read_preprocessing(CONFIGS / name)
    assert found is not None
    picture = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    batch = apply(found, picture)
    assert batch.dtype == np.float32 and batch.shape[:2] == (1, 3)
    assert np.isfinite(batch).all()


def test_old_configurations_turn_channels_and_their_means_round_together() -> None:
    """to_bgr comes after the normalisation, so blue keeps blue's mean."""
    found = read_preprocessing(CONFIGS / "old_rcnn")
    assert found is not None
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[..., 2] = 200  # blue
    np.testing.assert_allclose(apply(found, picture)[0, 0], (200 - 122.7717) / 3.0, rtol=1e-6)


def write(folder: Path, text: str, name: str = "inference.yml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert read_preprocessing(tmp_path) is None


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "Global: {model_name: TimesNet}\n", "PreProcess: null\n"])
def test_a_file_that_speaks_of_no_pictures_says_nothing(tmp_path: Path, text: str) -> None:
    assert read_preprocessing(write(tmp_path, text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "PreProcess: {transform_ops: [",
        "PreProcess:\n  transform_ops:\n  - ResizeImage: {}\n",
        "PreProcess:\n  transform_ops:\n  - NormalizeImage: {scale: __import__('os').getcwd()}\n",
        "PreProcess:\n  transform_ops:\n  - RecResizeImg: {image_shape: [48]}\n",
        "Preprocess:\n- {type: NormalizeImage, is_scale: true}\n",
    ],
)
def test_a_damaged_file_is_one_sentence_with_its_path(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"inference\.yml: cannot be understood") as caught:
        read_preprocessing(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_cannot_make_python_objects(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be understood"):
        read_preprocessing(write(tmp_path, "PreProcess: !!python/object/apply:os.getcwd []\n"))


TEXT = {
    "null": ("at_least", 736, 32, False, (736, 1216)),
    "{limit_side_len: 640, limit_type: min}": ("at_least", 640, 32, False, (640, 1056)),
    "{limit_side_len: 320, limit_type: max}": ("at_most", 320, 32, False, (192, 320)),
    "{limit_side_len: 960, limit_type: resize_long}": ("longer", 960, 32, False, (576, 960)),
    "{resize_long: 960}": ("longer", 960, 128, True, (640, 1024)),
}


@pytest.mark.parametrize("options", TEXT)
def test_text_detectors_limit_a_side_and_take_multiples(tmp_path: Path, options: str) -> None:
    """The sizes are those that PaddleOCR's DetResizeForTest computes for a picture of 300x500."""
    text = f"PreProcess:\n  transform_ops:\n  - DetResizeForTest: {options}\n  - ToCHWImage\n"
    found = read_preprocessing(write(tmp_path, text))
    resize, resize_to, stride, round_up, size = TEXT[options]
    assert found is not None and found.size is None and found.channels == "BGR"
    assert (found.resize, found.resize_to, found.multiple_of, found.round_up) == (resize, resize_to, stride, round_up)
    assert apply(found, np.zeros((300, 500, 3), np.uint8)).shape[2:] == size


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("0", "nearest"),
        ("1", "bilinear"),
        ("3", "area"),
        ("4", "lanczos"),
        ("bicubic", "bicubic"),
        ("LINEAR", "bilinear"),
    ],
)
def test_interpolations_are_numbers_of_opencv_or_names(tmp_path: Path, said: str, meant: str) -> None:
    found = read_preprocessing(write(tmp_path, f"Preprocess:\n- {{type: Resize, target_size: 32, interp: {said}}}\n"))
    assert found is not None and found.interpolation == meant
    text = f"PreProcess:\n  transform_ops:\n  - ResizeImage: {{size: 32, interpolation: {said}}}\n"
    other = read_preprocessing(write(tmp_path / "other", text))
    assert other is not None and other.interpolation == meant


def test_an_unknown_interpolation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no interpolation 'random'"):
        read_preprocessing(write(tmp_path, "Preprocess:\n- {type: Resize, target_size: 32, interp: random}\n"))


def test_yolo_pads_at_the_right_and_the_bottom_with_what_the_file_says(tmp_path: Path) -> None:
    steps = [
        "{type: Resize, target_size: [64, 64]}",
        "{type: Pad, size: [64, 64], fill_value: [9.0, 9.0, 9.0]}",
        "{type: Permute}",
    ]
    found = read_preprocessing(write(tmp_path, "Preprocess:\n" + "".join(f"- {step}\n" for step in steps)))
    assert found is not None
    row = apply(found, np.full((10, 5, 3), 200, np.uint8))[0, 0, 40]
    assert row.tolist() == [200] * 32 + [9] * 32


def test_a_letterbox_of_yolov3_is_centred_on_gray(tmp_path: Path) -> None:
    found = read_preprocessing(write(tmp_path, "Preprocess:\n- {type: LetterBoxResize, target_size: 32}\n"))
    assert found is not None
    assert (found.placement, found.interpolation, found.pad) == ("center", "area", 127)


def test_a_stride_without_a_size_pads_and_does_not_stretch(tmp_path: Path) -> None:
    found = read_preprocessing(write(tmp_path, "Preprocess:\n- {type: Permute}\n- {type: PadStride, stride: 32}\n"))
    assert found is not None
    values = apply(found, np.full((33, 40, 3), 5, np.uint8))[0, 0]
    assert values.shape == (64, 64) and np.count_nonzero(values[:33, :40] == 5) == np.count_nonzero(values)


def test_what_the_file_says_of_channels_counts(tmp_path: Path) -> None:
    steps = ["DecodeImage: {img_mode: RGB}", "RecResizeImg: {image_shape: [3, 32, 100]}"]
    text = "PreProcess:\n  transform_ops:\n" + "".join(f"  - {step}\n" for step in steps)
    found = read_preprocessing(write(tmp_path, text))
    assert found is not None and found.channels == "RGB" and found.size == (32, 100)
