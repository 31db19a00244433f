"""The small text encoder that the notebooks look at."""

from pathlib import Path

import numpy as np

from workbench.export.text_encoder import text_encoder
from workbench.reference import Reference, random_feeds


def test_it_runs_at_any_batch_and_number_of_tokens(tmp_path: Path) -> None:
    model = text_encoder(tmp_path / "encoder.onnx")
    for shape in ((1, 4, 64), (3, 17, 64)):
        encoded = Reference(model).run(random_feeds(model.inputs, {"embeddings": shape}))["encoded"]
        assert encoded.shape == shape
        assert np.isfinite(encoded).all() and encoded.std() > 0.5  # ends with a norm


def test_tokens_look_at_one_another(tmp_path: Path) -> None:
    model = text_encoder(tmp_path / "encoder.onnx")
    feeds = random_feeds(model.inputs, {"embeddings": (1, 4, 64)})
    other = {"embeddings": feeds["embeddings"].copy()}
    other["embeddings"][0, 3] += 1
    before, after = (Reference(model).run(item)["encoded"][0, 0] for item in (feeds, other))
    assert not np.allclose(before, after)


def test_it_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    first, again, other = (text_encoder(tmp_path / f"{index}.onnx", seed=index // 2) for index in range(3))
    assert first.sha256 == again.sha256 != other.sha256


def test_with_a_vocabulary_it_reads_tokens_and_embeds_each_distinct_one_once(tmp_path: Path) -> None:
    model = text_encoder(tmp_path / "encoder.onnx", vocabulary=10)
    tokens = np.array([[1, 2, 1, 9]])
    encoded = Reference(model).run({"tokens": tokens})["encoded"]
    assert encoded.shape == (1, 4, 64)
    assert np.allclose(encoded[0, 0], encoded[0, 2]) and not np.allclose(encoded[0, 0], encoded[0, 1])
    assert "Unique" in model.operators
