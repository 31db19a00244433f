"""Reading what PaddleDetection, PaddleOCR, PaddleClas and PaddleX write beside their models."""

from pathlib import Path

import numpy as np
import pytest

from workbench.errors import ExportError
from workbench.export.paddle_config import read_preprocessing
from workbench.preprocessing import Preprocessing, apply

CONFIGS = Path(__file__).parents[1] / "data" / "paddle_configs"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

WANTED = {
    "ppyoloe_plus": Preprocessing((640, 640), "stretch"),
    "paddlex_picodet": Preprocessing((416, 416), "stretch", **IMAGENET),
    "faster_rcnn": Preprocessing((800, 1344), "letterbox", multiple_of=32, pad=114, **IMAGENET),
    "old_rcnn": Preprocessing(
        None,
        "none",
        multiple_of=32,
        channels="BGR",
        scale=1.0,
        mean=(122.7717, 115.9465, 102.9801),
        std=(3.0, 2.0, 1.0),
    ),
    "ppocrv5_det": Preprocessing(None, "none", multiple_of=128, channels="BGR", **IMAGENET),
    "ppocrv5_rec": Preprocessing((48, 320), "letterbox", channels="BGR", pad=127, **HALVES),
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
    with pytest.raises(ExportError, match=r"inference\.yml: cannot be understood") as caught:
        read_preprocessing(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_cannot_make_python_objects(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot be understood"):
        read_preprocessing(write(tmp_path, "PreProcess: !!python/object/apply:os.getcwd []\n"))


@pytest.mark.parametrize(
    ("options", "stride"), [("null", 32), ("{limit_side_len: 736, limit_type: min}", 32), ("{resize_long: 960}", 128)]
)
def test_text_detectors_take_multiples(tmp_path: Path, options: str, stride: int) -> None:
    text = f"PreProcess:\n  transform_ops:\n  - DetResizeForTest: {options}\n  - ToCHWImage\n"
    found = read_preprocessing(write(tmp_path, text))
    assert found is not None
    assert (found.size, found.resize, found.multiple_of, found.channels) == (None, "none", stride, "BGR")


def test_what_the_file_says_of_channels_counts(tmp_path: Path) -> None:
    steps = ["DecodeImage: {img_mode: RGB}", "RecResizeImg: {image_shape: [3, 32, 100]}"]
    text = "PreProcess:\n  transform_ops:\n" + "".join(f"  - {step}\n" for step in steps)
    found = read_preprocessing(write(tmp_path, text))
    assert found is not None and found.channels == "RGB" and found.size == (32, 100)
