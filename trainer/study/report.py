"""The page of a study: what comes out, the figures and the table, how they were got, and galaxies to look at.

Here is said what the page shows of scores, and in which words; `report_how` says how they were got, `report_looks` does
what needs no labels, and how HTML is made is `page`'s.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sharding import Dataset

from ..config import Task
from ..judge_photoz import MAGNITUDES, dereddened
from ..metrics import residuals
from ..page import Picture, Section, Table, write_page
from .claim import TASK_NAMES
from .figures import by_method, labels_figure, methods_figure, variants_figure
from .figures_galaxies import classes_figure, in_bins, residuals_figure, share_right
from .recipe import Recipe
from .report_how import ONCE, how_measured
from .report_looks import likenesses, pretraining
from .results import JUDGED_BY, METHOD_NAMES, Method, Score, Truth, Values
from .table import text_table
from .wording import FORMS, figure_text

# The methods that are looked at galaxy by galaxy, where they are there: more lines would hide each other.
EXAMINED: tuple[Method, ...] = ("supervised", "finetuned", "trees")
CREDITS = {
    "SDSS": "Images and catalogue: Sloan Digital Sky Survey (SDSS), www.sdss.org.",
    "SKYMILL practice survey": "Practice survey: simulated galaxies, drawn by Skymill. Nothing here was observed.",
}


def write_report(
    out: Path,
    dataset: Dataset,
    recipe: Recipe,
    scores: Sequence[Score],
    truths: Mapping[Task, Truth],
    pretrainings: Mapping[str, Path],
    embeddings: Mapping[str, Path],
    sentences: Sequence[str],
    notes: Sequence[str],
) -> Path:
    """Draw STUDY/figures/*.png and write STUDY/index.html.

    ``pretrainings`` gives the RUN of each variant, the reference first, and ``embeddings`` the file of what it makes of
    the dataset. ``sentences`` are what comes out, ``notes`` whatever else must be said. Without ``scores`` the page
    has the notes and the galaxies to look at.
    """
    figures, reference = out / "figures", next(iter(pretrainings))
    variants = list(pretrainings)
    shown = {task: [s for s in scores if s.row.task == task and s.row.variant in ("", reference)] for task in truths}
    shown = {task: those for task, those in shown.items() if those}
    every = {task: [score for score in scores if score.row.task == task] for task in shown}
    sections = [
        Section(
            title="What comes out",
            text=sentences if scores else notes,
            pictures=[_main(figures, those) for those in shown.values()],
        ),
        *([_how(recipe, scores, notes, own=pretrainings[reference].is_relative_to(out))] if scores else []),
        *[Section(title=f"{TASK_NAMES[task]}, as measured", table=text_table(those)) for task, those in every.items()],
        *[_chosen(task, those) for task, those in shown.items()],
        *[_galaxies(figures, dataset, truths[task], those) for task, those in shown.items()],
        *likenesses(figures, dataset, embeddings[reference]),
        *(_ablation(figures, scores, variants) if len(variants) > 1 else []),
        *pretraining(figures, dataset, pretrainings),
    ]
    credit = CREDITS.get(dataset.manifest.survey, f"Survey: {dataset.manifest.survey}.")
    title = "What pre-training without labels is worth" if scores else "Galaxies as a network sees them without labels"
    write_page(out / "index.html", title=title, lead=lead(dataset), sections=sections, credit=credit)
    return out / "index.html"


def lead(dataset: Dataset) -> str:
    """What the dataset is, in a sentence."""
    height, width = dataset.image_shape[1:]
    known = np.isfinite(dataset.column("specz").astype(np.float64)).sum() if dataset.has("specz") else 0
    return (
        f"{dataset.manifest.survey}: {len(dataset):,} galaxies in {len(dataset.bands)} bands "
        f"({', '.join(dataset.bands)}), stamps of {width} x {height} pixels of {dataset.pixel_scale_arcsec} arcsec; "
        f"{known:,} have a redshift."
    )


def _main(figures: Path, scores: Sequence[Score]) -> Picture:
    """The methods of one task against the number of labels, or beside each other where there is one number alone."""
    task, lines = scores[0].row.task, by_method(scores)
    path, galaxies = figures / f"{task}.png", f"{TASK_NAMES[task]} of {scores[0].galaxies:,} test galaxies"
    ends = "; ".join(f"{METHOD_NAMES[method]}: {_in_words(line)}" for method, line in lines.items())
    if len({score.row.fraction for score in scores}) > 1:
        labels_figure(path, scores, title=galaxies)
        text = f"{galaxies}, against the number of labels. Bars: one standard deviation."
        if "guess" in lines:
            text += " The same answer for all is in the table alone."
    else:
        methods_figure(path, scores, title=f"{galaxies}, {_most_labels(scores)}")
        text = f"{galaxies}. Bars: one standard deviation."
    return Picture(path, text, alt=f"{text} {FORMS[JUDGED_BY[task][0]].name}, {ends}.")


def _in_words(line: Sequence[Score]) -> str:
    """The first and the last point of a line, for who cannot see it."""
    ends = [line[0], line[-1]] if len(line) > 1 else line
    name = JUDGED_BY[line[0].row.task][0]
    return ", ".join(f"{figure_text(each.figures[name], name)} with {each.row.labels:,.0f} labels" for each in ends)


def _most_labels(scores: Sequence[Score]) -> str:
    return f"{max(score.row.labels for score in scores):,.0f} labels"


def _how(recipe: Recipe, scores: Sequence[Score], notes: Sequence[str], *, own: bool) -> Section:
    """How the numbers of the tables were got."""
    return Section(title="How it was measured", text=[*how_measured(recipe, scores, own=own), *notes])


def _chosen(task: Task, scores: Sequence[Score]) -> Section:
    """Which setting each method got, at each number of labels."""
    fractions = sorted({score.row.fraction for score in scores})
    rows = []
    for method, line in by_method(scores).items():
        found = {score.row.fraction: score for score in line}
        cells = [_settings(found.get(fraction)) for fraction in fractions]
        if any(cells):  # the same answer for all has nothing to choose
            rows.append([METHOD_NAMES[method], *cells])
    head = ["method", *[f"{100 * fraction:g} % of the labels" for fraction in fractions]]
    return Section(title=f"{TASK_NAMES[task]}: what validation chose", table=Table(head, rows))


def _settings(score: Score | None) -> str:
    """What was chosen; where the seeds differ, each choice once."""
    return "; ".join(dict.fromkeys(each.chosen for each in score.row.answers if each.chosen)) if score else ""


def _galaxies(figures: Path, dataset: Dataset, truth: Truth, scores: Sequence[Score]) -> Section:
    """Where the answers are good, with the most labels."""
    most = max(score.row.fraction for score in scores)
    last = by_method([score for score in scores if score.row.fraction == most])
    some = [method for method in last if method in EXAMINED]
    answers = {method: np.stack([each.values for each in last[method][0].row.answers]) for method in some or last}
    title = f"{len(truth.values):,} test galaxies, {_most_labels(scores)}"
    if truth.task == "photoz":
        return _residuals(figures, dataset, truth, answers, title)
    path, count = figures / "classes.png", len(truth.classes)
    found = {method: share_right(given, truth.values, count) for method, given in answers.items()}
    counts = np.bincount(truth.values.astype(np.int64), minlength=count).tolist()
    classes_figure(path, found, truth.classes, counts, title=title)
    text = "How many galaxies of each class are given it. Bars: one standard deviation over the galaxies."
    return Section(title="Morphology, class by class", pictures=[Picture(path, text)])


def _residuals(figures: Path, dataset: Dataset, truth: Truth, answers: Mapping[Method, Values], title: str) -> Section:
    """Residuals in bins of redshift and, where the catalogue has one, of r magnitude."""
    dz = {method: np.stack([residuals(z, truth.values) for z in given]) for method, given in answers.items()}
    quantities = {"redshift": ("spectroscopic redshift", truth.values)}
    column = next((name for name in MAGNITUDES if dataset.has(name)), None)
    if column is not None:
        magnitude = dereddened(dataset, column)[truth.indices]
        quantities["magnitude"] = (f"r magnitude ({column}, dereddened)", magnitude)
    pictures = []
    for name, (label, values) in quantities.items():
        known = np.isfinite(values)
        if known.any():
            path = figures / f"residuals_{name}.png"
            found = {method: in_bins(values[known], each[:, known]) for method, each in dz.items()}
            residuals_figure(path, found, label, title=title)
            unknown = "" if known.all() else f"; {int((~known).sum()):,} galaxies have none"
            pictures.append(Picture(path, f"residuals in bins of {label}{unknown}"))
    text = (
        "Bins hold equally many galaxies. A point is the seeds' mean; bars: one standard deviation over the galaxies."
    )
    return Section(title="Residuals of the photometric redshifts", text=[text], pictures=pictures)


def _ablation(figures: Path, scores: Sequence[Score], variants: Sequence[str]) -> list[Section]:
    """The pre-trainings beside each other by what is made of them, at the most labels that several were judged with."""
    pictures = []
    for task, name in TASK_NAMES.items():
        those = [score for score in scores if score.row.task == task and score.row.variant in variants]
        for method in by_method(those):
            line = _where_several([score for score in those if score.row.method == method])
            if line:
                path, title = figures / f"variants_{task}_{method}.png", f"{name}, {_most_labels(line)}"
                variants_figure(path, line, variants, title=title)
                pictures.append(Picture(path, f"{title}: {METHOD_NAMES[method]}"))
    text = (
        "The pre-training on top is the reference (dotted line); every other differs from it in what its name says. A "
        "filled point differs from the reference by more than two standard deviations of the difference, in which what "
        f"all find hard cancels. {ONCE}"
    )
    title = "What each part of the pre-training does"
    return [Section(title=title, text=[text], pictures=pictures)] if pictures else []


def _where_several(scores: Sequence[Score]) -> list[Score]:
    """Those at the largest share of the labels that more than one of them has; none where each has its own."""
    fractions = [score.row.fraction for score in scores]
    shared = max((each for each in fractions if fractions.count(each) > 1), default=None)
    return [score for score in scores if score.row.fraction == shared]
