"""From drawn parameters and known conditions to what is done to each stamp's numbers.

The parameters say what a view should look like, the conditions what the stamp already is; the difference is worked
out here once, on the host, in float64. Whatever renders views takes its numbers from here, so that all of them
agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from .conditions import Conditions
from .draws import ViewParameters
from .errors import AugmentError
from .extinction import gain
from .resample import BILINEAR_VARIANCE_PX2, on_grid, view_to_stamp
from .residual import noise_left

FWHM_PER_SIGMA = 2.3548  # of a Gaussian; photoObj's PSF_FWHM is defined with it


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The operations on one batch, in the order they are made."""

    reddening: Float64[Tensor, " batch"]  # drawn less own E(B-V) [mag]
    view_to_stamp: Float64[Tensor, "batch 2 2"]  # (y, x) offsets from the object, see `resample`
    shift_px: Float64[Tensor, "batch 2"]
    blur_sigma_px: Float64[Tensor, "batch band"]  # [view pixels]
    noise_sigma: Float64[Tensor, "batch band"]  # to add [nanomaggy / pixel]
    noise_key: Int64[Tensor, "batch 2"]

    def rows(self, part: slice) -> "Plan":
        """The plan of some of the batch's stamps."""
        return Plan(**{each.name: getattr(self, each.name)[part] for each in fields(self)})


def make_plan(parameters: ViewParameters, conditions: Conditions, bands: Sequence[str]) -> Plan:
    """What turns the stamps into the views; AugmentError where a difference to something unknown was drawn."""
    matrix = view_to_stamp(parameters.angle_deg, parameters.scale, parameters.flip)
    interpolated = ~on_grid(matrix, parameters.shift_px)
    reddening = parameters.ebv - _host(conditions.ebv)
    blur_sigma_px = _blur_sigma_px(parameters, conditions, interpolated)
    left = gain(reddening, bands) * noise_left(blur_sigma_px, parameters.scale, interpolated)
    return Plan(
        reddening=reddening,
        view_to_stamp=matrix,
        shift_px=parameters.shift_px,
        blur_sigma_px=blur_sigma_px,
        noise_sigma=_noise_sigma(parameters, conditions, left),
        noise_key=parameters.noise_key,
    )


def _blur_sigma_px(
    parameters: ViewParameters, conditions: Conditions, interpolated: Tensor
) -> Float64[Tensor, "batch band"]:
    """The PSF's own width grows with the object's scale, and by what the interpolation smears."""
    target = parameters.psf_fwhm_arcsec
    if not bool((target > 0).any()):
        return torch.zeros_like(target)
    if conditions.psf_fwhm_arcsec is None:
        raise AugmentError(
            "conditions: the preset draws a PSF, expected psf_fwhm_arcsec of each stamp, got None; "
            "ingest a catalogue with psf_fwhm columns or choose another preset"
        )
    own = _host(conditions.psf_fwhm_arcsec) * parameters.scale[:, None]
    smeared = BILINEAR_VARIANCE_PX2 * parameters.scale**2 * interpolated
    px_per_fwhm = 1.0 / (FWHM_PER_SIGMA * conditions.pixel_scale_arcsec)
    return _quadrature_gap(target * px_per_fwhm, torch.hypot(own * px_per_fwhm, smeared.sqrt()[:, None]))


def _noise_sigma(
    parameters: ViewParameters, conditions: Conditions, left: Float64[Tensor, "batch band"]
) -> Float64[Tensor, "batch band"]:
    """A factor times the data set's MAD, or up to a level from what is ``left`` of the stamp's own noise."""
    by_mad = parameters.mad_factor[:, None] * _host(conditions.mad)
    target = parameters.sky_sigma
    if not bool((target > 0).any()):
        return by_mad.expand_as(target).contiguous()
    if conditions.sky_sigma is None:
        raise AugmentError(
            "conditions: the preset draws a noise level, expected sky_sigma of each stamp, got None; "
            "measure it at ingest or choose another preset"
        )
    return torch.hypot(by_mad, _quadrature_gap(target, _host(conditions.sky_sigma) * left))


def _quadrature_gap(target: Tensor, own: Tensor) -> Tensor:
    """sqrt(target^2 - own^2) where that is positive, else 0; 0 where ``own`` is NaN: no difference to the unknown."""
    return torch.nan_to_num((target**2 - own**2).clamp(min=0.0), nan=0.0).sqrt()


def _host(values: Tensor) -> Tensor:
    return values.to(device="cpu", dtype=torch.float64)
