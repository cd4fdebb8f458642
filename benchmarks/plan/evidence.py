"""The results that a plan stands on: the newest that hold what is needed, and how they are cited."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import BenchmarkError
from ..published import read_report
from ..results import Report, Result
from .figures import size

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

    @property
    def memory_bytes(self) -> float:
        """Of the machine; 0 where that is not told."""
        memory = self.report.machine.get("memory_gib")
        return 2**30 * float(memory) if isinstance(memory, int | float) else 0.0

    @property
    def machine(self) -> str:
        """In a few words."""
        told = self.report.machine
        device = told.get("accelerator") or told.get("cpu") or "unknown processor"
        return f"{told.get('cores', '?')} cores, {device}, {size(self.memory_bytes)} of memory"

    def __str__(self) -> str:
        return f"[{self.number}] {self.where} ({self.machine}, {self.report.date})"


class Evidence:
    """Reports, the newest first; of one day, the last by name."""

    def __init__(self, paths: Sequence[Path] = ()) -> None:
        """Those of ``paths``, else the published ones. BenchmarkError where one cannot be read, or there is none."""
        found = [(path, read_report(path)) for path in paths or sorted(RESULTS.glob("*.json"))]
        if not found:
            raise BenchmarkError(f"{RESULTS}: expected results (*.json), found none; give them with --results")
        newest = sorted(found, key=lambda pair: (pair[1].date, pair[0].name), reverse=True)
        self.sources = tuple(Source(at, _shown(path), report) for at, (path, report) in enumerate(newest, start=1))

    def newest(self, *names: str) -> tuple[Source, Results]:
        """The newest report that has all these results, and them; BenchmarkError where none has."""
        found = self.newest_or_none(*names)
        if found is None:
            raise BenchmarkError(
                f"{', '.join(source.where for source in self.sources)}: expected a result {names[0]!r}, found none; "
                "measure it (python -m benchmarks all --json FILE) and give it with --results"
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
