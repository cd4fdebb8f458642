"""Whether a dataset has labels enough, for a task at all and for each share of them; and what to say where it has not.

Labels of test galaxies are counted here, not looked at.
"""

from collections.abc import Sequence
from typing import get_args

from sharding import Dataset
from sharding.splits import Split

from ..config import FinetuneConfig, Task
from ..labels import FEWEST_TRAIN, FEWEST_VALIDATION
from ..tasks import Task as Labelling
from ..tasks import class_name, make_task
from .recipe import Recipe

# Labels of all splits below which a task's figures of skill would be noise, whatever share is learnt from.
FEWEST: dict[Split, int] = {"train": 100, "validation": FEWEST_VALIDATION, "test": 50}


def few_labels(recipe: Recipe, dataset: Dataset) -> dict[Task, str]:
    """The recipe's tasks that the dataset has too few labels for, each with a sentence that says so."""
    found: dict[Task, str] = {}
    for task in recipe.tasks:
        labelling = _labelling(task, dataset)
        count = {
            split: int(labelling.known(dataset.split(split)).sum()) if labelling else 0 for split in get_args(Split)
        }
        if any(count[split] < fewest for split, fewest in FEWEST.items()):
            known = sum(count.values())
            verb = "has" if known == 1 else "have"
            what = {"photoz": "a redshift", "morphology": "a class"}[task]
            found[task] = f"{known:,} of {len(dataset):,} samples {verb} {what}: too few to measure skill; no table."
    return found


def left_out(task: Task, fractions: Sequence[float], kept: Sequence[float]) -> list[str]:
    """A sentence about the shares of a task's labels that are too few to learn from; none where all are kept."""
    few = [f"{100 * each:g} %" for each in fractions if each not in kept]
    return [f"{task}: {', '.join(few)} of the labels are fewer than {FEWEST_TRAIN} and left out."] if few else []


def _labelling(task: Task, dataset: Dataset) -> Labelling | None:
    """The labels of a task; None where there are none, or a single class."""
    config = FinetuneConfig(task=task)
    if not dataset.has(config.label_column):
        return None
    if task == "morphology":
        values = dataset.column(config.label_column)[dataset.split("train")].tolist()
        if len({class_name(value) for value in values} - {None}) < 2:
            return None
    return make_task(config, dataset)
