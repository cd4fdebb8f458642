"""From indices to views: the order of the batches, the reader that runs ahead, the views of a sample."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from augment import AugmentError, Conditions, Plan, draw, make_plan, preset
from sharding import Dataset, Order
from trainer.data import Stamps, check_view_px, evaluation_batches, global_batches
from trainer.errors import TrainerError

CPU = torch.device("cpu")
PLACE = {"seed": 1, "epoch": 2, "view": 1, "size_px": 32}


def test_global_batches_are_the_orders_own_and_each_says_where_it_begins() -> None:
    order = Order(np.arange(100, 123), seed=4)
    state = order.start
    batches = global_batches(order, state, 8)
    for _ in range(7):  # three epochs of two batches, then one more
        expected, following = order.take(state, 8)
        batch = next(batches)
        assert np.array_equal(batch.indices, expected)
        assert batch.following == following
        assert np.array_equal(order.take(batch.state, 8)[0], expected)
        assert (batch.state.epoch, batch.state.position) == (following.epoch, following.position - 8)
        state = following


@pytest.mark.parametrize("total", [0, 1, 7, 8, 9, 16])
def test_evaluation_batches_hold_every_index_once_in_order(total: int) -> None:
    batches = evaluation_batches(np.arange(total), 8)
    assert np.array_equal(np.concatenate([np.arange(0), *batches]), np.arange(total))
    assert all(0 < len(batch) <= 8 for batch in batches)


def test_stamps_read_ahead_are_those_that_each_job_wants(make_survey: Callable[..., Dataset]) -> None:
    stamps = Stamps(make_survey(12), CPU)
    jobs = ["e", "bad", "", "cab"]

    def wanted(job: str) -> np.ndarray:
        return np.array([ord(letter) - ord("a") for letter in job], dtype=np.int64)

    with closing(stamps.ahead(jobs, wanted)) as read:
        for job, (given, stack) in zip(jobs, read, strict=True):
            assert given == job
            assert torch.equal(stack.pixels(), torch.from_numpy(stamps.dataset.images(wanted(job))))


def test_an_error_of_reading_is_raised_in_its_place(make_survey: Callable[..., Dataset]) -> None:
    stamps = Stamps(make_survey(12), CPU)
    read = stamps.ahead(range(20), lambda job: np.array([job]))
    for job in range(12):
        assert next(read)[0] == job
    with pytest.raises(IndexError, match="indices must lie in"):
        next(read)


def test_stamps_that_were_read_last(make_survey: Callable[..., Dataset]) -> None:
    stamps = Stamps(make_survey(12), CPU)
    first = stamps.read(np.array([4, 2]))
    stamps.read(np.array([7, 8, 9]))
    assert torch.equal(first.pixels(), torch.from_numpy(stamps.dataset.images(np.array([4, 2]))))


def test_a_view_depends_on_its_sample_alone(make_survey: Callable[..., Dataset]) -> None:
    stamps = Stamps(make_survey(12), CPU)
    chosen, wanted = preset("stein2021"), np.array([7, 3, 9])
    plan = stamps.plan(wanted, chosen, **PLACE)
    views = stamps.render(stamps.read(wanted), plan)
    alone = stamps.render(stamps.read(wanted[2:]), stamps.plan(wanted[2:], chosen, **PLACE))
    assert torch.equal(views[2], alone[0])
    everything = stamps.read(np.arange(12))
    assert torch.equal(stamps.render(everything, replace(plan, place=torch.from_numpy(wanted))), views)
    other = stamps.render(stamps.read(wanted), stamps.plan(wanted, chosen, **{**PLACE, "view": 0}))
    assert not torch.allclose(other, views)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_plan_knows_every_bit_of_the_catalogue(dtype: type, make_survey: Callable[..., Dataset]) -> None:
    """However compactly columns are kept: what is derived from them is derived in float64."""
    rng = np.random.default_rng(0)
    change = {"ebv_sfd": rng.uniform(0, 0.1, 12).astype(dtype), "psf_fwhm_g": rng.uniform(1, 2, 12).astype(dtype)}
    change["psf_fwhm_g"][3] = np.nan
    dataset = make_survey(12, change=change)
    wanted = np.array([3, 11, 0])
    known = Conditions(
        ebv=torch.from_numpy(change["ebv_sfd"].astype(np.float64)[wanted]),
        pixel_scale_arcsec=dataset.pixel_scale_arcsec,
        mad=torch.from_numpy(dataset.mad),
        psf_fwhm_arcsec=torch.from_numpy(dataset.per_band("psf_fwhm")[wanted]),
        sky_sigma=torch.from_numpy(dataset.per_band("sky_sigma")[wanted]),
    )
    numbers = {name: PLACE[name] for name in ("seed", "epoch", "view")}
    drawn = draw(preset("stein2021"), sample=torch.from_numpy(wanted), bands=dataset.bands, **numbers)
    expected = make_plan(drawn, known, bands=dataset.bands, stamp_shape=(33, 33), size_px=PLACE["size_px"])
    plan = Stamps(dataset, CPU).plan(wanted, preset("stein2021"), **PLACE)
    for each in fields(Plan):
        torch.testing.assert_close(getattr(plan, each.name), getattr(expected, each.name), rtol=0.0, atol=0.0)


@pytest.mark.parametrize(("column", "missing"), [("psf_fwhm_g", "a PSF"), ("sky_sigma_r", "a noise level")])
def test_what_is_unknown_for_a_whole_band_is_not_taken_for_known(
    column: str, missing: str, make_survey: Callable[..., Dataset]
) -> None:
    """As in datasets imported from HDF5, which hold no noise: a preset that needs it is refused."""
    stamps = Stamps(make_survey(12, change={column: np.full(12, np.nan)}), CPU)
    with pytest.raises(AugmentError, match=f"^conditions: the preset draws {missing}, .*choose another preset"):
        stamps.plan(np.arange(3), preset("stein2021"), **PLACE)


def test_the_plain_view_is_the_dereddened_centre(make_survey: Callable[..., Dataset]) -> None:
    dataset = make_survey(4, side_px=107)
    stamps = Stamps(dataset, CPU)
    plain = stamps.plain(stamps.read(np.arange(4)), 64)
    # Schlafly and Finkbeiner's coefficients for ugriz (facts of the survey): flux * 10^(0.4 R E).
    gain = 10 ** (0.4 * dataset.column("ebv_sfd")[:, None] * np.array([4.239, 3.303, 2.285, 1.698, 1.263]))
    expected = dataset.images(np.arange(4))[:, :, 21:85, 21:85] * gain[:, :, None, None]
    np.testing.assert_allclose(plain.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_views_larger_than_the_stamps_are_refused(make_survey: Callable[..., Dataset]) -> None:
    dataset = make_survey(3)
    side = min(dataset.image_shape[1:])
    check_view_px(dataset, side)
    with pytest.raises(TrainerError, match=f"--view-px: expected at most a stamp's side, {side}, got {side + 1}"):
        check_view_px(dataset, side + 1)
