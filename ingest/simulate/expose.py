"""What the CCD reads: sky and sources in electrons with their noise, dark variance, whole DN.

The noise of a strip's row is a function of the row alone, so the rows that two fields share hold the same DN in both.
"""

import numpy as np
from numpy.typing import NDArray

from .conditions import CAMERAS, calibration, sky_dn
from .geometry import COLUMNS, FIELD_STEP_ROWS, OVERLAP_ROWS, ROWS, STRIPS, Field
from .scene import Stream, stream
from .spectra import BANDS


def expose(clean: NDArray[np.float32], seed: int, field: Field, band: str) -> NDArray[np.int32]:
    """(y, x) DN, sky included, of noise-free `clean` [nanomaggy].

    Even the sky of u makes 60 electrons, so a normal deviate stands for a Poisson one.
    """
    strip, number = field.strip, BANDS.index(band)
    camera = CAMERAS[strip]
    strip_row = np.arange(ROWS, dtype=np.float64) + field.index * FIELD_STEP_ROWS
    level = sky_dn(strip, band, strip_row, np.arange(COLUMNS, dtype=np.float64)) + clean / calibration(strip, band)
    sigma = np.sqrt(level / camera.gain[number] + camera.dark_variance[number])
    return np.asarray(np.rint(level + sigma * _deviates(seed, field, number)), np.int32)


def _deviates(seed: int, field: Field, band_number: int) -> NDArray[np.float32]:
    """(y, x) standard normal numbers; the rows shared with the next field begin that field's block."""

    def block(index: int, rows: int) -> NDArray[np.float32]:
        rng = stream(seed, Stream.PIXELS, STRIPS.index(field.strip), band_number, index)
        return rng.standard_normal((rows, COLUMNS), np.float32)

    return np.concatenate([block(field.index, FIELD_STEP_ROWS), block(field.index + 1, OVERLAP_ROWS)])
