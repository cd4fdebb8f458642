"""What a benchmark found, and its JSON. Knows nothing of how it was measured."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sharding import atomic_file

Param = int | float | str


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One contender's rate: the median and the quartiles of its runs."""

    name: str
    unit: str = "images/s"  # or "frames/s", "views/s"
    median: float
    q25: float
    q75: float
    runs: int
    bytes_per_image: int  # of an image in memory; of a frame, its file's; of a view, what is read and written for it
    params: Mapping[str, Param]

    def converted(self, name: str, unit: str, factor: float, *, bytes_per_image: int) -> "Result":
        """The same runs in another unit, of which this one's holds ``factor``."""
        rates = {quantile: factor * getattr(self, quantile) for quantile in ("median", "q25", "q75")}
        return replace(self, name=name, unit=unit, bytes_per_image=bytes_per_image, **rates)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReport:
    """What one stage's benchmark found."""

    stage: str
    results: tuple[Result, ...]
    own: str  # name of the result that is the stage's rate in the verdict
    pairs: tuple[tuple[str, str], ...]  # (of which result, over which): the ratios that say something
    left_out: tuple[str, ...] = ()  # peers that are not installed
    wanted: Mapping[tuple[str, str], float] = field(default_factory=dict)  # of some pairs: the least ratio

    def __post_init__(self) -> None:
        named = {self.own, *(name for pair in self.pairs for name in pair)}
        if unknown := named - {result.name for result in self.results}:
            raise ValueError(f"{self.stage}: no result is called {sorted(unknown)[0]}")

    def median(self, name: str) -> float:
        """The rate of one result, in its unit."""
        return next(result.median for result in self.results if result.name == name)

    def ratios(self) -> dict[str, float]:
        """How many times faster one result is than another."""
        return {f"{first} / {second}": self.median(first) / self.median(second) for first, second in self.pairs}


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One call of `python -m benchmarks`."""

    stage: str
    machine: Mapping[str, Any]
    commit: str | None  # None outside a checkout
    stages: tuple[StageReport, ...]
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """The published schema."""
        return {
            "stage": self.stage,
            "machine": dict(self.machine),
            "commit": self.commit,
            "results": [asdict(result) for stage in self.stages for result in stage.results],
            "ratios": {name: ratio for stage in self.stages for name, ratio in stage.ratios().items()},
            "verdict": self.verdict,
        }

    def write(self, path: Path) -> None:
        """Write the JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write((json.dumps(self.to_json(), indent=1) + "\n").encode())
