"""Philox4x32-10: its published vectors, and the same algorithm in plain Python integers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from augment.philox import philox4x32, uniform

WORD = st.integers(0, 2**32 - 1)
PI_DIGITS = ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0))

# Random123's kat_vectors (Salmon et al. 2011), "philox4x32 10".
PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (*PI_DIGITS, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


def tensors(*words: int) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor([word]) for word in words)


def in_plain_integers(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return tuple(c)


@pytest.mark.parametrize(("counter", "key", "expected"), PUBLISHED)
def test_published_vectors(counter, key, expected):
    assert tuple(int(word) for word in philox4x32(tensors(*counter), tensors(*key))) == expected
    assert in_plain_integers(counter, key) == expected


@given(counter=st.tuples(WORD, WORD, WORD, WORD), key=st.tuples(WORD, WORD))
def test_equals_plain_integers(counter, key):
    words = philox4x32(tensors(*counter), tensors(*key))
    assert tuple(int(word) for word in words) == in_plain_integers(counter, key)


def test_counters_and_keys_broadcast():
    block, row = torch.arange(5)[None], torch.tensor([[7], [9]])
    words = torch.stack(philox4x32((block, block * 0, row, row), (row, torch.tensor(3))))
    assert words.shape == (4, 2, 5)
    assert tuple(words[:, 1, 4].tolist()) == in_plain_integers((4, 0, 9, 9), (9, 3))


def test_uniform_never_reaches_its_ends():
    ends = uniform(torch.tensor([0, 2**32 - 1]))
    assert ends.tolist() == [2.0**-33, 1.0 - 2.0**-33]
