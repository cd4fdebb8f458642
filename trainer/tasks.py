"""What a head learns: the labels of a dataset as classes, and how answers on the validation split are scored.

Only the training and validation splits are looked at here; the test split's labels are `evaluate`'s.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sharding import Dataset

from . import photoz
from .config import FinetuneConfig
from .errors import TrainerError
from .metrics import residuals, sigma_mad

Indices = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]


@runtime_checkable  # the tests check arguments by their types
class Task(Protocol):
    """Labels as class numbers; a redshift's class is its bin."""

    outputs: int
    classes: tuple[str, ...]  # names, where the classes have any
    score_name: str  # the validation score by which the best epoch is chosen

    def known(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """Which of these samples have a label that can be learnt."""
        ...

    def target(self, indices: Indices) -> Indices:
        """The class of each of these samples, which must be `known`."""
        ...

    def score(self, probabilities: FloatArray, indices: Indices) -> float:
        """How good the answers (n, outputs) for these samples are; lower is better."""
        ...

    def describe(self, score: float) -> str:
        """A score as a person reads it."""
        ...


class Photoz:
    """Redshift, as in `photoz`; judged by sigma_MAD."""

    classes: tuple[str, ...] = ()
    score_name = "validation_sigma_mad"

    def __init__(self, redshift: FloatArray, bins: int) -> None:
        self._redshift = redshift
        self.outputs = bins

    def known(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """Finite and within the bins."""
        return photoz.in_range(self._redshift[indices])

    def target(self, indices: Indices) -> Indices:
        """The bin that holds each redshift."""
        return photoz.to_bin(self._redshift[indices], self.outputs)

    def score(self, probabilities: FloatArray, indices: Indices) -> float:
        """sigma_MAD of the point estimates."""
        return sigma_mad(residuals(photoz.estimate(probabilities), self._redshift[indices]))

    def describe(self, score: float) -> str:
        """The score with its name."""
        return f"validation sigma_mad {score:.4f}"


class Morphology:
    """Classes of text or whole numbers; judged by the share of wrong answers."""

    score_name = "validation_error"

    def __init__(self, labels: Sequence[str | None], train: Indices) -> None:
        """The classes are those of the ``train`` samples, sorted by name; None is no label."""
        self.classes = tuple(sorted({label for label in (labels[i] for i in train) if label is not None}))
        self.outputs = len(self.classes)
        number = {name: place for place, name in enumerate(self.classes)}
        self._target = np.array([-1 if label is None else number.get(label, -1) for label in labels], dtype=np.int64)

    def known(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """Of a class that training has."""
        return np.asarray(self._target[indices] >= 0)

    def target(self, indices: Indices) -> Indices:
        """The number of each class."""
        return self._target[indices]

    def score(self, probabilities: FloatArray, indices: Indices) -> float:
        """The share of samples whose most probable class is not theirs."""
        return float(np.mean(probabilities.argmax(axis=1) != self._target[indices]))

    def describe(self, score: float) -> str:
        """The score with its name."""
        return f"validation error {score:.1%}"


def make_task(config: FinetuneConfig, dataset: Dataset) -> Task:
    """The task of a configuration on a dataset; DatasetError or TrainerError where its column is missing or unfit."""
    column = config.label_column
    values = dataset.column(column)
    if config.task == "photoz":
        if values.dtype.kind not in "fiu":
            raise TrainerError(
                f"{dataset.location}: column {column}: expected redshifts, got {values.dtype}; choose --label"
            )
        return Photoz(values.astype(np.float64), config.bins)
    task = Morphology([class_name(value) for value in values.tolist()], dataset.split("train"))
    if task.outputs < 2:
        raise TrainerError(f"{dataset.location}: column {column}: expected at least 2 classes, got {task.outputs}")
    return task


def class_name(value: object) -> str | None:
    """A label as text; None for a missing one. TrainerError for a number that is not whole."""
    if value is None or value == "" or value != value:  # NaN alone differs from itself
        return None
    if isinstance(value, float) and not value.is_integer():
        raise TrainerError(f"label {value}: expected text or whole numbers as classes; choose another --label")
    return str(int(value)) if isinstance(value, float) else str(value)
