"""Files travel by their content: whole or not at all, and only where they are not yet."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from models import MATMUL, OCR_CLS, save, save_external

from workbench.calibration.sample import Sample
from workbench.calibration.samples import Samples, open_samples
from workbench.errors import FeedError, StoreError
from workbench.model import Model, load_model
from workbench.openings import edit
from workbench.preprocessing import Preprocessing
from workbench.sharding import parcels
from workbench.sharding.packed_samples import open_packed, pack_samples
from workbench.sharding.parcels import Parcel, ParcelMissing, contents, pack, unpack, unpack_all


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Parcel], Parcel]:
    """Go to another machine: its store is another one, and the parcel's own path leads nowhere."""

    def go(parcel: Parcel) -> Parcel:
        monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "worker"))
        return replace(parcel, path=tmp_path / "nowhere" / parcel.name)

    return go


Elsewhere = Callable[[Parcel], Parcel]


def with_weights(folder: Path) -> Model:
    path = save_external(folder / "m.onnx", "weights.bin")
    (folder / "weights.bin").write_bytes(np.arange(16, dtype=np.float32).tobytes())
    return load_model(path)


def folder_of_files(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    (folder / "plan").write_bytes(b"plan")
    (folder / "deep" / "record").write_bytes(b"record")
    return folder


# ---- where it is found


def test_in_a_shared_folder_nothing_travels(tmp_path: Path, home: Path) -> None:
    parcel = pack(save(tmp_path / "m.onnx", MATMUL, w=np.eye(4, dtype=np.float32)))
    assert unpack(parcel) == tmp_path / "m.onnx"
    assert not (home / "parcels").exists()


def test_a_file_that_has_changed_since_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "table.cache"
    path.write_bytes(b"first")
    parcel = pack(path)
    assert unpack(parcel) == path
    path.write_bytes(b"other")
    with pytest.raises(ParcelMissing, match=parcel.key[:8]):
        unpack(parcel)
    with pytest.raises(StoreError, match="was changed since it was packed"):
        contents(parcel)


def test_what_was_sent_once_is_there_the_next_time(tmp_path: Path, elsewhere: Elsewhere) -> None:
    parcel = pack(folder_of_files(tmp_path / "engine"))
    data = contents(parcel)
    there = elsewhere(parcel)
    with pytest.raises(ParcelMissing):
        unpack(there)
    place = unpack(there, data)
    assert (place.name, place.parent.name) == ("engine", parcel.key)
    assert unpack(there) == place
    assert {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()} == {
        "plan",
        "deep/record",
    }


def test_all_that_is_missing_is_told_at_once_and_over_a_network(tmp_path: Path, elsewhere: Elsewhere) -> None:
    parcels = []
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
        parcels.append(pack(tmp_path / name))
    data = {parcels[1].key: contents(parcels[1])}
    there = [elsewhere(parcel) for parcel in parcels]
    with pytest.raises(ParcelMissing) as raised:
        unpack_all(there, data)
    error = pickle.loads(pickle.dumps(raised.value))
    assert error.keys == (parcels[0].key, parcels[2].key) and str(error) == str(raised.value)
    assert unpack(there[1]).read_text() == "b"


def test_models_arrive_as_they_are(tmp_path: Path, elsewhere: Elsewhere) -> None:
    """With their external data, and as they were changed in memory."""
    models = [with_weights(tmp_path / "sent"), edit(load_model(OCR_CLS), "x:0=2")]
    parcels = [pack(model) for model in models]
    sent = {parcel.key: contents(parcel) for parcel in parcels}
    for model, place in zip(models, unpack_all(map(elsewhere, parcels), sent).values(), strict=True):
        found = load_model(place)
        assert (found.sha256, found.name) == (model.sha256, model.name)
        assert found.inputs == model.inputs


def test_equal_content_has_one_key_under_any_name(tmp_path: Path, elsewhere: Elsewhere) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"same")
    first, second = pack(tmp_path / "a.bin"), pack(tmp_path / "b.bin")
    assert first.key == second.key
    sent = contents(first), contents(second)
    there = elsewhere(first), elsewhere(second)
    assert [unpack(parcel, data).name for parcel, data in zip(there, sent, strict=True)] == ["a.bin", "b.bin"]
    assert unpack(there[0]).name == "a.bin"


def test_several_workers_of_a_host_may_unpack_at_once(tmp_path: Path, elsewhere: Elsewhere) -> None:
    parcel = pack(with_weights(tmp_path / "sent"))
    data, there = contents(parcel), elsewhere(parcel)
    with ThreadPoolExecutor(6) as pool:
        places = list(pool.map(lambda _: unpack(there, data), range(6)))
    assert len(set(places)) == 1 and load_model(places[0]).sha256 == parcel.key


def test_who_waits_for_another_process_too_long_is_told_so(
    tmp_path: Path, home: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    there, data = elsewhere(pack(tmp_path / "a")), contents(pack(tmp_path / "a"))
    place = unpack(there, data)
    place.unlink()
    monkeypatch.setattr(parcels, "PATIENCE_S", 0.0)
    with FileLock(place.parents[1] / f"{there.key}.lock"), pytest.raises(StoreError, match="another process has writt"):
        unpack(there, data)
    assert unpack(there, data) == place


# ---- what is refused


def test_a_damaged_parcel_is_refused_or_harmless(tmp_path: Path, elsewhere: Elsewhere) -> None:
    parcel = pack(folder_of_files(tmp_path / "engine"))
    whole, there = contents(parcel), elsewhere(parcel)
    refused = 0
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x10
        try:
            found = unpack(there, bytes(data))
        except StoreError:
            refused += 1
            with pytest.raises(ParcelMissing):
                unpack(there)
        else:
            assert (found / "plan").read_bytes() == b"plan" and (found / "deep" / "record").read_bytes() == b"record"
            (found / "plan").unlink()
    assert refused > len(whole) / 3
    with pytest.raises(StoreError, match="is damaged"):
        unpack(there, whole[:40])


def test_a_parcel_that_lies_about_its_key_is_refused(tmp_path: Path, elsewhere: Elsewhere) -> None:
    parcels = [pack(with_weights(tmp_path / "sent")), pack(folder_of_files(tmp_path / "engine"))]
    sent = [contents(parcel) for parcel in parcels]
    for parcel, data in zip(parcels, sent, strict=True):
        lying = replace(elsewhere(parcel), key="f" * 64)
        with pytest.raises(StoreError, match="does not have the key ffffffff"):
            unpack(lying, data)
        with pytest.raises(ParcelMissing):
            unpack(lying)


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "", "c:out", "a\\..\\out"])
def test_nothing_is_written_outside_the_parcel(tmp_path: Path, elsewhere: Elsewhere, name: str) -> None:
    (tmp_path / "a").write_bytes(b"a")
    parcel = elsewhere(pack(tmp_path / "a"))
    evil = io.BytesIO()
    with zipfile.ZipFile(evil, "w") as archive:
        archive.writestr(name or "x", b"a")
    for lying in (
        replace(parcel, files=((name, parcel.key),)),
        replace(parcel, name=name),
        replace(parcel, key="../k"),
    ):
        with pytest.raises(StoreError, match="no name for a file"):
            unpack(lying, evil.getvalue())
    with pytest.raises(StoreError, match="other files were sent"):
        unpack(parcel, evil.getvalue())


def test_what_is_not_there_cannot_be_packed(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="gone: cannot be read"):
        pack(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="an empty folder"):
        pack(tmp_path / "empty")


# ---- samples


@dataclass(frozen=True, eq=False)
class Listed:
    """Samples as given; None for a broken one."""

    items: tuple[Sample | None, ...]
    about: str = "some samples"
    preprocessing: Preprocessing | None = None
    has_labels: bool = True

    def __len__(self) -> int:
        return len(self.items)

    def id_of(self, index: int) -> str:
        return f"sample {index}"

    def read(self, index: int) -> Sample:
        item = self.items[index]
        if item is None:
            raise FeedError(f"sample {index}: broken.")
        return item


def ragged() -> Samples:
    """Other shapes and types in each, one without a label and one that is broken."""
    arrays = [
        {"x": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "n": np.array(7, np.int64)},
        {"x": np.zeros((1, 5, 1), np.float32), "n": np.array(-1, np.int64)},
        {"x": np.float32([[1.5, -0.0]]).astype("bfloat16"), "n": np.array([[True, False]])},
        {"x": np.asfortranarray(np.random.default_rng(0).random((1, 3, 4))), "n": np.zeros((0, 2), np.uint8)},
    ]
    labels = (3, None, 0, 999)
    found = [Sample(f"sample {index}", feeds, label) for index, (feeds, label) in enumerate(zip(arrays, labels))]  # noqa: B905
    return Listed((*found, None), preprocessing=Preprocessing(size=(4, 4), mean=(0.1, 0.2, 0.3)))


def test_packed_samples_are_the_samples(tmp_path: Path) -> None:
    samples = ragged()
    packed = pack_samples(samples, [3, 4, 0, 2, 1], tmp_path / "s" / "some.samples")
    assert packed.count == 4 and [item.id for item in packed.skipped] == ["sample 4"]
    for found in (open_packed(packed.path), open_packed(packed.path.read_bytes())):
        assert (found.about, found.preprocessing, found.has_labels) == (samples.about, samples.preprocessing, True)
        assert [found.id_of(index) for index in range(len(found))] == [f"sample {index}" for index in (3, 0, 2, 1)]
        for place, index in enumerate((3, 0, 2, 1)):
            left, right = found.read(place), samples.read(index)
            assert (left.id, left.label, left.digest) == (right.id, right.label, right.digest)
            for name, array in right.feeds.items():
                assert left.feeds[name].dtype == array.dtype and np.array_equal(left.feeds[name], array)
                assert left.feeds[name].flags.writeable
    assert os.listdir(tmp_path / "s") == ["some.samples"]


def test_the_same_samples_give_the_same_file(tmp_path: Path) -> None:
    paths = [pack_samples(ragged(), range(4), tmp_path / name).path for name in ("a", "b")]
    assert pack(paths[0]).key == pack(paths[1]).key


def test_where_nothing_can_be_read_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="not one of 1 samples can be read"):
        pack_samples(ragged(), [4], tmp_path / "none")
    with pytest.raises(FeedError, match="broken"):
        pack_samples(ragged(), [0, 4], tmp_path / "none", strict=True)
    with pytest.raises(FeedError, match="input t is text"):
        pack_samples(Listed((Sample("a", {"t": np.array(["word"])}),)), [0], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_damaged_packed_samples_never_give_other_values(tmp_path: Path) -> None:
    path = pack_samples(ragged(), range(4), tmp_path / "s").path
    whole, generator, samples = path.read_bytes(), np.random.default_rng(0), ragged()
    wanted = {samples.read(index).digest for index in range(4)}
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        data[int(generator.integers(len(data)))] ^= 1 << int(generator.integers(8))
        try:
            found = open_packed(bytes(data))
            assert {found.read(index).digest for index in range(len(found))} <= wanted
        except FeedError:
            refused += 1
    assert refused > 100
    with pytest.raises(FeedError, match="no packed samples"):
        open_packed(tmp_path / "gone")


def test_arrays_of_a_model_come_back_as_they_were(tmp_path: Path) -> None:
    model = load_model(save(tmp_path / "m.onnx", MATMUL, w=np.eye(4, dtype=np.float32)))
    samples = open_samples({"x": np.random.default_rng(0).random((9, 4), np.float32), "labels": np.arange(9)}, model)
    found = open_packed(pack_samples(samples, range(2, 9, 3), tmp_path / "s").path)
    assert [found.read(index).digest for index in range(3)] == [samples.read(index).digest for index in (2, 5, 8)]
    assert [found.read(index).label for index in range(3)] == [2, 5, 8]
