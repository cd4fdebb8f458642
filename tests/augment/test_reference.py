"""Whole views: the order of the steps, what is brought up to what, NaN, and independence of the batch."""

import dataclasses
import math

import pytest
import torch

import augment
from augment import PRESETS, AugmentError, Conditions, ViewParameters, draw, views
from augment.reference import apply

F64 = torch.float64
UGRIZ = ("u", "g", "r", "i", "z")
PIXEL_ARCSEC = 0.396


def conditions(batch: int, channels: int = 5, **known) -> Conditions:
    """Dust-free stamps of unit MAD, unless told otherwise."""
    dust_free = {"ebv": torch.zeros(batch), "mad": torch.ones(channels), "pixel_scale_arcsec": PIXEL_ARCSEC}
    return Conditions(**dust_free | known)


def known_conditions(batch: int) -> Conditions:
    return conditions(
        batch, ebv=torch.linspace(0.0, 0.2, batch), mad=torch.tensor([0.04, 0.02, 0.03, 0.05, 0.2]),
        psf_fwhm_arcsec=torch.full((batch, 5), 1.1), sky_sigma=torch.full((batch, 5), 0.03),
    )  # fmt: skip


def still(batch: int = 1, channels: int = 5, **moved) -> ViewParameters:
    """Parameters that change nothing, but for those given."""
    rest = {
        "ebv": torch.zeros(batch, dtype=F64),
        "angle_deg": torch.zeros(batch, dtype=F64),
        "scale": torch.ones(batch, dtype=F64),
        "flip": torch.zeros(batch, dtype=torch.bool),
        "shift_px": torch.zeros(batch, 2, dtype=F64),
        "mad_factor": torch.zeros(batch, dtype=F64),
        "psf_fwhm_arcsec": torch.zeros(batch, channels, dtype=F64),
        "sky_sigma": torch.zeros(batch, channels, dtype=F64),
        "own_psf_fwhm_arcsec": torch.zeros(batch, channels, dtype=F64),
        "own_sky_sigma": torch.zeros(batch, channels, dtype=F64),
        "noise_key": torch.arange(2 * batch).reshape(batch, 2),
    }
    return ViewParameters(**rest | moved)


def full(value: float, *shape: int) -> torch.Tensor:
    return torch.full(shape, value, dtype=F64)


def gaussian(fwhm_px: float, side: int = 107) -> torch.Tensor:
    """A round source on the object's pixel with flux 100 in each of five bands."""
    r2 = (torch.arange(side, dtype=F64) - side // 2) ** 2
    profile = torch.exp(-(r2[:, None] + r2) / (2 * (fwhm_px / 2.3548) ** 2))
    return (100 * profile / profile.sum()).expand(1, 5, side, side)


def fwhm_arcsec(view: torch.Tensor) -> torch.Tensor:
    """From second moments, per band."""
    grid = torch.arange(view.shape[-1], dtype=F64) - view.shape[-1] // 2
    variance = (view[0].sum(dim=-1) @ grid**2 + view[0].sum(dim=-2) @ grid**2) / (2 * view[0].sum(dim=(-1, -2)))
    return 2.3548 * PIXEL_ARCSEC * variance.sqrt()


def test_none_is_the_dereddened_central_crop():
    stamps, dust = torch.randn(3, 5, 107, 107), torch.tensor([0.0, 0.1, 0.5])
    (view,) = views(stamps, PRESETS["none"], seed=1, epoch=2, sample=torch.arange(3),
                    conditions=conditions(3, ebv=dust), bands=UGRIZ, count=1)  # fmt: skip
    crop = stamps[:, :, 21:85, 21:85]
    assert torch.equal(view[0], crop[0])
    r = torch.tensor([4.239, 3.303, 2.285, 1.698, 1.263])
    torch.testing.assert_close(view, crop * 10 ** (0.4 * r * dust[:, None])[:, :, None, None])


@pytest.mark.parametrize("turns", range(4))
def test_a_quarter_turn_equals_the_crop_of_rot90(turns):
    stamps = torch.randn(1, 5, 107, 107)
    view = apply(stamps, still(angle_deg=full(90.0 * turns, 1)), conditions(1), bands=UGRIZ)
    assert torch.equal(view, torch.rot90(stamps, turns, (2, 3))[:, :, 21:85, 21:85])


def test_extinction_changes_magnitudes_by_R_times_the_difference():
    stamps = gaussian(4.0)
    view = apply(stamps, still(ebv=full(0.3, 1)), conditions(1, ebv=torch.tensor([0.1], dtype=F64)), bands=UGRIZ)
    change = -2.5 * torch.log10(view.sum(dim=(2, 3)) / stamps[:, :, 21:85, 21:85].sum(dim=(2, 3)))[0]
    expected = 0.2 * torch.tensor([4.239, 3.303, 2.285, 1.698, 1.263], dtype=F64)
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("own", "target"), [(1.2, 1.3), (1.2, 2.4), (2.0, 1.5)])
def test_the_psf_is_brought_up_to_the_drawn_one_and_never_sharpened(own, target):
    known = conditions(1, psf_fwhm_arcsec=full(own, 1, 5))
    view = apply(gaussian(own / PIXEL_ARCSEC), still(psf_fwhm_arcsec=full(target, 1, 5)), known, bands=UGRIZ)
    # The sampled source has its width to 1e-3 (1.2 arcsec is a sigma of 1.3 px), the blur adds exactly.
    torch.testing.assert_close(fwhm_arcsec(view), full(max(own, target), 5), rtol=2e-3, atol=0)


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_a_resized_object_has_a_resized_psf(scale):
    known = conditions(1, psf_fwhm_arcsec=full(1.2, 1, 5))
    moved = still(psf_fwhm_arcsec=full(1.8, 1, 5), scale=full(scale, 1), angle_deg=full(30.0, 1))
    view = apply(gaussian(1.2 / PIXEL_ARCSEC), moved, known, bands=UGRIZ)
    # The interpolation's 1/6 px^2 is a mean over phases: it scatters by some 0.01 px^2, of a variance of 3.7 px^2.
    torch.testing.assert_close(fwhm_arcsec(view), full(1.8, 5), rtol=5e-3, atol=0)


@pytest.mark.parametrize("unknown", [torch.nan, -9999.0])
def test_an_unknown_psf_is_left_as_it_is(unknown):
    own = full(1.2, 1, 5)
    own[0, 2] = unknown
    view = apply(gaussian(3.0), still(psf_fwhm_arcsec=full(2.0, 1, 5)), conditions(1, psf_fwhm_arcsec=own), bands=UGRIZ)
    assert torch.equal(view[0, 2], gaussian(3.0)[0, 2, 21:85, 21:85])
    assert view[0, 1].max() < view[0, 2].max()


def test_hayat_noise_is_its_factor_times_the_mad():
    mad = torch.tensor([0.04, 0.02, 0.03, 0.05, 0.2])
    known, factor = conditions(40, mad=mad), torch.linspace(1, 3, 40, dtype=F64)
    view = apply(torch.zeros(40, 5, 107, 107), still(40, mad_factor=factor), known, bands=UGRIZ)
    # 4096 pixels: 1.1 %; 5 sigma for 200 of them.
    torch.testing.assert_close(view.std(dim=(2, 3)).double(), factor[:, None] * mad, rtol=0.055, atol=0)


def test_stein_noise_is_brought_up_to_the_drawn_level():
    """From what a dusty view has left of its own noise: here white, and as much as Lanczos-3 leaves."""
    batch, own, target = 200, 0.02, 0.03
    rng = torch.Generator().manual_seed(4)
    left_by_lanczos = 0.893
    stamps = left_by_lanczos * own * torch.randn(batch, 5, 107, 107, generator=rng)
    moved = still(batch, sky_sigma=full(target, batch, 5), ebv=full(0.2, batch))
    view = apply(stamps, moved, conditions(batch, sky_sigma=full(own, batch, 5)), bands=UGRIZ)
    # On the grid nothing is interpolated; 200 x 4096 pixels: 0.1 %, and 0.893 is rounded: 0.1 %.
    torch.testing.assert_close(view.std(dim=(0, 2, 3)).double(), full(target, 5), rtol=5e-3, atol=0)


def test_noise_is_never_taken_away():
    stamps = torch.randn(1, 5, 107, 107)
    known = conditions(1, sky_sigma=full(1.0, 1, 5))
    view = apply(stamps, still(sky_sigma=full(0.1, 1, 5)), known, bands=UGRIZ)
    assert torch.equal(view, stamps[:, :, 21:85, 21:85])


@pytest.mark.parametrize("name", ["hayat2021", "stein2021"])
def test_a_view_is_the_same_in_any_batch(name):
    stamps, known = torch.randn(40, 5, 107, 107), known_conditions(40)
    together = apply(stamps, draw(PRESETS[name], seed=3, epoch=1, sample=torch.arange(40), view=1, bands=UGRIZ),
                     known, bands=UGRIZ)  # fmt: skip
    for rows in (torch.tensor([17]), torch.tensor([30, 2, 39, 17, 5, 0, 8])):
        some = Conditions(
            ebv=known.ebv[rows], mad=known.mad, pixel_scale_arcsec=known.pixel_scale_arcsec,
            psf_fwhm_arcsec=known.psf_fwhm_arcsec[rows], sky_sigma=known.sky_sigma[rows],
        )  # fmt: skip
        drawn = draw(PRESETS[name], seed=3, epoch=1, sample=rows, view=1, bands=UGRIZ)
        # The drawn numbers have the same bits; sums and library functions of float32 may round otherwise.
        torch.testing.assert_close(apply(stamps[rows], drawn, some, bands=UGRIZ), together[rows], rtol=0, atol=1e-5)


def test_views_are_draw_then_apply_and_differ():
    stamps, known, sample = torch.randn(2, 5, 107, 107), known_conditions(2), torch.tensor([4, 9])
    preset = PRESETS["stein2021"]
    got = views(stamps, preset, seed=1, epoch=2, sample=sample, conditions=known, bands=UGRIZ, count=3, size_px=48)
    assert len(got) == 3
    for view, image in enumerate(got):
        drawn = draw(preset, seed=1, epoch=2, sample=sample, view=view, bands=UGRIZ)
        assert torch.equal(image, augment.apply(stamps, drawn, known, bands=UGRIZ, size_px=48))
    assert not torch.allclose(got[0], got[1])


@pytest.mark.parametrize("name", list(PRESETS))
def test_the_input_is_never_changed(name):
    stamps, known = torch.randn(2, 5, 107, 107), known_conditions(2)
    stamps[1, 2, 50, 50] = torch.nan
    inputs = [stamps, *(getattr(known, each.name) for each in dataclasses.fields(known))]
    before = [each.clone() if isinstance(each, torch.Tensor) else each for each in inputs]
    views(stamps, PRESETS[name], seed=1, epoch=2, sample=torch.arange(2), conditions=known, bands=UGRIZ)
    for now, then in zip(inputs, before, strict=True):
        if isinstance(now, torch.Tensor):
            torch.testing.assert_close(now, then, rtol=0, atol=0, equal_nan=True)


def test_nan_is_where_it_is_used_and_nowhere_else():
    clean = torch.randn(1, 5, 107, 107)
    holed = clean.clone()
    holed[0, 1, 60, 40] = torch.nan
    holed[0, 1, 0, 0] = torch.inf  # outside every view of 64 px that is not turned
    view, whole = (apply(stamps, still(), conditions(1), bands=UGRIZ) for stamps in (holed, clean))
    assert view.isnan().nonzero().tolist() == [[0, 1, 60 - 21, 40 - 21]]
    assert torch.equal(view.nan_to_num(0.0), whole.masked_fill(view.isnan(), 0.0))


def test_nan_spreads_as_far_as_interpolation_and_blur_reach():
    holed = torch.zeros(1, 5, 107, 107)
    holed[0, 0, 53, 53] = torch.nan
    turned = still(angle_deg=full(30.0, 1))
    # Bilinear: the view pixels whose four neighbours hold the bad one: a turned square of side 2 px, area 4.
    assert 3 <= int(apply(holed, turned, conditions(1), bands=UGRIZ).isnan().sum()) <= 5
    known = conditions(1, psf_fwhm_arcsec=full(1.0, 1, 5))
    view = apply(holed, still(psf_fwhm_arcsec=full(1.5, 1, 5)), known, bands=UGRIZ)
    # sigma = 1.2 px: the weight sinks below 1e-6 at 4.97 sigma, 6 px.
    y, x = view[0, 0].isnan().nonzero().sub(32).unbind(dim=1)
    assert int((y**2 + x**2).max()) in range(5**2, 8**2)
    assert not view[0, 1:].isnan().any()


@pytest.mark.parametrize(("shape", "bands"), [((2, 1, 107, 107), ("r",)), ((2, 3, 90, 101), ("g", "r", "z"))])
def test_one_band_and_other_shapes(shape, bands):
    known = conditions(2, len(bands), psf_fwhm_arcsec=full(1.0, 2, len(bands)), sky_sigma=full(0.01, 2, len(bands)))
    for view in views(torch.randn(shape), PRESETS["stein2021"], seed=1, epoch=0, sample=torch.arange(2),
                      conditions=known, bands=bands, size_px=48):  # fmt: skip
        assert view.shape == (2, len(bands), 48, 48)
        assert view.isfinite().all()


@pytest.mark.parametrize("name", PRESETS)
def test_no_stamps_give_no_views(name):
    known = conditions(0, 5, psf_fwhm_arcsec=full(1.0, 0, 5), sky_sigma=full(0.01, 0, 5))
    nothing = torch.zeros(0, dtype=torch.long)
    (view,) = views(torch.zeros(0, 5, 107, 107), PRESETS[name], seed=1, epoch=0, sample=nothing, conditions=known,
                    bands=UGRIZ, count=1)  # fmt: skip
    assert view.shape == (0, 5, 64, 64)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64])
def test_low_precision_stamps_are_worked_on_in_float32(dtype):
    stamps = torch.randn(1, 5, 107, 107).to(dtype)
    moved = still(angle_deg=full(30.0, 1), mad_factor=full(1.0, 1))
    view = apply(stamps, moved, conditions(1), bands=UGRIZ)
    assert view.dtype == (F64 if dtype == F64 else torch.float32)
    if dtype != F64:
        assert torch.equal(view, apply(stamps.float(), moved, conditions(1), bands=UGRIZ))


def test_float64_stamps_give_float64_views_by_the_reference():
    stamps = torch.randn(2, 5, 107, 107, dtype=F64)
    moved = still(2, angle_deg=full(30.0, 2), mad_factor=full(1.0, 2))
    view = augment.apply(stamps, moved, conditions(2), bands=UGRIZ)
    assert view.dtype == F64
    assert torch.equal(view, apply(stamps, moved, conditions(2), bands=UGRIZ))
    for wish in ({"dtype": torch.bfloat16}, {"channels_last": True}):  # none is quietly left out
        with pytest.raises(AugmentError, match=r"^render: expected float32, float16 or int16 stamps"):
            augment.apply(stamps, moved, conditions(2), bands=UGRIZ, **wish)


def test_what_lies_outside_the_stamp_cannot_be_told_from_sky():
    """A corner that the stamp does not reach has the variance of the rest, not that of a filled area."""
    stamps = torch.randn(200, 5, 107, 107)
    far = still(200, shift_px=torch.tensor([[7.0, 7.0]], dtype=F64).expand(200, 2), angle_deg=full(45.0, 200))
    view = apply(stamps, far, conditions(200), bands=UGRIZ)
    reach = math.hypot(39, 39) - 53  # how far the corner at view pixel (0, 0) lies outside
    assert reach > 2
    corner, inner = view[:, :, 0, 0].std(), view[:, :, 8:56, 8:56].std()
    # 1000 values: 2.2 %; the phase of one fixed pixel makes its variance differ from the mean over phases by up to 2 x.
    assert 0.6 < float(corner / inner) < 1.6


@pytest.mark.parametrize(
    ("moved", "missing"), [({"psf_fwhm_arcsec": full(2.0, 1, 5)}, "psf_fwhm"), ({"sky_sigma": full(2.0, 1, 5)}, "sky")]
)
def test_what_the_preset_needs_and_the_data_set_lacks_is_named(moved, missing):
    with pytest.raises(AugmentError, match=f"conditions: .* expected {missing}.*, got None; .* choose another preset"):
        apply(torch.zeros(1, 5, 107, 107), still(**moved), conditions(1), bands=UGRIZ)


@pytest.mark.parametrize(("images", "rows", "bands"), [((2, 5), 1, UGRIZ), ((1, 4), 1, UGRIZ), ((1, 5), 1, ("g", "r"))])
def test_rows_and_bands_that_do_not_match_the_images_are_refused(images, rows, bands):
    for way in (apply, augment.apply):
        with pytest.raises(
            AugmentError, match=r"apply: images are|plan: expected parameters and conditions of the same"
        ):
            way(torch.zeros(*images, 107, 107), still(rows), conditions(rows), bands=bands)


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        ({"ebv": torch.tensor([0.1, torch.nan])}, r"E\(B-V\) of every stamp, got nan for stamp 1 of the batch"),
        ({"pixel_scale_arcsec": 0.0}, "a pixel scale > 0 arcsec, got 0.0"),
        ({"mad": torch.tensor([1, 1, torch.nan, 1, 1])}, "median absolute deviation >= 0 of each band"),
    ],
)
def test_what_every_view_needs_may_not_be_unknown(unknown, message):
    with pytest.raises(AugmentError, match=f"^conditions: expected .*{message}"):
        apply(torch.zeros(2, 5, 107, 107), still(2), conditions(2, **unknown), bands=UGRIZ)
