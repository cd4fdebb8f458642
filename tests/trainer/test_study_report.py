"""The page of a study: what it shows of which scores; and the numbers that its figures are drawn from."""

import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from sharding import Dataset
from trainer import map as map_module
from trainer.config import Task
from trainer.embed import embed
from trainer.metrics import bootstrap_error, sigma_mad
from trainer.study import figures, figures_galaxies, report, report_how, report_looks
from trainer.study.recipe import read_recipe
from trainer.study.results import METHOD_NAMES, PRETRAINED, Answer, Figure, Method, Row, Score, Truth

CLASSES = ("smooth", "spiral")
VARIANTS = ("reference", "without a very long name of what was left out", "queue 64")
SENTENCE = "Fine-tuning needs 40 labels for what supervised training reaches with 100: 2.5 times fewer."
NOTE = "One galaxy has no magnitudes."
RECIPE = read_recipe("small")
Write = Callable[..., "Page"]


def score(truth: Truth, method: Method, variant: str, fraction: float, *, seeds: int = 2) -> Score:
    """Answers that are as good as random numbers make them, and figures that need not fit them."""
    rng = np.random.default_rng([len(method), round(100 * fraction)])
    noise = rng.normal(0, 0.01 / fraction**0.3, (seeds, len(truth.values)))
    values = truth.values + noise if truth.task == "photoz" else rng.integers(0, 2, noise.shape).astype(float)
    answers = [
        Answer(seed=seed, labels=round(100 * fraction), chosen=f"rate {seed}", values=values[seed])
        for seed in range(seeds)
    ]
    names = {"photoz": ("sigma_mad", "eta", "bias"), "morphology": ("accuracy",)}[truth.task]
    number = {name: Figure(value=0.2, draws=rng.normal(0.2, 0.01, 50)) for name in names}
    row = Row(task=truth.task, method=method, variant=variant, fraction=fraction, answers=tuple(answers))
    return Score(row=row, galaxies=len(truth.values), figures=number)


def scores_of(truth: Truth, fractions: Sequence[float], variants: Sequence[str] = VARIANTS[:1]) -> list[Score]:
    """Every method there is."""
    return [
        score(truth, method, variant, fraction)
        for method, fraction in product(METHOD_NAMES, fractions)
        for variant in (variants if method in PRETRAINED else [""])
    ]


@pytest.fixture(scope="module")
def truths(large_survey: Dataset) -> dict[Task, Truth]:
    indices = large_survey.split("test")
    redshift = large_survey.column("specz").astype(np.float64)[indices]
    types = (redshift < 0.15).astype(np.float64)
    return {
        "photoz": Truth(task="photoz", indices=indices, values=redshift),
        "morphology": Truth(task="morphology", indices=indices, values=types, classes=CLASSES),
    }


@pytest.fixture(scope="module")
def embeddings(large_survey: Dataset, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embedded") / "embeddings.parquet"
    embed(pretrained, large_survey, path)
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """UMAP's place is taken by two features; pictures of galaxies, which other tests look at, are smaller."""
    monkeypatch.setattr(map_module, "umap", lambda vectors: vectors[:, :2].astype(np.float32))
    monkeypatch.setattr(report_looks, "QUERIES", 2)
    monkeypatch.setattr("trainer.gallery.STAMPS", 4)
    monkeypatch.setattr("trainer.views.GALAXIES", 1)
    monkeypatch.setattr(figures_galaxies, "DRAWS", 5)


@pytest.fixture
def results_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what takes no score, which is shown by the tests that look for it."""
    for name in ("likenesses", "pretraining"):
        monkeypatch.setattr(report, name, lambda *_: [])


class Page(HTMLParser):
    """The headings, the texts and the descriptions of the pictures of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.alts: list[str] = []
        self.texts: list[str] = []
        self._tag = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        if tag == "img":
            self.alts.append(dict(attrs)["alt"] or "")

    def handle_data(self, data: str) -> None:
        if self._tag in ("h1", "h2") and data.strip():
            self.headings.append(data)
        elif data.strip():
            self.texts.append(data.strip())


@pytest.fixture
def write(tmp_path: Path, large_survey: Dataset, pretrained: Path, embeddings: Path, quick: None) -> Write:
    """Writes the page of these scores and reads it."""

    def written(
        scores: Sequence[Score],
        truths: Mapping[Task, Truth],
        *,
        dataset: Dataset = large_survey,
        embedded: Path = embeddings,
        variants: Sequence[str] = VARIANTS[:1],
    ) -> Page:
        path = report.write_report(
            tmp_path / "study",
            dataset,
            RECIPE,
            scores,
            truths,
            dict.fromkeys(variants, pretrained),
            dict.fromkeys(variants, embedded),
            [SENTENCE] if scores else [],
            [NOTE],
        )
        assert path == tmp_path / "study" / "index.html"
        return Page(path)

    return written


def test_the_page_holds_all_that_came_out(write: Write, truths: dict[Task, Truth], tmp_path: Path) -> None:
    both = [*scores_of(truths["photoz"], (0.1, 1.0), VARIANTS), *scores_of(truths["morphology"], (0.1, 1.0))]
    page = write(both, truths, variants=VARIANTS)
    assert page.headings == [
        "What pre-training without labels is worth",
        "What comes out",
        "How it was measured",
        "Photometric redshifts, as measured",
        "Morphology, as measured",
        "Photometric redshifts: what validation chose",
        "Morphology: what validation chose",
        "Residuals of the photometric redshifts",
        "Morphology, class by class",
        "Nearest neighbours",
        "Map of the representations",
        "What each part of the pre-training does",
        "Pre-training",
        "Views",
        "Stamps",
    ]
    for text in (SENTENCE, NOTE, RECIPE.about, report_how.CROSSINGS, METHOD_NAMES["supervised"], "rate 0; rate 1"):
        assert text in page.texts
    drawn = {path.stem for path in (tmp_path / "study" / "figures").iterdir()}
    results = {"photoz", "morphology", "residuals_redshift", "residuals_magnitude", "classes"}
    variants = {f"variants_photoz_{method}" for method in PRETRAINED}
    looks = {"neighbours", "map_redshift", "map_type", "pretraining", "views_hayat2021", "stamps"}
    assert drawn == results | variants | looks
    assert len(page.alts) == len(drawn)
    assert all(page.alts)
    assert re.search(r"sigma_MAD, supervised from scratch: 0.200 ± 0.0\d+ with 10 labels, 0.2.* with 100", page.alts[0])


def test_a_study_of_one_number_of_labels_and_one_pretraining(
    write: Write, truths: dict[Task, Truth], results_alone: None
) -> None:
    photoz = {"photoz": truths["photoz"]}
    page = write(scores_of(truths["photoz"], (1.0,)), photoz)
    assert not any("against the number of labels" in alt for alt in page.alts)
    assert not any("class" in heading or "each part" in heading for heading in page.headings)


def test_few_labels_give_pictures_and_no_figure_of_skill(
    write: Write, make_survey: Callable[..., Dataset], pretrained: Path, tmp_path: Path
) -> None:
    dataset = make_survey(120, labelled=0, side_px=17, change={"morphology": None})
    embed(pretrained, dataset, tmp_path / "few.parquet")
    page = write([], {}, dataset=dataset, embedded=tmp_path / "few.parquet")
    assert page.headings[0] == "Galaxies as a network sees them without labels"
    assert NOTE in page.texts
    assert "sigma_MAD" not in "".join(page.texts)
    assert len(page.alts) == 4  # neighbours, curves, views, stamps: no label could colour a map
    assert report_looks.MAYBE_SEEN in "".join(page.texts)  # the pre-training had another dataset


def test_without_umap_the_page_says_what_to_install(
    write: Write, truths: dict[Task, Truth], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_looks, "find_spec", lambda name: None)
    page = write([], {})
    assert report_looks.UMAP_MISSING in page.texts
    assert not any("UMAP" in alt for alt in page.alts)


def test_a_missing_method_is_missing_everywhere(write: Write, truths: dict[Task, Truth], results_alone: None) -> None:
    """What an ablation has: no supervised training, one method alone."""
    page = write([score(truths["photoz"], "probe", VARIANTS[0], 0.5, seeds=1)], {"photoz": truths["photoz"]})
    assert "There is one seed" in "".join(page.texts)
    assert not any("supervised" in alt for alt in page.alts)


def test_how_the_numbers_were_got(truths: dict[Task, Truth]) -> None:
    """Of the small recipe: 15 epochs and looks, three rates, at least 240 steps in batches of up to 64."""
    scores = scores_of(truths["photoz"], (0.1, 1.0))
    text = " ".join(report_how.how_measured(RECIPE, scores, own=True))
    assert (
        "Pre-training: 60 epochs, batches of 64. Supervised from scratch: 240 epochs (240 steps) with 10 labels" in text
    )
    assert "Supervised from scratch: 240 epochs (240 steps) with 10 labels, 240 epochs (240 steps) with 100" in text
    assert "among 3 settings" in text
    assert "at most 15 looks" in text
    assert "on top of those that are counted" in text
    assert "16 % to 84 % of the draws" in text
    assert "Of twenty comparisons about one" in text
    assert report_how.ONCE in text
    given = " ".join(report_how.how_measured(RECIPE, scores, own=False))
    assert "Pre-training: 60" not in given


def test_what_did_not_happen_is_not_told(truths: dict[Task, Truth]) -> None:
    """One rate is no choice; without pre-training nothing of one is said, without a curve nothing of a crossing."""
    scores = [score(truths["photoz"], "supervised", "", 1.0)]
    text = " ".join(report_how.how_measured(read_recipe("demo"), scores, own=True))
    assert "No method had a setting to choose. A training of a network moreover keeps" in text
    for word in ("re-training", "Linear probe", "the draws", "Accuracy"):
        assert word not in text


def test_bins_hold_what_they_say() -> None:
    """Against residuals that are known in each bin: the seeds' figures are averaged, their galaxies are not pooled."""
    z = np.linspace(0.05, 0.25, 120)
    dz = np.stack([np.full(120, 0.01), np.linspace(-0.02, 0.02, 120)])
    found = figures_galaxies.in_bins(z, dz)
    parts = np.split(np.arange(120), 4)
    np.testing.assert_allclose(found.centre, [np.median(z[part]) for part in parts])
    np.testing.assert_allclose(found.median, [(0.01 + np.median(dz[1, part])) / 2 for part in parts])
    # The first seed's residuals are all the same, so half of the other's spread is left.
    np.testing.assert_allclose(found.spread, [sigma_mad(dz[1, part]) / 2 for part in parts])
    assert (found.median_error > 0).all()


def test_errors_in_bins_are_of_the_galaxies_and_not_of_the_answers() -> None:
    """They are `metrics.bootstrap_error`'s for one seed; three seeds that say the same are no more galaxies."""
    dz = np.random.default_rng(0).normal(size=(1, 60))
    one, three = (figures_galaxies.in_bins(np.arange(60.0), np.repeat(dz, seeds, axis=0)) for seeds in (1, 3))
    draws = figures_galaxies.DRAWS
    expected = [bootstrap_error(part, sigma_mad, seed=0, draws=draws) for part in np.split(dz[0], 2)]
    np.testing.assert_allclose(one.spread_error, expected, rtol=1e-12)
    np.testing.assert_allclose(three.spread_error, one.spread_error, rtol=1e-12)
    np.testing.assert_allclose(three.median_error, one.median_error, rtol=1e-12)


def test_shares_of_the_classes() -> None:
    true = np.array([0.0, 0, 0, 0, 1, 1])
    given = np.array([[0.0, 0, 0, 1, 1, 1], [0.0, 0, 1, 1, 1, 1]])
    (first, second, third), (error, none, unknown) = figures_galaxies.share_right(given, true, 3)
    assert (first, second) == (5 / 8, 1.0)
    # Of the four galaxies' means over the seeds, 1, 1, 1/2 and 0, the variance is 11/64.
    assert error == pytest.approx(np.sqrt(11 / 64 / 4), rel=1e-12)
    assert none == 0.0
    assert np.isnan([third, unknown]).all()


def test_methods_stand_in_one_order_by_rising_number_of_labels(truths: dict[Task, Truth]) -> None:
    shuffled: list[Any] = scores_of(truths["photoz"], (1.0, 0.05, 0.5))[::-1]
    lines = figures.by_method(shuffled)
    assert list(lines) == list(METHOD_NAMES)
    assert [s.row.fraction for s in lines["probe"]] == [0.05, 0.5, 1.0]


def test_a_figure_of_zero_can_be_drawn(truths: dict[Task, Truth], tmp_path: Path) -> None:
    """No outlier at all: there is no logarithm of that."""
    scores = scores_of(truths["photoz"], (0.1, 1.0))
    for number, each in enumerate(scores):
        each.figures["eta"] = Figure(value=0.1 * number, draws=np.zeros(9))
    figures.labels_figure(tmp_path / "a.png", scores, title="t")
    figures.methods_figure(tmp_path / "b.png", scores, title="t")
    for name in ("a.png", "b.png"):
        assert imread(tmp_path / name).std() > 0


def test_every_method_has_a_look_of_its_own() -> None:
    assert set(figures.LOOKS) == set(METHOD_NAMES)
    assert len({colour for colour, _, _ in figures.LOOKS.values()}) == len(METHOD_NAMES)
    assert len({marker for _, marker, _ in figures.LOOKS.values()}) == len(METHOD_NAMES)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour, _, _ in figures.LOOKS.values())
