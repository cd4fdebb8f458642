"""`python -m benchmarks STAGE [--json FILE]`: how fast each stage is beside its peers, and which one binds."""

import argparse
import importlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from . import machine
from .results import Report, StageReport
from .table import show
from .verdict import verdict

STAGES = ("ingest", "read", "augment", "train")  # in the order in which data pass through them


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write the JSON."""
    args = _parser().parse_args(argv)
    console = Console()
    report = measure(args.stage, console)
    show(report, console)
    if args.json is not None:
        try:
            report.write(args.json)
        except OSError as err:
            print(f"benchmarks: error: {args.json}: cannot be written ({err.strerror})", file=sys.stderr)
            return 2
        console.print(f"written: {args.json}", highlight=False, soft_wrap=True)
    return 0


def measure(stage: str, console: Console) -> Report:
    """Run one stage's benchmark, or all; on one core, but for whole ingest jobs."""
    import torch

    torch.set_num_threads(1)
    names = STAGES if stage == "all" else (stage,)
    with tempfile.TemporaryDirectory(prefix="skymill-benchmarks-") as folder:
        reports = _run(names, Path(folder), console)
    rates = {report.stage: report.median(report.own) for report in reports}
    return Report(
        stage=stage, machine=machine.describe(), commit=machine.commit(), stages=reports, verdict=verdict(rates)
    )


def _run(names: Sequence[str], folder: Path, console: Console) -> tuple[StageReport, ...]:
    from .practice import PracticeData

    reports = []
    with console.status("measuring") as status:
        data = PracticeData(folder, say=lambda text: status.update(f"measuring: {text}"))
        for name in names:
            data.say(name)
            reports.append(importlib.import_module(f"{__package__}.stages.{name}").run(data))
    return tuple(reports)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure how fast each stage is.")
    parser.add_argument("stage", choices=[*STAGES, "all"], help="what to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
