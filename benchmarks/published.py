"""Reads a JSON that `Report.write` wrote. It may come from anywhere: each fault is one line that says where it is."""

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from .errors import BenchmarkError
from .results import Bars, Curve, Limit, Param, Promise, Report, Result

T = TypeVar("T")
_Params = Mapping[str, Collection[str]]  # of each result, by its name

_SINCE = ("date", "full", "promises", "bars", "curves", "analysis")  # what the first schema had not


def read_report(path: Path) -> Report:
    """The report in this file; keys that this version does not know are passed over.

    BenchmarkError where there is no such file, or what it holds is not a report: in one line.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except OSError as err:
        raise BenchmarkError(f"{path}: cannot be read ({err.strerror}); give a JSON that --json wrote") from err
    except (ValueError, RecursionError) as err:
        reason = str(err).splitlines()[0]
        raise BenchmarkError(f"{path}: not JSON ({reason}); give a JSON that --json wrote") from err
    found = _Found(str(path), content)
    if "results" in found.mapping() and (missing := [key for key in _SINCE if key not in found.mapping()]):
        raise BenchmarkError(f"{path}: no {missing[0]!r}: an older version wrote it; measure again")
    return _report(found)


_LEAST = 1e-18  # of numbers that must be above 0


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


@dataclass(frozen=True, slots=True)
class _Found:
    """A value of the JSON, and where it stands. The methods return it as what is expected, or raise."""

    where: str
    value: object

    def wrong(self, expected: str) -> BenchmarkError:
        shown = json.dumps(self.value)
        return self.fault(f"expected {expected}, got {shown if len(shown) <= 60 else f'{shown[:57]}...'}")

    def fault(self, text: str) -> BenchmarkError:
        """In one line, though keys may hold anything."""
        return BenchmarkError(f"{' '.join(self.where.split())}: {text}; measure again, or mend it")

    def mapping(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def __getitem__(self, key: str) -> "_Found":
        content = self.mapping()
        if key not in content:
            raise self.fault(f"expected {key!r}, which is missing")
        return self.at(key)

    def at(self, key: str) -> "_Found":
        """As indexing, with null for what is missing."""
        return _Found(f"{self.where}: {key}", self.mapping().get(key))

    def items(self) -> Iterator["_Found"]:
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        for number, value in enumerate(self.value):
            yield _Found(f"{self.where}[{number}]", value)

    def named(self, read: Callable[["_Found"], T]) -> dict[str, T]:
        """An object of which each value is read in the same way."""
        return {
            _Found(self.where, key).text(): read(_Found(f"{self.where}: {key}", value))
            for key, value in self.mapping().items()
        }

    def optional(self, read: Callable[["_Found"], T]) -> T | None:
        return None if self.value is None else read(self)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        if not self.value.replace("\n", "").isprintable():  # it goes to terminals and pages
            raise self.wrong("a text without control characters")
        return self.value

    def texts(self) -> tuple[str, ...]:
        return tuple(item.text() for item in self.items())

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def number(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.wrong("a number")
        try:
            number = float(self.value)
        except OverflowError as err:
            raise self.wrong("a number of the usual size") from err
        if not math.isfinite(number):
            raise self.wrong("a finite number")
        return number

    def positive(self) -> float:
        number = self.number()
        if not _LEAST < number < 1 / _LEAST:
            raise self.wrong("a number above 0 of the usual size")
        return number

    def count(self, least: int) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not least <= self.value < 1 / _LEAST:
            raise self.wrong(f"a whole number of at least {least} and of the usual size")
        return self.value

    def param(self) -> Param:
        if isinstance(self.value, str):
            return self.text()
        number = self.number()
        return self.value if isinstance(self.value, int) else number


def _report(found: _Found) -> Report:
    results = tuple(_result(item) for item in found["results"].items())
    params = {result.name: set(result.params) for result in results}
    if len(params) < len(results):
        names = [result.name for result in results]
        raise found["results"].fault(f"{max(names, key=names.count)!r} is there twice")
    return Report(
        stage=found["stage"].text(),
        machine=found["machine"].mapping(),
        commit=found["commit"].optional(_Found.text),
        date=found["date"].text(),
        full=found["full"].flag(),
        results=results,
        ratios=found["ratios"].named(_Found.positive),
        promises=tuple(_promise(item) for item in found["promises"].items()),
        left_out=found["left_out"].named(_Found.text),
        footing=found["footing"].named(_Found.text),
        bars=tuple(_bars(item, params) for item in found["bars"].items()),
        curves=tuple(_curve(item, params) for item in found["curves"].items()),
        verdict=found["verdict"].text(),
        analysis=_analysis(found["analysis"]),
    )


def _result(found: _Found) -> Result:
    q25, median, q75 = (found[name].positive() for name in ("q25", "median", "q75"))
    if not q25 <= median <= q75:
        raise found.wrong("q25 <= median <= q75")
    return Result(
        name=found["name"].text(),
        unit=found["unit"].text(),
        median=median,
        q25=q25,
        q75=q75,
        runs=found["runs"].count(1),
        bytes_per_image=found["bytes_per_image"].count(0),
        params=found["params"].named(_Found.param),
        limit=found["limit"].optional(_limit),
    )


def _limit(found: _Found) -> Limit:
    return Limit(found["name"].text(), found["per_item"].positive())


def _promise(found: _Found) -> Promise:
    read = {name: found.at(name).optional(_Found.number) for name in ("measured", "at_least", "at_most")}
    try:
        return Promise(what=found["what"].text(), missing=found["missing"].text(), **read)
    except ValueError as err:
        raise found.fault(str(err)) from err


def _bars(found: _Found, params: _Params) -> Bars:
    return Bars(title=found["title"].text(), results=_known(found["results"], params))


def _curve(found: _Found, params: _Params) -> Curve:
    lines = found["lines"].named(lambda line: _known(line, params))
    axis = found["axis"].text()
    if any(axis not in params[name] for line in lines.values() for name in line):
        raise found["axis"].wrong("a param of all its results")
    return Curve(title=found["title"].text(), axis=axis, lines=lines)


def _known(found: _Found, params: _Params) -> tuple[str, ...]:
    """Names of results."""
    for item in found.items():
        if item.text() not in params:
            raise item.wrong("a result's name")
    return found.texts()


def _analysis(found: _Found) -> dict[str, Any]:
    """As it is; of what the page draws it is looked at whether it can be drawn."""
    for item in found["gpus"].items() if "gpus" in found.mapping() else ():
        item["gpus"].count(1)
        item["images_per_s"].positive()
        item["binding"].text()
        if not 0 <= item["idle"].number() <= 1:
            raise item["idle"].wrong("a share of one")
    return found.mapping()
