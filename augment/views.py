"""Views as a caller asks for them: parameters drawn or given, one plan of all rows, one call of the operator."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from . import reference
from .conditions import Conditions
from .draws import ViewParameters, draw
from .errors import AugmentError
from .geometry import VIEW_PX
from .ops import Dither, render
from .plan import Plan, plan_for
from .presets import Preset


def apply(
    images: Shaped[Tensor, "batch band y x"],
    parameters: ViewParameters,
    conditions: Conditions,
    *,
    bands: Sequence[str],
    size_px: int = VIEW_PX,
    dither: Dither | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> Float[Tensor, "batch band {size_px} {size_px}"]:
    """The view of each stamp, on the stamps' device; what may be passed and what comes of NaN is `render`'s to say.

    Stamps in float64, where digits matter more than speed, are rendered by `reference` and stay float64; they have no
    other ``dtype`` or layout.
    AugmentError where ``parameters`` or ``conditions`` are not those of these stamps and bands.
    """
    (view,) = _rendered(images, [parameters], conditions, bands, size_px, dither, dtype, channels_last)
    return view


def views(
    images: Shaped[Tensor, "batch band y x"],
    preset: Preset,
    *,
    seed: int,
    epoch: int,
    sample: Int64[Tensor, " batch"],
    conditions: Conditions,
    bands: Sequence[str],
    count: int = 2,
    size_px: int = VIEW_PX,
    dither: Dither | None = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
) -> tuple[Float[Tensor, "batch band {size_px} {size_px}"], ...]:
    """Views 0 to ``count`` - 1 of each stamp: `draw`, then `apply`, all in one call of the operator."""
    if count < 1:
        raise AugmentError(f"views: expected at least 1 view of each stamp, got {count}")
    drawn = [draw(preset, seed=seed, epoch=epoch, sample=sample, view=view, bands=bands) for view in range(count)]
    return _rendered(images, drawn, conditions, bands, size_px, dither, dtype, channels_last)


def _rendered(
    images: Tensor,
    drawn: Sequence[ViewParameters],
    conditions: Conditions,
    bands: Sequence[str],
    size_px: int,
    dither: Dither | None,
    dtype: torch.dtype,
    channels_last: bool,
) -> tuple[Tensor, ...]:
    plan = Plan.joined([plan_for(images, each, conditions, bands=bands, size_px=size_px) for each in drawn])
    if images.dtype == torch.float64 and dither is None and dtype == torch.float32 and not channels_last:
        made = reference.render(images, plan)
    else:
        made = render(images, plan.to(images.device), dither=dither, dtype=dtype, channels_last=channels_last)
    return made.chunk(len(drawn)) if len(images) else (made,) * len(drawn)
