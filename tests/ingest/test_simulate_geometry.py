"""Where practice frames lie: their WCS, the bands' shifts, the strips they are cut from, and stamps that fit in."""

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from ingest.simulate import draw_catalog
from ingest.simulate.catalog import object_ids, plan
from ingest.simulate.geometry import (
    COLUMNS,
    FIELD_STEP_ROWS,
    ROWS,
    STRIPS,
    Field,
    Strip,
    field_wcs,
    frame_centre,
    great_circle,
    lay_out,
)
from ingest.simulate.spectra import BANDS
from ingest.simulate.survey import LARGEST_SURVEY

STAMP_HALF_PX, STAMP_SCALE_DEG, LANCZOS_REACH_PX = 53, 0.396 / 3600, 3


def test_strips_have_two_orientations_at_least_and_one_of_them_off_the_axes() -> None:
    off_axis = [abs((strip.position_angle_deg + 45) % 90 - 45) for strip in STRIPS]
    assert min(off_axis) == 0.0
    assert max(off_axis) > 30.0


@pytest.mark.parametrize("strip", STRIPS)
@pytest.mark.parametrize("band", BANDS)
def test_pixels_have_sdss_scale_handedness_and_the_strips_angle(strip: Strip, band: str) -> None:
    wcs = field_wcs(Field(strip, 0), band)
    np.testing.assert_allclose(proj_plane_pixel_scales(wcs) * 3600, 0.396, rtol=1e-3)
    assert np.linalg.det(wcs.wcs.cd) < 0  # north up means east left
    ahead = wcs.pixel_to_world(1024, 745).position_angle(wcs.pixel_to_world(1024, 747)).deg
    # The first field of r has the strip's angle; other bands are up to 6 arcsec away, where north turns by 0.001.
    assert ahead == pytest.approx(strip.position_angle_deg, abs=2e-3)


@pytest.mark.parametrize("strip", STRIPS)
def test_an_object_is_shifted_from_band_to_band(strip: Strip) -> None:
    position = field_wcs(Field(strip, 2), "r").pixel_to_world(1024, 744)
    for band, shift in zip(BANDS, strip.band_shift_px, strict=True):
        x, y = field_wcs(Field(strip, 2), band).world_to_pixel(position)
        # On the sphere shifts along and across differ from those in the plane by 1e-9 of the frame's 2000 px.
        np.testing.assert_allclose([x - 1024, y - 744], shift, atol=1e-5)


@pytest.mark.parametrize("strip", STRIPS)
@pytest.mark.parametrize("band", BANDS)
def test_neighbouring_fields_agree_where_they_overlap(strip: Strip, band: str) -> None:
    x, y = np.meshgrid(np.linspace(0, COLUMNS - 1, 7), np.linspace(FIELD_STEP_ROWS, ROWS - 1, 5))
    sky = field_wcs(Field(strip, 4), band).pixel_to_world(x, y)
    x_next, y_next = field_wcs(Field(strip, 5), band).world_to_pixel(sky)
    # Gnomonic rows 745 px = 1.4e-3 rad from the centre are off by (1.4e-3)^3 / 3 rad = 5e-4 px, columns by as much.
    np.testing.assert_allclose(x_next, x, atol=2e-3)
    np.testing.assert_allclose(y_next, y - FIELD_STEP_ROWS, atol=2e-3)


@pytest.mark.parametrize("strip", STRIPS)
def test_fields_follow_one_great_circle(strip: Strip) -> None:
    """Node and inclination by the definition: latitude above the inclined circle is zero at every field's centre."""
    node, inclination, longitude = great_circle(strip)
    for index in (0, 3, 40):
        ra, dec, _ = frame_centre(Field(strip, index), "r")
        along, tilt, height = np.radians([ra - node, inclination, dec])
        latitude = np.sin(height) * np.cos(tilt) - np.sin(along) * np.cos(height) * np.sin(tilt)
        assert abs(latitude) < 1e-12
        east = np.sin(along) * np.cos(height) * np.cos(tilt) + np.sin(height) * np.sin(tilt)
        mu = np.arctan2(east, np.cos(along) * np.cos(height))
        step = index * FIELD_STEP_ROWS * np.hypot(*field_wcs(Field(strip, 0), "r").wcs.cd[:, 1])
        assert (np.degrees(mu) - longitude - step + 180) % 360 - 180 == pytest.approx(0.0, abs=1e-9)


def test_the_longest_strips_stay_apart() -> None:
    longest = len(lay_out(-(-LARGEST_SURVEY // 170))) // len(STRIPS)
    lines = [
        SkyCoord([frame_centre(Field(strip, i), "r")[:2] for i in range(longest + 1)], unit="deg") for strip in STRIPS
    ]
    for one, other in combinations(lines, 2):
        _, gap, _ = one.match_to_catalog_sky(other)
        assert gap.deg.min() > 0.4  # a field is 0.22 degrees wide


def test_a_strip_takes_neighbouring_places_and_all_fields_differ() -> None:
    fields = lay_out(20)
    assert len(set(fields)) == 20
    for before, after in pairwise(fields):
        assert after.index == (before.index + 1 if after.strip == before.strip else 0)


@pytest.mark.parametrize(("galaxies", "counts"), [(1, [1]), (170, [170]), (171, [170, 1]), (3060, [170] * 18)])
def test_fields_are_filled_in_turn(galaxies: int, counts: list[int]) -> None:
    assert [count for _, count in plan(galaxies)] == counts


def test_stamps_lie_within_their_field_in_every_band() -> None:
    catalog = draw_catalog(6 * 170, seed=2)
    fields = {(field.strip.run, field.number): field for field, _ in plan(6 * 170)}
    low, high = np.full(catalog.num_rows, np.inf), np.full(catalog.num_rows, np.inf)
    primary = np.zeros(catalog.num_rows, bool)
    for row, galaxy in enumerate(catalog.select(["run", "field", "ra", "dec"]).to_pylist()):
        corners = stamp_corners(galaxy["ra"], galaxy["dec"])
        field = fields[galaxy["run"], galaxy["field"]]
        for band in BANDS:
            pixels = np.array(field_wcs(field, band).wcs_world2pix(corners, 0))
            low[row] = min(low[row], pixels.min())
            high[row] = min(high[row], (np.array([COLUMNS - 1, ROWS - 1]) - pixels).min())
        y = field_wcs(field, "r").wcs_world2pix([[galaxy["ra"], galaxy["dec"]]], 0)[0, 1]
        primary[row] = 64 <= y <= ROWS - 64
    covered = (low >= LANCZOS_REACH_PX) & (high >= LANCZOS_REACH_PX)
    assert covered.all()
    assert primary.all()


def stamp_corners(ra: float, dec: float) -> np.ndarray:
    """Sky positions of the outermost pixel centres of a stamp: north up, east left."""
    stamp = WCS(naxis=2)
    stamp.wcs.ctype, stamp.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, dec]
    stamp.wcs.crpix, stamp.wcs.cdelt = [1 + STAMP_HALF_PX] * 2, [-STAMP_SCALE_DEG, STAMP_SCALE_DEG]
    ends = (0, 2 * STAMP_HALF_PX)
    return np.array(stamp.wcs_pix2world([(x, y) for x in ends for y in ends], 0))


def test_no_two_catalogue_galaxies_share_the_middle_of_a_stamp() -> None:
    catalog = draw_catalog(2 * 170, seed=8)
    positions = SkyCoord(catalog["ra"].to_numpy(), catalog["dec"].to_numpy(), unit="deg")
    _, gap, _ = positions.match_to_catalog_sky(positions, nthneighbor=2)
    # A cell is 110 columns wide and a galaxy at most 0.15 of it from its centre.
    assert gap.arcsec.min() / 0.396 > 0.7 * 109


def test_identifiers_are_packed_as_sdss_packs_them(survey_data: Path) -> None:
    real = pyarrow.csv.read_csv(survey_data / "sdss/000094-1-0012/galaxies.csv")["objid"].to_numpy()
    field = Field(replace(STRIPS[0], run=94, camcol=1, first_field=12), 0)
    packed = object_ids(field, 3)
    np.testing.assert_array_equal(packed & 0xFFFF, [1, 2, 3])
    assert set(real >> 16) == set(packed >> 16)
