"""Methods compared: how many labels one needs for what another reaches with all, and which is better with as many.

A method's figure against the logarithm of the number of labels is taken as straight between the fractions of the study,
in each bootstrap draw by itself. More labels are taken not to make a method worse: where a draw says so, neighbouring
points are averaged until none does (isotonic regression). To keep the best point so far would be monotone, too, but
would choose the lucky ones among noisy points. The target is the end of the rival's curve, made in the same way:
against a single point as measured, averaged ones would win too often where both methods are as good as each other. The
number of labels at which the curve comes to a target has the error of both, less what they share: a draw has the same
galaxies for both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..config import Task
from .results import JUDGED_BY, Figure, Method, Score, Values

CLAIMED: tuple[Method, ...] = ("finetuned", "probe")  # what is claimed to need fewer labels than supervised training
INTERVAL = (0.16, 0.5, 0.84)  # one standard deviation of a Gaussian to both sides of the median
CERTAIN = 2.0  # errors that a difference must exceed to be called one


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """How many labels a method needs for what a rival reaches with all labels."""

    task: Task
    method: Method
    rival: Method
    variant: str  # the pre-training
    target: Figure  # the end of the rival's curve
    target_averaged: bool  # it is not as measured, for fewer labels were no worse
    rival_grows: bool  # the rival is better with its most labels than with its fewest, beyond doubt
    target_labels: float
    target_fraction: float
    labels: tuple[float, ...]  # at which the method was tried, ascending
    needed: Values  # (draw,) number of labels; 0 where the fewest are more than enough, inf where the most are not

    @property
    def interval(self) -> tuple[float, float, float]:
        """The number of labels: 16 %, half and 84 % of the draws are below. No mean of draws: they may be infinite."""
        low, middle, high = np.quantile(self.needed, INTERVAL, method="inverted_cdf")
        return float(low), float(middle), float(high)

    @property
    def factor(self) -> tuple[float, float, float]:
        """How many times fewer labels: 16 %, half and 84 % of the draws are below; 0 where it is never, else inf."""
        low, middle, high = (self.target_labels / each if each else np.inf for each in reversed(self.interval))
        return low, middle, high

    @property
    def enough(self) -> float:
        """The share of the draws in which the fewest labels are more than enough."""
        return float(np.mean(self.needed == 0))

    @property
    def never(self) -> float:
        """The share of the draws in which the most labels are not enough."""
        return float(np.mean(np.isinf(self.needed)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A method's figure less a rival's, with equal labels."""

    task: Task
    method: Method
    rival: Method
    variant: str
    fraction: float
    labels: float
    figure: Figure

    @property
    def verdict(self) -> int:
        """1 where the method is better beyond twice the error, -1 where it is worse, else 0."""
        if abs(self.figure.value) <= CERTAIN * self.figure.error:
            return 0
        return 1 if (self.figure.value > 0) == JUDGED_BY[self.task][1] else -1


def crossings(scores: Sequence[Score]) -> list[Crossing]:
    """For each task, pre-training and claimed method, against supervised training; none where one of them is missing.

    A method that was tried at one fraction alone has no curve, and so no crossing.
    """
    found = (find_crossing(mine, supervised) for mine, supervised in claimed_pairs(scores))
    return [each for each in found if each is not None]


def differences(scores: Sequence[Score]) -> list[Difference]:
    """For each task, pre-training and claimed method, at each fraction that supervised training was tried at, too."""
    return [
        find_difference(one, other)
        for mine, supervised in claimed_pairs(scores)
        for one in mine
        for other in supervised
        if one.row.fraction == other.row.fraction
    ]


def labels_needed(labels: Values, losses: npt.NDArray[np.float64], target: Values) -> Values:
    """The number of labels (draw,) with which falling ``losses`` (label, draw) come down to ``target`` (draw,).

    ``labels`` ascend. 0 where the first loss is at the target or below, inf where the last is above it.
    """
    fitted = monotone(losses)
    reached = fitted <= target
    after = reached.argmax(axis=0)  # the first that is
    before = np.maximum(after - 1, 0)
    draw = np.arange(len(target))
    above, below = fitted[before, draw], fitted[after, draw]
    way = (above - target) / np.where(above > below, above - below, 1.0)
    crossed = np.exp(np.log(labels[before]) + way * np.log(labels[after] / labels[before]))
    return np.where(reached[0], 0.0, np.where(reached[-1], crossed, np.inf))


def monotone(losses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The falling sequence that is nearest to each column in the mean square (isotonic regression): its shape.

    By the min-max formula: the least, over beginnings at or before a place, of the greatest, over ends at or after it,
    of the means between them.
    """
    number = len(losses)
    means = {(j, k): losses[j : k + 1].mean(axis=0) for j in range(number) for k in range(j, number)}
    return np.stack(
        [
            np.min([np.max([means[j, k] for k in range(i, number)], axis=0) for j in range(i + 1)], axis=0)
            for i in range(number)
        ]
    )


def claimed_pairs(scores: Sequence[Score]) -> Iterator[tuple[list[Score], list[Score]]]:
    """The scores of each claimed method, and those of supervised training, in ascending order of labels."""
    for task in JUDGED_BY:
        supervised = _curve(scores, task, "supervised", "")
        for variant in dict.fromkeys(each.row.variant for each in scores):
            for method in CLAIMED:
                mine = _curve(scores, task, method, variant)
                if mine and supervised:
                    yield mine, supervised


def find_crossing(mine: Sequence[Score], rival: Sequence[Score]) -> Crossing | None:
    """Of scores in ascending order of labels; None where the method has no curve, being tried at one fraction alone."""
    if len(mine) < 2:
        return None
    task = mine[0].row.task
    name, more_is_better = JUDGED_BY[task]
    sign = -1.0 if more_is_better else 1.0
    labels = np.array([each.row.labels for each in mine])
    losses, rivals = (sign * np.stack([each.figures[name].draws for each in some]) for some in (mine, rival))
    target = monotone(rivals)[-1]
    measured = np.array([[sign * each.figures[name].value] for each in rival])
    value = monotone(measured)[-1, 0]
    return Crossing(
        task=task,
        method=mine[0].row.method,
        rival=rival[0].row.method,
        variant=mine[0].row.variant or rival[0].row.variant,
        target=Figure(value=sign * float(value), draws=sign * target),
        target_averaged=bool(value != measured[-1, 0]),
        rival_grows=find_difference(rival[-1], rival[0]).verdict > 0,
        target_labels=rival[-1].row.labels,
        target_fraction=rival[-1].row.fraction,
        labels=tuple(labels.tolist()),
        needed=labels_needed(labels, losses, target),
    )


def find_difference(one: Score, other: Score) -> Difference:
    """The one's figure less the other's, draw by draw."""
    mine, its = (each.figures[JUDGED_BY[one.row.task][0]] for each in (one, other))
    return Difference(
        task=one.row.task,
        method=one.row.method,
        rival=other.row.method,
        variant=one.row.variant,
        fraction=one.row.fraction,
        labels=one.row.labels,
        figure=Figure(value=mine.value - its.value, draws=mine.draws - its.draws),
    )


def _curve(scores: Sequence[Score], task: Task, method: Method, variant: str) -> list[Score]:
    wanted = (task, method, variant)
    mine = [each for each in scores if (each.row.task, each.row.method, each.row.variant) == wanted]
    return sorted(mine, key=lambda each: each.row.labels)
