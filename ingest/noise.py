"""What the pixels are worth: robust noise of the native frame around an object, and of its stamp."""

import math

import numpy as np
import numpy.typing as npt

HALF_WINDOW_PX = 53
_CLIP = 3.0
_CLIPPED_STD = 0.98658  # standard deviation of a unit normal cut at 3 sigma
_MAD_TO_SIGMA = 1.4826


def sky_sigma(image: npt.NDArray[np.float32], centre: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """White-equivalent noise [nanomaggy / pixel] of the frame around each object: (object,).

    From differences of neighbouring columns, on every fourth row, clipped at 3 sigma: objects and sky gradients drop
    out. A median alone will not do: frames are quantised in steps of a fifth of the noise. NaN where no frame is.
    """
    return np.array([_difference_sigma(_window(image, x, y)) for x, y in centre])


def _window(image: npt.NDArray[np.float32], x: float, y: float) -> npt.NDArray[np.float32]:
    height, width = image.shape
    if not (np.isfinite(x) and np.isfinite(y)):
        return image[:0]
    left, low = (round(value) - HALF_WINDOW_PX for value in (x, y))
    right, high = left + 2 * HALF_WINDOW_PX + 1, low + 2 * HALF_WINDOW_PX + 1
    return image[max(low, 0) : max(min(high, height), 0) : 4, max(left, 0) : max(min(right, width), 0)]


def _difference_sigma(window: npt.NDArray[np.float32]) -> float:
    difference = np.diff(window.astype(np.float64), axis=1).ravel()
    difference = difference[np.isfinite(difference)]
    if difference.size == 0:
        return float("nan")
    sigma = _MAD_TO_SIGMA * float(np.median(np.abs(difference)))
    for _ in range(3):
        kept = difference[np.abs(difference) <= _CLIP * sigma]
        sigma = float(np.sqrt(np.mean(kept**2))) / _CLIPPED_STD
    return sigma / math.sqrt(2)


def stamp_sigma(stamps: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Robust sigma, 1.4826 x median absolute deviation, of whole stamps (..., y, x) [nanomaggy / pixel]: (...)."""
    flat = stamps.reshape(*stamps.shape[:-2], -1).astype(np.float64)
    deviation = np.abs(flat - np.median(flat, axis=-1, keepdims=True))
    return np.asarray(_MAD_TO_SIGMA * np.median(deviation, axis=-1))
