"""`python -m trainer views`: a grid of random views, to see what a preset does before a week of training with it.

Each row is one galaxy: its stamp, then its views with the parameters that were drawn for them.
"""

import argparse
from pathlib import Path
from typing import get_args

import torch

from augment import PRESETS, VIEW_PX, Conditions, Plan, Preset, ViewParameters, draw, preset
from augment.presets import LeftOut
from sharding import Dataset

from .data import Indices, Stamps
from .errors import TrainerError
from .gallery import bright_galaxies
from .pictures import Tile, draw_tiles

GALAXIES = 6
VIEWS = 6
NOTE = (
    "E(B-V) in mag; PSF (FWHM, arcsec) and sky (nanomaggy a pixel) in r; y is up. The frame: an unmoved view.\n"
    "A view is brought up to the PSF and sky under it, never sharpened or cleaned, from the stamp's own or, where two\n"
    "are given, from the first; noise is in median absolute deviations of the dataset; shift in pixels (y, x);\n"
    "a turn is clockwise, after the flip (along x)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("dataset", help="folder of a dataset")
    parser.add_argument("--preset", required=True, help=f"augmentation preset: {', '.join(PRESETS)}")
    parser.add_argument(
        "--without", choices=get_args(LeftOut), default="nothing", help="augmentation of the preset that is left out"
    )
    parser.add_argument("--out", type=Path, required=True, help="picture to write (PNG)")
    parser.add_argument("--seed", type=int, default=0, help="of the galaxies and of the views (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Draw the grid and say where it is."""
    if not 0 <= args.seed < 2**64:
        raise TrainerError(f"--seed: expected 0 or more, below 2^64, got {args.seed}")
    draw_views(args.out, Dataset.open(args.dataset), args.preset, without=args.without, seed=args.seed)
    print(args.out)
    return 0


def draw_views(
    path: Path,
    dataset: Dataset,
    preset_name: str,
    *,
    without: LeftOut = "nothing",
    seed: int,
    size_px: int = VIEW_PX,
) -> None:
    """Write the grid; AugmentError for an unknown preset, and where it does not vary what is to be left out."""
    chosen = preset(preset_name).without(without)
    indices = bright_galaxies(dataset, GALAXIES, seed)
    stamps = Stamps(dataset, torch.device("cpu"))
    stack = stamps.read(indices)
    plans = [stamps.plan(indices, chosen, seed=seed, epoch=0, view=view, size_px=size_px) for view in range(VIEWS)]
    images = stamps.render(stack, Plan.joined(plans)).chunk(VIEWS)
    texts = [
        captions(chosen, drawn_parameters(indices, chosen, dataset, seed=seed, view=view), dataset.bands)
        for view in range(VIEWS)
    ]
    own = stamp_captions(stamps.conditions(indices), dataset.bands)
    tiles = []
    for row, stamp in enumerate(stack.pixels().numpy()):
        tiles.append(Tile(stamp, own[row], frame_px=size_px))
        tiles += [Tile(images[view][row].numpy(), texts[view][row]) for view in range(VIEWS)]
    variant = "" if without == "nothing" else f" without {without}"
    title = f"views of preset {preset_name}{variant}, seed {seed}"
    draw_tiles(path, tiles, dataset.bands, columns=1 + VIEWS, title=title, note=NOTE)


def drawn_parameters(indices: Indices, chosen: Preset, dataset: Dataset, *, seed: int, view: int) -> ViewParameters:
    """What `Stamps.plan` drew for the same numbers."""
    return draw(chosen, seed=seed, epoch=0, sample=torch.from_numpy(indices), view=view, bands=dataset.bands)


def captions(chosen: Preset, drawn: ViewParameters, bands: tuple[str, ...]) -> list[str]:
    """For each galaxy the parameters that the preset varies: light, what is brought up to what, turns, moves."""
    return [_caption(chosen, drawn, row, bands) for row in range(len(drawn.ebv))]


def stamp_captions(known: Conditions, bands: tuple[str, ...]) -> list[str]:
    """For each galaxy what is known of its stamp."""
    middle = _middle(bands)
    texts = []
    for row, ebv in enumerate(known.ebv.tolist()):
        lines = [f"stamp: E(B-V) {ebv:.2f}"]
        if known.psf_fwhm_arcsec is not None:
            lines.append(f"PSF {float(known.psf_fwhm_arcsec[row, middle]):.2f}")
        if known.sky_sigma is not None:
            lines.append(f"sky {float(known.sky_sigma[row, middle]):.3f}")
        texts.append("\n".join(lines))
    return texts


def _caption(chosen: Preset, drawn: ViewParameters, row: int, bands: tuple[str, ...]) -> str:
    middle = _middle(bands)
    light, psf, sky, turns, moves = lines = [list[str]() for _ in range(5)]
    if chosen.ebv_mag[1] > 0:
        light.append(f"E(B-V) {float(drawn.ebv[row]):.2f}")
    if chosen.mad_factor[1] > 0:
        light.append(f"noise {float(drawn.mad_factor[row]):.1f}")
    if chosen.psf_fwhm_arcsec is not None:
        own = f"{float(drawn.own_psf_fwhm_arcsec[row, middle]):.2f} to " if chosen.draws_own else ""
        psf.append(f"PSF {own}{float(drawn.psf_fwhm_arcsec[row, middle]):.2f}")
    if chosen.sky_sigma_nanomaggy is not None:
        own = f"{float(drawn.own_sky_sigma[row, middle]):.3f} to " if chosen.draws_own else ""
        line = sky if chosen.draws_own else psf  # both in one line would be wider than a view
        line.append(f"sky {own}{float(drawn.sky_sigma[row, middle]):.3f}")
    if chosen.angle_deg[1] > chosen.angle_deg[0]:
        turns.append(f"turn {float(drawn.angle_deg[row]):.0f}°")
    if chosen.flip_probability > 0:
        turns.append("flipped" if bool(drawn.flip[row]) else "not flipped")
    if chosen.max_shift_px > 0:
        moves.append("shift {:+.0f} {:+.0f}".format(*drawn.shift_px[row].tolist()))
    if chosen.scale[1] > chosen.scale[0]:
        moves.append(f"size {float(drawn.scale[row]):.2f}")
    return "\n".join(", ".join(line) for line in lines if line)


def _middle(bands: tuple[str, ...]) -> int:
    """The band that the captions tell of."""
    return bands.index("r") if "r" in bands else len(bands) // 2
