"""TensorRT's calibration tables: read completely, or refused with what is wrong."""

from pathlib import Path

import pytest

from workbench.calibration_table import read_table
from workbench.errors import ConfigError

TABLE = """TRT-8600-EntropyCalibration2
input: 3d1817e4
(Unnamed Layer* 0) [Constant]_output: 0
a: b [c]: 3c010204
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "calibration.cache"
    path.write_text(text)
    return path


def test_a_table_tells_release_algorithm_and_scales(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, TABLE))
    assert (table.release, table.algorithm, table.calibrator) == ("8600", "EntropyCalibration2", "entropy")
    assert list(table.scales) == ["input", "(Unnamed Layer* 0) [Constant]_output", "a: b [c]"]
    assert table.scales["input"] == pytest.approx(0.03713, abs=1e-5)
    assert table.scales["a: b [c]"] == pytest.approx(1 / 127)
    assert table.scales["(Unnamed Layer* 0) [Constant]_output"] == 0


@pytest.mark.parametrize(
    ("algorithm", "calibrator"), [("MinMaxCalibration", "minmax"), ("LegacyCalibration", "legacy")]
)
def test_the_header_tells_the_calibrator(tmp_path: Path, algorithm: str, calibrator: str) -> None:
    assert read_table(written(tmp_path, f"TRT-101601-{algorithm}\nx: 1\n")).calibrator == calibrator


@pytest.mark.parametrize("text", ["", "x: 3d1817e4\n", "TRT-8600-Guessing\n", "\x00\x01\xff"])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="not a calibration table: it begins with"):
        read_table(written(tmp_path, text))


def test_a_broken_line_is_told_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 3: 'y 12' is no 'tensor name: scale'"):
        read_table(written(tmp_path, "TRT-8600-EntropyCalibration2\nx: 1\ny 12\n"))


def test_a_missing_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_table(tmp_path / "nothing")
