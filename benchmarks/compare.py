"""What changed between two reports beyond the noise, so that a change of the code or of the machine can be judged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import noise
from .results import Report, Result
from .table import of_stage, right, titled
from .wording import by_stage, rate, ratio, share, short


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One figure before and after."""

    name: str
    old: float
    new: float
    noise: float | None  # the factor (its inverse alike) up to which chance explains it; None: single runs do not tell

    @property
    def factor(self) -> float:
        """How many times the old figure the new one is."""
        return self.new / self.old

    @property
    def direction(self) -> int | None:
        """1 or -1 for up or down beyond the noise, 0 within it; None where the noise is unknown."""
        if self.noise is None:
            return None
        if 1 / self.noise <= self.factor <= self.noise:
            return 0
        return 1 if self.factor > 1 else -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All figures that both reports have, and what else a reader must know."""

    limits: tuple[Change, ...]  # the machine itself
    rates: tuple[Change, ...]
    of_limits: tuple[Change, ...]  # rates as fractions of their limits, which a faster machine alone does not change
    ratios: tuple[Change, ...]
    gone: tuple[str, ...]  # results of the old report alone
    added: tuple[str, ...]
    warnings: tuple[str, ...]  # why the two may not be of the same thing

    @property
    def drift(self) -> float | None:
        """How many times faster the machine itself has become, by the median of its limits."""
        return median(change.factor for change in self.limits) if self.limits else None


def compare(old: Report, new: Report) -> Comparison:
    """Judge every figure that both have; results of one name but of two units are different things."""
    pairs = {name: pair for name, pair in _pairs(old, new).items() if pair[0].unit == pair[1].unit}
    judge = _Judge(old, new, pairs)
    return Comparison(
        limits=judge.rates([name for name, (_, now) in pairs.items() if now.limit is None]),
        rates=judge.rates([name for name, (_, now) in pairs.items() if now.limit is not None]),
        of_limits=judge.of_limits(),
        ratios=judge.ratios(),
        gone=tuple(each.name for each in old.results if each.name not in pairs),
        added=tuple(each.name for each in new.results if each.name not in pairs),
        warnings=tuple(_warnings(old, new)),
    )


def _pairs(old: Report, new: Report) -> dict[str, tuple[Result, Result]]:
    return {now.name: (was, now) for now in new.results if (was := old.result(now.name))}


class _Judge:
    """Makes changes of figures, and says how large their noise is."""

    def __init__(self, old: Report, new: Report, pairs: Mapping[str, tuple[Result, Result]]) -> None:
        self._old, self._new, self._pairs = old, new, pairs
        self._typical = noise.typical_sigma((*old.results, *new.results))

    def rates(self, names: Sequence[str]) -> tuple[Change, ...]:
        pairs = {name: self._pairs[name] for name in names}
        return self._judged({name: (was.median, now.median) for name, (was, now) in pairs.items()})

    def of_limits(self) -> tuple[Change, ...]:
        """Of the results that have the same limit in both."""
        figures, parts = {}, {}
        for name, (was, now) in self._pairs.items():
            before, after = self._old.of_limit(was), self._new.of_limit(now)
            if before and after and was.limit and now.limit and was.limit.name == now.limit.name:
                figures[name], parts[name] = (before, after), (name, now.limit.name)
        return self._judged(figures, parts)

    def ratios(self) -> tuple[Change, ...]:
        both = [name for name in self._new.ratios if name in self._old.ratios]
        parts = {name: tuple(name.split(" / ")) for name in both}
        return self._judged({name: (self._old.ratios[name], self._new.ratios[name]) for name in both}, parts)

    def _judged(
        self, figures: Mapping[str, tuple[float, float]], parts: Mapping[str, tuple[str, ...]] | None = None
    ) -> tuple[Change, ...]:
        """Of name -> (old, new); ``parts`` are the results that each is a quotient of, else the one of that name."""
        errors = [self._error(parts[name] if parts else (name,)) for name in figures]
        widest = noise.widest(errors, [after / before for before, after in figures.values()])
        return tuple(
            Change(name=name, old=before, new=after, noise=by_chance)
            for (name, (before, after)), by_chance in zip(figures.items(), widest, strict=True)
        )

    def _error(self, parts: Sequence[str]) -> float | None:
        if not self._pairs.keys() >= set(parts):
            return None
        return noise.error([self._pairs[part] for part in parts], self._typical)


def _warnings(old: Report, new: Report) -> Iterator[str]:
    if old.full != new.full:
        kind = {True: "full", False: "quick"}
        yield f"one is {kind[old.full]}, the other {kind[new.full]}: they do not do the same amount of work"
    if old.stage != new.stage:
        yield f"one is of {old.stage}, the other of {new.stage}"
    for what, was, now in (
        ("another machine", {**old.machine, "versions": None}, {**new.machine, "versions": None}),
        ("other versions", old.machine.get("versions"), new.machine.get("versions")),
    ):
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            for key in sorted({*was, *now}):
                if was.get(key) != now.get(key):
                    yield f"{what}: {key} was {was.get(key)}, is {now.get(key)}"


_RATES = {1: "faster", -1: "slower", 0: "within noise", None: "noise unknown"}
_FIGURES = _RATES | {1: "higher", -1: "lower"}
_COLOURS = {1: "green", -1: "red", 0: "", None: "yellow"}


def show(old: Report, new: Report, console: Console) -> None:
    """Print each change of a rate, alone and beside its limit, those of ratios, and what is in one report alone."""
    found = compare(old, new)
    for which, report in (("old", old), ("new", new)):
        console.print(Text(f"{which}: {report.date}, commit {report.commit or 'unknown'}"))
    for warning in found.warnings:
        console.print(Text(f"beware: {warning}", style="yellow"))
    if found.drift is not None:
        console.print(Text(f"the machine itself, by its limits: {ratio(found.drift)} times as fast as before"))
    console.print(_rates(found))
    if found.ratios:
        console.print(_ratios(found.ratios))
    for which, names in (("old", found.gone), ("new", found.added)):
        for name in names:
            console.print(Text(f"in the {which} one only: {name}"))
    console.print(Text(_summary(found), style="bold"))


def _rates(found: Comparison) -> Table:
    table = titled("rates", "", "old", "new", "new/old", "noise", "rate", "of limit")
    of_limits = {change.name: change for change in found.of_limits}
    for stage, changes in by_stage((*found.rates, *found.limits)):
        table.add_row(Text(stage, style="bold"))
        for each in changes:
            beside = of_limits.get(each.name)
            figures = map(Text, (rate(each.old), rate(each.new), ratio(each.factor), _noise(each)))
            table.add_row(Text(short(each.name)), *figures, _told(each, _RATES), _told(beside, _FIGURES))
        table.add_section()
    return right(table, 1, 2, 3, 4)


def _ratios(changes: Sequence[Change]) -> Table:
    table = titled("ratios", "", "old", "new", "new/old", "noise", "")
    for each in changes:
        figures = map(Text, (ratio(each.old), ratio(each.new), ratio(each.factor), _noise(each)))
        table.add_row(Text(of_stage(each.name)), *figures, _told(each, _FIGURES))
    return right(table, 1, 2, 3, 4)


def _noise(change: Change) -> str:
    return "one run" if change.noise is None else f"± {share(change.noise - 1)}"


def _told(change: Change | None, words: Mapping[int | None, str]) -> Text:
    return Text() if change is None else Text(words[change.direction], style=_COLOURS[change.direction])


def _summary(found: Comparison) -> str:
    counts = {word: sum(each.direction == key for each in found.rates) for key, word in _RATES.items()}
    beside = [each.direction for each in found.of_limits]
    return (
        f"rates: {', '.join(f'{count} {word}' for word, count in counts.items())}; "
        f"beside their limits: {beside.count(1)} higher, {beside.count(-1)} lower"
    )
