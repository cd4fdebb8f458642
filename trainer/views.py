"""`python -m trainer views`: a grid of random views, to see what a preset does before a week of training with it.

Each row is one galaxy: its stamp, then its views with the parameters that were drawn for them.
"""

import argparse
from pathlib import Path

import torch

from augment import PRESETS, VIEW_PX, Plan, Preset, ViewParameters, draw, preset
from sharding import Dataset

from .data import Indices, Stamps
from .gallery import bright_galaxies
from .pictures import Tile, draw_tiles

GALAXIES = 6
VIEWS = 6
UNITS = (
    "E(B-V) in mag; shift in pixels (y, x); noise in median absolute deviations of the dataset; PSF (FWHM, arcsec)\n"
    "and sky (nanomaggy a pixel) are those of r. The frame is what a view without shift keeps."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("dataset", help="folder of a dataset")
    parser.add_argument("--preset", required=True, help=f"augmentation preset: {', '.join(PRESETS)}")
    parser.add_argument("--out", type=Path, required=True, help="picture to write (PNG)")
    parser.add_argument("--seed", type=int, default=0, help="of the galaxies and of the views (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Draw the grid and say where it is."""
    draw_views(args.out, Dataset.open(args.dataset), args.preset, seed=args.seed)
    print(args.out)
    return 0


def draw_views(path: Path, dataset: Dataset, preset_name: str, *, seed: int) -> None:
    """Write the grid; AugmentError for an unknown preset."""
    chosen = preset(preset_name)
    indices = bright_galaxies(dataset, GALAXIES, seed)
    stamps = Stamps(dataset, torch.device("cpu"))
    stack = stamps.read(indices)
    plans = [stamps.plan(indices, chosen, seed=seed, epoch=0, view=view, size_px=VIEW_PX) for view in range(VIEWS)]
    images = stamps.render(stack, Plan.joined(plans)).chunk(VIEWS)
    texts = [
        captions(chosen, drawn_parameters(indices, chosen, dataset, seed=seed, view=view), dataset.bands)
        for view in range(VIEWS)
    ]
    tiles = []
    for row, stamp in enumerate(stack.pixels().numpy()):
        tiles.append(Tile(stamp, "stamp", frame_px=VIEW_PX))
        tiles += [Tile(images[view][row].numpy(), texts[view][row]) for view in range(VIEWS)]
    draw_tiles(
        path, tiles, dataset.bands, columns=1 + VIEWS, title=f"views of preset {preset_name}, seed {seed}", note=UNITS
    )


def drawn_parameters(indices: Indices, chosen: Preset, dataset: Dataset, *, seed: int, view: int) -> ViewParameters:
    """What `Stamps.plan` drew for the same numbers."""
    return draw(chosen, seed=seed, epoch=0, sample=torch.from_numpy(indices), view=view, bands=dataset.bands)


def captions(chosen: Preset, drawn: ViewParameters, bands: tuple[str, ...]) -> list[str]:
    """For each galaxy the parameters that the preset varies, a few to a line."""
    return [_caption(chosen, drawn, row, bands) for row in range(len(drawn.ebv))]


def _caption(chosen: Preset, drawn: ViewParameters, row: int, bands: tuple[str, ...]) -> str:
    middle = bands.index("r") if "r" in bands else len(bands) // 2
    parts = []
    if chosen.ebv_mag[1] > 0:
        parts.append(f"E(B-V) {float(drawn.ebv[row]):.2f}")
    if chosen.angle_deg[1] > chosen.angle_deg[0]:
        parts.append(f"turn {float(drawn.angle_deg[row]):.0f}°")
    if chosen.max_shift_px > 0:
        parts.append("shift {:+.0f} {:+.0f}".format(*drawn.shift_px[row].tolist()))
    if chosen.mad_factor[1] > 0:
        parts.append(f"noise {float(drawn.mad_factor[row]):.1f}")
    if chosen.scale[1] > chosen.scale[0]:
        parts.append(f"size {float(drawn.scale[row]):.2f}")
    if chosen.flip_probability > 0:
        parts.append("flipped" if bool(drawn.flip[row]) else "not flipped")
    if chosen.psf_fwhm_arcsec is not None:
        parts.append(f"PSF {float(drawn.psf_fwhm_arcsec[row, middle]):.2f}")
    if chosen.sky_sigma_nanomaggy is not None:
        parts.append(f"sky {float(drawn.sky_sigma[row, middle]):.3f}")
    return "\n".join(", ".join(parts[first : first + 2]) for first in range(0, len(parts), 2))
