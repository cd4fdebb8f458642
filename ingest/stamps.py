"""The stamps of one field's objects: five frames in, one image an object out.

A stamp is taken from its own field's frame where that covers it whole, else from a neighbour of the run that does, else
pixel by pixel from the first that covers it, the own frame first. What no frame covers is NaN.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .framefile import Field
from .noise import sky_sigma, stamp_sigma
from .register import SIZE, affine_fits, resample, rows_needed
from .tables import SDSS_BANDS
from .window import Frames, Window

AT_ONCE = 64  # objects whose stamps are held in memory: 15 MB

Float64s = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Images = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stamps:
    """What the frames hold of some objects."""

    objects: slice  # of those given
    images: Images  # (object, band, y, x) [nanomaggy / pixel], NaN where not covered
    covered: Float64s  # (object, band) fraction of the stamp that is covered
    sky_sigma: Float64s  # (object, band) [nanomaggy / pixel], white-equivalent, of the native frame
    crosses: Bools  # (2, object) the stamp leaves its own field's frame towards the field before, the field after

    def stamp_sigma(self) -> Float64s:
        """Robust sigma of each stamp [nanomaggy / pixel]: (object, band)."""
        out = np.empty(self.images.shape[:2])
        stamp_sigma(self.images.reshape(-1, SIZE, SIZE), out.reshape(-1))
        return out


def cut_stamps(window: Window, field: Field, ra_deg: Float64s, dec_deg: Float64s) -> Iterator[Stamps]:
    """Register each object's stamp on its own grid, some objects at a time.

    FrameError where the field's own frames will not do, or a neighbour's where ``window`` does not put up with it.
    """
    frames = window.own(field)
    crosses = np.zeros((2, len(ra_deg)), dtype=bool)
    for frame in frames.values():
        low, high = rows_needed(*affine_fits(frame.wcs, ra_deg, dec_deg))
        crosses |= np.stack([low < 0, high > len(frame.image) - 1])
    beside: list[Frames] = [
        window.beside(field.beside(step), ra_deg[some], dec_deg[some]) if some.any() else {}
        for step, some in zip((-1, 1), crosses, strict=True)
    ]
    for begin in range(0, len(ra_deg), AT_ONCE):
        here = slice(begin, begin + AT_ONCE)
        stamps = _cut(frames, ra_deg[here], dec_deg[here])
        for others, crossing in zip(beside, crosses[:, here], strict=True):
            rows = np.flatnonzero(crossing & (stamps.covered.min(axis=1) < 1))
            if others and len(rows):
                _complete(stamps, rows, _cut(others, ra_deg[here][rows], dec_deg[here][rows]))
        yield replace(stamps, objects=here, crosses=crosses[:, here])


def _cut(frames: Frames, ra_deg: Float64s, dec_deg: Float64s) -> Stamps:
    """The stamps from one field's frames alone; NaN for a band that it lacks."""
    count, bands = len(ra_deg), len(SDSS_BANDS)
    images = np.empty((count, bands, SIZE, SIZE), dtype=np.float32)
    covered, noise = np.zeros((count, bands)), np.full((count, bands), np.nan)
    for number, band in enumerate(SDSS_BANDS):
        if band not in frames:
            images[:, number] = np.nan
            continue
        frame = frames[band]
        centre, matrix = affine_fits(frame.wcs, ra_deg, dec_deg)
        resample(frame.image, frame.first_row, centre, matrix, images[:, number], covered[:, number])
        sky_sigma(frame.image, frame.first_row, centre, noise[:, number])
    return Stamps(slice(0, count), images, covered, noise, np.zeros((2, count), dtype=bool))


def _complete(stamps: Stamps, rows: npt.NDArray[np.int64], other: Stamps) -> None:
    """Fill in place what the own frame does not cover: a whole band from a neighbour that covers it, else pixels."""
    own = stamps.images[rows]
    better = (other.covered == 1) & (stamps.covered[rows] < 1)
    stamps.images[rows] = np.where(better[..., None, None] | ~np.isfinite(own), other.images, own)
    stamps.covered[rows] = np.isfinite(stamps.images[rows]).mean(axis=(2, 3))
    noise = stamps.sky_sigma[rows]
    stamps.sky_sigma[rows] = np.where(np.isfinite(noise), noise, other.sky_sigma)
