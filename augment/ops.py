"""`skymill::render`, the operator that makes views from stored stamps in one pass, and how it is called.

Its bodies are `cpu` (compiled, on our own threads) and `gpu` (Triton); what they compute is stated by `reference`.
It is opaque to torch.compile, which sees its shapes, and autocast leaves it alone. It has no gradient: nothing that
is learnt lies before a view.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor

from .errors import AugmentError
from .plan import Plan

_STORED = (torch.float32, torch.float16, torch.int16)
_WRITTEN = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Dither:
    """What int16 stamps are decoded with: x = (q + (1/2 - u)) step, u a hash of objid and pixel (see `sharding`)."""

    objid: Int64[Tensor, " batch"]
    step: Float32[Tensor, "batch band"]  # [nanomaggy / pixel]


def render(
    stored: Shaped[Tensor, "batch band y x"],
    plan: Plan,
    *,
    dither: Dither | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Float[Tensor, "row band n n"]:
    """The rows of a plan, from stamps as they are stored: float32, float16, or int16 with their ``dither``.

    Everything lies on one device. The rows are float32 or bfloat16, in C order or in torch's channels-last one. A
    view pixel to which stamp pixels that are not finite contribute is NaN, and no other one is.
    AugmentError for what does not fit together.
    """
    _check(stored, plan, dither, dtype)
    out: Tensor = torch.ops.skymill.render(
        stored.contiguous(),
        None if dither is None else dither.objid.contiguous(),
        None if dither is None else dither.step.contiguous(),
        plan.place,
        plan.affine,
        plan.gain,
        plan.taps,
        plan.noise_sigma,
        plan.noise_key,
        plan.size_px,
        dtype,
        channels_last,
    )
    return out


@torch.library.custom_op("skymill::render", mutates_args=(), device_types="cpu")
def _render(
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
    from . import cpu

    return cpu.render(
        stored, objid, step, place, affine, gain, taps, noise_sigma, noise_key, size_px, dtype, channels_last
    )


@_render.register_kernel("cuda")
def _on_cuda(
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
    from . import gpu

    return gpu.render(
        stored, objid, step, place, affine, gain, taps, noise_sigma, noise_key, size_px, dtype, channels_last
    )


@_render.register_fake
def _shape(
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
    shape = place.shape[0], stored.shape[1], size_px, size_px
    order = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=stored.device, memory_format=order)


def _check(stored: Tensor, plan: Plan, dither: Dither | None, dtype: torch.dtype) -> None:
    """The bodies index by these numbers: none may lead out of a tensor."""
    if stored.ndim != 4 or min(stored.shape[2:]) < 2:
        raise AugmentError(
            f"render: expected stamps (batch, band, y, x) of at least 2 x 2 pixels, got shape {tuple(stored.shape)}"
        )
    if stored.dtype not in _STORED or dtype not in _WRITTEN:
        raise AugmentError(
            "render: expected float32, float16 or int16 stamps and float32 or bfloat16 views, got "
            f"{stored.dtype} and {dtype}; convert the stamps before or the views after"
        )
    if (stored.dtype == torch.int16) != (dither is not None):
        raise AugmentError(
            f"render: expected a dither with int16 stamps and with no others, got {stored.dtype} "
            f"{'with' if dither else 'without'} one; pass what the reader gives"
        )
    if dither is not None and (dither.objid.shape, dither.step.shape) != (stored.shape[:1], stored.shape[:2]):
        raise AugmentError(
            f"render: expected one objid a stamp and one step a stamp and band of {tuple(stored.shape[:2])}, got "
            f"{tuple(dither.objid.shape)} and {tuple(dither.step.shape)}; pass those of this batch"
        )
    _check_plan(stored, plan)


def _check_plan(stored: Tensor, plan: Plan) -> None:
    rows, (batch, bands) = len(plan.place), stored.shape[:2]
    if plan.gain.shape != (rows, bands):
        raise AugmentError(
            f"render: expected a plan for {bands} bands, as the stamps have, got one for {plan.gain.shape[1]}; "
            "name the bands of the stamps when the plan is made"
        )
    if plan.place.device != stored.device:
        raise AugmentError(
            f"render: expected the plan where the stamps are, {stored.device}, got {plan.place.device}; "
            "pass plan.to(device)"
        )
    # On an accelerator looking would make the host wait: there, the row of a place that does not exist is NaN.
    if rows and plan.place.device.type == "cpu" and not 0 <= int(plan.place.min()) <= int(plan.place.max()) < batch:
        raise AugmentError(
            f"render: expected places 0 to {batch - 1}, as there are stamps, got {int(plan.place.min())} to "
            f"{int(plan.place.max())}"
        )
