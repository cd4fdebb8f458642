"""What may be drawn: the distributions behind each named set of augmentations, and what it is to leave one out.

Drawing from them is `draws`' work; what the numbers do to an image is `plan`'s and `reference`'s.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Literal

from .errors import AugmentError

Range = tuple[float, float]
Matrix = tuple[tuple[float, ...], ...]
LeftOut = Literal["nothing", "dust", "turns", "flips", "shifts", "size", "psf", "noise"]

MAX_BANDS = 8  # of a log-normal: for so many `draws` has words


@dataclass(frozen=True, kw_only=True, slots=True)
class BandLogNormal:
    """A positive quantity per band, log-normal in each and correlated between them: one night's seeing, or sky, moves
    all bands, though not in step.

    ln x_b = ln median_b + ln_sigma_b sum_j mixing_bj z_j, z independent standard normals.
    """

    bands: tuple[str, ...]
    median: tuple[float, ...]  # in the unit that the field holding it names
    ln_sigma: tuple[float, ...]
    correlation: Matrix  # (band, band), of the logarithms: symmetric, 1 on the diagonal, positive definite

    def __post_init__(self) -> None:
        count = len(self.bands)
        widths = [len(self.median), len(self.ln_sigma), len(self.correlation), *map(len, self.correlation)]
        if count > MAX_BANDS:
            raise AugmentError(f"log-normal: at most {MAX_BANDS} bands have random numbers, got {count}")
        if count == 0 or set(widths) != {count}:
            raise AugmentError(
                f"log-normal: {count} bands need as many medians, ln_sigmas and rows and columns of the correlation, "
                f"got {self}"
            )
        if not all(0 < each < math.inf for each in self.median):
            raise AugmentError(f"log-normal: medians need to be finite and > 0, got {self.median}")
        if not all(0 <= each < math.inf for each in self.ln_sigma):
            raise AugmentError(f"log-normal: ln_sigmas need to be finite and >= 0, got {self.ln_sigma}")
        _check_correlation(self.correlation)

    def mixing(self) -> Matrix:
        """Lower triangular (band, normal): independent normals times it have the correlation (its Cholesky factor)."""
        return _cholesky(self.correlation)


def _check_correlation(matrix: Matrix) -> None:
    pairs = [(row, column) for row in range(len(matrix)) for column in range(row)]
    if any(matrix[band][band] != 1.0 for band in range(len(matrix))) or any(
        matrix[row][column] != matrix[column][row] for row, column in pairs
    ):
        raise AugmentError(f"log-normal: a correlation is symmetric with 1 on its diagonal, got {matrix}")
    _cholesky(matrix)


@functools.cache
def _cholesky(matrix: Matrix) -> Matrix:
    """The lower triangular factor L, L L' = matrix, row by row; AugmentError where the matrix has none.

    Python's own +, *, / and math.sqrt round the same everywhere; LAPACK's, and sum() between Python versions, do not.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(matrix):
        factors: list[float] = []
        for column in range(number + 1):
            rest = line[column]
            for left, right in zip(factors, rows[column] if column < number else factors, strict=False):
                rest -= left * right
            factors.append(rest / rows[column][column] if column < number else _pivot(rest, matrix))
        rows.append(factors)
    return tuple(tuple(factors + [0.0] * (len(rows) - len(factors))) for factors in rows)


def _pivot(square: float, matrix: Matrix) -> float:
    if not square > 0:
        raise AugmentError(
            f"log-normal: no bands can be correlated so, expected a positive definite matrix, got {matrix}"
        )
    return math.sqrt(square)


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
    draws_own: bool = False  # the stamp's own PSF and noise are not what is known of it, but drawn from the two above

    def __post_init__(self) -> None:
        for name in ("ebv_mag", "angle_deg", "scale", "mad_factor"):
            low, high = getattr(self, name)
            if not -math.inf < low <= high < math.inf:
                raise AugmentError(f"preset: {name} needs finite low <= high, got {low}..{high}")
        if self.ebv_mag[0] < 0 or self.mad_factor[0] < 0 or self.scale[0] <= 0:
            raise AugmentError(f"preset: ebv_mag and mad_factor need low >= 0, scale low > 0, got {self}")
        if self.max_shift_px < 0 or not 0 <= self.flip_probability <= 1:
            raise AugmentError(f"preset: max_shift_px >= 0, flip_probability in 0..1 are needed, got {self}")

    def without(self, left_out: LeftOut) -> "Preset":
        """The same with one augmentation left out, and no other random number changed; "nothing" is the preset itself.

        What is left out is not drawn, and every view keeps what the dereddened stamp has of it:

        - dust: no reddening, E(B-V) is 0;
        - turns: north stays up; flips: no mirroring; shifts: the object stays at the view's centre; size: scale 1;
        - psf: no blur, the stamp's own seeing and what resampling smears;
        - noise: none is added, neither by MAD nor up to a level.

        AugmentError where the preset does not vary that.
        """
        plain, held = Preset(), [part for part in _FIELDS if self._varies(part)]
        if left_out not in held:
            raise AugmentError(
                f"without: expected one of {', '.join(held)} to leave out, got {left_out!r}, which this preset does "
                "not vary; choose one of those"
            )
        return replace(self, **{name: getattr(plain, name) for name in _FIELDS[left_out]})

    def _varies(self, part: LeftOut) -> bool:
        plain, names = Preset(), _FIELDS[part]
        return not names or any(getattr(self, name) != getattr(plain, name) for name in names)


# The settings of a preset that make up each augmentation: at their defaults they leave the image as it is.
_FIELDS: dict[LeftOut, tuple[str, ...]] = {
    "nothing": (),
    "dust": ("ebv_mag",),
    "turns": ("angle_deg",),
    "flips": ("flip_probability",),
    "shifts": ("max_shift_px",),
    "size": ("scale",),
    "psf": ("psf_fwhm_arcsec",),
    "noise": ("mad_factor", "sky_sigma_nanomaggy"),
}


# A fit to 1,578 fields of three SDSS runs (94, 2583, 3900; one camera column each, each run with the same weight) by
# `python -m ingest seeing`, figure benchmarks/results/sdss-seeing.png. The covariance is that within runs plus that
# between them: a view's seeing may be any the survey has, not only the galaxy's own night's. Three runs are three
# nights: the part between them is known to about half of itself.
#
# PSF_FWHM as photoObj defines it (adaptive moments, 2.3548 sigma): photoField's PSF_WIDTH over 1.11, the mean ratio of
# the two in the three fields where both are known (94-1-12: 1.07 to 1.09; 3900-6-269: 1.12 to 1.18; 1000-1-100: 1.06
# to 1.12). One ratio for all bands, as they scatter by less (0.015) than the fields do (0.032); so it is known to 2 %.
# Bands are correlated 0.54 to 0.90 within each run, 0.82 to 0.96 over all three. A fourth run, 4510, lies 0.7 to 1.2
# ln_sigma below the medians.
SDSS_PSF_FWHM_ARCSEC = BandLogNormal(
    bands=("u", "g", "r", "i", "z"),
    median=(1.377, 1.287, 1.156, 1.122, 1.194),
    ln_sigma=(0.147, 0.150, 0.190, 0.207, 0.172),
    correlation=(
        (1.0, 0.899, 0.861, 0.845, 0.821),
        (0.899, 1.0, 0.846, 0.837, 0.886),
        (0.861, 0.846, 1.0, 0.960, 0.847),
        (0.845, 0.837, 0.960, 1.0, 0.887),
        (0.821, 0.886, 0.847, 0.887, 1.0),
    ),
)
# Sky noise of a native pixel, SKYSIG x NMGYPERCOUNT of the same fields. Three runs say little of how u and i go
# together, and span too little: the frames of 4510-4-30 show 0.022 in r, 3.5 ln_sigma below the median.
SDSS_SKY_SIGMA_NANOMAGGY = BandLogNormal(
    bands=("u", "g", "r", "i", "z"),
    median=(0.04857, 0.02033, 0.03051, 0.04819, 0.1932),
    ln_sigma=(0.150, 0.147, 0.098, 0.126, 0.128),
    correlation=(
        (1.0, 0.231, 0.412, -0.418, 0.140),
        (0.231, 1.0, 0.952, 0.708, 0.709),
        (0.412, 0.952, 1.0, 0.597, 0.721),
        (-0.418, 0.708, 0.597, 1.0, 0.727),
        (0.140, 0.709, 0.721, 0.727, 1.0),
    ),
)

_STEIN2021 = Preset(
    ebv_mag=(0.0, 0.5),
    angle_deg=(0.0, 360.0),
    max_shift_px=7,
    scale=(0.9, 1.1),
    flip_probability=0.5,
    psf_fwhm_arcsec=SDSS_PSF_FWHM_ARCSEC,
    sky_sigma_nanomaggy=SDSS_SKY_SIGMA_NANOMAGGY,
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
    # these are SDSS's. What is added is the difference to each galaxy's own PSF and noise.
    "stein2021": _STEIN2021,
    # As their code does it: the difference to a PSF and a noise drawn at random, though each galaxy's own are known.
    "stein2021-drawn": replace(_STEIN2021, draws_own=True),
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
