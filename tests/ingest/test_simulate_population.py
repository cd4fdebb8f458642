"""The practice sky beside the real one, and beside other programs' answers to parts of it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy import units
from astropy.cosmology import FlatLambdaCDM

from ingest.extinction import recognise_law
from ingest.simulate import draw_catalog
from ingest.simulate.catalog import morphology
from ingest.simulate.conditions import CATALOGUE_LAW
from ingest.simulate.cosmology import arcsec_per_kpc, distance_modulus
from ingest.simulate.photometry import asinh_magnitude
from ingest.simulate.population import draw_galaxies
from ingest.simulate.spectra import BANDS, TEMPLATES, calzetti, colour_table, ln_correction

PER_BAND = ("extinction", "psf_fwhm", "petroMag", "modelMag")


@pytest.fixture(scope="module")
def catalog() -> pa.Table:
    """Galaxies of 77 fields."""
    return draw_catalog(13_000, seed=1)


def test_the_sample_is_selected_as_the_main_galaxy_sample(catalog: pa.Table) -> None:
    dereddened = catalog["petroMag_r"].to_numpy() - catalog["extinction_r"].to_numpy()
    assert dereddened.max() < 17.8
    redshift = catalog["specz"].to_numpy()
    assert redshift.min() > 0.0
    assert 0.05 < np.median(redshift) < 0.15
    assert redshift.max() < 0.4


def test_the_catalogue_is_complete_and_its_identities_are_unique(catalog: pa.Table) -> None:
    names = {f"{name}_{band}" for name in PER_BAND for band in BANDS} | {"petroR50_r", "petroR90_r", "expAB_r"}
    names |= {"objid", "run", "camcol", "field", "rerun", "thing_id", "ra", "dec", "ebv_sfd", "specz", "morphology"}
    assert set(catalog.column_names) == names
    assert catalog.num_rows == 13_000
    assert len(set(catalog["objid"].to_pylist())) == len(set(catalog["thing_id"].to_pylist())) == 13_000
    assert all(column.null_count == 0 for column in catalog.columns)
    assert all(np.isfinite(catalog[name].to_numpy()).all() for name in names - {"rerun", "morphology"})


def test_a_longer_catalogue_of_the_same_layout_only_adds_rows() -> None:
    short, long = draw_catalog(500, seed=3), draw_catalog(510, seed=3)  # three fields both
    assert long.slice(0, 340).equals(short.slice(0, 340))
    assert not draw_catalog(500, seed=4)["ra"].equals(short["ra"])


def test_extinctions_follow_the_law_of_dr12(catalog: pa.Table) -> None:
    extinction = np.stack([catalog[f"extinction_{band}"].to_numpy() for band in BANDS], axis=1)
    assert recognise_law(extinction, "catalogue") == "Schlegel-Finkbeiner-Davis 1998"
    mean_ebv = (extinction / CATALOGUE_LAW).mean(axis=1)
    np.testing.assert_allclose(mean_ebv, catalog["ebv_sfd"].to_numpy(), rtol=1e-12)


def test_photometric_errors_grow_as_flux_falls(catalog: pa.Table) -> None:
    between = catalog["petroMag_u"].to_numpy() - catalog["modelMag_u"].to_numpy()
    u = catalog["modelMag_u"].to_numpy()
    assert between[u > 20].std() > 3 * between[u < 18].std()


@pytest.mark.parametrize("redshift", [0.0, 0.05, 0.13, 0.397])
@pytest.mark.parametrize(("type_index", "dust"), [(0.0, 0.0), (0.37, 0.02), (1.0, 0.13), (1.74, 0.45), (3.0, 0.9)])
def test_colours_are_those_that_speclite_measures(redshift: float, type_index: float, dust: float) -> None:
    from galsim import meta_data
    from speclite.filters import load_filters

    wavelength = np.arange(1500.0, 13_000.0, 2.0)  # Angstrom

    def ln_template(name: str) -> np.ndarray:
        knots, flux = np.loadtxt(Path(meta_data.share_dir) / "SEDs" / f"CWW_{name}_ext.sed").T
        return np.interp(wavelength, knots, np.log(flux)) + ln_correction(wavelength)[TEMPLATES.index(name)]

    lower = min(int(type_index), 2)
    pair = [ln_template(name) for name in TEMPLATES[lower : lower + 2]]
    ln_flux = (1 - type_index + lower) * pair[0] + (type_index - lower) * pair[1]
    f_lambda = np.exp(ln_flux) * 10 ** (-0.4 * dust * calzetti(wavelength)) * units.Unit("erg / (s cm2 Angstrom)")
    sdss = load_filters("sdss2010-*")

    def magnitudes(z: float) -> np.ndarray:
        table = sdss.get_ab_magnitudes(f_lambda / (1 + z), wavelength * (1 + z) * units.Angstrom)
        return np.array([table[f"sdss2010-{band}"][0] for band in BANDS])

    found = colour_table()(*(np.array([value]) for value in (type_index, redshift, dust)))[0]
    # 0.003 mag was the worst of 200 random galaxies; the table's knots and the 10 Angstrom grid make that.
    np.testing.assert_allclose(found, magnitudes(redshift) - magnitudes(0.0)[2], atol=0.01)


def test_calzetti_has_its_published_values() -> None:
    # k(V) = R_V = 4.05 at 5500 Angstrom, by construction, and k(B) - k(V) = 1 by the definition of E(B-V); the law's
    # two polynomials keep both within a few per cent.
    k_v, k_b = calzetti(np.array([5500.0, 4400.0]))
    assert k_v == pytest.approx(4.05, abs=0.02)
    assert k_b - k_v == pytest.approx(1.0, abs=0.1)


def test_distances_are_astropys() -> None:
    cosmology = FlatLambdaCDM(H0=70.0, Om0=0.3)
    redshift = np.array([0.0035, 0.02, 0.1, 0.25, 0.39])
    np.testing.assert_allclose(distance_modulus(redshift), cosmology.distmod(redshift).value, atol=1e-3)
    expected = cosmology.arcsec_per_kpc_proper(redshift).value
    np.testing.assert_allclose(arcsec_per_kpc(redshift), expected, rtol=1e-3)


def test_galaxies_fill_the_volume_they_can_be_seen_in() -> None:
    """Uniform space density: V / V_max of a magnitude-limited sample is uniform (Schmidt 1968), for nearby galaxies."""
    galaxies = draw_galaxies(200_000, (14.0, 17.8), np.random.default_rng(5))
    near = galaxies.redshift < 0.05  # evolution and K corrections are small
    dwarfs = near & (galaxies.abs_mag_r > -18.5) & (galaxies.abs_mag_r < -17.0)
    room = 17.8 - galaxies.mag[dwarfs, 2]  # mag by which each could be fainter and still be seen
    ratio = 10 ** (-0.6 * room)
    # A uniform variable has mean 1/2 and sigma 0.29; r > 14 takes at most 10^(-0.6 * 3.8) = 0.5 % away at the low end.
    assert ratio.mean() == pytest.approx(0.5, abs=5 * 0.29 / np.sqrt(dwarfs.sum()) + 0.03)


def test_morphology_follows_what_is_painted() -> None:
    galaxies = draw_galaxies(5000, (14.0, 17.8), np.random.default_rng(6))
    labels = np.array(morphology(galaxies))
    smooth = np.isin(labels, ["completely round", "in-between", "cigar-shaped"])
    np.testing.assert_array_equal(smooth, galaxies.bulge_fraction >= 0.5)
    assert galaxies.disc_axis_ratio[labels == "edge-on"].max() < 0.3
    assert min(np.count_nonzero(labels == name) for name in set(labels)) > 20
    assert len(set(labels)) == 5


def test_magnitudes_are_asinh_as_photoobjs(survey_data: Path) -> None:
    from astropy.io import fits

    table = fits.getdata(survey_data / "sdss/000094-1-0012/photoObj-000094-1-0012.fits", 1)
    measured = (table["PSFMAG"] > 0).all(axis=1)  # -9999 is missing
    magnitudes = asinh_magnitude(table["PSFFLUX"][measured].astype(float))
    assert (table["PSFFLUX"][measured] < 0).any()
    # The file's float32 magnitudes near 25 have a spacing of 2e-6.
    np.testing.assert_allclose(magnitudes, table["PSFMAG"][measured], atol=5e-6)
