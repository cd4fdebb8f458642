"""`python -m ingest likeness`: how alike a practice catalogue and real ones are, printed and drawn."""

import argparse

import numpy as np

from ..tables import read_table
from .catalog import draw_catalog
from .likeness import (
    NEIGHBOURS,
    Shapes,
    Skill,
    neighbour_skill,
    practice_sample,
    practice_shapes,
    real_sample,
    real_shapes,
    training_skill,
)
from .likeness_figure import write_figure
from .twosample import as_text, colour_distances, shape_distances

SHAPE_CANDIDATES = 60_000
TRAINING, TEST, SEED = 100_000, 5_000, 0  # of the practice survey that is drawn for the neighbours


def likeness(args: argparse.Namespace) -> int:
    """Print the distances and how well neighbours predict redshift; draw both."""
    practice, real = practice_sample(read_table(args.practice)).seen(), real_sample(args.real).seen()
    rows = colour_distances(practice, real)
    shapes = [(practice_shapes(one, SHAPE_CANDIDATES, SEED), one) for one in real_shapes(args.photoobj)]
    print("u < 19.6, r < 17.8, 0.003 < z < 0.4, magnitudes as observed")
    print(as_text(rows))
    if shapes:
        print("\nsizes and shapes in r of the galaxies of " + ", ".join(one.name for _, one in shapes))
        print(as_text(shape_distances(*(_joined(side) for side in zip(*shapes, strict=True)))))
    print(
        f"\n{NEIGHBOURS} nearest neighbours in four colours and r, as they are / divided by their standard deviations"
    )
    for name, sample in (("practice", practice), ("real", real)):
        skills = [neighbour_skill(sample, standardised=standardised) for standardised in (False, True)]
        print(_skill_line(f"{name}, each of {len(sample.redshift):,} by the others", skills))
    drawn = practice_sample(draw_catalog(TRAINING + TEST, SEED), dereddened=True)
    skills = [training_skill(drawn, TRAINING, standardised=standardised) for standardised in (False, True)]
    print(_skill_line(f"practice, dereddened, {TEST:,} by {TRAINING:,} others", skills))
    write_figure(practice, real, rows, shapes, args.out)
    print(args.out)
    return 0


def _joined(samples: tuple[Shapes, ...]) -> Shapes:
    """All galaxies of several files, or of the practice galaxies that go with them."""
    r_mag, measures = (np.concatenate([getattr(one, name) for one in samples]) for name in ("r_mag", "measures"))
    return Shapes("all", r_mag, measures, samples[0].psf_fwhm_arcsec, samples[0].ebv_mag)


def _skill_line(name: str, skills: list[Skill]) -> str:
    raw, scaled = skills
    return (
        f"{name}: sigma_MAD {raw.sigma_mad:.4f} / {scaled.sigma_mad:.4f}, "
        f"eta {100 * raw.eta:.1f} / {100 * scaled.eta:.1f} %"
    )
