"""Which galaxies a run learns its labels from, and which it is judged on while it does."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sharding import Dataset, Order

from .config import FinetuneConfig
from .errors import TrainerError
from .tasks import Task

# Fewer would make a figure of skill that is noise.
FEWEST_TRAIN = 50
FEWEST_VALIDATION = 5

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labels:
    """Dataset indices; the test split is in neither."""

    train: Indices
    validation: Indices
    unusable: int  # galaxies of both splits whose label is missing or out of range


def choose_labels(config: FinetuneConfig, dataset: Dataset, task: Task) -> Labels:
    """The labelled galaxies of both splits, of training as many as ``label_fraction`` says.

    A smaller fraction's galaxies are among a larger one's. Raises TrainerError where too few are left.
    """
    train, validation = dataset.split("train"), dataset.split("validation")
    known = [members[task.known(members)] for members in (train, validation)]
    unusable = len(train) + len(validation) - sum(map(len, known))
    wanted = round(config.label_fraction * len(known[0]))
    if wanted < FEWEST_TRAIN or len(known[1]) < FEWEST_VALIDATION:
        raise TrainerError(
            f"{dataset.path}: column {config.label_column}: expected at least {FEWEST_TRAIN} labels to train on and "
            f"{FEWEST_VALIDATION} to judge by, got {wanted} and {len(known[1])} ({unusable} of "
            f"{len(train) + len(validation)} are missing or out of range); label more, or raise --label-fraction"
        )
    chosen = Order(known[0], config.seed).at(0, np.arange(wanted))
    return Labels(np.sort(chosen), known[1], unusable)
