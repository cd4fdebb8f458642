"""`python -m benchmarks plan`: what its arguments mean, and what it prints and writes."""

import argparse
import json
import math
from pathlib import Path

from rich.console import Console

from sharding import atomic_file

from ..errors import BenchmarkError
from .evidence import Evidence
from .plan import Plan, Prices
from .told import show

_MOST = 10**12


def run(args: argparse.Namespace, console: Console) -> int:
    """Print the plan; BenchmarkError where a number or a file is none."""
    prices = Prices(gpu=_price(args.gpu_hour, "--gpu-hour"), core=_price(args.core_hour, "--core-hour"))
    galaxies, gpus = _count(args.galaxies, "--galaxies"), _count(args.gpus, "--gpus")
    plan = Plan(galaxies, gpus, _count(args.workers, "--workers"), Evidence(args.results), prices)
    show(plan, console)
    if args.json is not None:
        _write(plan, args.json)
        console.print(f"written: {args.json}", highlight=False, soft_wrap=True)
    return 0


def _count(text: str, option: str) -> int:
    """A whole number of at least 1, also as 1.2e6."""
    value = _number(text)
    if not (1 <= value <= _MOST and value == round(value)):
        raise BenchmarkError(
            f"{option}: expected a whole number from 1 to 1e12, such as 1200000 or 1.2e6, got {text!r}"
        )
    return round(value)


def _price(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    value = _number(text)
    if not 0 <= value < math.inf:
        raise BenchmarkError(f"{option}: expected a price of 0 or more, such as 2.5, got {text!r}")
    return value


def _number(text: str) -> float:
    """NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _write(plan: Plan, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            file.write((json.dumps(plan.to_json(), indent=1) + "\n").encode())
    except OSError as err:
        raise BenchmarkError(f"{path}: cannot be written ({err.strerror})") from None
