"""A plan as people read it on a terminal."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..table import right, titled
from ..wording import rate, share
from .figures import Figure, hours, span
from .gpus import PLACES
from .plan import Plan
from .stages import Stage


def show(plan: Plan, console: Console) -> None:
    """Print what it comes to and what binds, then every figure with where it comes from."""
    first, *others = plan.says()
    console.print(Text(first, style="bold"))
    for line in others:
        console.print(Text(line))
    console.print(_figures("sizes", plan.sizes()))
    console.print(_stages(plan))
    for stage in plan.stages:
        console.print(Text(f"{stage.name}: {rate(stage.images_per_s)} images/s; {stage.source}."))
    console.print(_figures("what the times stand on", plan.nodes.figures()))
    console.print(_by_gpus(plan))
    for source in plan.cited():
        console.print(Text(str(source)))


def _figures(title: str, figures: Iterable[Figure]) -> Table:
    table = titled(title, "", "", "from")
    for figure in figures:
        table.add_row(Text(figure.name), figure.text, Text(figure.source))
    return right(table, 1)


def _stages(plan: Plan) -> Table:
    """Each command, what all come to, and ingest of another survey."""
    money = [plan.prices.told] if plan.prices.told else []
    table = titled("times and costs", "", "time", "waiting", "takes", *money)
    for stage in plan.stages:
        _add(table, plan, stage)
    table.add_section()
    table.add_row("all", span(plan.seconds), "", _used(*plan.stages), *_cost(plan, plan.cost))
    table.add_section()
    _add(table, plan, plan.dense)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _add(table: Table, plan: Plan, stage: Stage) -> None:
    waits = share(stage.waits) if stage.waits else ""
    table.add_row(stage.name, span(stage.seconds), waits, _used(stage), *_cost(plan, plan.prices.of(stage)))


def _used(*stages: Stage) -> str:
    counts = {"GPU": sum(stage.gpu_hours for stage in stages), "core": sum(stage.core_hours for stage in stages)}
    return ", ".join(f"{hours(count)} {noun}-hours" for noun, count in counts.items() if count)


def _cost(plan: Plan, amount: float | None) -> list[str]:
    """A cell, where there are prices."""
    return ["" if amount is None else rate(amount)] if plan.prices.told else []


def _by_gpus(plan: Plan) -> Table:
    """Times, and how long GPUs wait."""
    table = titled("pre-training, by where a node's images come from (GPUs waiting)", "GPUs", *PLACES, "binds")
    for number, places in plan.by_gpus.items():
        cells = (f"{span(each.seconds)}{f' ({share(each.waits)})' if each.waits else ''}" for each in places.values())
        table.add_row(f"{number:,}", *cells, places[plan.nodes.place].binds)
    return right(table, 0)
