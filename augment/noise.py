"""White Gaussian noise that belongs to a view: a function of its key, not of a generator's state.

The field of one view with P = band * y * x values is made of N = ceil(P / 4) Philox blocks: block b, keyed by the
view, has the counter (b, 0, 0, 0), and its four normals are the values b, b + N, b + 2 N, b + 3 N in C order.
"""

import math

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from .philox import philox4x32


def add_noise(
    images: Float[Tensor, "batch band y x"],
    sigma: Float[Tensor, "batch band"],
    key: Int64[Tensor, "batch 2"],
) -> Float[Tensor, "batch band y x"]:
    """``images`` plus independent normals of ``sigma`` >= 0 [unit of the images]; variances add, NaN stays NaN."""
    field = standard_normal(key.to(images.device), images.shape[1:])
    scale = sigma.to(device=images.device, dtype=images.dtype)
    return torch.addcmul(images, field.to(images.dtype), scale[:, :, None, None])


def standard_normal(key: Int64[Tensor, "batch 2"], shape: torch.Size) -> Float32[Tensor, "batch ..."]:
    """One field of independent standard normals for each key, by Box and Muller on the words of each block."""
    count = math.prod(shape)
    block = torch.arange(-(-count // 4), device=key.device)[None]
    zero = torch.zeros_like(block)
    words = philox4x32((block, zero, zero, zero), (key[:, :1], key[:, 1:]))
    field = torch.empty(len(key), 4, block.shape[1], device=key.device)
    for lane in (0, 2):
        # log of (word + 1/2) / 2^32, never of zero; the largest words round to log(1) = 0 in float32.
        radius = words[lane].float().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
        angle = words[lane + 1].float().mul_(2.0 * math.pi * 2.0**-32)
        torch.mul(angle.cos(), radius, out=field[:, lane])
        torch.mul(angle.sin_(), radius, out=field[:, lane + 1])
    return field.flatten(1)[:, :count].reshape(len(key), *shape)
