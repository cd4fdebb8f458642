"""Drawing a view's parameters from (seed, epoch, sample, view): the same numbers in any batch, order and rank.

Every parameter has its own random word (`_SLOT` says which), so a preset that leaves one out changes none of the
others. All of it happens on the host in float64, by operations whose bits are the same on every machine and in every
batch (`elementary`); nothing here looks at an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64, Shaped
from torch import Tensor

from .elementary import cos_sin, exp, log, sqrt
from .errors import AugmentError
from .philox import WORD_MASK, philox4x32, uniform
from .presets import BandLogNormal, Preset, Range

# Four words a block. The noise key is two words; each log-normal takes two blocks (8 normals, one for each of its
# bands).
_SLOT = {"angle": 0, "ebv": 1, "shift_y": 2, "shift_x": 3, "scale": 4, "flip": 5, "mad_factor": 6}
_NOISE_KEY = slice(8, 10)
_PSF_WORDS = slice(12, 20)
_SKY_WORDS = slice(20, 28)
_OWN_PSF_WORDS = slice(28, 36)
_OWN_SKY_WORDS = slice(36, 44)
_BLOCKS = 11
_MAX_VIEWS = 2**24  # view and block share one word of the counter


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewParameters:
    """What one view of each sample of a batch is: on the host, float64; bands in the order they were asked for."""

    ebv: Float64[Tensor, " batch"]  # E(B-V) that the view is reddened with [mag]
    angle_deg: Float64[Tensor, " batch"]  # turn about the object, positive as torch.rot90
    scale: Float64[Tensor, " batch"]  # size of the object in the view over its size in the stamp
    flip: Bool[Tensor, " batch"]  # mirrored along x, before the turn
    shift_px: Float64[Tensor, "batch 2"]  # (y, x), whole view pixels from the view's centre to the object
    mad_factor: Float64[Tensor, " batch"]  # added noise in the data set's MAD; 0 adds none
    psf_fwhm_arcsec: Float64[Tensor, "batch band"]  # PSF to be brought up to; 0 blurs nothing
    sky_sigma: Float64[Tensor, "batch band"]  # noise to be brought up to [nanomaggy / pixel]; 0 adds none
    own_psf_fwhm_arcsec: Float64[Tensor, "batch band"]  # PSF that the stamp is taken to have; 0: what is known of it
    own_sky_sigma: Float64[Tensor, "batch band"]  # its native noise, likewise [nanomaggy / pixel]
    noise_key: Int64[Tensor, "batch 2"]  # two random words: the key of the view's own noise field


def draw(
    preset: Preset,
    *,
    seed: int,
    epoch: int,
    sample: Shaped[Tensor, "..."],
    view: int,
    bands: Sequence[str],
) -> ViewParameters:
    """The parameters of view number ``view`` (0, 1, ...) of each sample in that epoch.

    ``sample`` is a number that stays with the galaxy, such as its row in the data set, not its place in the batch.
    Any type of integers will do. Raises AugmentError for a band that the preset has no distribution for, and for
    numbers that do not fit the counter.
    """
    if sample.ndim != 1 or sample.dtype.is_floating_point or sample.dtype.is_complex or sample.dtype == torch.bool:
        raise AugmentError(
            f"draw: expected samples as one row of integers, got {sample.dtype} of shape {tuple(sample.shape)}"
        )
    words = _words(seed=seed, epoch=epoch, sample=sample.to("cpu", torch.int64), view=view)
    unit = uniform(words)
    shift = unit[:, [_SLOT["shift_y"], _SLOT["shift_x"]]] * (2 * preset.max_shift_px + 1)
    psf, sky = preset.psf_fwhm_arcsec, preset.sky_sigma_nanomaggy
    own_psf, own_sky = (psf, sky) if preset.draws_own else (None, None)
    return ViewParameters(
        ebv=_between(preset.ebv_mag, unit[:, _SLOT["ebv"]]),
        angle_deg=_between(preset.angle_deg, unit[:, _SLOT["angle"]]),
        scale=_between(preset.scale, unit[:, _SLOT["scale"]]),
        flip=unit[:, _SLOT["flip"]] < preset.flip_probability,
        shift_px=shift.floor() - preset.max_shift_px,
        mad_factor=_between(preset.mad_factor, unit[:, _SLOT["mad_factor"]]),
        psf_fwhm_arcsec=_band_values(psf, unit[:, _PSF_WORDS], bands),
        sky_sigma=_band_values(sky, unit[:, _SKY_WORDS], bands),
        own_psf_fwhm_arcsec=_band_values(own_psf, unit[:, _OWN_PSF_WORDS], bands),
        own_sky_sigma=_band_values(own_sky, unit[:, _OWN_SKY_WORDS], bands),
        noise_key=words[:, _NOISE_KEY].contiguous(),
    )


def _words(*, seed: int, epoch: int, sample: Int64[Tensor, " batch"], view: int) -> Int64[Tensor, "batch word"]:
    """All words of one view: key = seed, counter = (block and view, epoch, sample low, sample high)."""
    if not (0 <= seed < 2**64 and 0 <= epoch < 2**32 and 0 <= view < _MAX_VIEWS):
        raise AugmentError(
            f"draw: need 0 <= seed < 2^64, epoch < 2^32, view < 2^24, got seed {seed}, epoch {epoch}, view {view}"
        )
    block = torch.arange(_BLOCKS) + (view << 8)
    counter = (block, torch.tensor(epoch), (sample & WORD_MASK)[:, None], (sample >> 32 & WORD_MASK)[:, None])
    key = (torch.tensor(seed & WORD_MASK), torch.tensor(seed >> 32))
    return torch.stack(philox4x32(counter, key), dim=-1).flatten(1)


def _between(limits: Range, unit: Float64[Tensor, " batch"]) -> Float64[Tensor, " batch"]:
    low, high = limits
    return low + (high - low) * unit


def _band_values(
    spread: BandLogNormal | None, unit: Float64[Tensor, "batch 8"], bands: Sequence[str]
) -> Float64[Tensor, "batch band"]:
    """One value for each sample and band; 0 where the preset has no such distribution."""
    if spread is None:
        return torch.zeros(len(unit), len(bands), dtype=torch.float64)
    unknown = [band for band in bands if band not in spread.bands]
    if unknown:
        raise AugmentError(
            f"draw: band {unknown[0]!r} has no fitted distribution, expected one of {', '.join(spread.bands)}; "
            "choose a preset without PSF and sky noise"
        )
    row = [spread.bands.index(band) for band in bands]
    mixing = torch.tensor(spread.mixing(), dtype=torch.float64)[row]
    ln_sigma, median = (torch.tensor(each, dtype=torch.float64)[row] for each in (spread.ln_sigma, spread.median))
    z = _normals(unit)
    ln = torch.zeros(len(unit), len(bands), dtype=torch.float64)
    for number in range(len(spread.bands)):
        ln = ln + z[:, number, None] * mixing[:, number]  # one by one: a matrix product's order depends on the batch
    return median * exp(ln_sigma * ln)


def _normals(unit: Float64[Tensor, "batch count"]) -> Float64[Tensor, "batch count"]:
    """Standard normals by Box and Muller, in pairs."""
    radius = sqrt(-2.0 * log(unit[:, 0::2]))
    cosine, sine = cos_sin(360.0 * unit[:, 1::2])
    return torch.stack([radius * cosine, radius * sine], dim=-1).flatten(1)
