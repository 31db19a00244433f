"""What a plan is made of: samples that serve for one thing only, and a warning where they do not."""

from pathlib import Path

from PIL import Image

from workbench.calibration.collect import collect
from workbench.calibration.collection import save_collection
from workbench.calibration.samples import open_samples
from workbench.model import Model
from workbench.sharding.packed_samples import open_packed
from workbench.tuning.materials import Materials, gather_here
from workbench.types import LogLine, Progress


def pictures(folder: Path, count: int) -> Path:
    """And one that cannot be read, the first by name."""
    folder.mkdir()
    (folder / "0broken.png").write_bytes(b"\x89PNG nothing")
    for number in range(count):
        Image.new("L", (28, 28), 20 * number + 10).save(folder / f"p{number}.png")
    return folder


def test_what_ranges_are_collected_from_is_not_compared_on(fashion_cnn: Model, tmp_path: Path) -> None:
    samples = open_samples(pictures(tmp_path / "pictures", 8), fashion_cnn)
    made = Materials(fashion_cnn, samples, None, (256, None), gather_here, lambda event: None, None)
    own, rest = made._parted()
    assert own and rest and not set(own) & set(rest)
    assert len(open_packed(made.packed(None))) == len([index for index in rest if "broken" not in samples.id_of(index)])


def test_ranges_of_the_pictures_that_are_compared_on_are_warned_of(fashion_cnn: Model, tmp_path: Path) -> None:
    samples = open_samples(pictures(tmp_path / "pictures", 6), fashion_cnn)
    ranges = str(save_collection(collect(fashion_cnn, samples, count=None), tmp_path / "own.calib"))
    events: list[Progress | LogLine] = []
    made = Materials(fashion_cnn, samples, ranges, (256, None), gather_here, events.append, None)
    made.packed(ranges)
    assert any(isinstance(event, LogLine) and "served for calibration too" in event.text for event in events)
