"""Decode pixels where they are needed: on the training device, after the (smaller) stored bytes were copied there.

Every bit is that of `encoding.decode`; the arithmetic is stated in `dither`. Only trainers import this: it needs torch.
"""

import torch
from torch import Tensor

from .dither import MULTIPLIERS, WEYL


def decode_on_device(stored: Tensor, objid: Tensor, step: Tensor | None) -> Tensor:
    """Pixels as float32 (n, band, y, x) [nanomaggy / pixel] on the device of ``stored``, which stays as it is.

    ``objid`` is int64 (n,), ``step`` float32 (n, band) for int16 and None else; both on the same device.
    """
    if step is None or not len(stored):  # an empty array of NumPy's has strides that no view takes
        return stored.to(torch.float32)
    n, bands = stored.shape[:2]
    pixels = stored[0].numel()
    counter = torch.arange(pixels, dtype=torch.int32, device=stored.device).mul_(_signed(WEYL))
    word = _mix(_key(objid)[:, None] + counter)
    centre = _shifted(word, 8).to(torch.float32).mul_(-(2.0**-24)).add_(0.5)  # 0.5 - u; both exact
    centre = centre.view(n, bands, *stored.shape[2:])
    return centre.add_(stored).mul_(step[:, :, None, None])


def _key(objid: Tensor) -> Tensor:
    """See `dither.dither_key`; int32 holds the bits of uint32, because torch has no arithmetic on that."""
    halves = objid.contiguous().view(torch.int32).view(-1, 2)  # low, high: both machines are little-endian
    return _mix(_mix(halves[:, 0]) + halves[:, 1])


def _mix(h: Tensor) -> Tensor:
    """MurmurHash3's finaliser; products and sums of int32 wrap modulo 2**32, as those of uint32 do."""
    h = (h ^ _shifted(h, 16)).mul_(_signed(MULTIPLIERS[0]))
    h ^= _shifted(h, 13)
    h.mul_(_signed(MULTIPLIERS[1]))
    h ^= _shifted(h, 16)
    return h


def _shifted(h: Tensor, bits: int) -> Tensor:
    """h >> bits as of an unsigned number: what an arithmetic shift brings in from the sign is masked out."""
    return (h >> bits).bitwise_and_((1 << (32 - bits)) - 1)


def _signed(word: int) -> int:
    """The int32 of the same bits."""
    return word - 2**32 if word >= 2**31 else word
