"""The whole plan: every figure, every stage, what they come to and what binds."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from trainer.config import PretrainConfig

from ..wording import share
from .evidence import Evidence
from .figures import Figure, span
from .gpus import PLACES, Gpus
from .ingest import Ingest
from .sizes import dataset_bytes, dataset_figures, network_figures
from .stage import Stage
from .training import Training


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Of an hour, in whatever money; None where it is not told."""

    gpu: float | None = None
    core: float | None = None

    def of(self, *stages: Stage) -> float | None:
        """What stages cost, of those that take what has a price; None where none does."""
        hours = [(self.gpu if stage.gpus else self.core, stage.gpu_hours + stage.core_hours) for stage in stages]
        priced = [price * count for price, count in hours if price is not None]
        return sum(priced) if priced else None


class Plan:
    """For so many galaxies on so many GPUs and, for ingest, cores."""

    def __init__(self, galaxies: int, gpus: int, workers: int, evidence: Evidence, prices: Prices) -> None:
        self.galaxies, self.gpus, self.workers = galaxies, gpus, workers
        self.evidence, self.prices = evidence, prices
        self._ingest = Ingest(galaxies, workers, evidence)
        self.nodes = Gpus(evidence, dataset_bytes(galaxies, "float32"))
        self._training = Training(self.nodes, galaxies)

    @cached_property
    def stages(self) -> list[Stage]:
        """One after the other, from frames to redshifts and embeddings."""
        training = self._training
        return [
            self._ingest.stage(),
            training.pretraining(self.gpus),
            training.finetuning(self.gpus),
            training.evaluation(),
            training.embedding(),
        ]

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def sizes(self) -> list[Figure]:
        """What is fetched, stored and held."""
        return [
            *self._ingest.fetched(),
            self._training.labelled_figure(),
            *dataset_figures(self.galaxies),
            *network_figures(PretrainConfig(), self.galaxies),
        ]

    def rates(self) -> list[Figure]:
        """What the times stand on."""
        return [*self.nodes.figures(), self._ingest.read_rate()]

    def says(self) -> list[str]:
        """What it comes to and what binds; what else a reader must know."""
        longest = max(self.stages, key=lambda stage: stage.seconds)
        part = share(longest.seconds / self.seconds)
        return [
            f"The whole takes {span(self.seconds)} on {_number(self.gpus, 'GPU')} and {_number(self.workers, 'core')}: "
            f"{longest.name} is {part} of it, and there {longest.binds} "
            f"bind{'' if longest.binds.endswith('s') else 's'}.",
            *self._waiting(),
            self._ingest.says(),
            self._training.limit(self.gpus),
        ]

    def _waiting(self) -> Iterator[str]:
        """Where pre-training waits for data: on what machine, and what would help."""
        here = self.stages[1]
        if here.waits > 0:
            other = {place: self._training.pretraining(self.gpus, place) for place in PLACES}
            less = [f"from {place} {span(stage.seconds)}" for place, stage in other.items() if stage.waits < here.waits]
            told = f"; it would take {', '.join(less)}" if less else ""
            yield (
                f"Pre-training reads from {self.nodes.place}, and its GPUs wait {share(here.waits)} of the time{told}. "
                f"That is of nodes that read as [{self.nodes.source.number}] does, a machine of "
                f"{self.nodes.source.machine}: measure yours, and give it with --results."
            )

    def to_json(self) -> dict[str, Any]:
        """All of it, in bytes, seconds and images/s; shares are of one."""
        return {
            "galaxies": self.galaxies,
            "gpus": self.gpus,
            "workers": self.workers,
            "says": self.says(),
            "seconds": self.seconds,
            "cost": self.prices.of(*self.stages),
            "place": self.nodes.place,
            "figures": [asdict(figure) for figure in (*self.sizes(), *self.rates())],
            "stages": [
                asdict(stage)
                | {"gpu_hours": stage.gpu_hours, "core_hours": stage.core_hours, "cost": self.prices.of(stage)}
                for stage in self.stages
            ],
            "results": [{"number": each.number, "file": each.where} for each in self.evidence.sources],
        }


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count > 1 else ''}"
