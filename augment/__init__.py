"""Random views of galaxies, in physical units: what may be drawn, the draw, and its rendering.

Conventions, for all of the package:
- images are (batch, band, y, x) in C order, north up and east left as `sharding` stores them; shifts and positions
  are (y, x);
- a pixel's centre has the whole number, the first one 0; the object is at pixel n // 2 of a side of n, (53, 53) of
  107;
- fluxes are nanomaggies per pixel, linear; noise is per pixel; E(B-V) is in magnitudes on the scale of Schlegel et
  al. 1998;
- PSF widths are FWHM = 2.3548 sigma of adaptive moments, in arcsec, as photoObj's PSF_FWHM;
- NaN marks a pixel without data: it stays NaN wherever it is used (`apply`), and masks are true where data is bad;
- an input is never written to.
"""

from .conditions import Conditions
from .draws import ViewParameters, draw
from .errors import AugmentError
from .geometry import VIEW_PX
from .ops import Dither, render
from .plan import Plan, make_plan
from .presets import PRESETS, BandLogNormal, Preset, preset
from .views import apply, views

__all__ = [
    "PRESETS",
    "VIEW_PX",
    "AugmentError",
    "BandLogNormal",
    "Conditions",
    "Dither",
    "Plan",
    "Preset",
    "ViewParameters",
    "apply",
    "draw",
    "make_plan",
    "preset",
    "render",
    "views",
]
