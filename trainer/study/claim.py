"""What the scores say of the claim that pre-training saves labels, in sentences, whoever wins."""

from collections.abc import Sequence

import numpy as np

from ..config import Task
from .comparison import INTERVAL, Crossing, Difference, claimed_pairs, differences, find_crossing, find_difference
from .results import JUDGED_BY, METHOD_NAMES, Method, Score
from .wording import FORMS, difference_text, figure_text, listed, number_text, points

NETWORKS: tuple[Method, ...] = ("supervised", "finetuned", "probe")
CATALOGUE: tuple[Method, ...] = ("catalogue", "trees")

SUBJECTS: dict[Method, str] = {
    "supervised": "supervised training",
    "finetuned": "fine-tuning",
    "probe": "a linear probe",
}
TASK_NAMES: dict[Task, str] = {"photoz": "Photometric redshifts", "morphology": "Morphology"}


def sentences(scores: Sequence[Score]) -> list[str]:
    """What the scores support, a paragraph for each thing said; empty where there is nothing to compare."""
    said = []
    pairs = list(claimed_pairs(scores))
    several = len({mine[0].row.variant for mine, _ in pairs}) > 1
    for mine, supervised in pairs:
        row = mine[0].row
        head = TASK_NAMES[row.task] + (f", pre-training {row.variant}" if several else "")
        said += [f"{head}: {text}" for text in (_saving(mine, supervised), _equal_labels(mine, supervised)) if text]
    return [*said, *filter(None, (_catalogue(scores, task) for task in TASK_NAMES))]


def _saving(mine: Sequence[Score], supervised: Sequence[Score]) -> str:
    """How many labels the method needs; where it never gets there, how many supervised training needs for its best."""
    forth, back = find_crossing(mine, supervised), find_crossing(supervised, mine)
    if forth is None:
        return ""
    text = _needs(forth)
    if np.isinf(forth.interval[1]) and back is not None and np.isfinite(back.interval[1]):
        text += f" {_capital(_needs(back))}"
    return text


def _needs(found: Crossing) -> str:
    name = JUDGED_BY[found.task][0]
    fewest, most = found.labels[0], found.labels[-1]
    everything = f"{'all ' if found.target_fraction == 1.0 else ''}{found.target_labels:,.0f} labels"
    goal = (
        f"the {FORMS[name].name} that {SUBJECTS[found.rival]} reaches with {everything} "
        f"({figure_text(found.target, name)})"
    )
    method = SUBJECTS[found.method]
    low, middle, high = found.interval
    if np.isinf(middle):
        return (
            f"{method} does not reach, with up to {most:,.0f} labels, {goal}; so in {100 * found.never:.0f} % of "
            f"the draws{_undecided(found)}."
        )
    if middle == 0:
        return (
            f"{method} reaches {goal} already with the fewest that it was given, {fewest:,.0f}, so in "
            f"{100 * found.enough:.0f} % of the draws: more than {found.target_labels / fewest:.2g} times fewer."
        )
    needed = _span((low, middle, high), f"fewer than {fewest:,.0f}", f"more than {most:,.0f}")
    least, greatest = (f"{found.target_labels / each:.2g}" for each in (most, fewest))
    factor = _span(found.factor, f"less than {least}", f"more than {greatest}")
    return f"{method} needs {needed} labels for {goal}: {factor} times fewer{_undecided(found)}."


def _undecided(found: Crossing) -> str:
    """What to add where the two are as good as each other with all labels."""
    return "; with all labels the two are equal within the errors" if INTERVAL[0] < found.never < INTERVAL[2] else ""


def _span(interval: tuple[float, float, float], below: str, above: str) -> str:
    """The middle and, in brackets, the ends; the words for an end that is 0 or infinite."""
    low, middle, high = interval
    arms = [abs(end - middle) for end in (low, high) if end and np.isfinite(end)]
    error = float(np.mean(arms or 0.0)) or middle / 10  # two digits where the draws say nothing
    left = number_text(low, error) if low else below
    right = number_text(high, error) if np.isfinite(high) else above
    return f"{number_text(middle, error)} ({left} to {right})"


def _equal_labels(mine: Sequence[Score], supervised: Sequence[Score]) -> str:
    """Where the method is better or worse than supervised training with as many labels."""
    found = differences([*mine, *supervised])
    if not found:
        return ""
    method, rival = SUBJECTS[found[0].method], SUBJECTS[found[0].rival]
    name = JUDGED_BY[found[0].task][0]
    outcomes = {1: f"{method} is better", -1: f"{rival} is better", 0: "neither is certainly better"}
    verdicts = "; ".join(
        f"{text} with {_labels_of(some, found)}"
        for verdict, text in outcomes.items()
        if (some := [each for each in found if each.verdict == verdict])
    )
    values = ", ".join(f"{difference_text(each.figure, name)} ({each.labels:,.0f})" for each in found)
    unit = f", in {points(name)}" if points(name) else ""
    what = f"{FORMS[name].name} of {method} less that of {rival}{unit}"
    return f"at equal numbers of labels {verdicts}. The {what}: {values}."


def _labels_of(some: Sequence[Difference], found: Sequence[Difference]) -> str:
    if len(some) == len(found) > 1:
        return "every number tried"
    return f"{listed([f'{each.labels:,.0f}' for each in some])} labels"


def _catalogue(scores: Sequence[Score], task: Task) -> str:
    """The best method that sees magnitudes alone against the best network, at the largest fraction that both have."""
    networks, others = (
        [each for each in scores if each.row.task == task and each.row.method in methods]
        for methods in (NETWORKS, CATALOGUE)
    )
    shared = {each.row.fraction for each in networks} & {each.row.fraction for each in others}
    if not shared:
        return ""
    network, other = (_best([each for each in some if each.row.fraction == max(shared)]) for some in (networks, others))
    found = find_difference(network, other)
    name = JUDGED_BY[task][0]
    ours, its = (
        f"{METHOD_NAMES[each.row.method]}: {figure_text(each.figures[name], name)}" for each in (network, other)
    )
    difference = f"{difference_text(found.figure, name)} {points(name)}".strip()
    outcome = {
        1: f"the best network ({ours}) beats what sees catalogue magnitudes alone (at best {its})",
        -1: f"what sees catalogue magnitudes alone (at best {its}) beats every network (at best {ours})",
        0: f"neither the best network ({ours}) nor what sees catalogue magnitudes alone (at best {its}) is "
        "certainly better",
    }[found.verdict]
    return f"{TASK_NAMES[task]}: with {found.labels:,.0f} labels {outcome}; {FORMS[name].name} differs by {difference}."


def _best(scores: Sequence[Score]) -> Score:
    name, more_is_better = JUDGED_BY[scores[0].row.task]
    return (max if more_is_better else min)(scores, key=lambda each: each.figures[name].value)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
