"""Milky Way dust: A_band = R_band E(B-V), a gain on the flux in every band."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from .elementary import exp
from .errors import AugmentError

# A_band / E(B-V) for SDSS, Schlafly & Finkbeiner 2011, R_V = 3.1, with E(B-V) on the scale of Schlegel et al. 1998.
R_BAND = {"u": 4.239, "g": 3.303, "r": 2.285, "i": 1.698, "z": 1.263}


def coefficients(bands: Sequence[str]) -> Float64[Tensor, " band"]:
    """R of each band; AugmentError for a band that has none."""
    unknown = [band for band in bands if band not in R_BAND]
    if unknown:
        raise AugmentError(
            f"extinction: no coefficient for band {unknown[0]!r}, expected one of {', '.join(R_BAND)}; "
            "name the bands as the data set has them"
        )
    return torch.tensor([R_BAND[band] for band in bands], dtype=torch.float64)


def gain(ebv: Float[Tensor, " batch"], bands: Sequence[str]) -> Float64[Tensor, "batch band"]:
    """What an E(B-V) [mag] multiplies fluxes by, on the host: 10^(-0.4 R E). A negative E(B-V) takes dust away."""
    magnitudes = ebv.to(device="cpu", dtype=torch.float64)[:, None] * coefficients(bands)
    return exp(-0.4 * math.log(10.0) * magnitudes)
