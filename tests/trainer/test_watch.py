"""Records of steps that the host hears of late, as it does on a GPU."""

import time
from collections.abc import Iterator

import pytest
import torch

from trainer import telemetry
from trainer.config import PretrainConfig
from trainer.distributed import Ranks
from trainer.signals import StopSignals
from trainer.watch import Note, Watch


def test_records_that_are_heard_at_once_have_each_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that is set: step 1 takes 2 s, half of them waiting, step 2 takes 8 s, 2 of them waiting."""
    clock = iter([0.0, 0.0, 1.0, 2.0, 3.0, 5.0, 10.0])  # begun; wait, its end, lap; the same
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    due = telemetry.Telemetry.due

    def late(self: telemetry.Telemetry[object], *, drain: bool = False) -> Iterator[object]:
        return due(self, drain=drain) if drain else iter(())

    monkeypatch.setattr(telemetry.Telemetry, "due", late)
    watch = Watch(
        PretrainConfig(log_every_steps=1), Ranks(0, 1, torch.device("cpu")), StopSignals(),
        flops_per_image=1e12, pending={}, explain=str,
    )  # fmt: skip
    heard = []
    for step in (1, 2):
        with watch.meter.timed("wait"):
            pass
        figures = {"loss": float(step), "failed": 0.0, "signal": 0.0}
        watch.push(Note(step, 0, 0.1, 8, last=False), {name: torch.tensor(value) for name, value in figures.items()})
        heard += list(watch.heard(drain=step == 2))
    kept = ("step", "loss", "images_per_s", "wait_share", "tflops")
    assert [[record[name] for name in kept] for record in heard] == [[1, 1.0, 4.0, 0.5, 4.0], [2, 2.0, 1.0, 0.25, 1.0]]
