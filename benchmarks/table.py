"""A report as people read it."""

from rich.console import Console
from rich.table import Table

from .results import Report, Result


def show(report: Report, console: Console) -> None:
    """Print every result, the ratios, what was left out, and the verdict."""
    table = Table("", "rate", "", "quartiles", "MB/s", title=f"benchmarks: {report.stage}", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "left" if column is table.columns[2] else "right"
    for stage in report.stages:
        for result in stage.results:
            table.add_row(*_row(result))
        table.add_section()
    console.print(table)
    for stage in report.stages:
        for pair, (name, ratio) in zip(stage.pairs, stage.ratios().items(), strict=True):
            wanted = f"  (wanted: {stage.wanted[pair]:g})" if pair in stage.wanted else ""
            console.print(f"{ratio:8,.2f}  {name}{wanted}", highlight=False, soft_wrap=True)
        for peer in stage.left_out:
            console.print(f"left out: {peer}, which is not installed", highlight=False)
    console.print(report.verdict, highlight=False)


def _row(result: Result) -> tuple[str, str, str, str, str]:
    megabytes = result.median * result.bytes_per_image / 1e6
    quartiles = f"{_rate(result.q25)} - {_rate(result.q75)}" if result.runs > 1 else "one run"
    return result.name, _rate(result.median), result.unit, quartiles, _rate(megabytes)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
