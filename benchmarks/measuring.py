"""Runs stages and the limits that they refer to, and folds what they found into one report."""

import importlib
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import date
from typing import Any

from trainer.errors import USER_ERRORS

from . import machine
from .errors import BenchmarkError
from .limits.names import DISK
from .practice import Practice
from .results import Report, StageReport
from .verdict import Chain, verdict

STAGES = ("ingest", "read", "augment", "train")  # in the order in which data pass through them


def measure(stage: str, data: Practice) -> tuple[Report | None, bool]:
    """What one stage, or all, found; and whether one failed, which is then left out. None on ranks beside the first.

    Training comes with the whole chain that feeds it; under torchrun it is measured over the ranks instead.
    """
    from .training.ranks import measure as measure_ranks
    from .training.ranks import under_torchrun

    if under_torchrun():
        if stage != "train":
            raise BenchmarkError(f"torchrun -m benchmarks {stage}: expected train: only that works on several ranks")
        found = measure_ranks(data)
        return (None if found is None else _with_limits(stage, [found], None, data)), False
    if data.given is not None:
        _ = data.dataset  # what is wrong with it is said at once
    reports: list[StageReport] = []
    failed: dict[str, str] = {}
    whole = None
    for name in STAGES if stage == "all" else (stage,):
        data.say(name)
        with _isolated(name, failed):
            reports.append(importlib.import_module(f"{__package__}.stages.{name}").run(data))
        if name == "train":
            with _isolated("whole", failed):
                from .chain.measure import run

                found, whole = run(data)
                reports.append(found)
    if not reports:
        raise BenchmarkError("; ".join(failed.values()))
    return _with_limits(stage, reports, whole, data, failed), bool(failed)


@contextmanager
def _isolated(name: str, failed: dict[str, str]) -> Iterator[None]:
    """A stage that fails costs its own results, not those of the others, which took minutes."""
    try:
        yield
    except (BenchmarkError, *USER_ERRORS) as err:  # the user's
        failed[name] = str(err)
    except Exception as err:
        traceback.print_exc()
        failed[name] = " ".join(f"failed: {type(err).__name__}: {err}".split())


def _with_limits(
    stage: str,
    reports: Sequence[StageReport],
    chain: Chain | None,
    data: Practice,
    failed: Mapping[str, str] | None = None,
) -> Report:
    from . import limits

    data.say("limits")
    named = {result.limit.name for report in reports for result in report.results if result.limit}
    reports = [*reports, limits.measure(named, data)]
    broken = [StageReport(stage=name, results=(), left_out={"all of it": why}) for name, why in (failed or {}).items()]
    return fold(stage, [*reports, *broken], chain, full=data.full)


def fold(stage: str, reports: Sequence[StageReport], chain: Chain | None, *, full: bool) -> Report:
    """One report of all; each rate has a limit, which was measured or is told to be left out."""
    disk = next((each.median for part in reports for each in part.results if each.name == DISK), None)
    if chain is not None and disk is not None:
        chain = replace(chain, disk_gb_per_s=disk)
    rates = {each.stage: each.median(each.own) for each in reports if each.own}
    found = verdict(rates, chain)
    report = Report(
        stage=stage,
        machine=machine.describe(),
        commit=machine.commit(),
        date=date.today().isoformat(),
        full=full,
        results=_all(each.results for each in reports),
        ratios=_merged(each.measured_ratios() for each in reports),
        promises=_all(each.kept() for each in reports),
        left_out=_merged(_by_stage(each.stage, each.left_out) for each in reports),
        footing=_merged(_by_stage(each.stage, each.footing) for each in reports),
        bars=_all(each.bars for each in reports),
        curves=_all(each.curves for each in reports),
        verdict=found.text,
        analysis=asdict(found),
    )
    limits = {result.name for result in report.results if result.limit is None}
    limits |= {name for each in reports for name in each.left_out}
    for result in report.results:
        if result.limit is not None and result.limit.name not in limits:
            raise ValueError(f"{result.name}: its limit {result.limit.name!r} was not measured, nor was it left out")
    return report


def _all(parts: Iterable[Sequence[Any]]) -> tuple[Any, ...]:
    return tuple(item for part in parts for item in part)


def _by_stage(stage: str, peers: Mapping[str, str]) -> dict[str, str]:
    """A peer may take part in several stages."""
    return {f"{stage}: {peer}": text for peer, text in peers.items()}


def _merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}
