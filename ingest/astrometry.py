"""A frame's own second opinion on where it lies: the asTrans table in HDU 3 against the header's WCS.

A damaged digit in the header would put every stamp of a field on the wrong piece of sky, with nothing to show for it.
Formulae: SDSS data model, asTrans. Great-circle longitude mu = A + B R + C S and latitude nu = D + E R + F S, degrees,
with row R and column S corrected by cubics of the column; SDSS counts both from a pixel's edge.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import FrameError
from .framefile import FrameFile

TOLERANCE_PX = 2.0  # real frames agree to 0.4 px at their corners: the WCS is linear, asTrans is cubic

Float64s = npt.NDArray[np.float64]


def check_astrometry(file: FrameFile, table: Any, wcs: Any, shape: tuple[int, ...]) -> None:
    """FrameError where header and asTrans give the image another size, or place its corners differently."""
    if table.data is None or len(table.data) != 1 or not {"NODE", "A", "DROW3"} <= set(table.data.names):
        return
    height, width = shape
    if "NAXIS" in table.data.names and [width, height] != (seen := [int(n) for n in table.data["NAXIS"][0]]):
        problem = f"expected {seen[0]} x {seen[1]} pixels by asTrans (HDU 3), got an image of {width} x {height}"
        raise FrameError(file.where, file.name, problem)
    x, y = (np.array(values, dtype=np.float64) for values in ((0, width - 1, 0), (0, 0, height - 1)))
    ra, dec = _sky(table.data[0], y + 0.5, x + 0.5)
    seen_x, seen_y = wcs.wcs_world2pix(ra, dec, 0)
    apart = np.hypot(seen_x - x, seen_y - y).max()
    if not apart <= TOLERANCE_PX:  # true for NaN, too
        problem = "a WCS and an asTrans table (HDU 3) that disagree"
        raise FrameError(file.where, file.name, problem, f"by {apart:.4g} px, expected at most {TOLERANCE_PX:g}")


def _sky(trans: Any, row: Float64s, column: Float64s) -> tuple[Float64s, Float64s]:
    powers = [column**k for k in range(4)]
    row = row + sum(float(trans[f"DROW{k}"]) * powers[k] for k in range(4))
    column = column + sum(float(trans[f"DCOL{k}"]) * powers[k] for k in range(4))
    a, b, c, d, e, f, node, incl = (float(trans[name]) for name in ("A", "B", "C", "D", "E", "F", "NODE", "INCL"))
    along, off = np.deg2rad(a + b * row + c * column - node), np.deg2rad(d + e * row + f * column)
    cos, sin = np.cos(np.deg2rad(incl)), np.sin(np.deg2rad(incl))
    x, y, z = np.cos(along) * np.cos(off), np.sin(along) * np.cos(off), np.sin(off)
    ra = np.rad2deg(np.arctan2(y * cos - z * sin, x)) + node
    return ra % 360, np.rad2deg(np.arcsin(y * sin + z * cos))
