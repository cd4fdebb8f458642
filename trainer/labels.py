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

    @property
    def enough(self) -> bool:
        """Whether a figure of skill that comes of them is more than noise."""
        return len(self.train) >= FEWEST_TRAIN and len(self.validation) >= FEWEST_VALIDATION


def choose_labels(config: FinetuneConfig, dataset: Dataset, task: Task) -> Labels:
    """The labelled galaxies of both splits, of training about the share that ``label_fraction`` says.

    Chosen as `draw_labels` does. Raises TrainerError where too few are left.
    """
    labels = draw_labels(dataset, task, config.label_fraction, config.seed)
    if not labels.enough:
        remedy = "label more" if config.label_fraction == 1.0 else "label more, or raise --label-fraction"
        members = len(dataset.split("train")) + len(dataset.split("validation"))
        raise TrainerError(
            f"{dataset.location}: {task.source}: expected at least {FEWEST_TRAIN} labels to train on "
            f"and {FEWEST_VALIDATION} to judge by, got {len(labels.train)} and {len(labels.validation)} "
            f"({labels.unusable} of {members} are missing, out of range or of too few votes); {remedy}"
        )
    return labels


def draw_labels(dataset: Dataset, task: Task, fraction: float, seed: int) -> Labels:
    """The labelled galaxies of both splits, of training about this share; there may be too few of them.

    Chosen by the galaxy's identity and the seed, all observations of it together; a smaller fraction's galaxies are
    among a larger one's.
    """
    train, validation = dataset.split("train"), dataset.split("validation")
    known = [members[task.known(members)] for members in (train, validation)]
    unusable = len(train) + len(validation) - sum(map(len, known))
    chosen = known[0][within_fraction(dataset.identity()[known[0]], fraction, seed)]
    return Labels(chosen, known[1], unusable)
