"""A plan's rows for a renderer that knows no mirrored edge: a window of pixels for each, that it does not look out of.

Nothing is rendered here. Beyond an edge the stamp goes on as its mirror image about the centre of the edge pixels:
stamps are continued outwards, only as far as the batch looks. A row's window, and where the view lies in it, depend on
that row alone, so that its bits cannot depend on the rest of the batch.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from .errors import AugmentError
from .plan import Plan

# So far off, float64 still tells 2^-13 px, less than DALI's float32 positions are off (see `dali`). They are off by
# (n + 7) (S + 1) 2^-24 in a window of S px: in such a wide one by 0.02 px for a view of 64.
_FARTHEST_PX = 2**40
_WIDEST_PX = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """For the rows of a plan, in order; the stamps on their device, all else on the host."""

    stamps: Float32[Tensor, "batch band y x"]  # continued outwards
    start: Int64[Tensor, "row 2"]  # first pixel (y, x) of the row's window in its stamp
    shape: Int64[Tensor, "row 2"]  # height and width of the window
    affine: Float64[Tensor, "row 2 3"]  # as the plan's, but to pixels of the window


def check_positions(plan: Plan) -> None:
    """AugmentError where a view looks nowhere, or so far off or so widely that positions in its window are lost."""
    first, last = _corners(plan.affine, plan.size_px)
    near = torch.maximum(first.abs(), last.abs()) < _FARTHEST_PX
    good = (near & (last - first < _WIDEST_PX)).all(dim=1)  # never where one is NaN
    if not bool(good.all()):
        row = int((~good).nonzero()[0])
        raise AugmentError(
            f"windows: expected views that span less than {_WIDEST_PX} stamp pixels and lie within 2^40 of the first, "
            f"got the affine {plan.affine[row].tolist()} in row {row}; check where and how large the plan's views are"
        )


def windows(stamps: Float32[Tensor, "batch band y x"], plan: Plan) -> Windows:
    """The windows of a plan on the host, of which `check_positions` thinks well.

    Stamps are copied only if a view looks beyond an edge.
    """
    height, width = stamps.shape[2:]
    affine = _folded(plan.affine, (height, width), plan.size_px)
    first, last = (corner.long() for corner in _corners(affine, plan.size_px))
    before = (-first).amax(dim=0).clamp(min=0)
    after = (last - torch.tensor([height - 1, width - 1])).amax(dim=0).clamp(min=0)
    return Windows(
        stamps=_continued(stamps, before.tolist(), after.tolist()),
        start=first + before,
        shape=last - first + 1,
        affine=torch.cat([affine[..., :2], affine[..., 2:] - first[..., None]], dim=-1),
    )


def _folded(affine: Float64[Tensor, "row 2 3"], shape: tuple[int, int], size_px: int) -> Float64[Tensor, "row 2 3"]:
    """The same views of the endlessly mirrored stamp, with each view's middle on the stamp itself.

    The mirrored stamp repeats after 2 (side - 1) px and is even about pixel 0.
    """
    period = 2.0 * (torch.tensor(shape, dtype=torch.float64) - 1.0)
    middle = affine[..., 2] + affine[..., :2].sum(dim=-1) * (size_px - 1) / 2.0
    away = period * torch.round(middle / period)
    sign = torch.where(middle < away, -1.0, 1.0).to(affine)
    return sign[..., None] * torch.cat([affine[..., :2], (affine[..., 2] - away)[..., None]], dim=-1)


def _corners(
    affine: Float64[Tensor, "row 2 3"], size_px: int
) -> tuple[Float64[Tensor, "row 2"], Float64[Tensor, "row 2"]]:
    """First and last pixel (y, x) that each view takes anything from."""
    span = affine[..., :2] * (size_px - 1)
    first = affine[..., 2] + span.clamp(max=0.0).sum(dim=-1)
    last = affine[..., 2] + span.clamp(min=0.0).sum(dim=-1)
    return first.floor(), last.ceil()


def _continued(
    stamps: Float32[Tensor, "batch band y x"], before: list[int], after: list[int]
) -> Float32[Tensor, "batch band taller wider"]:
    """The stamps with so many (y, x) pixels more before and after, mirrored as often as it takes."""
    for dim, lower, upper in zip((2, 3), before, after, strict=True):
        last = stamps.shape[dim] - 1
        if lower or upper:
            place = torch.arange(-lower, last + 1 + upper, device=stamps.device)
            stamps = stamps.index_select(dim, last - (place % (2 * last) - last).abs())
    return stamps
