"""A study from its first training to its page; what has left its result in STUDY is not done again.

The order is the point of it: whatever learns or chooses comes first; then all methods answer for the test galaxies; the
truth about these is read last, by `truth_of`, and goes nowhere but into the table, the figures and the page.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from sharding import Dataset, atomic_file

from ..baselines import Photometry, photometry
from ..config import Task
from ..data import Indices
from ..embeddings import Embeddings
from ..errors import TrainerError
from ..extras import require
from ..trace import checkpoint_files
from .answers import answers_of_run
from .catalogue import CATALOGUE_METHODS, Labelled, catalogue_answer, encoder_answer
from .claim import sentences
from .devices import devices
from .plan import Cell, Plan, Training, few_labels
from .recipe import Recipe
from .report import write_report
from .results import Answer, Method, Row, Score, Truth, Values
from .scheduler import Scheduler
from .scores import score
from .table import write_table

Ask = Callable[[Labelled, Labelled, int], tuple[Values, str]]  # known, validation, seed: answers, what was chosen

FORMAT = "skymill-study"


def conduct(recipe: Recipe, dataset: Dataset, out: Path, *, init: Path | None, console: Console) -> tuple[str, Path]:
    """Do what is not done; gives what there is to say (sentences and the table, or why there is none), and the page."""
    require("sklearn", extra="study", needed_by="study: gradient-boosted trees")  # now, and not after the trainings
    notes = few_labels(recipe, dataset)
    recipe = replace(recipe, tasks=tuple(task for task in recipe.tasks if task not in notes))
    plan = Plan(recipe, dataset, out, init=init, devices=len(devices()))
    train(plan, console)
    said = list(notes.values())
    scores: list[Score] = []
    truths: dict[Task, Truth] = {}
    for task in recipe.tasks:
        rows, remarks = rows_of(plan, task, console)
        truths[task] = truth_of(plan, task)
        scores += score([_about(row, plan, truths[task]) for row in rows], truths[task])
        said += [each for each in remarks if each not in said]
    return publish(plan, scores, truths, said)


def enter(plan: Plan) -> None:
    """Begin or go on; TrainerError where STUDY is of another dataset or another pre-training."""
    path = plan.out / "study.json"
    now = {"format": FORMAT, "dataset": plan.dataset.digest, "init": plan.init_digest()}
    if path.exists():
        try:
            held = json.loads(path.read_bytes())
        except ValueError as err:
            raise TrainerError(f"{path}: damaged ({err}); remove it if {plan.out} is the study that you mean") from err
        if held != now:
            raise TrainerError(
                f"{plan.out}: holds a study of another dataset or another pre-training; give that one, or choose "
                "another --out"
            )
    with atomic_file(path) as file:
        file.write((json.dumps(now, indent=1) + "\n").encode())


def train(plan: Plan, console: Console) -> None:
    """Everything that learns, and the choice of the rates."""
    with Scheduler(devices(), console, plan.weight(), study=plan.out) as scheduler:
        enter(plan)
        scheduler.carry_out(plan.pretrainings())
        scheduler.carry_out(plan.representations())
        _carry_out(scheduler, plan, plan.first_trainings())
        _carry_out(scheduler, plan, plan.other_trainings(plan.chosen_rates()))


def _carry_out(scheduler: Scheduler, plan: Plan, trainings: Sequence[Training]) -> None:
    scheduler.carry_out([plan.job(each) for each in trainings])
    for each in trainings:  # what a run would go on from is of no use once it is done; its best network stays
        for path in checkpoint_files(each.folder).values():
            path.unlink()


def rows_of(plan: Plan, task: Task, console: Console) -> tuple[list[Row], list[str]]:
    """What each method answers for all galaxies of the test split, and why a method is missing where one is."""
    asked = plan.dataset.split("test")
    rows = [*_trained_rows(plan, task, asked, console), *_encoder_rows(plan, task, asked)]
    try:
        catalogue = photometry(plan.dataset)
    except TrainerError as err:
        return rows, [f"Without the methods that see the catalogue alone: {err}"]
    return [*rows, *_catalogue_rows(plan, task, asked, catalogue)], []


def _trained_rows(plan: Plan, task: Task, asked: Indices, console: Console) -> list[Row]:
    """Of the trainings that validation chose."""
    trainings = [each for each in plan.chosen_trainings() if each.cell.task == task]
    answers: dict[Cell, list[Answer]] = {}
    for each in track(trainings, f"{task}: test galaxies", console=console, disable=not console.is_terminal):
        answer = Answer(
            seed=each.seed,
            labels=len(plan.labels(task, each.cell.fraction, each.seed).train),
            chosen=f"learning rate {each.config.first_lr:g}",
            values=answers_of_run(each.folder, plan.dataset, task, asked),
        )
        answers.setdefault(each.cell, []).append(answer)
    return [
        Row(task=task, method=cell.method, variant=cell.variant, fraction=cell.fraction, answers=tuple(given))
        for cell, given in answers.items()
    ]


def _encoder_rows(plan: Plan, task: Task, asked: Indices) -> list[Row]:
    """Of each pre-training's neighbours."""
    rows: list[Row] = []
    for variant, path in plan.embeddings().items():
        table = Embeddings(path)
        vectors = table.rows(np.arange(len(table)))  # in the order of the dataset

        def ask(known: Labelled, validation: Labelled, seed: int) -> tuple[Values, str]:
            count = len(plan.recipe.rates)
            return encoder_answer(vectors, known, validation, asked, task=task, candidates=count)  # noqa: B023

        rows += _untrained_rows(plan, task, "neighbours", variant, ask)
    return rows


def _catalogue_rows(plan: Plan, task: Task, asked: Indices, catalogue: Photometry) -> list[Row]:
    """Of magnitudes alone."""
    rows: list[Row] = []
    for method in CATALOGUE_METHODS:

        def ask(known: Labelled, validation: Labelled, seed: int) -> tuple[Values, str]:
            count = len(plan.recipe.rates)
            return catalogue_answer(
                method,  # noqa: B023
                catalogue,
                known,
                validation,
                asked,
                task=task,
                candidates=count,
                seed=seed,
            )

        rows += _untrained_rows(plan, task, method, "", ask)
    return rows


def _untrained_rows(plan: Plan, task: Task, method: Method, variant: str, ask: Ask) -> list[Row]:
    """A row for each share of the labels, an answer for each seed; ``ask`` is done with when this returns."""
    seeds = range(plan.recipe.seeds)
    return [
        Row(
            task=task,
            method=method,
            variant=variant,
            fraction=fraction,
            answers=tuple(_untrained_answer(plan, task, fraction, seed, ask) for seed in seeds),
        )
        for fraction in plan.fractions(task)
    ]


def _untrained_answer(plan: Plan, task: Task, fraction: float, seed: int, ask: Ask) -> Answer:
    labels = plan.labels(task, fraction, seed)
    known, validation = (Labelled(each, plan.label_values(task, each)) for each in (labels.train, labels.validation))
    values, chosen = ask(known, validation, seed)
    return Answer(seed=seed, labels=len(labels.train), chosen=chosen, values=values)


def truth_of(plan: Plan, task: Task) -> Truth:
    """The labels of the test split. The only place that reads them."""
    test = plan.dataset.split("test")
    indices = test[plan.labelling(task).known(test)]
    return Truth(
        task=task, indices=indices, values=plan.label_values(task, indices), classes=plan.labelling(task).classes
    )


def _about(row: Row, plan: Plan, truth: Truth) -> Row:
    """What the row says of the galaxies whose truth is known."""
    place = np.searchsorted(plan.dataset.split("test"), truth.indices)
    return replace(row, answers=tuple(replace(each, values=each.values[place]) for each in row.answers))


def publish(plan: Plan, scores: Sequence[Score], truths: dict[Task, Truth], notes: Sequence[str]) -> tuple[str, Path]:
    """The table, the figures and the page; gives what there is to say and where the page is."""
    text = ""
    if scores:
        settings = plan.recipe.digest
        write_table(plan.out, scores, dataset=plan.dataset.digest, recipe=plan.recipe.name, settings=settings)
        text = (plan.out / "table.md").read_text(encoding="utf-8")
    page = write_report(
        plan.out,
        plan.dataset,
        plan.recipe.about,
        scores,
        truths,
        plan.encoders(),
        plan.embeddings(),
        sentences(scores),
        notes,
    )
    return "\n".join([text, *notes]).strip(), page
