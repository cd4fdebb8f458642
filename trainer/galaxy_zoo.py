"""Galaxy Zoo 2: which questions were put to people, and how their votes become labels.

Source: Willett et al. 2013 (MNRAS 435, 2835; arXiv:1308.3496), whose names the columns have, as published there and in
Hart et al. 2016: ``{answer}_debiased``, the share of a question's votes corrected for distance, and ``{answer}_count``,
the number of votes. A question is asked only of those who gave certain answers before; where few did, its share is of
few votes. The paper's Table 3 says what the shares of these answers must be for a galaxy to be well sampled, with at
least 20 votes (its main sample) or 10 (its coadded Stripe 82 images, which fewer people saw: `sample` stripe82_c...).
`CUTS` are that table's, checked against the authors' manuscript.

What is done with a question's votes is a choice of this project: its label is the share of the votes that each of its
classes got, rescaled to a sum of one (as published those of the first question sum to anything from 0.67 to 1.46). So
a network learns how many people would say yes, and an even vote tells it less than a clear one. When it is judged, the
majority is the truth.

The five classes are those of Zhu et al. 2019 (Ap&SS 364, 55), cited from memory: the cuts of Table 3 for 20 votes,
whatever the number of votes, and half of the votes on roundness. A galaxy that falls into more than one is in none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from .errors import TrainerError

SMOOTH = "t01_smooth_or_features_a01_smooth"
FEATURES = "t01_smooth_or_features_a02_features_or_disk"
EDGE_ON = "t02_edgeon_a04_yes"
NOT_EDGE_ON = "t02_edgeon_a05_no"
SPIRAL = "t04_spiral_a08_spiral"

FEWEST_VOTES, FEWEST_VOTES_COADDED = 20, 10
COADDED = "stripe82_c"  # how `sample` begins for the coadded images
LEAST_SUM = 0.5  # of a question's shares: below it nobody was asked, or most saw a star or an artifact

#: Least share of an answer by which the questions after it are well sampled: with 20 votes on them, and with 10.
CUTS = {
    SMOOTH: (0.469, 0.263),
    FEATURES: (0.430, 0.227),
    EDGE_ON: (0.602, 0.326),
    NOT_EDGE_ON: (0.715, 0.519),
    SPIRAL: (0.619, 0.402),
}

Shares = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@runtime_checkable  # the tests check arguments by their types
class Catalogue(Protocol):
    """What is needed of a `sharding.Dataset`."""

    @property
    def location(self) -> Any:
        """Where it lies, for messages."""
        ...

    def __len__(self) -> int:
        """Number of galaxies."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a column, whatever the case and underscores of its name."""
        ...

    def column(self, name: str) -> npt.NDArray[np.generic]:
        """One value a galaxy."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What people were asked."""

    classes: Mapping[str, tuple[str, ...]]  # the answers that make up each class; at equal votes the first wins
    parents: tuple[str, ...] = ()  # the answers that led to it, the last one last


QUESTIONS = {
    "smooth": Question({"smooth": (SMOOTH,), "features or disk": (FEATURES,)}),
    "edge_on": Question({"edge-on": (EDGE_ON,), "not edge-on": (NOT_EDGE_ON,)}, (FEATURES,)),
    "bar": Question({"bar": ("t03_bar_a06_bar",), "no bar": ("t03_bar_a07_no_bar",)}, (FEATURES, NOT_EDGE_ON)),
    "spiral": Question({"spiral": (SPIRAL,), "no spiral": ("t04_spiral_a09_no_spiral",)}, (FEATURES, NOT_EDGE_ON)),
    "bulge": Question(
        {
            "bulge": ("t05_bulge_prominence_a12_obvious", "t05_bulge_prominence_a13_dominant"),
            "little or no bulge": ("t05_bulge_prominence_a10_no_bulge", "t05_bulge_prominence_a11_just_noticeable"),
        },
        (FEATURES, NOT_EDGE_ON),
    ),
    "odd": Question({"odd": ("t06_odd_a14_yes",), "nothing odd": ("t06_odd_a15_no",)}),
}

FIVE_CLASS = "five_class"
#: Least debiased shares of the five classes.
FIVE_CLASSES = {
    "completely round": {SMOOTH: CUTS[SMOOTH][0], "t07_rounded_a16_completely_round": 0.5},
    "in-between": {SMOOTH: CUTS[SMOOTH][0], "t07_rounded_a17_in_between": 0.5},
    "cigar-shaped": {SMOOTH: CUTS[SMOOTH][0], "t07_rounded_a18_cigar_shaped": 0.5},
    "edge-on": {answer: CUTS[answer][0] for answer in (FEATURES, EDGE_ON)},
    "spiral": {answer: CUTS[answer][0] for answer in (FEATURES, NOT_EDGE_ON, SPIRAL)},
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What people said of each galaxy."""

    classes: tuple[str, ...]
    shares: Shares  # (galaxy, class), rows sum to one, or are NaN where there is no answer to learn from


def read_answers(name: str, catalogue: Catalogue) -> Answers:
    """The answers to a question, or `FIVE_CLASS`, of every galaxy of a catalogue.

    Raises TrainerError where there is no such question, or its votes are not in the catalogue.
    """
    if name == FIVE_CLASS:
        return five_classes(catalogue)
    if name not in QUESTIONS:
        raise TrainerError(f"--question: expected one of {', '.join((*QUESTIONS, FIVE_CLASS))}, got {name}")
    question = QUESTIONS[name]
    answers = [answer for each in question.classes.values() for answer in each]
    votes = [f"{question.parents[-1]}_count"] if question.parents else []
    _check(name, catalogue, [*map(debiased, (*answers, *question.parents)), *votes])
    shares = np.stack([_added(catalogue, each) for each in question.classes.values()], axis=1)
    total = shares.sum(axis=1)
    known = (total >= LEAST_SUM) & well_sampled(question, catalogue)
    shares = shares / np.where(known, total, np.nan)[:, None]
    return Answers(tuple(question.classes), shares.astype(np.float32))


def well_sampled(question: Question, catalogue: Catalogue) -> Mask:
    """Of which galaxies enough people were asked a question, by the paper's Table 3: (galaxy,)."""
    few = coadded(catalogue)
    enough = np.ones(len(few), dtype=np.bool_)
    for answer in question.parents:
        enough &= _column(catalogue, debiased(answer)) >= np.where(few, *reversed(CUTS[answer]))
    if question.parents:
        votes = _column(catalogue, f"{question.parents[-1]}_count")
        enough &= votes >= np.where(few, FEWEST_VOTES_COADDED, FEWEST_VOTES)
    return enough


def coadded(catalogue: Catalogue) -> Mask:
    """Which galaxies people saw in coadded images of Stripe 82; none where there is no column `sample`: (galaxy,)."""
    if not catalogue.has("sample"):
        return np.zeros(len(catalogue), dtype=np.bool_)
    return np.array([str(sample).casefold().startswith(COADDED) for sample in catalogue.column("sample")], np.bool_)


def five_classes(catalogue: Catalogue) -> Answers:
    """The five classes; no answer for galaxies in none of them, or in more than one."""
    inside = within_cuts(catalogue)
    alone = inside.sum(axis=1) == 1
    return Answers(tuple(FIVE_CLASSES), np.where(alone[:, None], inside, np.nan).astype(np.float32))


def within_cuts(catalogue: Catalogue) -> Mask:
    """Which galaxies pass the cuts of which of the five classes: (galaxy, class)."""
    _check(FIVE_CLASS, catalogue, [debiased(answer) for cuts in FIVE_CLASSES.values() for answer in cuts])
    return np.stack(
        [
            np.all([_column(catalogue, debiased(answer)) >= least for answer, least in cuts.items()], axis=0)
            for cuts in FIVE_CLASSES.values()
        ],
        axis=1,
    )


def debiased(answer: str) -> str:
    """The column with an answer's share of the votes."""
    return f"{answer}_debiased"


def _added(catalogue: Catalogue, answers: tuple[str, ...]) -> npt.NDArray[np.float64]:
    return np.asarray(np.sum([_column(catalogue, debiased(answer)) for answer in answers], axis=0))


def _column(catalogue: Catalogue, name: str) -> npt.NDArray[np.float64]:
    return catalogue.column(name).astype(np.float64)


def _check(question: str, catalogue: Catalogue, columns: list[str]) -> None:
    missing = [name for name in dict.fromkeys(columns) if not catalogue.has(name)]
    if missing:
        raise TrainerError(
            f"{catalogue.location}: question {question}: expected the votes of Galaxy Zoo 2, got no column "
            f"{missing[0]} ({len(missing)} are missing); ingest with --labels and their table"
        )
