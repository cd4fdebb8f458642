"""The judging of a morphology run: accuracy over the labelled test galaxies, and which class is taken for which."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sharding import Dataset

from . import figures
from .config import FinetuneConfig
from .errors import TrainerError
from .inference import predict
from .metrics import bootstrap_error
from .runfolder import RunInfo
from .tasks import class_name


def judge_morphology(run: Path, dataset: Dataset, config: FinetuneConfig) -> dict[str, Any]:
    """Score every test galaxy of a class that the run knows; write the figure; return the scores."""
    classes = RunInfo.read(run).classes
    test = dataset.split("test")
    names = [class_name(value) for value in dataset.column(config.label_column)[test].tolist()]
    known = np.array([name in classes for name in names], dtype=np.bool_)
    if not known.any():
        raise TrainerError(
            f"{dataset.location}: expected classes {', '.join(classes)} in the test split, got none of them"
        )
    truth = np.array([classes.index(name) for name in names if name in classes], dtype=np.int64)
    answer = predict(run, dataset, test[known]).argmax(axis=1)
    counts = confusion(truth, answer, len(classes))
    figures.confusion_figure(run / "figures" / "confusion.png", counts, classes)
    right = (answer == truth).astype(np.float64)
    return {
        "n": len(truth),
        "accuracy": float(right.mean()),
        "accuracy_error": bootstrap_error(right, _mean, seed=0),
        "unlabelled": len(test) - len(truth),
        "classes": list(classes),
        "confusion": counts.tolist(),
    }


def confusion(truth: npt.NDArray[np.int64], answer: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    """Number of galaxies of each true class (row) that were given each class (column)."""
    return np.bincount(truth * classes + answer, minlength=classes**2).reshape(classes, classes)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean())
