"""What a benchmark found, and its JSON. Knows nothing of how it was measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sharding import atomic_file

Param = int | float | str


@dataclass(frozen=True, slots=True)
class Limit:
    """The physical limit of a rate: a result of `limits`, and how much of its unit one item takes.

    Where the limit is in GB/s these are the GB that are copied (read and written once) for an image, where it is in
    GFLOP/s the GFLOP.
    """

    name: str
    per_item: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One contender's rate: the median and the quartiles of its runs."""

    name: str
    unit: str = "images/s"  # or "frames/s", "views/s"; of limits "GB/s", "GFLOP/s"
    median: float
    q25: float
    q75: float
    runs: int
    bytes_per_image: int  # of an image in memory; of a frame, its file's; of a view, what is read and written for it
    params: Mapping[str, Param]
    limit: Limit | None = None  # None only for limits themselves

    def converted(
        self, name: str, unit: str, factor: float, *, bytes_per_image: int, limit: Limit | None = None
    ) -> "Result":
        """The same runs in another unit, of which this one's holds ``factor``; and the same limit, if none is given."""
        rates = {quantile: factor * getattr(self, quantile) for quantile in ("median", "q25", "q75")}
        if limit is None and self.limit is not None:
            limit = replace(self.limit, per_item=self.limit.per_item / factor)
        return replace(self, name=name, unit=unit, bytes_per_image=bytes_per_image, limit=limit, **rates)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """How many times faster one result is than another, and what was promised of that."""

    first: str
    second: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def name(self) -> str:
        """As the JSON calls it."""
        return f"{self.first} / {self.second}"

    @property
    def promised(self) -> bool:
        """Whether it has a bound."""
        return self.at_least is not None or self.at_most is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Promise:
    """A figure that was promised; ``measured`` is None where this machine cannot say, and ``missing`` tells why."""

    what: str
    measured: float | None
    at_least: float | None = None
    at_most: float | None = None
    missing: str = ""

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.what}: expected one bound, got at_least {self.at_least}, at_most {self.at_most}")
        if (self.measured is None) != bool(self.missing):
            raise ValueError(f"{self.what}: a figure that is not measured says why, and only that")

    @property
    def kept(self) -> bool | None:
        """Whether it is; None where it was not measured."""
        if self.measured is None:
            return None
        if self.at_least is not None:
            return self.measured >= self.at_least
        return self.measured <= (self.at_most or 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """Results to be drawn beside each other, of one unit; ours first."""

    title: str
    results: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Rates over one of their ``params``: each line has a label and its results."""

    title: str
    axis: str  # the key of params: "threads", "batch", ...
    lines: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageReport:
    """What one stage's benchmark found."""

    stage: str
    results: tuple[Result, ...]
    own: str | None = None  # name of the result that is the stage's rate, in images/s, in the verdict
    ratios: tuple[Ratio, ...] = ()  # those that say something
    promises: tuple[Promise, ...] = ()  # beyond those of ratios
    left_out: Mapping[str, str] = field(default_factory=dict)  # peer -> why it was not measured
    footing: Mapping[str, str] = field(default_factory=dict)  # peer -> what it does and leaves out beside ours
    bars: tuple[Bars, ...] = ()
    curves: tuple[Curve, ...] = ()

    def __post_init__(self) -> None:
        names = [result.name for result in self.results]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{self.stage}: two results are called {sorted(twice)[0]}")
        free = [
            ratio for ratio in self.ratios if not ratio.promised
        ]  # a promise is told where its peer is missing, too
        named = {name for ratio in free for name in (ratio.first, ratio.second)}
        named |= {name for chart in self.bars for name in chart.results}
        named |= {name for chart in self.curves for line in chart.lines.values() for name in line}
        if unknown := (named | ({self.own} if self.own else set())) - set(names):
            raise ValueError(f"{self.stage}: no result is called {sorted(unknown)[0]}")

    def median(self, name: str) -> float:
        """The rate of one result, in its unit."""
        return next(result.median for result in self.results if result.name == name)

    def kept(self) -> tuple[Promise, ...]:
        """Every promise, those of ratios first."""
        return (*(self._promise(ratio) for ratio in self.ratios if ratio.promised), *self.promises)

    def measured_ratios(self) -> dict[str, float]:
        """How many times faster one result is than another."""
        return {ratio.name: self._ratio(ratio) for ratio in self.ratios if not self._missing(ratio)}

    def _promise(self, ratio: Ratio) -> Promise:
        missing = self._missing(ratio)
        return Promise(
            what=ratio.name,
            measured=None if missing else self._ratio(ratio),
            at_least=ratio.at_least,
            at_most=ratio.at_most,
            missing=f"{' and '.join(missing)} left out" if missing else "",
        )

    def _missing(self, ratio: Ratio) -> list[str]:
        names = {result.name for result in self.results}
        return [name for name in (ratio.first, ratio.second) if name not in names]

    def _ratio(self, ratio: Ratio) -> float:
        return self.median(ratio.first) / self.median(ratio.second)


def known(ratios: Sequence[Ratio], results: Sequence[Result]) -> tuple[Ratio, ...]:
    """Those of which both results were measured, for peers may be missing; and all that were promised."""
    names = {result.name for result in results}
    return tuple(ratio for ratio in ratios if ratio.promised or names.issuperset((ratio.first, ratio.second)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One call of `python -m benchmarks STAGE`, as its JSON has it."""

    stage: str
    machine: Mapping[str, Any]
    commit: str | None  # None outside a checkout
    date: str  # of the day, ISO
    full: bool  # for publication, else quick
    results: tuple[Result, ...]
    ratios: Mapping[str, float]
    promises: tuple[Promise, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    footing: Mapping[str, str] = field(default_factory=dict)
    bars: tuple[Bars, ...] = ()
    curves: tuple[Curve, ...] = ()
    verdict: str = ""
    analysis: Mapping[str, Any] = field(default_factory=dict)  # what the verdict says, as numbers

    def result(self, name: str) -> Result | None:
        """The result of that name."""
        return next((result for result in self.results if result.name == name), None)

    def of_limit(self, result: Result) -> float | None:
        """A rate as a fraction of its physical limit; None of limits, and where the limit was not measured."""
        limit = self.result(result.limit.name) if result.limit else None
        if limit is None or result.limit is None:
            return None
        return result.median * result.limit.per_item / limit.median

    def to_json(self) -> dict[str, Any]:
        """The published schema: `design.md`'s, and more."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        results = [asdict(result) | self._derived(result) for result in self.results]
        promises = [asdict(promise) | {"kept": promise.kept} for promise in self.promises]
        charts = {name: [asdict(chart) for chart in getattr(self, name)] for name in ("bars", "curves")}
        return content | {"results": results, "promises": promises} | charts

    def _derived(self, result: Result) -> dict[str, float | None]:
        bytes_per_s = result.median * result.bytes_per_image if result.limit else None
        return {"bytes_per_s": bytes_per_s, "of_limit": self.of_limit(result)}

    def write(self, path: Path) -> None:
        """Write the JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write((json.dumps(self.to_json(), indent=1) + "\n").encode())
