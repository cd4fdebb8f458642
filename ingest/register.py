"""Put stamps of many objects onto their own grids, out of one frame: the resampling that SWarp does.

A stamp is a gnomonic projection centred on its object (centre of pixel 53, 53 of 107), north up, east left, 0.396
arcsec. Over a stamp, the way from stamp to frame pixels is affine to 1e-8 px, so one affine fit an object replaces the
WCS of every pixel. Interpolation is Lanczos-3, normalised, times the ratio of pixel areas: flux is conserved. A pixel
is covered where the whole 6 x 6 kernel lies in the frame; others are NaN.
"""

import math
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from .columns import LANES, sum_columns

SIZE = 107  # pixels on a side
CENTRE = 53  # the object's pixel, on both axes
SCALE_ARCSEC = 0.396
KERNEL_REACH = 3  # rows beyond a pixel that Lanczos-3 touches
REVISION = 2  # of the resampling: what changes a bit of a stamp changes this

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


def reach(wcs: Any, ra_deg: Float64s, dec_deg: Float64s) -> tuple[Float64s, Float64s]:
    """The lowest and highest row of the frame that each object's stamp needs, kernel included: (object,), (object,)."""
    centre, matrix = affine_fits(wcs, ra_deg, dec_deg)
    return rows_needed(centre, matrix)


def rows_needed(centre: Float64s, matrix: Float64s) -> tuple[Float64s, Float64s]:
    """The same from `affine_fits`."""
    half = CENTRE * np.abs(matrix[:, 1]).sum(axis=1)
    return centre[:, 1] - half - KERNEL_REACH, centre[:, 1] + half + KERNEL_REACH


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
# Both are Taylor series, exact to the last bit but one on [0, 1]: libraries differ between machines, sums do not.
_SIN = tuple((-1) ** n * (math.pi / 3) ** (2 * n + 1) / math.factorial(2 * n + 1) for n in range(10))
_COS = tuple((-1) ** n * (math.pi / 3) ** (2 * n) / math.factorial(2 * n) for n in range(10))
_TAP_SIN = tuple((-1) ** k * math.sin(math.pi * (2 - k) / 3) for k in range(6))
_TAP_COS = tuple((-1) ** k * math.cos(math.pi * (2 - k) / 3) for k in range(6))
_ON_SAMPLE = 1e-9  # nearer to a sample than this, 1/t^2 is taken from here: the weights are right to 1e-9
_jit = partial(njit, cache=True, nogil=True, error_model="numpy")  # Python's checks for 1/0 keep loops from vectorising


@_jit
def _numerator(k: int, sine: float, cosine: float) -> float:
    return float(sine * _TAP_COS[k] + cosine * _TAP_SIN[k])


@_jit
def _weights(fraction: Float64s, out: Float64s) -> None:
    """Lanczos-3 weights (6, n) of the samples at -2..3 around positions ``fraction`` (n) past sample 0; sums are 1.

    Brought to one denominator, the six take one division: it costs as much as ten products.
    """
    for i in range(len(fraction)):
        f = min(max(fraction[i], _ON_SAMPLE), 1 - _ON_SAMPLE)
        sine, cosine = 0.0, 0.0
        for n in range(9, -1, -1):
            sine = _SIN[n] + f * f * sine
            cosine = _COS[n] + f * f * cosine
        sine *= f
        p, q, r = (f + 2) * (f + 2), (f + 1) * (f + 1), f * f  # t^2 of the taps
        u, v, w = (f - 1) * (f - 1), (f - 2) * (f - 2), (f - 3) * (f - 3)
        pq, uvw, vw, pqr = p * q, u * v * w, v * w, p * q * r
        a = _numerator(0, sine, cosine) * (q * r) * uvw
        b = _numerator(1, sine, cosine) * (p * r) * uvw
        c = _numerator(2, sine, cosine) * pq * uvw
        d = _numerator(3, sine, cosine) * pqr * vw
        e = _numerator(4, sine, cosine) * pqr * (u * w)
        g = _numerator(5, sine, cosine) * pqr * (u * v)
        scale = 1 / (a + b + c + d + e + g)
        out[0, i], out[1, i], out[2, i] = a * scale, b * scale, c * scale
        out[3, i], out[4, i], out[5, i] = d * scale, e * scale, g * scale


@_jit
def resample(
    image: npt.NDArray[np.float32],
    first_row: int,
    centre: Float64s,
    matrix: Float64s,
    out: npt.NDArray[np.float32],
    covered: Float64s,
) -> None:
    """Fill ``out`` (object, 107, 107) from ``image`` (y, x) by `affine_fits`; uncovered pixels become NaN.

    ``covered`` (object,) gets the fraction that is covered. ``first_row`` is the row of the frame that ``image`` begins
    with. A stamp is made row by row: places and weights of a whole row first, in loops that the compiler turns into
    vector instructions. Columns are summed in the pixels' own single precision, good to 3e-7 of the brightest.
    """
    height, width = image.shape
    pixels = image.ravel()
    first, inside = np.empty(SIZE, dtype=np.int64), np.empty(SIZE, dtype=np.bool_)
    right, up, values = np.empty(SIZE), np.empty(SIZE), np.empty(SIZE)
    weights_x, weights_y = np.empty((6, SIZE)), np.empty((6, SIZE))
    down = np.empty(6 * SIZE, dtype=np.float32)
    for n in range(out.shape[0]):
        area = abs(matrix[n, 0, 0] * matrix[n, 1, 1] - matrix[n, 0, 1] * matrix[n, 1, 0])
        along_x, along_y = matrix[n, 0, 0], matrix[n, 1, 0]
        finite = 0
        for j in range(SIZE):
            begin_x = centre[n, 0] + matrix[n, 0, 1] * (j - CENTRE)
            begin_y = centre[n, 1] - first_row + matrix[n, 1, 1] * (j - CENTRE)
            for i in range(SIZE):
                x, y = begin_x + along_x * (i - CENTRE), begin_y + along_y * (i - CENTRE)
                left, low = np.floor(x), np.floor(y)
                right[i], up[i] = x - left, y - low
                inside[i] = (left >= 2.0) & (left <= width - 4.0) & (low >= 2.0) & (low <= height - 4.0)  # not NaN
                first[i] = np.int64((low - 2.0) * width + (left - 2.0))
            _weights(right, weights_x)
            _weights(up, weights_y)
            down[:] = weights_y.ravel()
            if first.max() + 5 * width + LANES <= len(pixels):
                _sum_row(pixels, width, first, inside, weights_x, down, values)
            else:  # in the last corner of the image two of eight lanes would lie outside
                _sum_row_singly(pixels, width, first, inside, weights_x, down, values)
            for i in range(SIZE):
                value = area * values[i]
                finite += np.isfinite(value)
                out[n, j, i] = value if np.isfinite(value) else np.nan
        covered[n] = finite / SIZE**2


@_jit
def _sum_row(
    pixels: npt.NDArray[np.float32],
    width: int,
    first: npt.NDArray[np.int64],
    inside: npt.NDArray[np.bool_],
    weights_x: Float64s,
    weights_y: npt.NDArray[np.float32],
    out: Float64s,
) -> None:
    """A row of a stamp: weighted sums over 6 x 6 samples from the flat indices ``first`` on, NaN where not inside."""
    columns = np.empty(LANES, dtype=np.float32)
    for i in range(SIZE):
        out[i] = np.nan
        if inside[i]:
            sum_columns(
                pixels, np.uint64(first[i]), np.uint64(width), weights_y, np.uint64(i), np.uint64(SIZE), columns
            )
            out[i] = _sum_across(weights_x, i, columns)


@_jit
def _sum_row_singly(
    pixels: npt.NDArray[np.float32],
    width: int,
    first: npt.NDArray[np.int64],
    inside: npt.NDArray[np.bool_],
    weights_x: Float64s,
    weights_y: npt.NDArray[np.float32],
    out: Float64s,
) -> None:
    """The same, bit for bit, without vector instructions."""
    columns = np.zeros(LANES, dtype=np.float32)
    for i in range(SIZE):
        out[i] = np.nan
        if inside[i]:
            for k in range(6):
                total = np.float32(0)
                for row in range(6):
                    total += weights_y[row * SIZE + i] * pixels[first[i] + row * width + k]
                columns[k] = total
            out[i] = _sum_across(weights_x, i, columns)


@_jit
def _sum_across(weights: Float64s, i: int, columns: npt.NDArray[np.float32]) -> float:
    total = weights[0, i] * columns[0] + weights[1, i] * columns[1] + weights[2, i] * columns[2]
    return float(total + weights[3, i] * columns[3] + weights[4, i] * columns[4] + weights[5, i] * columns[5])
