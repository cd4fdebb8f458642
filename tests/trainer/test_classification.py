"""The figures of a classification equal scikit-learn's on random tables, ties and missing classes included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from trainer import classification
from trainer.metrics import bootstrap_error, mean

Drawn = tuple[np.ndarray, np.ndarray]


@st.composite
def tables(draw: st.DrawFn) -> Drawn:
    """A true class and probabilities with many ties for each of some galaxies; not every class need occur."""
    n, classes = draw(st.integers(2, 40)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = rng.integers(0, classes, n)
    truth[:2] = 0, 1  # a ROC needs two
    votes = rng.integers(0, 4, (n, classes)) + np.eye(classes, dtype=np.int64)[rng.integers(0, classes, n)]
    return truth, votes / votes.sum(axis=1, keepdims=True)


@settings(max_examples=25)
@given(tables())
def test_accuracies_and_confusion_are_scikit_learns(drawn: Drawn) -> None:
    truth, probabilities = drawn
    answer, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    counts = classification.confusion(truth, answer, classes)
    assert np.array_equal(counts, reference.confusion_matrix(truth, answer, labels=range(classes)))
    assert classification.accuracy(counts) == pytest.approx(reference.accuracy_score(truth, answer), rel=1e-12)
    recall = reference.recall_score(truth, answer, labels=np.unique(truth), average="macro")  # of classes that occur
    assert classification.balanced_accuracy(counts) == pytest.approx(recall, rel=1e-12)


@settings(max_examples=25)
@given(tables())
def test_the_roc_is_scikit_learns_and_weights_are_repetitions(drawn: Drawn) -> None:
    truth, probabilities = drawn
    positive, score = truth == 0, probabilities[:, 0]
    ranking = classification.Ranking(positive, score)
    false_positive, true_positive, _ = reference.roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(ranking.curve().false_positive, false_positive, rtol=0, atol=1e-15)
    np.testing.assert_allclose(ranking.curve().true_positive, true_positive, rtol=0, atol=1e-15)
    assert ranking.auc() == pytest.approx(reference.roc_auc_score(positive, score), abs=1e-12)
    weight = np.random.default_rng(len(truth)).integers(0, 3, len(truth))
    weight[:2] = 1
    rows = np.repeat(np.arange(len(truth)), weight)
    repeated = classification.Ranking(positive[rows], score[rows])
    assert ranking.auc(weight) == pytest.approx(repeated.auc(), abs=1e-12)


def test_the_area_is_how_often_the_class_scores_above_the_others_ties_half() -> None:
    rng = np.random.default_rng(3)
    positive, score = rng.random(60) < 0.4, rng.integers(0, 8, 60) / 8
    above = score[positive][:, None] - score[~positive]
    assert classification.Ranking(positive, score).auc() == pytest.approx(np.mean((np.sign(above) + 1) / 2), abs=1e-12)
    assert classification.Ranking(positive, -score).auc() == pytest.approx(np.mean((1 - np.sign(above)) / 2), abs=1e-12)


def test_there_is_no_area_where_all_are_of_one_class() -> None:
    for positive in (np.ones(3, np.bool_), np.zeros(3, np.bool_)):
        assert np.isnan(classification.Ranking(positive, np.array([0.1, 0.5, 0.5])).auc())


@settings(max_examples=25)
@given(tables())
def test_log_loss_is_scikit_learns(drawn: Drawn) -> None:
    truth, probabilities = drawn
    classes = probabilities.shape[1]
    said = probabilities.astype(np.float32)  # zeros are clipped at its epsilon
    each = classification.log_losses(np.eye(classes)[truth], said)
    expected = reference.log_loss(truth, said / said.sum(axis=1, keepdims=True), labels=range(classes))
    assert each.mean() == pytest.approx(expected, rel=1e-5, abs=1e-5)  # float32 probabilities, one clip at each end


def test_log_loss_of_shares_is_least_where_the_shares_are_said() -> None:
    shares = np.random.default_rng(0).dirichlet([1, 1, 1], 50)
    entropy = -np.sum(shares * np.log(shares), axis=1)
    np.testing.assert_allclose(classification.log_losses(shares, shares), entropy, rtol=1e-9)
    other = np.roll(shares, 1, axis=0)
    assert np.all(classification.log_losses(shares, other) >= entropy)


@settings(max_examples=25)
@given(tables())
def test_reliability_is_scikit_learns(drawn: Drawn) -> None:
    truth, probabilities = drawn
    made = classification.reliability((truth == 0).astype(np.float64), probabilities[:, 0])
    so, said = calibration_curve(truth == 0, probabilities[:, 0], n_bins=10)
    np.testing.assert_allclose(made.so, so, atol=1e-12)
    np.testing.assert_allclose(made.said, said, atol=1e-12)
    assert made.number.sum() == len(truth)


def test_the_bootstrap_is_that_of_the_other_metrics() -> None:
    right = (np.random.default_rng(1).random(300) < 0.8).astype(np.float64)

    def figures(weight: np.ndarray) -> np.ndarray:
        return np.array([weight @ right / weight.sum()])

    made = classification.bootstrap_errors(figures, 300, seed=0)
    assert made[0] == pytest.approx(bootstrap_error(right, mean, seed=0), rel=1e-9)
    # Of a share p of n: sqrt(p (1 - p) / n), which 1,000 draws tell to 1 / sqrt(2,000); five times that
    assert made[0] == pytest.approx(right.std() / 300**0.5, rel=5 / 2000**0.5)


def test_resamplings_that_leave_a_figure_undefined_do_not_count() -> None:
    positive, score = np.arange(4) == 0, np.array([0.9, 0.1, 0.2, 0.95])
    ranking = classification.Ranking(positive, score)

    def figures(weight: np.ndarray) -> np.ndarray:
        return np.array([ranking.auc(weight), np.nan])

    error = classification.bootstrap_errors(figures, 4, seed=0)
    assert 0 < error[0] < 0.5  # one of four is not drawn in (3/4)^4 of the resamplings
    assert np.isnan(error[1])
