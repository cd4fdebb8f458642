"""How the numbers on a study's page were got, in words: what was trained and chosen, what is measured, what errors are.

All of it follows from the recipe and the scores; what a reader must not take the numbers for is said here, too.
"""

from collections.abc import Iterator, Sequence

from ..config import Task
from ..metrics import ETA_LIMIT, MAD_TO_SIGMA
from .comparison import CERTAIN, INTERVAL, crossings
from .recipe import Recipe, Trained, training
from .results import METHOD_NAMES, PRETRAINED, Score
from .wording import capital, counted

DEFINITIONS: dict[Task, str] = {
    "photoz": (
        f"dz = (z_phot - z_spec) / (1 + z_spec). sigma_MAD = {MAD_TO_SIGMA} median |dz - median dz|; eta is the share "
        f"of galaxies with |dz| > {ETA_LIMIT}; bias is the mean of dz."
    ),
    "morphology": "Accuracy is the share of galaxies that are given their class.",
}
CROSSINGS = (
    "How many labels a method needs is read from its figure against the logarithm of the number of labels, taken as "
    "straight between the numbers tried. Where more labels make a figure worse, neighbouring ones are averaged, and so "
    f"is what is to be reached. Brackets: from {100 * INTERVAL[0]:.0f} % to {100 * INTERVAL[2]:.0f} % of the draws."
)
CHANCE = (
    f"One thing is called better than another where they differ by more than {CERTAIN:g} errors of the difference, in "
    "which what is hard for both cancels. Of twenty comparisons about one is expected to come out so by chance alone."
)
ONCE = "Each pre-training was made once: what another seed of it would have changed is in no error."


def how_measured(recipe: Recipe, scores: Sequence[Score], *, own: bool) -> list[str]:
    """Paragraphs; ``own`` says whether the study made its pre-trainings itself. There is a score."""
    tasks = {score.row.task for score in scores}
    return [
        recipe.about,
        " ".join(_trainings(recipe, scores, own=own)),
        _tuning(recipe),
        *[text for task, text in DEFINITIONS.items() if task in tasks],
        errors(scores),
        *([CROSSINGS] if crossings(scores) else []),
        CHANCE,
    ]


def _trainings(recipe: Recipe, scores: Sequence[Score], *, own: bool) -> Iterator[str]:
    """Epochs and steps of what was trained, with the fewest labels and with the most."""
    if any(score.row.method in PRETRAINED for score in scores):
        config = recipe.pretrain
        end = "" if config.max_steps is None else f", at most {counted(config.max_steps, 'step')}"
        made = f"Pre-training: {counted(config.epochs, 'epoch')}{end}, batches of {config.batch:,}."
        yield made if own else "The pre-training was given and is not the recipe's."
    for method in recipe.methods:
        labels = [round(score.row.labels) for score in scores if score.row.method == method]
        if labels:
            ends = [_spent(recipe, method, number) for number in dict.fromkeys((min(labels), max(labels)))]
            yield f"{capital(METHOD_NAMES[method])}: {', '.join(ends)}."


def _spent(recipe: Recipe, method: Trained, labels: int) -> str:
    """What a training on so many labels took; it is the same for every task, seed and rate."""
    config = training(recipe, task=recipe.tasks[0], method=method, fraction=1.0, seed=0, rate=1.0, labels=labels)
    steps = config.epochs * (labels // config.batch)
    return f"{counted(config.epochs, 'epoch')} ({counted(steps, 'step')}) with {labels:,} labels"


def _tuning(recipe: Recipe) -> str:
    """What the validation split was used for."""
    count, looks = len(recipe.rates), counted(recipe.finetune.epochs, "look")
    chosen = (
        f"Every method was tuned among {count} settings, for each number of labels, by its score on the validation "
        "split: a network or trees among learning rates, neighbours among their numbers. A network's other seeds take "
        "the rate chosen with the first; every other method chooses anew with each seed."
        if count > 1
        else "No method had a setting to choose."
    )
    return (
        f"{chosen} A training of a network moreover keeps the epoch that is best on the validation split, of at most "
        f"{looks} at it, which no other method has. That split is used whole, however few the labels to learn from: "
        "its labels come on top of those that are counted."
    )


def errors(scores: Sequence[Score]) -> str:
    """What the errors are of, and what they are not."""
    draws = len(next(iter(scores[0].figures.values())).draws)
    seeds = max(len(score.row.answers) for score in scores)
    text = (
        f"Errors are one standard deviation over {draws:,} bootstrap samples of the test galaxies, which are the same "
        "for all methods"
    )
    text += (
        ". There is one seed, so what another would have changed is not in them."
        if seeds == 1
        else f", together with the standard error of the mean over the {seeds} seeds, whose scatter is taken from all "
        "numbers of labels of a method together."
    )
    return f"{text} {ONCE}" if any(score.row.method in PRETRAINED for score in scores) else text
