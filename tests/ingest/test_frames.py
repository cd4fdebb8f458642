"""Reading frames: every kind of damage is one line, and a frame is never taken for another."""

import bz2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from ingest.errors import IngestError
from ingest.frames import Field, find_frame, read_frame

FIELD = Field(77, 3, 21, "301")
REAL = Field(94, 1, 12, "301")


@pytest.mark.parametrize("folder", ["", "301/77/3", "boss/photoObj/frames/301/77/3"])
@pytest.mark.parametrize("suffix", [".fits", ".fits.bz2"])
def test_frames_are_found_flat_and_in_the_archive_s_layout(tmp_path: Path, folder: str, suffix: str) -> None:
    path = tmp_path / folder / f"frame-g-000077-3-0021{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    assert find_frame(tmp_path, FIELD, "g") == path
    assert find_frame(tmp_path, FIELD, "r") is None


def test_bzip2_and_plain_give_the_same_pixels(field_copy: Any) -> None:
    plain = find_frame(field_copy.frames, FIELD, "r")
    assert plain is not None
    packed = plain.with_name(plain.name + ".bz2")
    packed.write_bytes(bz2.compress(plain.read_bytes()))
    np.testing.assert_array_equal(read_frame(plain, FIELD, "r").image, read_frame(packed, FIELD, "r").image)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_frame_is_refused(field_copy: Any, keep: float) -> None:
    path = field_copy.frames / "frame-r-000077-3-0021.fits"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(IngestError, match=r"frame-r-000077-3-0021\.fits: not a readable SDSS frame") as caught:
        read_frame(path, FIELD, "r")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("byte", [10, 20_000, 100_000])
def test_a_flipped_bit_in_bzip2_is_refused(field_copy: Any, byte: int) -> None:
    plain = field_copy.frames / "frame-r-000077-3-0021.fits"
    content = bytearray(bz2.compress(plain.read_bytes()))
    content[byte] ^= 4
    packed = plain.with_name(plain.name + ".bz2")
    packed.write_bytes(content)
    with pytest.raises(IngestError, match="not a whole bzip2 file"):
        read_frame(packed, FIELD, "r")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RUN": 78}, "expected RUN 77 by its name, got 78"),
        ({"CAMCOL": 4}, "expected CAMCOL 3 by its name, got 4"),
        ({"FILTER": "i"}, "expected FILTER r by its name, got i"),
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "expected a WCS of RA---TAN"),
        ({"CDELT1": 2.0}, "expected pixels of 0.396 arcsec"),
        ({"CDELT1": 0.0, "CDELT2": 0.0}, "frame-r"),
    ],
)
def test_a_header_that_contradicts_the_name_is_refused(field_copy: Any, change: dict[str, Any], message: str) -> None:
    path = field_copy.frames / "frame-r-000077-3-0021.fits"
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.update(change)
    with pytest.raises(IngestError, match=message) as caught:
        read_frame(path, FIELD, "r")
    assert "\n" not in str(caught.value)


def test_the_astrometry_table_tells_the_field_of_a_real_frame(survey_data: Path) -> None:
    path = survey_data / "sdss/000094-1-0012/frame-u-000094-1-0012.fits.bz2"
    assert read_frame(path, REAL, "u").origin == "SDSS"  # its FRAME is 16 and its FIELD is 'NA'
    with pytest.raises(IngestError, match="expected FIELD 13 by its name, got 12"):
        read_frame(path, Field(94, 1, 13, "301"), "u")


def test_junk_and_cubes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "frame-r-000077-3-0021.fits"
    path.write_bytes(b"not FITS at all " * 1000)
    with pytest.raises(IngestError, match="not a readable SDSS frame"):
        read_frame(path, FIELD, "r")
    fits.PrimaryHDU(np.zeros((2, 3, 4), dtype=np.float32)).writeto(path, overwrite=True)
    with pytest.raises(IngestError, match="expected a 2-dimensional float image in HDU 0, got 3-dimensional"):
        read_frame(path, FIELD, "r")
