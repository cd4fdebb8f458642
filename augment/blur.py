"""Gaussian blur with a width of its own for every image and band.

The weights are a Gaussian integrated over each pixel (sampled at pixel centres it is wrong below half a pixel), whose
width is chosen so that the variance of the weights is exactly the one asked for: integrating adds 1/12 px^2, which is
taken off. So second moments add exactly, whatever the width. Beyond an edge the image is mirrored about the centre of
its edge pixels.
"""

import functools

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

_TABLE_END_PX = 1.0  # above it, variance = width^2 + 1/12 to 1e-7


def blur(
    images: Float[Tensor, "batch band y x"], sigma_px: Float64[Tensor, "batch band"]
) -> Float[Tensor, "batch band y x"]:
    """Each band convolved with its own Gaussian of ``sigma_px`` >= 0 (rms per axis); 0 gives the image bit for bit.

    A pixel that is not finite would spread over its whole row and column: fill it before.
    """
    height, width = images.shape[2:]
    rows = _matrix(sigma_px, height, images)
    columns = rows if width == height else _matrix(sigma_px, width, images)
    return rows @ images @ columns.transpose(-1, -2)


def weights(sigma_px: Float64[Tensor, "batch band"], count: int) -> Float64[Tensor, "batch band {count}"]:
    """The kernel along one axis at distances 0, 1, ... count - 1 px: half of a symmetric one of variance sigma^2."""
    width = _integrated_width(sigma_px)[..., None] * 2.0**0.5
    edge = torch.arange(count + 1, dtype=torch.float64) - 0.5
    return 0.5 * (torch.erf(edge[1:] / width) - torch.erf(edge[:-1] / width))


def _integrated_width(sigma_px: Float64[Tensor, "batch band"]) -> Float64[Tensor, "batch band"]:
    """Width of the Gaussian that, integrated over pixels, has the variance sigma^2."""
    width, rms = _width_table()
    small = torch.from_numpy(np.interp(sigma_px.numpy(), rms, width))
    large = torch.sqrt((sigma_px**2 - 1.0 / 12.0).clamp(min=0.0))
    return torch.where(sigma_px < _TABLE_END_PX, small, large)


@functools.cache
def _width_table() -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Widths [px] and the rms of the pixel weights that each gives."""
    width = torch.linspace(0.0, 1.2 * _TABLE_END_PX, 4801, dtype=torch.float64)
    edge = torch.arange(12, dtype=torch.float64) + 0.5
    # The sum of d^2 w_d over both sides, by parts: (2 d - 1) times the weight beyond d - 1/2, for d = 1, 2, ...
    variance = torch.special.erfc(edge / (width[:, None] * 2.0**0.5)) @ (2.0 * edge)
    return width.numpy(), variance.sqrt().numpy()


def _matrix(sigma_px: Float64[Tensor, "batch band"], side: int, like: Tensor) -> Float[Tensor, "batch band side side"]:
    """The blur along one axis as a matrix: row i holds what pixel i takes from each pixel, mirror images included."""
    taps = weights(sigma_px, side)
    taps = taps / (2.0 * taps.sum(dim=-1, keepdim=True) - taps[..., :1])  # a very wide kernel does not end inside
    return (taps.to(like) @ _places(side).to(like)).reshape(*taps.shape[:2], side, side)


@functools.cache
def _places(side: int) -> Float[Tensor, "distance pixels"]:
    """For each distance, the (to, from) pairs of pixels that lie so far apart, directly or by a mirror image."""
    place = torch.zeros(side, side, side)
    to = torch.arange(side)
    for distance in range(side):
        for source in {-distance, distance}:
            folded = (side - 1) - ((to + source) % (2 * (side - 1)) - (side - 1)).abs()
            place[distance, to, folded] += 1.0
    return place.flatten(1)
