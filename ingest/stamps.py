"""The stamps of one field: five frames in, one image an object out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import IngestError
from .frames import Field, find_frame, read_frame
from .noise import sky_sigma, stamp_sigma
from .register import CENTRE, SIZE, affine_fits, resample
from .tables import SDSS_BANDS

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FieldStamps:
    """What the frames of one field hold of some objects, in the order given."""

    images: npt.NDArray[np.float32]  # (object, band, y, x) [nanomaggy / pixel], NaN where not covered
    covered: Float64s  # (object, band) fraction of the stamp that is covered
    sky_sigma: Float64s  # (object, band) [nanomaggy / pixel], of the native frame
    stamp_sigma: Float64s  # (object, band) [nanomaggy / pixel], of the stamp; NaN where not covered
    origin: str  # which survey made the frames


def cut_stamps(root: Path, field: Field, ra_deg: Float64s, dec_deg: Float64s) -> FieldStamps:
    """Read the five frames of a field, one at a time, and register each object's stamp on its own grid."""
    count, bands = len(ra_deg), len(SDSS_BANDS)
    images = np.empty((count, bands, SIZE, SIZE), dtype=np.float32)
    noise = np.empty((count, bands))
    origin = ""
    for number, band in enumerate(SDSS_BANDS):
        path = find_frame(root, field, band)
        if path is None:
            raise IngestError(missing_frame(root, field, band))
        frame = read_frame(path, field, band)
        centre, matrix = affine_fits(frame.wcs, ra_deg, dec_deg)
        _check_place(path, frame.image.shape, centre)
        plane = np.empty((count, SIZE, SIZE), dtype=np.float32)
        resample(frame.image, centre, matrix, plane)
        images[:, number] = plane
        noise[:, number] = sky_sigma(frame.image, centre)
        origin = frame.origin
    covered = np.isfinite(images).mean(axis=(2, 3))
    return FieldStamps(images, covered, noise, stamp_sigma(images), origin)


def missing_frame(root: Path, field: Field, band: str) -> str:
    """The message for a frame that is not there."""
    return (
        f"{root}: expected {field.file_name(band)}.fits or .fits.bz2 (flat, or in {field.rerun}/{field.run}/"
        f"{field.camcol}/), found neither; fetch it or take the field out of the catalogue"
    )


def _check_place(path: Path, shape: tuple[int, ...], centre: Float64s) -> None:
    """At least one object's stamp must touch the frame; none does when its WCS is of another field."""
    height, width = shape
    x, y = centre[:, 0], centre[:, 1]
    near = (x > -CENTRE) & (x < width + CENTRE) & (y > -CENTRE) & (y < height + CENTRE)
    if not near.any():
        raise IngestError(
            f"{path}: a frame of another field: expected the catalogue's objects of this field inside "
            f"{width} x {height} pixels, got the first at x {x[0]:.0f}, y {y[0]:.0f}; fetch it again"
        )
