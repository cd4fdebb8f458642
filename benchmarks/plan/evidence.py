"""The results that a plan stands on: the newest that hold what is needed, and how they are cited."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BenchmarkError
from ..published import read_report
from ..results import Report, Result

RESULTS = Path(__file__).parents[1] / "results"  # where the checkout keeps those that were published

Results = tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One report, cited by its number."""

    number: int  # from 1
    where: str
    report: Report

    def measured(self, what: str) -> str:
        """How a figure cites it."""
        return f"measured [{self.number}]: {what}"

    def __str__(self) -> str:
        machine = self.report.machine
        device = machine.get("accelerator") or machine.get("cpu") or "unknown processor"
        return f"[{self.number}] {self.where} ({machine.get('cores', '?')} cores, {device}, {self.report.date})"


class Evidence:
    """Reports, the newest first; of one day, the last by name."""

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        """Those of ``paths``, else the published ones. BenchmarkError where one cannot be read, or there is none."""
        found = [(path, read_report(path)) for path in paths or sorted(RESULTS.glob("*.json"))]
        if not found:
            raise BenchmarkError(f"{RESULTS}: expected results (*.json), found none; give them with --results")
        newest = sorted(found, key=lambda pair: (pair[1].date, pair[0].name), reverse=True)
        self.sources = tuple(Source(at, _shown(path), report) for at, (path, report) in enumerate(newest, start=1))

    def newest(self, *names: str, suits: Callable[[Results], bool] = lambda results: True) -> tuple[Source, Results]:
        """The newest report that has all these results, and them; BenchmarkError where none has."""
        found = self.newest_or_none(*names, suits=suits)
        if found is None:
            stage = names[0].partition(":")[0]
            raise BenchmarkError(
                f"{', '.join(source.where for source in self.sources)}: expected a result {names[0]!r}, found none; "
                f"measure it (python -m benchmarks {'train' if stage == 'whole' else 'all'} --json FILE) and give it "
                "with --results"
            )
        return found

    def newest_or_none(
        self, *names: str, suits: Callable[[Results], bool] = lambda results: True
    ) -> tuple[Source, Results] | None:
        """The same, or None."""
        for source in self.sources:
            results = tuple(result for name in names if (result := source.report.result(name)) is not None)
            if len(results) == len(names) and suits(results):
                return source, results
        return None


def count_of(result: Result, param: str) -> int:
    """A param that is a whole number; 0 where it is none."""
    value = result.params.get(param)
    return value if isinstance(value, int) else 0


def _shown(path: Path) -> str:
    """As the README cites it, where it lies in the checkout."""
    return f"benchmarks/results/{path.name}" if path.parent == RESULTS else str(path)
