"""How flux enters a network: as it is, or on an asinh scale in units of each band's noise.

The published network is fed linear flux in nanomaggies, which spans five orders of magnitude, with batch norm alone to
tame it. A small network that is trained for minutes learns far more from ``asinh(flux / scale)`` (Lupton et al. 1999):
near the sky it is linear in the noise, on a galaxy a colour becomes a difference between bands. A pixel that is not
finite counts as sky: zero flux.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .config import Stretch


class FluxStretch(nn.Module):
    """Image in nanomaggies per pixel to network input, band by band."""

    scale: Tensor

    def __init__(self, kind: Stretch, bands: int) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("scale", torch.ones(bands))

    def set_scale(self, noise: Float[Tensor, " C"]) -> None:
        """Take the flux per pixel at which asinh turns from linear to logarithmic: each band's noise [nanomaggy]."""
        self.scale.copy_(noise)

    def forward(self, flux: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Same shape; the input is not changed."""
        flux = torch.where(torch.isfinite(flux), flux, 0.0)
        return torch.asinh(flux / self.scale[:, None, None]) if self.kind == "asinh" else flux
