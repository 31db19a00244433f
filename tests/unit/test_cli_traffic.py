"""`workbench traffic`: profiles proposed for a log, and built."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from models import FASHION_CNN, OCR_DET

from workbench import BuildConfig, build
from workbench.commands.traffic import traffic
from workbench.errors import ConfigError
from workbench.model import load_model
from workbench.profiles import parse_profiles


def call(model: Path, log: Path, **given: Any) -> tuple[dict[str, Any], str]:
    """As the command line does, and its JSON survives being written."""
    options = {"model": str(model), "dim": [], "log": str(log), "profiles": 4, "goal": "padding", "cost": None, **given}
    data, text = traffic(argparse.Namespace(**options))
    return json.loads(json.dumps(data, allow_nan=False)), text


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "shapes.csv"
    path.write_text("image,count\n1x1x28x28,500\n2x1x28x28,100\n32x1x28x28,300\n30x1x28x28,100\n")
    return path


def test_it_shows_ranges_shares_padding_and_gain_for_every_number_of_profiles(log: Path) -> None:
    data, text = call(FASHION_CNN, log)
    assert (data["requests"], data["distinct"], data["advised"]) == (1000, 4, 2)
    assert [len(item["profiles"]) for item in data["proposals"]] == [1, 2, 3, 4]
    two = data["proposals"][1]
    assert two["shapes"] == ["image:1x1x28x28,1x1x28x28,2x1x28x28", "image:30x1x28x28,32x1x28x28,32x1x28x28"]
    assert [item["share"] for item in two["profiles"]] == [0.6, 0.4]
    assert two["gain"] == pytest.approx(1 - (600 * 2 + 400 * 32) / 32000)
    assert two["is_best"]
    assert "1,000 requests of 4 distinct shapes" in text
    assert "no other choice is better" in text
    assert "2         56%    5.0%" in text
    assert "  --shapes=image:1x1x28x28,1x1x28x28,2x1x28x28 --shapes=image:30x1x28x28,32x1x28x28,32x1x28x28" in text
    assert text.endswith(data["advice"])
    assert data["advice"] == "2 profiles compute 56% fewer elements than one; a third saves 1.6% more."


def test_the_goal_latency_takes_what_bench_measured(log: Path, tmp_path: Path) -> None:
    cost = tmp_path / "cost.json"
    measured = [{"shapes": {"image": [n, 1, 28, 28]}, "median_ms": ms} for n, ms in ((1, 1.0), (16, 2.0), (32, 4.0))]
    cost.write_text("\n".join(map(json.dumps, measured)))
    data, text = call(FASHION_CNN, log, goal="latency", cost=str(cost), profiles=2)
    assert data["proposals"][0]["latency_ms"] == pytest.approx(4.0)
    assert data["proposals"][1]["latency_ms"] == pytest.approx(0.6 * (1 + 1 / 15) + 0.4 * 4)
    assert "less time than with one" in text


def test_the_goal_latency_asks_for_a_cost(log: Path) -> None:
    with pytest.raises(ConfigError, match="--goal latency needs --cost"):
        call(FASHION_CNN, log, goal="latency")


def test_a_dimension_can_be_fixed_first(tmp_path: Path) -> None:
    log = tmp_path / "det.log"
    log.write_text("x:1x3x640x640 *3\nx:1x3x320x640\n")
    name = load_model(OCR_DET).inputs[0].shape[0]
    data, _ = call(OCR_DET, log, dim=[f"{name}=1"])
    assert data["proposals"][-1]["shapes"] == ["x:1x3x320x640", "x:1x3x640x640"]


@pytest.mark.rtx
def test_the_proposed_profiles_build(log: Path) -> None:
    data, _ = call(FASHION_CNN, log)
    profiles = parse_profiles(data["proposals"][1]["shapes"])
    built = build(load_model(FASHION_CNN), BuildConfig(profiles=profiles), "rtx")
    assert built.engine.config.profiles == profiles
