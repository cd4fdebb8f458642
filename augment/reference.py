"""Views in plain torch: what every faster way of making them must equal.

Order: redden by the difference to the object's own dust; flip, scale, turn, shift and crop in one resampling; blur;
noise. A gain for a whole band passes through resampling and blur, so it is applied to the view, which has a third
of the pixels.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .blur import blur
from .conditions import Conditions
from .draws import ViewParameters, draw
from .errors import AugmentError
from .extinction import redden
from .noise import add_noise
from .plan import Plan, make_plan
from .presets import Preset
from .resample import resample

VIEW_PX = 64
_NAN_WEIGHT = 1e-6  # a view pixel that takes less than this from NaN pixels does not depend on them
# On a CPU the intermediate images of so few stamps stay in its cache: 1.3 times faster than batches of 128.
_STAMPS_AT_A_TIME = 16


def apply(
    images: Float[Tensor, "batch band y x"],
    parameters: ViewParameters,
    conditions: Conditions,
    *,
    bands: Sequence[str],
    size_px: int = VIEW_PX,
) -> Float[Tensor, "batch band {size_px} {size_px}"]:
    """The view of each stamp, on the images' device; float64 for float64 images, else float32.

    A view pixel to which NaN (or infinite) stamp pixels contribute is NaN, and no other one is. Networks cannot
    take NaN: a data set states what became of the pixels that no frame covers, and its caller fills what it left as
    NaN.
    """
    _check(images, parameters, conditions, bands)
    images = images if images.dtype == torch.float64 else images.float()
    if len(images) == 0:
        return images.new_empty(0, len(bands), size_px, size_px)
    plan = make_plan(parameters, conditions, bands)
    step = _STAMPS_AT_A_TIME if images.device.type == "cpu" else len(images)
    parts = [slice(start, start + step) for start in range(0, len(images), step)]
    return torch.cat([_render(images[part], plan.rows(part), bands, size_px) for part in parts])


def views(
    images: Float[Tensor, "batch band y x"],
    preset: Preset,
    *,
    seed: int,
    epoch: int,
    sample: Int64[Tensor, " batch"],
    conditions: Conditions,
    bands: Sequence[str],
    count: int = 2,
    size_px: int = VIEW_PX,
) -> tuple[Float[Tensor, "batch band {size_px} {size_px}"], ...]:
    """Views 0 to ``count`` - 1 of each stamp: `draw`, then `apply`."""
    drawn = (draw(preset, seed=seed, epoch=epoch, sample=sample, view=view, bands=bands) for view in range(count))
    return tuple(apply(images, each, conditions, bands=bands, size_px=size_px) for each in drawn)


def _render(images: Tensor, plan: Plan, bands: Sequence[str], size_px: int) -> Tensor:
    if bool(torch.isfinite(images.sum())):  # one pass; looking at each pixel takes longer than the resampling
        return _finish(_shape(images, plan, size_px), plan, bands)
    bad = ~torch.isfinite(images)
    view = _finish(_shape(images.masked_fill(bad, 0.0), plan, size_px), plan, bands)
    return view.masked_fill(_shape(bad.to(images.dtype), plan, size_px) > _NAN_WEIGHT, torch.nan)


def _shape(images: Tensor, plan: Plan, size_px: int) -> Tensor:
    """What moves and smears light, and so also says where NaN goes."""
    view = resample(images, plan.view_to_stamp, plan.shift_px, size_px)
    return blur(view, plan.blur_sigma_px) if bool((plan.blur_sigma_px > 0).any()) else view


def _finish(view: Tensor, plan: Plan, bands: Sequence[str]) -> Tensor:
    view = redden(view, plan.reddening, bands)
    if bool((plan.noise_sigma > 0).any()):
        view = add_noise(view, plan.noise_sigma, plan.noise_key)
    return view


def _check(images: Tensor, parameters: ViewParameters, conditions: Conditions, bands: Sequence[str]) -> None:
    """One row of parameters and conditions a stamp, one column a band: a row too few would broadcast unseen."""
    batch, channels = images.shape[:2]
    rows = {len(parameters.ebv), len(conditions.ebv)}
    columns = {len(bands), len(conditions.mad), parameters.psf_fwhm_arcsec.shape[1]}
    if rows != {batch} or columns != {channels}:
        raise AugmentError(
            f"apply: images are {batch} stamps of {channels} bands, got parameters and conditions for {sorted(rows)} "
            f"stamps and {sorted(columns)} bands; pass one row a stamp and one column a band"
        )
