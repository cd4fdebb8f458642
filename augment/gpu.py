"""The body of `skymill::render` on a GPU: makes the output and launches the kernel of `triton_kernel`.

It follows its tensors: in Triton's interpreter it runs on those in host memory. Nothing is moved to the host, which
does not wait.
"""

from types import ModuleType

import torch
from torch import Tensor

from .checks import check
from .errors import AugmentError

_LARGEST_PX = 128  # of a view: the tile, and the matrices that blur it, lie in one multiprocessor
_WARPS = {16: 2, 32: 4, 64: 4, 128: 16}  # by the side of the tile: few registers spill, and two programs share an SM


def render(
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
) -> Tensor:
    """The body of the operator on a GPU; what the arguments are is `checks`' to say.

    A row whose place is no stamp is NaN. AugmentError where the arguments do not fit together, without Triton, and for
    views of more than 128 pixels a side.
    """
    check(stored, objid, step, place, affine, gain, taps, noise_sigma, noise_key, size_px, dtype, channels_last)
    kernel = _kernel()
    if size_px > _LARGEST_PX:
        raise AugmentError(
            f"gpu: expected views of at most {_LARGEST_PX} pixels a side, got {size_px}; ask for smaller ones, or make "
            "them on the CPU"
        )
    (stamps, bands, height, width), rows = stored.shape, len(place)
    order = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty((rows, bands, size_px, size_px), dtype=dtype, device=stored.device, memory_format=order)
    if rows == 0 or stamps == 0:
        return out.fill_(torch.nan)
    views = rows // stamps if rows % stamps == 0 else 1
    side = max(16, 1 << (size_px - 1).bit_length())
    dither = (each if each is None else each.contiguous() for each in (objid, step))
    per_row = (each.contiguous() for each in (place, affine, gain, taps.float(), noise_sigma, noise_key))
    with torch.cuda.device_of(out):  # type: ignore[no-untyped-call]  # torch's
        kernel.render_plane[(rows * bands,)](
            out, stored.contiguous(), *dither, *per_row, stamps, rows, views, taps.shape[-1], *out.stride(),
            BANDS=bands, HEIGHT=height, WIDTH=width, SIZE=size_px, SIDE=side,
            num_warps=_WARPS[side], num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip
    return out


def _kernel() -> ModuleType:
    try:
        from . import triton_kernel
    except ModuleNotFoundError as err:
        if err.name != "triton":
            raise
        raise AugmentError("gpu: views on a GPU need Triton, which is not installed; pip install triton") from err
    return triton_kernel
