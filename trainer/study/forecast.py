"""What a study will take, before it is begun: steps, operations, memory and time of every stage.

The settings come from `recipe.training`, as those of the trainings themselves do, so a recipe that can be forecast can
be run. Operations are counted (`flops`), memory is counted (`memory`); time is operations over a rate that a device is
assumed to sustain, which the recipe says and the forecast repeats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from sharding import Dataset
from sharding.splits import BOUNDS, Split

from ..config import FinetuneConfig, Task
from ..flops import forward_flops
from ..labels import FEWEST_TRAIN
from ..page import Table
from ..tasks import make_task
from .enough import few_labels, left_out
from .memory import finetune_memory, pretrain_memory
from .recipe import Assumed, Recipe, Trained, training
from .results import PRETRAINED
from .table import markdown
from .work import Work, pretrain_work, ranks_for, training_work

SDSS_BANDS = 5
CLASSES = 5  # of a morphology, which only a dataset can tell; a head's operations are next to none

Phase = Literal["pre-training", "representations", "training on labels", "test galaxies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Runs that are alike."""

    phase: Phase
    name: str
    turns: tuple[int, ...]  # runs side by side, in one turn after the other
    work: Work  # of each
    seconds: float  # of each
    memory: int | None = None  # bytes on each device
    ranks: int = 1  # devices that share a run

    @property
    def runs(self) -> int:
        """In all turns."""
        return sum(self.turns)

    @property
    def device_s(self) -> float:
        """Seconds of a device that all runs take."""
        return self.runs * self.seconds * self.ranks


@dataclass(frozen=True, slots=True)
class Forecast:
    """All stages, and what they come to."""

    recipe: Recipe
    assumed: Assumed
    stages: tuple[Stage, ...]
    left_out: tuple[str, ...] = ()  # shares of the labels that are too few

    @property
    def device_s(self) -> float:
        """Seconds of a device."""
        return sum(stage.device_s for stage in self.stages)

    @property
    def wall_s(self) -> float:
        """Seconds from beginning to end: a phase begins when the one before it has ended, and so does a turn."""
        phases = dict.fromkeys(stage.phase for stage in self.stages)
        return sum(self._phase_s([stage for stage in self.stages if stage.phase == phase]) for phase in phases)

    def _phase_s(self, stages: Sequence[Stage]) -> float:
        """Each turn takes as long as its runs, spread evenly, or as its longest run."""
        total = 0.0
        for turn in range(max(len(stage.turns) for stage in stages)):
            runs = [(stage, stage.turns[turn]) for stage in stages if turn < len(stage.turns) and stage.turns[turn]]
            spread = sum(count * stage.seconds * stage.ranks for stage, count in runs) / self.assumed.devices
            total += max([spread, *(stage.seconds for stage, _ in runs)])
        return total

    def table(self) -> Table:
        """A line a stage."""
        head = ("stage", "runs", "steps of each", "images of all", "FLOP of all", "GB on a device", "time of a device")
        return Table(head, [_cells(stage) for stage in self.stages])

    def sentences(self) -> list[str]:
        """What it comes to, what it stands on, and what stands against it."""
        assumed = self.assumed
        speeds = f"{assumed.plain.tflops:g} TFLOP/s a device"
        if assumed.compiled is not None:
            speeds += f" ({assumed.compiled.tflops:g} with compile)"
        labelled = [f"{assumed.labelled[task]:,} with a label of {task}" for task in self.recipe.tasks]
        counts = ", ".join([f"{assumed.galaxies:,} galaxies", *labelled])
        shares = "/".join(f"{100 * (high - low):.0f}" for low, high in BOUNDS.values())
        return [
            f"{_span(self.device_s)} of a device, {_span(self.wall_s)} on {assumed.devices} of them.",
            f"Counted for {counts}, split {shares} % by identity.",
            f"Assumed: {speeds}, at least {assumed.step_ms:g} ms a step, {assumed.plain.start_s:g} s a process"
            f"{f' ({assumed.compiled.start_s:g} s with compile)' if assumed.compiled else ''}. {assumed.source}",
            "Memory: weights, gradients, moments, queue, images and activations, counted as without compile; what "
            "libraries and the allocator need comes on top. So do, in time, the baselines, the figures and the page.",
            *self._too_large(),
            *self.left_out,
        ]

    def _too_large(self) -> Iterator[str]:
        limit = self.assumed.memory_gb
        for stage in self.stages:
            if stage.memory is not None and stage.memory > 1e9 * limit:
                yield (
                    f"{stage.name}: {stage.memory / 1e9:.3g} GB do not fit a device of {limit:g} GB; raise accumulate, "
                    "or share a batch over more devices."
                )


def told(recipe: Recipe, dataset: Dataset | None, *, devices: int | None, tflops: float | None) -> str:
    """The forecast as people read it; what is given counts in place of what the recipe assumes.

    Raises TrainerError where the recipe makes a training that cannot be, or a number is out of range.
    """
    assumed, notes, bands = recipe.assumed, list[str](), SDSS_BANDS
    if dataset is not None:
        few = few_labels(recipe, dataset)
        recipe = replace(recipe, tasks=tuple(task for task in recipe.tasks if task not in few))
        assumed, notes, bands = _counted(recipe, dataset), list(few.values()), len(dataset.bands)
    if devices is not None:
        assumed = replace(assumed, devices=devices)
    if tflops is not None:
        compiled = None if assumed.compiled is None else replace(assumed.compiled, tflops=tflops)
        assumed = replace(assumed, plain=replace(assumed.plain, tflops=tflops), compiled=compiled)
    found = forecast(recipe, assumed, bands=bands)
    return "\n".join([markdown(found.table()), *found.sentences(), *notes])


def _counted(recipe: Recipe, dataset: Dataset) -> Assumed:
    """With a dataset's galaxies and labels; those of the test split are taken to be as frequent as the others."""
    members = np.union1d(dataset.split("train"), dataset.split("validation"))
    share = {task: make_task(FinetuneConfig(task=task), dataset).known(members).mean() for task in recipe.tasks}
    labelled = {task: round(len(dataset) * float(known)) for task, known in share.items()}
    return replace(recipe.assumed, galaxies=len(dataset), labelled=labelled)


def forecast(recipe: Recipe, assumed: Assumed | None = None, *, bands: int = SDSS_BANDS) -> Forecast:
    """Of a recipe; ``assumed`` in place of its own where a dataset or a machine is at hand.

    Raises TrainerError where the recipe makes a training that cannot be.
    """
    assumed = assumed or recipe.assumed
    stages = [
        *_pretrainings(recipe, assumed, bands),
        *_trainings(recipe, assumed, bands),
        *_answers(recipe, assumed, bands),
    ]
    kept = list(_shares(recipe, assumed))
    few = [
        text
        for task in recipe.tasks
        for text in left_out(task, recipe.fractions, [fraction for name, fraction, _ in kept if name == task])
    ]
    return Forecast(recipe, assumed, tuple(stages), tuple(few))


def _pretrainings(recipe: Recipe, assumed: Assumed, bands: int) -> Iterator[Stage]:
    """One alone takes all devices; several run side by side. Then each one's representations of all galaxies."""
    members = _count(assumed.galaxies, "train") + _count(assumed.galaxies, "validation")
    for name, config in recipe.variants.items():
        ranks = ranks_for(config, assumed.devices) if len(recipe.variants) == 1 else 1
        work = pretrain_work(config, bands, galaxies=members)
        yield Stage(
            phase="pre-training",
            name=f"pre-training {name}",
            turns=(1,),
            work=work,
            seconds=work.seconds(assumed.speed(config), assumed.step_ms, ranks),
            memory=pretrain_memory(config, bands, ranks=ranks).total,
            ranks=ranks,
        )
    seen = Work(steps=0, images=assumed.galaxies, learning=0.0, looking=assumed.galaxies * _forward(recipe, bands))
    yield Stage(
        phase="representations",
        name="representations",
        turns=(len(recipe.variants),),
        work=seen,
        seconds=seen.seconds(assumed.plain, assumed.step_ms),
    )


def _trainings(recipe: Recipe, assumed: Assumed, bands: int) -> Iterator[Stage]:
    """The first seed with every rate, then the other seeds with the rate that was chosen."""
    for task, fraction, labels in _shares(recipe, assumed):
        judged = _count(assumed.labelled[task], "validation")
        for method in recipe.methods:
            config = training(
                recipe, task=task, method=method, fraction=fraction, seed=0, rate=recipe.rates[0], labels=labels
            )
            outputs = config.bins if task == "photoz" else CLASSES
            work = training_work(config, bands, outputs, labels=labels, judged=judged)
            rows = _variants_of(method, recipe)
            yield Stage(
                phase="training on labels",
                name=f"{task} {method} {100 * fraction:g} %",
                turns=(rows * len(recipe.rates), rows * (recipe.seeds - 1)),
                work=work,
                seconds=work.seconds(assumed.speed(config), assumed.step_ms),
                memory=finetune_memory(config, bands, outputs, galaxies=labels + judged).total,
            )


def _answers(recipe: Recipe, assumed: Assumed, bands: int) -> Iterator[Stage]:
    """Every row's chosen trainings are asked about all test galaxies, one after the other, by the study itself."""
    rows = len(list(_shares(recipe, assumed))) * sum(_variants_of(method, recipe) for method in recipe.methods)
    asked = rows * recipe.seeds * _count(assumed.galaxies, "test")
    work = Work(steps=0, images=asked, learning=0.0, looking=asked * _forward(recipe, bands))
    seconds = work.seconds(replace(assumed.plain, start_s=0.0), assumed.step_ms)
    yield Stage(phase="test galaxies", name="answers for test galaxies", turns=(1,), work=work, seconds=seconds)


def _shares(recipe: Recipe, assumed: Assumed) -> Iterator[tuple[Task, float, int]]:
    """Task, share and expected number of the labels, where they are enough to be learnt from."""
    for task in recipe.tasks:
        for fraction in recipe.fractions:
            labels = round(fraction * _count(assumed.labelled[task], "train"))
            if labels >= FEWEST_TRAIN:
                yield task, fraction, labels


def _variants_of(method: Trained, recipe: Recipe) -> int:
    """Rows of the table at one share of the labels."""
    return len(recipe.variants) if method in PRETRAINED else 1


def _count(galaxies: int, split: Split) -> int:
    """How many of the galaxies are expected in a split."""
    low, high = BOUNDS[split]
    return round((high - low) * galaxies)


def _forward(recipe: Recipe, bands: int) -> float:
    return forward_flops(recipe.pretrain.encoder, bands, recipe.pretrain.view_px)


def _cells(stage: Stage) -> tuple[str, ...]:
    return (
        stage.name,
        f"{stage.runs:,}",
        f"{stage.work.steps:,}" if stage.work.steps else "",
        f"{stage.runs * stage.work.images:,}",
        _operations(stage.runs * (stage.work.learning + stage.work.looking)),
        "" if stage.memory is None else f"{stage.memory / 1e9:.2f}",
        _span(stage.device_s),
    )


def _operations(flop: float) -> str:
    """Three digits and the prefix of a unit."""
    factor, prefix = next((pair for pair in ((1e18, "E"), (1e15, "P"), (1e12, "T")) if flop >= pair[0]), (1e9, "G"))
    return f"{flop / factor:.3g} {prefix}"


def _span(seconds: float) -> str:
    """Two digits, in minutes or hours."""
    value, unit = (seconds / 3600, "h") if seconds >= 5400 else (seconds / 60, "min")
    return f"{value:,.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"
