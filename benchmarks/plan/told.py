"""A plan as people read it on a terminal."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..table import right, titled
from ..wording import rate, share
from .figures import Figure, hours, span
from .plan import Plan
from .stage import Stage


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
    console.print(_figures("what the times stand on", plan.rates()))
    for source in plan.evidence.sources:
        console.print(Text(str(source)))


def _figures(title: str, figures: Iterable[Figure]) -> Table:
    table = titled(title, "", "", "from")
    for figure in figures:
        table.add_row(Text(figure.name), figure.text, Text(figure.source))
    return right(table, 1)


def _stages(plan: Plan) -> Table:
    """Each command and what all come to; money only where there is a price."""
    prices = plan.prices
    money = ["cost"] if prices.of(*plan.stages) is not None else []
    table = titled("times and costs", "", "time", "waiting", "takes", *money)
    for stage in plan.stages:
        waits = share(stage.waits) if stage.waits else ""
        table.add_row(stage.name, span(stage.seconds), waits, _used(stage), *_cost(prices.of(stage), money))
    table.add_section()
    table.add_row("all", span(plan.seconds), "", _used(*plan.stages), *_cost(prices.of(*plan.stages), money))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _used(*stages: Stage) -> str:
    counts = {"GPU": sum(stage.gpu_hours for stage in stages), "core": sum(stage.core_hours for stage in stages)}
    return ", ".join(f"{hours(count)} {noun}-hours" for noun, count in counts.items() if count)


def _cost(amount: float | None, column: list[str]) -> list[str]:
    return ["" if amount is None else rate(amount)] if column else []
