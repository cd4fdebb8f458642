"""Which galaxies a run learns its labels from, and which it is judged on while it does."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sharding import Dataset
from sharding.splits import within_fraction

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
    unusable: int  # galaxies of both splits whose label is missing, out of range or of too few votes


def choose_labels(config: FinetuneConfig, dataset: Dataset, task: Task) -> Labels:
    """The labelled galaxies of both splits, of training about the share that ``label_fraction`` says.

    Chosen by the galaxy's identity and the seed, all observations of it together; a smaller fraction's galaxies are
    among a larger one's. Raises TrainerError where too few are left.
    """
    train, validation = dataset.split("train"), dataset.split("validation")
    known = [members[task.known(members)] for members in (train, validation)]
    unusable = len(train) + len(validation) - sum(map(len, known))
    chosen = known[0][within_fraction(dataset.identity()[known[0]], config.label_fraction, config.seed)]
    if len(chosen) < FEWEST_TRAIN or len(known[1]) < FEWEST_VALIDATION:
        remedy = "label more" if config.label_fraction == 1.0 else "label more, or raise --label-fraction"
        raise TrainerError(
            f"{dataset.location}: {task.source}: expected at least {FEWEST_TRAIN} labels to train on "
            f"and {FEWEST_VALIDATION} to judge by, got {len(chosen)} and {len(known[1])} ({unusable} of "
            f"{len(train) + len(validation)} are missing, out of range or of too few votes); {remedy}"
        )
    return Labels(chosen, known[1], unusable)
