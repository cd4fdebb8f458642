"""From the device's steps to the records of a run: figures heard late, a failure told, a signal heeded.

All ranks hear the same figures after the same step, so all of them stop together.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import TrainingConfig
from .distributed import Ranks
from .meter import Lap, Meter
from .signals import StopSignals
from .telemetry import Telemetry
from .trace import Record

_ASIDE = ("failed", "signal")  # figures that are acted on, not logged


@dataclass(frozen=True, slots=True)
class Note:
    """What the host knows of a step."""

    step: int
    epoch: int
    lr: float
    images: int  # over all ranks
    last: bool  # a record is due after it, whatever the step


class Watch:
    """Takes a note and figures of each step; gives records."""

    def __init__(
        self,
        config: TrainingConfig,
        ranks: Ranks,
        signals: StopSignals,
        *,
        flops_per_image: float,
        pending: Mapping[str, list[float]],
        explain: Callable[[int], str],
    ) -> None:
        """``pending``: figures from before a stop. ``explain``: says of a failed step's samples; all ranks call it."""
        self._config, self._ranks, self._signals, self._explain = config, ranks, signals, explain
        self._telemetry: Telemetry[tuple[Note, tuple[str, ...], Lap]] = Telemetry(ranks.device)
        self.meter = Meter(ranks.device, flops_per_image)
        self.meter.carry(pending)
        self.stopped = False

    def signal(self) -> Tensor:
        """1 on the device once this rank has been told to stop; a figure of the step, so that all hear of it."""
        return torch.full((), float(self._signals.received is not None), device=self._ranks.device)

    def push(self, note: Note, figures: Mapping[str, Tensor]) -> None:
        """A step has been taken, or is under way on the device."""
        self._telemetry.push((note, tuple(figures), self.meter.lap()), torch.stack(list(figures.values())))

    def heard(self, *, drain: bool) -> Iterator[Record]:
        """Records of the steps that the host has heard of; with ``drain`` of all. A step that failed ends the run."""
        for (note, names, lap), values in self._telemetry.due(drain=drain):
            figures = dict(zip(names, values, strict=True))
            if figures["failed"]:
                self._fail(note.step, figures["loss"])
            self.stopped = self.stopped or figures["signal"] > 0
            self.meter.add(note.images, {name: value for name, value in figures.items() if name not in _ASIDE}, lap)
            if note.last or note.step % self._config.log_every_steps == 0:
                yield {"step": note.step, "epoch": note.epoch, "lr": note.lr} | self.meter.take()

    def _fail(self, step: int, loss: float) -> None:
        what = f"loss {loss}" if not math.isfinite(loss) else "gradients or batch statistics that are not"
        precision = ", use --precision fp32" if self._config.precision in ("bf16", "fp16") else ""
        self._ranks.fail(
            f"step {step}: expected finite values, got {what}; {self._explain(step)}; nothing of the step was kept: "
            f"lower --lr{precision}, or leave out what is wrong in the dataset"
        )
