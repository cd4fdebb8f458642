"""The augment benchmark runs, and everything in it makes the views that it is timed for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from augment import reference, render
from augment.blur import blur
from benchmarks.augmenting import batched, per_stamp
from benchmarks.augmenting import contenders as ways
from benchmarks.augmenting.contenders import Amount, named
from benchmarks.augmenting.work import VIEW_BYTES, Work, as_int16, blur_sigma_px, make_work
from benchmarks.practice import PracticeData
from benchmarks.stages import augment

SMALL = Amount(batch=3, by_scikit_image=2, on_accelerator=3, dali_batches=1, dali_batches_on_accelerator=1)
CPU = torch.device("cpu")
# Neighbouring pixels of unit noise differ by at most 8 in a few stamps; a shift of so many px changes a view by this.
SLOPE = 8.0
INSIDE = (..., slice(8, 56), slice(8, 56))  # 24 px diagonally and 7 px of shift: 41 px, within the stamp's 53


def test_it_runs_and_leaves_the_threads_alone(tmp_path: Path):
    threads = torch.get_num_threads()
    report = augment.run(PracticeData(tmp_path / "never-made"), rounds=1, amount=SMALL)
    assert torch.get_num_threads() == threads
    names = {result.name for result in report.results}
    installed = [peer for peer in ways.PEERS if ways.is_installed(peer)]
    assert set(report.left_out) == set(ways.PEERS) - set(installed)
    on_host = {pair for pair in augment.wanted() if not any(name.endswith("cuda") for name in pair)}
    told = {pair for pair in augment.wanted() if names.issuperset(pair)}
    assert set(report.pairs) == told
    assert len(installed) < len(ways.PEERS) or told >= on_host
    assert all(ratio > 0 for ratio in report.ratios().values())
    own = next(result for result in report.results if result.name == report.own)
    assert own.unit == "images/s"
    if not torch.cuda.is_available():
        assert own.median == report.median(named(ways.DRAWN, "hayat2021")) / 2
    assert {result.unit for result in report.results if result is not own} == {"views/s"}


def test_peers_that_are_not_installed_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ways, "is_installed", lambda package: False)
    report = augment.run(PracticeData(tmp_path / "never-made"), rounds=1, amount=SMALL)
    assert report.left_out == ways.PEERS
    alone = ("augment: skymill", "augment: plain torch", "augment: copy")
    assert all(result.name.startswith(alone) for result in report.results)


def test_every_step_makes_all_views():
    """As many as are counted in its rate."""
    work = make_work("stein2021", 3)
    counts = {each.name: each.step() for each in ways.contenders(work, SMALL)}
    per_stamp_ways = {named(way, work.preset) for way in (ways.TURNED, ways.WARPED)}
    assert {count for name, count in counts.items() if name not in per_stamp_ways} == {6}
    assert {counts[name] for name in per_stamp_ways & counts.keys()} <= {4}


def test_fewer_stamps_are_the_first_ones():
    work, few = make_work("stein2021", 5), make_work("stein2021", 5).first(2)
    assert torch.equal(few.stamps, work.stamps[:2])
    for first, all_of_them in zip(few.plans, work.plans, strict=True):
        assert torch.equal(first.affine, all_of_them.affine[:2])
        assert torch.equal(first.noise_key, all_of_them.noise_key[:2])


def test_a_view_s_bytes_are_half_its_stamp_s_and_its_own():
    assert abs(VIEW_BYTES - 4 * 5 * (107 * 107 / 2 + 64 * 64)) <= 10  # 107 is odd


def test_16_bit_stamps_show_the_same_up_to_their_step():
    """Decoding and rounding are off by up to half a step of 1/4 each; interpolation averages that."""
    work = _silent("hayat2021", 2)
    stored, dither = as_int16(work)
    assert stored.dtype == torch.int16
    difference = (render(stored, work.plan, dither=dither) - reference.render(work.stamps, work.plan)).abs()
    assert 0.05 < difference.max() <= 0.25 * work.plan.gain.max() + 1e-3


def test_widths_are_those_of_the_plan_s_weights():
    """A wide Gaussian as SciPy samples it, blurring an impulse, is the plan's; all of it lies in the view."""
    plan = make_work("stein2021", 20).plans[0]
    row, band = divmod(int(blur_sigma_px(plan).argmax()), 5)
    impulse = torch.zeros(1, 5, 64, 64)
    impulse[..., 32, 32] = 1.0
    ours = blur(impulse, plan.taps[row : row + 1])[0, band]
    place = torch.arange(64.0) - 32
    assert float((ours.sum(dim=0) * place**2).sum().sqrt()) == pytest.approx(
        float(blur_sigma_px(plan)[row, band]), rel=1e-4
    )


def test_turned_and_cropped_is_the_same_view_where_the_stamp_reaches():
    """Both know positions to some roundings of 53 px in float32: 2e-5 px."""
    pytest.importorskip("skimage")
    work = _silent("hayat2021", 4)
    theirs = _one_by_one(per_stamp.turned_and_cropped, work, view=1)
    np.testing.assert_allclose(theirs[INSIDE], _wanted(work, 1)[INSIDE], atol=2e-5 * SLOPE)


def test_a_flip_comes_before_the_turn():
    """Sizes, which the released way leaves out, are 1 here, and so is the blur's only weight."""
    pytest.importorskip("skimage")
    work = make_work("hayat2021", 2)
    flipped = replace(work.plans[0], affine=work.plans[0].affine.clone())
    # View x counts from the object, which stays in its place: mirrored about it in the stamp, before the turn.
    flipped.affine[:, 1] = torch.tensor([0.0, 0.0, 2 * 53.0], dtype=torch.float64) - flipped.affine[:, 1]
    drawn = replace(work.drawn[0], flip=torch.ones(2, dtype=torch.bool))
    work = _without_noise(replace(work, plans=(flipped,), drawn=(drawn,)))
    theirs = _one_by_one(per_stamp.turned_and_cropped, work, view=0)
    np.testing.assert_allclose(theirs[INSIDE], _wanted(work, 0)[INSIDE], atol=2e-5 * SLOPE)


def test_one_warp_is_the_same_view_beyond_the_stamp_too():
    pytest.importorskip("skimage")
    work = _silent("stein2021", 4)
    plans = tuple(replace(plan, taps=torch.ones(4, 5, 1, dtype=torch.float64)) for plan in work.plans)
    work = replace(work, plans=plans)
    np.testing.assert_allclose(_one_by_one(per_stamp.warped, work, view=0), _wanted(work, 0), atol=2e-5 * SLOPE)


def test_one_warp_blurs_as_much():
    """Where the width is 1 px or more: below, a sampled Gaussian, as the library takes it, is another one.

    At 1 px the two differ in kurtosis, by 1/120 for the pixel's integral, and by the 3e-4 of the total beyond 4 sigma.
    """
    pytest.importorskip("skimage")
    work = _silent("stein2021", 12)
    wide = (blur_sigma_px(work.plans[0]) >= 1.0).numpy()
    assert wide.sum() >= 3
    wanted, theirs = _wanted(work, 0)[wide], _one_by_one(per_stamp.warped, work, view=0)[wide]
    sharp = replace(work.plans[0], taps=torch.ones(12, 5, 1, dtype=torch.float64))
    change = wanted - reference.render(work.stamps, sharp).numpy()[wide]
    assert np.std(theirs - wanted) < 0.01 * np.std(change)


def test_kornia_makes_the_same_views():
    """Its positions pass some ten operations in float32 on numbers of 53 px and their inverse: 6e-5 px."""
    pytest.importorskip("kornia")
    work = _silent("stein2021", 4)
    for view, theirs in enumerate(batched.kornia_views(work, CPU)()):
        np.testing.assert_allclose(theirs.numpy(), _wanted(work, view), atol=6e-5 * SLOPE)


def test_dali_makes_the_same_views_where_the_stamp_reaches():
    """Its positions are sums along a row of 64 px in float32 (see `augment.dali`): (64 + 4) 108 2^-24 px."""
    pytest.importorskip("nvidia.dali")
    work = _silent("hayat2021", 4)
    for view, theirs in enumerate(batched.dali_views(work, CPU)()):
        made = np.stack([np.asarray(row)[..., 0] for row in theirs])
        np.testing.assert_allclose(made[INSIDE], _wanted(work, view)[INSIDE], atol=68 * 108 * 2.0**-24 * SLOPE)


@pytest.mark.parametrize("way", ["kornia", "dali", "skimage"])
def test_peers_add_the_plan_s_noise(way: str):
    """On empty stamps; the rms of 2 x 4096 pixels is known to 0.8 %, of which five are allowed."""
    pytest.importorskip({"kornia": "kornia", "dali": "nvidia.dali", "skimage": "skimage"}[way])
    work = make_work("hayat2021", 2)
    work = replace(work, stamps=torch.zeros_like(work.stamps))
    if way == "kornia":
        made = batched.kornia_views(work, CPU)()[0].numpy()
    elif way == "dali":
        made = np.stack([np.asarray(row)[..., 0] for row in batched.dali_views(work, CPU)()[0]])
    else:
        made = _one_by_one(per_stamp.warped, work, view=0)
    standard = made / work.plans[0].noise_sigma.numpy()[:, :, None, None]
    assert np.std(standard, axis=(0, 2, 3)) == pytest.approx(np.ones(5), rel=0.04)


def _silent(preset: str, batch: int) -> Work:
    """Noise is each library's own: without it they are to agree."""
    return _without_noise(make_work(preset, batch))


def _without_noise(work: Work) -> Work:
    plans = tuple(replace(plan, noise_sigma=torch.zeros_like(plan.noise_sigma)) for plan in work.plans)
    return replace(work, plans=plans)


def _wanted(work: Work, view: int) -> np.ndarray:
    made: Tensor = reference.render(work.stamps, work.plans[view])
    return made.numpy()


def _one_by_one(way: per_stamp.Way, work: Work, view: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = zip(work.stamps.numpy(), per_stamp.recipes(work, view), strict=True)
    return np.stack([way(stamp, recipe, rng) for stamp, recipe in rows])
