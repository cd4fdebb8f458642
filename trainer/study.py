"""`python -m trainer study`: what pre-training is worth for redshifts, beside what an astronomer would try first.

The rows of the table are methods: two that see the catalogue alone, and three trainings that share one recipe: from
scratch, a linear probe of the pre-trained encoder, and fine-tuning it. Each training is a process of its own in
STUDY/runs/ that resumes or, where it is done, ends at once. All are scored on the same test galaxies, with the same
bootstrap draws. Written: table.json, table.md and, with pictures, index.html (see `study_report`).
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import get_args

import numpy as np

from sharding import Dataset, atomic_file
from sharding.splits import Split

from .baselines import NEIGHBOURS, catalogue_estimates, mean_estimates, photometry
from .config import EncoderConfig, FinetuneConfig, PretrainConfig, option
from .errors import TrainerError
from .evaluate import evaluate
from .judge_photoz import labelled
from .metrics import PhotozScore, score_photoz
from .page import Table
from .runfolder import RunInfo
from .settings import add_settings, config_from
from .study_report import write_report

FEWEST_TRAIN, FEWEST_TEST = 100, 50  # labels below which a figure of skill would be noise
PROBE_PASSES = (
    10  # a probe's epochs for each of the others': its features are computed once, so they cost next to nothing
)
OWN_SETTINGS = ("task", "freeze", "label_fraction")  # what tells the methods apart is not the user's to set


@dataclass(frozen=True, slots=True)
class Method:
    """One way to get a redshift that needs a training."""

    folder: str  # in STUDY/runs
    name: str
    pretrained: bool
    freeze: bool

    def config(self, recipe: FinetuneConfig) -> FinetuneConfig:
        """The recipe as this method follows it."""
        return replace(recipe, freeze=True, epochs=recipe.epochs * PROBE_PASSES) if self.freeze else recipe


METHODS = (
    Method("supervised", "supervised from scratch", pretrained=False, freeze=False),
    Method("probe", "linear probe of the pre-trained encoder", pretrained=True, freeze=True),
    Method("finetuned", "fine-tuned from the pre-trained encoder", pretrained=True, freeze=False),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A method and its figures on the test galaxies."""

    method: str
    score: PhotozScore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--data", required=True, metavar="DATASET", help="dataset with redshifts")
    parser.add_argument("--init", type=Path, required=True, metavar="RUN", help="the pre-training to judge")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study; goes on where it stands")
    parser.add_argument("--nproc-per-node", type=int, default=1, help="ranks of each training (default: 1)")
    add_settings(parser, FinetuneConfig)


def run(args: argparse.Namespace) -> int:
    """Run what is not done, print the table or why there is none, and where the page is."""
    if given := [name for name in OWN_SETTINGS if hasattr(args, name)]:
        raise TrainerError(f"study: {option(given[0])} is what the study varies; leave it out")
    info = RunInfo.read(args.init)
    if not isinstance(info.config, PretrainConfig):
        raise TrainerError(f"{args.init}: expected a pre-training, got a {info.kind} run; give the one to judge")
    config = config_from(args, FinetuneConfig, info.config.encoder)
    text, page = study(config, Dataset.open(args.data), args.init, args.out, ranks=args.nproc_per_node)
    print(f"{text}\n{page}")
    return 0


def study(config: FinetuneConfig, dataset: Dataset, init: Path, out: Path, *, ranks: int = 1) -> tuple[str, Path]:
    """Everything that STUDY holds; returns what there is to say, the table or why there is none, and the page."""
    out.mkdir(parents=True, exist_ok=True)
    if reason := too_few(dataset, config):
        return reason, write_report(out, dataset, init, runs={}, table=None, notes=[reason])
    rows, missing = baselines(dataset, config)
    for method in METHODS:
        folder = out / "runs" / method.folder
        train(method.config(config), dataset, folder, init if method.pretrained else None, ranks)
        result = evaluate(folder, dataset)
        rows.append(Row(method.name, PhotozScore(**{item.name: result[item.name] for item in fields(PhotozScore)})))
    write_table(out, dataset, rows)
    runs = {method.name: out / "runs" / method.folder for method in METHODS}
    notes = [recipe_line(config, dataset), *missing]
    page = write_report(out, dataset, init, runs=runs, table=text_table(rows), notes=notes)
    return "\n".join([markdown(text_table(rows)), *notes]), page


def recipe_line(config: FinetuneConfig, dataset: Dataset) -> str:
    """What the trainings have in common, in a sentence."""
    train, validation = (len(labelled(dataset, config, split)) for split in ("train", "validation"))
    return (
        f"Trained on {train:,} galaxies in batches of {config.batch}: {config.epochs} epochs, the probe {PROBE_PASSES} "
        f"times as many (its features are computed once); each keeps the epoch that is best on {validation:,} others."
    )


def too_few(dataset: Dataset, config: FinetuneConfig) -> str:
    """Why there can be no table, in a sentence; empty where there can."""
    has = dataset.has(config.label_column)
    count = {split: len(labelled(dataset, config, split)) if has else 0 for split in get_args(Split)}
    if count["train"] >= FEWEST_TRAIN and count["test"] >= FEWEST_TEST:
        return ""
    known = sum(count.values())
    verb = "has" if known == 1 else "have"
    return f"{known:,} of {len(dataset):,} samples {verb} a redshift: too few to measure skill; no table."


def baselines(dataset: Dataset, config: FinetuneConfig) -> tuple[list[Row], list[str]]:
    """The methods that see the catalogue alone, and why one is missing where it is."""
    redshift = dataset.column(config.label_column).astype(np.float64)
    train, test = labelled(dataset, config, "train"), labelled(dataset, config, "test")
    truth = redshift[test]
    rows = [Row("the mean redshift for all", score_photoz(mean_estimates(redshift[train], len(test)), truth))]
    try:
        catalogue = photometry(dataset)
    except TrainerError as err:
        return rows, [f"No row of neighbours: {err}"]
    estimates = catalogue_estimates(catalogue, redshift, train, test)
    name = f"{NEIGHBOURS} nearest neighbours, {catalogue.description}"
    return [*rows, Row(name, score_photoz(estimates, truth))], []


def train(config: FinetuneConfig, dataset: Dataset, folder: Path, init: Path | None, ranks: int) -> None:
    """Run `finetune` as a process of its own, or several under torchrun; what it says is seen as it says it."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    command = ["finetune", "--data", str(dataset.location), "--out", str(folder), "--init", str(init or "none")]
    words = [sys.executable, *torchrun, "-m", "trainer", *command, *as_words(config)]
    status = subprocess.run(words, check=False).returncode
    if status:
        raise TrainerError(f"{folder}: its training ended with status {status}; what it said is above")


def as_words(config: FinetuneConfig | EncoderConfig) -> list[str]:
    """The settings that are not the defaults, as command-line words."""
    words: list[str] = []
    for item in fields(config):
        value = getattr(config, item.name)
        if isinstance(value, EncoderConfig):
            words += as_words(value)
        elif isinstance(value, bool):
            words += [option(item.name)] if value else []
        elif value != item.default:
            words += [option(item.name), str(value)]
    return words


def text_table(rows: Sequence[Row]) -> Table:
    """The rows as text: value, one bootstrap standard deviation."""
    head = ("method", "sigma_MAD", "eta", "bias", "test galaxies")
    return Table(head, [(row.method, *_cells(row.score)) for row in rows])


def _cells(score: PhotozScore) -> tuple[str, str, str, str]:
    return (
        f"{score.sigma_mad:.4f} ± {score.sigma_mad_error:.4f}",
        f"{100 * score.eta:.2f} ± {100 * score.eta_error:.2f} %",
        f"{score.bias:+.4f} ± {score.bias_error:.4f}",
        f"{score.n:,}",
    )


def write_table(out: Path, dataset: Dataset, rows: Sequence[Row]) -> None:
    """table.json for programs, table.md for people."""
    content = {
        "dataset": dataset.digest,
        "rows": [{"method": row.method, **asdict(row.score)} for row in rows],
    }
    with atomic_file(out / "table.json") as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())
    with atomic_file(out / "table.md") as file:
        file.write(markdown(text_table(rows)).encode())


def markdown(table: Table) -> str:
    """The table as Markdown whose columns line up, so that it reads in a terminal too."""
    lines = [list(table.head), *map(list, table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.head))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    rule = ["-" * width for width in widths]
    return "".join(f"| {' | '.join(line)} |\n" for line in [padded[0], rule, *padded[1:]])
