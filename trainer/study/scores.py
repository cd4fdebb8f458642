"""How good the answers are, with errors that can be compared: the answers of a task meet the truth here.

What would have come out otherwise has two causes. *Other galaxies*: each draw resamples the test galaxies, and draw i
has the same ones for every row of a task, so that the difference of two rows, or the place where two curves cross, has
its own error. *Other seeds*: each draw moves a row's mean over its seeds by a normal deviate times the standard error
of that mean (scatter over the seeds, ddof = 1, over the root of their number k). Resampling the seeds would understate
that error by the root of (k - 1) / k. The deviates of different rows are independent.

What the errors are not: with few seeds their scatter is poorly known, so that an interval of one standard deviation
covers as often as Student's t does, 50 % with two seeds and 58 % with three, not 68 %. What seeds and galaxies do
together is in both parts, so the sum is a little too wide. A single seed has no scatter: its error is the galaxies'.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..config import Task
from ..errors import TrainerError
from ..metrics import BOOTSTRAP_DRAWS, ETA_LIMIT, MAD_TO_SIGMA, residuals
from .results import Figure, Indices, Row, Score, Truth, Values

Table = npt.NDArray[np.float64]
# The figures of some answers, in the order of FIGURES, on the galaxies that are chosen: (figure, answer).
Judge = Callable[[Indices], Table]

FIGURES: dict[Task, tuple[str, ...]] = {"photoz": ("sigma_mad", "eta", "bias"), "morphology": ("accuracy",)}


def score(rows: Sequence[Row], truth: Truth, *, seed: int = 0, draws: int = BOOTSTRAP_DRAWS) -> list[Score]:
    """Judge every row of a task; the resamplings are those of `metrics.bootstrap_error`.

    Raises:
        TrainerError: there is no galaxy, a row is of another task or without an answer, or an answer has another number
            of galaxies or a value that is not finite (to leave a galaxy out in silence would flatter).
    """
    for row in rows:
        _check(row, truth)
    return [
        Score(row=row, galaxies=len(truth.values), figures=_figures(row, truth, seed=seed, draws=draws)) for row in rows
    ]


def _figures(row: Row, truth: Truth, *, seed: int, draws: int) -> dict[str, Figure]:
    """The row's figures by name. One draw is held at a time, so a million galaxies cost no more than their answers."""
    judge = JUDGES[row.task]([answer.values for answer in row.answers], truth.values)
    galaxies, seeds = len(truth.values), len(row.answers)
    rng = np.random.default_rng(seed)  # the same for every row, and so the galaxies that it draws
    drawn = np.stack([judge(rng.integers(0, galaxies, galaxies)).mean(axis=1) for _ in range(draws)], axis=1)
    each = judge(np.arange(galaxies))
    error = each.std(axis=1, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.zeros(len(each))
    moved = drawn + error[:, None] * _deviates(row, seed).normal(size=drawn.shape)
    return {
        name: Figure(value=float(each[number].mean()), draws=moved[number])
        for number, name in enumerate(FIGURES[row.task])
    }


def _deviates(row: Row, seed: int) -> np.random.Generator:
    """The row's own random numbers, whichever others are scored with it."""
    name = f"{row.task} {row.method} {row.variant} {float(row.fraction)!r}"
    return np.random.default_rng([seed, *name.encode()])


def _photoz_judge(answers: Sequence[Values], truth: Values) -> Judge:
    """The figures of `metrics`, for many answers at once."""
    dz = np.stack([residuals(answer, truth) for answer in answers])
    outlier = (np.abs(dz) > ETA_LIMIT).astype(np.float64)

    def judge(chosen: Indices) -> Table:
        share = np.bincount(chosen, minlength=len(truth)) / len(chosen)
        drawn = dz[:, chosen]
        spread = MAD_TO_SIGMA * _medians(np.abs(drawn - _medians(drawn)[:, None]))
        return np.stack([spread, outlier @ share, dz @ share])

    return judge


def _morphology_judge(answers: Sequence[Values], truth: Values) -> Judge:
    """The share of right answers."""
    right = (np.stack(answers) == truth).astype(np.float64)

    def judge(chosen: Indices) -> Table:
        return np.asarray(right @ np.bincount(chosen, minlength=len(truth)) / len(chosen))[None]

    return judge


JUDGES: dict[Task, Callable[[Sequence[Values], Values], Judge]] = {
    "photoz": _photoz_judge,
    "morphology": _morphology_judge,
}


def _medians(rows: Table) -> Values:
    """The median of each row. np.median makes sure of NaN, which are none here, at twice the time."""
    low, high = (rows.shape[1] - 1) // 2, rows.shape[1] // 2
    ordered = np.partition(rows, (low, high), axis=1)
    return np.asarray((ordered[:, low] + ordered[:, high]) / 2)


def _check(row: Row, truth: Truth) -> None:
    """TrainerError where the row cannot be compared with the truth."""
    name = " ".join(filter(None, (row.task, row.method, row.variant, f"{100 * row.fraction:g} %")))
    if row.task != truth.task or not row.answers or not len(truth.values):
        raise TrainerError(
            f"score: {name}: expected answers to {truth.task} for one galaxy or more, got {len(row.answers)} to "
            f"{row.task} for {len(truth.values)}; choose a dataset whose test split has labels"
        )
    if bad := int(np.sum(~np.isfinite(truth.values))):
        raise TrainerError(f"score: expected finite labels, got {bad} of {len(truth.values)} that are not")
    for answer in row.answers:
        finite = int(np.isfinite(answer.values).sum())
        if len(answer.values) != len(truth.values) or finite < len(answer.values):
            raise TrainerError(
                f"score: {name}, seed {answer.seed}: expected {len(truth.values)} finite answers, got "
                f"{len(answer.values)}, of which {finite} are finite; remove that run and start the study again"
            )
