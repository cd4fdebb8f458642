"""What GPUs take, alone and together, and what their nodes give them: measured where it was, else assumed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ingest.prepare import IMAGE_SHAPE
from trainer.config import PretrainConfig

from ..chain import measure as chain
from ..limits import DISK
from ..reading.names import IN_RANDOM_ORDER
from ..results import Result
from ..training import ranks
from ..training.points import IN_MEMORY
from ..verdict import H100, idle, rate_of_a_gpu
from ..wording import share
from .evidence import Evidence, Results, Source, count_of
from .figures import Figure

Place = Literal["memory", "disk as float32", "disk as int16"]  # from where a node reads its images
PLACES: tuple[Place, ...] = get_args(Place)

GPUS_A_NODE = 8  # assumed
CACHED = 0.75  # share of a node's memory that a dataset may fill, assumed; the processes have the rest


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
        self.source, results = evidence.newest_or_none(*names, suits=_trained_on_gpu) or evidence.newest(*names)
        self._read, augment, self._step = results
        self._is_gpu = _trained_on_gpu(results)
        self.rate = rate_of_a_gpu(self._step.median, augment.median) if self._is_gpu else H100
        self._disk, self._disk_told = _disk(evidence, self.source)
        self.place: Place = "memory" if dataset_bytes <= CACHED * self.source.memory_bytes else "disk as float32"

    def figures(self) -> list[Figure]:
        """What the times stand on."""
        if self._is_gpu:
            precision = self._step.params.get("precision", "fp32")
            told = self.source.measured(f"step and views, batch {count_of(self._step, 'batch')}, {precision}")
        else:
            told = "assumed: of an H100 (109 TFLOP/s, --precision bf16 --compile); no GPU's result is at hand"
        memory, holds = self.source.memory_bytes, "holds" if self.place == "memory" else "does not hold"
        pages = f"random batches, {count_of(self._read, 'read_threads')} threads"
        return [
            Figure(name="one GPU pre-trains on", value=self.rate, unit="images/s", source=told),
            Figure(name="a node reads from memory", value=self._read.median, unit="images/s",
                   source=self.source.measured(pages)),
            Figure(name="a node reads from its disk", value=self._disk, unit="images/s",
                   source=f"{self._disk_told}; as int16 twice as many, which is assumed"),
            Figure(name="a node's memory", value=memory, unit="bytes",
                   source=f"{self.source.measured('the machine')}; {share(CACHED)} of it, assumed to be free for the "
                          f"page cache, {holds} the dataset"),
            Figure(name="GPUs a node", value=GPUS_A_NODE, unit="", source="assumed: at most"),
        ]  # fmt: skip

    def fed(self, gpu_rate: float, gpus: int, place: Place | None = None) -> Fed:
        """GPUs of this rate each [image / s], the last node's too, for one that waits holds up all.

        ``place``: `self.place` unless given.
        """
        place = place or self.place
        disk = {"memory": math.inf, "disk as float32": self._disk, "disk as int16": 2 * self._disk}[place]
        waits = idle(min(self._read.median, disk), min(gpus, GPUS_A_NODE) * gpu_rate)
        reading = "the disk" if disk < self._read.median else "reading from memory"
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
        rates = {count_of(each, "batch"): each.median for each in self.source.report.results if _is_batch(each)}
        whole = count_of(self._step, "batch")
        if not self._is_gpu or whole not in rates or batch >= whole:
            return 1.0, ""
        nearest = max((each for each in rates if each <= batch), default=min(rates))
        slower = rates[nearest] / rates[whole]
        return slower, self.source.measured(f"a batch of {nearest} at {slower:.2f} of the rate of {whole}")


def _disk(evidence: Evidence, node: Source) -> tuple[float, str]:
    """What a disk gives [float32 image / s] and the source: the node's own, else the newest.

    Training reads batches of random galaxies. Where only the limit was measured, it stands for them.
    """
    source, result = node, node.report.result(IN_RANDOM_ORDER) or node.report.result(DISK)
    if result is None:
        source, (result,) = evidence.newest_or_none(IN_RANDOM_ORDER) or evidence.newest(DISK)
    if result.name == IN_RANDOM_ORDER:
        told = f"random batches past the page cache, {count_of(result, 'threads')} threads"
        return result.median, source.measured(told)
    told = f"{result.median:.2f} GB/s in sequence, which random batches may not reach"
    return result.median * 1e9 / (4 * math.prod(IMAGE_SHAPE)), source.measured(told)


def _on_gpus(results: Results) -> bool:
    return all(result.params.get("device") == "cuda" for result in results)


def _trained_on_gpu(results: Sequence[Result]) -> bool:
    """Whether the last was a step of the network that the trainer's defaults give."""
    config, params = PretrainConfig(), results[-1].params
    wanted = {"depth": config.encoder.depth, "width": config.encoder.width, "view_px": config.view_px, "device": "cuda"}
    return all(params.get(name) == value for name, value in wanted.items())


def _is_batch(result: Result) -> bool:
    return result.name == IN_MEMORY or result.name.startswith(f"{IN_MEMORY}, batch ")
