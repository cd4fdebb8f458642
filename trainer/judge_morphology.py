"""The judging of morphology: the class given to every labelled test galaxy, its scores, a table of them and figures.

Where the labels are votes (`galaxy_zoo`), a galaxy's true class is that of the majority; the log loss and the
calibration are held against the shares of the votes, which is what was learnt.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sharding import Dataset, atomic_file

from . import classification, figures_morphology
from .classification import Ranking, confusion
from .config import FinetuneConfig
from .errors import TrainerError
from .tasks import make_morphology

Indices = npt.NDArray[np.int64]
Answer = Callable[[Indices], npt.NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class Judged:
    """What is said of some galaxies, and what is so."""

    indices: Indices
    classes: tuple[str, ...]
    shares: npt.NDArray[np.float32]  # (galaxy, class)
    probabilities: npt.NDArray[np.float32]  # (galaxy, class)

    @property
    def truth(self) -> Indices:
        """The number of each galaxy's class."""
        return np.asarray(self.shares.argmax(axis=1))

    @property
    def answer(self) -> Indices:
        """The number of the class given to each galaxy, its most probable one."""
        return np.asarray(self.probabilities.argmax(axis=1))


def judge_morphology(
    out: Path, dataset: Dataset, config: FinetuneConfig, classes: tuple[str, ...], answer: Answer
) -> dict[str, Any]:
    """Score every test galaxy of one of the ``classes``; write the table and the figures in ``out``; return the scores.

    ``answer`` gives the probability of each class for these samples: (n, classes), rows sum to one. Returned: n,
    accuracy, balanced_accuracy, auc (the mean over the classes of each against the rest) and log_loss [nat], each with
    its bootstrap error; auc_of_class, confusion, classes, and the number of galaxies ``unlabelled``. What is undefined,
    for want of a class in the test split, is None.
    """
    judged = ask(dataset, config, classes, answer)
    counts = confusion(judged.truth, judged.answer, len(classes))
    rankings = rank(judged)
    write_predictions(out / "predictions.parquet", dataset, judged)
    draw(out / "figures", judged, counts, rankings)
    areas = [ranking.auc() for ranking in rankings]
    return {
        "n": len(judged.indices),
        **score(judged, rankings),
        "auc_of_class": {name: _defined(area) for name, area in zip(classes, areas, strict=True)},
        "unlabelled": len(dataset.split("test")) - len(judged.indices),
        "classes": list(classes),
        "confusion": counts.tolist(),
    }


def ask(dataset: Dataset, config: FinetuneConfig, classes: tuple[str, ...], answer: Answer) -> Judged:
    """What is said of every labelled galaxy of the test split."""
    task = make_morphology(config, dataset, classes)
    test = dataset.split("test")
    indices = test[task.known(test)]
    if len(indices) == 0:
        raise TrainerError(
            f"{dataset.location}: {task.source}: expected classes {', '.join(classes)} in the test split, got none of "
            "them; choose another dataset"
        )
    probabilities = np.asarray(answer(indices), dtype=np.float32)
    return Judged(indices, classes, task.shares(indices), probabilities)


def rank(judged: Judged) -> list[Ranking]:
    """For each class the galaxies in the order of its probability."""
    return [
        Ranking(judged.truth == number, judged.probabilities[:, number].astype(np.float64))
        for number in range(len(judged.classes))
    ]


def score(judged: Judged, rankings: list[Ranking]) -> dict[str, float | None]:
    """Each score and its bootstrap error, by name."""
    names = ("accuracy", "balanced_accuracy", "auc", "log_loss")
    losses = classification.log_losses(judged.shares, judged.probabilities)
    truth, answer = judged.truth, judged.answer

    def figures(weight: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        counts = confusion(truth, answer, len(judged.classes), weight)
        accuracies = classification.accuracy(counts), classification.balanced_accuracy(counts)
        return np.array([*accuracies, mean_auc(rankings, weight), weight @ losses / weight.sum()])

    n = len(truth)
    values = figures(np.ones(n, dtype=np.int64))
    errors = classification.bootstrap_errors(figures, n, seed=0)
    return {
        key: _defined(value)
        for name, figure, error in zip(names, values, errors, strict=True)
        for key, value in ((name, figure), (f"{name}_error", error))
    }


def mean_auc(rankings: list[Ranking], weight: npt.NDArray[np.int64]) -> float:
    """The mean area under the curves of the classes that have one; NaN where none has."""
    areas = np.array([ranking.auc(weight) for ranking in rankings])
    defined = areas[np.isfinite(areas)]
    return float(defined.mean()) if len(defined) else np.nan


def write_predictions(path: Path, dataset: Dataset, judged: Judged) -> None:
    """One row a galaxy: objid, truth and answer by name, the share of each class in truth, and its probability.

    The names of the classes, in their order, are in the file's metadata.
    """
    names = np.array(judged.classes, dtype=object)
    table = pa.table(
        {
            "objid": dataset.column("objid").astype(np.int64)[judged.indices],
            "truth": pa.array(names[judged.truth], pa.string()),
            "answer": pa.array(names[judged.answer], pa.string()),
            "shares": _rows(judged.shares),
            "probabilities": _rows(judged.probabilities),
        },
        metadata={"classes": json.dumps(judged.classes)},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def draw(folder: Path, judged: Judged, counts: npt.NDArray[np.int64], rankings: list[Ranking]) -> None:
    """confusion.png, roc.png and reliability.png."""
    title = f"{len(judged.indices):,} test galaxies"
    figures_morphology.confusion_figure(folder / "confusion.png", counts, judged.classes)
    figures_morphology.roc_figure(folder / "roc.png", rankings, judged.classes, title=title)
    # Of two classes one says it all: the other's points are the same, turned about the middle
    columns = slice(0, 1) if len(judged.classes) == 2 else slice(None)
    said = classification.reliability(
        judged.shares[:, columns].ravel().astype(np.float64),
        judged.probabilities[:, columns].ravel().astype(np.float64),
    )
    what = judged.classes[0] if len(judged.classes) == 2 else "each class"
    figures_morphology.reliability_figure(folder / "reliability.png", said, what=what, title=title)


def _rows(table: npt.NDArray[np.float32]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(table.ravel(), pa.float32()), table.shape[1])


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
