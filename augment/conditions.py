"""What is known of each stamp before it becomes a view: dust, seeing and noise as they were that night."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """Of the stamps in one batch, bands in the batch's order; None is what the data set does not know.

    NaN, or a negative number, as the PSF or the sky noise of a single stamp and band means that it is not known
    there: no difference to the drawn value can be stated, so none is added.
    """

    ebv: Float[Tensor, " batch"]  # E(B-V) in front of the object, on the Schlegel et al. 1998 scale [mag]
    pixel_scale_arcsec: float
    mad: Float[Tensor, " band"]  # the data set's median absolute deviation [nanomaggy / pixel]
    psf_fwhm_arcsec: Float[Tensor, "batch band"] | None = None  # adaptive moments: 2.3548 sigma
    sky_sigma: Float[Tensor, "batch band"] | None = None  # noise of a native pixel [nanomaggy / pixel]
