"""`python -m ingest likeness`: how alike a practice catalogue and real ones are, printed and drawn."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..tables import read_table
from .catalog import draw_catalog
from .likeness import (
    FITTED_CATALOGUE,
    NEIGHBOURS,
    R_LIMIT,
    REDSHIFT_LIMITS,
    U_LIMIT,
    Sample,
    Shapes,
    Skill,
    expect_enough,
    neighbour_skill,
    practice_sample,
    practice_shapes,
    real_sample,
    real_shapes,
    training_skill,
)
from .likeness_figure import write_figure
from .survey import SurveyConfig
from .twosample import Distance, as_text, colour_distances, shape_distances

SHAPE_CANDIDATES = 60_000
TRAINING, TEST = 100_000, 5_000  # of the practice survey that is drawn for the neighbours


@dataclass(frozen=True, slots=True, kw_only=True)
class LikenessConfig:
    """What is compared, and within which limits."""

    real: Path
    out: Path  # the figure
    practice: Path | None = None  # a practice survey's catalogue; without one, `galaxies` are drawn
    galaxies: int = 30_600
    seed: int = 0  # of all that is drawn here
    photoobj: Sequence[Path] = ()
    magnitude: str = "modelMag"  # or petroMag
    dereddened: bool = False  # the real magnitudes are, so the practice survey's are dereddened too
    u_limit: float = U_LIMIT  # inf for none
    r_limit: float = R_LIMIT

    def limits(self) -> str:
        """The limits as the table states them."""
        limits = [f"{band} < {limit:g}" for band, limit in (("u", self.u_limit), ("r", self.r_limit)) if limit < np.inf]
        low, high = REDSHIFT_LIMITS
        return ", ".join([*limits, f"{low:g} < z < {high:g}"])


def likeness(args: argparse.Namespace) -> int:
    """Run the command whose options are the fields of `LikenessConfig`."""
    compare(LikenessConfig(**{name: value for name, value in vars(args).items() if name != "command"}))
    return 0


def compare(config: LikenessConfig) -> None:
    """Print the distances and how well neighbours predict redshift; draw both."""
    practice = _practice(config).seen(config.u_limit, config.r_limit)
    everything = real_sample(config.real, config.magnitude)
    real = everything.seen(config.u_limit, config.r_limit)
    expect_enough(practice, config.practice or "practice", config.limits())
    expect_enough(real, config.real, config.limits())
    shapes = [(practice_shapes(one, SHAPE_CANDIDATES, config.seed), one) for one in real_shapes(config.photoobj)]
    rows = colour_distances(practice, real)
    print(f"{config.limits()}, magnitudes {'dereddened' if config.dereddened else 'as observed'}")
    print(as_text(rows))
    if config.real.name == FITTED_CATALOGUE:
        print("\nof these real galaxies, those alone that the survey was not fitted to: half of those above")
        print(as_text(colour_distances(practice, everything.held_out().seen(config.u_limit, config.r_limit))))
    if shapes:
        rows += _print_shapes(shapes)
    _print_skills(practice, real, config.seed)
    write_figure(practice, real, rows, shapes, config.out)
    print(config.out)


def _practice(config: LikenessConfig) -> Sample:
    """The practice galaxies, read or drawn."""
    survey = SurveyConfig(galaxies=config.galaxies, seed=config.seed)  # refuses what no survey has
    if config.practice is None:
        catalog, where = draw_catalog(survey.galaxies, survey.seed), "practice"
    else:
        catalog, where = read_table(config.practice), str(config.practice)
    return practice_sample(catalog, config.magnitude, dereddened=config.dereddened, where=where)


def _print_shapes(shapes: Sequence[tuple[Shapes, Shapes]]) -> list[Distance]:
    rows = shape_distances(*(_joined(side) for side in zip(*shapes, strict=True)))
    print("\nsizes and shapes in r of the galaxies of " + ", ".join(one.name for _, one in shapes))
    print(as_text(rows))
    return rows


def _joined(samples: tuple[Shapes, ...]) -> Shapes:
    """All galaxies of several files, or of the practice galaxies that go with them."""
    r_mag, measures = (np.concatenate([getattr(one, name) for one in samples]) for name in ("r_mag", "measures"))
    return Shapes("all", r_mag, measures, samples[0].psf_fwhm_arcsec, samples[0].ebv_mag)


def _print_skills(practice: Sample, real: Sample, seed: int) -> None:
    print(
        f"\n{NEIGHBOURS} nearest neighbours in four colours and r, as they are / divided by their standard deviations"
    )
    for name, sample in (("practice", practice), ("real", real)):
        skills = [neighbour_skill(sample, standardised=standardised) for standardised in (False, True)]
        print(_skill_line(f"{name}, each of {len(sample.redshift):,} by the others", skills))
    drawn = practice_sample(draw_catalog(TRAINING + TEST, seed), dereddened=True)
    skills = [training_skill(drawn, TRAINING, standardised=standardised) for standardised in (False, True)]
    print(_skill_line(f"practice, dereddened, {TEST:,} by {TRAINING:,} others", skills))


def _skill_line(name: str, skills: list[Skill]) -> str:
    raw, scaled = skills
    return (
        f"{name}: sigma_MAD {raw.sigma_mad:.4f} / {scaled.sigma_mad:.4f}, "
        f"eta {100 * raw.eta:.1f} / {100 * scaled.eta:.1f} %"
    )
