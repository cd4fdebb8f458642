"""Pictures and figures: colours obey Lupton's rule, files come whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from trainer import figures, figures_morphology, metrics, pictures
from trainer.plotting import drawing

BANDS = ("u", "g", "r", "i", "z")


def stamp(i: float, r: float, g: float) -> np.ndarray:
    """One flat stamp of 2 x 3 pixels, in nanomaggies a pixel, weighted so that equal numbers are grey."""
    flux = {"i": i / 1.0, "r": r / 1.5, "g": g / 2.5}
    return np.stack([np.full((2, 3), flux.get(band, 0.0)) for band in BANDS])


def test_equal_weighted_fluxes_are_grey_and_the_reddest_band_is_red() -> None:
    grey = pictures.to_rgb(stamp(0.2, 0.2, 0.2), BANDS)
    assert grey.shape == (2, 3, 3)
    np.testing.assert_allclose(grey, grey[0, 0, 0], rtol=1e-12)
    red, green, blue = pictures.to_rgb(stamp(0.4, 0.2, 0.1), BANDS)[0, 0]
    assert red > green > blue > 0


def test_colour_does_not_depend_on_brightness() -> None:
    """Lupton et al. 2004: the ratios of the channels are those of the fluxes, until and beyond saturation."""
    for brightness in (0.1, 1.0, 10.0, 1e4):
        flux = np.array([4.0, 2.0, 1.0]) * brightness
        rgb = pictures.to_rgb(stamp(*(flux - pictures.PEDESTAL)), BANDS)[0, 0]
        np.testing.assert_allclose(rgb / rgb[0], [1.0, 0.5, 0.25], rtol=1e-12)
        assert rgb.max() <= 1.0


def test_noise_below_the_sky_stays_a_colour_and_the_input_stays_itself() -> None:
    image = np.random.default_rng(0).normal(0, 0.1, (5, 20, 20)).astype(np.float32)
    before = image.copy()
    rgb = pictures.to_rgb(image, BANDS)
    assert rgb.min() >= 0.0
    assert rgb.max() <= 1.0
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("bands", "chosen"),
    [(BANDS, (3, 2, 1)), (("i", "g", "r"), (0, 2, 1)), (("g", "r", "z"), (2, 1, 0)), (("r",), (0, 0, 0))],
)
def test_bands_of_a_picture(bands: tuple[str, ...], chosen: tuple[int, int, int]) -> None:
    assert pictures.rgb_bands(bands) == chosen


def test_a_figure_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "one.png"
    with pytest.raises(ZeroDivisionError), drawing(path, width_in=2.0, height_in=1.0) as figure:
        figure.add_subplot().plot([1 / 0])
    assert not path.exists()
    with drawing(path, width_in=2.0, height_in=1.0, dpi=100) as figure:
        figure.add_subplot().plot([1, 2])
    assert [file.name for file in path.parent.iterdir()] == ["one.png"]
    assert imread(path).shape == (100, 200, 4)


def test_every_figure_is_drawn_for_few_and_for_many_galaxies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in (3, figures.CROWDED + 1):
        z_spec = rng.uniform(0.01, 0.3, n)
        z_phot = z_spec + rng.normal(0, 0.02, n)
        score = metrics.score_photoz(z_phot, z_spec)
        figures.redshift_figure(tmp_path / f"{n}-redshift.png", z_spec, z_phot, score, title="t")
        figures.residual_figure(tmp_path / f"{n}-residuals.png", z_spec, z_phot, title="t")
    example = figures.Example(
        objid=1, image=rng.normal(0, 0.1, (5, 9, 9)), probabilities=np.full(20, 0.05), z_spec=0.1, z_phot=0.2
    )
    figures.density_figure(tmp_path / "d.png", [example] * 4, np.linspace(0.01, 0.39, 20), BANDS, title="t")
    figures.curve_figure(tmp_path / "c.png", [("loss", np.arange(3.0), np.ones(3))], title="t")
    figures_morphology.confusion_figure(tmp_path / "m.png", np.array([[3, 1], [0, 0]]), ["spiral", "smooth"])
    drawn = list(tmp_path.iterdir())
    assert len(drawn) == 7
    for path in drawn:
        # Ink somewhere: a blank picture has no spread.
        assert imread(path)[..., :3].std() > 0.01, path.name


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    tiles = [pictures.Tile(stamp(0.4, 0.2, 0.1), "one"), pictures.Tile(stamp(0.1, 0.2, 0.4), frame_px=1)]
    for name in ("a.png", "b.png"):
        pictures.draw_tiles(tmp_path / name, tiles, BANDS, columns=3, title="t", note="n")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_running_median_is_the_median_of_equally_many() -> None:
    z_spec = np.linspace(0, 0.3, 600)
    dz = np.where(z_spec < 0.15, -0.01, 0.02)
    centre, median, spread = figures.running(z_spec[::-1].copy(), dz[::-1].copy())
    assert len(centre) == 12
    assert np.all(np.diff(centre) > 0)
    np.testing.assert_array_equal(median, [-0.01] * 6 + [0.02] * 6)
    np.testing.assert_array_equal(spread, np.zeros(12))
