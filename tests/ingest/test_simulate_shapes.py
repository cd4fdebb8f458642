"""Shapes of practice galaxies, and what round apertures measure of them, beside GalSim's images and closed forms."""

import galsim
import numpy as np
import pytest

from ingest.simulate.apertures import Petrosian, petrosian
from ingest.simulate.conditions import moffat
from ingest.simulate.paint import BULGE_EDGE, DISC_EDGE
from ingest.simulate.population import draw_galaxies
from ingest.simulate.shapes import draw_radius_kpc, projected_axis_ratio

PSF_FWHM = 1.25  # arcsec


def of_image(share: float, bulge: tuple[float, float], disc: tuple[float, float]) -> tuple[float, float, float]:
    """(R50, R90, share of the flux) of (half-light radius, axis ratio) of both, from the pixels of a fine image."""
    parts = []
    for index, flux, (radius, axis_ratio), edge in ((4, share, bulge, BULGE_EDGE), (1, 1 - share, disc, DISC_EDGE)):
        if flux > 0:
            part = galsim.Sersic(n=index, half_light_radius=radius, trunc=edge * radius, flux=flux)
            parts.append(part.shear(q=axis_ratio, beta=30 * galsim.degrees))
    scale = 0.1
    image = galsim.Convolve(galsim.Add(parts), moffat(PSF_FWHM)).drawImage(
        nx=601, ny=601, scale=scale, method="no_pixel"
    )
    y, x = np.indices(image.array.shape) - 300
    radius = scale * np.hypot(x, y).ravel()
    order = np.argsort(radius)
    growth = np.cumsum(image.array.ravel()[order], dtype=float)

    def within(r: np.ndarray | float) -> np.ndarray:
        return np.interp(r, radius[order], growth)

    trial = np.geomspace(1.0, 20.0, 2000)
    annulus = (within(1.25 * trial) - within(0.8 * trial)) / (1.25**2 - 0.8**2)
    flux = float(within(2 * trial[np.argmax(annulus / within(trial) < 0.2)]))
    r50, r90 = np.interp([0.5 * flux, 0.9 * flux], growth, radius[order])
    return float(r50), float(r90), flux


def of_table(share: float, bulge: tuple[float, float], disc: tuple[float, float]) -> Petrosian:
    axis_ratio = bulge[1] ** share * disc[1] ** (1 - share)
    return petrosian(*(np.array([value]) for value in (share, bulge[0], disc[0], axis_ratio)), PSF_FWHM)


@pytest.mark.parametrize(
    ("share", "bulge", "disc"),
    [
        (0.0, (1.0, 1.0), (2.0, 1.0)),
        (0.0, (1.0, 0.5), (1.6, 0.3)),
        (0.24, (0.5, 0.9), (1.0, 0.7)),
        (0.5, (1.2, 0.7), (2.0, 0.7)),
        (1.0, (2.0, 1.0), (2.0, 1.0)),
    ],
    ids=["face-on disc", "inclined disc", "spiral", "lenticular", "elliptical"],
)
def test_petrosian_radii_are_those_of_the_drawn_image(
    share: float, bulge: tuple[float, float], disc: tuple[float, float]
) -> None:
    found, expected = of_table(share, bulge, disc), of_image(share, bulge, disc)
    # The table is linear between knots that are a factor 1.56 apart; bulge and disc have one axis ratio in it.
    assert found.r50_arcsec[0] == pytest.approx(expected[0], rel=0.02)
    assert found.r90_arcsec[0] == pytest.approx(expected[1], rel=0.03)
    assert found.flux_share[0] == pytest.approx(expected[2], abs=0.01)


def test_a_bulge_is_more_concentrated_and_loses_more_light_than_a_disc() -> None:
    share = np.linspace(0.0, 1.0, 6)
    seen = petrosian(share, np.full(6, 3.0), np.full(6, 3.0), np.full(6, 0.8), PSF_FWHM)
    assert np.all(np.diff(seen.r90_arcsec / seen.r50_arcsec) > 0)
    assert np.all(np.diff(seen.flux_share) < 0)


def test_a_galaxy_beyond_the_table_is_taken_for_one_at_its_end() -> None:
    tiny, smallest = (
        petrosian(np.zeros(1), np.array([size]), np.array([size]), np.ones(1), 1.0) for size in (0.01, 1.25**-8)
    )
    assert tiny.r50_arcsec[0] / 0.01 == pytest.approx(smallest.r50_arcsec[0] / 1.25**-8)


def test_projected_ellipsoids_have_the_axis_ratio_of_their_covariance() -> None:
    """A Gaussian ellipsoid seen from any direction is a Gaussian, whose covariance is that of the projected points."""
    rng = np.random.default_rng(1)
    middle, short = rng.uniform(0.5, 1.0, 50), rng.uniform(0.1, 0.5, 50)
    cos_inclination, azimuth = rng.random(50), rng.uniform(0, np.pi, 50)
    found = projected_axis_ratio(middle, short, cos_inclination, azimuth)
    for place in range(50):
        cos, sin = cos_inclination[place], np.sqrt(1 - cos_inclination[place] ** 2)
        sight = np.array([sin * np.cos(azimuth[place]), sin * np.sin(azimuth[place]), cos])
        plane = np.linalg.svd(sight[None])[2][1:]  # two directions across the line of sight
        covariance = plane @ np.diag([1.0, middle[place] ** 2, short[place] ** 2]) @ plane.T
        smaller, larger = np.linalg.eigvalsh(covariance)
        assert found[place] == pytest.approx(np.sqrt(smaller / larger), rel=1e-9)


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["late", "early"])
def test_sizes_grow_with_luminosity_and_scatter_log_normally(share: float) -> None:
    rng = np.random.default_rng(2)
    number = 20_000
    mags = np.array([-18.0, -19.5, -21.0, -22.5])
    ln_kpc = [np.log(draw_radius_kpc(np.full(number, mag), np.full(number, share), rng)) for mag in mags]
    medians, spreads = np.median(ln_kpc, axis=1), np.std(ln_kpc, axis=1)
    assert np.all(np.diff(medians) > 0.1)
    # sigma of ln R is 0.45 for faint galaxies and 0.27 for bright ones; the standard deviation of 20,000 has 0.5 %.
    assert spreads[0] == pytest.approx(0.45, rel=0.04)
    assert spreads[-1] == pytest.approx(0.27, rel=0.04)


def test_inclined_luminous_discs_are_redder_and_faint_ones_are_not() -> None:
    galaxies = draw_galaxies(200_000, (14.0, 17.8), np.random.default_rng(3))
    discs = galaxies.bulge_fraction < 0.3
    for chosen, excess in ((galaxies.abs_mag_r < -20, True), (galaxies.abs_mag_r > -18, False)):
        inclined, face_on = (
            galaxies.dust_ebv[discs & chosen & tilt]
            for tilt in (galaxies.disc_axis_ratio < 0.35, galaxies.disc_axis_ratio > 0.7)
        )
        error = np.hypot(*(ebv.std() / np.sqrt(len(ebv)) for ebv in (inclined, face_on)))
        difference = inclined.mean() - face_on.mean()
        if excess:
            # At least 1.27 (log10 0.35)^2 = 0.26 mag in r of the disc, which has 0.7 of the light: E(B-V) = 0.18 / 3.6.
            assert difference > 0.05
        else:
            assert abs(difference) < 5 * error


def test_edge_on_discs_are_rarer_in_a_magnitude_limited_sample_than_in_space() -> None:
    """Dust dims them out of it: of random directions, a thin disc has cos i < 0.25 in a quarter of cases."""
    galaxies = draw_galaxies(200_000, (14.0, 17.8), np.random.default_rng(4))
    luminous = (galaxies.bulge_fraction < 0.3) & (galaxies.redshift > 0.05)
    edge_on = np.mean(galaxies.disc_axis_ratio[luminous] < np.sqrt(0.21**2 + (1 - 0.21**2) * 0.25**2))
    assert 0.10 < edge_on < 0.22
