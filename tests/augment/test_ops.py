"""The operator as torch sees it: schema, shapes without data, torch.compile, autocast, dtypes and layouts, refusals."""

import inspect
from dataclasses import fields, replace

import pytest
import torch

from augment import PRESETS, AugmentError, Conditions, Dither, Plan, draw, make_plan, render, views

BANDS = ("g", "r", "z")


def known(batch: int) -> Conditions:
    return Conditions(
        ebv=torch.full((batch,), 0.1), pixel_scale_arcsec=0.396, mad=torch.full((3,), 0.02),
        psf_fwhm_arcsec=torch.full((batch, 3), 0.8), sky_sigma=torch.full((batch, 3), 0.01),
    )  # fmt: skip


def plan_of(batch: int = 2, size_px: int = 16) -> Plan:
    drawn = draw(PRESETS["stein2021"], seed=1, epoch=2, sample=torch.arange(batch), view=0, bands=BANDS)
    return make_plan(drawn, known(batch), bands=BANDS, stamp_shape=(31, 29), size_px=size_px)


def arguments(stored: torch.Tensor, plan: Plan, dither: Dither | None = None, dtype=torch.float32, last=False):
    given = (None, None) if dither is None else (dither.objid, dither.step)
    return (
        stored, *given, plan.place, plan.affine, plan.gain, plan.taps, plan.noise_sigma, plan.noise_key, plan.size_px,
        dtype, last,
    )  # fmt: skip


def int16(batch: int = 2) -> tuple[torch.Tensor, Dither]:
    stored = torch.randint(-3000, 3000, (batch, 3, 31, 29), dtype=torch.int16)
    return stored, Dither(torch.arange(batch) + 2**60, torch.rand(batch, 3) * 0.01 + 0.001)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torch_finds_nothing_wrong_with_it(dtype, last):
    """Schema, no aliasing or writing of inputs, the shapes that the fake kernel gives, dynamic shapes under compile."""
    stored, dither = int16()
    for given in (arguments(torch.randn(2, 3, 31, 29), plan_of(), None, dtype, last),
                  arguments(stored, plan_of(), dither, dtype, last)):  # fmt: skip
        torch.library.opcheck(torch.ops.skymill.render.default, given)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # inductor's own
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_it_works_under_torch_compile_without_a_break(backend):
    plan, plain = plan_of(), inspect.unwrap(render)  # what checks shapes in tests cannot be traced

    def step(images: torch.Tensor) -> torch.Tensor:
        return plain(images, plan).square().mean()

    compiled = torch.compile(step, fullgraph=True, backend=backend)
    for _ in range(2):
        stored = torch.randn(2, 3, 31, 29)
        torch.testing.assert_close(compiled(stored), step(stored))


def test_stamps_that_want_a_gradient_give_views_without_one():
    view = render(torch.randn(2, 3, 31, 29, requires_grad=True), plan_of())
    assert not view.requires_grad


def test_autocast_leaves_it_alone():
    stored, plan = torch.randn(2, 3, 31, 29), plan_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        view = render(stored, plan)
    assert view.dtype == torch.float32
    assert torch.equal(view, render(stored, plan))


def test_bfloat16_is_float32_rounded_and_channels_last_the_same_numbers():
    stored, plan = torch.randn(2, 3, 31, 29), plan_of()
    view = render(stored, plan)
    for dtype in (torch.float32, torch.bfloat16):
        for last in (False, True):
            other = render(stored, plan, dtype=dtype, channels_last=last)
            assert other.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
            assert torch.equal(other, view.to(dtype))


def test_stored_types_are_decoded_as_the_reader_decodes_them():
    """float16 exactly; int16 by the dither that `sharding.dither` states, in every bit."""
    from sharding.encoding import decode

    stored, dither = int16()
    pixels = torch.from_numpy(decode(stored.numpy(), dither.objid.numpy(), dither.step.numpy()))
    assert torch.equal(render(stored, plan_of(), dither=dither), render(pixels, plan_of()))
    half = torch.randn(2, 3, 31, 29).half()
    assert torch.equal(render(half, plan_of()), render(half.float(), plan_of()))


def test_both_views_come_from_one_call_and_are_those_of_two():
    stored, preset = torch.randn(2, 3, 31, 29), PRESETS["stein2021"]
    coordinates = {"seed": 1, "epoch": 2, "sample": torch.arange(2), "conditions": known(2), "bands": BANDS}
    both = views(stored, preset, **coordinates, size_px=16)
    assert torch.equal(both[0], render(stored, plan_of()))
    assert torch.equal(views(stored, preset, **coordinates, size_px=16, count=1)[0], both[0])
    assert not torch.equal(both[0], both[1])


def test_an_input_that_is_not_contiguous_is_read_right():
    wide, plan = torch.randn(2, 3, 31, 58), plan_of()
    assert torch.equal(render(wide[..., ::2], plan), render(wide[..., ::2].contiguous(), plan))


def test_no_rows_and_no_stamps_are_no_views():
    nothing = plan_of().rows(slice(0, 0))
    assert render(torch.randn(2, 3, 31, 29), nothing).shape == (0, 3, 16, 16)
    assert render(torch.randn(0, 3, 31, 29), nothing).shape == (0, 3, 16, 16)


STAMPS = torch.zeros(2, 3, 31, 29)


@pytest.mark.parametrize(
    ("stamps", "also", "message"),
    [
        (torch.zeros(2, 3, 31, 1), {}, "at least 2 x 2 pixels, got shape"),
        (torch.zeros(2, 0, 31, 29), {}, "of a band or more"),
        (STAMPS.double(), {}, "expected float32, float16 or int16 stamps .*got torch.float64"),
        (STAMPS, {"dtype": torch.float16}, "and float32 or bfloat16 views, got torch.float32 and torch.float16"),
        (STAMPS.short(), {}, "expected a dither with int16 stamps, got none"),
        (STAMPS, {"dither": int16()[1]}, "expected a dither with int16 stamps alone, got one with torch.float32"),
        (STAMPS.short(), {"dither": int16(3)[1]}, r"expected objid of shape \(2,\) .*got \(3,\)"),
        (torch.zeros(2, 4, 31, 29), {}, r"expected gain of shape \(2, 4\) .*got \(2, 3\)"),
    ],
)
def test_stamps_that_do_not_fit_are_one_line(stamps, also, message):
    with pytest.raises(AugmentError, match=f"^render: .*{message}") as caught:
        render(stamps, plan_of(), **also)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"place": torch.tensor([0, 2])}, "expected places of 2 stamps, 0 to 1, got 0 to 2"),
        ({"place": torch.tensor([-1, 0])}, "got -1 to 0"),
        ({"place": torch.tensor([0])}, "expected affine of shape"),
        ({"place": torch.tensor([0, 1], dtype=torch.int32)}, "expected place .* torch.int32"),
        ({"affine": torch.zeros(1, 2, 3, dtype=torch.float64)}, "expected affine of shape"),
        ({"affine": torch.zeros(2, 2, 3)}, "expected affine .* torch.float32"),
        ({"taps": torch.zeros(2, 3, 0, dtype=torch.float64)}, "expected 1 to 16 taps, .*got 0"),
        ({"taps": torch.zeros(2, 3, 17, dtype=torch.float64)}, "expected 1 to 16 taps, .*got 17"),
        ({"noise_sigma": torch.zeros(2, 1, dtype=torch.float64)}, "expected noise_sigma of shape"),
        ({"noise_key": torch.zeros(2, 1, dtype=torch.int64)}, "expected noise_key of shape"),
        ({"size_px": 0}, "views of at least 1 pixel a side, got 0"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_by_the_operator_itself(changed, message):
    """Through torch.ops: nothing can make a body index beyond a tensor."""
    with pytest.raises(AugmentError, match=f"^render: .*{message}"):
        torch.ops.skymill.render(*arguments(STAMPS, PlanLike(plan_of(), **changed)))


class PlanLike:
    """A plan, some of it replaced by what a `Plan` would not hold."""

    def __init__(self, plan: Plan, **changed: object) -> None:
        self.__dict__.update({each.name: getattr(plan, each.name) for each in fields(Plan)} | changed)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e26, -1e300])
def test_positions_that_are_none_stay_inside_the_stamp(value):
    """Nothing crashes, other rows are what they were, and a position that is no number gives NaN."""
    plan, stamps = plan_of(), torch.randn(2, 3, 31, 29)
    affine = plan.affine.clone()
    affine[0, 1, 2] = value
    view = render(stamps, replace(plan, affine=affine))
    assert torch.equal(view[1], render(stamps, plan)[1])
    assert view[0].isnan().all() or abs(value) < torch.inf
