"""Votes as labels: the published cuts give the published counts, and too few votes are no answer."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest

from sharding.tables import find_column, to_numpy
from trainer import galaxy_zoo
from trainer.errors import TrainerError
from trainer.galaxy_zoo import FEATURES, NOT_EDGE_ON, QUESTIONS, debiased, read_answers


class Table:
    """A catalogue in memory."""

    location = "votes.csv"

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.num_rows

    def has(self, name: str) -> bool:
        return find_column(self._table, name) is not None

    def column(self, name: str) -> np.ndarray:
        return to_numpy(self._table[find_column(self._table, name)], name)


@pytest.fixture(scope="module")
def stripe82(survey_data: Path) -> Table:
    """The votes on the coadded images of Stripe 82."""
    with gzip.open(survey_data / "catalogs" / "galaxyzoo2-stripe82-table5.csv.gz") as file:
        return Table(pc.read_csv(file))


def bars(**columns: object) -> Table:
    """One galaxy that many were asked about, and saw a bar in; ``columns`` change that."""
    given = {
        "features": 0.9, "not_edge_on": 0.9, "not_edge_on_votes": 20, "bar": 0.6, "no_bar": 0.2, "sample": "original",
    } | columns  # fmt: skip
    names = {
        "features": debiased(FEATURES), "not_edge_on": debiased(NOT_EDGE_ON),
        "not_edge_on_votes": f"{NOT_EDGE_ON}_count", "bar": "t03_bar_a06_bar_debiased",
        "no_bar": "T03_BAR_A07_NO_BAR_DEBIASED", "sample": "sample",
    }  # fmt: skip
    return Table(pa.table({names[name]: [value] for name, value in given.items() if value is not None}))


def test_the_five_classes_of_stripe_82_have_their_known_numbers(stripe82: Table) -> None:
    inside = galaxy_zoo.within_cuts(stripe82)
    assert dict(zip(galaxy_zoo.FIVE_CLASSES, inside.sum(axis=0).tolist(), strict=True)) == {
        "completely round": 4857,
        "in-between": 5853,
        "cigar-shaped": 1108,
        "edge-on": 1196,
        "spiral": 3610,
    }
    answers = read_answers("five_class", stripe82)
    answered = np.isfinite(answers.shares).all(axis=1)
    assert (int(answered.sum()), int((inside.sum(axis=1) > 1).sum())) == (15509, 553)
    assert np.array_equal(answers.shares[answered].sum(axis=1), np.ones(15509))
    assert np.array_equal(answers.shares[answered] == 1, inside[answered])


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_questions_shares_sum_to_one_and_are_of_well_sampled_galaxies(stripe82: Table, name: str) -> None:
    shares = read_answers(name, stripe82).shares
    answered = np.isfinite(shares).all(axis=1)
    assert np.array_equal(answered, np.isfinite(shares).any(axis=1))
    np.testing.assert_allclose(shares[answered].sum(axis=1), 1.0, atol=2e-7)
    assert shares[answered].min() >= 0
    if QUESTIONS[name].parents == (FEATURES, NOT_EDGE_ON):  # these are coadded images, for which 10 votes are enough
        expected = (
            (stripe82.column(debiased(FEATURES)) >= 0.227)
            & (stripe82.column(debiased(NOT_EDGE_ON)) >= 0.519)
            & (stripe82.column("t02_edgeon_a05_no_count") >= 10)
        )
        assert np.array_equal(answered, expected)
        assert answered.sum() > 2000
    if not QUESTIONS[name].parents:
        assert answered.mean() > 0.99


def test_a_label_is_the_share_of_the_votes_and_the_majority_comes_first() -> None:
    answers = read_answers("bar", bars())
    assert answers.classes == ("bar", "no bar")
    np.testing.assert_allclose(answers.shares, [[0.75, 0.25]], rtol=1e-6)
    assert read_answers("bar", bars(no_bar=0.6)).shares.argmax(axis=1) == [0]


@pytest.mark.parametrize(
    ("columns", "answered"),
    [
        ({"features": 0.430, "not_edge_on": 0.715}, True),
        ({"features": 0.429}, False),
        ({"not_edge_on": 0.714}, False),
        ({"not_edge_on_votes": 19}, False),
        ({"not_edge_on_votes": 19, "sample": "stripe82_coadd_2"}, True),
        ({"features": 0.227, "not_edge_on": 0.519, "not_edge_on_votes": 10, "sample": "stripe82_c"}, True),
        ({"not_edge_on_votes": 9, "sample": "stripe82_c"}, False),
        ({"not_edge_on_votes": 19, "sample": "stripe82"}, False),
        ({"sample": None}, True),
        ({"bar": 0.0, "no_bar": 0.0}, False),
        ({"bar": float("nan")}, False),
    ],
)
def test_galaxies_whose_parent_answers_have_too_few_votes_have_no_label(
    columns: dict[str, object], answered: bool
) -> None:
    shares = read_answers("bar", bars(**columns)).shares
    assert np.array_equal(np.isfinite(shares), np.full((1, 2), answered))


def test_a_bulge_is_obvious_or_dominant() -> None:
    question = QUESTIONS["bulge"]
    answers = dict(zip(sum(question.classes.values(), ()), (0.4, 0.3, 0.2, 0.1), strict=True))
    parents = {debiased(FEATURES): [1.0], debiased(NOT_EDGE_ON): [1.0], f"{NOT_EDGE_ON}_count": [30]}
    table = pa.table({debiased(answer): [share] for answer, share in answers.items()} | parents)
    made = read_answers("bulge", Table(table))
    assert made.classes == ("bulge", "little or no bulge")
    np.testing.assert_allclose(made.shares, [[0.7, 0.3]], rtol=1e-6)


def test_what_is_no_question_or_has_no_votes_says_so() -> None:
    with pytest.raises(TrainerError, match=r"--question: expected one of smooth, edge_on, .*, five_class, got rings"):
        read_answers("rings", bars())
    text = r"votes.csv: question bar: expected the votes .*, got no column t03_bar_a06_bar_debiased \(1 are missing\)"
    with pytest.raises(TrainerError, match=text):
        read_answers("bar", bars(bar=None))
    with pytest.raises(TrainerError, match=r"question five_class: .* \(6 are missing\); ingest with --labels"):
        read_answers("five_class", bars())
