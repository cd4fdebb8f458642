"""`python -m benchmarks`: how fast each stage is beside its peers and its limit, which binds, and what has changed."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from trainer.errors import USER_ERRORS

from .errors import BenchmarkError
from .measuring import STAGES, measure
from .practice import Practice
from .progress import progress
from .results import Report

README = Path("README.md")
_PROBE_BYTES = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """A command's exit status: 2 after an error of the user's, 1 where a stage failed or the README is behind."""
    args = _parser().parse_args(argv)
    try:
        return int(args.does(args, Console()))
    except (BenchmarkError, *USER_ERRORS) as err:
        print(f"benchmarks: error: {err}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: stopped", file=sys.stderr)
        return 128 + signal.SIGINT


def _measure(args: argparse.Namespace, console: Console) -> int:
    for path in (args.json, args.page):
        _check_writable(path)
    with (
        _ended_in_order(),
        tempfile.TemporaryDirectory(prefix="skymill-benchmarks-") as folder,
        progress(console, "measuring") as say,
        Practice(folder=Path(folder), given=args.data, full=args.full, say=say) as data,
    ):
        report, failed = measure(args.stage, data)
    if report is None:  # a rank beside the first, which reports for all
        return 0
    _publish(report, args, console)
    return 1 if failed else 0


def _publish(report: Report, args: argparse.Namespace, console: Console) -> None:
    from .table import show

    show(report, console)
    try:
        if args.json is not None:
            _write(report, args.json)
            console.print(f"written: {args.json}", highlight=False, soft_wrap=True)
    finally:  # the page too, where the JSON found no room
        if args.page is not None:
            _write_page(report, args.page, console)


def _write(report: Report, path: Path) -> None:
    try:
        report.write(path)
    except OSError as err:
        raise BenchmarkError(f"{path}: cannot be written ({err.strerror})") from None


def _write_page(report: Report, path: Path, console: Console) -> None:
    from .page import write_page

    try:
        write_page(report, path)
    except OSError as err:
        raise BenchmarkError(f"{path}: cannot be written ({err.strerror})") from None
    console.print(f"page: {path}", highlight=False, soft_wrap=True)


def _plan(args: argparse.Namespace, console: Console) -> int:
    from .plan import run

    return run(args, console)


def _page(args: argparse.Namespace, console: Console) -> int:
    from .published import read_report

    _write_page(read_report(args.result), args.out or args.result.with_suffix(".html"), console)
    return 0


def _compare(args: argparse.Namespace, console: Console) -> int:
    from .compare import show
    from .published import read_report

    show(read_report(args.old), read_report(args.new), console)
    return 0


def _readme(args: argparse.Namespace, console: Console) -> int:
    from .readme import generate, source

    old = README.read_text()
    new = generate(old, source(old, README.parent))
    if new == old:
        console.print(f"{README} says what was measured", highlight=False)
        return 0
    if args.check:
        print(
            f"{README}: its figures are not those of the result it names; run python -m benchmarks readme",
            file=sys.stderr,
        )
        return 1
    README.write_text(new)
    console.print(f"written: {README}", highlight=False)
    return 0


def _check_writable(path: Path | None) -> None:
    """Before minutes of measuring, not after."""
    if path is None:
        return
    if path.is_dir():
        raise BenchmarkError(f"{path}: expected the name of a file that can be written, got a folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(bytes(_PROBE_BYTES))
    except OSError as err:
        raise BenchmarkError(f"{path}: cannot be written ({err.strerror})") from None


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM, which job schedulers send, ends as an exception does: what was written on the way is removed."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure how fast each stage is.")
    commands = parser.add_subparsers(required=True, dest="stage", metavar="STAGE")
    for stage in (*STAGES, "all"):
        _add_stage(commands.add_parser(stage, help=f"measure {stage}", description=_DESCRIPTION), stage)
    compare = commands.add_parser("compare", help="what changed between two results, beyond the noise")
    compare.add_argument("old", type=Path, metavar="OLD", help="JSON of a run")
    compare.add_argument("new", type=Path, metavar="NEW", help="JSON of another")
    compare.set_defaults(does=_compare)
    _add_plan(commands.add_parser("plan", help="what a run would take and cost, from results", description=_PLANNED))
    page = commands.add_parser("page", help="draw a result as one HTML page")
    page.add_argument("result", type=Path, metavar="FILE", help="JSON of a run")
    page.add_argument("--out", type=Path, metavar="FILE", help="the page; else beside the JSON, as .html")
    page.set_defaults(does=_page)
    readme = commands.add_parser("readme", help="put the figures of the result that README.md names into it")
    readme.add_argument("--check", action="store_true", help="change nothing; exit status 1 where it would")
    readme.set_defaults(does=_readme)
    return parser


_DESCRIPTION = (
    "Rates of ours and of peers on the same bytes, in turns; the machine's limits; promised ratios; the verdict. "
    "Under torchrun `train` measures how it scales over ranks."
)


_PLANNED = (
    "Sizes, times and costs of ingest, pre-training, fine-tuning for photo-z, evaluation and embedding. Each figure "
    "says where it comes from: measured, computed or assumed."
)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--galaxies", required=True, metavar="N", help="how many are ingested: 1200000, or 1.2e6")
    parser.add_argument("--gpus", required=True, metavar="N", help="how many train")
    parser.add_argument("--workers", default="64", metavar="N", help="cores that ingest (default: 64)")
    parser.add_argument("--gpu-hour", metavar="PRICE", help="of one GPU with its part of a node")
    parser.add_argument("--core-hour", metavar="PRICE", help="of one core that ingests")
    parser.add_argument(
        "--results", type=Path, nargs="+", default=[], metavar="FILE", help="JSON to stand on; else benchmarks/results"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the same figures there")
    parser.set_defaults(does=_plan)


def _add_stage(parser: argparse.ArgumentParser, stage: str) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--page", type=Path, metavar="FILE", help="draw them there, as one HTML page")
    parser.add_argument("--full", action="store_true", help="for publication: more points, more runs")
    if stage != "ingest":
        parser.add_argument("--data", metavar="DATASET", help="a folder or URL; else data are made on the spot")
    parser.set_defaults(does=_measure, data=None)


if __name__ == "__main__":
    sys.exit(main())
