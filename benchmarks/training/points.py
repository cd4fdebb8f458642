"""What our step's rate depends on, each from one base: threads, batch, side of views, queue, precision, compiling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from trainer.config import Precision, PretrainConfig

from ..limits import threads_text
from ..practice import Practice
from ..results import Curve, Ratio
from .step import settings_for

IN_MEMORY = "train: MoCo step, views in memory"  # the base, with all threads

Axis = Literal["threads", "batch", "view_px", "queue", "precision", "compile"]

TITLES: Mapping[Axis, str] = {  # of those that are drawn
    "threads": "MoCo step, threads",
    "batch": "MoCo step, batch",
    "view_px": "MoCo step, side of the views [pixel]",
    "queue": "MoCo step, queue",
    "precision": "MoCo step, precision",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One way to be measured, unlike the base on one axis."""

    name: str
    axis: Axis | None  # None of the base itself
    settings: PretrainConfig
    threads: int


def points(data: Practice, device: torch.device) -> tuple[Point, ...]:
    """The base first, then the other points of each axis."""
    settings, threads = settings_for(device), max(data.threads)
    base = Point(name=IN_MEMORY, axis=None, settings=settings, threads=threads)
    fewer = () if device.type == "cuda" else data.threads[:-1]
    of_threads = [
        Point(name=_named(threads_text(number)), axis="threads", settings=settings, threads=number) for number in fewer
    ]
    others = [
        Point(name=_named(text), axis=axis, settings=_changed(settings, axis, value), threads=threads)
        for axis, values in _changes(data, device).items()
        for text, value in values.items()
    ]
    return base, *of_threads, *others


def curves(measured: Sequence[Point]) -> tuple[Curve, ...]:
    """One for each axis with more than one point."""
    base, *others = measured
    found = []
    for axis in TITLES:
        line = [base, *(point for point in others if point.axis == axis)]
        if len(line) > 1:
            names = tuple(point.name for point in sorted(line, key=lambda point: _place(point, axis)))
            found.append(Curve(title=TITLES[axis], axis=axis, lines={"skymill": names}))
    return tuple(found)


def ratios(measured: Sequence[Point]) -> tuple[Ratio, ...]:
    """The base over fewer threads, over other precisions and queues, and over the compiled step."""
    told = ("threads", "queue", "precision", "compile")
    return tuple(Ratio(first=IN_MEMORY, second=point.name) for point in measured if point.axis in told)


def _changes(data: Practice, device: torch.device) -> Mapping[Axis, Mapping[str, int | Precision | bool]]:
    """By axis: its values beside the base's, each with its text."""
    on_gpu = device.type == "cuda"
    batches = data.pick((64, 1024), (64, 128, 512, 1024)) if on_gpu else data.pick((16, 32), (16, 32, 128, 256))
    queues = (4096, 1_048_576) if on_gpu else data.pick((65_536,), (65_536, 1_048_576))
    precisions: tuple[Precision, ...] = ("fp32", "fp16") if on_gpu else ("bf16",)
    return {
        "batch": {f"batch {number:,}": number for number in batches},
        "view_px": {f"{number} pixels": number for number in data.pick((32, 48), (32, 48, 80, 96))},
        "queue": {f"queue {number:,}": number for number in queues},
        "precision": {name: name for name in precisions},
        "compile": {"compiled": True} if on_gpu else {},  # on a CPU that takes minutes
    }


def _changed(settings: PretrainConfig, axis: Axis, value: int | Precision | bool) -> PretrainConfig:
    changes: dict[str, Any] = {axis: value}
    return replace(settings, **changes)


def _named(text: str) -> str:
    return f"{IN_MEMORY}, {text}"


def _place(point: Point, axis: Axis) -> float:
    """Where a point lies on an axis."""
    if axis == "precision":
        return ("fp32", "bf16", "fp16").index(point.settings.precision)
    return float(point.threads if axis == "threads" else getattr(point.settings, axis))
