"""Unpacking all of a bzip2 file, or one end of it: equal to the standard library's, and no damage passes."""

import bz2
import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.bzip2 import unpack, unpack_end

CONTENT = np.random.default_rng(3).integers(0, 40, 1_000_000, dtype=np.uint8).tobytes()
PACKED = bz2.compress(CONTENT, 3)  # four blocks


def test_all_of_it_equals_the_standard_library() -> None:
    assert unpack(PACKED) == CONTENT


@settings(max_examples=12)
@given(size=st.integers(0, len(CONTENT) + 1000))
def test_the_first_and_the_last_bytes(size: int) -> None:
    assert unpack(PACKED, size) == CONTENT[:size]
    end = unpack_end(PACKED, size)
    assert len(end) >= min(size, len(CONTENT))
    assert CONTENT.endswith(end)


@pytest.mark.parametrize("size", [0, 1, 17, 900_000, 900_001])
def test_small_files(size: int) -> None:
    content = CONTENT[:size]
    assert unpack(bz2.compress(content)) == content
    if size:  # an empty file has no block
        assert unpack_end(bz2.compress(content), size) == content


@settings(max_examples=40)
@given(bit=st.integers(0, 8 * len(PACKED) - 1))
def test_a_flipped_bit_is_found_or_does_no_harm(bit: int) -> None:
    damaged = bytearray(PACKED)
    damaged[bit // 8] ^= 1 << bit % 8
    for unpacked in (unpack, lambda packed: unpack_end(packed, len(CONTENT))):
        with suppress(ValueError):
            assert unpacked(bytes(damaged)) == CONTENT


@pytest.mark.parametrize("keep", [0, 3, 10, len(PACKED) // 2, len(PACKED) - 1])
def test_a_truncated_file_is_refused(keep: int) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        unpack(PACKED[:keep])
    with pytest.raises(ValueError, match=r"\S"):
        unpack_end(PACKED[:keep], len(CONTENT))


def test_what_was_unpacked_is_let_go() -> None:
    """indexed_bzip2 keeps the stream that it is given; a job would hold every frame that it read."""
    tracemalloc.start()
    for _ in range(20):
        unpack(PACKED)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < len(PACKED)
