"""Views in plain torch: what every faster way of making them must equal.

Order: flip, scale, turn, shift and crop in one resampling; blur; redden by the difference to the object's own dust;
noise. A gain for a whole band passes through resampling and blur, so it is applied to the view, which has a third of
the pixels.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .blur import blur
from .conditions import Conditions
from .draws import ViewParameters
from .geometry import VIEW_PX
from .noise import add_noise
from .plan import Plan, plan_for
from .resample import resample

NAN_WEIGHT = 1e-6  # a view pixel that takes less than this from NaN pixels does not depend on them
# On a CPU the intermediate images of so few rows stay in its cache: 1.3 times faster than batches of 128.
_ROWS_AT_A_TIME = 16


def apply(
    images: Float[Tensor, "batch band y x"],
    parameters: ViewParameters,
    conditions: Conditions,
    *,
    bands: Sequence[str],
    size_px: int = VIEW_PX,
) -> Float[Tensor, "batch band {size_px} {size_px}"]:
    """The view of each stamp: `augment.apply`, rendered here."""
    return render(images, plan_for(images, parameters, conditions, bands=bands, size_px=size_px))


def render(images: Float[Tensor, "batch band y x"], plan: Plan) -> Float[Tensor, "row band n n"]:
    """The rows of a plan, on the images' device; float64 for float64 images, else float32.

    A view pixel to which NaN (or infinite) stamp pixels contribute is NaN, and no other one is. Networks cannot
    take NaN: a data set states what became of the pixels that no frame covers, and its caller fills what it left as
    NaN.
    """
    images = images if images.dtype == torch.float64 else images.float()
    if len(plan.place) == 0:
        return images.new_empty(0, images.shape[1], plan.size_px, plan.size_px)
    step = _ROWS_AT_A_TIME if images.device.type == "cpu" else len(plan.place)
    parts = (plan.rows(slice(start, start + step)) for start in range(0, len(plan.place), step))
    return torch.cat([_render(images[part.place.to(images.device)], part) for part in parts])


def _render(images: Tensor, plan: Plan) -> Tensor:
    if bool(torch.isfinite(images.sum())):  # one pass; looking at each pixel takes longer than the resampling
        return _finish(_shape(images, plan), plan)
    bad = ~torch.isfinite(images)
    view = _finish(_shape(images.masked_fill(bad, 0.0), plan), plan)
    return view.masked_fill(_shape(bad.to(images.dtype), plan) > NAN_WEIGHT, torch.nan)


def _shape(images: Tensor, plan: Plan) -> Tensor:
    """What moves and smears light, and so also says where NaN goes."""
    view = resample(images, plan.affine, plan.size_px)
    return blur(view, plan.taps) if plan.taps.shape[-1] > 1 else view


def _finish(view: Tensor, plan: Plan) -> Tensor:
    view = view * plan.gain.to(view)[:, :, None, None]
    if bool((plan.noise_sigma > 0).any()):
        view = add_noise(view, plan.noise_sigma, plan.noise_key)
    return view
