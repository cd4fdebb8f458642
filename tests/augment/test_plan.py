"""What is added is what is missing: closed forms, and bits that depend on a row alone."""

import dataclasses

import pytest
import torch

from augment import PRESETS, Conditions, Plan, draw, make_plan
from augment.plan import FWHM_PER_SIGMA

F64 = torch.float64
UGRIZ = ("u", "g", "r", "i", "z")
MANY = 256


def known(rows: torch.Tensor) -> Conditions:
    """Conditions that differ from sample to sample."""
    rising = rows.to(F64)[:, None] / MANY + torch.arange(5, dtype=F64) / 50
    return Conditions(
        ebv=0.3 * rising[:, 0], pixel_scale_arcsec=0.396, mad=torch.tensor([0.04, 0.02, 0.03, 0.05, 0.2]),
        psf_fwhm_arcsec=0.8 + rising, sky_sigma=0.01 + 0.05 * rising,
    )  # fmt: skip


def planned(rows: torch.Tensor, name: str = "stein2021", **changed) -> Plan:
    drawn = draw(PRESETS[name], seed=7, epoch=3, sample=1000 + rows, view=1, bands=UGRIZ)
    drawn = dataclasses.replace(drawn, **changed)
    return make_plan(drawn, known(rows), bands=UGRIZ, stamp_shape=(107, 107), size_px=64)


def assert_same_bits(some: Plan, of_all: Plan, rows: torch.Tensor) -> None:
    for each in dataclasses.fields(Plan):
        value, whole = getattr(some, each.name), getattr(of_all, each.name)
        if each.name == "taps":  # as long as the widest of the batch needs
            assert not whole[rows][..., value.shape[-1] :].any()
            whole = whole[..., : value.shape[-1]]
        if each.name not in ("size_px", "place"):
            assert torch.equal(value, whole[rows]), each.name


@pytest.mark.parametrize("name", ["hayat2021", "stein2021"])
@pytest.mark.parametrize("batch", [1, 7, 256])
def test_bits_do_not_depend_on_the_batch(name, batch):
    whole = planned(torch.arange(MANY), name)
    for start in range(0, MANY if batch > 1 else 40, batch):
        rows = torch.arange(start, min(start + batch, MANY))
        assert_same_bits(planned(rows, name), whole, rows)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_bits_do_not_depend_on_the_number_of_ranks(ranks):
    whole = planned(torch.arange(MANY))
    for rank in range(ranks):
        rows = torch.arange(rank * MANY // ranks, (rank + 1) * MANY // ranks)
        assert_same_bits(planned(rows), whole, rows)


def test_the_blur_brings_the_objects_own_width_up_to_the_drawn_one():
    """sigma^2 = target^2 - scale^2 (own^2 + 1/6 px^2), where that is positive."""
    rows = torch.arange(MANY)
    drawn = draw(PRESETS["stein2021"], seed=7, epoch=3, sample=1000 + rows, view=1, bands=UGRIZ)
    to_px = 1 / (FWHM_PER_SIGMA * 0.396)
    own = (known(rows).psf_fwhm_arcsec * to_px) ** 2 + 1 / 6
    missing = (drawn.psf_fwhm_arcsec * to_px) ** 2 - drawn.scale[:, None] ** 2 * own
    taps = planned(rows).taps
    distance = torch.arange(taps.shape[-1], dtype=F64)
    variance = 2 * (taps * distance**2).sum(dim=-1)
    # The weights beyond the last hold 6e-8 of the total at 5.4 sigma, and so some 30 times that of the variance.
    torch.testing.assert_close(variance, missing.clamp(min=0), rtol=1e-5, atol=2e-6)
    assert (missing > 0).any()
    assert (missing < 0).any()


def test_reddening_is_the_difference_to_the_objects_own_dust():
    rows = torch.arange(5)
    gain = planned(rows, ebv=torch.full((5,), 0.25, dtype=F64)).gain
    r = torch.tensor([4.239, 3.303, 2.285, 1.698, 1.263], dtype=F64)
    torch.testing.assert_close(-2.5 * gain.log10(), r * (0.25 - known(rows).ebv)[:, None], rtol=0, atol=1e-14)


def test_more_dust_shrinks_the_noise_that_is_there_so_more_is_added():
    """On the grid and without a blur the stamp keeps 0.893 of its native noise (Lanczos-3), times the gain."""
    rows, target = torch.arange(3), 0.08
    still = {
        "angle_deg": torch.zeros(3, dtype=F64), "scale": torch.ones(3, dtype=F64),
        "shift_px": torch.zeros(3, 2, dtype=F64), "psf_fwhm_arcsec": torch.zeros(3, 5, dtype=F64),
        "sky_sigma": torch.full((3, 5), target, dtype=F64),
    }  # fmt: skip
    plan = planned(rows, **still)
    left = 0.893 * plan.gain * known(rows).sky_sigma
    # 0.893 is given to three digits: half a thousandth of the own part, at most (0.02 / 0.08)^2 of the whole.
    torch.testing.assert_close(plan.noise_sigma, (target**2 - left**2).sqrt(), rtol=1e-4, atol=0)


def test_finishing_leaves_gain_and_noise_and_moves_nothing():
    plan = planned(torch.arange(4)).finishing()
    assert plan.place.tolist() == [0, 1, 2, 3]
    assert (plan.affine == torch.eye(2, 3, dtype=F64)).all()
    assert plan.taps.shape[-1] == 1
    assert torch.equal(plan.noise_sigma, planned(torch.arange(4)).noise_sigma)


def test_joined_plans_are_one_after_the_other():
    wide = planned(torch.arange(3), psf_fwhm_arcsec=torch.full((3, 5), 4.0, dtype=F64))
    narrow = planned(torch.arange(2), psf_fwhm_arcsec=torch.zeros(2, 5, dtype=F64))
    plan = Plan.joined([wide, narrow])
    assert plan.place.tolist() == [0, 1, 2, 0, 1]
    assert_same_bits(wide, plan, torch.arange(3))
    assert_same_bits(narrow, plan, torch.arange(3, 5))


def test_golden_values():
    """Made by this code, bit for bit on any machine: see `elementary`."""
    plan = planned(torch.tensor([0, 200]))
    assert [value.hex() for value in plan.affine[1].flatten().tolist()] == AFFINE
    assert [value.hex() for value in plan.gain[1].tolist()] == GAIN
    assert [value.hex() for value in plan.noise_sigma[1].tolist()] == NOISE
    assert [value.hex() for value in plan.taps[0, 0].tolist()] == TAPS


AFFINE = [
    "0x1.767a7795f724dp-1",
    "-0x1.981d2b6bf00dcp-1",
    "0x1.9ec8fc64e5900p+5",
    "0x1.981d2b6bf00dcp-1",
    "0x1.767a7795f724dp-1",
    "0x1.1158d211cdd74p+3",
]
GAIN = [
    "0x1.56de12885e800p-1",
    "0x1.769bf1c8a6053p-1",
    "0x1.9c79f912e4a3fp-1",
    "0x1.b4070b272f09dp-1",
    "0x1.c657ebe60e520p-1",
]
NOISE = ["0x1.296a18197848ep-5", "0x0.0p+0", "0x1.28f6384244b96p-6", "0x1.8a375943321e1p-5", "0x1.b75dd55caa5afp-3"]
TAPS = [
    "0x1.cf3ce5022240cp-2",
    "0x1.e7d2026cedc0ap-3",
    "0x1.18f2b375d7456p-5",
    "0x1.56da630c27e7ep-10",
    "0x1.acafcc181c92dp-17",
    "0x1.0b8c5f402acc3p-25",
]
