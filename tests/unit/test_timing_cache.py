"""The timing cache on disk: one file per release and GPU, merged under a lock, never trusted when damaged."""

import threading
from pathlib import Path

import pytest

from workbench.backends.timing_cache import cache_path, merge_cache, read_cache
from workbench.types import LogLine, ignore


def test_the_file_is_named_after_release_and_gpu(tmp_path: Path) -> None:
    assert cache_path(tmp_path, "8.6.0", "NVIDIA GeForce RTX 4090 (Laptop)").name == (
        "timing-8.6.0-nvidia-geforce-rtx-4090-laptop.cache"
    )


def test_what_was_kept_is_read_again_and_handed_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "t.cache"
    assert read_cache(path, ignore) == b""
    merge_cache(path, lambda content: content + b"one", ignore)
    merge_cache(path, lambda content: content + b", two", ignore)
    assert read_cache(path, ignore) == b"one, two"
    assert [item.name for item in tmp_path.iterdir() if item.suffix == ".part"] == []


def test_processes_that_end_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.cache"
    workers = [
        threading.Thread(target=merge_cache, args=(path, lambda content, byte=bytes([number]): content + byte, ignore))
        for number in range(20)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(read_cache(path, ignore)) == list(range(20))


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100])
def test_a_damaged_file_is_told_ignored_and_replaced(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "t.cache"
    path.write_bytes(damage)
    lines: list[LogLine] = []
    assert read_cache(path, lines.append) == b""
    assert [line.severity for line in lines] == ["warning"] and "damaged" in lines[0].text
    merge_cache(path, lambda content: content + b"new", ignore)
    assert read_cache(path, ignore) == b"new"


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    lines: list[LogLine] = []
    (tmp_path / "file").write_text("")
    merge_cache(tmp_path / "file" / "t.cache", lambda content: b"new", lines.append)
    assert lines[-1].severity == "warning" and "cannot be written" in lines[-1].text
