"""The dither of int16 pixels, and the kernels that put it on and take it off. Knows nothing of files.

Pixel p (its flat number in band, y, x order) of the sample objid has the dither u in [0, 1), so defined in unsigned
32-bit arithmetic (modulo 2**32) that a decoder in any language can repeat it:

    mix(h):  h ^= h >> 16;  h *= 0x85EBCA6B;  h ^= h >> 13;  h *= 0xC2B2AE35;  h ^= h >> 16
    key  = mix(mix(objid & 0xFFFFFFFF) + (objid >> 32 & 0xFFFFFFFF))        (objid as 64-bit two's complement)
    word = mix(key + p * 0x9E3779B9)
    u    = (word >> 8) / 2**24                                              (exact in float32)

`mix` is the finaliser of MurmurHash3 (A. Appleby, 2011, public domain, `fmix32`); 0x9E3779B9 is 2**32 over the golden
ratio, which makes the words of one key distinct. A pixel x is stored as q and decoded as x':

    q  = floor(x / step + u)                (float64)
    x' = (q + (0.5 - u)) * step             (float32, every operation rounded; 0.5 - u is exact)

The error x' - x is uniform in +-step / 2 whatever x is, so it is independent of it (subtractive dither: L. Schuchman,
1964, IEEE Trans. Commun. Technol. 12, 162), and of mean zero: a sum over pixels stays unbiased far below one step. No
product is followed by a sum, so no compiler may fuse any two operations: every decoder gives the same bits.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from .compiled import compiled

MULTIPLIERS = (0x85EBCA6B, 0xC2B2AE35)
WEYL = 0x9E3779B9

_M1, _M2, _WEYL = np.uint32(MULTIPLIERS[0]), np.uint32(MULTIPLIERS[1]), np.uint32(WEYL)
_LOWEST, _HIGHEST = -(2.0**15), 2.0**15 - 1

Float32Array = npt.NDArray[np.float32]
Int16Array = npt.NDArray[np.int16]
UInt32Array = npt.NDArray[np.uint32]


def dither_key(objid: npt.NDArray[np.int64]) -> UInt32Array:
    """The key of each sample's dither: (n,)."""
    word = objid.view(np.uint64)
    low, high = (word & np.uint64(0xFFFFFFFF)).astype(np.uint32), (word >> np.uint64(32)).astype(np.uint32)
    return _mix_array(_mix_array(low) + high)


def _mix_array(h: UInt32Array) -> UInt32Array:
    h = (h ^ (h >> np.uint32(16))) * _M1
    h = (h ^ (h >> np.uint32(13))) * _M2
    return h ^ (h >> np.uint32(16))


@njit(nogil=True, inline="always")
def _dither(key, p):  # type: ignore[no-untyped-def]  # numba types it: (uint32, int64) -> float32
    h = np.uint32(key + np.uint32(p) * _WEYL)
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * _M1)
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(13))) * _M2)
    h = np.uint32(h ^ (h >> np.uint32(16)))
    return np.float32(np.int32(h >> np.uint32(8))) * np.float32(2.0**-24)


@compiled
def put_on(images: Float32Array, key: UInt32Array, step: Float32Array, out: Int16Array) -> None:
    """Store ``images`` (n, band, pixel) as ``out``; ``step`` (n, band) is doubled where a pixel would not fit.

    The pixels are finite and the steps normal numbers greater than 0: checked by the caller.
    """
    for i in range(images.shape[0]):
        for b in range(images.shape[1]):
            while not _put_on_band(images[i, b], key[i], b * images.shape[2], step[i, b], out[i, b]):  # type: ignore[no-untyped-call]
                step[i, b] *= np.float32(2)


@compiled
def _put_on_band(pixels, key, first, step, out):  # type: ignore[no-untyped-def]  # numba types it
    """Whether every pixel of a band fits into 16 bits; ``first`` is the flat number of its first pixel."""
    lowest, highest = 0.0, 0.0
    for p in range(pixels.size):
        q = np.floor(np.float64(pixels[p]) / np.float64(step) + np.float64(_dither(key, first + p)))
        lowest, highest = min(lowest, q), max(highest, q)
        out[p] = np.int16(min(max(q, _LOWEST), _HIGHEST))
    return lowest >= _LOWEST and highest <= _HIGHEST


@compiled
def take_off(stored: Int16Array, key: UInt32Array, step: Float32Array, out: Float32Array) -> None:
    """Decode ``stored`` (n, band, pixel) with the steps (n, band) into ``out``."""
    for i in range(stored.shape[0]):
        for b in range(stored.shape[1]):
            first, band_step, band_key = b * stored.shape[2], step[i, b], key[i]
            for p in range(stored.shape[2]):
                centre = np.float32(0.5) - _dither(band_key, first + p)
                out[i, b, p] = (np.float32(stored[i, b, p]) + centre) * band_step
