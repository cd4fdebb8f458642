"""The page that `info --figure` draws: the same 64 stamps each time, colours that do not depend on brightness."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread

from sharding import Dataset
from sharding.__main__ import main
from sharding.figure import measured, random_stamps, rgb_bands, to_rgb, write_figure
from sharding.manifest import SAMPLES, Manifest
from sharding.writer import finish, write_batches

MakeDataset = Callable[[Path, str], Path]


@pytest.fixture(params=["webdataset", "zarr"])
def folder(request: pytest.FixtureRequest, make_dataset: MakeDataset, tmp_path: Path) -> Path:
    """The nine samples with a column of noise a band, one of NaN alone, and one that only two bands have."""
    path = make_dataset(tmp_path / "data", request.param)
    manifest = Manifest.read(path)
    table = pq.read_table(path / SAMPLES)
    for band, scale in zip("gri", (1.0, 2.0, 3.0), strict=True):
        table = table.append_column(f"sky_sigma_{band}", pa.array(scale * np.arange(1, 10)))
        table = table.append_column(f"stamp_sigma_{band}", pa.nulls(9, pa.float64()))
    table = table.append_column("psf_fwhm_g", pa.array(np.ones(9))).append_column("psf_fwhm_r", pa.array(np.ones(9)))
    write_batches(path / SAMPLES, [table])
    finish(path, manifest, [entry.name for entry in manifest.files])
    return path


def test_the_page_is_a_picture_with_the_same_bytes_each_time(folder: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(folder)
    write_figure(dataset, tmp_path / "a.png")
    write_figure(dataset, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    picture = imread(tmp_path / "a.png")[..., :3]
    assert np.ptp(picture) == 1  # not blank
    assert not list(tmp_path.glob("*.partial"))


def test_64_stamps_are_chosen_the_same_ones_each_time() -> None:
    chosen = random_stamps(10_000)
    np.testing.assert_array_equal(chosen, random_stamps(10_000))
    assert len(np.unique(chosen)) == 64
    # Uniform: the mean of 64 has a standard error of 10000 / sqrt(12 * 64) = 361; five of them.
    assert abs(chosen.mean() - 5000) < 5 * 361
    np.testing.assert_array_equal(random_stamps(9), np.arange(9))


def test_only_quantities_that_every_band_has_are_drawn(folder: Path) -> None:
    found = measured(Dataset.open(folder))
    assert list(found) == ["sky_sigma"]  # stamp_sigma has no number, psf_fwhm lacks a band
    np.testing.assert_array_equal(found["sky_sigma"], np.outer(np.arange(1, 10), [1, 2, 3]))


def test_the_colour_of_a_pixel_does_not_depend_on_its_brightness() -> None:
    sigma = np.array([2.0, 1.0, 0.5])
    brightness = np.array([5.0, 20.0, 60.0])
    image = sigma[:, None, None] * (
        np.array([1.0, 0.7, 0.4])[:, None, None] * brightness - 2
    )  # 2 sigma is the pedestal
    red, green, blue = np.moveaxis(to_rgb(image, sigma), -1, 0)
    np.testing.assert_allclose(green / red, 0.7, rtol=1e-12)
    np.testing.assert_allclose(blue / red, 0.4, rtol=1e-12)
    assert (np.diff(red) > 0).all()


def test_colours_lie_between_0_and_1_and_a_missing_pixel_is_black() -> None:
    image = np.array([-1e9, -1.0, 0.0, 1.0, 1e9, np.nan]) * np.ones((3, 1, 1))
    colours = to_rgb(image, np.ones(3))[0]
    assert np.isfinite(colours).all()
    assert ((colours >= 0) & (colours <= 1)).all()
    assert not colours[-1].any()
    np.testing.assert_allclose(colours[-2], 1)


def test_bands_are_shown_from_blue_to_red() -> None:
    assert rgb_bands(tuple("ugriz")) == [3, 2, 1]
    assert rgb_bands(tuple("grz")) == [2, 1, 0]
    assert rgb_bands(("r",)) == [0, 0, 0]


def test_the_command_draws_the_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "f.png"
    assert main(["info", str(folder), "--figure", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "9 samples" in printed
    assert str(out) in printed
    assert imread(out).ndim == 3
