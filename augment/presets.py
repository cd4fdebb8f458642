"""What may be drawn: the distributions behind each named set of augmentations.

Drawing from them is `draws`' work; what the numbers do to an image is `plan`'s and `reference`'s.
"""

import math
from dataclasses import dataclass

from .errors import AugmentError

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class BandLogNormal:
    """A positive quantity per band, log-normal in each, with one correlation between any two bands.

    ln x_band = ln median_band + ln_sigma_band (sqrt(rho) z_common + sqrt(1 - rho) z_band), z standard normal: one
    night's seeing, or sky, moves the five bands together.
    """

    bands: tuple[str, ...]
    median: tuple[float, ...]  # in the unit that the field holding it names
    ln_sigma: tuple[float, ...]
    correlation: float

    def __post_init__(self) -> None:
        if not len(self.bands) == len(self.median) == len(self.ln_sigma):
            raise AugmentError(f"log-normal: one median and one ln_sigma a band are needed, got {self}")
        if not (min(self.median) > 0 and min(self.ln_sigma) >= 0 and 0 <= self.correlation <= 1):
            raise AugmentError(f"log-normal: medians > 0, ln_sigmas >= 0, correlation in 0..1 are needed, got {self}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """The distributions of a view's parameters; every default leaves the dereddened image as it is."""

    ebv_mag: Range = (0.0, 0.0)  # drawn E(B-V), uniform
    angle_deg: Range = (0.0, 0.0)  # uniform
    max_shift_px: int = 0  # whole view pixels, uniform in -max..max on each axis
    scale: Range = (1.0, 1.0)  # size of the object, same on both axes, uniform
    flip_probability: float = 0.0  # mirror along x
    mad_factor: Range = (0.0, 0.0)  # noise added, in the data set's median absolute deviations, uniform
    psf_fwhm_arcsec: BandLogNormal | None = None  # PSF that the view is brought up to
    sky_sigma_nanomaggy: BandLogNormal | None = None  # noise a pixel that the view is brought up to

    def __post_init__(self) -> None:
        for name in ("ebv_mag", "angle_deg", "scale", "mad_factor"):
            low, high = getattr(self, name)
            if not -math.inf < low <= high < math.inf:
                raise AugmentError(f"preset: {name} needs finite low <= high, got {low}..{high}")
        if self.ebv_mag[0] < 0 or self.mad_factor[0] < 0 or self.scale[0] <= 0:
            raise AugmentError(f"preset: ebv_mag and mad_factor need low >= 0, scale low > 0, got {self}")
        if self.max_shift_px < 0 or not 0 <= self.flip_probability <= 1:
            raise AugmentError(f"preset: max_shift_px >= 0, flip_probability in 0..1 are needed, got {self}")


# PSF_FWHM as photoObj defines it (adaptive moments, 2.3548 sigma). Fitted to three SDSS runs (94-1, 3900-6, 2583-2;
# 1,578 fields, each run with the same weight): photoField's PSF_WIDTH over 1.11, the ratio of the two in the fields
# where both are known (94-1-12: 1.07 to 1.09; 3900-6-269: 1.12 to 1.18). Three runs are three nights of seeing: the
# scatter between runs is known to about half of itself.
SDSS_PSF_FWHM_ARCSEC = BandLogNormal(
    bands=("u", "g", "r", "i", "z"),
    median=(1.377, 1.287, 1.156, 1.123, 1.194),
    ln_sigma=(0.147, 0.150, 0.190, 0.207, 0.172),
    correlation=0.87,
)
# Sky noise of a native pixel, SKYSIG x NMGYPERCOUNT of the same three runs. The correlation is the mean over the
# pairs of bands (-0.42 to 0.95): u and i hardly follow each other in so few runs.
SDSS_SKY_SIGMA_NANOMAGGY = BandLogNormal(
    bands=("u", "g", "r", "i", "z"),
    median=(0.0486, 0.0203, 0.0305, 0.0482, 0.1932),
    ln_sigma=(0.150, 0.147, 0.098, 0.126, 0.128),
    correlation=0.48,
)

PRESETS: dict[str, Preset] = {
    # The four of Hayat et al. 2021: extinction, rotation, centre jitter, noise (whose range we could not check there).
    "hayat2021": Preset(
        ebv_mag=(0.0, 0.5),
        angle_deg=(0.0, 360.0),
        max_shift_px=7,
        mad_factor=(1.0, 3.0),
    ),
    # Stein et al. 2021 add flips, size, PSF, and noise up to a level; their distributions were another survey's,
    # these are SDSS's.
    "stein2021": Preset(
        ebv_mag=(0.0, 0.5),
        angle_deg=(0.0, 360.0),
        max_shift_px=7,
        scale=(0.9, 1.1),
        flip_probability=0.5,
        psf_fwhm_arcsec=SDSS_PSF_FWHM_ARCSEC,
        sky_sigma_nanomaggy=SDSS_SKY_SIGMA_NANOMAGGY,
    ),
    # For evaluation: dereddened, the central crop [21:85] of 107 pixels, untouched otherwise.
    "none": Preset(),
}


def preset(name: str) -> Preset:
    """The preset of that name; AugmentError for one that is not known."""
    try:
        return PRESETS[name]
    except KeyError:
        known = ", ".join(PRESETS)
        raise AugmentError(f"preset: expected one of {known}, got {name!r}; choose one of those") from None
