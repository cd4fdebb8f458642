"""The operator as torch sees it: schema, shapes without data, torch.compile, autocast, dtypes and layouts, refusals."""

from dataclasses import replace

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


def test_it_works_under_torch_compile_without_a_break():
    stored, plan = torch.randn(2, 3, 31, 29), plan_of()
    given = arguments(stored, plan)

    def step(images: torch.Tensor) -> torch.Tensor:
        return torch.ops.skymill.render(images, *given[1:]).square().mean()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(stored), step(stored))


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
        (torch.zeros(2, 3, 31, 1), {}, "at least 2 x 2 pixels"),
        (STAMPS.double(), {}, "expected float32, float16 or int16 stamps .*got torch.float64"),
        (STAMPS, {"dtype": torch.float16}, "and float32 or bfloat16 views, got torch.float32 and torch.float16"),
        (STAMPS.short(), {}, "expected a dither with int16 stamps .*without one"),
        (STAMPS, {"dither": int16()[1]}, "expected a dither with int16 stamps .*with one"),
        (STAMPS.short(), {"dither": int16(3)[1]}, r"one objid a stamp .*of \(2, 3\), got \(3,\) and \(3, 3\)"),
        (torch.zeros(2, 4, 31, 29), {}, "a plan for 4 bands, as the stamps have, got one for 3"),
    ],
)
def test_what_does_not_fit_is_one_line(stamps, also, message):
    with pytest.raises(AugmentError, match=f"^render: .*{message}") as caught:
        render(stamps, plan_of(), **also)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [[0, 2], [-1, 0]])
def test_a_place_that_does_not_exist_is_refused(place):
    with pytest.raises(AugmentError, match=r"^render: expected places 0 to 1, as there are stamps, got"):
        render(STAMPS, replace(plan_of(), place=torch.tensor(place)))
