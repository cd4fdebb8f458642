"""Variants of a preset: one augmentation left out, and the object's own PSF and noise drawn instead of known."""

import dataclasses
import math
from typing import get_args

import pytest
import torch
from scipy import stats

from augment import PRESETS, AugmentError, Conditions, Plan, Preset, ViewParameters, draw, make_plan, preset
from augment.presets import SDSS_PSF_FWHM_ARCSEC, SDSS_SKY_SIGMA_NANOMAGGY, LeftOut

F64 = torch.float64
UGRIZ = ("u", "g", "r", "i", "z")
MANY = torch.arange(20_000)
FULL = dataclasses.replace(PRESETS["stein2021-drawn"], mad_factor=(1.0, 3.0))  # all that there is
AT_REST = {  # what is drawn of each augmentation, and its value in a view that is left alone
    "dust": {"ebv": 0.0},
    "turns": {"angle_deg": 0.0},
    "flips": {"flip": False},
    "shifts": {"shift_px": 0.0},
    "size": {"scale": 1.0},
    "psf": {"psf_fwhm_arcsec": 0.0, "own_psf_fwhm_arcsec": 0.0},
    "noise": {"mad_factor": 0.0, "sky_sigma": 0.0, "own_sky_sigma": 0.0},
}


def drawn(chosen: Preset, sample: torch.Tensor = MANY, view: int = 0) -> ViewParameters:
    return draw(chosen, seed=2021, epoch=3, sample=sample, view=view, bands=UGRIZ)


def fields(whole: ViewParameters | Plan) -> dict[str, torch.Tensor]:
    return {each.name: getattr(whole, each.name) for each in dataclasses.fields(whole)}


def known(batch: int, **changed) -> Conditions:
    rising = torch.linspace(0.0, 0.2, batch, dtype=F64)
    mad = torch.tensor([0.04, 0.02, 0.03, 0.05, 0.2], dtype=F64)
    some = Conditions(
        ebv=rising, pixel_scale_arcsec=0.396, mad=mad,
        psf_fwhm_arcsec=(1.0 + rising)[:, None].expand(-1, 5), sky_sigma=(0.02 + rising)[:, None].expand(-1, 5),
    )  # fmt: skip
    return dataclasses.replace(some, **changed)


def planned(parameters: ViewParameters, conditions: Conditions) -> Plan:
    return make_plan(parameters, conditions, bands=UGRIZ, stamp_shape=(107, 107), size_px=64)


def differing(some: Plan, other: Plan) -> set[str]:
    """The names of what is not the same to the last bit; blurs of another reach differ."""
    others = fields(other)
    return {
        name for name, value in fields(some).items()
        if name != "size_px" and not (value.shape == others[name].shape and torch.equal(value, others[name]))
    }  # fmt: skip


def test_every_augmentation_is_named():
    assert {*AT_REST, "nothing"} == set(get_args(LeftOut))
    varied = {name for rest in AT_REST.values() for name in rest}
    assert varied == set(fields(drawn(FULL, MANY[:1]))) - {"noise_key"}


@pytest.mark.parametrize("left_out", AT_REST)
def test_what_is_left_out_rests_and_no_other_number_changes(left_out):
    whole, fewer = fields(drawn(FULL)), fields(drawn(FULL.without(left_out)))
    for name, value in fewer.items():
        if name in AT_REST[left_out]:
            assert (value == AT_REST[left_out][name]).all(), name
            assert not (whole[name] == AT_REST[left_out][name]).all(), name
        else:
            assert torch.equal(value, whole[name]), name


@pytest.mark.parametrize("name", PRESETS)
def test_leaving_nothing_out_is_the_preset_itself(name):
    assert preset(name).without("nothing") == PRESETS[name]


@pytest.mark.parametrize(
    ("name", "left_out", "varied"),
    [("hayat2021", "flips", "nothing, dust, turns, shifts, noise"), ("none", "dust", "nothing")],
)
def test_what_a_preset_does_not_vary_cannot_be_left_out(name, left_out, varied):
    expected = f"^without: expected one of {varied} to leave out, got '{left_out}', which this preset does not vary; "
    with pytest.raises(AugmentError, match=expected):
        preset(name).without(left_out)


def test_nothing_is_left_out_twice():
    with pytest.raises(AugmentError, match="got 'psf', which"):
        preset("stein2021").without("psf").without("psf")


def test_without_dust_views_are_dereddened_and_no_more():
    conditions = known(40)
    gain = planned(drawn(preset("stein2021").without("dust"), MANY[:40]), conditions).gain
    r = torch.tensor([4.239, 3.303, 2.285, 1.698, 1.263], dtype=F64)
    torch.testing.assert_close(2.5 * gain.log10(), r * conditions.ebv[:, None], rtol=0, atol=1e-14)


def test_without_psf_and_noise_nothing_need_be_known_of_them():
    plain = preset("stein2021").without("psf").without("noise")
    plan = planned(drawn(plain, MANY[:40]), known(40, psf_fwhm_arcsec=None, sky_sigma=None))
    assert plan.taps.shape[-1] == 1
    assert not plan.noise_sigma.any()


def test_drawing_the_own_changes_no_other_number():
    usual, own = fields(drawn(PRESETS["stein2021"])), fields(drawn(PRESETS["stein2021-drawn"]))
    for name in ("own_psf_fwhm_arcsec", "own_sky_sigma"):
        assert not usual.pop(name).any()
        assert (own.pop(name) > 0).all()
    for name, value in usual.items():
        assert torch.equal(value, own[name]), name


@pytest.mark.parametrize(
    ("field", "spread"), [("psf_fwhm_arcsec", SDSS_PSF_FWHM_ARCSEC), ("sky_sigma", SDSS_SKY_SIGMA_NANOMAGGY)]
)
def test_the_own_is_drawn_from_the_same_distribution_and_independently(field, spread):
    values = fields(drawn(PRESETS["stein2021-drawn"]))
    target, own = ((values[name].log() - torch.tensor(spread.median, dtype=F64).log())
                   / torch.tensor(spread.ln_sigma, dtype=F64) for name in (field, f"own_{field}"))  # fmt: skip
    # Errors of a mean, a standard deviation and a correlation of n: 1, 0.71 and 1 - rho^2 over sqrt(n); 4 sigma.
    error = 4 / math.sqrt(len(MANY))
    assert own.mean(dim=0).abs().max() < error
    assert (own.std(dim=0) - 1).abs().max() < 0.71 * error
    correlation, stated = torch.corrcoef(torch.cat([target, own], dim=1).T), torch.tensor(spread.correlation, dtype=F64)
    assert ((correlation[5:, 5:] - stated).abs() <= (1 - stated**2) * error + 1e-12).all()
    assert correlation[:5, 5:].abs().max() < error
    # Each is the larger one in half of the views, as two draws of one distribution are: binomial, 4 sigma.
    assert ((target > own).double().mean(dim=0) - 0.5).abs().max() < error / 2
    assert all(stats.kstest(own[:, band].numpy(), "norm").pvalue > 1e-3 for band in range(5))


def test_each_view_draws_its_own_anew_whatever_the_batch():
    views = [drawn(PRESETS["stein2021-drawn"], MANY[:64], view) for view in (0, 1)]
    alone = drawn(PRESETS["stein2021-drawn"], MANY[7:8], 1)
    for name in ("own_psf_fwhm_arcsec", "own_sky_sigma"):
        one, two = (fields(view)[name] for view in views)
        assert not (one == two).any()
        assert torch.equal(fields(alone)[name], two[7:8])


def test_what_is_drawn_takes_the_place_of_what_is_known():
    """The plan is that of stein2021 for stamps whose PSF and noise were known to be those drawn, to the last bit."""
    own, usual = (drawn(PRESETS[name], MANY[:200]) for name in ("stein2021-drawn", "stein2021"))
    as_if_known = known(200, psf_fwhm_arcsec=own.own_psf_fwhm_arcsec, sky_sigma=own.own_sky_sigma)
    for conditions in (known(200), known(200, psf_fwhm_arcsec=None, sky_sigma=None)):
        assert differing(planned(own, conditions), planned(usual, as_if_known)) == set()


def test_an_own_that_is_drawn_changes_blur_and_noise_alone():
    own, usual = (drawn(PRESETS[name], MANY[:200]) for name in ("stein2021-drawn", "stein2021"))
    assert differing(planned(own, known(200)), planned(usual, known(200))) == {"taps", "noise_sigma"}


def test_golden_values():
    """Made by this code; they may change only together with a note in the changelog."""
    own = drawn(PRESETS["stein2021-drawn"], torch.tensor([12345]), view=1)
    assert own.own_psf_fwhm_arcsec[0].tolist() == GOLDEN_PSF
    assert own.own_sky_sigma[0].tolist() == GOLDEN_SKY


GOLDEN_PSF = [1.410507704749312, 1.227469570546251, 1.043768006623539, 1.0618814625389341, 1.185559705933608]
GOLDEN_SKY = [0.052140234392547086, 0.02237896256972259, 0.033390291180252406, 0.04999683339003056, 0.23233061858535758]
