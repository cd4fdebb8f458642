"""The noise that is left of a native pixel's once the stamp was registered, resampled and blurred.

Each step averages neighbouring pixels, so it makes white noise smaller and correlated. Along one axis the noise of a
view has the autocorrelation R (native white noise: 1 at lag 0) after registration and resampling, of which the blur's
weights w leave sum_jk w_j w_k R(j - k). Both axes do the same, so that sum, a ratio of variances along one axis, is
the ratio of rms in two.

It is a mean over the phase between the pixel grids, as if the axes of stamp and view were parallel. Noise sent through
all three steps agreed within 0.5 % at 0, 17, 30 and 45 degrees; one object's own phase makes its noise 4 to 11 % other.
"""

import functools
import math

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from .blur import weights

_LANCZOS_ORDER = 3
_SPLINE_REACH_PX = 2  # of the bilinear step's autocorrelation
_PHASES = 1000


def noise_left(
    blur_sigma_px: Float64[Tensor, "batch band"],
    scale: Float64[Tensor, " batch"],
    interpolated: Bool[Tensor, " batch"],
) -> Float64[Tensor, "batch band"]:
    """Rms a pixel of the view over that of a native pixel, for a gain of 1.

    ``interpolated`` says whether the view's pixels fall between the stamp's: only then does the bilinear step smooth.
    """
    reach = 2 * _LANCZOS_ORDER + _SPLINE_REACH_PX
    lag = torch.arange(1 + math.ceil(reach * float(scale.max())), dtype=torch.float64)
    half = weights(blur_sigma_px, len(lag) + math.ceil(6.0 * float(blur_sigma_px.max())))
    kernel = torch.cat([half.flip(-1)[..., :-1], half], dim=-1)
    overlap = torch.stack([_overlap(kernel, each) for each in range(len(lag))], dim=-1)
    resampled = _after_resampling(lag / scale[:, None])
    correlation = torch.where(interpolated[:, None], resampled, _after_registration(lag))
    correlation[:, 1:] *= 2.0  # a lag to either side
    return (overlap * correlation[:, None, :]).sum(dim=-1)


def _overlap(kernel: Float64[Tensor, "batch band n"], lag: int) -> Float64[Tensor, "batch band"]:
    return (kernel[..., lag:] * kernel[..., : kernel.shape[-1] - lag]).sum(dim=-1)


def _after_registration(lag_px: Float64[Tensor, " lag"]) -> Float64[Tensor, " lag"]:
    """R at whole lags between the stamp's own pixels: what Lanczos-3 leaves."""
    table = torch.from_numpy(_lanczos_autocorrelation())
    return torch.cat([table, torch.zeros_like(lag_px)])[: len(lag_px)]


def _after_resampling(lag_px: Float64[Tensor, "batch lag"]) -> Float64[Tensor, "batch lag"]:
    """R at any lag [stamp pixels] after bilinear interpolation, whose own autocorrelation is the cubic B-spline."""
    table = torch.from_numpy(_lanczos_autocorrelation())
    whole = torch.arange(1 - len(table), len(table))
    distance = (lag_px[..., None] - whole).abs()
    near = 2.0 / 3.0 - distance**2 + 0.5 * distance**3
    far = (2.0 - distance).clamp(min=0.0) ** 3 / 6.0
    return torch.where(distance < 1.0, near, far) @ table[whole.abs()]


@functools.cache
def _lanczos_autocorrelation() -> Float64[np.ndarray, " lag"]:
    """Mean over the phase of sum_k w_k w_(k + lag), the Lanczos-3 weights normalised to a sum of 1 at each phase."""
    phase = (np.arange(_PHASES) + 0.5) / _PHASES
    distance = np.arange(1 - _LANCZOS_ORDER, 1 + _LANCZOS_ORDER) - phase[:, None]
    tap = np.sinc(distance) * np.sinc(distance / _LANCZOS_ORDER)
    tap /= tap.sum(axis=1, keepdims=True)
    size = tap.shape[1]
    return np.array([(tap[:, lag:] * tap[:, : size - lag]).sum(axis=1).mean() for lag in range(size)])
