"""Data to measure on: a dataset that is given, or one made when a stage first asks for it; and how much to measure."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from ingest.job import write_dataset
from ingest.prepare import IngestConfig, prepare
from ingest.simulate import SurveyConfig, simulate
from ingest.sources import SourceConfig
from sharding import Dataset

from .fields import Fields, make_fields, strip_of

T = TypeVar("T")

GALAXIES = 340  # two fields


@dataclass(kw_only=True)
class Practice:
    """What every stage measures on. Close it (or use it in `with`) to close what it opened.

    ``folder`` is for whatever a stage writes, and is removed by the caller. ``say`` is told what is being done.
    """

    folder: Path
    given: Path | str | None = None  # --data: a dataset's folder or URL
    full: bool = False  # for publication: more points and more runs
    galaxies: int = GALAXIES
    say: Callable[[str], None] = lambda text: None
    opened: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Practice":
        return self

    def __exit__(self, *error: object) -> None:
        self.opened.close()

    def pick(self, quick: T, full: T) -> T:
        """What goes for this run."""
        return full if self.full else quick

    @cached_property
    def threads(self) -> tuple[int, ...]:
        """Numbers of threads to measure with, up to as many cores as there are; with `full` every power of two."""
        cores = available_cores()
        counts = {2**power for power in range(cores.bit_length())} if self.full else {1, 2}
        return tuple(sorted({count for count in counts if count <= cores} | {cores}))

    @cached_property
    def fields(self) -> Fields:
        """Frames that are quickly made, for ingest."""
        workers = max(self.threads)
        return make_fields(self.folder / "fields", workers * strip_of(workers, full=self.full), available_cores())

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset that was given, else the stamps of a small practice survey's galaxies."""
        if self.given is not None:
            return self.opened.enter_context(Dataset.open(self.given))
        self.say("simulating a survey and ingesting it")
        survey = simulate(SurveyConfig(galaxies=self.galaxies), self.folder / "survey")
        source = SourceConfig(root=str(survey.frames))
        config = IngestConfig(catalog=survey.catalog, source=source, out=self.folder / "dataset")
        return self.opened.enter_context(write_dataset(config, prepare(config)))


def available_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
