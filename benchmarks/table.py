"""A report as people read it on a terminal."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .results import Promise, Report
from .wording import bound, by_stage, megabytes, outcome, quartiles, rate, ratio, share, short, stage

_COLOURS = {True: "green", False: "red", None: "yellow"}  # of promises


def show(report: Report, console: Console) -> None:
    """Print every result beside its limit, what became of the promises, what was left out, and the verdict."""
    console.print(_results(report))
    if report.promises:
        console.print(_promises(report.promises))
    promised = {promise.what for promise in report.promises}
    others = {name: value for name, value in report.ratios.items() if name not in promised}
    if others:
        console.print(_ratios(others))
    for peer, why in report.left_out.items():
        console.print(Text(f"left out: {peer}: {why}"))
    console.print(Text(report.verdict, style="bold"))


def titled(title: str, *columns: str) -> Table:
    """A table with few lines, for all to fit into 100 columns."""
    heading = Text(f"\n{title}", style="bold")
    return Table(*columns, title=heading, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, show_edge=False)


def right(table: Table, *numbers: int) -> Table:
    """Align these columns to the right, unbroken."""
    for number in numbers:
        table.columns[number].justify = "right"
        table.columns[number].no_wrap = True
    return table


def _results(report: Report) -> Table:
    columns = ("", "rate", "", "quartiles", "MB/s", "of limit")
    table = titled(f"benchmarks: {report.stage}", *columns)
    for name, results in by_stage(report.results):
        table.add_row(Text(name, style="bold"))
        for result in results:
            of_limit = share(report.of_limit(result))
            cells = (rate(result.median), result.unit, quartiles(result), megabytes(result), of_limit)
            table.add_row(Text(short(result.name)), *map(Text, cells))
        table.add_section()
    return right(table, 1, 3, 4, 5)


def _promises(promises: tuple[Promise, ...]) -> Table:
    table = titled("promises", "", "measured", "promised", "")
    for promise in promises:
        measured = "" if promise.measured is None else ratio(promise.measured)
        told = Text(outcome(promise), style=_COLOURS[promise.kept])
        table.add_row(Text(of_stage(promise.what)), measured, bound(promise), told)
    return right(table, 1, 2)


def _ratios(ratios: Mapping[str, float]) -> Table:
    table = titled("other ratios", "", "ratio")
    for name, value in ratios.items():
        table.add_row(Text(of_stage(name)), ratio(value))
    return right(table, 1)


def of_stage(name: str) -> str:
    """The stage once, though both of a ratio's names have it."""
    return f"{stage(name)}: {short(name)}" if stage(name) else name
