"""The augment benchmark runs, and everything in it makes the views that it is timed for."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from augment import Dither, reference, render
from augment.blur import blur
from benchmarks.augmenting import batched, per_stamp, told
from benchmarks.augmenting import contenders as ways
from benchmarks.augmenting.amount import FULL, QUICK, Amount
from benchmarks.augmenting.contenders import Ways, named
from benchmarks.augmenting.recipes import recipes, rows
from benchmarks.augmenting.turn import Turn
from benchmarks.augmenting.work import Work, blur_sigma_px, encoded, given_stamps, make_work, noise_stamps
from benchmarks.errors import BenchmarkError
from benchmarks.limits import memory_copy
from benchmarks.practice import Practice
from benchmarks.results import Result, StageReport
from benchmarks.stages import augment
from sharding import Dataset

SMALL = Amount(
    rounds=1, batch=3, batch_on_accelerator=3, by_scikit_image=2, views_a_step=1, views_a_step_of_peers=1,
    views_a_step_on_accelerator=1,
    dali_batches=1, dali_batches_on_accelerator=1, batches=(2,), batches_on_accelerator=(2,), stamps_px=(81,),
    views_px=(16,), peers_on_all_threads=True,
)  # fmt: skip
CPU = torch.device("cpu")
# Neighbouring pixels of unit noise differ by at most 8 in a few stamps; a shift of so many px changes a view by this.
SLOPE = 8.0
INSIDE = (..., slice(8, 56), slice(8, 56))  # 24 px diagonally and 7 px of shift: 41 px, within the stamp's 53
DERIVED = ("flop_per_view",)  # params that follow from the others
ON_A_GPU = torch.cuda.is_available()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> StageReport:
    """All that there is, of a few stamps; the threads are left alone."""
    before = torch.get_num_threads()
    found = augment.run(_practice(tmp_path_factory.mktemp("never-used")), SMALL)
    assert torch.get_num_threads() == before
    return found


def test_the_peers_that_are_installed_are_measured(report: StageReport):
    installed = {peer for peer, package in ways.PACKAGES.items() if ways.is_installed(package)}
    assert set(report.left_out) == ways.PACKAGES.keys() - installed
    assert set(report.footing) == installed | {ways.TORCH}
    for where in ("1 thread", "2 threads"):
        assert {result.name for result in report.results} >= {named(peer, told.FULL, where) for peer in installed}
    assert {result.unit for result in report.results} == {"views/s", "images/s"}
    assert all(ratio > 0 for ratio in report.measured_ratios().values())


def test_the_verdict_s_rate_is_ours_with_all_threads_in_images(report: StageReport):
    own = _result(report, report.own or "")
    drawn = _result(report, named(ways.DRAWN, told.PLAIN, "cuda" if ON_A_GPU else "2 threads"))
    assert (own.unit, own.median) == ("images/s", drawn.median / 2)
    # A stamp and two views, with which go the operations of both.
    assert own.bytes_per_image == 2 * drawn.bytes_per_image == 2 * 4 * 5 * (107 * 107 // 2 + 64 * 64)
    assert own.params["flop_per_image"] == 2 * int(drawn.params["flop_per_view"])
    assert own.limit is not None
    assert drawn.limit is not None
    assert own.limit.per_item == 2 * drawn.limit.per_item


def test_each_rate_s_limit_is_a_copy_by_as_many_threads(report: StageReport):
    on_host = [result for result in report.results if result.params["device"] == "cpu"]
    for result in on_host:
        assert result.limit is not None
        assert result.limit.name == memory_copy(int(result.params["threads"]))
    op, from_int16 = (_result(report, named(who, told.FULL)) for who in (ways.OP, ways.FROM_INT16))
    # A copy reads and writes each byte. A stamp's share is 107 x 107 / 2 pixels, the view's 64 x 64 are float32.
    assert op.limit is not None
    assert op.limit.per_item == 4 * 5 * (107 * 107 // 2 + 64 * 64) / 2 / 1e9
    assert from_int16.bytes_per_image == 5 * (2 * (107 * 107 // 2) + 4 * 64 * 64)


def test_what_was_promised_is_told(report: StageReport):
    promised = {promise.what: promise for promise in report.kept()}
    op, on_cuda = named(ways.OP, told.FULL), named(ways.OP, told.FULL, "cuda")
    assert promised[f"{op} / {named(ways.TORCH, told.FULL)}"].at_least == 1.8
    assert promised[f"{named(ways.OP, told.FULL, '2 threads')} / {op}"].at_least == 1.7
    if "scikit-image, one warp" in report.footing:
        assert promised[f"{op} / {named(ways.TURNED, told.FULL)}"].at_least == 10.0
        assert promised[f"{op} / {named(ways.WARPED, told.FULL)}"].at_least == 5.0
    of_the_copy = promised[f"{on_cuda} / {named(ways.COPY, told.FULL, 'cuda')}"]
    for promise in (promised[f"{on_cuda} [views/s]"], of_the_copy):
        assert (promise.measured is None) == (not ON_A_GPU)


def test_one_core_cannot_say_what_a_second_is_worth(tmp_path: Path):
    promised = {promise.what: promise for promise in augment.run(_practice(tmp_path, (1,)), SMALL).kept()}
    told_of = promised[f"{named(ways.OP, told.FULL, '2 threads')} / {named(ways.OP, told.FULL)}"]
    assert (told_of.measured, told_of.missing) == (None, "needs two cores")


def test_curves_change_one_thing_in_its_order(report: StageReport):
    params = {result.name: dict(result.params) for result in report.results}
    points = {curve.axis: list(curve.lines[ways.OP]) for curve in report.curves}
    assert {axis: [params[name][axis] for name in names] for axis, names in points.items()} == {
        "threads": [1, 2],
        "batch": [2, 3],
        "stamp_px": [81, 107],
        "view_px": [16, 64],
        "stored": ["float32", "float16", "int16"],
        "preset": ["stein2021", "hayat2021", "none"],
    }
    for curve in report.curves:
        for line in curve.lines.values():
            others = [{k: v for k, v in params[name].items() if k not in (curve.axis, *DERIVED)} for name in line]
            assert all(other == others[0] for other in others)


def test_bars_have_ours_first_and_only_one_preset(report: StageReport):
    titles = {chart.title: chart.results for chart in report.bars}
    assert titles["Views of 64 px, stein2021, 1 thread"][0] == named(ways.OP, told.FULL)
    for title, names in titles.items():
        _, preset, where = title.split(", ")
        assert all(name.endswith(f", {preset}, {where}") for name in names)
    if ways.is_installed("kornia"):
        assert named(ways.KORNIA, told.PLAIN, "2 threads") in titles["Views of 64 px, hayat2021, 2 threads"]


def test_peers_that_are_not_installed_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in (ways, told):
        monkeypatch.setattr(module, "is_installed", lambda package: False)
    report = augment.run(_practice(tmp_path, (1,)), SMALL)
    assert set(report.left_out) == set(ways.PACKAGES)
    alone = ("augment: skymill", "augment: plain torch", "augment: copy")
    assert all(result.name.startswith(alone) for result in report.results)


def test_full_measures_all_that_quick_does_and_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def stop(data: Practice, amount: Amount, opened: ExitStack, turn: Turn) -> None:
        asked.append(amount)
        raise InterruptedError

    monkeypatch.setattr(augment, "_bench", stop)
    for full in (False, True):
        with pytest.raises(InterruptedError):
            augment.run(Practice(folder=tmp_path, full=full))
    assert asked == [QUICK, FULL]
    assert set(QUICK.batches) < set(FULL.batches)
    assert set(QUICK.stamps_px) < set(FULL.stamps_px)
    assert set(QUICK.views_px) < set(FULL.views_px)
    assert FULL.rounds > QUICK.rounds


def test_every_step_makes_all_views_and_of_twice_the_stamps_twice_as_many(tmp_path: Path):
    before, counts = torch.get_num_threads(), {}
    amount = replace(SMALL, batch=12, peers_on_all_threads=False)
    for once, twice in augment.doubled(_practice(tmp_path), amount):
        assert twice.name == f"{once.name}, twice"
        made = []
        for each in (once, twice):
            each.prepare()
            made.append(each.step())
        counts[once.name] = tuple(made)
    assert torch.get_num_threads() == before
    assert all(twice == 2 * once for once, twice in counts.values())
    assert {first for name, (first, _) in counts.items() if "scikit-image" in name} <= {4}
    assert counts[named(ways.DRAWN, told.FULL)][0] == 24
    assert {counts[name][0] for name in counts if "skymill op" in name and "cuda" not in name} == {24}
    assert counts[named(ways.TORCH, told.FULL)][0] == 6  # batches of a quarter


def test_a_pipeline_goes_on_until_the_next_one_s_turn():
    log: list[str] = []

    def endless(name: str) -> Iterator[Tensor]:
        log.append(f"{name} built")
        try:
            while True:
                yield torch.zeros(3)
        finally:
            log.append(f"{name} ended")

    with Turn() as turn:
        turn.begin(lambda: endless("first"))
        assert (turn.take(2), turn.take(3)) == (6, 9)
        assert log == ["first built"]
        turn.begin(lambda: endless("second"))
        assert log == ["first built", "first ended", "second built"]
    assert log[-1] == "second ended"


def test_whoever_comes_next_ends_our_pipeline_with_dali(monkeypatch: pytest.MonkeyPatch):
    """Building it is in no one's time, and it works ahead in no one else's."""
    pytest.importorskip("nvidia.dali")
    some = Ways(work=_work("hayat2021", 2), amount=replace(SMALL, dali_batches=3))
    (through,) = some.through_dali()
    before = torch.get_num_threads()
    through.prepare()
    assert (through.step(), through.step()) == (12, 12)
    assert some.turn._views is not None
    some.op().prepare()
    assert some.turn._views is None
    torch.set_num_threads(before)


def test_scikit_image_makes_all_views_in_each_process():
    pytest.importorskip("skimage")
    with ExitStack() as opened:
        make = per_stamp.maker(rows(_work("hayat2021", 2)), 2, opened)
        assert make(per_stamp.warped) == 8


def test_a_batch_is_made_again_until_a_step_has_views_enough():
    """By each of two threads 16, of a quarter of the pixels four times as many: 128, in batches of 3 x 2."""
    amount = replace(SMALL, views_a_step=16)
    assert Ways(work=_work("none", 3), amount=amount, threads=2).op().step() == 36
    quarter = make_work("none", noise_stamps(3), 32)
    assert Ways(work=quarter, amount=amount, threads=2).op().step() == 132


def test_a_dataset_s_own_stamps_are_taken():
    dataset = _Given()
    stamps = given_stamps(dataset, 5)
    assert stamps.bands == ("g", "r")
    assert torch.equal(stamps.images, torch.from_numpy(dataset.pixels[[0, 1, 2, 0, 1]]))
    assert stamps.conditions.ebv.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.1, 0.2])
    # What it does not know is as usual, so that no preset leaves work out.
    plan = make_work("stein2021", stamps).plan
    assert plan.taps.shape[-1] > 1
    assert float(plan.noise_sigma.max()) > 0


def test_views_of_a_given_dataset_are_measured(tmp_path: Path):
    report = augment.run(_with(_Given(), tmp_path), SMALL)
    op = _result(report, named(ways.OP, told.FULL))
    assert (op.params["bands"], op.params["stamp_px"]) == (2, 80)
    assert op.bytes_per_image == 4 * 2 * (80 * 82 // 2 + 64 * 64)
    assert "stamp_px" not in {curve.axis for curve in report.curves}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"bands": ("g", "H")}, "band 'H'"), ({"shape": (70, 107)}, r"at least 78 pixels a side.*got \(70, 107\)")],
)
def test_a_dataset_of_which_no_views_can_be_made_is_one_line(
    tmp_path: Path, wrong: dict[str, tuple[str, ...]], words: str
):
    with pytest.raises(BenchmarkError, match=words) as raised:
        augment.run(_with(_Given(**wrong), tmp_path), SMALL)
    assert "\n" not in str(raised.value)


def test_fewer_stamps_are_the_first_ones():
    work, few = _work("stein2021", 5), _work("stein2021", 5).first(2)
    assert torch.equal(few.stamps.images, work.stamps.images[:2])
    for first, all_of_them in zip(few.plans, work.plans, strict=True):
        assert torch.equal(first.affine, all_of_them.affine[:2])
        assert torch.equal(first.noise_key, all_of_them.noise_key[:2])


def test_floating_point_operations_are_counted_by_pixel_and_band():
    """No blur and no noise: 4 multiply-adds to interpolate and a gain. Noise is one more; weights 0 are none."""
    pixels = 5 * 64 * 64
    assert _work("none", 2).view_flop() == 2 * 5 * pixels
    work = _work("hayat2021", 2)
    assert work.view_flop() == 2 * 6 * pixels
    taps = torch.tensor([0.6, 0.2, 0.0], dtype=torch.float64).expand(2, 5, 3)  # 3 weights along each axis
    blurred = replace(work, plans=tuple(replace(plan, taps=taps) for plan in work.plans))
    assert blurred.view_flop() == 2 * 12 * pixels


def test_16_bit_stamps_show_the_same_up_to_their_step():
    """Decoding and rounding are off by up to half a step of 1/4 each; interpolation averages that."""
    work = _silent("hayat2021", 2)
    stored, dither = encoded(work.stamps, "int16")
    assert stored.dtype == torch.int16
    difference = (render(stored, work.plan, dither=dither) - reference.render(work.stamps.images, work.plan)).abs()
    assert 0.05 < difference.max() <= 0.25 * work.plan.gain.max() + 1e-3


def test_16_bit_steps_double_until_the_brightest_pixel_fits():
    stamps = noise_stamps(2)
    stamps.images[1, 3, 5, 5] = 1e5
    stored, dither = encoded(stamps, "int16")
    assert isinstance(dither, Dither)
    wanted = torch.full((2, 5), 0.25)
    wanted[1, 3] = 4.0  # 1e5 / 32767 = 3.05
    assert torch.equal(dither.step, wanted)
    assert stored[1, 3, 5, 5] == 25_000


def test_float16_stamps_show_the_same_to_11_bits():
    work = _silent("hayat2021", 2)
    stored, dither = encoded(work.stamps, "float16")
    assert (stored.dtype, dither) == (torch.float16, None)
    difference = (render(stored, work.plan) - reference.render(work.stamps.images, work.plan)).abs()
    largest = work.stamps.images.abs().max() * work.plan.gain.max()
    assert 0 < difference.max() <= 2.0**-11 * largest + 1e-5


def test_widths_are_those_of_the_plan_s_weights():
    """A wide Gaussian as SciPy samples it, blurring an impulse, is the plan's; all of it lies in the view."""
    plan = _work("stein2021", 20).plans[0]
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
    work = _work("hayat2021", 2)
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
    change = wanted - reference.render(work.stamps.images, sharp).numpy()[wide]
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
    work = _work("hayat2021", 2)
    work = replace(work, stamps=replace(work.stamps, images=torch.zeros_like(work.stamps.images)))
    if way == "kornia":
        made = batched.kornia_views(work, CPU)()[0].numpy()
    elif way == "dali":
        made = np.stack([np.asarray(row)[..., 0] for row in batched.dali_views(work, CPU)()[0]])
    else:
        made = _one_by_one(per_stamp.warped, work, view=0)
    standard = made / work.plans[0].noise_sigma.numpy()[:, :, None, None]
    assert np.std(standard, axis=(0, 2, 3)) == pytest.approx(np.ones(5), rel=0.04)


class _Given(Dataset):
    """As much of a dataset as is asked for; it knows neither PSF nor sky noise."""

    def __init__(self, bands: tuple[str, ...] = ("g", "r"), shape: tuple[int, int] = (80, 82)) -> None:
        self.manifest = SimpleNamespace(bands=bands, image_shape=(len(bands), *shape), pixel_scale_arcsec=0.396)
        self.pixels = np.random.default_rng(1).normal(0.0, 0.03, (3, len(bands), *shape)).astype(np.float32)

    @property
    def mad(self) -> np.ndarray:
        return np.full(len(self.bands), 0.02)

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: np.ndarray) -> np.ndarray:
        return self.pixels[indices]

    def column(self, name: str) -> np.ndarray:
        assert name == "ebv_sfd"
        return np.array([0.1, 0.2, 0.3])

    def has(self, name: str) -> bool:
        return name == "ebv_sfd"


def _practice(folder: Path, threads: tuple[int, ...] = (1, 2)) -> Practice:
    """On any machine with so many threads."""
    data = Practice(folder=folder)
    vars(data)["threads"] = threads
    return data


def _with(dataset: _Given, folder: Path) -> Practice:
    data = _practice(folder, (1,))
    data.given = "given"
    vars(data)["dataset"] = dataset
    return data


def _result(report: StageReport, name: str) -> Result:
    return next(result for result in report.results if result.name == name)


def _work(preset: str, batch: int) -> Work:
    return make_work(preset, noise_stamps(batch))


def _silent(preset: str, batch: int) -> Work:
    """Noise is each library's own: without it they are to agree."""
    return _without_noise(_work(preset, batch))


def _without_noise(work: Work) -> Work:
    plans = tuple(replace(plan, noise_sigma=torch.zeros_like(plan.noise_sigma)) for plan in work.plans)
    return replace(work, plans=plans)


def _wanted(work: Work, view: int) -> np.ndarray:
    made: Tensor = reference.render(work.stamps.images, work.plans[view])
    return made.numpy()


def _one_by_one(way: per_stamp.Way, work: Work, view: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    pairs = zip(work.stamps.images.numpy(), recipes(work, view), strict=True)
    return np.stack([way(stamp, recipe, rng) for stamp, recipe in pairs])
