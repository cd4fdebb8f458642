"""A practice survey: physically drawn galaxies in SDSS's own file formats, with their catalogue.

Fluxes are nanomaggies, magnitudes AB, arrays (galaxy, band) with bands in the order u, g, r, i, z. Pixels are (x, y) =
(column, row) from 0, centres on whole numbers; images are (y, x).
"""

from .catalog import draw_catalog
from .survey import Survey, SurveyConfig, simulate

__all__ = ["Survey", "SurveyConfig", "draw_catalog", "simulate"]
