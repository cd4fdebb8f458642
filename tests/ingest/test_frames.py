"""Reading frames: every kind of damage is one line, and a frame is never taken for another."""

import bz2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ingest.errors import IngestError
from ingest.framefile import Field, FrameFile
from ingest.frames import Frame, read_frame

FIELD = Field(77, 3, 21, "301")
REAL = Field(94, 1, 12, "301")


def _read(path: Path, field: Field, band: str) -> Frame:
    return read_frame(FrameFile(path.name, str(path), path.read_bytes(), cached=False), field, band)


def test_bzip2_and_plain_give_the_same_pixels(field_copy: Any) -> None:
    plain = field_copy.frames / "frame-r-000077-3-0021.fits"
    packed = plain.with_name(plain.name + ".bz2")
    packed.write_bytes(bz2.compress(plain.read_bytes()))
    np.testing.assert_array_equal(_read(plain, FIELD, "r").image, _read(packed, FIELD, "r").image)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_frame_is_refused(field_copy: Any, keep: float) -> None:
    path = field_copy.frames / "frame-r-000077-3-0021.fits"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(IngestError, match=r"frame-r-000077-3-0021\.fits: not a readable SDSS frame") as caught:
        _read(path, FIELD, "r")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("byte", [10, 20_000, 100_000])
def test_a_flipped_bit_in_bzip2_is_refused(field_copy: Any, byte: int) -> None:
    plain = field_copy.frames / "frame-r-000077-3-0021.fits"
    content = bytearray(bz2.compress(plain.read_bytes()))
    content[byte] ^= 4
    packed = plain.with_name(plain.name + ".bz2")
    packed.write_bytes(content)
    with pytest.raises(IngestError, match="not a whole bzip2 file"):
        _read(packed, FIELD, "r")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RUN": 78}, "expected RUN 77 by its name, got 78"),
        ({"CAMCOL": 4}, "expected CAMCOL 3 by its name, got 4"),
        ({"FILTER": "i"}, "expected FILTER r by its name, got i"),
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "expected a WCS of RA---TAN"),
        ({"CDELT1": 2.0}, "expected pixels of 0.396 arcsec"),
        ({"CDELT1": 0.0, "CDELT2": 0.0}, "frame-r"),
        ({"BSCALE": 2.0}, "expected a 2-dimensional float image"),
    ],
)
def test_a_header_that_contradicts_the_name_is_refused(field_copy: Any, change: dict[str, Any], message: str) -> None:
    path = field_copy.frames / "frame-r-000077-3-0021.fits"
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.update(change)
    with pytest.raises(IngestError, match=message) as caught:
        _read(path, FIELD, "r")
    assert "\n" not in str(caught.value)


def test_the_astrometry_table_tells_the_field_of_a_real_frame(survey_data: Path) -> None:
    path = survey_data / "sdss/000094-1-0012/frame-u-000094-1-0012.fits.bz2"
    assert _read(path, REAL, "u").origin == "SDSS"  # its FRAME is 16 and its FIELD is 'NA'
    with pytest.raises(IngestError, match="expected FIELD 13 by its name, got 12"):
        _read(path, Field(94, 1, 13, "301"), "u")


def test_junk_and_cubes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "frame-r-000077-3-0021.fits"
    path.write_bytes(b"not FITS at all " * 1000)
    with pytest.raises(IngestError, match="not a readable SDSS frame"):
        _read(path, FIELD, "r")
    fits.PrimaryHDU(np.zeros((2, 3, 4), dtype=np.float32)).writeto(path, overwrite=True)
    with pytest.raises(IngestError, match="expected a 2-dimensional float image in HDU 0, got 2 x 3 x 4 of BITPIX -32"):
        _read(path, FIELD, "r")


@pytest.mark.parametrize("band", ["u", "z"])
def test_a_digit_changed_in_the_wcs_is_found_by_the_astrometry_table(survey_data: Path, band: str) -> None:
    name = f"frame-{band}-000094-1-0012.fits.bz2"
    content = bz2.decompress((survey_data / "sdss/000094-1-0012" / name).read_bytes())
    where = content.index(b"CRVAL2")
    digits = content[where + 10 : where + 30]
    changed = content.replace(digits, f"{float(digits) + 0.001:20.15f}".encode()[:20], 1)  # 3.6 arcsec: 9 px
    file = FrameFile(name.removesuffix(".bz2"), name, changed, cached=False)
    with pytest.raises(IngestError, match=r"a WCS and an asTrans table \(HDU 3\) that disagree \(by 9"):
        read_frame(file, REAL, band)


def test_swapped_axes_are_found_by_the_calibration(survey_data: Path) -> None:
    path = survey_data / "sdss/000094-1-0012/frame-r-000094-1-0012.fits.bz2"
    content = bz2.decompress(path.read_bytes())
    swapped = content.replace(b"NAXIS1  =                 2048", b"NAXIS1  =                 1489", 1)
    swapped = swapped.replace(b"NAXIS2  =                 1489", b"NAXIS2  =                 2048", 1)
    with pytest.raises(IngestError, match="expected 2048 columns by the calibration in HDU 1, got an image of 1489"):
        read_frame(FrameFile("frame-r-000094-1-0012.fits", "there", swapped, cached=False), REAL, "r")
