"""What a head learns: the labels of a dataset as classes, and how answers on the validation split are scored.

Only the training and validation splits are looked at here; the test split's labels are `evaluate`'s.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from sharding import Dataset

from . import photoz
from .config import FinetuneConfig
from .errors import TrainerError
from .galaxy_zoo import read_answers
from .metrics import residuals, sigma_mad

Indices = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]

MOST_CLASSES = 1000  # more are no classes but a column of numbers


@runtime_checkable  # the tests check arguments by their types
class Task(Protocol):
    """Labels as class numbers; a redshift's class is its bin."""

    outputs: int
    classes: tuple[str, ...]  # names, where the classes have any
    score_name: str  # the validation score by which the best epoch is chosen
    source: str  # where the labels come from, for messages

    def known(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """Which of these samples have a label that can be learnt."""
        ...

    def target(self, indices: Indices) -> Indices:
        """The class of each of these samples, which must be `known`."""
        ...

    def loss(self, outputs: Tensor, indices: Indices) -> Tensor:
        """The loss of each of these samples: (n,)."""
        ...

    def probabilities(self, outputs: Tensor) -> Tensor:
        """What outputs say: (n, outputs), rows sum to one."""
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

    def __init__(self, redshift: FloatArray, bins: int, source: str) -> None:
        self._redshift, self.source = redshift, source
        self.outputs = bins

    def known(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """Finite and within the bins."""
        return photoz.in_range(self._redshift[indices])

    def target(self, indices: Indices) -> Indices:
        """The bin that holds each redshift."""
        return photoz.to_bin(self._redshift[indices], self.outputs)

    def loss(self, outputs: Tensor, indices: Indices) -> Tensor:
        """Cross-entropy."""
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        return F.cross_entropy(logits, _beside(outputs, self.target(indices)), reduction="none")

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Softmax."""
        return outputs.softmax(dim=1)

    def score(self, probabilities: FloatArray, indices: Indices) -> float:
        """sigma_MAD of the point estimates."""
        return sigma_mad(residuals(photoz.estimate(probabilities), self._redshift[indices]))

    def describe(self, score: float) -> str:
        """The score with its name."""
        return f"validation sigma_mad {score:.4f}"


class Morphology:
    """Classes, or the shares of the votes that they got; judged by the share of wrong answers."""

    score_name = "validation_error"

    def __init__(self, classes: tuple[str, ...], place: Indices, rows: npt.NDArray[np.float32], source: str) -> None:
        """Galaxy i has the shares ``rows[place[i]]`` (row, class), or no label where ``place[i]`` is -1."""
        self.classes, self.outputs, self.source = classes, len(classes), source
        self._place, self._rows = place, rows

    def known(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """Of a class that training has, or with votes enough."""
        return np.asarray(self._place[indices] >= 0)

    def shares(self, indices: Indices) -> npt.NDArray[np.float32]:
        """The share of each class (n, classes), which is one for a galaxy's only class."""
        return self._rows[self._place[indices]]

    def target(self, indices: Indices) -> Indices:
        """The number of each galaxy's class, the one with most of the votes."""
        return np.asarray(self.shares(indices).argmax(axis=1))

    def loss(self, outputs: Tensor, indices: Indices) -> Tensor:
        """Cross-entropy against the shares."""
        logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        shares = _beside(outputs, self.shares(indices)).to(logits.dtype)
        return F.cross_entropy(logits, shares, reduction="none")

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Softmax."""
        return outputs.softmax(dim=1)

    def score(self, probabilities: FloatArray, indices: Indices) -> float:
        """The share of samples whose most probable class is not theirs."""
        return float(np.mean(probabilities.argmax(axis=1) != self.target(indices)))

    def describe(self, score: float) -> str:
        """The score with its name."""
        return f"validation error {score:.1%}"


def make_task(config: FinetuneConfig, dataset: Dataset) -> Task:
    """The task of a configuration on a dataset; DatasetError or TrainerError where its labels are missing or unfit."""
    if config.task == "morphology":
        return make_morphology(config, dataset)
    column = config.label_column
    values = dataset.column(column)
    if values.dtype.kind not in "fiu":
        raise TrainerError(
            f"{dataset.location}: column {column}: expected redshifts, got {values.dtype}; choose --label"
        )
    return Photoz(values.astype(np.float64), config.bins, f"column {column}")


def make_morphology(config: FinetuneConfig, dataset: Dataset, classes: tuple[str, ...] | None = None) -> Morphology:
    """The morphology of a configuration on a dataset: the answers to its question, or its column of labels.

    ``classes`` are those of a run that has learnt them; else they are the labels of the training split, sorted by name.
    """
    if config.question is not None:
        answers = read_answers(config.question, dataset)
        answered = np.isfinite(answers.shares[:, 0])  # a row is NaN or whole
        place = np.where(answered, np.arange(len(dataset)), -1)
        return Morphology(answers.classes, place, answers.shares, f"question {config.question}")
    source = f"column {config.label_column}"
    labels = [class_name(value) for value in dataset.column(config.label_column).tolist()]
    if classes is None:
        classes = tuple(sorted({label for label in (labels[i] for i in dataset.split("train")) if label is not None}))
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise TrainerError(
            f"{dataset.location}: {source}: expected 2 to {MOST_CLASSES} classes, got {len(classes)}; choose --label"
        )
    number = {name: place for place, name in enumerate(classes)}
    place = np.array([-1 if label is None else number.get(label, -1) for label in labels], dtype=np.int64)
    return Morphology(classes, place, np.eye(len(classes), dtype=np.float32), source)


def _beside(outputs: Tensor, values: npt.NDArray[np.generic]) -> Tensor:
    """Values on the outputs' device; the host does not wait for their copy."""
    held = torch.from_numpy(values)
    return held.pin_memory().to(outputs.device, non_blocking=True) if outputs.is_cuda else held.to(outputs.device)


def class_name(value: object) -> str | None:
    """A label as text; None for a missing one. TrainerError for a number that is not whole."""
    if value is None or value == "" or value != value:  # NaN alone differs from itself
        return None
    if isinstance(value, float) and not value.is_integer():
        raise TrainerError(f"label {value}: expected text or whole numbers as classes; choose another --label")
    return str(int(value)) if isinstance(value, float) else str(value)
