"""`skymill::render`, the operator that makes views from stored stamps in one pass, and how it is called.

Its bodies are `cpu` (compiled, on our own threads) and `gpu` (Triton); what they compute is stated by `reference`.
It is opaque to torch.compile, which sees its shapes, and autocast leaves it alone. It has no gradient: nothing that
is learnt lies before a view.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor

from . import cpu, gpu
from .plan import Plan


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
    out: Tensor = torch.ops.skymill.render(
        stored.detach(),
        None if dither is None else dither.objid,
        None if dither is None else dither.step,
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


_operator = torch.library.custom_op("skymill::render", cpu.render, mutates_args=(), device_types="cpu")
_operator.register_kernel("cuda", gpu.render)


@_operator.register_fake
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
    """What comes of it, without making it."""
    shape = place.shape[0], stored.shape[1], size_px, size_px
    order = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=stored.device, memory_format=order)
