"""From a recipe and a dataset to trainings, each a process of its own, and to what validation chooses among them.

A pre-training is shared by all that follows. Each method learns from nested shares of the labels, drawn by a seed; with
the first seed it tries every rate of the recipe, and the rate that is best on the validation split is the one that the
other seeds take. Nothing here looks at the test split: its members are in no training and in no choice.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np

from sharding import Dataset

from ..config import EncoderConfig, FinetuneConfig, Task, TrainingConfig, option
from ..data import Indices
from ..embedder import weights_digest
from ..errors import TrainerError
from ..flops import forward_flops
from ..labels import Labels, draw_labels
from ..tasks import Task as Labelling
from ..tasks import make_task
from ..trace import METRICS, read_trace
from ..trained import load_trained
from .enough import left_out
from .given import Given
from .recipe import Recipe, Trained
from .recipe import training as settings_of
from .results import PRETRAINED, Values
from .scheduler import Job
from .work import pretrain_work, ranks_for, training_work

DIGITS = 16  # of a digest
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
    """The trainings of a study in the folder ``out``; where a pre-training is ``given``, there is no other."""

    def __init__(self, recipe: Recipe, dataset: Dataset, out: Path, *, given: Given | None, devices: int) -> None:
        self.recipe, self.dataset, self.out = recipe, dataset, out
        self._given, self._devices = given, devices
        self.labels = cache(self._draw_labels)  # the galaxies of a task, a share and a seed, for all methods the same
        self._encoder_digest = cache(self._digest_of)
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

    def _draw_labels(self, task: Task, fraction: float, seed: int) -> Labels:
        return draw_labels(self.dataset, self._labelling[task], fraction, seed)

    @property
    def reference(self) -> str:
        """The pre-training that others are compared with."""
        return next(iter(self.recipe.variants))

    def encoders(self) -> dict[str, Path]:
        """The RUN of each pre-training, or the file that was given."""
        if self._given is not None:
            return {self.reference: self._given.source}
        return {name: self.out / "pretrain" / name for name in self.recipe.variants}

    def given_digest(self) -> str | None:
        """The weights of the pre-training that was given."""
        return None if self._given is None else self._given.digest

    def weight(self) -> float:
        """The FLOP of all jobs."""
        rates = dict.fromkeys(self.cells(), self.recipe.rates[0])
        trainings = [*self.first_trainings(), *self.other_trainings(rates)]
        return math.fsum(
            [
                *(job.weight for job in self.pretrainings()),
                *map(self._representation_weight, self.encoders()),
                *map(self._weight, trainings),
            ]
        )

    def embeddings(self) -> dict[str, Path]:
        """The file of each pre-training's representations."""
        return {name: self.out / "embeddings" / name / "embeddings.parquet" for name in self.encoders()}

    def fractions(self, task: Task) -> list[float]:
        """The recipe's shares of the labels that leave enough of them, for every seed."""
        seeds = range(self.recipe.seeds)
        return [each for each in self.recipe.fractions if all(self.labels(task, each, seed).enough for seed in seeds)]

    def left_out(self) -> list[str]:
        """What of the recipe is not done, for want of labels."""
        return [
            text for task in self.recipe.tasks for text in left_out(task, self.recipe.fractions, self.fractions(task))
        ]

    def pretraining_ranks(self) -> dict[str, int]:
        """How many ranks have made each pre-training that is the study's own."""
        ranks = {name: job.made_on for name, job in zip(self.encoders(), self.pretrainings(), strict=False)}
        return {name: count for name, count in ranks.items() if count is not None}

    def pretrainings(self) -> list[Job]:
        """The pre-trainings that are the study's own; one alone takes all devices that its batch can be shared over."""
        if self._given is not None:
            return []
        jobs = []
        galaxies = len(self.dataset.split("train")) + len(self.dataset.split("validation"))
        for name, run in self.encoders().items():
            config = self.recipe.variants[name]
            jobs.append(
                Job(
                    name=f"pre-training {name}",
                    words=("pretrain", *as_words(config)),
                    places=("--data", self._data, "--out", str(run)),
                    origin=(self._dataset,),
                    folder=run,
                    ranks=1 if len(self.recipe.variants) > 1 else ranks_for(config, self._devices),
                    weight=pretrain_work(config, len(self.dataset.bands), galaxies=galaxies).learning,
                )
            )
        return jobs

    def representations(self) -> list[Job]:
        """What every pre-training, which must have ended, makes of every galaxy."""
        files = self.embeddings()
        return [
            Job(
                name=f"representations {name}",
                words=("embed",),
                places=(str(run), "--data", self._data, "--out", str(files[name])),
                origin=(self._dataset, self._encoder_digest(name)),
                folder=files[name].parent,
                weight=self._representation_weight(name),
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

    def chosen_trainings(self, chosen: Mapping[Cell, float]) -> list[Training]:
        """What is asked about the test galaxies: each cell with all seeds, at the rate that was ``chosen`` for it."""
        firsts = [self._training(cell, FIRST_SEED, chosen[cell]) for cell in self.cells()]
        return [*firsts, *self.other_trainings(chosen)]

    def job(self, training: Training) -> Job:
        """The process that makes a training, once its pre-training has ended."""
        variant = training.cell.variant
        init = str(self.encoders()[variant].resolve()) if variant else "none"  # a run goes on with its own name for it
        return Job(
            name=training.name,
            words=("finetune", *as_words(training.config)),
            places=("--data", self._data, "--out", str(training.folder), "--init", init),
            origin=(self._dataset, self._encoder_digest(variant)) if variant else (self._dataset,),
            folder=training.folder,
            weight=self._weight(training),
            may_diverge=True,
        )

    def chosen_rates(self) -> dict[Cell, float]:
        """For each cell the rate that is best on validation with the first seed; of equal ones the first.

        A rate with which a training has diverged, be it with another seed, is chosen no more. Raises TrainerError where
        none is left, or where a training has left no score.
        """
        chosen: dict[Cell, tuple[float, float]] = {}
        for training in self.first_trainings():
            cell = training.cell
            if any(self.job(each).diverged for each in self._with_all_seeds(training)):
                continue
            score = self.validation_score(training)
            if cell not in chosen or score < chosen[cell][0]:
                chosen[cell] = score, training.rate
        for training in self.first_trainings():
            if training.cell not in chosen:
                raise TrainerError(
                    f"{training.folder.parent}: expected a rate with which training does not diverge, got none of "
                    f"{', '.join(map(str, self.recipe.rates))}; lower the recipe's [finetune.lr] {training.cell.method}"
                )
        return {cell: rate for cell, (_, rate) in chosen.items()}

    def diverged(self) -> list[str]:
        """The trainings that have diverged, by their names."""
        all_of_them = [each for first in self.first_trainings() for each in self._with_all_seeds(first)]
        return [each.name for each in all_of_them if self.job(each).diverged]

    def _with_all_seeds(self, training: Training) -> list[Training]:
        return [self._training(training.cell, seed, training.rate) for seed in range(self.recipe.seeds)]

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
        name = cell.method if cell.variant in ("", self.reference) else f"{cell.method}-{cell.variant}"
        folder = self.out / "runs" / cell.task / name / f"{cell.fraction:g}" / f"seed{seed}-x{rate:g}"
        return Training(cell, seed, rate, config, folder)

    def _digest_of(self, variant: str) -> str:
        """What tells a pre-training from another: read from its checkpoint, once."""
        given = self.given_digest()
        digest = weights_digest(load_trained(self.encoders()[variant]).network) if given is None else given
        return f"encoder {digest[:DIGITS]}"

    @property
    def _dataset(self) -> str:
        return f"dataset {self.dataset.digest[:DIGITS]}"

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

    def _representation_weight(self, variant: str) -> float:
        config = self.recipe.variants[variant]
        return forward_flops(config.encoder, len(self.dataset.bands), config.view_px) * len(self.dataset)


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
