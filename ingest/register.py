"""Put stamps of many objects onto their own grids, out of one frame: the resampling that SWarp does.

A stamp is a gnomonic projection centred on its object (centre of pixel 53, 53 of 107), north up, east left, 0.396
arcsec. Over a stamp, the way from stamp to frame pixels is affine to 1e-8 px, so one affine fit an object replaces the
WCS of every pixel. Interpolation is Lanczos-3, normalised, times the ratio of pixel areas: flux is conserved. A pixel
is covered where the whole 6 x 6 kernel lies in the frame; others are NaN.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

SIZE = 107  # pixels on a side
CENTRE = 53  # the object's pixel, on both axes
SCALE_ARCSEC = 0.396

Float64s = npt.NDArray[np.float64]


def affine_fits(wcs: Any, ra_deg: Float64s, dec_deg: Float64s) -> tuple[Float64s, Float64s]:
    """Where each object lies in the frame, and how its stamp's axes do.

    Returns the frame position (object, (x, y)) and the matrix (object, 2, 2) that takes stamp offsets (dx, dy) in
    pixels to frame offsets: central differences over the stamp, so the error is of third order.
    """
    step = float(CENTRE)
    offsets = np.array([(0, 0), (step, 0), (-step, 0), (0, step), (0, -step)])
    ra, dec = stamp_to_sky(ra_deg[:, None], dec_deg[:, None], offsets[None, :, 0], offsets[None, :, 1])
    x, y = wcs.wcs_world2pix(ra.ravel(), dec.ravel(), 0)
    points = np.stack([x, y], axis=-1).reshape(len(ra_deg), len(offsets), 2)
    along_x = (points[:, 1] - points[:, 2]) / (2 * step)
    along_y = (points[:, 3] - points[:, 4]) / (2 * step)
    return points[:, 0], np.stack([along_x, along_y], axis=-1)


def stamp_to_sky(ra_deg: Float64s, dec_deg: Float64s, dx: Float64s, dy: Float64s) -> tuple[Float64s, Float64s]:
    """Sky position [deg] of stamp offsets [pixel]: the inverse gnomonic projection about each object, +x is west."""
    scale = np.deg2rad(SCALE_ARCSEC / 3600)
    xi, eta = -dx * scale, dy * scale
    ra, dec = np.deg2rad(ra_deg), np.deg2rad(dec_deg)
    depth = np.cos(dec) - eta * np.sin(dec)  # towards the object's meridian
    alpha = ra + np.arctan2(xi, depth)
    delta = np.arctan2(np.sin(dec) + eta * np.cos(dec), np.hypot(xi, depth))
    return np.rad2deg(alpha) % 360, np.rad2deg(delta)


# Tap k of the kernel lies at t = f + 2 - k from a position f past tap 2. Its weight sinc(t) sinc(t/3) is, but for
# factors that all taps share, (-1)^k sin(pi t / 3) / t^2; the sine of the sum needs one sine and one cosine for all.
_TAP_SIN = np.array([(-1) ** k * np.sin(np.pi * (2 - k) / 3) for k in range(6)])
_TAP_COS = np.array([(-1) ** k * np.cos(np.pi * (2 - k) / 3) for k in range(6)])


@njit(cache=True, nogil=True)
def _lanczos3(fraction: float, weights: Float64s) -> None:
    """Weights of the six samples at -2..3 around a position ``fraction`` past sample 0; they add up to 1."""
    sine, cosine = np.sin(np.pi * fraction / 3), np.cos(np.pi * fraction / 3)
    total = 0.0
    for tap in range(6):
        t = fraction + 2.0 - tap
        if abs(t) < 1e-9:  # on a sample: the kernel is 1 there and 0 at the others
            weights[:] = 0.0
            weights[tap] = 1.0
            return
        weights[tap] = (sine * _TAP_COS[tap] + cosine * _TAP_SIN[tap]) / (t * t)
        total += weights[tap]
    for tap in range(6):
        weights[tap] /= total


@njit(cache=True, nogil=True)
def resample(image: npt.NDArray[np.float32], centre: Float64s, matrix: Float64s, out: npt.NDArray[np.float32]) -> None:
    """Fill ``out`` (object, 107, 107) from ``image`` (y, x) by `affine_fits`; uncovered pixels become NaN."""
    height, width = image.shape
    wx, wy = np.empty(6), np.empty(6)
    for n in range(out.shape[0]):
        area = abs(matrix[n, 0, 0] * matrix[n, 1, 1] - matrix[n, 0, 1] * matrix[n, 1, 0])
        for j in range(SIZE):
            for i in range(SIZE):
                dx, dy = i - CENTRE, j - CENTRE
                x = centre[n, 0] + matrix[n, 0, 0] * dx + matrix[n, 0, 1] * dy
                y = centre[n, 1] + matrix[n, 1, 0] * dx + matrix[n, 1, 1] * dy
                left, low = int(np.floor(x)) - 2, int(np.floor(y)) - 2
                if not (left >= 0 and low >= 0 and left + 6 <= width and low + 6 <= height):
                    out[n, j, i] = np.nan
                    continue
                _lanczos3(x - (left + 2), wx)
                _lanczos3(y - (low + 2), wy)
                total = 0.0
                for b in range(6):
                    row = 0.0
                    for a in range(6):
                        row += wx[a] * image[low + b, left + a]
                    total += wy[b] * row
                out[n, j, i] = area * total
