"""Delays put into one stage after another, and whether the verdict finds them; a part of `check`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter, sleep
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from trainer.config import EncoderConfig, PretrainConfig
from trainer.data import Indices
from trainer.distributed import joined
from trainer.pretrain import Pretraining

from .practice import Practice
from .verdict import Verdict, verdict

DELAY_S = 0.010  # a batch
_CUTS = 3  # of a strip, with and without
SETTINGS = PretrainConfig(
    encoder=EncoderConfig(depth=10, width=1),
    view_px=8,
    batch=4,
    batch_norm_groups=1,
    queue=4,
    embedding=8,
    epochs=10_000,
)


@dataclass(frozen=True, slots=True)
class Moved:
    """What binds before and after a delay in a stage; at once is None where nothing runs beside it."""

    stage: str
    before: str
    alone: str
    overlapped: str | None

    @property
    def passes(self) -> bool:
        """The verdict was elsewhere, and is at the delay now."""
        return self.before != self.stage == self.alone and self.overlapped in (None, self.stage)


class _Glance(Pretraining):
    """Its step only encodes the queries: a whole one may take longer than the delay, however small the network."""

    def learn(
        self, queries: Tensor, keys: Tensor, order: Indices, *, signal: Tensor | None = None
    ) -> tuple[float, dict[str, Tensor]]:
        del keys, order, signal
        with torch.no_grad():
            self.moco.encoder_q(queries)
        return 0.0, {}


def moved(data: Practice) -> Iterator[Moved]:
    """Each stage, from where another one binds."""
    yield _in_ingest(data)
    for stage in ("read", "augment", "train"):
        data.say(f"a delay in {stage}")
        before: dict[str, float] = {}
        found = at_once(data)
        if stage in (found.alone, found.overlapped):
            before = {"augment" if stage == "train" else "train": DELAY_S / 2}
            found = at_once(data, before)
        after = at_once(data, {**before, stage: DELAY_S})
        told = found.alone if found.alone == stage else found.overlapped or found.alone
        yield Moved(stage, told, after.alone, after.overlapped)


def at_once(data: Practice, delays: Mapping[str, float] | None = None) -> Verdict:
    """The verdict on a chain with these delays [s a batch]."""
    from .chain.measure import chained

    with joined() as ranks:
        training = _Glance(SETTINGS, data.dataset, ranks)
        _, chain = chained(training, rounds=3, seconds=0.3, delays=delays)
    return verdict({}, chain)


def _in_ingest(data: Practice) -> Moved:
    """A strip, cut as a worker does it, beside a training that takes its galaxies in a time midway.

    That is, between the times of the strip without delays and with one for each batch of stamps: so the verdict moves
    for 10 ms, and would not for less than 5. A galaxy is a batch: fewer delays hide behind the unpacking beside them.
    """
    from ingest import stamps

    from .fields import DENSE
    from .ingesting.jobs import Strip

    data.say("a delay in ingest")
    strip = Strip(data.fields, DENSE, 2)
    galaxies, batches = len(strip.objects.objid), 0
    cut_stamps = stamps.cut_stamps

    def delayed(*arguments: Any) -> Iterator[stamps.Stamps]:
        nonlocal batches
        for batch in cut_stamps(*arguments):
            batches += 1
            sleep(DELAY_S)
            yield batch

    swift, slow = [], []
    with patch("ingest.stamps.AT_ONCE", 1):
        strip.cut()
        for _ in range(_CUTS):
            swift.append(_seconds(strip))
            with patch("ingest.strip.cut_stamps", delayed):
                slow.append(_seconds(strip))
    midway = median(swift) + DELAY_S * (batches / _CUTS) / 2
    before, after = (
        verdict({"ingest": galaxies / median(seconds), "train": galaxies / midway}) for seconds in (swift, slow)
    )
    return Moved("ingest", before.alone, after.alone, after.overlapped)


def _seconds(strip: Any) -> float:
    began = perf_counter()
    strip.cut()
    return perf_counter() - began
