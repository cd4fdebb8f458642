"""Copying records: the same bytes and sums whatever the kernel tells of a mapping; what cannot be read is left out."""

import os
import subprocess
import sys
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from sharding.gather import PAGE, gather, is_resident, tells_residence
from sharding.mapping import map_file

COUNT = 30_001  # bytes of a record: three blocks of a checksum and a tail, no multiple of a line or a page
RECORDS = 7


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(np.random.default_rng(0).bytes(COUNT * RECORDS))
    return made


def run(mapped: np.ndarray, order: list[int], pages: np.ndarray, shift: int = 0) -> tuple[np.ndarray, ...]:
    """Records gathered to an address ``shift`` bytes behind a line's begin: bytes, sums, unreadable."""
    memory = np.zeros(len(order) * COUNT + 128, dtype=np.uint8)
    begin = -memory.ctypes.data % 64 + shift
    sums, unreadable = np.zeros(len(order), dtype=np.uint32), np.zeros(len(order), dtype=bool)
    sources = np.array(order, dtype=np.uint64) * np.uint64(COUNT) + np.uint64(mapped.ctypes.data)
    target = np.uint64(memory.ctypes.data + begin)
    gather(sources, target, np.uint64(COUNT), sums, unreadable, pages, False)
    assert not memory[:begin].any()
    assert not memory[begin + len(order) * COUNT :].any()
    return memory[begin : begin + len(order) * COUNT].reshape(-1, COUNT), sums, unreadable


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("shift", [0, 1, 63])
def test_bytes_and_sums_are_those_of_the_file(path: Path, told: bool, shift: int):
    pages = np.empty(COUNT // PAGE + 2 if told else 0, dtype=np.uint8)
    order = [3, 0, 6, 3]
    found, sums, unreadable = run(map_file(path, COUNT * RECORDS), order, pages, shift)
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8).reshape(RECORDS, COUNT)
    assert np.array_equal(found, content[order])
    assert sums.tolist() == [google_crc32c.value(content[row].tobytes()) for row in order]
    assert not unreadable.any()


@pytest.mark.parametrize("told", [True, False])
def test_what_was_cut_off_is_marked_and_left_out(path: Path, told: bool):
    """The record that the file's end cuts through lies in part on a page that is still there."""
    mapped = map_file(path, COUNT * RECORDS)
    os.truncate(path, 4 * COUNT + PAGE)
    pages = np.empty(COUNT // PAGE + 2 if told else 0, dtype=np.uint8)
    found, _, unreadable = run(mapped, [6, 3, 4], pages)
    assert unreadable.tolist() == [True, False, True]
    assert not found[[0, 2]].any()
    assert found[1].tobytes() == path.read_bytes()[3 * COUNT : 4 * COUNT]


def test_of_an_own_file_the_kernel_tells_what_is_in_memory(path: Path):
    mapped = map_file(path, COUNT * RECORDS)
    if not tells_residence(mapped):
        pytest.skip("this kernel tells nobody")
    pages = np.empty(len(mapped) // PAGE + 2, dtype=np.uint8)
    assert is_resident(np.uint64(mapped.ctypes.data), np.uint64(len(mapped)), pages)  # it was written just now
    os.truncate(path, len(mapped) - PAGE)
    assert not is_resident(np.uint64(mapped.ctypes.data), np.uint64(len(mapped)), pages)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_of_a_file_of_somebody_else_it_is_not_believed(path: Path):
    """mincore says to who neither owns the file nor may write it that all is in memory, even behind its end."""
    code = (
        "import os, sys; from pathlib import Path; from sharding.mapping import map_file\n"
        "from sharding.gather import tells_residence\n"
        f"mapped = map_file(Path({str(path)!r}), {COUNT * RECORDS}); assert tells_residence(mapped)\n"
        "os.setuid(65534); sys.exit(tells_residence(mapped))"
    )
    path.chmod(0o644)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")
