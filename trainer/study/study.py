"""A study from its first training to its page; what has left its result in STUDY is not done again.

The order is the point of it: whatever learns or chooses comes first; then all methods answer for the test galaxies of
all tasks; the truth about these is read last, by `truth_of`, and goes nowhere but into the table, the figures and the
page. Two studies with the same recipe and dataset give the same table on as many devices of the same kind.
"""

import json
from collections.abc import Callable, Mapping, Sequence
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
from .catalogue import CATALOGUE_METHODS, CatalogueMethod, Labelled, catalogue_answer, encoder_answer
from .claim import sentences
from .devices import described, devices
from .enough import few_labels
from .given import judging, read_given
from .held import Held
from .plan import FIRST_SEED, Cell, Plan
from .recipe import Recipe
from .report import write_report
from .results import Answer, Method, Row, Score, Truth, Values
from .scheduler import Job, Scheduler
from .scores import score
from .table import write_table

Ask = Callable[[Labelled, Labelled, int], tuple[Values, str]]  # known, validation, seed: answers, what was chosen

FORMAT = "skymill-study"
CORE_FLOPS = 0.07e12  # a second, of a core in training: what recipes/small.toml says was measured


def conduct(recipe: Recipe, dataset: Dataset, out: Path, *, init: Path | None, console: Console) -> tuple[str, Path]:
    """Do what is not done; gives what there is to say (sentences and the table, or why there is none), and the page."""
    require("sklearn", extra="study", needed_by="study: gradient-boosted trees")  # now, and not after the trainings
    given = None if init is None else read_given(init)
    recipe, notes = (recipe, []) if given is None else judging(recipe, given)
    few = few_labels(recipe, dataset)
    recipe = replace(recipe, tasks=tuple(task for task in recipe.tasks if task not in few))
    plan = Plan(recipe, dataset, out, given=given, devices=len(devices()))
    notes = [*few.values(), *plan.left_out(), *notes]
    with Held(out) as held:
        enter(plan)
        for line in (*notes, *_opening(plan)):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        chosen = train(plan, held, console)
        if lost := plan.diverged():
            notes.append(f"Diverged, and therefore not chosen: {'; '.join(lost)}.")
        answers = {task: rows_of(plan, task, chosen, console) for task in recipe.tasks}
        for _, remarks in answers.values():
            notes += [each for each in remarks if each not in notes]
        truths = {task: truth_of(plan, task) for task in recipe.tasks}
        scores: list[Score] = []
        for task, (rows, _) in answers.items():
            scores += score([_about(row, plan, truths[task]) for row in rows], truths[task])
        return publish(plan, scores, truths, notes)


def _opening(plan: Plan) -> list[str]:
    """What lies ahead, where it is more than cores should be asked to do."""
    cores = [device for device in devices() if device.gpu is None]
    days = plan.weight() / (CORE_FLOPS * max(1, len(cores))) / 86_400
    if not cores or days < 1:
        return []
    return [
        f"Without a GPU this takes about {days:,.0f} days on {len(cores)} cores; --recipe small is made for them, "
        "--dry-run tells what a recipe takes"
    ]


def enter(plan: Plan) -> None:
    """Begin or go on; TrainerError where STUDY is of another dataset or another pre-training."""
    path = plan.out / "study.json"
    now = {"format": FORMAT, "dataset": plan.dataset.digest, "init": plan.given_digest()}
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


def train(plan: Plan, held: Held, console: Console) -> dict[Cell, float]:
    """Everything that learns, and the rates that validation has chosen."""
    with Scheduler(devices(), console, plan.weight(), held=held) as scheduler:
        scheduler.carry_out(plan.pretrainings())
        scheduler.carry_out(plan.representations())
        scheduler.carry_out([plan.job(each) for each in plan.first_trainings()], _prune)
        chosen, before = plan.chosen_rates(), None
        while chosen != before:  # a rate that has diverged with another seed makes room for the next best one
            scheduler.carry_out([plan.job(each) for each in plan.other_trainings(chosen)], _prune)
            chosen, before = plan.chosen_rates(), chosen
        return chosen


def _prune(job: Job) -> None:
    """Remove what the run would go on from, which is of no use once it is done; its best network stays."""
    for path in checkpoint_files(job.folder).values():
        path.unlink()


def rows_of(plan: Plan, task: Task, chosen: Mapping[Cell, float], console: Console) -> tuple[list[Row], list[str]]:
    """What each method answers for all galaxies of the test split, and why a method is missing where one is."""
    asked = plan.dataset.split("test")
    rows = _trained_rows(plan, task, chosen, asked, console)
    for variant in plan.encoders():
        rows += _encoder_rows(plan, task, variant, asked)
    try:
        catalogue = photometry(plan.dataset)
    except TrainerError as err:
        return rows, [f"Without the methods that see the catalogue alone: {err}"]
    several = [_catalogue_rows(plan, task, method, catalogue, asked) for method in CATALOGUE_METHODS]
    return [*rows, *(row for some in several for row in some)], []


def _trained_rows(plan: Plan, task: Task, chosen: Mapping[Cell, float], asked: Indices, console: Console) -> list[Row]:
    """Of the trainings that validation chose."""
    trainings = [each for each in plan.chosen_trainings(chosen) if each.cell.task == task]
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


def _encoder_rows(plan: Plan, task: Task, variant: str, asked: Indices) -> list[Row]:
    """Of a pre-training's neighbours."""
    table = Embeddings(plan.embeddings()[variant])
    vectors = table.rows(np.arange(len(table)))  # in the order of the dataset

    def ask(known: Labelled, validation: Labelled, seed: int) -> tuple[Values, str]:
        count = len(plan.recipe.rates)
        return encoder_answer(vectors, known, validation, asked, task=task, candidates=count)

    return _untrained_rows(plan, task, "neighbours", variant, ask)


def _catalogue_rows(
    plan: Plan, task: Task, method: CatalogueMethod, catalogue: Photometry, asked: Indices
) -> list[Row]:
    """Of magnitudes alone."""

    def ask(known: Labelled, validation: Labelled, seed: int) -> tuple[Values, str]:
        count = len(plan.recipe.rates)
        return catalogue_answer(method, catalogue, known, validation, asked, task=task, candidates=count, seed=seed)

    return _untrained_rows(plan, task, method, "", ask)


def _untrained_rows(plan: Plan, task: Task, method: Method, variant: str, ask: Ask) -> list[Row]:
    """A row for each share of the labels, an answer for each seed."""
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
    """The labels of the test split, read here alone; elsewhere they are counted, to see if there are enough."""
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
    fraction = plan.recipe.fractions[-1]  # any: the validation split is used whole
    validation = {task: len(plan.labels(task, fraction, FIRST_SEED).validation) for task in plan.recipe.tasks}
    if scores:
        write_table(
            plan.out,
            scores,
            dataset=plan.dataset.digest,
            recipe=plan.recipe.name,
            settings=plan.recipe.digest,
            validation=validation,
            devices=described(devices()),
            ranks=plan.pretraining_ranks(),
        )
        text = (plan.out / "table.md").read_text(encoding="utf-8")
    page = write_report(
        plan.out,
        plan.dataset,
        plan.recipe,
        scores,
        truths,
        plan.encoders(),
        plan.embeddings(),
        sentences(scores, validation),
        notes,
    )
    return "\n".join([text, *notes]).strip(), page
