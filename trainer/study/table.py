"""The table of a study: table.json for programs, in full precision, and table.md for people, as its errors allow.

Equal scores give equal bytes: neither file holds a time, a path or the name of a machine.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sharding import atomic_file

from ..config import Task
from ..page import Table
from .claim import TASK_NAMES, sentences
from .comparison import Crossing, Difference, crossings, differences
from .results import METHOD_NAMES, Figure, Score
from .scores import FIGURES
from .wording import FORMS, figure_text

FORMAT = "skymill-study-table"


def write_table(
    out: Path,
    scores: Sequence[Score],
    *,
    dataset: str,
    recipe: str,
    settings: str,
    validation: Mapping[Task, int] = MappingProxyType({}),
    devices: str = "",
    ranks: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """STUDY/table.json and STUDY/table.md.

    ``dataset`` is its digest, ``recipe`` a name, ``settings`` the digest of what the recipe says. ``validation`` is
    the number of labels of the validation split, which no row counts. ``devices`` are those that the study has at hand
    as it writes this, ``ranks`` how many of them have shared each pre-training that is its own.
    """
    said = sentences(scores, validation)
    content = {
        "format": FORMAT,
        "dataset": dataset,
        "recipe": recipe,
        "settings": settings,
        "validation_labels": dict(validation),
        "devices": devices,
        "pretraining_ranks": dict(ranks),
        "rows": [_row(score) for score in in_order(scores)],
        "crossings": [_crossing(found) for found in crossings(scores)],
        "differences": [_difference(found) for found in differences(scores)],
        "sentences": said,
    }
    with atomic_file(out / "table.json") as file:
        file.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    with atomic_file(out / "table.md") as file:
        file.write(_page(scores, said).encode())


def text_table(scores: Sequence[Score]) -> Table:
    """The scores as text, value and one standard deviation; of one task or of several, which then have a column."""
    shown = in_order(scores)
    tasks = [task for task in TASK_NAMES if any(score.row.task == task for score in shown)]
    names = [name for task in tasks for name in FIGURES[task]]
    several_tasks = len(tasks) > 1
    several_variants = len({score.row.variant for score in shown if score.row.variant}) > 1
    head = [
        "method",
        *(["pre-training"] if several_variants else []),
        *(["task"] if several_tasks else []),
        "labels",
        *(FORMS[name].name for name in names),
        "test galaxies",
    ]
    rows = [
        [
            METHOD_NAMES[score.row.method],
            *([score.row.variant] if several_variants else []),
            *([TASK_NAMES[score.row.task].lower()] if several_tasks else []),
            f"{score.row.labels:,.0f}",
            *(figure_text(score.figures[name], name) if name in score.figures else "" for name in names),
            f"{score.galaxies:,}",
        ]
        for score in shown
    ]
    return Table(head, rows)


def markdown(table: Table) -> str:
    """The table as Markdown whose columns line up, so that it reads in a terminal too."""
    lines = [list(table.head), *map(list, table.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.head))]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    rule = ["-" * width for width in widths]
    return "".join(f"| {' | '.join(line)} |\n" for line in [padded[0], rule, *padded[1:]])


def in_order(scores: Sequence[Score]) -> list[Score]:
    """Task by task, method by method, pre-training by pre-training as they came, from few labels to many."""
    tasks, methods = list(TASK_NAMES), list(METHOD_NAMES)
    variants = list(dict.fromkeys(score.row.variant for score in scores))

    def place(score: Score) -> tuple[int, int, int, float]:
        row = score.row
        return tasks.index(row.task), methods.index(row.method), variants.index(row.variant), row.fraction

    return sorted(scores, key=place)


def _page(scores: Sequence[Score], said: Sequence[str]) -> str:
    """A table for each task, then what the scores support."""
    tables = [
        f"## {name}\n\n{markdown(text_table(mine))}\n"
        for task, name in TASK_NAMES.items()
        if (mine := [score for score in scores if score.row.task == task])
    ]
    return "".join([*tables, *(f"- {text}\n" for text in said)])


def _row(score: Score) -> dict[str, Any]:
    row = score.row
    return {
        "task": row.task,
        "method": row.method,
        "pretraining": row.variant,
        "fraction": row.fraction,
        "labels": row.labels,
        "test_galaxies": score.galaxies,
        "figures": {name: _figure(figure) for name, figure in score.figures.items()},
        "seeds": [{"seed": each.seed, "labels": each.labels, "chosen": each.chosen} for each in row.answers],
    }


def _figure(figure: Figure) -> dict[str, float]:
    return {"value": figure.value, "error": figure.error}


def _crossing(found: Crossing) -> dict[str, Any]:
    """An end of an interval that no number of labels says is null: the shares tell which way."""
    return {
        "task": found.task,
        "method": found.method,
        "pretraining": found.variant,
        "against": found.rival,
        "target": _figure(found.target),
        "target_labels": found.target_labels,
        "labels": _interval(found.interval),
        "times_fewer": _interval(found.factor),
        "fewest_are_enough": found.enough,
        "never": found.never,
    }


def _interval(interval: tuple[float, float, float]) -> dict[str, float | None]:
    known = [value if value > 0 and np.isfinite(value) else None for value in interval]
    return dict(zip(("low", "median", "high"), known, strict=True))


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "task": found.task,
        "method": found.method,
        "pretraining": found.variant,
        "against": found.rival,
        "fraction": found.fraction,
        "labels": found.labels,
        **_figure(found.figure),
    }
