"""A figure of a plan: a number with its unit and where it comes from."""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["", "galaxies", "fields", "frames", "galaxies/field", "bytes", "bytes/s", "s", "images/s"]

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SPANS = ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """``source`` begins with what it is: measured, computed, assumed or given."""

    name: str
    value: float
    unit: Unit
    source: str

    @property
    def text(self) -> str:
        """The value as people read it."""
        if self.unit in ("bytes", "bytes/s"):
            return size(self.value) + self.unit.removeprefix("bytes")
        if self.unit == "s":
            return span(self.value)
        shown = f"{self.value:,.0f}" if self.value >= 100 or self.value == round(self.value) else f"{self.value:#.3g}"
        return f"{shown} {self.unit}".rstrip()


def size(count: float) -> str:
    """Bytes in three digits, prefixes of 1000: 277 GB."""
    for factor, prefix in _PREFIXES:
        if count >= 0.9995 * factor:
            value = count / factor
            return f"{value:,.0f} {prefix}B" if value >= 99.95 else f"{value:#.3g} {prefix}B"
    return f"{count:.0f} B"


def span(seconds: float) -> str:
    """Seconds in the unit in which they are at least 2: 57 minutes, 31 hours."""
    for factor, unit in _SPANS:
        if seconds >= 2 * factor:
            return f"{_two(seconds / factor)} {unit}"
    return f"{_two(seconds)} s" if seconds >= 1 else "less than 1 s"


def hours(count: float) -> str:
    """Of a GPU or a core."""
    return f"{count:,.0f}" if count >= 9.95 else f"{count:.2g}"


def _two(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"
