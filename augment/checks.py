"""What the bodies of `skymill::render` rely on: they index memory by these numbers, so no others may reach them."""

import torch
from torch import Tensor

from .errors import AugmentError

_STORED = (torch.float32, torch.float16, torch.int16)
_WRITTEN = (torch.float32, torch.bfloat16)


def check(
    stored: Tensor,
    objid: Tensor | None,
    step: Tensor | None,
    place: Tensor,
    affine: Tensor,
    gain: Tensor,
    taps: Tensor,
    noise_sigma: Tensor,
    noise_key: Tensor,
    size_px: int,
    dtype: torch.dtype,
    channels_last: bool,
) -> None:
    """The operator's own arguments; AugmentError for the first that does not fit. Looks at no number of a tensor."""
    del channels_last  # either will do
    if stored.ndim != 4 or stored.shape[1] < 1 or min(stored.shape[2:]) < 2:
        raise AugmentError(
            "render: expected stamps (batch, band, y, x) of a band or more and at least 2 x 2 pixels, got shape "
            f"{tuple(stored.shape)}"
        )
    if stored.shape[2] * stored.shape[3] >= 2**31:
        raise AugmentError(f"render: expected stamps of less than 2^31 pixels a band, got shape {tuple(stored.shape)}")
    if stored.dtype not in _STORED or dtype not in _WRITTEN:
        raise AugmentError(
            "render: expected float32, float16 or int16 stamps and float32 or bfloat16 views, got "
            f"{stored.dtype} and {dtype}; convert the stamps before or the views after"
        )
    if size_px < 1:
        raise AugmentError(f"render: expected views of at least 1 pixel a side, got {size_px}")
    _check_dither(stored, objid, step)
    _check_plan(stored, place, affine, gain, taps, noise_sigma, noise_key, size_px)


def check_places(place: Tensor, batch: int) -> None:
    """On the host; on an accelerator looking would make the host wait: there, a row of no stamp is NaN."""
    if len(place) and not 0 <= int(place.min()) <= int(place.max()) < batch:
        raise AugmentError(
            f"render: expected places of {batch} stamps, 0 to {batch - 1}, got {int(place.min())} to "
            f"{int(place.max())}; make the plan for this batch"
        )


def _check_dither(stored: Tensor, objid: Tensor | None, step: Tensor | None) -> None:
    if stored.dtype != torch.int16:
        if objid is not None or step is not None:
            raise AugmentError(f"render: expected a dither with int16 stamps alone, got one with {stored.dtype}")
        return
    if objid is None or step is None:
        raise AugmentError("render: expected a dither with int16 stamps, got none; pass what the reader gives")
    batch, bands = stored.shape[:2]
    _expect("objid", objid, (batch,), torch.int64, stored)
    _expect("step", step, (batch, bands), torch.float32, stored)


def _check_plan(
    stored: Tensor,
    place: Tensor,
    affine: Tensor,
    gain: Tensor,
    taps: Tensor,
    noise_sigma: Tensor,
    noise_key: Tensor,
    size_px: int,
) -> None:
    rows, bands = len(place), stored.shape[1]
    _expect("place", place, (rows,), torch.int64, stored)
    _expect("affine", affine, (rows, 2, 3), torch.float64, stored)
    _expect("gain", gain, (rows, bands), torch.float64, stored)
    _expect("taps", taps, (rows, bands, taps.shape[-1]), torch.float64, stored)
    _expect("noise_sigma", noise_sigma, (rows, bands), torch.float64, stored)
    _expect("noise_key", noise_key, (rows, 2), torch.int64, stored)
    if not 1 <= taps.shape[-1] <= size_px:
        raise AugmentError(
            f"render: expected 1 to {size_px} taps, as a view has pixels a side, got {taps.shape[-1]}; "
            "make the plan for views of this size"
        )


def _expect(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, stored: Tensor) -> None:
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise AugmentError(
            f"render: expected {name} of shape {shape} and {dtype} for stamps of {tuple(stored.shape[:2])}, got "
            f"{tuple(tensor.shape)} and {tensor.dtype}; pass the plan and the dither of this batch and its bands"
        )
    if tensor.device != stored.device:
        raise AugmentError(
            f"render: expected {name} where the stamps are, {stored.device}, got {tensor.device}; pass plan.to(device)"
        )
