"""How good the answers are, with errors that can be compared: the answers of a task meet the truth here.

What would have come out otherwise has two causes. *Other galaxies*: each draw resamples the test galaxies, and draw i
has the same ones for every row of a task, so that the difference of two rows, or the place where two curves cross, has
its own error. *Other seeds*: each draw moves a row's mean over its k seeds by a normal deviate times the standard
error of that mean, the scatter of one seed over the root of k. Resampling the seeds would understate that error by the
root of (k - 1) / k. The deviates of different rows are independent.

Two or three seeds tell their scatter poorly. So the variances of a method's rows (one task and pre-training, all shares
of the labels) are pooled: their squares and their degrees of freedom, k - 1 each, add up. An interval of one standard
deviation then covers as often as Student's t with that sum does: with two seeds 50 % for a row by itself, 64 % for five
rows, and 68 % where the scatter is known. The price: where it depends on the number of labels, the error is too small
at one end and too large at the other. A row whose seeds have equal figures, as neighbours among all labels have, has no
scatter to be found: it keeps none and is not pooled.

What seeds and galaxies do together is in both parts, so the sum is a little too wide. A single seed for all rows has no
scatter: the error is the galaxies'.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ..config import Task
from ..errors import TrainerError
from ..metrics import BOOTSTRAP_DRAWS, ETA_LIMIT, MAD_TO_SIGMA, residuals
from .results import Figure, Indices, Method, Row, Score, Truth, Values

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
    galaxies = len(truth.values)
    figures = [_judge(row, truth)(np.arange(galaxies)) for row in rows]
    errors = _seed_errors(rows, figures)
    scores = []
    for row, each, error in zip(rows, figures, errors, strict=True):
        drawn = _resampled(_judge(row, truth), galaxies, seed=seed, draws=draws)
        moved = drawn + error[:, None] * _deviates(row, seed).normal(size=drawn.shape)
        found = {
            name: Figure(value=float(each[number].mean()), draws=moved[number])
            for number, name in enumerate(FIGURES[row.task])
        }
        scores.append(Score(row=row, galaxies=galaxies, figures=found))
    return scores


def _judge(row: Row, truth: Truth) -> Judge:
    return JUDGES[row.task]([answer.values for answer in row.answers], truth.values)


def _resampled(judge: Judge, galaxies: int, *, seed: int, draws: int) -> Table:
    """The seeds' mean of each figure: (figure, draw). One draw is held at a time: there may be a million galaxies."""
    rng = np.random.default_rng(seed)  # the same for every row, and so the galaxies that it draws
    return np.stack([judge(rng.integers(0, galaxies, galaxies)).mean(axis=1) for _ in range(draws)], axis=1)


def _seed_errors(rows: Sequence[Row], figures: Sequence[Table]) -> list[Values]:
    """For each row the standard errors of its means over the seeds, (figure,); ``figures`` are (figure, seed)."""
    kin, seeds = [(row.method, row.variant) for row in rows], [len(row.answers) for row in rows]
    scatters = [bool(np.ptp(each, axis=1).any()) for each in figures]
    variance: dict[tuple[Method, str], Values] = {}
    for name in dict.fromkeys(kin):
        some = [place for place, its in enumerate(kin) if its == name and scatters[place]]
        squares = sum((seeds[place] * figures[place].var(axis=1) for place in some), np.zeros(len(figures[0])))
        variance[name] = squares / max(sum(seeds[place] - 1 for place in some), 1)
    # Of a single seed the scatter is that of its kin.
    found = [scatters[place] or seeds[place] == 1 for place in range(len(rows))]
    return [known * np.sqrt(variance[kin[place]] / seeds[place]) for place, known in enumerate(found)]


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
