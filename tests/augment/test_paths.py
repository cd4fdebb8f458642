"""Every path makes the view that the reference makes in float64, on real and on adversarial stamps."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from augment import PRESETS, Conditions, Plan, draw, make_plan, reference

F64 = torch.float64
UGRIZ = ("u", "g", "r", "i", "z")
RNG = torch.Generator().manual_seed(11)


def assert_is_the_reference(path, stamps: torch.Tensor, plan: Plan) -> None:
    """Values within the path's tolerance, NaN in the same pixels, and the input as it was."""
    before = stamps.clone()
    got = path.render(stamps, plan)
    assert torch.equal(stamps.nan_to_num(7.0), before.nan_to_num(7.0))
    assert got.shape == (len(plan.place), stamps.shape[1], plan.size_px, plan.size_px)
    exact = reference.render(stamps.double(), plan)
    # How much of a pixel comes from bad ones is known to some 1e-6 of itself, so only the very threshold may differ.
    bad = (~stamps.isfinite()).double()
    quiet = replace(plan, gain=torch.ones_like(plan.gain), noise_sigma=torch.zeros_like(plan.noise_sigma))
    weight = reference.render(bad, quiet)
    sure = (weight < 0.99 * reference.NAN_WEIGHT) | (weight > 1.01 * reference.NAN_WEIGHT)
    assert torch.equal(got.isnan() & sure, exact.isnan() & sure)
    off = (got.double() - exact).abs().nan_to_num(0.0)
    assert (off <= path.tolerance(stamps, plan)).all(), f"{float((off / path.tolerance(stamps, plan)).max()):.3g} x"


def plan_of(
    stamps: torch.Tensor, size_px: int, *, angle=(30.0,), scale=1.0, flip=False, shift=(0.0, 0.0), blur_fwhm_px=0.0,
    noise=0.0, ebv=0.2,
) -> Plan:  # fmt: skip
    """A row for each angle of each stamp; widths and noise grow from band to band, the first band's are 0."""
    n, bands = stamps.shape[:2]
    rising = torch.arange(bands, dtype=F64) / max(1, bands - 1)
    known = Conditions(
        ebv=torch.full((n,), 0.1, dtype=F64), pixel_scale_arcsec=1.0, mad=rising,
        psf_fwhm_arcsec=torch.full((n, bands), 1e-3), sky_sigma=None,
    )  # fmt: skip
    drawn = draw(PRESETS["none"], seed=3, epoch=0, sample=torch.arange(n), view=0, bands=UGRIZ[:bands])
    moved = replace(
        drawn, scale=torch.full((n,), scale, dtype=F64), flip=torch.full((n,), flip),
        shift_px=torch.tensor([shift], dtype=F64).expand(n, 2), ebv=torch.full((n,), ebv, dtype=F64),
        mad_factor=torch.full((n,), noise, dtype=F64), psf_fwhm_arcsec=(blur_fwhm_px * rising).expand(n, bands),
    )  # fmt: skip
    shape = (stamps.shape[2], stamps.shape[3])
    turns = [replace(moved, angle_deg=torch.full((n,), each, dtype=F64)) for each in angle]
    return Plan.joined(
        [make_plan(turn, known, bands=UGRIZ[:bands], stamp_shape=shape, size_px=size_px) for turn in turns]
    )


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=RNG)


def impulse(y: int, x: int, side: int = 25, bands: int = 2) -> torch.Tensor:
    stamp = torch.zeros(1, bands, side, side)
    stamp[..., y, x] = 1000.0
    return stamp


def holed(*values: float) -> torch.Tensor:
    stamp = noise(1, 2, 25, 25)
    for number, value in enumerate(values):
        stamp[0, number % 2, 9 + 2 * number, 13] = value
    return stamp


ADVERSARIAL = {
    "impulse at the corner": (impulse(0, 0), {"angle": (0.0, 45.0), "blur_fwhm_px": 3.0, "shift": (5.0, 5.0)}),
    "impulse at the last corner": (impulse(24, 24), {"angle": (180.0, 200.0), "scale": 0.6}),
    "impulse at the centre": (impulse(12, 12), {"angle": (0.0, 90.0, 17.0), "flip": True, "blur_fwhm_px": 2.0}),
    "constant": (torch.full((1, 2, 25, 25), 3.0), {"angle": (33.0,), "blur_fwhm_px": 4.0, "scale": 0.9}),
    "NaN": (holed(torch.nan), {"angle": (0.0, 30.0), "blur_fwhm_px": 2.5, "noise": 1.0}),
    "NaN and infinities": (holed(torch.nan, torch.inf, -torch.inf), {"angle": (90.0, 77.0), "blur_fwhm_px": 1.0}),
    "all NaN": (torch.full((1, 1, 16, 16), torch.nan), {"angle": (10.0,)}),
    "extreme angles": (noise(1, 1, 25, 25), {"angle": (1e-9, 89.999999, 359.999999, -725.0, 1e6)}),
    "far outside": (noise(1, 1, 9, 12), {"angle": (45.0,), "shift": (40.0, -33.0), "scale": 0.25}),
    "sigma 0": (noise(1, 3, 25, 25), {"angle": (0.0, 12.0), "blur_fwhm_px": 0.0, "noise": 0.0}),
    "a hair of blur": (noise(1, 2, 25, 25), {"angle": (0.0, 12.0), "blur_fwhm_px": 0.3}),
    "a blur as wide as the view": (noise(1, 2, 40, 40), {"angle": (5.0,), "blur_fwhm_px": 40.0}),
    "one band, noise": (noise(1, 1, 25, 25), {"noise": 2.0}),
    "odd and not square": (noise(2, 2, 31, 22), {"angle": (0.0, 61.0), "noise": 0.5, "blur_fwhm_px": 2.0}),
    "two pixels": (noise(1, 1, 2, 2), {"angle": (0.0, 30.0)}),
    "large": (1e30 * noise(1, 1, 25, 25), {"angle": (20.0,)}),
}


@pytest.mark.parametrize("case", ADVERSARIAL)
@pytest.mark.parametrize("size_px", [16, 17])
def test_adversarial_stamps(path, case, size_px):
    stamps, moved = ADVERSARIAL[case]
    assert_is_the_reference(path, stamps, plan_of(stamps, size_px, **moved))


def test_sigma_0_on_whole_pixels_gives_the_stamps_own_bits(path):
    """No gain, no noise, no blur: the crop of torch.rot90, in every bit."""
    stamps = torch.randn(2, 2, 27, 27)
    for turns in range(4):
        plan = plan_of(stamps, 16, angle=(90.0 * turns,), ebv=0.1)
        assert torch.equal(path.render(stamps, plan), torch.rot90(stamps, turns, (2, 3))[:, :, 5:21, 5:21])


def test_rows_show_any_stamp_in_any_order(path):
    stamps = torch.randn(3, 1, 25, 25)
    plan = plan_of(stamps, 16, angle=(20.0, 70.0))
    some = replace(plan.rows(slice(0, 5)), place=torch.tensor([2, 2, 0, 1, 2]))
    assert_is_the_reference(path, stamps, some)


@pytest.fixture(scope="module")
def real(survey_data: Path) -> tuple[torch.Tensor, Conditions]:
    """Galaxies of 94-1-12, cut from its frames as they are, with the catalogue's dust and seeing."""
    indexed_bzip2 = pytest.importorskip("indexed_bzip2")
    fits = pytest.importorskip("astropy.io.fits")
    field = survey_data / "sdss/000094-1-0012"
    with (field / "galaxies.csv").open() as table:
        rows = list(csv.DictReader(table))
    places = [(round(float(row["y_r"])), round(float(row["x_r"]))) for row in rows]
    chosen = [i for i, (y, x) in enumerate(places) if 60 < y < 1420 and 60 < x < 1980][:6]
    stamps = torch.empty(len(chosen), 5, 107, 107)
    for number, band in enumerate(UGRIZ):
        with indexed_bzip2.open(str(field / f"frame-{band}-000094-1-0012.fits.bz2"), parallelization=1) as file:
            image = fits.open(io.BytesIO(file.read()))[0].data.astype("float32")
        for place, index in enumerate(chosen):
            y, x = places[index]
            stamps[place, number] = torch.from_numpy(image[y - 53 : y + 54, x - 53 : x + 54])

    def column(name: str) -> torch.Tensor:
        return torch.tensor([[float(rows[i][f"{name}_{band}"]) for band in UGRIZ] for i in chosen])

    known = Conditions(
        ebv=column("extinction")[:, 2] / 2.285, pixel_scale_arcsec=0.396,
        mad=stamps.flatten(2).abs().median(dim=2)[0][0], psf_fwhm_arcsec=0.5 * column("psfFWHM"),
        sky_sigma=0.5 * torch.tensor([0.0388, 0.0234, 0.03, 0.0579, 0.214]).expand(len(chosen), 5),
    )  # fmt: skip
    return stamps, known


@pytest.mark.parametrize("name", ["hayat2021", "stein2021", "none"])
def test_real_stamps(path, name, real):
    stamps, known = real
    if path.name == "triton":  # its interpreter is slow
        stamps, known = (
            stamps[:1],
            replace(known, ebv=known.ebv[:1], psf_fwhm_arcsec=known.psf_fwhm_arcsec[:1], sky_sigma=known.sky_sigma[:1]),
        )
    sample = torch.arange(len(stamps))
    plans = [
        make_plan(
            draw(PRESETS[name], seed=5, epoch=1, sample=sample, view=view, bands=UGRIZ), known, bands=UGRIZ,
            stamp_shape=(107, 107), size_px=64,
        )
        for view in range(2)
    ]  # fmt: skip
    plan = Plan.joined(plans)
    if name == "stein2021":
        assert plan.taps.shape[-1] > 3
        assert (plan.noise_sigma > 0).any()
    assert_is_the_reference(path, stamps, plan)
