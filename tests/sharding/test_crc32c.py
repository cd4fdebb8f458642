"""CRC32C against Google's library, at lengths and places where the compiled code takes another way."""

import google_crc32c
import numpy as np
import pytest

from sharding.crc32c import _LONG, _SHORT, _add_by_table, crc32c_rows

EDGES = [part * times + more for part in (_SHORT, _LONG) for times in (1, 2, 3, 6) for more in (-9, -8, -1, 0, 1, 7, 8)]


def google(rows: np.ndarray) -> list[int]:
    """The answer of another implementation."""
    return [google_crc32c.value(row.tobytes()) for row in rows]


def random_bytes(*shape: int) -> np.ndarray:
    """From a fixed seed."""
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def test_the_known_answer() -> None:
    """RFC 3720, appendix B.4: 32 bytes of zeros, of ones, and counting up."""
    rows = np.stack([np.zeros(32, np.uint8), np.full(32, 255, np.uint8), np.arange(32, dtype=np.uint8)])
    assert crc32c_rows(rows).tolist() == [0x8A9136AA, 0x62A8AB43, 0x46DD794E]


@pytest.mark.parametrize("size", [*range(40), *EDGES, 5 * 107 * 107 * 4])
def test_any_length_is_summed_as_google_does(size: int) -> None:
    rows = random_bytes(3, size)
    sums = crc32c_rows(rows)
    assert sums.dtype == np.uint32
    assert sums.tolist() == google(rows)


@pytest.mark.parametrize("size", [_SHORT * 3 + 5, _LONG * 3 + 3])
def test_rows_may_begin_anywhere_and_lie_apart(size: int) -> None:
    memory = random_bytes(4 * (size + 13) + 16)
    for begin in range(16):
        rows = memory[begin:][: 4 * (size + 13)].reshape(4, size + 13)[:, :size]
        assert crc32c_rows(rows).tolist() == google(rows)
        assert crc32c_rows(rows[::2]).tolist() == google(rows[::2])
    assert crc32c_rows(np.broadcast_to(memory[:size], (3, size))).tolist() == google(memory[None, :size]) * 3
    assert crc32c_rows(np.empty((0, size), np.uint8)).shape == (0,)


def test_rows_that_are_not_side_by_side_are_refused() -> None:
    rows = random_bytes(6, 32)
    for wrong in (rows[:, ::2], rows.T, rows[::-1], rows[0], rows.view(np.float32), rows[0, 0]):
        with pytest.raises(ValueError, match="expected rows of bytes that lie side by side"):
            crc32c_rows(wrong)


def test_without_the_processors_instruction_a_word_adds_the_same() -> None:
    rng = np.random.default_rng(8)
    for crc, word in zip(rng.integers(0, 2**32, 200), rng.integers(0, 2**64, 200, dtype=np.uint64), strict=True):
        added = _add_by_table(np.uint64(crc), word)
        assert added ^ 0xFFFFFFFF == google_crc32c.extend(int(crc) ^ 0xFFFFFFFF, word.tobytes())
