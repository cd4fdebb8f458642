"""Claims against curves whose crossing is known, in every outcome; and the table that they end up in."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from trainer.config import Task
from trainer.study import claim, comparison
from trainer.study.claim import sentences
from trainer.study.results import Answer, Figure, Method, Row, Score
from trainer.study.table import markdown, text_table, write_table
from trainer.study.wording import capital, counted, figure_text, listed, number_text

FRACTIONS = (0.0625, 0.125, 0.25, 0.5, 1.0)
LABELS = 1600  # in all
FALLING = (0.05, 0.04, 0.03, 0.025, 0.02)


def make_scores(
    method: Method,
    values: Sequence[float],
    *,
    fractions: Sequence[float] = FRACTIONS,
    task: Task = "photoz",
    variant: str = "",
    error: float = 0.0,
) -> list[Score]:
    """Scores of one method with these values of its main figure, whose draws scatter by ``error``."""
    rng = np.random.default_rng([len(method), *method.encode()])
    scores = []
    for fraction, value in zip(fractions, values, strict=True):
        answer = Answer(seed=0, labels=round(LABELS * fraction), chosen="learning rate 0.05", values=np.zeros(1))
        figure = Figure(value=value, draws=value + rng.normal(0, error, 500))
        names = ("accuracy",) if task == "morphology" else ("sigma_mad", "eta", "bias")
        row = Row(task=task, method=method, variant=variant, fraction=fraction, answers=(answer,))
        scores.append(Score(row=row, galaxies=1234, figures=dict.fromkeys(names, figure)))
    return scores


def only_crossing(scores: Sequence[Score]) -> comparison.Crossing:
    (found,) = comparison.crossings(scores)
    return found


def test_a_crossing_between_two_fractions() -> None:
    """The target 0.02 lies a quarter of the way from 0.0225 to 0.0125, in the logarithm from 200 to 400 labels."""
    scores = [*make_scores("supervised", FALLING), *make_scores("finetuned", (0.03, 0.0225, 0.0125, 0.012, 0.011))]
    found = only_crossing(scores)
    expected = 200 * 2**0.25
    np.testing.assert_allclose(found.needed, expected, rtol=1e-12)
    np.testing.assert_allclose(found.interval, expected, rtol=1e-12)
    np.testing.assert_allclose(found.factor, LABELS / expected, rtol=1e-12)
    assert (found.enough, found.never) == (0, 0)


def test_a_crossing_where_more_is_better() -> None:
    supervised = make_scores("supervised", (0.5, 0.6, 0.7, 0.75, 0.8), task="morphology")
    probe = make_scores("probe", (0.6, 0.7, 0.775, 0.825, 0.85), task="morphology")
    found = only_crossing([*supervised, *probe])
    np.testing.assert_allclose(found.interval, 400 * 2**0.5, rtol=1e-12)


def test_the_error_of_a_crossing() -> None:
    """A target and a straight line that scatter by s cross where log(labels) scatters by s * sqrt(1 + w) / slope.

    Half way between two points the line scatters by s / sqrt(2): w is 1/2.
    """
    s, step = 1e-5, 0.004  # small beside the step, so that the crossing stays between the two points
    values = tuple(0.02 + step * (1.5 - place) for place in range(5))  # 0.02 lies half way from the second to the third
    scores = [
        *make_scores("supervised", FALLING, error=s),
        *make_scores("finetuned", values, error=s),
    ]
    low, middle, high = only_crossing(scores).interval
    assert math.isclose(middle, 200 * 2**0.5, rel_tol=0.001)
    expected = 2 * 0.994458 * s * math.sqrt(1.5) / step * math.log(2)  # 16 to 84 % is 2 x 0.994458 sigma
    # Quantiles at 16 % of 500 draws scatter by 0.067 sigma, two independent ones: 5 %; allow four times that.
    assert math.isclose(math.log(high / low), expected, rel_tol=0.2)


def test_noise_is_averaged_not_chosen_from() -> None:
    """A point that is better than one with more labels does not count as it stands: both count as their mean."""
    found = only_crossing(
        [*make_scores("supervised", FALLING), *make_scores("probe", (0.05, 0.03, 0.019, 0.023, 0.018))]
    )
    # The third and fourth are 0.021 together, above the target of 0.02: the crossing is two thirds (0.021 - 0.02 of
    # 0.021 - 0.018 is one third) before the last.
    np.testing.assert_allclose(found.needed, 800 * 2 ** (1 / 3), rtol=1e-12)


def test_monotone_is_isotonic_regression() -> None:
    losses = np.random.default_rng(0).normal(size=(7, 30))
    expected = [IsotonicRegression(increasing=False).fit_transform(np.arange(7), column) for column in losses.T]
    np.testing.assert_allclose(comparison.monotone(losses), np.transpose(expected), atol=1e-12)


@pytest.mark.parametrize(
    ("finetuned", "enough", "never", "words"),
    [
        (
            (0.03, 0.0225, 0.0125, 0.012, 0.011),
            0,
            0,
            ["fine-tuning needs 240 (2", ") labels, beside 536 for validation, for", "): 6.7 times fewer (6.", ")."],
        ),
        (
            (0.015, 0.014, 0.013, 0.012, 0.011),
            1,
            0,
            ["already with the fewest", "given, 100 beside 536 for", "100 %", "more than 16 times fewer."],
        ),
        (
            (0.05, 0.04, 0.03, 0.025, 0.022),
            0,
            1,
            [
                "fine-tuning does not reach, with up to 1,600 labels,",
                "100 %",
                "Supervised training needs 1,2",
                ") labels, beside 536 for validation, for the sigma_MAD that fine-tuning",
                "): 1.3 times fewer (1.3 to 1.4).",
            ],
        ),
        ((0.05, 0.04, 0.035, 0.03, 0.02), 0, 0.5, ["with the most labels the two are equal within the errors"]),
    ],
)
def test_every_outcome(finetuned: tuple[float, ...], enough: float, never: float, words: list[str]) -> None:
    scores = [*make_scores("supervised", FALLING, error=2e-4), *make_scores("finetuned", finetuned, error=2e-4)]
    found = only_crossing(scores)
    assert found.enough == enough
    assert abs(found.never - never) < 0.12  # a share of 500 draws about one half scatters by 0.022: five times that
    saving, equal = sentences(scores, {"photoz": 536})
    assert saving.startswith("Photometric redshifts: ")
    assert "the sigma_MAD that supervised training reaches with all 1,600 labels (0.0200 ± 0.0002)" in saving
    for each in words:
        assert each in saving
    assert "at equal numbers of labels" in equal


def test_ends_that_no_number_says() -> None:
    """The median is a number of labels, but one end of the interval is out of reach."""
    above = [
        *make_scores("supervised", FALLING, error=1e-3),
        *make_scores("finetuned", (0.05, 0.04, 0.03, 0.025, 0.0195), error=1e-3),
    ]
    (text, _) = sentences(above)
    assert "to more than 1,600) labels, beside those for validation, for" in text
    assert "1.1 times fewer (no fewer to 1." in text
    below = [
        *make_scores("supervised", FALLING, error=1e-3),
        *make_scores("finetuned", (0.0205, 0.01, 0.01, 0.01, 0.01), error=1e-3),
    ]
    (text, _) = sentences(below)
    assert "(fewer than 100 to" in text
    assert "15 times fewer (14 to more than 16)." in text


def test_already_with_the_fewest_only_where_hardly_a_draw_says_otherwise() -> None:
    """Half of the draws are enough for the median, not for a firm word."""
    values = (0.0195, 0.018, 0.017, 0.016, 0.015)
    scores = [*make_scores("supervised", FALLING, error=1e-3), *make_scores("finetuned", values, error=1e-3)]
    found = only_crossing(scores)
    assert found.interval[:2] == (0, 0)
    text = sentences(scores)[0]
    assert "fine-tuning needs fewer than 100 (fewer than 100 to 1" in text
    assert "already" not in text
    assert "more than 16 times fewer (1" in text


def test_methods_that_are_alike_save_nothing() -> None:
    """Of studies of two equal methods no more than 16 % have an interval of 68 % that lies below all labels.

    Labels help neither method here, the worst case: against a target as measured it would be 32 % of the studies.
    """
    rng = np.random.default_rng(0)
    trials, error, count = 300, 1e-3, 0
    rows = [*make_scores("supervised", FALLING), *make_scores("finetuned", FALLING)]
    for values in rng.normal(0.023, error, (trials, len(rows))):
        drawn = [Figure(value=value, draws=value + rng.normal(0, error, 60)) for value in values]
        scores = [replace(row, figures={"sigma_mad": each}) for row, each in zip(rows, drawn, strict=True)]
        count += only_crossing(scores).interval[2] < LABELS
    # Four standard deviations of a share of so many trials above the share that is meant.
    assert count / trials < 0.16 + 4 * math.sqrt(0.16 * 0.84 / trials)


def test_a_rival_whom_labels_do_not_help() -> None:
    """Its fewest labels are as good as all, so that none need be saved by the method."""
    flat, fine = (0.0201, 0.0199, 0.0202, 0.0198, 0.0200), (0.0188, 0.0187, 0.0186, 0.0185, 0.0184)
    scores = [*make_scores("supervised", flat, error=3e-4), *make_scores("finetuned", fine, error=3e-4)]
    found = only_crossing(scores)
    assert not found.rival_grows
    assert math.isclose(found.target.value, 0.0199)  # the last two together, less than any before
    text = sentences(scores)[0]
    assert "but supervised training itself is not certainly better with its most labels than with its fewest" in text


@pytest.mark.parametrize(
    ("supervised", "finetuned", "winner", "words"),
    [
        ((0.05, 0.04, 0.03, 0.019, 0.021), (0.05, 0.04, 0.03, 0.025, 0.0203), "fine-tuning", "does not reach"),
        ((0.05, 0.04, 0.03, 0.025, 0.02), (0.05, 0.04, 0.018, 0.018, 0.0205), "supervised training", "needs 390 ("),
        ((0.05, 0.04, 0.03, 0.025, 0.02), (0.05, 0.04, 0.03, 0.0198, 0.0203), "", "needs more than 1,600 (8"),
    ],
)
def test_no_sentence_contradicts_another(
    supervised: tuple[float, ...], finetuned: tuple[float, ...], winner: str, words: str
) -> None:
    """A curve made monotone may cross where the last points as measured say otherwise: the sentence says so, too."""
    error = 1e-4
    scores = [*make_scores("supervised", supervised, error=error), *make_scores("finetuned", finetuned, error=error)]
    saving, equal = sentences(scores)
    assert words in saving
    assert ("before any averaging" in saving) == bool(winner)
    if winner:
        assert f"with the most labels, before any averaging, {winner} is better" in saving
        assert f"{winner} is better with 1,600 labels" in equal
    goal = saving.split(" Supervised training needs ")[0]
    assert ("averaged with that of fewer" in goal) == (supervised[-1] > supervised[-2])
    assert "is better with 1,600 labels" in equal
    assert "equal within the errors" not in saving


@pytest.mark.parametrize(
    ("needed", "labels", "factor"),
    [
        ((0, 500, 5000), "500 (fewer than 170 to 5,000)", "80 times fewer (8.0 to more than 240)"),
        ((180, 300, 5000), "300 (180 to 5,000)", "130 times fewer (8.0 to 220)"),
        ((4000, 40_000, 330_000), "40,000 (4,000 to more than 40,123)", "as many (no fewer to 10 times fewer)"),
        ((0, 0, 5000), "fewer than 170 (fewer than 170 to 5,000)", "more than 240 times fewer (8.0 to more than 240)"),
    ],
)
def test_each_number_is_rounded_by_itself(needed: tuple[float, ...], labels: str, factor: str) -> None:
    """However wide the interval, no number of labels is rounded to nothing."""
    fractions = [170 / LABELS, 40_123 / LABELS]
    (found,) = comparison.crossings(
        [
            *make_scores("supervised", [0.03, 0.02], fractions=fractions),
            *make_scores("finetuned", [0.03, 0.02], fractions=fractions),
        ]
    )
    draws = np.where(np.array(needed, dtype=float) > 40_123, np.inf, np.array(needed, dtype=float))
    found = replace(found, needed=draws.repeat(100))
    assert claim._needed(found) == labels
    assert claim._factor(found) == factor


@pytest.mark.parametrize(
    ("factor", "beyond", "text"),
    [
        (2.853, 0, "2.9 times fewer"),
        (0.8, 0, "1.2 times more"),
        (1.04, 0, "as many"),
        (120.0, 1, "more than 120 times fewer"),
        (5.0, -1, "less than 5.0 times fewer"),
        (0.8, -1, "more than 1.2 times more"),
        (0.8, 1, "less than 1.2 times more"),
        (1.0, -1, "no fewer"),
        (1.0, 1, "fewer"),
    ],
)
def test_how_many_times_fewer(factor: float, beyond: int, text: str) -> None:
    assert claim._times(factor, beyond) == text


def test_winners_at_equal_labels() -> None:
    mine = make_scores("finetuned", (0.03, 0.035, 0.03, 0.0251, 0.022), error=1e-4)
    scores = [*make_scores("supervised", FALLING, error=1e-4), *mine]
    _, text = sentences(scores)
    assert "fine-tuning is better with 100 and 200 labels" in text
    assert "supervised training is better with 1,600 labels" in text
    assert "neither is certainly better with 400 and 800 labels" in text
    assert "-0.02000 ± 0.00014 (100)" in text
    assert [each.verdict for each in comparison.differences(scores)] == [1, 1, 0, 0, -1]


def test_a_difference_has_the_error_of_what_is_not_shared() -> None:
    shared = np.random.default_rng(0).normal(0, 0.01, 500)
    scores = [
        Score(row=each.row, galaxies=1, figures={"sigma_mad": Figure(value=value, draws=value + shared)})
        for method, value in (("supervised", 0.03), ("finetuned", 0.02))
        for each in make_scores(method, [value], fractions=[1.0])
    ]
    (found,) = comparison.differences(scores)
    assert math.isclose(found.figure.value, -0.01)
    assert found.figure.error < 1e-15
    assert found.verdict == 1  # by far less than either is known to


def test_a_difference_of_nothing_is_none() -> None:
    (score,) = make_scores("probe", [0.02], fractions=[1.0], error=0.01)
    assert comparison.find_difference(score, score).verdict == 0


@pytest.mark.parametrize(
    ("others", "words"),
    [
        (
            {"trees": 0.015, "catalogue": 0.019},
            ["alone (at best gradient-boosted", "0.01500 ± ", "beats every network"],
        ),
        ({"catalogue": 0.03, "trees": 0.04}, ["the best network (fine-tuned", "beats what", "at best nearest neighb"]),
        ({"trees": 0.0171}, ["neither the best network", "is certainly better"]),
    ],
)
def test_the_catalogue_against_networks(others: dict[Method, float], words: list[str]) -> None:
    scores = [
        *make_scores("supervised", FALLING, error=1e-4),
        *make_scores("finetuned", [0.017], fractions=[1.0], error=1e-4),
    ]
    for method, value in others.items():
        scores += make_scores(method, [0.01, value], fractions=[0.5, 1.0], error=1e-4)
    text = sentences(scores)[-1]
    assert text.startswith("Photometric redshifts: with 1,600 labels")
    for each in words:
        assert each in text


def test_percentages_differ_by_points() -> None:
    scores = [
        *make_scores("supervised", [0.80], fractions=[1.0], task="morphology", error=0.01),
        *make_scores("probe", [0.85], fractions=[1.0], task="morphology", error=0.01),
    ]
    (text,) = sentences(scores)
    assert text.startswith("Morphology: at equal numbers of labels a linear probe is better with 1,600 labels.")
    assert "in percentage points: +5.0 ± 1." in text


def test_the_catalogue_against_networks_where_more_is_better() -> None:
    values: dict[Method, float] = {"supervised": 0.7, "probe": 0.8, "catalogue": 0.9, "trees": 0.85}
    scores = [
        score
        for method, value in values.items()
        for score in make_scores(method, [value], fractions=[1.0], task="morphology", error=0.01)
    ]
    text = sentences(scores)[-1]
    assert "(at best nearest neighbours in catalogue magnitudes: 90.0 ± " in text
    assert "beats every network (at best linear probe of the pre-trained encoder: 80.0 ± " in text


def test_one_fraction_has_no_crossing() -> None:
    scores = [each for method in ("supervised", "finetuned") for each in make_scores(method, [0.02], fractions=[1.0])]
    assert comparison.crossings(scores) == []
    (text,) = sentences(scores)
    assert "neither is certainly better with 1,600 labels" in text


def test_any_number_where_none_is_certain() -> None:
    scores = [*make_scores("supervised", FALLING, error=1e-3), *make_scores("finetuned", FALLING, error=1e-3)]
    assert "neither is certainly better with any number tried." in sentences(scores)[1]


def test_a_share_of_the_labels_is_not_called_all() -> None:
    fractions = [0.25, 0.5]
    scores = [
        *make_scores("supervised", (0.03, 0.02), fractions=fractions),
        *make_scores("probe", (0.03, 0.01), fractions=fractions),
    ]
    assert "reaches with 800 labels" in sentences(scores)[0]


@pytest.mark.parametrize("methods", [[], ["supervised"], ["finetuned", "probe"], ["trees", "guess"], ["neighbours"]])
def test_nothing_is_said_where_there_is_nothing_to_compare(methods: list[Method]) -> None:
    assert sentences([each for method in methods for each in make_scores(method, FALLING)]) == []


def test_each_pretraining_is_named_where_there_are_several() -> None:
    scores = make_scores("supervised", FALLING)
    for variant in ("reference", "no dust"):
        scores += make_scores("probe", FALLING, variant=variant)
    texts = sentences(scores)
    assert [text.split(":")[0] for text in texts] == [
        *["Photometric redshifts, pre-training reference"] * 2,
        *["Photometric redshifts, pre-training no dust"] * 2,
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.0, "1,200"), (996.0, "1,000"), (2.8512, "2.9"), (9.96, "10"), (7.0, "7.0"), (0.0184, "0.018")],
)
def test_numbers_have_two_digits(value: float, text: str) -> None:
    assert number_text(value) == text


def test_words_for_a_number_of_things() -> None:
    assert [counted(n, "epoch") for n in (1, 2000)] == ["1 epoch", "2,000 epochs"]
    assert capital("MoCo and e") + capital("of E") + capital("") == "MoCo and eOf E"


def test_figures_as_text() -> None:
    figure = Figure(value=0.02294, draws=np.array([0.022, 0.0233, 0.0235]))  # scatters by 0.0008
    assert figure_text(figure, "sigma_mad") == "0.0229 ± 0.0008"
    assert figure_text(figure, "bias") == "+0.0229 ± 0.0008"
    assert figure_text(figure, "eta") == "2.29 ± 0.08 %"
    assert figure_text(Figure(value=1.0, draws=np.ones(3)), "accuracy") == "100.0000 ± 0.0000 %"
    assert [listed(list("abc"[:n])) for n in range(4)] == ["", "a", "a and b", "a, b and c"]


def all_scores() -> list[Score]:
    scores = make_scores("guess", (0.09, 0.09), fractions=[0.5, 1.0], error=1e-4)
    scores += make_scores("finetuned", FALLING, variant="reference", error=1e-4)
    scores += make_scores("supervised", FALLING[::-1], fractions=FRACTIONS[::-1], error=1e-4)
    return [*scores, *make_scores("supervised", [0.8], fractions=[1.0], task="morphology", error=0.01)]


def test_the_table_reads_from_few_labels_to_many() -> None:
    table = text_table(all_scores())
    assert table.head == ["method", "task", "labels", "sigma_MAD", "eta", "bias", "accuracy", "test galaxies"]
    assert [row[2] for row in table.rows] == ["100", "200", "400", "800", "1,600"] * 2 + ["800", "1,600", "1,600"]
    assert [row[0] for row in table.rows[::5]] == [
        "supervised from scratch",
        "fine-tuned from the pre-trained encoder",
        "the same answer for all",
    ]
    first, last = table.rows[0], table.rows[-1]
    assert first[3] == "0.05000 ± 0.00010"
    assert (first[6], last[3]) == ("", "")
    assert last[6].startswith("80.0 ± 1")
    lines = markdown(table).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 2 + len(table.rows)


def test_the_files_of_the_table(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name, all_scores(), dataset="d1", recipe="small", settings="s1")
    content = json.loads((tmp_path / "one" / "table.json").read_text())
    assert (content["dataset"], content["recipe"], content["settings"]) == ("d1", "small", "s1")
    assert len(content["rows"]) == len(all_scores())
    row = content["rows"][0]
    (score,) = [each for each in all_scores() if each.row.method == "supervised" and each.row.labels == 100]
    assert row["figures"]["sigma_mad"] == {"value": 0.05, "error": score.figures["sigma_mad"].error}
    assert row["seeds"] == [{"seed": 0, "labels": 100, "chosen": "learning rate 0.05"}]
    (crossing,) = content["crossings"]
    assert crossing["labels"].keys() == {"low", "median", "high"}
    assert len(content["differences"]) == 5
    for name in ("table.json", "table.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / "table.md").read_text()
    assert text.startswith("## Photometric redshifts\n\n| method ")
    assert "## Morphology\n" in text
    assert all(f"- {sentence}\n" in text for sentence in content["sentences"])


def test_what_no_number_says_is_null(tmp_path: Path) -> None:
    scores = [
        *make_scores("supervised", FALLING),
        *make_scores("finetuned", [0.05] * 5),
        *make_scores("probe", [0.01] * 5),
    ]
    write_table(tmp_path, scores, dataset="", recipe="", settings="")
    never, enough = json.loads((tmp_path / "table.json").read_text())["crossings"]
    for crossing in (never, enough):
        assert set(crossing["labels"].values()) == {None} == set(crossing["times_fewer"].values())
    assert (never["never"], never["fewest_are_enough"]) == (1, 0)
    assert (enough["never"], enough["fewest_are_enough"]) == (0, 1)
