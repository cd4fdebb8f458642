"""The cache and the cap on connections by themselves, with many writers, damage, death and a full disk."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ingest.cache import FileCache, Slots

CONTENT = bytes(range(100))


def test_a_process_that_dies_gives_its_slot_and_locks_back(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from ingest.cache import FileCache, Slots\n"
        "folder = Path(sys.argv[1])\n"
        "with FileCache(folder, 100).alone('a'), Slots(folder, 1).one():\n"
        "    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        entered = threading.Event()

        def enter() -> None:
            with FileCache(tmp_path, 100).alone("a"), Slots(tmp_path, 1).one():
                entered.set()

        waiting = threading.Thread(target=enter)
        waiting.start()
        assert not entered.wait(0.2)
        holder.send_signal(signal.SIGKILL)
        waiting.join(10)
        assert entered.is_set()


def size_of(cache: Path) -> int:
    return sum(path.stat().st_size for path in (cache / "files").iterdir())


def test_the_cache_keeps_its_bound_and_what_was_used_last(tmp_path: Path) -> None:
    limit = 10_000
    cache = FileCache(tmp_path, limit)
    for number in range(50):
        cache.store(f"{number}", bytes([number]) * 900)
        assert size_of(tmp_path) <= limit
        assert cache.read("0") == bytes(900)  # in use, so never the oldest
    assert not cache.holds("1")
    assert cache.read("49") == bytes([49]) * 900
    # It empties to 0.9 of the bound, 9 files of 920 bytes, so at least 8 are always there.
    assert len(list((tmp_path / "files").iterdir())) >= 8
    cache.store("large", bytes(limit))
    assert not cache.holds("large")


def test_the_bound_holds_though_the_count_is_lost_or_wrong(tmp_path: Path) -> None:
    limit = 10_000
    for count in (b"", b"x", b"%020d" % 10**9):
        for number in range(12):
            FileCache(tmp_path, limit).store(f"{number}", bytes(900))
        (tmp_path / "bytes").write_bytes(count)
        FileCache(tmp_path, limit).store("new", bytes(900))
        assert size_of(tmp_path) <= limit
        assert FileCache(tmp_path, limit).read("new") == bytes(900)


def test_many_writers_keep_the_bound_and_see_only_whole_files(tmp_path: Path) -> None:
    limit = 20_000

    def work(worker: int) -> None:
        cache = FileCache(tmp_path, limit)
        for step in range(60):
            number = (worker * 7 + step) % 30
            assert cache.read(f"{number}") in (None, bytes([number]) * 1900)
            cache.store(f"{number}", bytes([number]) * 1900)
            assert size_of_whole(tmp_path) <= limit

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))


def size_of_whole(cache: Path) -> int:
    total = 0
    for path in (cache / "files").iterdir():
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # gone meanwhile
            continue
    return total


def test_what_a_killed_writer_left_is_neither_read_nor_in_the_way(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 10_000)
    (tmp_path / "partial").write_bytes(b"half a file")
    cache.store("a", CONTENT)
    assert cache.read("a") == CONTENT
    assert not (tmp_path / "partial").exists()


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 10_000)
    (tmp_path / "partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device.*cache of fetched frames"):
        cache.store("a", CONTENT)
    assert cache.read("a") is None
    assert not (tmp_path / "partial").is_symlink()
    cache.store("a", CONTENT)
    assert cache.read("a") == CONTENT
