"""The whole plan: every figure, every stage, what they come to and what binds."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from trainer.config import PretrainConfig

from ..verdict import GPUS
from ..wording import share
from .evidence import Evidence, Source
from .figures import Figure, size, span
from .gpus import PLACES, Gpus, Place
from .sizes import Survey, network_figures
from .stages import Ingest, Stage
from .training import Training


@dataclass(frozen=True, kw_only=True, slots=True)
class Prices:
    """Of an hour, in whatever money; None where it is not told."""

    gpu: float | None = None
    core: float | None = None

    def of(self, stage: Stage) -> float | None:
        """What a stage costs; None where what it takes has no price."""
        price = self.gpu if stage.gpus else self.core
        return None if price is None else price * (stage.gpu_hours + stage.core_hours)

    @property
    def told(self) -> str:
        """What the cost is of; empty where nothing has a price."""
        return {(True, True): "cost", (True, False): "cost of GPUs", (False, True): "cost of cores"}.get(
            (self.gpu is not None, self.core is not None), ""
        )


class Plan:
    """For so many galaxies on so many GPUs and, for ingest, cores."""

    def __init__(self, galaxies: int, gpus: int, workers: int, evidence: Evidence, prices: Prices) -> None:
        self.galaxies, self.gpus, self.workers = galaxies, gpus, workers
        self.evidence, self.prices, self.survey = evidence, prices, Survey(galaxies)
        self._ingest = Ingest(evidence)
        self.nodes = Gpus(evidence, self.survey.dataset_bytes("float32"))
        self._training = Training(self.nodes, self.survey)

    @cached_property
    def stages(self) -> list[Stage]:
        """One after the other, from frames to redshifts and embeddings."""
        training = self._training
        return [
            self._ingest.stage(self.survey, self.workers),
            training.pretraining(self.gpus),
            training.finetuning(self.gpus),
            training.evaluation(),
            training.embedding(),
        ]

    @cached_property
    def dense(self) -> Stage:
        """Ingest of as many galaxies from a deep survey; no part of the whole."""
        return self._ingest.dense(self.survey, self.workers)

    @cached_property
    def by_gpus(self) -> Mapping[int, Mapping[Place, Stage]]:
        """Pre-training on other numbers of GPUs, by where each node's images come from."""
        numbers = sorted({*GPUS, self.gpus})
        return {n: {place: self._training.pretraining(n, place) for place in PLACES} for n in numbers}

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def cost(self) -> float | None:
        """Of all stages that have a price; None where none has."""
        priced = [cost for stage in self.stages if (cost := self.prices.of(stage)) is not None]
        return sum(priced) if priced else None

    def sizes(self) -> list[Figure]:
        """What is fetched, stored and held."""
        survey = self.survey
        return [*survey.figures(), *survey.stored(), *network_figures(PretrainConfig(), self.galaxies)]

    def says(self) -> list[str]:
        """What it comes to and what binds; what else a reader must know."""
        longest = max(self.stages, key=lambda stage: stage.seconds)
        part = share(longest.seconds / self.seconds)
        return [
            f"The whole takes {span(self.seconds)} on {_number(self.gpus, 'GPU')} and {_number(self.workers, 'core')}: "
            f"{longest.name} is {part} of it, and there {longest.binds} "
            f"bind{'' if longest.binds.endswith('s') else 's'}.",
            *self._waiting(),
            f"The frames, {size(self.survey.frame_bytes)}, are to be there before: {span(self.survey.fetching_s)} at "
            "an assumed 1 Gbit/s.",
            self._training.limit(self.gpus),
        ]

    def _waiting(self) -> Iterator[str]:
        """Where pre-training waits for data: what that costs, and what would help."""
        here = self.by_gpus[self.gpus]
        waits = here[self.nodes.place].waits
        if waits > 0:
            others = [f"from {place} {span(stage.seconds)}" for place, stage in here.items() if stage.waits < waits]
            told = f"; it would take {', '.join(others)}" if others else ""
            yield f"Pre-training reads from {self.nodes.place}, and its GPUs wait {share(waits)} of the time{told}."

    def cited(self) -> list[Source]:
        """The reports that figures name."""
        told = " ".join([*(each.source for each in self.nodes.figures()), *(each.source for each in self.stages)])
        return [source for source in self.evidence.sources if f"[{source.number}]" in told]

    def to_json(self) -> dict[str, Any]:
        """All of it, in bytes, seconds and images/s; shares are of one."""
        return {
            "galaxies": self.galaxies,
            "gpus": self.gpus,
            "workers": self.workers,
            "says": self.says(),
            "seconds": self.seconds,
            "cost": self.cost,
            "place": self.nodes.place,
            "figures": [asdict(figure) for figure in (*self.sizes(), *self.nodes.figures())],
            "stages": [self._stage(stage) for stage in self.stages],
            "dense": self._stage(self.dense),
            "by_gpus": [
                {"gpus": number, "place": place, "seconds": stage.seconds, "waits": stage.waits, "binds": stage.binds}
                for number, places in self.by_gpus.items()
                for place, stage in places.items()
            ],
            "results": [{"number": each.number, "file": each.where} for each in self.cited()],
        }

    def _stage(self, stage: Stage) -> dict[str, Any]:
        derived = {"gpu_hours": stage.gpu_hours, "core_hours": stage.core_hours, "cost": self.prices.of(stage)}
        return asdict(stage) | derived


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count > 1 else ''}"
