"""The DALI pipeline as a pipeline: order, errors, memory, what it leaves behind. Its views: also `test_paths`."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import pytest
import torch

import augment
from augment import AugmentError, Plan, reference

pytest.importorskip("nvidia.dali")
from augment import dali
from augment.dali import DaliPipeline

F64 = torch.float64
CPU = torch.device("cpu")
Batch = tuple[torch.Tensor, Plan]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    return torch.device(request.param)


def turned(
    rows: int, *, stamps: int, side: int, size_px: int, bands: int = 2, reach: int = 1, noise: float = 0.0
) -> Plan:
    """Rows turned by any angle, up to a quarter of the view away from the middle of stamps that are drawn by lot."""
    angle = 2 * torch.pi * torch.rand(rows, dtype=F64)
    turn = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=-1).reshape(rows, 2, 2)
    shift = size_px * (torch.rand(rows, 2, dtype=F64) - 0.5) / 2
    origin = side // 2 + shift - turn.sum(dim=-1) * (size_px // 2)
    half = torch.rand(rows, bands, reach, dtype=F64)
    return Plan(
        size_px=size_px,
        place=torch.randint(stamps, (rows,)),
        affine=torch.cat([turn, origin[..., None]], dim=-1),
        taps=half / (2 * half.sum(dim=-1, keepdim=True) - half[..., :1]),
        gain=0.5 + torch.rand(rows, bands, dtype=F64),
        noise_sigma=torch.full((rows, bands), noise, dtype=F64),
        noise_key=torch.randint(2**32, (rows, 2)),
    )


def batch(rows: int, *, size_px: int = 8, reach: int = 1, bands: int = 2) -> Batch:
    stamps = torch.randn(3, bands, 17, 17)
    return stamps, turned(rows, stamps=3, side=17, size_px=size_px, reach=reach, bands=bands, noise=0.5)


def views(batches: list[Batch], **options: int) -> list[torch.Tensor]:
    return list(DaliPipeline(iter(batches).__next__, device=CPU, **options))


def same(got: list[torch.Tensor], want: list[torch.Tensor]) -> bool:
    return len(got) == len(want) and all(map(torch.equal, got, want))


@pytest.mark.parametrize("reach", [1, 9])
def test_views_are_the_reference_s_within_what_its_positions_are_off(device, reach):
    """White noise for stamps: nothing differs more from pixel to pixel."""
    stamps = torch.randn(4, 2, 107, 107)
    plan = turned(12, stamps=4, side=107, size_px=64, reach=reach)
    (got,) = DaliPipeline(iter([(stamps.to(device), plan)]).__next__, device=device)
    exact = reference.render(stamps.double(), plan)
    # A window is at most 2 + 63 sqrt(2) px large. A position is made of numbers no larger than that, each rounded by at
    # most 2^-24 of it: 63 sums along a row, and a step, 4 factors, an offset and 2 sums at its start count as 8 more.
    # A pixel moves by the steps to its neighbours.
    position_px = 71 * (3 + 63 * 2**0.5) * 2.0**-24
    steps = stamps.diff(dim=2).abs().max() + stamps.diff(dim=3).abs().max()
    rounding = (8 + 4 * reach) * 2.0**-24 * stamps.abs().max()
    assert (got.cpu().double() - exact).abs().max() <= plan.gain.max() * (position_px * steps + rounding)


def test_noise_is_that_of_the_plan():
    stamps, plan = batch(5)
    (noisy,) = views([(stamps, plan)])
    (quiet,) = views([(stamps, replace(plan, noise_sigma=torch.zeros_like(plan.noise_sigma)))])
    field = reference.render(torch.zeros_like(stamps), plan)
    torch.testing.assert_close(noisy - quiet, field, rtol=0.0, atol=1e-5)  # 1e-5 sigma, and rounding at about 4


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_batches_of_any_size_come_out_in_order(ahead):
    """Larger and smaller ones, the first blur, another size: each as if it were alone."""
    shapes = [(3, 8, 1), (1, 8, 1), (9, 8, 1), (2, 8, 4), (4, 8, 1), (4, 11, 2), (10, 8, 3)]
    batches = [batch(rows, size_px=size, reach=reach) for rows, size, reach in shapes]
    got = views(batches, ahead=ahead)
    assert [(len(each), each.shape[-1]) for each in got] == [(rows, size) for rows, size, _ in shapes]
    assert same(got, [view for each in batches for view in views([each])])


def test_a_row_has_the_same_bits_in_any_batch():
    stamps, plan = batch(8, reach=3)
    (together,) = views([(stamps, plan)])
    alone = views([(stamps, plan.rows(slice(row, row + 1))) for row in range(8)])
    assert same([each[0] for each in alone], list(together))


@pytest.mark.parametrize("done", [0, 1, 3, 5])
def test_a_pipeline_on_the_rest_of_the_batches_goes_on(done):
    batches = [batch(4, reach=2) for _ in range(5)]
    whole = views(batches)
    first = iter(DaliPipeline(iter(batches).__next__, device=CPU))
    assert same([*islice(first, done), *views(batches[done:])], whole)


def test_memory_of_stamps_may_be_used_again_at_the_next_call_and_that_of_views_is_the_callers(device):
    batches = [batch(4, reach=2) for _ in range(6)]
    batches = [(stamps.to(device), plan) for stamps, plan in batches]
    buffer = torch.empty_like(batches[0][0])

    def reused() -> Iterator[Batch]:
        for stamps, plan in batches:
            yield buffer.copy_(stamps), plan
            buffer.fill_(torch.nan)

    got = []
    for view in DaliPipeline(reused().__next__, device=device):
        got.append(view.clone())
        view.fill_(torch.nan)
    assert same(got, [view for each in batches for view in DaliPipeline(iter([each]).__next__, device=device)])


def test_a_bad_pixel_hurts_its_own_band_and_rows_only(device):
    stamps, plan = batch(6, reach=2)
    plan = replace(plan, place=torch.arange(6) % 3)
    stamps[1, 0, 8, 8] = torch.nan
    before = stamps.clone()
    fed = stamps.to(device)
    (got,) = (view.cpu() for view in DaliPipeline(iter([(fed, plan)]).__next__, device=device))
    hurt = got.isnan().flatten(2).any(dim=2)
    assert hurt.tolist() == [[row % 3 == 1, False] for row in range(6)]
    assert torch.equal(got.isnan(), reference.render(stamps, plan).isnan())
    filled = stamps.nan_to_num(0.0).to(device)
    (clean,) = (view.cpu() for view in DaliPipeline(iter([(filled, plan)]).__next__, device=device))
    assert torch.equal(got.nan_to_num(7.0), clean.masked_fill(got.isnan(), 7.0))
    assert torch.equal(fed.cpu().nan_to_num(7.0), before.nan_to_num(7.0))


def test_where_bad_pixels_reach_is_asked_where_there_are_some_and_without_noise(monkeypatch):
    rendered = []

    def recording(stamps: torch.Tensor, plan: Plan) -> torch.Tensor:
        rendered.append(plan)
        return augment.render(stamps, plan)

    monkeypatch.setattr(dali, "render", recording)
    stamps, plan = batch(4, reach=2)
    views([(stamps, plan)])
    assert [bool(each.noise_sigma.all()) for each in rendered] == [True]
    stamps[0, 1, 3, 3] = -torch.inf
    rendered.clear()
    views([(stamps, plan)])
    assert [bool(each.noise_sigma.any()) for each in rendered] == [True, False]


def test_finite_stamps_on_the_host_are_not_copied():
    stamps, _ = batch(4)
    filled, bad = dali._filled(stamps)
    assert filled is stamps
    assert bad is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_the_host_does_not_wait_for_a_gpu():
    """Not even where a batch has bad pixels; torch raises an error wherever it would wait."""
    cuda = torch.device("cuda")
    batches = [batch(4, reach=2) for _ in range(6)]
    batches[3][0][1, 0, 8, 8] = torch.nan
    moved = [(stamps.to(cuda), plan) for stamps, plan in batches]
    list(DaliPipeline(iter(moved).__next__, device=cuda))  # compiles
    with waiting_is_an_error():
        got = list(DaliPipeline(iter(moved).__next__, device=cuda))
    for view, (stamps, plan) in zip(got, batches, strict=True):
        assert torch.equal(view.cpu().isnan(), reference.render(stamps, plan).isnan())


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_batches_without_rows_give_no_rows_and_need_no_dali(monkeypatch):
    stamps, plan = batch(4)
    nothing = stamps, plan.rows(slice(0, 0))
    got = views([nothing, (stamps, plan), nothing])
    assert [each.shape for each in got] == [(0, 2, 8, 8), (4, 2, 8, 8), (0, 2, 8, 8)]
    assert same(got[1:2], views([(stamps, plan)]))
    monkeypatch.delattr(dali, "_built")
    (alone,) = views([nothing])
    assert (alone.shape, alone.dtype) == ((0, 2, 8, 8), torch.float32)


def with_affine(plan: Plan, value: float) -> Plan:
    affine = plan.affine.clone()
    affine[-1, 1, 2] = value
    return replace(plan, affine=affine)


UNFIT: dict[str, tuple[Callable[[torch.Tensor, Plan], Batch], str]] = {
    "float64": (lambda stamps, plan: (stamps.double(), plan), r"float32 stamps on cpu, got torch\.float64 on cpu"),
    "float16": (lambda stamps, plan: (stamps.half(), plan), r"float32 stamps on cpu, got torch\.float16"),
    "three axes": (lambda stamps, plan: (stamps[0], plan), r"stamps \(batch, band, y, x\)"),
    "another band": (lambda stamps, plan: (stamps[:, :1], plan), r"expected gain of shape \(4, 1\)"),
    "place below": (lambda stamps, plan: (stamps, replace(plan, place=plan.place - 3)), "places of 3 stamps, 0 to 2"),
    "place above": (lambda stamps, plan: (stamps, replace(plan, place=plan.place + 3)), "places of 3 stamps, 0 to 2"),
    "nan": (lambda stamps, plan: (stamps, with_affine(plan, torch.nan)), r"the affine .*nan.* in row 3"),
    "inf": (lambda stamps, plan: (stamps, with_affine(plan, torch.inf)), r"the affine .*inf.* in row 3"),
    "far": (lambda stamps, plan: (stamps, with_affine(plan, 1e26)), r"the affine .*1e\+26.* in row 3"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_a_batch_that_does_not_fit_is_refused_in_a_line_at_its_place(unfit):
    change, expected = UNFIT[unfit]
    good = batch(4)
    pipeline = iter(DaliPipeline(iter([good, change(*batch(4)), good]).__next__, device=CPU))
    assert same([next(pipeline)], views([good]))
    with pytest.raises(AugmentError, match=expected) as error:
        next(pipeline)
    assert "\n" not in str(error.value)


def failing(batches: list[Batch]) -> Callable[[], Batch]:
    def each() -> Iterator[Batch]:
        yield from batches
        raise OSError("the disk is gone")

    return each().__next__


@pytest.mark.parametrize("good", [0, 1, 5])
def test_an_error_comes_out_behind_the_views_before_it(good):
    batches = [batch(2) for _ in range(good)]
    pipeline = iter(DaliPipeline(failing(batches), device=CPU))
    seen = [next(pipeline) for _ in range(good)]
    with pytest.raises(OSError, match="the disk is gone"):
        next(pipeline)
    assert same(seen, views(batches))


def test_it_is_as_many_batches_ahead_as_it_says():
    batches = iter([batch(2) for _ in range(9)])
    pipeline = iter(DaliPipeline(batches.__next__, device=CPU, ahead=3))
    next(pipeline)
    assert len(list(batches)) == 9 - 4


def test_nothing_is_left_when_it_ends_is_closed_or_fails():
    """Without the garbage collector, and with the error still in hand."""
    batches = [batch(2, reach=2) for _ in range(5)]
    views(batches)
    before = _threads()
    gc.disable()
    try:
        pipeline = iter(DaliPipeline(iter(batches).__next__, device=CPU))
        next(pipeline)
        assert _threads() > before  # so that what follows can fail
        pipeline.close()
        assert _threads() == before
        with pytest.raises(OSError, match="disk") as error:
            list(DaliPipeline(failing(batches), device=CPU))
        assert error.value is not None
        assert _threads() == before
        lost = (batches[0][0], with_affine(batches[0][1], torch.nan))
        with pytest.raises(AugmentError, match="nan") as refused:
            views([*batches, lost])
        assert refused.value is not None
        assert _threads() == before
        views(batches)
        assert _threads() == before
    finally:
        gc.enable()


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_no_batches_give_no_views():
    assert views([]) == []


def test_without_dali_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)  # import now raises ModuleNotFoundError
    with pytest.raises(AugmentError, match=r"pip install 'skymill\[dali\]'"):
        dali.require()
    with pytest.raises(AugmentError, match="expected NVIDIA DALI"):
        DaliPipeline(iter([]).__next__, device=CPU)


def test_no_batch_ahead_is_refused():
    with pytest.raises(AugmentError, match="at least 1 batch ahead, got 0"):
        DaliPipeline(iter([]).__next__, device=CPU, ahead=0)
