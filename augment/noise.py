"""White Gaussian noise that belongs to a view: a function of its key, not of a generator's state.

A plane (one band of a view) of P = y * x values is made of N = ceil(P / 4) Philox blocks: block b of band c, keyed by
the view, has the counter (b, c, 0, 0), and its four normals are the values b, b + N, b + 2 N, b + 3 N of the plane in
C order. Two words w, v make two normals, by Box and Muller: sqrt(-2 ln((w + 1/2) / 2^32)) times the cosine and the sine
of 2 pi v / 2^32.
"""

import math

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from .philox import philox4x32


def add_noise(
    images: Float[Tensor, "row band y x"],
    sigma: Float[Tensor, "row band"],
    key: Int64[Tensor, "row 2"],
) -> Float[Tensor, "row band y x"]:
    """``images`` plus independent normals of ``sigma`` >= 0 [unit of the images]; variances add, NaN stays NaN."""
    field = standard_normal(key.to(images.device), images.shape[1:])
    scale = sigma.to(device=images.device, dtype=images.dtype)
    return torch.addcmul(images, field.to(images.dtype), scale[:, :, None, None])


def standard_normal(key: Int64[Tensor, "row 2"], shape: torch.Size) -> Float32[Tensor, "row ..."]:
    """Independent standard normals of ``shape`` (band, y, x) for each key."""
    bands, pixels = shape[0], math.prod(shape[1:])
    block = torch.arange(-(-pixels // 4), device=key.device)
    band = torch.arange(bands, device=key.device)[:, None]
    zero = torch.zeros_like(block)
    words = philox4x32((block, band, zero, zero), (key[:, :1, None], key[:, 1:, None]))
    field = torch.empty(len(key), bands, 4, len(block), device=key.device)
    for lane in (0, 2):
        # log of (word + 1/2) / 2^32, never of zero; the largest words round to log(1) = 0 in float32.
        radius = words[lane].float().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
        angle = words[lane + 1].float().mul_(2.0 * math.pi * 2.0**-32)
        torch.mul(angle.cos(), radius, out=field[:, :, lane])
        torch.mul(angle.sin_(), radius, out=field[:, :, lane + 1])
    return field.flatten(2)[:, :, :pixels].reshape(len(key), *shape)
