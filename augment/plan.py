"""From drawn parameters and known conditions to what is done to each stamp's numbers.

The parameters say what a view should look like, the conditions what the stamp already is (unless a preset draws that
too); the difference is worked out here once, on the host, in float64. Whatever renders views takes its numbers from
here, so that all of them agree.

What is added is what is missing, in quadrature: variances of independent noise add, and so do those of convolved
profiles (second moments). A change of scale scales the object's own PSF; bilinear interpolation adds 1/6 px^2 to it
(`resample`); reddening, resampling and blur shrink the noise that the stamp brings along (`residual`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor

from .conditions import Conditions
from .draws import ViewParameters
from .elementary import sqrt
from .errors import AugmentError
from .extinction import gain
from .geometry import on_grid, view_affine
from .resample import BILINEAR_VARIANCE_PX2
from .residual import noise_left
from .taps import blur_taps

FWHM_PER_SIGMA = 2.3548  # of a Gaussian; photoObj's PSF_FWHM is defined with it


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What each row is made of: a row is one view of one stamp, in the order of these steps."""

    size_px: int  # side of the views
    place: Int64[Tensor, " row"]  # which stamp of the batch; one may come often, or never
    affine: Float64[Tensor, "row 2 3"]  # from (y, x, 1) in the view to (y, x) in the stamp [px], see `geometry`
    taps: Float64[Tensor, "row band reach"]  # the blur's weights at 0, 1, ... px, see `taps`; 1 first is no blur
    gain: Float64[Tensor, "row band"]  # of the flux
    noise_sigma: Float64[Tensor, "row band"]  # to add [nanomaggy / pixel]
    noise_key: Int64[Tensor, "row 2"]

    def to(self, device: torch.device) -> "Plan":
        """The same on a device; from pinned memory, so that the host does not wait."""
        if device.type == "cpu":
            return self
        return self._changed(lambda tensor: tensor.pin_memory().to(device, non_blocking=True))

    def finishing(self) -> "Plan":
        """What is left to do on rows that were resampled and blurred elsewhere: gain and noise."""
        rows = len(self.place)
        identity = torch.eye(2, 3, dtype=torch.float64, device=self.affine.device)
        return replace(
            self,
            place=torch.arange(rows, device=self.place.device),
            affine=identity.expand(rows, 2, 3).contiguous(),
            taps=torch.ones_like(self.taps[..., :1]),
        )

    def rows(self, part: slice) -> "Plan":
        """Some of the rows."""
        return self._changed(lambda tensor: tensor[part])

    @staticmethod
    def joined(plans: "Sequence[Plan]") -> "Plan":
        """The rows of several plans, of views of one size, one plan after the other."""
        reach = max(plan.taps.shape[-1] for plan in plans)
        padded = [replace(plan, taps=_padded(plan.taps, reach)) for plan in plans]
        return Plan(
            size_px=plans[0].size_px,
            **{name: torch.cat([getattr(plan, name) for plan in padded]) for name in _by_row()},
        )

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "Plan":
        return Plan(size_px=self.size_px, **{name: change(getattr(self, name)) for name in _by_row()})


def _by_row() -> list[str]:
    """The names of what has a row for each view."""
    return [each.name for each in fields(Plan) if each.name != "size_px"]


def make_plan(
    parameters: ViewParameters,
    conditions: Conditions,
    *,
    bands: Sequence[str],
    stamp_shape: tuple[int, int],
    size_px: int,
) -> Plan:
    """What turns stamp i of a batch into row i.

    ``stamp_shape`` is (height, width) in pixels. AugmentError where a difference to something unknown was drawn, and
    where ``parameters``, ``conditions`` and ``bands`` are not of the same stamps and bands.
    """
    if size_px < 1 or min(stamp_shape) < 2:
        raise AugmentError(
            f"plan: expected views of at least 1 pixel and stamps of at least 2 a side, got {size_px} and {stamp_shape}"
        )
    _check(parameters, conditions, bands)
    _check_known(conditions)
    affine = view_affine(
        angle_deg=parameters.angle_deg,
        scale=parameters.scale,
        flip=parameters.flip,
        shift_px=parameters.shift_px,
        stamp_shape=stamp_shape,
        size_px=size_px,
    )
    interpolated = ~on_grid(affine)
    reddened = gain(parameters.ebv - _host(conditions.ebv), bands)
    taps = blur_taps(_blur_sigma_px(parameters, conditions, interpolated), size_px)
    left = reddened * noise_left(taps, parameters.scale, interpolated)
    return Plan(
        size_px=size_px,
        place=torch.arange(len(affine)),
        affine=affine,
        taps=taps,
        gain=reddened,
        noise_sigma=_noise_sigma(parameters, conditions, left),
        noise_key=parameters.noise_key,
    )


def plan_for(
    images: Shaped[Tensor, "batch band y x"],
    parameters: ViewParameters,
    conditions: Conditions,
    *,
    bands: Sequence[str],
    size_px: int,
) -> Plan:
    """`make_plan` for these very stamps; AugmentError where the rest is not of as many."""
    shape = (images.shape[2], images.shape[3])
    plan = make_plan(parameters, conditions, bands=bands, stamp_shape=shape, size_px=size_px)
    if plan.gain.shape != images.shape[:2]:
        raise AugmentError(
            f"apply: images are {len(images)} stamps of {images.shape[1]} bands, got parameters and conditions for "
            f"{len(plan.place)} stamps of {len(bands)} bands; pass one row a stamp and one column a band"
        )
    return plan


def _check(parameters: ViewParameters, conditions: Conditions, bands: Sequence[str]) -> None:
    """One row a stamp, one column a band: a row too few would broadcast unseen."""
    by_stamp = (conditions.psf_fwhm_arcsec, conditions.sky_sigma)
    rows = {len(parameters.ebv), len(conditions.ebv), *(len(each) for each in by_stamp if each is not None)}
    columns = {len(bands), len(conditions.mad), parameters.psf_fwhm_arcsec.shape[1]}
    columns |= {each.shape[1] for each in by_stamp if each is not None}
    if len(rows) != 1 or len(columns) != 1:
        raise AugmentError(
            f"plan: expected parameters and conditions of the same stamps and bands, got some for {sorted(rows)} "
            f"stamps and {sorted(columns)} bands; pass one row a stamp and one column a band"
        )


def _check_known(conditions: Conditions) -> None:
    """What every view needs; only a stamp's PSF and sky noise may be unknown."""
    if not 0 < conditions.pixel_scale_arcsec < float("inf"):
        raise AugmentError(f"conditions: expected a pixel scale > 0 arcsec, got {conditions.pixel_scale_arcsec}")
    dust, mad = _host(conditions.ebv), _host(conditions.mad)
    if not bool(dust.isfinite().all()):
        first = int((~dust.isfinite()).nonzero()[0])
        raise AugmentError(
            f"conditions: expected E(B-V) of every stamp, got {float(dust[first])} for stamp {first} of the batch; "
            "ingest a catalogue with ebv_sfd or extinction columns"
        )
    if not bool((mad.isfinite() & (mad >= 0)).all()):
        raise AugmentError(f"conditions: expected a median absolute deviation >= 0 of each band, got {mad.tolist()}")


def _blur_sigma_px(
    parameters: ViewParameters, conditions: Conditions, interpolated: Tensor
) -> Float64[Tensor, "row band"]:
    """The PSF's own width grows with the object's scale, and by what the interpolation smears."""
    target = parameters.psf_fwhm_arcsec
    if not bool((target > 0).any()):
        return torch.zeros_like(target)
    own = _own(parameters.own_psf_fwhm_arcsec, conditions.psf_fwhm_arcsec)
    if own is None:
        raise AugmentError(
            "conditions: the preset draws a PSF, expected psf_fwhm_arcsec of each stamp, got None; "
            "ingest a catalogue with psf_fwhm columns or choose another preset"
        )
    px_per_fwhm = 1.0 / (FWHM_PER_SIGMA * conditions.pixel_scale_arcsec)
    stamp_variance = (own * px_per_fwhm) ** 2
    smeared = BILINEAR_VARIANCE_PX2 * interpolated[:, None]
    return sqrt(_missing((target * px_per_fwhm) ** 2, (stamp_variance + smeared) * parameters.scale[:, None] ** 2))


def _noise_sigma(
    parameters: ViewParameters, conditions: Conditions, left: Float64[Tensor, "row band"]
) -> Float64[Tensor, "row band"]:
    """A factor times the data set's MAD, and up to a level from what is ``left`` of the stamp's own noise."""
    by_mad = parameters.mad_factor[:, None] * _host(conditions.mad)
    target = parameters.sky_sigma
    if not bool((target > 0).any()):
        return by_mad.expand_as(target).contiguous()
    own = _own(parameters.own_sky_sigma, conditions.sky_sigma)
    if own is None:
        raise AugmentError(
            "conditions: the preset draws a noise level, expected sky_sigma of each stamp, got None; "
            "measure it at ingest or choose another preset"
        )
    return sqrt(by_mad**2 + _missing(target**2, (own * left) ** 2))


def _own(drawn: Float64[Tensor, "row band"], known: Tensor | None) -> Float64[Tensor, "row band"] | None:
    """What a stamp is taken to have: what was drawn for it, else what is known of it; None where there is neither."""
    if known is None:
        return drawn if bool((drawn > 0).all()) else None
    return torch.where(drawn > 0, drawn, _known(known))


def _missing(target: Tensor, own: Tensor) -> Tensor:
    """The variance to be added: 0 where there is too much, and where ``own`` is unknown: no difference to that."""
    return torch.nan_to_num((target - own).clamp(min=0.0), nan=0.0)


def _known(values: Tensor) -> Float64[Tensor, "row band"]:
    """NaN for what is not known: catalogues also write -9999 or -1."""
    on_host = _host(values)
    return torch.where(on_host >= 0, on_host, torch.nan)


def _padded(taps: Tensor, reach: int) -> Tensor:
    return torch.nn.functional.pad(taps, (0, reach - taps.shape[-1]))


def _host(values: Tensor) -> Tensor:
    return values.to(device="cpu", dtype=torch.float64)
