"""Answers of methods that train no network: from catalogue magnitudes, and from the pre-trained encoder's neighbours.

Each has as many settings to choose among as a network has learning rates, spread around a usual value in the same way,
by factors of two, and validation chooses by the same score. No method here is given a label of a galaxy that it is
asked about.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ..baselines import Photometry, nearest_galaxies
from ..config import Task
from ..extras import require
from ..metrics import residuals, sigma_mad
from ..neighbours import nearest
from .results import Indices, Values

CatalogueMethod = Literal["catalogue", "trees", "guess"]
CATALOGUE_METHODS: tuple[CatalogueMethod, ...] = ("catalogue", "trees", "guess")

USUAL_NEIGHBOURS = 10.0
USUAL_TREE_RATE = 0.05
TREES = 200  # of each class

Features = npt.NDArray[np.floating[Any]]
Choice = TypeVar("Choice", int, float)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Galaxies of one split and their labels."""

    indices: Indices  # in the dataset
    values: Values  # (galaxy,) redshifts, or class numbers


def catalogue_answer(
    method: CatalogueMethod,
    catalogue: Photometry,
    known: Labelled,
    validation: Labelled,
    asked: Indices,
    *,
    task: Task,
    candidates: int,
    seed: int,
) -> tuple[Values, str]:
    """What a method that sees no image says of the galaxies ``asked``, (n,), and what validation chose, for people.

    ``known`` are the galaxies to learn from. A galaxy without magnitudes teaches nothing, takes no part in the choice
    and is given the guess: the mean redshift, or the most frequent class. Raises TrainerError where trees are asked
    for and scikit-learn is not installed.
    """
    answer = np.full(len(asked), _guess(known.values, task))
    known, validation = (_with_magnitudes(some, catalogue) for some in (known, validation))
    seen = catalogue.known[asked]
    if method == "guess" or not (len(known.values) and len(validation.values) and seen.any()):
        return answer, ""
    if method == "trees":
        answer[seen], chosen = _trees(catalogue.features, known, validation, asked[seen], task, candidates, seed)
        return answer, chosen
    features = catalogue.features

    def search(indices: Indices, k: int) -> Indices:
        return nearest_galaxies(features[known.indices], features[indices], k)

    answer[seen], chosen = _neighbours(search, known, validation, asked[seen], task, candidates)
    return answer, chosen


def encoder_answer(
    vectors: Features,
    known: Labelled,
    validation: Labelled,
    asked: Indices,
    *,
    task: Task,
    candidates: int,
) -> tuple[Values, str]:
    """What the labels of the nearest galaxies say, by the cosine of the encoder's ``vectors`` (dataset index, feature).

    Returns the answers for ``asked``, (n,), and what validation chose, for people.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    table = torch.from_numpy(vectors[known.indices]).to(device)

    def search(indices: Indices, k: int) -> Indices:
        return np.asarray(nearest(torch.from_numpy(vectors[indices]).to(device), [table], k).row_QK.cpu().numpy())

    return _neighbours(search, known, validation, asked, task, candidates)


def _neighbours(
    search: Callable[[Indices, int], Indices],
    known: Labelled,
    validation: Labelled,
    asked: Indices,
    task: Task,
    candidates: int,
) -> tuple[Values, str]:
    """The vote of the k nearest; ``search`` finds their places among the known galaxies, nearest first: (n, k)."""
    choices = [min(max(1, round(k)), len(known.indices)) for k in _spread(USUAL_NEIGHBOURS, candidates)]
    found = search(validation.indices, max(choices))
    k = _best(choices, [_vote(known.values[found[:, :k]], task) for k in choices], validation.values, task)
    return _vote(known.values[search(asked, k)], task), f"k = {k}"


def _vote(votes: npt.NDArray[np.float64], task: Task) -> Values:
    """Of (n, k) labels: the mean redshift, or the class with most votes; of equal ones that of the lower number."""
    if task == "photoz":
        return np.asarray(votes.mean(axis=1))
    classes = int(votes.max(initial=0)) + 1
    counts = np.stack([(votes == number).sum(axis=1) for number in range(classes)], axis=1)
    return np.asarray(counts.argmax(axis=1), dtype=np.float64)


def _trees(
    features: Features,
    known: Labelled,
    validation: Labelled,
    asked: Indices,
    task: Task,
    candidates: int,
    seed: int,
) -> tuple[Values, str]:
    """Gradient-boosted regression trees, scikit-learn's; their number is fixed, validation chooses the learning rate.

    On one thread: sums in another order could make other trees.
    """
    needs = {"extra": "study", "needed_by": "study: gradient-boosted trees"}
    require("sklearn", **needs)
    ensemble = require("sklearn.ensemble", **needs)
    threads = require("threadpoolctl", **needs)  # comes with scikit-learn
    if np.ptp(known.values) == 0:  # a classifier wants two classes
        return np.full(len(asked), known.values[0]), ""
    kind = ensemble.HistGradientBoostingRegressor if task == "photoz" else ensemble.HistGradientBoostingClassifier
    rates = _spread(USUAL_TREE_RATE, candidates)
    with threads.threadpool_limits(1):
        models = [
            kind(learning_rate=rate, max_iter=TREES, early_stopping=False, random_state=seed).fit(
                features[known.indices], known.values
            )
            for rate in rates
        ]
        answers = [model.predict(features[validation.indices]) for model in models]
        rate = _best(rates, answers, validation.values, task)
        return np.asarray(models[rates.index(rate)].predict(features[asked])), f"learning rate {rate:g}"


def _best(choices: Sequence[Choice], answers: Sequence[Values], truth: Values, task: Task) -> Choice:
    """The choice whose answers for the validation split have the lowest error; the first of equal ones."""
    errors = [_error(answer, truth, task) for answer in answers]
    return choices[errors.index(min(errors))]


def _error(answer: Values, truth: Values, task: Task) -> float:
    """The score by which a network's best epoch is chosen, too (`tasks`)."""
    return sigma_mad(residuals(answer, truth)) if task == "photoz" else float(np.mean(answer != truth))


def _guess(values: Values, task: Task) -> float:
    return float(values.mean() if task == "photoz" else np.bincount(values.astype(np.int64)).argmax())


def _spread(usual: float, count: int) -> list[float]:
    """So many values: the usual one, then its double and its half, four times and a quarter, and so on."""
    powers = [0, *(sign * power for power in range(1, count) for sign in (1, -1))]
    return [usual * 2.0**power for power in powers[:count]]


def _with_magnitudes(some: Labelled, catalogue: Photometry) -> Labelled:
    seen = catalogue.known[some.indices]
    return Labelled(some.indices[seen], some.values[seen])
