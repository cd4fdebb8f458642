"""What the scores say of the claim that pre-training saves labels, in sentences, whoever wins."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from ..config import Task
from .catalogue import CATALOGUE_METHODS
from .comparison import INTERVAL, Crossing, Difference, claimed_pairs, differences, find_crossing, find_difference
from .results import JUDGED_BY, METHOD_NAMES, Method, Score
from .wording import FORMS, capital, difference_text, figure_text, listed, number_text, points

NETWORKS: tuple[Method, ...] = ("supervised", "finetuned", "probe")

SUBJECTS: dict[Method, str] = {
    "supervised": "supervised training",
    "finetuned": "fine-tuning",
    "probe": "a linear probe",
}
TASK_NAMES: dict[Task, str] = {"photoz": "Photometric redshifts", "morphology": "Morphology"}


def sentences(scores: Sequence[Score], validation: Mapping[Task, int] = MappingProxyType({})) -> list[str]:
    """What the scores support, a paragraph for each thing said; empty where there is nothing to compare.

    ``validation`` is the number of labels of the validation split, which no row counts.
    """
    said = []
    pairs = list(claimed_pairs(scores))
    several = len({mine[0].row.variant for mine, _ in pairs}) > 1
    for mine, supervised in pairs:
        row = mine[0].row
        head = TASK_NAMES[row.task] + (f", pre-training {row.variant}" if several else "")
        beside = f"beside {validation[row.task]:,}" if row.task in validation else "beside those"
        texts = (_saving(mine, supervised, f"{beside} for validation"), _equal_labels(mine, supervised))
        said += [f"{head}: {text}" for text in texts if text]
    return [*said, *filter(None, (_catalogue(scores, task) for task in TASK_NAMES))]


def _saving(mine: Sequence[Score], supervised: Sequence[Score], beside: str) -> str:
    """How many labels the method needs; where it never gets there, how many supervised training needs for its best."""
    forth, back = find_crossing(mine, supervised), find_crossing(supervised, mine)
    if forth is None:
        return ""
    text = f"{_needs(forth, beside)}{_with_most(forth, mine[-1], supervised[-1])}."
    if np.isinf(forth.interval[1]) and back is not None and np.isfinite(back.interval[1]):
        text += f" {capital(_needs(back, beside))}."
    return text


def _needs(found: Crossing, beside: str) -> str:
    """Firm only where both ends of the interval say so."""
    method, goal, fewest = SUBJECTS[found.method], _goal(found), f"{found.labels[0]:,.0f}"
    low, _, high = found.interval
    if np.isinf(low):
        never = f"{100 * found.never:.0f} % of the draws"
        return f"{method} does not reach, with up to {found.labels[-1]:,.0f} labels, {goal}; so in {never}"
    if high == 0:
        enough = f"{100 * found.enough:.0f} % of the draws"
        text = (
            f"{method} reaches {goal} already with the fewest that it was given, {fewest} {beside}, so in {enough}: "
            f"{_times(found.target_labels / found.labels[0], 1)}"
        )
    else:
        text = f"{method} needs {_needed(found)} labels, {beside}, for {goal}: {_factor(found)}"
    if found.rival_grows:
        return text
    return (
        f"{text}; but {SUBJECTS[found.rival]} itself is not certainly better with its most labels than with its fewest"
    )


def _goal(found: Crossing) -> str:
    name = JUDGED_BY[found.task][0]
    everything = f"{'all ' if found.target_fraction == 1.0 else ''}{found.target_labels:,.0f} labels"
    averaged = ", averaged with that of fewer, which is no worse" if found.target_averaged else ""
    value = f"{figure_text(found.target, name)}{averaged}"
    return f"the {FORMS[name].name} that {SUBJECTS[found.rival]} reaches with {everything} ({value})"


def _with_most(found: Crossing, mine: Score, rival: Score) -> str:
    """What must be added where the two have been compared with their most labels, lest sentences seem to disagree."""
    verdict = find_difference(mine, rival).verdict if mine.row.fraction == rival.row.fraction else 0
    if not verdict:
        equal = INTERVAL[0] < found.never < INTERVAL[2]
        return "; with the most labels the two are equal within the errors" if equal else ""
    if (verdict > 0) == np.isfinite(found.interval[1]):
        return ""
    winner = SUBJECTS[found.method if verdict > 0 else found.rival]
    return f"; with the most labels, before any averaging, {winner} is better"


def _needed(found: Crossing) -> str:
    """The number of labels, and in brackets the ends of its interval."""
    words = {0.0: f"fewer than {found.labels[0]:,.0f}", np.inf: f"more than {found.labels[-1]:,.0f}"}
    low, middle, high = (words[each] if each in words else number_text(each) for each in found.interval)
    return f"{middle} ({low} to {high})"


def _factor(found: Crossing) -> str:
    """How many times fewer labels, and in brackets the ends of its interval; a unit that all share is said once."""
    words = {
        0.0: _times(found.target_labels / found.labels[-1], -1),
        np.inf: _times(found.target_labels / found.labels[0], 1),
    }
    low, middle, high = (words[each] if each in words else _times(each) for each in found.factor)
    unit = " times fewer"
    if all(text.endswith(unit) for text in (low, middle, high)):
        low, high = low.removesuffix(unit), high.removesuffix(unit)
    return f"{middle} ({low} to {high})"


def _times(factor: float, beyond: int = 0) -> str:
    """ "2.9 times fewer", "1.2 times more", "as many"; of what is larger (``beyond`` = 1) or smaller (-1) a bound."""
    fewer = factor >= 1
    text = number_text(factor if fewer else 1 / factor)
    if text == "1.0":
        return {0: "as many", 1: "fewer", -1: "no fewer"}[beyond]
    bound = {0: "", 1: "more than ", -1: "less than "}[beyond if fewer else -beyond]
    return f"{bound}{text} times {'fewer' if fewer else 'more'}"


def _equal_labels(mine: Sequence[Score], supervised: Sequence[Score]) -> str:
    """Where the method is better or worse than supervised training with as many labels."""
    found = differences([*mine, *supervised])
    if not found:
        return ""
    method, rival = SUBJECTS[found[0].method], SUBJECTS[found[0].rival]
    name = JUDGED_BY[found[0].task][0]
    outcomes = {1: f"{method} is better", -1: f"{rival} is better", 0: "neither is certainly better"}
    verdicts = "; ".join(
        f"{text} with {_labels_of(some, found, 'every' if verdict else 'any')}"
        for verdict, text in outcomes.items()
        if (some := [each for each in found if each.verdict == verdict])
    )
    values = ", ".join(f"{difference_text(each.figure, name)} ({each.labels:,.0f})" for each in found)
    unit = f", in {points(name)}" if points(name) else ""
    what = f"{FORMS[name].name} of {method} less that of {rival}{unit}"
    return f"at equal numbers of labels {verdicts}. The {what}: {values}."


def _labels_of(some: Sequence[Difference], found: Sequence[Difference], each: str) -> str:
    if len(some) == len(found) > 1:
        return f"{each} number tried"
    return f"{listed([f'{each.labels:,.0f}' for each in some])} labels"


def _catalogue(scores: Sequence[Score], task: Task) -> str:
    """The best method that sees magnitudes alone against the best network, at the largest fraction that both have."""
    networks, others = (
        [each for each in scores if each.row.task == task and each.row.method in methods]
        for methods in (NETWORKS, [method for method in CATALOGUE_METHODS if method != "guess"])
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
