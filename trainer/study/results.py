"""What a study hands on: the answers of each method, the truth, and what comes of comparing them."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..config import Task

Method = Literal["supervised", "finetuned", "probe", "neighbours", "catalogue", "trees", "guess"]

#: How methods are called where people read of them; the order is that of tables and legends.
METHOD_NAMES: dict[Method, str] = {
    "supervised": "supervised from scratch",
    "finetuned": "fine-tuned from the pre-trained encoder",
    "probe": "linear probe of the pre-trained encoder",
    "neighbours": "neighbours by the pre-trained encoder, nothing trained",
    "catalogue": "nearest neighbours in catalogue magnitudes",
    "trees": "gradient-boosted trees on catalogue magnitudes",
    "guess": "the same answer for all",
}
PRETRAINED: tuple[Method, ...] = ("finetuned", "probe", "neighbours")  # what depends on a pre-training

Values = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one training, or one method without any, says of the test galaxies. No label of theirs was used."""

    seed: int
    labels: int  # galaxies of the training split whose label it was given
    chosen: str  # what validation chose, as people read it: "learning rate 0.05", "k = 10"
    values: Values  # (galaxy,) a redshift, or the number of a class; one for each test galaxy, in the truth's order


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table to be: one method at one share of the labels, an answer for each seed."""

    task: Task
    method: Method
    variant: str  # the pre-training; "" for a method that has none
    fraction: float
    answers: tuple[Answer, ...]

    @property
    def labels(self) -> float:
        """The mean number of labels."""
        return float(np.mean([answer.labels for answer in self.answers]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The test galaxies of a task that have a label. Made when all answers are there."""

    task: Task
    indices: Indices  # in the dataset
    values: Values  # (galaxy,) redshifts, or class numbers
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure of merit: the mean over the seeds, and how it would have come out with other galaxies and seeds."""

    value: float
    draws: Values  # (draw,) the same test galaxies are in draw i of every row of a task

    @property
    def error(self) -> float:
        """One standard deviation."""
        return float(np.std(self.draws, ddof=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A row that has been compared with the truth."""

    row: Row
    galaxies: int  # of the test split
    figures: dict[str, Figure] = field(default_factory=dict)  # photoz: sigma_mad, eta, bias; morphology: accuracy


#: What a task is first of all judged by, and whether more of it is better.
JUDGED_BY: dict[Task, tuple[str, bool]] = {"photoz": ("sigma_mad", False), "morphology": ("accuracy", True)}
