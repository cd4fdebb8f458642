"""The blur's weights: a Gaussian integrated over each pixel, of exactly the width asked for.

Sampled at pixel centres, a Gaussian is wrong below half a pixel. Integrated over the pixels it has the variance
width^2 + 1/12 px^2 (that of a pixel is 1/12, Sheppard's correction), less below half a pixel; so the width is chosen
such that the variance of the weights is the one asked for. Second moments then add exactly, whatever the width.
"""

import functools
import math
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from .compiled import compiled
from .elementary import sqrt

# Weights end where less than this is left of the total, both sides together: float32's own rounding.
_REST = 2.0**-24
_TABLE_END_PX = 1.0  # above it, variance = width^2 + 1/12 to 1e-7


def blur_taps(sigma_px: Float64[Tensor, "row band"], size_px: int) -> Float64[Tensor, "row band reach"]:
    """Weights at the distances 0, 1, ... px along an axis, for each ``sigma_px`` >= 0 (rms per axis).

    They are half of a symmetric kernel whose total is 1 (the first counts once, the others twice). The widest one
    says how many there are; the others end in zeros. A width of 0 is the one weight 1. None reaches beyond
    ``size_px`` - 1, the other side of the view.
    """
    width = _integrated_width(sigma_px).numpy()
    taps = np.zeros((*sigma_px.shape, size_px))
    reach = _fill(np.ascontiguousarray(width), taps)
    return torch.from_numpy(np.ascontiguousarray(taps[..., :reach]))


@compiled
@no_type_check
def _fill(width, taps):  # (row, band), (row, band, side) -> int
    """Integrate each Gaussian; returns how many weights the widest one has."""
    longest = 1
    for row in range(width.shape[0]):
        for band in range(width.shape[1]):
            kernel = taps[row, band]
            kernel[0] = 1.0
            if width[row, band] == 0.0:
                continue
            unit = 1.0 / (width[row, band] * math.sqrt(2.0))
            inside = math.erf(0.5 * unit)  # within so many pixels and a half, on both sides
            kernel[0] = inside
            count = 1
            while 1.0 - inside > _REST and count < kernel.size:
                further = math.erf((count + 0.5) * unit)
                kernel[count] = 0.5 * (further - inside)
                inside, count = further, count + 1
            kernel[:count] /= inside  # what lies beyond the end
            longest = max(longest, count)
    return longest


def _integrated_width(sigma_px: Float64[Tensor, "row band"]) -> Float64[Tensor, "row band"]:
    """Width of the Gaussian that, integrated over pixels, has the variance sigma^2."""
    width, rms = _width_table()
    small = torch.from_numpy(np.interp(sigma_px.numpy(), rms, width))
    large = sqrt((sigma_px * sigma_px - 1.0 / 12.0).clamp(min=0.0))
    return torch.where(sigma_px < _TABLE_END_PX, small, large)


@functools.cache
def _width_table() -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Widths [px] and the rms of the pixel weights that each gives."""
    width = torch.linspace(0.0, 1.2 * _TABLE_END_PX, 4801, dtype=torch.float64)
    edge = torch.arange(12, dtype=torch.float64) + 0.5
    # The sum of d^2 w_d over both sides, by parts: (2 d - 1) times the weight beyond d - 1/2, for d = 1, 2, ...
    variance = torch.special.erfc(edge / (width[:, None] * 2.0**0.5)) @ (2.0 * edge)
    return width.numpy(), variance.sqrt().numpy()
