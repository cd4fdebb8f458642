"""What all tests of views share: every way of rendering a plan that must equal the reference, and how exact it is."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

import augment
from augment import Plan, reference

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Path:
    """``render`` takes stamps (batch, band, y, x) and a plan, both on the host, and gives the rows there."""

    name: str
    render: Callable[[torch.Tensor, Plan], torch.Tensor]
    position_error_px: Callable[[Plan], float]  # of where it looks in the stamp, each axis

    def __str__(self) -> str:
        return self.name

    def tolerance(self, stamps: torch.Tensor, plan: Plan) -> torch.Tensor:
        """How far a row and band (row, band, 1, 1) may be off the exact value: a sum of bounds.

        Bilinear interpolation changes by the difference of neighbours a pixel of position, on either axis. Rounding:
        a bilinear mean has 4 products, a blur at most 2 (2 reach - 1) of which the weights add up to 1, so its rounding
        error is at most as many units of 2^-24 of the largest pixel (and usually their square root). A normal is
        right to 1e-5, and is multiplied by its sigma.
        """
        finite = stamps.nan_to_num(0.0, 0.0, 0.0).double()[plan.place]
        steps = torch.maximum(finite.diff(dim=2).abs().amax(dim=(2, 3)), finite.diff(dim=3).abs().amax(dim=(2, 3)))
        roundings = 8 + 2 * (2 * plan.taps.shape[-1] - 1)
        moved = 2 * self.position_error_px(plan) * steps + roundings * 2.0**-24 * finite.abs().amax(dim=(2, 3))
        return (plan.gain * moved + 1e-5 * plan.noise_sigma)[:, :, None, None]


def _cpu(stamps: torch.Tensor, plan: Plan) -> torch.Tensor:
    return augment.render(stamps, plan)


def _triton(stamps: torch.Tensor, plan: Plan) -> torch.Tensor:
    from augment import gpu

    moved = plan.to(DEVICE)
    return gpu.render(
        stamps.to(DEVICE), None, None, moved.place, moved.affine, moved.gain, moved.taps, moved.noise_sigma,
        moved.noise_key, plan.size_px, torch.float32, False,
    ).cpu()  # fmt: skip


def _dali(stamps: torch.Tensor, plan: Plan) -> torch.Tensor:
    from augment.dali import DaliPipeline

    batches = iter([(stamps.to(DEVICE), plan)])
    (view,) = DaliPipeline(lambda: next(batches), device=DEVICE)
    return view.cpu()


def _fraction(plan: Plan) -> float:
    """Positions are float64; only the fraction of a pixel is rounded to float32."""
    return 2.0**-24


def _grid_sample(plan: Plan) -> float:
    """The coordinate, of up to 128 px, is rounded three times."""
    return 3 * 128 * 2.0**-24


def _added_up(plan: Plan) -> float:
    """DALI adds float32 steps along a row of n pixels, in a window as wide as the n pixels reach: see `dali`."""
    window = plan.size_px * float(plan.affine[..., :2].abs().sum(dim=-1).max()) + 3
    return (plan.size_px + 7) * (window + 1) * 2.0**-24


PATHS = (
    Path("reference in float32", reference.render, _grid_sample),
    Path("cpu", _cpu, _fraction),
    Path("triton", _triton, _fraction),
    Path("dali", _dali, _added_up),
)


@pytest.fixture(params=PATHS, ids=str)
def path(request: pytest.FixtureRequest) -> Path:
    """Each of the ways, one test after the other."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    torch.manual_seed(20210)
