"""What GPUs take, alone and together, and what their nodes give them: measured where it was, else assumed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from trainer.config import PretrainConfig

from ..chain import measure as chain
from ..limits import DISK
from ..results import Result
from ..training import ranks
from ..training.points import IN_MEMORY
from ..verdict import Chain, idle_gpus
from .evidence import Evidence, Results, count_of
from .figures import Figure

Place = Literal["memory", "disk as float32", "disk as int16"]  # from where a node reads its images
PLACES: tuple[Place, ...] = get_args(Place)

GPUS_A_NODE = 8  # assumed


@dataclass(frozen=True, slots=True)
class Fed:
    """What all GPUs do."""

    images_per_s: float
    waits: float  # share of the time
    binds: str  # "the GPUs", "the disk" or "reading from memory"


class Gpus:
    """Nodes of at most `GPUS_A_NODE` GPUs, each of which reads the whole dataset as the measured machine does."""

    def __init__(self, evidence: Evidence, dataset_bytes: float) -> None:
        """``dataset_bytes`` of float32; where a node's memory holds it, it is read from there."""
        names = chain.READ, chain.AUGMENT, chain.STEP
        self._evidence = evidence
        self._source, results = evidence.newest_or_none(*names, suits=_trained_on_gpu) or evidence.newest(*names)
        own = self._source.report.result(DISK)
        disk_source, (self._disk,) = (self._source, (own,)) if own else evidence.newest(DISK)
        self._disk_told = disk_source.measured(f"disk, {self._disk.median:.2f} GB/s in sequence")
        self._settings = f"batch {count_of(results[-1], 'batch')}, {results[-1].params.get('precision', 'fp32')}"
        self._chain = _chain(*results, disk_gb_per_s=self._disk.median)
        memory = self._source.report.machine.get("memory_gib")
        self.memory_bytes = 2**30 * float(memory) if isinstance(memory, int | float) else 0.0
        self.place: Place = "memory" if dataset_bytes < self.memory_bytes else "disk as float32"
        self.rate = idle_gpus(self._chain, (1,))[0].images_per_s  # pairs of views that one pre-trains on

    def figures(self) -> list[Figure]:
        """What the times stand on."""
        if self._chain.device == "cuda":
            told = self._source.measured(f"step and views, {self._settings}")
        else:
            told = "assumed: of an H100 (109 TFLOP/s, --precision bf16 --compile); no GPU's result is at hand"
        disk = self._disk.median * 1e9 / (4 * self._chain.pixels)
        holds = "holds" if self.place == "memory" else "does not hold"
        pages = f"random batches, {self._chain.read_threads} threads"
        return [
            Figure(name="one GPU pre-trains on", value=self.rate, unit="images/s", source=told),
            Figure(name="a node reads from memory", value=self._chain.alone["read"], unit="images/s",
                   source=self._source.measured(pages)),
            Figure(name="a node reads from its disk", value=disk, unit="images/s",
                   source=f"{self._disk_told}, of float32"),
            Figure(name="a node's memory", value=self.memory_bytes, unit="bytes",
                   source=f"{self._source.measured('the machine')}; it {holds} the dataset"),
            Figure(name="GPUs a node", value=GPUS_A_NODE, unit="", source="assumed: at most"),
        ]  # fmt: skip

    def fed(self, gpu_rate: float, gpus: int, place: Place | None = None) -> Fed:
        """GPUs of this rate each [image / s], the last node's too, for one that waits holds up all.

        ``place``: `self.place` unless given.
        """
        place = place or self.place
        disk_gb_per_s = self._disk.median * (2.0 if place == "disk as int16" else 1.0)
        alone = {"read": self._chain.alone["read"], "augment": math.inf, "train": gpu_rate}
        node = replace(self._chain, device="cuda", alone=alone, disk_gb_per_s=disk_gb_per_s)
        (found,) = idle_gpus(node, (min(gpus, GPUS_A_NODE),))
        cached, from_disk = found.idle, found.idle_from_disk or 0.0
        waits = cached if place == "memory" else from_disk
        reading = "reading from memory" if waits == cached else "the disk"
        return Fed(gpus * gpu_rate * (1 - waits), waits, reading if waits > 0 else "the GPUs")

    def scaling(self, gpus: int, batch: int) -> tuple[float, str]:
        """What is left of a GPU's rate where its part of the batch is ``batch``, beside others; and its source."""
        part, part_told = self._of_batch(batch)
        together, together_told = self._together(gpus)
        return part * together, "; ".join(filter(None, (together_told, part_told)))

    def _together(self, gpus: int) -> tuple[float, str]:
        """Of the most that were measured and are not more."""
        every = (each for source in self._evidence.sources for each in source.report.results)
        numbers = {count_of(each, "ranks") for each in every}
        for number in sorted((each for each in numbers if 1 < each <= gpus), reverse=True):
            if found := self._evidence.newest_or_none(ranks.together(number), ranks.ALONE, suits=_on_gpus):
                source, (together, alone) = found
                times = together.median / alone.median
                return times / number, source.measured(f"{number} GPUs do {times:.2f} times what one does")
        return 1.0, f"that {gpus} GPUs do {gpus} times what one does is assumed" if gpus > 1 else ""

    def _of_batch(self, batch: int) -> tuple[float, str]:
        """Of the largest batch that was measured on a GPU and is not larger; else of the smallest."""
        rates = {count_of(each, "batch"): each.median for each in self._source.report.results if _is_batch(each)}
        whole = self._chain.batch
        if self._chain.device != "cuda" or whole not in rates or batch >= whole:
            return 1.0, ""
        nearest = max((each for each in rates if each <= batch), default=min(rates))
        share = rates[nearest] / rates[whole]
        return share, self._source.measured(f"a batch of {nearest} at {share:.2f} of the rate of {whole}")


def _chain(read: Result, augment: Result, step: Result, *, disk_gb_per_s: float) -> Chain:
    """As much of it as the verdict's functions on GPUs look at."""
    return Chain(
        batch=count_of(step, "batch"),
        alone={"read": read.median, "augment": augment.median, "train": step.median},
        overlapped=step.median,
        busy={},
        waiting=0.0,
        device="cuda" if _trained_on_gpu((step,)) else "cpu",
        read_threads=count_of(read, "read_threads"),
        disk_gb_per_s=disk_gb_per_s,
    )


def _on_gpus(results: Results) -> bool:
    return all(result.params.get("device") == "cuda" for result in results)


def _trained_on_gpu(results: Sequence[Result]) -> bool:
    """Whether the last was a step of the network that the trainer's defaults give."""
    config, params = PretrainConfig(), results[-1].params
    wanted = {"depth": config.encoder.depth, "width": config.encoder.width, "view_px": config.view_px, "device": "cuda"}
    return all(params.get(name) == value for name, value in wanted.items())


def _is_batch(result: Result) -> bool:
    return result.name == IN_MEMORY or result.name.startswith(f"{IN_MEMORY}, batch ")
