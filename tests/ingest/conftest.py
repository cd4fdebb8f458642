"""A small survey field of five frames, turned by any angle, with its catalogue; and SWarp as an oracle."""

import os
import shutil
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS

from ingest.framefile import Field

SHAPE = (300, 340)  # y, x: not square, so that swapped axes show
BAND_OFFSETS_PX = {"u": (7.3, -2.1), "g": (14.2, 1.4), "r": (0.0, 0.0), "i": (4.6, -0.7), "z": (10.4, 2.2)}  # y, x
SKY_SIGMA = {"u": 0.041, "g": 0.015, "r": 0.022, "i": 0.033, "z": 0.19}  # [nanomaggy / pixel]
FIELD = Field(run=77, camcol=3, field=21, rerun="301")


@dataclass(frozen=True)
class SmallField:
    """Frames on disk and the objects in them."""

    frames: Path
    catalog: Path
    table: pa.Table
    wcs: dict[str, Any]


def make_wcs(angle_deg: float, band: str) -> WCS:
    """A TAN WCS of 0.396 arcsec pixels whose y axis is ``angle_deg`` away from north; bands are shifted."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [201.3, 41.7]
    shift_y, shift_x = BAND_OFFSETS_PX[band]
    wcs.wcs.crpix = [SHAPE[1] / 2 + shift_x, SHAPE[0] / 2 + shift_y]
    cos, sin = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    wcs.wcs.cd = np.array([[-cos, sin], [sin, cos]]) * 0.396 / 3600
    return wcs


def write_field(folder: Path, angle_deg: float, objects: int, seed: int = 0) -> SmallField:
    """Paint Gaussian sources and noise into five frames, and write the catalogue of the sources."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    x, y = rng.uniform(100, SHAPE[1] - 100, objects), rng.uniform(100, SHAPE[0] - 100, objects)
    ra, dec = make_wcs(angle_deg, "r").wcs_pix2world(x, y, 0)
    wcs = {band: make_wcs(angle_deg, band) for band in "ugriz"}
    for band in "ugriz":
        image = rng.normal(0, SKY_SIGMA[band], SHAPE)
        grid_y, grid_x = np.mgrid[: SHAPE[0], : SHAPE[1]]
        for cx, cy in np.transpose(wcs[band].wcs_world2pix(ra, dec, 0)):
            image += 2 * np.exp(-((grid_x - cx) ** 2 + (grid_y - cy) ** 2) / (2 * 1.7**2))
        header = wcs[band].to_header()
        header.update({"RUN": FIELD.run, "CAMCOL": FIELD.camcol, "FILTER": band, "ORIGIN": "SMALL"})
        hdu = fits.PrimaryHDU(image.astype(np.float32), header=header)
        hdu.writeto(folder / f"{FIELD.file_name(band)}.fits")
    table = pa.table(
        {
            "objid": np.arange(objects) + 1237645876861337000,
            "run": np.full(objects, FIELD.run),
            "camcol": np.full(objects, FIELD.camcol),
            "field": np.full(objects, FIELD.field),
            "ra": ra,
            "dec": dec,
            "ebv_sfd": np.linspace(0.01, 0.09, objects),
            "specz": np.linspace(0.01, 0.3, objects),
        }
    )
    catalog = folder / "catalog.csv"
    pa.csv.write_csv(table, catalog)
    return SmallField(folder, catalog, table, wcs)


@pytest.fixture(scope="session")
def small_field(tmp_path_factory: pytest.TempPathFactory) -> SmallField:
    """One field turned by 34 degrees, twelve objects; read only."""
    return write_field(tmp_path_factory.mktemp("small") / "frames", angle_deg=34.0, objects=12)


@pytest.fixture
def field_copy(small_field: SmallField, tmp_path: Path) -> SmallField:
    """A copy of the small field that a test may damage."""
    folder = tmp_path / "frames"
    shutil.copytree(small_field.frames, folder)
    return SmallField(folder, folder / "catalog.csv", small_field.table, small_field.wcs)


@pytest.fixture(scope="session")
def swarp() -> Callable[[Path, float, float, Path], tuple[np.ndarray, np.ndarray]]:
    """Run SWarp on one frame for one object: (stamp, covered)."""
    program = shutil.which("SWarp") or shutil.which("swarp")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("SWarp is the oracle for stamps: install Debian's package swarp")
        pytest.skip("SWarp is not installed")

    def run(frame: Path, ra: float, dec: float, scratch: Path) -> tuple[np.ndarray, np.ndarray]:
        out, weight, config = scratch / "out.fits", scratch / "weight.fits", scratch / "empty.swarp"
        config.write_text("")
        options = {
            "CENTER_TYPE": "MANUAL",
            "CENTER": f"{ra:.10f},{dec:.10f}",
            "PIXELSCALE_TYPE": "MANUAL",
            "PIXEL_SCALE": "0.396",
            "IMAGE_SIZE": "107",
            "RESAMPLING_TYPE": "LANCZOS3",
            "SUBTRACT_BACK": "N",
            "IMAGEOUT_NAME": str(out),
            "WEIGHTOUT_NAME": str(weight),
            "RESAMPLE_DIR": str(scratch),
            "WRITE_XML": "N",
            "VERBOSE_TYPE": "QUIET",
            "NTHREADS": "1",
        }
        arguments = [part for name, value in options.items() for part in (f"-{name}", value)]
        subprocess.run([program, str(frame), "-c", str(config), *arguments], check=True, timeout=60)
        return fits.getdata(out).astype(np.float64), fits.getdata(weight) > 0

    return run


@pytest.fixture
def image_only(tmp_path: Path) -> Callable[[Path], Path]:
    """Give SWarp the image of a frame alone: it would take the other HDUs for images, too."""

    def copy(frame: Path) -> Path:
        path = tmp_path / "image.fits"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(frame) as hdus:
                image = fits.PrimaryHDU(hdus[0].data, header=hdus[0].header)
                image.writeto(path, overwrite=True, output_verify="silentfix")
        return path

    return copy
