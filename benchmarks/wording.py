"""How figures and names are written for people: on the terminal, on the page and in the README."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Protocol, TypeVar

from .results import Promise, Result

_STAGE = re.compile(r"(^|(?<= / ))(\w+): ")  # at the beginning, and after the stroke of a ratio


class Named(Protocol):
    """What has a name that begins with its stage."""

    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=Named)


def stage(name: str) -> str:
    """Of "read: h5py / read: dd" it is read; "" where none is named."""
    found = _STAGE.match(name)
    return found.group(2) if found else ""


def short(name: str) -> str:
    """Without the stage: "h5py / dd"."""
    return _STAGE.sub("", name)


def by_stage(named: Iterable[N]) -> Iterator[tuple[str, list[N]]]:
    """Neighbours of one stage together."""
    for name, group in groupby(named, key=lambda each: stage(each.name)):
        yield name, list(group)


def rate(value: float) -> str:
    """Three digits or more: 3.51, 18.0, 45,759."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def quartiles(result: Result) -> str:
    """How noisy its runs were."""
    return f"{rate(result.q25)} - {rate(result.q75)}" if result.runs > 1 else "one run"


def megabytes(result: Result) -> str:
    """MB/s that pass; "" of limits, which say it themselves."""
    return rate(result.median * result.bytes_per_image / 1e6) if result.limit and result.bytes_per_image else ""


def share(value: float | None) -> str:
    """Of one, in percent: 82 %, 0.4 %."""
    if value is None:
        return ""
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:#.2g} %"


def ratio(value: float) -> str:
    """Two digits after the point, or three in all."""
    return f"{value:.2f}" if 0.095 <= value < 9.995 else rate(value)


def bound(promise: Promise) -> str:
    """At least, or at most, so much."""
    if promise.at_least is not None:
        return f"at least {_number(promise.at_least)}"
    return f"at most {_number(promise.at_most or 0.0)}"


def _number(value: float) -> str:
    return f"{value:,.3f}".rstrip("0").rstrip(".")


def outcome(promise: Promise) -> str:
    """What became of it."""
    if promise.kept is None:
        return f"not measured: {promise.missing}"
    return "kept" if promise.kept else "falls short"
