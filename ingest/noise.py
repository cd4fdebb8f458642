"""What the pixels are worth: robust noise of the native frame around an object, and of its stamp.

The two differ: resampling smooths, so the sigma of a stamp is 0.79 to 1.0 of the frame's, and its noise is correlated.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
from numba import njit

HALF_WINDOW_PX = 53
_ROW_STEP = 4
_CLIP = 3.0
_CLIPPED_STD = 0.98658  # standard deviation of a unit normal cut at 3 sigma
_MAD_TO_SIGMA = 1.4826
_jit = partial(njit, cache=True, nogil=True, error_model="numpy")

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


@_jit
def sky_sigma(image: Float32s, first_row: int, centre: Float64s, out: Float64s) -> None:
    """White-equivalent noise [nanomaggy / pixel] of the frame around each object: ``out`` (object,).

    From differences of neighbouring columns, on every fourth row, clipped at 3 sigma: objects and sky gradients drop
    out. A median alone will not do: frames are quantised in steps of a fifth of the noise. NaN where no frame is.
    ``image`` (y, x) begins with row ``first_row`` of the frame; ``centre`` is (object, (x, y)).
    """
    height, width = image.shape
    found = np.empty((2 * HALF_WINDOW_PX + 1) ** 2, dtype=np.float64)
    for n in range(len(centre)):
        x, y = centre[n, 0], centre[n, 1] - first_row
        out[n] = np.nan
        if not (-HALF_WINDOW_PX <= x <= width + HALF_WINDOW_PX and -HALF_WINDOW_PX <= y <= height + HALF_WINDOW_PX):
            continue  # true for NaN
        left, low = int(np.rint(x)) - HALF_WINDOW_PX, int(np.rint(y)) - HALF_WINDOW_PX
        count = 0
        for row in range(max(low, 0), min(low + 2 * HALF_WINDOW_PX + 1, height), _ROW_STEP):
            for column in range(max(left, 0), min(left + 2 * HALF_WINDOW_PX + 1, width) - 1):
                step = np.float64(image[row, column + 1]) - np.float64(image[row, column])
                if np.isfinite(step):
                    found[count] = abs(step)
                    count += 1
        if count:
            out[n] = _clipped_rms(found[:count]) / np.sqrt(2.0)


@_jit
def _clipped_rms(deviations: Float64s) -> float:
    """Standard deviation of a normal from absolute deviations, those beyond 3 sigma left out; reorders its input."""
    sigma = _MAD_TO_SIGMA * _ranked(deviations, len(deviations) // 2)
    for _ in range(3):
        total, kept = 0.0, 0
        for value in deviations:
            if value <= _CLIP * sigma:
                total += value * value
                kept += 1
        sigma = np.sqrt(total / kept) / _CLIPPED_STD
    return float(sigma)


@_jit
def stamp_sigma(stamps: Float32s, out: Float64s) -> None:
    """Robust sigma, 1.4826 x median absolute deviation, of stamps (n, y, x) [nanomaggy / pixel]: ``out`` (n,).

    Over the finite pixels; of an even number the upper middle one counts as the median. NaN where there is none.
    """
    values = np.empty(stamps.shape[1] * stamps.shape[2], dtype=np.float32)
    few = np.empty(len(values), dtype=np.float64)
    for n in range(len(stamps)):
        count = 0
        for pixel in stamps[n].flat:
            if np.isfinite(pixel):
                values[count] = pixel
                count += 1
        if count == 0:
            out[n] = np.nan
            continue
        median = np.float32(_middle_of_many(values[:count], few))
        for i in range(count):
            values[i] = abs(values[i] - median)
        out[n] = _MAD_TO_SIGMA * _middle_of_many(values[:count], few)


@_jit
def _middle_of_many(values: Float32s, few: Float64s) -> float:
    """The element of rank n // 2. The order of floats is that of their bits, once the negative ones are turned round:
    a histogram of the upper 11 tells which few to select from.
    """
    counts = np.zeros(2048, dtype=np.int64)
    bits = values.view(np.int32)
    for word in bits:
        counts[((word ^ ((word >> 31) & 0x7FFFFFFF)) >> 21) + 1024] += 1
    rank, chosen = len(values) // 2, 0
    while rank >= counts[chosen]:
        rank -= counts[chosen]
        chosen += 1
    found = 0
    for i in range(len(bits)):
        if ((bits[i] ^ ((bits[i] >> 31) & 0x7FFFFFFF)) >> 21) + 1024 == chosen:
            few[found] = values[i]
            found += 1
    return float(_ranked(few[:found], rank))


@_jit
def _ranked(values: Float64s, rank: int) -> float:
    """The element of a rank; reorders ``values``. Hoare's selection (1961, CACM 4, 321), median of three."""
    low, high = 0, len(values) - 1
    while low < high:
        a, b, c = values[low], values[(low + high) // 2], values[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return float(values[rank])
