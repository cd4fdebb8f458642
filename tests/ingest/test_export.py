"""A stamp as FITS: astropy finds every source of the field on its pixel, and every number in the header."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from ingest.errors import IngestError
from ingest.export import add_export, export_stamp
from ingest.hdf5 import Hdf5Config, convert
from ingest.register import SIZE, affine_fits, resample
from sharding import Dataset
from sharding.manifest import Manifest

FRAME = (320, 340)  # y, x
FIRST = 1237645876861337000
# Frame pixels (x, y), counted from 0: no two stamps' sources closer than 18 px, so that no centroid is pulled.
SOURCES = np.array([(150, 140), (175, 160), (190, 140), (150, 185), (128, 160.5), (171.3, 121.7)], dtype=float)
PSF_SIGMA_PX = 1.7
GNOMONIC = next(field.default for field in Manifest.__dataclass_fields__.values() if field.name == "projection")


def frame_wcs() -> WCS:
    """TAN, turned by 34 degrees, far from the equator: there a wrong cos(dec) or sign moves a source by pixels."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [359.99, 61.7]  # stamps lie on both sides of ra = 0
    wcs.wcs.crpix = [FRAME[1] / 2, FRAME[0] / 2]
    cos, sin = np.cos(np.deg2rad(34)), np.sin(np.deg2rad(34))
    wcs.wcs.cd = np.array([[-cos, sin], [sin, cos]]) * 0.396 / 3600
    return wcs


@pytest.fixture(scope="module")
def sky() -> SkyCoord:
    """Where the sources are."""
    return SkyCoord(*frame_wcs().wcs_pix2world(*SOURCES.T, 0), unit="deg")


def write_file(path: Path, sky: SkyCoord) -> None:
    """The stamps of all sources, as `ingest` cuts them, with the labels that a photoObj gives."""
    y, x = np.mgrid[: FRAME[0], : FRAME[1]]
    frame = sum(2 * np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * PSF_SIGMA_PX**2)) for a, b in SOURCES)
    stamps = np.empty((len(SOURCES), SIZE, SIZE), dtype=np.float32)
    resample(
        frame.astype(np.float32), 0, *affine_fits(frame_wcs(), sky.ra.deg, sky.dec.deg), stamps, np.empty(len(SOURCES))
    )
    rows = len(SOURCES)
    with h5py.File(path, "w") as file:
        file["images"] = stamps[:, None] * np.arange(1, 6, dtype="f4")[:, None, None]  # band n is n times u
        file["ObjID"] = FIRST + np.arange(rows)
        file["ra"], file["dec"] = sky.ra.deg, sky.dec.deg
        file["run"], file["camcol"], file["field"] = (np.full(rows, n, dtype="i4") for n in (94, 1, 12))
        file["rerun"] = np.array([b"301"] * rows)
        file["psf_fwhm"] = np.linspace(1.1, 1.7, 5 * rows).reshape(rows, 5)
        file["ebv_sfd"] = np.where(np.arange(rows) == 1, np.nan, 0.0321)


@pytest.fixture(params=["webdataset", "zarr"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path, sky: SkyCoord) -> Dataset:
    """Those stamps as a dataset in either container, with the projection that `ingest run` states."""
    write_file(tmp_path / "a.h5", sky)
    made = convert(Hdf5Config(files=(tmp_path / "a.h5",), out=tmp_path / "out", container=request.param))
    replace(made.manifest, projection=GNOMONIC, survey="SDSS").write(made.path)
    return Dataset.open(made.path)


@pytest.fixture
def exported(dataset: Dataset, tmp_path: Path) -> Callable[[int], tuple[Any, np.ndarray]]:
    """Export sample n and read it back: (header, cube)."""

    def export(number: int) -> tuple[Any, np.ndarray]:
        path = tmp_path / f"{number}.fits"
        export_stamp(dataset, FIRST + number, path)
        with fits.open(path) as hdus:
            hdus.verify("exception")
            assert len(hdus) == 1
            return hdus[0].header, hdus[0].data

    return export


Export = Callable[[int], tuple[Any, np.ndarray]]


def test_the_cube_holds_the_stamps_own_pixels(dataset: Dataset, exported: Export) -> None:
    header, cube = exported(2)
    assert (header["BITPIX"], header["BUNIT"]) == (-32, "nanomaggy")
    np.testing.assert_array_equal(cube, dataset.images([2])[0])
    assert [header[f"BAND{n}"] for n in range(1, 6)] == list("ugriz")


def test_the_object_is_at_pixel_53_53_with_north_up_and_east_left(exported: Export, sky: SkyCoord) -> None:
    wcs = WCS(exported(0)[0])
    centre, up, left = (wcs.celestial.pixel_to_world(x, y) for x, y in ((53, 53), (53, 93), (13, 53)))
    assert centre.separation(sky[0]).arcsec < 1e-6  # rounding of a header's 14 digits
    # A gnomonic plane stretches by 1 + r**2 / 2, r = 40 px = 7.7e-5 rad: 3e-9 of it.
    assert centre.separation(up).arcsec == pytest.approx(40 * 0.396, rel=1e-7)
    assert centre.separation(left).arcsec == pytest.approx(40 * 0.396, rel=1e-7)
    assert centre.position_angle(up).wrap_at("180d").deg == pytest.approx(0, abs=1e-6)
    # East is 90 degrees but for the bend of the meridians, r tan(dec) / 2: 0.0041 degrees here.
    assert centre.position_angle(left).deg == pytest.approx(90, abs=0.01)
    assert wcs.pixel_n_dim == 3


def test_every_other_source_lies_on_its_pixel(exported: Export, sky: SkyCoord) -> None:
    seen = 0
    for number in range(len(SOURCES)):
        header, cube = exported(number)
        x, y = WCS(header).celestial.world_to_pixel(sky)
        for column, row in zip(x, y, strict=True):
            if not (8 < column < SIZE - 9 and 8 < row < SIZE - 9):
                continue
            low, left = round(float(row)) - 5, round(float(column)) - 5
            core = cube[2, low : low + 11, left : left + 11].astype(float)
            grid_y, grid_x = np.mgrid[low : low + 11, left : left + 11]
            centroid = np.array([(core * grid_x).sum(), (core * grid_y).sum()]) / core.sum()
            # Cut 5 px (2.9 sigma) off its middle, a Gaussian's centroid moves by 0.4 % a side at most: below 0.03 px.
            np.testing.assert_allclose(centroid, [column, row], atol=0.05)
            seen += 1
    assert seen > 2 * len(SOURCES)  # not the objects at the centre alone


def test_the_header_tells_where_the_stamp_comes_from(dataset: Dataset, exported: Export) -> None:
    header, _ = exported(0)
    expected = {
        "OBJID": FIRST,
        "RUN": 94,
        "CAMCOL": 1,
        "FIELD": 12,
        "RERUN": "301",
        "SURVEY": "SDSS",
        "EBV_SFD": 0.0321,
        "PSF_U": dataset.column("psf_fwhm_u")[0],
        "PSF_Z": dataset.column("psf_fwhm_z")[0],
        # A card has 20 characters for a number: 14 digits and more.
        "STPSG_R": pytest.approx(float(dataset.column("stamp_sigma_r")[0]), rel=1e-13),
        "DATASET": dataset.digest,
    }
    assert {name: header[name] for name in expected} == expected
    assert header["CREATOR"].startswith("skymill ")


def test_what_is_not_known_is_not_in_the_header(exported: Export) -> None:
    header, _ = exported(1)
    assert not {"EBV_SFD", "SKYSG_R", "EXT_R", "SPECZ", "THING_ID"} & set(header)  # missing value; missing columns


def test_a_file_that_is_there_is_not_overwritten(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"precious")
    with pytest.raises(IngestError, match="already there"):
        export_stamp(dataset, FIRST, path)
    assert path.read_bytes() == b"precious"


def test_an_unknown_objid_is_one_line(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=rf"no sample has objid {FIRST + 99} \(of 6\)"):
        export_stamp(dataset, FIRST + 99, tmp_path / "a.fits")
    with pytest.raises(IngestError, match="expected a folder to write in"):
        export_stamp(dataset, FIRST, tmp_path / "nowhere" / "a.fits")
    assert not list(tmp_path.glob("*.fits*"))


def test_a_stamp_of_unknown_projection_gets_no_wcs(dataset: Dataset, tmp_path: Path) -> None:
    replace(dataset.manifest, projection="as published, not stated").write(dataset.path)
    with pytest.raises(IngestError, match="expected a gnomonic projection with north up, got 'as published"):
        export_stamp(Dataset.open(dataset.path), FIRST, tmp_path / "a.fits")
    assert not (tmp_path / "a.fits").exists()


def test_the_command_writes_the_file_and_says_so(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_export(parser)
    out = tmp_path / "a.fits"
    args = parser.parse_args([str(dataset.path), "--objid", str(FIRST + 3), "--out", str(out)])
    assert args.command(args) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert fits.getheader(out)["OBJID"] == FIRST + 3
    args.dataset = tmp_path / "nothing"
    args.out = tmp_path / "b.fits"
    with pytest.raises(IngestError, match="cannot be read"):
        args.command(args)
