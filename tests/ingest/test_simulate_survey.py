"""A painted practice survey, opened with astropy as anyone would open SDSS's own frames."""

import bz2
import hashlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from scipy.ndimage import map_coordinates

from ingest.errors import IngestError
from ingest.simulate import Survey, SurveyConfig, draw_catalog, simulate
from ingest.simulate.catalog import plan
from ingest.simulate.conditions import CAMERAS, calibration, photoobj_psf_fwhm, sky_noise
from ingest.simulate.expose import expose
from ingest.simulate.frames import calibrate, frame_name, interpolate_sky, sky_table
from ingest.simulate.geometry import COLUMNS, FIELD_STEP_ROWS, ROWS, STRIPS, Field, field_wcs, sky_of
from ingest.simulate.paint import Sources, paint
from ingest.simulate.scene import draw_passers
from ingest.simulate.spectra import BANDS
from ingest.simulate.survey import field_sources, write_frame

CONFIG = SurveyConfig(galaxies=40, seed=7)
DEREDDEN = np.array([4.239, 3.303, 2.285, 1.698, 1.263])  # Schlafly and Finkbeiner 2011, table 6
R_DR12 = np.array([5.155, 3.793, 2.751, 2.086, 1.479])
REAL = "sdss/000094-1-0012/frame-{band}-000094-1-0012.fits.bz2"


@dataclass(frozen=True)
class Painted:
    """One field on disk, and what it was painted from."""

    survey: Survey
    catalog: pa.Table
    truth: pa.Table
    field: Field
    frames: dict[str, Any]  # astropy HDUList of each band
    told: list[tuple[int, int]]  # what `progress` heard


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Painted]:
    out = tmp_path_factory.mktemp("practice")
    told: list[tuple[int, int]] = []
    survey = simulate(CONFIG, out, lambda done, total: told.append((done, total)), workers=2)
    field = plan(CONFIG.galaxies)[0][0]
    frames = {band: read(survey.frames / frame_name(field, band)) for band in BANDS}
    tables = (pa.parquet.read_table(out / name) for name in ("catalog.parquet", "truth.parquet"))
    yield Painted(survey, *tables, field, frames, told)
    for frame in frames.values():
        frame.close()


def read(path: Path) -> Any:
    """An open HDUList; faster than astropy's own way with bzip2."""
    return fits.open(io.BytesIO(bz2.decompress(path.read_bytes())))


def header_wcs(painted: Painted, band: str) -> WCS:
    """The WCS of a frame as a reader gets it from the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # SDSS says RADECSYS, which today is RADESYS
        return WCS(painted.frames[band][0].header)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def per_band(table: pa.Table, name: str) -> np.ndarray:
    return np.stack([table[f"{name}_{band}"].to_numpy() for band in BANDS], axis=1)


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_workers(painted: Painted, tmp_path: Path) -> None:
    """The fixture used two processes; here it is this one, which has drawn and painted other things before."""
    for band in "uz":
        write_frame(CONFIG, tmp_path, 0, band)
        name = frame_name(painted.field, band)
        assert digest(tmp_path / name) == digest(painted.survey.frames / name)
    assert draw_catalog(CONFIG.galaxies, CONFIG.seed).equals(painted.catalog)
    write_frame(replace(CONFIG, seed=8), tmp_path, 0, "u")
    name = frame_name(painted.field, "u")
    assert digest(tmp_path / name) != digest(painted.survey.frames / name)


def test_what_is_written_is_the_archive_layout_and_the_tables(painted: Painted) -> None:
    out = painted.survey.catalog.parent
    frames = {f"frames/301/9001/1/frame-{band}-009001-1-0011.fits.bz2" for band in BANDS}
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == frames | {"catalog.parquet", "truth.parquet"}
    assert painted.told == [(done, 5) for done in range(6)]
    assert (painted.survey.galaxies, painted.survey.fields) == (40, 1)


@pytest.mark.parametrize("band", "rg")
def test_frames_have_the_structure_of_real_ones(painted: Painted, survey_data: Path, band: str) -> None:
    mine = painted.frames[band]
    with read(survey_data / REAL.format(band=band)) as real:
        assert len(mine) == len(real) == 4
        for own, theirs in zip(mine[:2], real[:2], strict=True):
            assert (own.data.shape, own.data.dtype) == (theirs.data.shape, theirs.data.dtype)
        for own, theirs in zip(mine[2:], real[2:], strict=True):
            assert set(own.columns.names) <= set(theirs.columns.names)
            for name in own.columns.names:
                assert own.data[name].shape == theirs.data[name].shape
                assert own.data[name].dtype == theirs.data[name].dtype
        for name in ("XINTERP", "YINTERP"):
            np.testing.assert_array_equal(mine[2].data[name], real[2].data[name])
        for card in ("FILTER", "BUNIT", "FLAVOR", "CTYPE1", "CTYPE2", "CRPIX1", "CRPIX2", "CAMROW", "CCDLOC", "RERUN"):
            assert mine[0].header[card] == real[0].header[card]
        assert mine[0].header["FRAME"] - 11 == real[0].header["FRAME"] - 12
    header = mine[0].header
    assert (header["RUN"], header["CAMCOL"], header["EXTEND"]) == (9001, 1, True)
    row = mine[3].data[0]
    assert (row["RUN"], row["RERUN"], row["CAMCOL"], row["FILTER"], row["FIELD"]) == (9001, "301", 1, band, 11)
    assert row["NAXIS"].tolist() == [2048, 1489]


@pytest.mark.parametrize("band", BANDS)
def test_pixels_are_whole_dn_less_sky(painted: Painted, band: str) -> None:
    image, calib, sky = (hdu.data for hdu in painted.frames[band][:3])
    grid = np.meshgrid(sky["YINTERP"][0], sky["XINTERP"][0], indexing="ij")
    level = map_coordinates(sky["ALLSKY"][0].astype(float), grid, order=1, mode="nearest")
    dn = image.astype(float) / calib + level
    # Half a rounding step is at most 0.004 DN; float32 adds 6e-8 of the brightest pixel's thousands of DN.
    assert np.abs(dn - np.rint(dn)).max() < 0.006


@pytest.mark.parametrize("band", BANDS)
def test_frames_compress_as_well_as_real_ones(painted: Painted, survey_data: Path, band: str) -> None:
    mine = (painted.survey.frames / frame_name(painted.field, band)).stat().st_size
    assert mine < 1.2 * (survey_data / REAL.format(band=band)).stat().st_size


@pytest.mark.parametrize(("band", "measured"), list(zip(BANDS, (0.0388, 0.0234, 0.0300, 0.0579, 0.214), strict=True)))
def test_the_sky_is_as_noisy_as_the_camera_makes_it(painted: Painted, band: str, measured: float) -> None:
    """`measured` is the real sigma of 94-1-12, of the run whose camera and sky this strip copies."""
    image, expected = painted.frames[band][0].data.astype(float), sky_noise(painted.field.strip, band)
    steps = np.diff(image[600:1200], axis=1) / np.sqrt(2)
    # Cut at 3 sigma, a normal distribution keeps 0.9866 of it. (A median of whole absolute DN would be 10 % off.)
    sigma = steps[np.abs(steps) < 3 * expected].std() / 0.9866
    # 1.2 million differences give 0.1 %; what sources cover, about 2 % of the pixels, is noisier and not flat.
    assert sigma == pytest.approx(expected, rel=0.02)
    assert sigma == pytest.approx(measured, rel=0.15)  # the gain and dark variance give the real one to 10 %
    assert np.median(image) == pytest.approx(0.0, abs=0.1 * sigma)


@pytest.mark.parametrize("band", BANDS)
def test_the_header_puts_galaxies_where_the_catalogue_says(painted: Painted, band: str) -> None:
    image, wcs = painted.frames[band][0].data, header_wcs(painted, band)
    bright = np.argsort(per_band(painted.truth, "flux")[:, BANDS.index(band)])[-8:]
    off = []
    for row in bright:
        x, y = wcs.wcs_world2pix(painted.catalog["ra"][row].as_py(), painted.catalog["dec"][row].as_py(), 0)
        corner_x, corner_y = int(x) - 25, int(y) - 25
        stamp = galsim.Image(image[corner_y : corner_y + 51, corner_x : corner_x + 51].astype(float), xmin=0, ymin=0)
        peak = np.unravel_index(stamp.array.argmax(), stamp.array.shape)
        if np.hypot(*np.subtract(peak, 25)) > 5:
            continue  # a brighter neighbour: adaptive moments would not converge on the galaxy
        centre = galsim.hsm.FindAdaptiveMom(stamp).moments_centroid
        off.append([corner_x + centre.x - x, corner_y + centre.y - y])
    assert len(off) >= 6
    # A centroid is good to about sigma / (S/N) = 2 px / 10 in u, better elsewhere; half that for a median of six.
    assert np.abs(np.median(off, axis=0)).max() < 0.2


@pytest.mark.parametrize("band", BANDS)
def test_the_astrometry_table_agrees_with_the_header(painted: Painted, band: str) -> None:
    row, wcs = painted.frames[band][3].data[0], header_wcs(painted, band)
    x, y = (axis.ravel() for axis in np.meshgrid([0.0, 1024.0, 2047.0], [0.0, 744.0, 1488.0]))
    mu = row["A"] + row["B"] * (y + 0.5) + row["C"] * (x + 0.5)
    nu = np.radians(row["D"] + row["E"] * (y + 0.5) + row["F"] * (x + 0.5))
    along, tilt = np.radians(mu - row["NODE"]), np.radians(row["INCL"])
    dec = np.arcsin(np.sin(along) * np.cos(nu) * np.sin(tilt) + np.sin(nu) * np.cos(tilt))
    east = np.sin(along) * np.cos(nu) * np.cos(tilt) - np.sin(nu) * np.sin(tilt)
    ra = row["NODE"] + np.degrees(np.arctan2(east, np.cos(along) * np.cos(nu)))
    x_back, y_back = wcs.wcs_world2pix(ra, np.degrees(dec), 0)
    # The plane of a TAN projection against the sphere: (2e-3 rad)^3 / 3 is 0.0015 px at the corners.
    np.testing.assert_allclose(x_back, x, atol=5e-3)
    np.testing.assert_allclose(y_back, y, atol=5e-3)


def test_isolated_galaxies_have_their_flux_in_the_frame(painted: Painted) -> None:
    passers = draw_passers(CONFIG.seed, 0, painted.field)
    others = np.concatenate([passers.galaxy_flux, passers.star_flux])
    other_sky = [np.concatenate(pair) for pair in zip(passers.galaxy_sky, passers.star_sky, strict=True)]
    truth = {name: painted.truth[name].to_numpy() for name in ("bulge_radius_arcsec", "disc_radius_arcsec")}
    edge_px = np.maximum(7 * truth["bulge_radius_arcsec"], 4 * truth["disc_radius_arcsec"]) / 0.396
    reach_px = edge_px + 12
    checked = 0
    for number, band in enumerate(BANDS):
        image, wcs = painted.frames[band][0].data, header_wcs(painted, band)
        x, y = wcs.wcs_world2pix(painted.catalog["ra"].to_numpy(), painted.catalog["dec"].to_numpy(), 0)
        x_other, y_other = wcs.wcs_world2pix(*other_sky, 0)
        rows, columns = np.mgrid[:ROWS, :COLUMNS]
        for i, flux in enumerate(per_band(painted.truth, "flux")[:, number]):
            others_within = np.hypot(x_other - x[i], y_other - y[i]) < reach_px[i] + 12
            if reach_px[i] > 55 or others[others_within, number].sum() > 1e-3 * flux:  # 77 px to the next on the grid
                continue
            near = np.s_[max(int(y[i]) - 60, 0) : int(y[i]) + 60, max(int(x[i]) - 60, 0) : int(x[i]) + 60]
            inside = np.hypot(columns[near] - x[i], rows[near] - y[i]) < reach_px[i]
            electrons = flux * CAMERAS[painted.field.strip].gain[number] / calibration(painted.field.strip, band).mean()
            noise = np.hypot(sky_noise(painted.field.strip, band) * np.sqrt(inside.sum()), flux / np.sqrt(electrons))
            # The PSF's wings beyond 12 px hold 0.5 % of a star at the widest, and less of what lies inside the edge.
            assert image[near][inside].sum() == pytest.approx(flux, abs=5 * noise + 0.005 * flux)
            checked += 1
    assert checked > 20


def test_painted_light_is_the_catalogues_true_flux_dereddened_as_the_facts_say(painted: Painted) -> None:
    extinction, flux = per_band(painted.catalog, "extinction"), per_band(painted.truth, "flux")
    ebv = (extinction / R_DR12).mean(axis=1)
    dereddened = flux * 10 ** (0.4 * DEREDDEN * ebv[:, None])
    np.testing.assert_allclose(22.5 - 2.5 * np.log10(dereddened), per_band(painted.truth, "mag"), atol=1e-9)
    # Measured magnitudes scatter about the painted ones; in r by less than 2 %, so 40 of them stay within 0.1 mag.
    measured = per_band(painted.catalog, "modelMag")[:, 2]
    np.testing.assert_allclose(measured, 22.5 - 2.5 * np.log10(flux[:, 2]), atol=0.1)


def one_star(x: float, y: float, flux: float) -> Sources:
    """A field that holds one star at a pixel of its r frame."""
    group = field_sources(CONFIG.seed, 0, *plan(CONFIG.galaxies)[0])
    ra, dec = sky_of(group.field, np.array([x]), np.array([y]))
    nobody = group.galaxies.take(np.arange(0))
    return replace(group, galaxies=nobody, flux=np.full((1, len(BANDS)), flux), ra_deg=ra, dec_deg=dec)


@pytest.mark.parametrize("band", "ur")
def test_psf_fwhm_is_the_adaptive_width_of_a_painted_star(painted: Painted, band: str) -> None:
    star = one_star(900.3, 700.6, 50.0)
    image = paint([star], star.field, band)
    assert image.sum() == pytest.approx(50.0, rel=1e-4)  # the PSF's share beyond its edge is 4e-5
    x, y = (int(value[0]) for value in field_wcs(star.field, band).wcs_world2pix(star.ra_deg, star.dec_deg, 0))
    stamp = galsim.Image(np.ascontiguousarray(image[y - 30 : y + 31, x - 30 : x + 31]))
    measured = 2.3548 * 0.396 * galsim.hsm.FindAdaptiveMom(stamp).moments_sigma
    # The table is interpolated to 0.1 %; a pixel of 0.3958 arcsec is taken as 0.396.
    assert painted.catalog[f"psf_fwhm_{band}"][0].as_py() == pytest.approx(measured, rel=3e-3)


def test_the_adaptive_width_is_what_photoobj_calls_psf_fwhm(survey_data: Path) -> None:
    """The definition, on real stars: GalSim's moments of them against the PSF_FWHM beside them."""
    folder = survey_data / "sdss/000094-1-0012"
    image = fits.getdata(folder / "frame-r-000094-1-0012.fits.bz2")
    table = fits.getdata(folder / "photoObj-000094-1-0012.fits", 1)
    stars = table[(table["OBJC_TYPE"] == 6) & (np.abs(table["PSFMAG"][:, 2] - 17) < 1.5) & (table["NCHILD"] == 0)]
    ratios = []
    for star in stars:
        y, x = round(float(star["ROWC"][2]) - 0.5), round(float(star["COLC"][2]) - 0.5)
        stamp = image[max(y - 20, 0) : y + 21, max(x - 20, 0) : x + 21]
        if stamp.shape == (41, 41):
            moments = galsim.hsm.FindAdaptiveMom(galsim.Image(stamp.astype(float)), strict=False)
            ratios.append(2.3548 * 0.396 * moments.moments_sigma / star["PSF_FWHM"][2])
    assert len(ratios) > 30
    assert np.median(ratios) == pytest.approx(1.0, abs=0.01)


def test_the_psf_table_is_monotonic_and_wider_than_the_moffat() -> None:
    widths = np.linspace(0.7, 2.5, 19)
    adaptive = np.array([photoobj_psf_fwhm(float(width)) for width in widths])
    assert np.all(np.diff(adaptive) > 0)
    assert np.all(adaptive > widths)


def test_fields_of_a_strip_share_the_pixels_of_their_overlap() -> None:
    """A source on the border is painted into both fields, with the same noise: frames are cut from one strip."""
    first, second = (Field(STRIPS[1], index) for index in (0, 1))
    group = replace(one_star(500.0, FIELD_STEP_ROWS + 40.0, 300.0), field=first)
    ra, dec = sky_of(first, np.array([500.0]), np.array([FIELD_STEP_ROWS + 40.0]))
    group = replace(group, ra_deg=ra, dec_deg=dec)
    frames = []
    for field in (first, second):
        dn = expose(paint([group], field, "g"), 3, field, "g")
        frames.append(calibrate(dn, calibration(field.strip, "g"), interpolate_sky(*sky_table(field, "g"))))
    above, below = frames[0][FIELD_STEP_ROWS:], frames[1][: ROWS - FIELD_STEP_ROWS]
    assert above.max() > 10 * sky_noise(first.strip, "g")
    # Equal DN; the two sky tables are float32, 1e-5 DN apart, which can tip a pixel over one rounding step of 0.008 DN.
    np.testing.assert_allclose(above, below, atol=0.009 * calibration(first.strip, "g").max())
    assert not np.array_equal(frames[0][:128], frames[1][:128])


def test_a_truncated_frame_is_not_mistaken_for_one(painted: Painted) -> None:
    """The file is one bzip2 stream, so that a cut one cannot be read as a shorter frame."""
    data = (painted.survey.frames / frame_name(painted.field, "r")).read_bytes()
    decompressor = bz2.BZ2Decompressor()
    decompressor.decompress(data)
    assert decompressor.eof
    assert not decompressor.unused_data


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(IngestError, match=r"new or empty folder .* choose another --out"):
        simulate(CONFIG, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_survey_that_was_broken_off_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "survey"
    with pytest.raises(KeyboardInterrupt):
        simulate(CONFIG, out, stop)
    assert not list(out.rglob("*"))


@pytest.mark.parametrize(("settings", "text"), [({"galaxies": 0}, "--galaxies"), ({"seed": -1}, "--seed")])
def test_settings_that_make_no_survey_are_refused(settings: dict[str, int], text: str) -> None:
    with pytest.raises(IngestError, match=text):
        SurveyConfig(**settings)
