"""Counter-based random words: Philox4x32-10 (Salmon et al. 2011), the same bits on every device.

Words are 32-bit and unsigned, held in int64 tensors because torch has no arithmetic on uint32. A word is a function
of (counter, key) and of nothing else, so there is no generator whose state a batch, a rank or a restart could
change.
"""

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

Word = Int64[Tensor, "..."]  # shapes broadcast, so they are not tied to each other

WORD_MASK = 0xFFFFFFFF
_MULTIPLIER = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox4x32(counter: tuple[Word, Word, Word, Word], key: tuple[Word, Word]) -> tuple[Word, Word, Word, Word]:
    """Four random words for each counter and key; all six inputs broadcast against each other.

    int64 products wrap modulo 2^64, which keeps all 64 bits of a product of two words. The bits above 32 that
    shifts of negative numbers leave behind are cleared where they would matter: before a product, and at the end.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0 = (c0 & WORD_MASK) * _MULTIPLIER[0]
        product1 = (c2 & WORD_MASK) * _MULTIPLIER[1]
        c0, c1 = (product1 >> 32) ^ c1 ^ k0, product1
        c2, c3 = (product0 >> 32) ^ c3 ^ k1, product0
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return c0 & WORD_MASK, c1 & WORD_MASK, c2 & WORD_MASK, c3 & WORD_MASK


def uniform(words: Int64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """The words as numbers inside (0, 1), never 0 or 1: (word + 1/2) / 2^32, exact in float64."""
    return (words.to(torch.float64) + 0.5) * 2.0**-32
