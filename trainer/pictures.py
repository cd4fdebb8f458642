"""Galaxies as pictures: bands to red, green and blue, and sheets of stamps with a line under each.

The colours follow Lupton et al. 2004 (PASP 116, 133): one asinh stretch of the mean intensity, so that a pixel's colour
does not depend on its brightness. What is drawn on a picture's axes is the caller's choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from .plotting import INK, MUTED, drawing

# Weights that make SDSS galaxies look as people know them; a band of another survey counts as it is.
SDSS_WEIGHT = {"u": 1.5, "g": 2.5, "r": 1.5, "i": 1.0, "z": 0.4}
RGB_BANDS = ("i", "r", "g")
SOFTENING = 10.0  # asinh turns from linear to logarithmic at 1/10 nanomaggy a pixel: a few times the noise of the sky
WHITE = 3.0  # nanomaggy a pixel, weighted, of the mean of the bands: the centre of a bright galaxy
PEDESTAL = 0.06  # nanomaggy a pixel, weighted: the noise of the sky is seen whole, not cut in half

TILE_IN, GAP_IN, LINE_IN, HEAD_IN = 1.15, 0.04, 0.11, 0.28  # a tile's side, what is between, a line of text, the title
CAPTION_PT = 6.0
GRID_DPI = 100  # the noise of the sky does not compress: more would make large files and show nothing

Rgb = Float[np.ndarray, "y x 3"]


def rgb_bands(bands: Sequence[str]) -> tuple[int, int, int]:
    """Which bands are shown as red, green and blue: i, r, g where there are such, else last, middle, first."""
    if set(RGB_BANDS) <= set(bands):
        red, green, blue = (bands.index(name) for name in RGB_BANDS)
        return red, green, blue
    return len(bands) - 1, len(bands) // 2, 0


def to_rgb(image: Float[np.ndarray, "band y x"], bands: Sequence[str]) -> Rgb:
    """Colours in [0, 1] of one image in nanomaggies per pixel, bands from blue to red."""
    chosen = rgb_bands(bands)
    weight = np.array([SDSS_WEIGHT.get(bands[index], 1.0) for index in chosen])
    flux = np.maximum(image[list(chosen)].astype(np.float64) * weight[:, None, None] + PEDESTAL, 0.0)
    intensity = flux.mean(axis=0)
    gain = np.arcsinh(SOFTENING * intensity) / np.arcsinh(SOFTENING * WHITE) / np.maximum(intensity, 1e-9)
    colour = flux * gain
    colour /= np.maximum(colour.max(axis=0), 1.0)  # a saturated pixel keeps its colour
    return np.moveaxis(colour, 0, -1)


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a grid."""

    image: np.ndarray  # (band, y, x), nanomaggy / pixel
    caption: str = ""
    frame_px: int | None = None  # side of a frame about the object, to show what a crop keeps


def blank(axes: Axes, width: float, height: float) -> None:
    """Make the axes a sheet to show tiles on: no frame, no ticks, one unit as long along x as along y."""
    axes.set_axis_off()
    axes.set(xlim=(0.0, width), ylim=(0.0, height), aspect="equal")


def show(axes: Axes, tile: Tile, bands: Sequence[str], *, left: float, bottom: float, side: float) -> None:
    """Draw one tile, north up and east left, at this place of `blank` axes, with its caption under it."""
    extent = (left, left + side, bottom, bottom + side)
    axes.imshow(to_rgb(tile.image, bands), origin="lower", extent=extent, aspect="equal")
    if tile.frame_px is not None:
        pixels = tile.image.shape[-1]
        corner, length = side * (pixels // 2 - tile.frame_px // 2) / pixels, side * tile.frame_px / pixels
        frame = (left + corner, bottom + corner), length, length
        axes.add_patch(Rectangle(*frame, fill=False, edgecolor="white", linewidth=0.6))
    under = bottom - 0.03 * side
    axes.text(left + side / 2, under, tile.caption, ha="center", va="top", fontsize=CAPTION_PT, color=INK)


def draw_tiles(
    path: Path, tiles: Sequence[Tile], bands: Sequence[str], *, columns: int, title: str, note: str = ""
) -> None:
    """Write a grid of tiles (PNG), row by row, with lines of explanation at the foot where such are given."""
    rows = -(-len(tiles) // columns)
    row_in = TILE_IN + GAP_IN + LINE_IN * max(_lines(tile.caption) for tile in tiles)
    width_in = columns * (TILE_IN + GAP_IN) + GAP_IN
    height_in = HEAD_IN + rows * row_in + LINE_IN * _lines(note) + GAP_IN
    with drawing(path, width_in=width_in, height_in=height_in, dpi=GRID_DPI) as figure:
        # One sheet in inches: making and laying out an axes for each tile takes longer than drawing it.
        figure.set_layout_engine("none")
        sheet = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        blank(sheet, width_in, height_in)
        for number, tile in enumerate(tiles):
            row, column = divmod(number, columns)
            left, bottom = GAP_IN + column * (TILE_IN + GAP_IN), height_in - HEAD_IN - row * row_in - TILE_IN
            show(sheet, tile, bands, left=left, bottom=bottom, side=TILE_IN)
        sheet.text(GAP_IN, height_in - GAP_IN, title, va="top", fontsize=10, fontweight="bold", color=INK)
        sheet.text(GAP_IN, GAP_IN, note, va="bottom", fontsize=CAPTION_PT, color=MUTED)


def _lines(text: str) -> int:
    return 1 + text.count("\n") if text else 0
