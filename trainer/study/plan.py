"""From a recipe and a dataset to trainings, each a process of its own, and to what validation chooses among them.

A pre-training is shared by all that follows. Each method learns from nested shares of the labels, drawn by a seed; with
the first seed it tries every rate of the recipe, and the rate that is best on the validation split is the one that the
other seeds take. Nothing here looks at the test split: its members are in no training and in no choice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import get_args

import numpy as np

from sharding import Dataset
from sharding.splits import Split

from ..config import EncoderConfig, FinetuneConfig, Task, TrainingConfig, option
from ..data import Indices
from ..embedder import weights_digest
from ..errors import TrainerError
from ..flops import forward_flops
from ..labels import Labels, draw_labels
from ..tasks import Task as Labelling
from ..tasks import class_name, make_task
from ..trace import METRICS, read_trace
from ..trained import load_trained
from .recipe import Recipe, Trained
from .recipe import training as settings_of
from .results import PRETRAINED, Values
from .scheduler import Job
from .work import pretrain_work, ranks_for, training_work

FEWEST_TRAIN, FEWEST_TEST = 100, 50  # labels below which a figure of skill would be noise
FIRST_SEED = 0  # the one that rates are chosen with


@dataclass(frozen=True, slots=True)
class Cell:
    """What a training shares with those of other seeds and rates: a row of the table."""

    task: Task
    method: Trained
    variant: str  # the pre-training; "" from scratch
    fraction: float


@dataclass(frozen=True, slots=True)
class Training:
    """One training on labels."""

    cell: Cell
    seed: int
    rate: float  # factor of the method's learning rate
    config: FinetuneConfig
    folder: Path

    @property
    def name(self) -> str:
        """For people."""
        cell = self.cell
        method = f"{cell.method} {cell.variant}".strip()
        return f"{cell.task} {method}, {100 * cell.fraction:g} % of labels, seed {self.seed}, rate x{self.rate:g}"


class Plan:
    """The trainings of a study in the folder ``out``; where a run is given as ``init``, nothing is pre-trained."""

    def __init__(self, recipe: Recipe, dataset: Dataset, out: Path, *, init: Path | None, devices: int) -> None:
        self.recipe, self.dataset, self.out = recipe, dataset, out
        self._init, self._devices = init, devices
        self._labelling: dict[Task, Labelling] = {}
        for task in recipe.tasks:
            self._labelling[task] = make_task(FinetuneConfig(task=task), dataset)

    def labelling(self, task: Task) -> Labelling:
        """The labels of a task."""
        return self._labelling[task]

    def label_values(self, task: Task, indices: Indices) -> Values:
        """The redshifts, or the numbers of the classes, of galaxies whose label is known: (n,)."""
        if task == "photoz":
            return self.dataset.column(FinetuneConfig(task=task).label_column).astype(np.float64)[indices]
        return self._labelling[task].target(indices).astype(np.float64)

    def labels(self, task: Task, fraction: float, seed: int) -> Labels:
        """The galaxies whose labels the methods are given: the same ones for all of them."""
        return draw_labels(self.dataset, self._labelling[task], fraction, seed)

    @property
    def reference(self) -> str:
        """The pre-training that others are compared with."""
        return next(iter(self.recipe.variants))

    def encoders(self) -> dict[str, Path]:
        """The RUN of each pre-training."""
        if self._init is not None:
            return {self.reference: self._init}
        return {name: self.out / "pretrain" / name for name in self.recipe.variants}

    def init_digest(self) -> str | None:
        """The weights of the pre-training that was given."""
        return None if self._init is None else weights_digest(load_trained(self._init).network)

    def weight(self) -> float:
        """The FLOP of all trainings."""
        jobs = [*self.pretrainings(), *self.representations(), *map(self.job, self.first_trainings())]
        rates = dict.fromkeys(self.cells(), self.recipe.rates[0])
        return math.fsum(job.weight for job in [*jobs, *map(self.job, self.other_trainings(rates))])

    def embeddings(self) -> dict[str, Path]:
        """The file of each pre-training's representations."""
        return {name: self.out / "embeddings" / name / "embeddings.parquet" for name in self.encoders()}

    def fractions(self, task: Task) -> list[float]:
        """The recipe's shares of the labels that leave enough of them, for every seed."""
        seeds = range(self.recipe.seeds)
        return [each for each in self.recipe.fractions if all(self.labels(task, each, seed).enough for seed in seeds)]

    def pretrainings(self) -> list[Job]:
        """The pre-trainings that are the study's own; one alone takes all devices that its batch can be shared over."""
        if self._init is not None:
            return []
        jobs = []
        galaxies = len(self.dataset.split("train")) + len(self.dataset.split("validation"))
        for name, run in self.encoders().items():
            config = self.recipe.variants[name]
            jobs.append(
                Job(
                    name=f"pre-training {name}",
                    words=("pretrain", "--data", self._data, "--out", str(run), *as_words(config)),
                    folder=run,
                    ranks=1 if len(self.recipe.variants) > 1 else ranks_for(config, self._devices),
                    weight=pretrain_work(config, len(self.dataset.bands), galaxies=galaxies).learning,
                )
            )
        return jobs

    def representations(self) -> list[Job]:
        """What every pre-training makes of every galaxy."""
        files = self.embeddings()
        return [
            Job(
                name=f"representations {name}",
                words=("embed", str(run), "--data", self._data, "--out", str(files[name])),
                folder=files[name].parent,
                weight=self._forward_flops(self.recipe.variants[name]) * len(self.dataset),
            )
            for name, run in self.encoders().items()
        ]

    def cells(self) -> list[Cell]:
        """The rows of the table that take a training."""
        return [
            Cell(task, method, variant, fraction)
            for task in self.recipe.tasks
            for method in self.recipe.methods
            for variant in (self.encoders() if method in PRETRAINED else [""])
            for fraction in self.fractions(task)
        ]

    def first_trainings(self) -> list[Training]:
        """Each cell with the first seed, once with each rate."""
        return [self._training(cell, FIRST_SEED, rate) for cell in self.cells() for rate in self.recipe.rates]

    def other_trainings(self, chosen: Mapping[Cell, float]) -> list[Training]:
        """Each cell with the other seeds and the rate that was ``chosen`` for it."""
        seeds = range(FIRST_SEED + 1, self.recipe.seeds)
        return [self._training(cell, seed, chosen[cell]) for cell in self.cells() for seed in seeds]

    def chosen_trainings(self) -> list[Training]:
        """What is asked about the test galaxies: each cell with all seeds, at the rate that validation chose."""
        chosen = self.chosen_rates()
        firsts = [self._training(cell, FIRST_SEED, chosen[cell]) for cell in self.cells()]
        return [*firsts, *self.other_trainings(chosen)]

    def job(self, training: Training) -> Job:
        """The process that makes a training."""
        config = training.config
        init = str(self.encoders()[training.cell.variant]) if training.cell.variant else "none"
        words = ("finetune", "--data", self._data, "--out", str(training.folder), "--init", init, *as_words(config))
        return Job(name=training.name, words=words, folder=training.folder, weight=self._weight(training))

    def chosen_rates(self) -> dict[Cell, float]:
        """For each cell the rate that is best on validation with the first seed; of equal ones the first.

        Raises TrainerError where a training has left no score.
        """
        chosen: dict[Cell, tuple[float, float]] = {}
        for training in self.first_trainings():
            score = self.validation_score(training)
            if training.cell not in chosen or score < chosen[training.cell][0]:
                chosen[training.cell] = score, training.rate
        return {cell: rate for cell, (_, rate) in chosen.items()}

    def validation_score(self, training: Training) -> float:
        """The score of the epoch that the training kept; lower is better."""
        name = self._labelling[training.cell.task].score_name
        records = read_trace(training.folder / METRICS).records
        scores = [float(record[name]) for record in records if name in record]
        if not scores:
            raise TrainerError(f"{training.folder}: expected a score on validation, found none; remove the folder")
        return min(scores)

    def _training(self, cell: Cell, seed: int, rate: float) -> Training:
        config = settings_of(
            self.recipe,
            task=cell.task,
            method=cell.method,
            fraction=cell.fraction,
            seed=seed,
            rate=rate,
            labels=len(self.labels(cell.task, cell.fraction, seed).train),
        )
        if cell.variant:
            config = replace(config, encoder=self._encoder(cell.variant))
        name = cell.method if cell.variant in ("", self.reference) else f"{cell.method}-{cell.variant}"
        folder = self.out / "runs" / cell.task / name / f"{cell.fraction:g}" / f"seed{seed}-x{rate:g}"
        return Training(cell, seed, rate, config, folder)

    def _encoder(self, variant: str) -> EncoderConfig:
        if self._init is not None:
            return load_trained(self._init).info.config.encoder
        return self.recipe.variants[variant].encoder

    def _weight(self, training: Training) -> float:
        labels = self.labels(training.cell.task, training.cell.fraction, training.seed)
        work = training_work(
            training.config,
            len(self.dataset.bands),
            self._labelling[training.cell.task].outputs,
            labels=len(labels.train),
            judged=len(labels.validation),
        )
        return work.learning + work.looking

    @property
    def _data(self) -> str:
        return str(self.dataset.location)

    def _forward_flops(self, config: TrainingConfig) -> float:
        return forward_flops(config.encoder, len(self.dataset.bands), config.view_px)


def few_labels(recipe: Recipe, dataset: Dataset) -> dict[Task, str]:
    """The recipe's tasks that the dataset has too few labels for, each with a sentence that says so."""
    found: dict[Task, str] = {}
    for task in recipe.tasks:
        labelling = _labelling(task, dataset)
        count = {
            split: int(labelling.known(dataset.split(split)).sum()) if labelling else 0 for split in get_args(Split)
        }
        if count["train"] < FEWEST_TRAIN or count["test"] < FEWEST_TEST:
            known = sum(count.values())
            verb = "has" if known == 1 else "have"
            what = {"photoz": "a redshift", "morphology": "a class"}[task]
            found[task] = f"{known:,} of {len(dataset):,} samples {verb} {what}: too few to measure skill; no table."
    return found


def _labelling(task: Task, dataset: Dataset) -> Labelling | None:
    """The labels of a task; None where there are none, or a single class."""
    config = FinetuneConfig(task=task)
    if not dataset.has(config.label_column):
        return None
    if task == "morphology":
        values = dataset.column(config.label_column)[dataset.split("train")].tolist()
        if len({class_name(value) for value in values} - {None}) < 2:
            return None
    return make_task(config, dataset)


def as_words(config: TrainingConfig | EncoderConfig) -> list[str]:
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
