"""EngineStore: where it lies, what it lists, how it keeps house, and that it never hands out a damaged engine."""

from __future__ import annotations

import os
import random
import shutil
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest
from helpers_building import PATIENCE_S, copy_store, folders_left, small, start_python

from workbench.building import build
from workbench.engine import Engine
from workbench.errors import StoreError, UntrustedEngine
from workbench.model import Model
from workbench.store import EngineStore
from workbench.types import BuildConfig

FILES = ("model.onnx", "layers.json", "build.log.gz", "engine.json")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model, Engine]:
    """A store with one engine, built once; tests work on copies."""
    folder = tmp_path_factory.mktemp("origin")
    model = small(folder / "small.onnx")
    return folder / "store", model, build(model, None, "onnxruntime", store=EngineStore(folder / "store")).engine


@pytest.fixture
def store(origin: tuple[Path, Model, Engine], tmp_path: Path) -> EngineStore:
    return copy_store(origin[0], tmp_path / "store")


@pytest.fixture
def engine(store: EngineStore) -> Engine:
    (found,) = store.engines()
    return found


@pytest.fixture
def model(origin: tuple[Path, Model, Engine]) -> Model:
    return origin[1]


def add(store: EngineStore, template: Engine, number: int, *, used: float | None = None) -> Engine:
    """Another engine with the same files under the key `number`; used: when, in seconds since 1970."""
    key = f"{number:032x}"
    with store.lock(key), store.staging() as folder:
        shutil.copytree(template.folder, folder / "out")
        (folder / "out" / "engine.json").unlink()
        engine = store.add(replace(template, folder=folder / "out", key=key))
    if used is not None:
        os.utime(engine.folder / "engine.json", (used, used))
    return engine


# ---- where it lies


def test_workbench_home_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    assert EngineStore().folder == tmp_path / "home"
    assert (tmp_path / "home" / "engines").is_dir()


def test_a_named_folder_wins_over_workbench_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    assert EngineStore(tmp_path / "named").folder == tmp_path / "named"
    assert not (tmp_path / "home").exists()


def test_without_workbench_home_it_lies_in_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORKBENCH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert EngineStore().folder == platformdirs.user_cache_path("tensorrt-workbench").resolve()
    assert EngineStore().folder == tmp_path / "cache" / "tensorrt-workbench"


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EngineStore("~/engines here").folder == tmp_path / "engines here"


@pytest.mark.parametrize("folder", ["/proc/workbench", "/dev/null/workbench"])
def test_a_folder_that_cannot_be_written_is_one_sentence_with_a_way_out(folder: str) -> None:
    with pytest.raises(StoreError, match=r"^/.*: engines cannot be stored here \(.+\); set WORKBENCH_HOME.*\.$"):
        EngineStore(folder)


def test_a_file_in_the_place_of_the_folder_is_one_sentence_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="set WORKBENCH_HOME"):
        EngineStore(tmp_path / "file")


def test_only_its_owner_can_read_the_secret(store: EngineStore) -> None:
    secret = store.folder / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert len(secret.read_bytes()) == 32
    assert [path.name for path in store.folder.glob("secret*")] == ["secret"]


# ---- listing, size, removing


def test_engines_are_listed_with_the_last_used_first(store: EngineStore, engine: Engine) -> None:
    for number, used in ((1, 3000.0), (2, 1000.0), (3, 2000.0)):
        add(store, engine, number, used=used)
    store.remove(engine)
    assert [int(item.key, 16) for item in store.engines()] == [1, 3, 2]
    assert store.find(f"{2:032x}").engine is not None
    assert [int(item.key, 16) for item in store.engines()] == [2, 1, 3]


def test_the_size_counts_every_file_and_what_was_set_aside(store: EngineStore, engine: Engine) -> None:
    before = store.size_bytes()
    assert before >= engine.size_bytes > engine.plan_bytes
    engine.plan_path.write_bytes(b"x" + engine.plan_path.read_bytes()[1:])
    store.find(engine.key)
    assert store.size_bytes() == before
    assert store.prune(before) == ()
    assert store.size_bytes() < engine.plan_bytes


def test_size_and_list_do_not_stumble_over_builds_that_come_and_go(store: EngineStore, engine: Engine) -> None:
    """Another process stages and discards folders all the time."""
    code = (
        "import sys\nfrom workbench.store import EngineStore\nstore = EngineStore(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "  with store.staging() as folder:\n"
        "    for n in range(20):\n"
        "      (folder / str(n) / 'deep').mkdir(parents=True)\n"
        "      (folder / str(n) / 'deep' / 'file').touch()\n"
    )
    process = start_python(code, store.folder)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    try:
        for _ in range(800):
            assert store.size_bytes() >= engine.size_bytes
            assert len(store.engines()) == 1
    finally:
        process.kill()
        process.communicate()


def test_a_removed_engine_is_gone_and_leaves_nothing_in_work(store: EngineStore, engine: Engine) -> None:
    store.remove(engine)
    assert not engine.folder.exists() and not store.engines() and not folders_left(store)
    store.remove(engine)  # a second time does no harm
    assert store.find(engine.key).engine is None


def test_remove_refuses_a_folder_that_does_not_lie_in_the_store(
    store: EngineStore, engine: Engine, tmp_path: Path
) -> None:
    shutil.copytree(engine.folder, tmp_path / "mine")
    with pytest.raises(StoreError, match="does not lie in this store"):
        store.remove(store.load(tmp_path / "mine"))
    assert (tmp_path / "mine" / "model.onnx").exists()


def test_an_engine_is_found_by_the_first_digits_of_its_key(store: EngineStore, engine: Engine) -> None:
    assert store.by_prefix(engine.key[:6]) == engine
    add(store, engine, 1), add(store, engine, 2)
    for prefix, words in (("0000", "2 stored engines"), ("zz", "no stored engine"), ("", "no stored engine")):
        with pytest.raises(StoreError, match=words):
            store.by_prefix(prefix)


# ---- pruning


def test_prune_removes_the_longest_unused_first_until_the_cap_is_kept(store: EngineStore, engine: Engine) -> None:
    for number, used in ((1, 3000.0), (2, 1000.0), (3, 2000.0)):
        add(store, engine, number, used=used)
    removed = store.prune(2 * engine.size_bytes + 100)
    assert [int(item.key, 16) for item in removed] == [2, 3]
    assert [item.key for item in store.engines()] == [engine.key, f"{1:032x}"]
    assert store.size_bytes() <= 2 * engine.size_bytes + 100
    assert store.prune(2 * engine.size_bytes + 100) == ()


def test_prune_leaves_an_engine_alone_that_is_being_built(store: EngineStore, engine: Engine) -> None:
    for number in (1, 2):
        add(store, engine, number, used=1000.0 * number)
    with store.lock(f"{1:032x}"):
        removed = store.prune(0)
    assert {item.key for item in removed} == {engine.key, f"{2:032x}"}
    assert [int(item.key, 16) for item in store.engines()] == [1]


def test_prune_to_nothing_empties_the_store_even_of_entries_without_a_readable_record(
    store: EngineStore, engine: Engine
) -> None:
    (engine.folder / "engine.json").write_text("{")
    store.prune(0)
    assert store.size_bytes() == 0


def test_searches_of_the_tuner_cost_no_engine_and_lose_only_what_is_made_again(
    store: EngineStore, engine: Engine
) -> None:
    before, now = store.size_bytes(), time.time()
    for name, days in (("old", 8), ("new", 6), ("read", 8)):
        place = store.folder / "tuning" / name
        (place / "deep").mkdir(parents=True)
        (place / "deep" / "some.samples").write_bytes(b"x" * 100_000)
        for path in (place / "deep" / "some.samples", place / "deep", place):
            read = now if name == "read" else now - days * 86400
            os.utime(path, (read, now - days * 86400))
    kept = store.folder / "tuning" / "0123456789ab.json.gz"
    kept.write_bytes(b"a search")
    os.utime(kept, (0, 0))
    assert store.size_bytes() == before
    assert store.prune(before) == ()
    assert sorted(path.name for path in (store.folder / "tuning").iterdir()) == [kept.name, "new", "read"]
    assert [item.key for item in store.prune(0)] == [engine.key]
    assert kept.exists()


def test_prune_deletes_what_was_set_aside(store: EngineStore, engine: Engine) -> None:
    engine.plan_path.write_bytes(b"")
    store.find(engine.key)
    assert list((store.folder / "damaged").iterdir())
    store.prune(1 << 40)
    assert not list((store.folder / "damaged").iterdir())


def test_two_prunes_at_once_do_not_stumble_over_each_other(store: EngineStore, engine: Engine) -> None:
    """Eight threads prune what one adds; each engine is removed by exactly one of them."""
    errors: list[BaseException] = []
    removed: list[str] = []
    start = threading.Barrier(8)

    def prune() -> None:
        start.wait(PATIENCE_S)
        try:
            removed.extend(item.key for item in EngineStore(store.folder).prune(0))
        except BaseException as error:
            errors.append(error)

    for round_number in range(8):
        added = [add(store, engine, 16 * round_number + number) for number in range(12)]
        threads = [threading.Thread(target=prune) for _ in range(8)]
        engine = replace(engine, folder=shutil.copytree(added[0].folder, store.folder / f"template{round_number}"))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not errors, errors
        for item in store.engines():
            store.remove(item)


# ---- damage


Damage = Callable[[Path, random.Random], None]


def flip_a_byte(path: Path, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[dice.randrange(len(content))] ^= dice.randrange(1, 256)
    path.write_bytes(content)


def truncate(path: Path, dice: random.Random) -> None:
    os.truncate(path, dice.randrange(1, path.stat().st_size))


def lengthen(path: Path, dice: random.Random) -> None:
    path.write_bytes(path.read_bytes() + dice.randbytes(dice.randrange(1, 9)))


def empty(path: Path, dice: random.Random) -> None:
    os.truncate(path, 0)


def delete(path: Path, dice: random.Random) -> None:
    path.unlink()


def make_a_folder(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "times"),
    [(flip_a_byte, 150), (truncate, 25), (lengthen, 10), (empty, 1), (delete, 1), (make_a_folder, 1)],
)
def test_a_damaged_file_is_never_handed_out_and_its_engine_set_aside(
    store: EngineStore, engine: Engine, tmp_path: Path, name: str, damage: Damage, times: int
) -> None:
    dice = random.Random(f"{name} {damage.__name__}")
    shutil.copytree(engine.folder, tmp_path / "intact")
    for _ in range(times):
        shutil.rmtree(engine.folder, ignore_errors=True)
        shutil.copytree(tmp_path / "intact", engine.folder)
        damage(engine.folder / name, dice)
        found = store.find(engine.key)
        if found.engine is not None:  # white space of the record may change without changing what it says
            assert name == "engine.json" and damage in (flip_a_byte, lengthen)
            assert found.engine == engine
            continue
        assert found.damage and "set aside" in found.damage
        assert not engine.folder.exists()
        assert any((store.folder / "damaged").iterdir())
        assert not store.engines()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip_a_byte, delete])
def test_a_damaged_engine_is_built_anew_and_why_missed_says_so(
    store: EngineStore, engine: Engine, model: Model, name: str, damage: Damage
) -> None:
    damage(engine.folder / name, random.Random(7))
    again = build(model, None, "onnxruntime", store=store)
    assert not again.reused
    assert again.why_missed and again.why_missed.startswith("the stored engine was damaged and set aside: ")
    assert len(list((store.folder / "damaged").iterdir())) == 1
    assert build(model, None, "onnxruntime", store=store).reused


def test_an_engine_under_the_key_of_another_is_not_handed_out(store: EngineStore, engine: Engine) -> None:
    wrong = "f" * 32
    shutil.copytree(engine.folder, engine.folder.parent / wrong)
    found = store.find(wrong)
    assert found.engine is None and found.damage and engine.key in found.damage
    assert store.find(engine.key).engine == engine


# ---- engines of others


@pytest.mark.parametrize("secret", [b"another secret", b""])
def test_with_another_secret_the_stored_engines_are_foreign_and_built_anew(
    store: EngineStore, engine: Engine, model: Model, secret: bytes
) -> None:
    (store.folder / "secret").write_bytes(secret)
    later = EngineStore(store.folder)
    assert not later.engines()
    again = build(model, None, "onnxruntime", store=later)
    assert not again.reused and again.why_missed and "did not build" in again.why_missed
    assert build(model, None, "onnxruntime", store=EngineStore(store.folder)).reused


def test_an_entry_copied_from_another_store_is_not_used_silently(
    store: EngineStore, engine: Engine, model: Model, tmp_path: Path
) -> None:
    other = EngineStore(tmp_path / "other")
    place = other.folder / "engines" / engine.key
    shutil.copytree(engine.folder, place)
    assert not other.engines()
    with pytest.raises(UntrustedEngine, match="trust=True"):
        other.load(place)
    assert other.load(place, trust=True).key == engine.key
    again = build(model, None, "onnxruntime", store=other)
    assert not again.reused and again.why_missed and "did not build" in again.why_missed


def test_trust_does_not_waive_the_checksums(store: EngineStore, engine: Engine, tmp_path: Path) -> None:
    other, copy = EngineStore(tmp_path / "other"), tmp_path / "copy"
    dice = random.Random(11)
    for name in engine.files:
        for damage in (flip_a_byte, truncate, empty, delete):
            shutil.copytree(engine.folder, copy)
            damage(copy / name, dice)
            with pytest.raises(StoreError, match="build the engine again") as caught:
                other.load(copy, trust=True)
            assert not isinstance(caught.value, UntrustedEngine)
            shutil.rmtree(copy)


def rewrite(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    import json

    record = json.loads((folder / "engine.json").read_text())
    change(record)
    (folder / "engine.json").write_text(json.dumps(record))


def test_trust_does_not_take_a_record_that_lists_no_checksum_of_the_plan(
    store: EngineStore, engine: Engine, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(engine.folder, copy)
    rewrite(copy, lambda record: record["engine"]["files"].clear())  # type: ignore[index]
    (copy / "model.onnx").write_bytes(b"anything")
    with pytest.raises(StoreError):
        store.load(copy, trust=True)


@pytest.mark.parametrize("plan", ["../elsewhere.plan", "/etc/hostname"])
def test_a_plan_outside_the_engines_folder_is_refused_even_with_trust(
    store: EngineStore, engine: Engine, tmp_path: Path, plan: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(engine.folder, copy)
    (tmp_path / "elsewhere.plan").write_bytes(b"anything")
    rewrite(copy, lambda record: record["engine"].update(plan=plan))  # type: ignore[attr-defined]
    with pytest.raises(StoreError):
        store.load(copy, trust=True)


@pytest.mark.parametrize("seal", ["é", "", None, 7, ["a"]])
def test_a_seal_of_any_kind_that_does_not_fit_is_untrusted(
    store: EngineStore, engine: Engine, tmp_path: Path, seal: object
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(engine.folder, copy)
    rewrite(copy, lambda record: record.update(seal=seal))
    with pytest.raises(UntrustedEngine):
        store.load(copy)


def test_a_changed_record_is_untrusted(store: EngineStore, engine: Engine, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name, value in (("plan", "layers.json"), ("layers", 99), ("recipe", {}), ("machine", {})):
        shutil.copytree(engine.folder, copy)
        rewrite(copy, lambda record: record["engine"].update({name: value}))  # type: ignore[attr-defined] # noqa: B023
        with pytest.raises(UntrustedEngine):
            store.load(copy)
        shutil.rmtree(copy)


def test_a_folder_without_a_record_is_one_sentence(store: EngineStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no readable engine record"):
        store.load(tmp_path)
    with pytest.raises(StoreError, match="no readable engine record"):
        store.load(tmp_path / "missing")


def test_why_missed_of_equal_recipes_is_still_a_sentence(store: EngineStore, engine: Engine) -> None:
    assert "stored a moment ago" in store.why_missed(engine.recipe, engine.model_name)


@pytest.mark.rtx
def test_a_difference_is_named_once_and_not_what_only_follows_from_it(model: Model, tmp_path: Path) -> None:
    """bf16 brings another ingredient along, the converter's release."""
    store = EngineStore(tmp_path / "rtx")
    build(model, None, "rtx", store=store)
    text = str(build(model, BuildConfig(precision="bf16"), "rtx", store=store).why_missed)
    assert text.endswith("differs in precision (fp32 stored, bf16 wanted)")
