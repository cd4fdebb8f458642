"""Methods without a network: against scikit-learn, the choice by validation, and what they may not see."""

import importlib
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from trainer import metrics
from trainer.baselines import Photometry
from trainer.config import Task
from trainer.errors import TrainerError
from trainer.study import catalogue
from trainer.study.catalogue import CATALOGUE_METHODS, CatalogueMethod, Labelled, catalogue_answer, encoder_answer
from trainer.study.results import Values

TRAIN, VALIDATION, ASKED = np.arange(120), np.arange(120, 180), np.arange(180, 230)
GALAXIES = 230
TASKS: tuple[Task, ...] = ("photoz", "morphology")


def make_features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(GALAXIES, 3))


def make_values(task: Task, features: np.ndarray) -> Values:
    """Labels that the first feature tells, nearly."""
    hidden = features[:, 0] + np.random.default_rng(1).normal(0, 0.3, GALAXIES)
    return 0.15 + 0.05 * hidden if task == "photoz" else np.digitize(hidden, [-0.5, 0.5]).astype(np.float64)


def make_photometry(features: np.ndarray, known: np.ndarray | None = None) -> Photometry:
    return Photometry(features, np.ones(GALAXIES, bool) if known is None else known, "2 colours and r")


def ask(
    method: CatalogueMethod, task: Task, photometry: Photometry, values: Values, candidates: int = 3
) -> tuple[Values, str]:
    known, validation = (Labelled(some, values[some]) for some in (TRAIN, VALIDATION))
    return catalogue_answer(method, photometry, known, validation, ASKED, task=task, candidates=candidates, seed=3)


def error(answer: Values, truth: Values, task: Task) -> float:
    if task == "morphology":
        return float(np.mean(answer != truth))
    return metrics.sigma_mad(metrics.residuals(answer, truth))


@pytest.mark.parametrize("task", TASKS)
def test_neighbours_in_the_catalogue(task: Task) -> None:
    features = make_features()
    values = make_values(task, features)
    scale = np.median(np.abs(features[TRAIN] - np.median(features[TRAIN], axis=0)), axis=0)
    kind = KNeighborsRegressor if task == "photoz" else KNeighborsClassifier
    models = {k: kind(k, algorithm="brute").fit(features[TRAIN] / scale, values[TRAIN]) for k in (10, 20, 5)}
    errors = {
        k: error(model.predict(features[VALIDATION] / scale), values[VALIDATION], task) for k, model in models.items()
    }
    k = min(errors, key=lambda each: errors[each])
    answer, chosen = ask("catalogue", task, make_photometry(features), values)
    assert chosen == f"k = {k}"
    np.testing.assert_allclose(answer, models[k].predict(features[ASKED] / scale), rtol=1e-13)


@pytest.mark.parametrize("task", TASKS)
def test_boosted_trees(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "TREES", 10)
    features = make_features()
    values = make_values(task, features)
    kind = HistGradientBoostingRegressor if task == "photoz" else HistGradientBoostingClassifier
    models = [
        kind(learning_rate=rate, max_iter=10, early_stopping=False, random_state=3).fit(features[TRAIN], values[TRAIN])
        for rate in (0.05, 0.1, 0.025)
    ]
    errors = [error(model.predict(features[VALIDATION]), values[VALIDATION], task) for model in models]
    best = errors.index(min(errors))
    answer, chosen = ask("trees", task, make_photometry(features), values)
    assert chosen == f"learning rate {(0.05, 0.1, 0.025)[best]:g}"
    # Threads may add up in another order.
    np.testing.assert_allclose(answer, models[best].predict(features[ASKED]), rtol=1e-9)
    again, _ = ask("trees", task, make_photometry(features), values)
    np.testing.assert_array_equal(answer, again)


def test_the_guess() -> None:
    features = make_features()
    redshift = make_values("photoz", features)
    answer, chosen = ask("guess", "photoz", make_photometry(features), redshift)
    assert (set(answer), chosen) == ({redshift[TRAIN].mean()}, "")
    classes = np.full(GALAXIES, 2.0)
    classes[:50] = 1.0
    answer, _ = ask("guess", "morphology", make_photometry(features), classes)
    assert set(answer) == {2.0}


@pytest.mark.parametrize("method", CATALOGUE_METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_an_answer_does_not_depend_on_who_else_is_asked_about(
    method: CatalogueMethod, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "TREES", 3)
    features = make_features()
    values = make_values(task, features)
    answer, chosen = ask(method, task, make_photometry(features), values)
    features[ASKED[1:]] += 1.0
    again, chosen_again = ask(method, task, make_photometry(features), values)
    assert chosen_again == chosen
    assert again[0] == answer[0]


@pytest.mark.parametrize("method", ["catalogue", "trees"])
def test_a_galaxy_without_magnitudes_teaches_nothing_and_gets_the_guess(
    method: CatalogueMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "TREES", 5)
    features = make_features()
    values = make_values("photoz", features)
    blind = np.isin(np.arange(GALAXIES), [TRAIN[3], VALIDATION[0], ASKED[5]])
    features[blind] = np.nan
    answer, chosen = ask(method, "photoz", make_photometry(features, ~blind), values)
    assert answer[5] == values[TRAIN].mean()
    seen = [np.setdiff1d(some, np.flatnonzero(blind)) for some in (TRAIN, VALIDATION, ASKED)]
    known, validation = (Labelled(some, values[some]) for some in seen[:2])
    expected = catalogue_answer(
        method, make_photometry(features), known, validation, seen[2], task="photoz", candidates=3, seed=3
    )
    np.testing.assert_array_equal(np.delete(answer, 5), expected[0])
    assert chosen == expected[1]


@pytest.mark.parametrize("method", ["catalogue", "trees"])
@pytest.mark.parametrize("blind", [TRAIN, VALIDATION, ASKED])
def test_all_get_the_guess_where_magnitudes_are_missing(method: CatalogueMethod, blind: np.ndarray) -> None:
    features = make_features()
    values = make_values("photoz", features)
    photometry = make_photometry(features, ~np.isin(np.arange(GALAXIES), blind))
    answer, chosen = ask(method, "photoz", photometry, values)
    assert (set(answer), chosen) == ({values[TRAIN].mean()}, "")


def test_trees_of_one_class() -> None:
    answer, _ = ask("trees", "morphology", make_photometry(make_features()), np.ones(GALAXIES))
    assert set(answer) == {1.0}


@pytest.mark.parametrize("task", TASKS)
def test_neighbours_by_the_encoder(task: Task) -> None:
    features = make_features()
    values = make_values(task, features)
    known, validation = (Labelled(some, values[some]) for some in (TRAIN, VALIDATION))
    kind = KNeighborsRegressor if task == "photoz" else KNeighborsClassifier
    models = {k: kind(k, algorithm="brute", metric="cosine").fit(features[TRAIN], values[TRAIN]) for k in (10, 20, 5)}
    errors = {k: error(model.predict(features[VALIDATION]), values[VALIDATION], task) for k, model in models.items()}
    k = min(errors, key=lambda each: errors[each])
    answer, chosen = encoder_answer(features, known, validation, ASKED, task=task, candidates=3)
    assert chosen == f"k = {k}"
    np.testing.assert_allclose(answer, models[k].predict(features[ASKED]), rtol=1e-13)


@pytest.mark.parametrize(
    ("candidates", "tried"),
    [(1, [10]), (3, [10, 20, 5]), (5, [10, 20, 5, 30, 2]), (11, [10, 20, 5, 30, 2, 30, 1, 30, 1, 30, 1])],
)
def test_as_many_candidates_as_asked_for_and_no_more_neighbours_than_galaxies(
    candidates: int, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(catalogue, "_best", lambda choices, *_: seen.extend(choices) or choices[0])
    features = make_features()
    values = make_values("photoz", features)
    known, validation = (Labelled(some, values[some]) for some in (TRAIN[:30], VALIDATION))
    encoder_answer(features, known, validation, ASKED, task="photoz", candidates=candidates)
    assert seen == tried


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def missing(name: str, *rest: Any) -> Any:
        if name == "sklearn":
            raise ModuleNotFoundError("no such module", name="sklearn")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    features = make_features()
    with pytest.raises(
        TrainerError, match=r"trees: expected the package sklearn, got none; pip install 'skymill\[study\]'"
    ):
        ask("trees", "photoz", make_photometry(features), make_values("photoz", features))
