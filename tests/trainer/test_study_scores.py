"""Figures and errors of a study against closed forms, and against those of a single run."""

import math
from itertools import pairwise

import numpy as np
import pytest

from trainer import metrics
from trainer.config import Task
from trainer.errors import TrainerError
from trainer.study import scores
from trainer.study.results import Answer, Method, Row, Truth, Values
from trainer.study.scores import score


def make_row(
    *answers: Values,
    task: Task = "photoz",
    method: Method = "supervised",
    variant: str = "",
    fraction: float = 1.0,
) -> Row:
    held = tuple(Answer(seed=seed, labels=100, chosen="", values=values) for seed, values in enumerate(answers))
    return Row(task=task, method=method, variant=variant, fraction=fraction, answers=held)


def make_truth(values: Values, task: Task = "photoz") -> Truth:
    return Truth(task=task, indices=np.arange(len(values)), values=values)


@pytest.mark.parametrize("galaxies", [1, 2, 301])
def test_one_seed_has_the_figures_and_the_errors_of_a_run(galaxies: int) -> None:
    rng = np.random.default_rng(galaxies)
    truth = rng.uniform(0, 0.3, galaxies)
    answer = truth + rng.normal(0.002, 0.03, galaxies)
    expected = metrics.score_photoz(answer, truth, seed=4)
    (found,) = score([make_row(answer)], make_truth(truth), seed=4)
    assert found.galaxies == galaxies
    for name in ("sigma_mad", "eta", "bias"):
        # The same draws; only the order of sums differs.
        assert math.isclose(found.figures[name].value, getattr(expected, name), rel_tol=1e-12, abs_tol=1e-15)
        assert math.isclose(found.figures[name].error, getattr(expected, f"{name}_error"), rel_tol=1e-9, abs_tol=1e-15)


def test_the_error_of_a_gaussians_sigma_mad() -> None:
    """sigma_MAD of n Gaussian values scatters by 1.166 sigma / sqrt(n).

    The median absolute deviation m has P(|x| < m) = 1/2; |x| has the density 2 phi(m) there, so that the median of |x|
    scatters by 1 / (2 * 2 phi(m) sqrt(n)) (the median that is subtracted first adds nothing in a symmetric density).
    With m = 0.67449 phi(m) is 0.31778, and 1.4826 / (4 * 0.31778) is 1.166.
    """
    rng = np.random.default_rng(1)
    galaxies, rows = 2000, 5
    truth = np.zeros(galaxies)
    drawn = [make_row(rng.normal(0, 0.02, galaxies), fraction=1 / (1 + n)) for n in range(rows)]
    scores = score(drawn, make_truth(truth), draws=400)
    errors = [each.figures["sigma_mad"].error for each in scores]
    # The bootstrap's error of a quantile scatters by about n ** -1/4 = 15 %, the mean of five by 7 %; allow 2.5 times.
    assert math.isclose(np.mean(errors), 1.166 * 0.02 / math.sqrt(galaxies), rel_tol=0.18)


def test_the_error_of_an_accuracy_is_binomial() -> None:
    galaxies, right = 400, 300
    truth = np.zeros(galaxies)
    answer = np.where(np.arange(galaxies) < right, 0.0, 2.0)
    (found,) = score([make_row(answer, task="morphology")], make_truth(truth, "morphology"), draws=4000)
    assert found.figures.keys() == {"accuracy"}
    assert found.figures["accuracy"].value == 0.75
    # A standard deviation of 4000 draws is known to 1 / sqrt(8000) = 1.1 %; allow five times that.
    assert math.isclose(found.figures["accuracy"].error, math.sqrt(0.75 * 0.25 / galaxies), rel_tol=0.056)


def test_rows_share_their_galaxies() -> None:
    """So two that answer the same differ in no draw, and one that is 0.01 more is so in each."""
    rng = np.random.default_rng(2)
    truth = rng.uniform(0, 0.3, 200)
    answer = truth + rng.normal(0, 0.03, 200)
    rows = [
        make_row(answer),
        make_row(answer, method="finetuned"),
        make_row(answer + 0.01 * (1 + truth), method="probe"),
    ]
    first, same, more = (each.figures["bias"].draws for each in score(rows, make_truth(truth), draws=50))
    np.testing.assert_array_equal(first, same)
    np.testing.assert_allclose(more - first, 0.01, rtol=1e-12)


def test_a_row_is_scored_as_if_it_were_alone() -> None:
    """Beside those of other methods."""
    rng = np.random.default_rng(3)
    truth = rng.uniform(0, 0.3, 50)
    methods: list[Method] = ["supervised", "finetuned", "probe"]
    rows = [make_row(*(truth + rng.normal(0, 0.03, (3, 50))), method=method) for method in methods]
    together = score(rows, make_truth(truth), draws=20)
    (alone,) = score(rows[1:2], make_truth(truth), draws=20)
    np.testing.assert_array_equal(together[1].figures["eta"].draws, alone.figures["eta"].draws)


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_seeds_part(seeds: int) -> None:
    """Where all galaxies err alike only seeds matter: the error is that of their mean, its coverage Student's.

    Each row is of another pre-training, so that it is alone.
    """
    rng = np.random.default_rng(seeds)
    trials, draws = 200, 15
    answers = rng.normal(0, 0.01, (trials, seeds))
    rows = [make_row(*(np.full(3, each) for each in some), variant=str(n)) for n, some in enumerate(answers)]
    found = [each.figures["bias"] for each in score(rows, make_truth(np.zeros(3)), draws=draws)]
    expected = answers.std(axis=1, ddof=1) / math.sqrt(seeds)
    ratio = np.array([each.error for each in found]) ** 2 / expected**2
    # The variance of d draws is known to sqrt(2 / (d - 1)); five standard errors of the mean over all trials.
    assert math.isclose(ratio.mean(), 1.0, abs_tol=5 * math.sqrt(2 / (draws - 1) / trials))
    covered = np.mean([abs(each.value) < each.error for each in found])
    student = {2: 0.5, 5: 0.6261}[seeds]  # P(|t| < 1) with k - 1 degrees of freedom
    assert abs(covered - student) < 5 * 0.5 / math.sqrt(trials)


def test_the_scatter_of_seeds_is_pooled_over_a_methods_rows() -> None:
    """Four rows of two seeds and one of a single seed: squares and degrees of freedom add up; others stay apart."""
    answers = [(0.0, 0.01), (0.0, 0.02), (0.0, 0.0), (0.0, 0.03), (0.0,)]  # the third has no scatter to be found
    rows = [make_row(*map(np.array, some), variant="a", fraction=(n + 1) / 5) for n, some in enumerate(answers)]
    rows.append(make_row(np.zeros(1), np.zeros(1), variant="b"))
    errors = scores._seed_errors(rows, [np.array([some]) for some in [*answers, (0.0, 0.5)]])
    variance = (0.01**2 + 0.02**2 + 0.03**2) / 2 / 3  # of a seed: two values d apart have d ** 2 / 2
    expected = [math.sqrt(variance / len(some)) * (some != (0.0, 0.0)) for some in answers]
    np.testing.assert_allclose(np.ravel(errors), [*expected, 0.25], rtol=1e-12)


def test_rows_have_deviates_of_their_own() -> None:
    truth = np.zeros(3)
    rows = [make_row(np.zeros(3), np.full(3, 0.01), fraction=fraction) for fraction in (0.1, 0.2)]
    rows += [make_row(np.zeros(3), np.full(3, 0.01), method="finetuned", fraction=0.1)]
    drawn = [each.figures["bias"].draws for each in score(rows, make_truth(truth))]
    for one, other in [*pairwise(drawn), (drawn[0], drawn[2])]:
        # The correlation of 1000 independent pairs scatters by 0.032.
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.16


@pytest.mark.parametrize(
    ("row", "truth", "text"),
    [
        (make_row(np.zeros(2)), make_truth(np.zeros(3)), r"photoz supervised 100 %, seed 0: expected 3 .*got 2, of"),
        (make_row(np.zeros(3), np.array([0, np.nan, 1])), make_truth(np.zeros(3)), r"seed 1: .*got 3, of which 2"),
        (make_row(np.zeros(2)), make_truth(np.array([0, np.inf])), r"expected finite labels, got 1 of 2"),
        (make_row(np.zeros(0)), make_truth(np.zeros(0)), r"one galaxy or more, got 1 to photoz for 0"),
        (make_row(), make_truth(np.zeros(3)), r"expected answers to photoz .*got 0 to photoz for 3"),
        (make_row(np.zeros(3)), make_truth(np.zeros(3), "morphology"), r"to morphology .*got 1 to photoz for 3"),
    ],
)
def test_what_cannot_be_compared_is_refused(row: Row, truth: Truth, text: str) -> None:
    with pytest.raises(TrainerError, match=text):
        score([row], truth)
