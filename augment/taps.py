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
from .elementary import erf, sqrt

# Weights end where less than this is left of the total, both sides together: float32's own rounding.
_REST = 2.0**-24
_REACH_WIDTHS = 5.5  # of a Gaussian, beyond which less than that is left
_SQRT_2 = 2.0**0.5
_NO_WIDTH_PX = 1e-3  # so narrow a Gaussian lies within its pixel
_LEAST_VARIANCE_PX2 = 1e-9
_TABLE_END_PX = 1.0  # above it, variance = width^2 + 1/12 to 1e-7


def blur_taps(sigma_px: Float64[Tensor, "row band"], size_px: int) -> Float64[Tensor, "row band reach"]:
    """Weights at the distances 0, 1, ... px along an axis, for each ``sigma_px`` >= 0 (rms per axis).

    They are half of a symmetric kernel whose total is 1 (the first counts once, the others twice). The widest one
    says how many there are; the others end in zeros. A width of 0 is the one weight 1. None reaches beyond
    ``size_px`` - 1, the other side of the view.
    """
    width = _integrated_width(sigma_px)
    longest = math.ceil(_REACH_WIDTHS * float(width.max())) + 2 if len(width) else 1
    # Of the total, what lies within 1/2, 3/2, ... px on both sides.
    half = torch.arange(min(size_px, longest), dtype=torch.float64) + 0.5
    within = erf(half / (_SQRT_2 * width[..., None].clamp(min=_NO_WIDTH_PX)))
    taps = np.zeros(within.shape)
    reach = _fill(within.numpy(), taps)
    return torch.from_numpy(np.ascontiguousarray(taps[..., :reach]))


@compiled
@no_type_check
def _fill(within, taps):  # (row, band, side), (row, band, side) -> int
    """From what lies within each distance to the weights; returns how many the widest kernel has."""
    longest = 1
    for row in range(taps.shape[0]):
        for band in range(taps.shape[1]):
            inside, kernel = within[row, band], taps[row, band]
            count = 1
            while 1.0 - inside[count - 1] > _REST and count < kernel.size:
                count += 1
            total = inside[count - 1]  # what lies beyond the end is left out
            kernel[0] = inside[0] / total
            for distance in range(1, count):
                kernel[distance] = 0.5 * (inside[distance] - inside[distance - 1]) / total
            longest = max(longest, count)
    return longest


def _integrated_width(sigma_px: Float64[Tensor, "row band"]) -> Float64[Tensor, "row band"]:
    """Width of the Gaussian that, integrated over pixels, has the variance sigma^2."""
    width, rms = _width_table()
    after = torch.searchsorted(rms, sigma_px.contiguous()).clamp(1, len(rms) - 1)
    share = (sigma_px - rms[after - 1]) / (rms[after] - rms[after - 1])
    small = width[after - 1] + share * (width[after] - width[after - 1])
    large = sqrt((sigma_px * sigma_px - 1.0 / 12.0).clamp(min=0.0))
    return torch.where(sigma_px < _TABLE_END_PX, small, large)


@functools.cache
def _width_table() -> tuple[Float64[Tensor, " n"], Float64[Tensor, " n"]]:
    """Widths [px] and the rms of the pixel weights that each gives."""
    width = torch.arange(4801, dtype=torch.float64) / 4000.0
    # The sum of d^2 w_d over both sides, by parts: (2 d - 1) times the weight beyond d - 1/2, for d = 1, 2, ...
    variance = torch.zeros_like(width)
    for edge in range(12):
        beyond = 1.0 - erf((edge + 0.5) / (_SQRT_2 * width.clamp(min=_NO_WIDTH_PX)))
        variance = variance + (2.0 * edge + 1.0) * beyond
    variance[0] = 0.0
    # Below, rounding is seen; there the width is interpolated from 0.
    known = (variance > _LEAST_VARIANCE_PX2) | (width == 0.0)
    return width[known], sqrt(variance[known])
