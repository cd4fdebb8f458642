"""Data to measure on, made when a stage first asks for it."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from ingest.job import write_dataset
from ingest.prepare import IngestConfig, prepare
from ingest.simulate import SurveyConfig, simulate
from ingest.sources import SourceConfig
from sharding import Dataset

from .fields import Fields, make_fields

GALAXIES = 340  # two fields


class PracticeData:
    """Lives in a folder that the caller removes. ``say`` is told what is being done."""

    def __init__(self, folder: Path, galaxies: int = GALAXIES, say: Callable[[str], None] = lambda text: None) -> None:
        self._folder = folder
        self._galaxies = galaxies
        self.say = say

    @cached_property
    def fields(self) -> Fields:
        """Frames that are quickly made, for ingest."""
        return make_fields(self._folder / "fields")

    @cached_property
    def dataset(self) -> Dataset:
        """The stamps of a small practice survey's galaxies."""
        survey = simulate(SurveyConfig(galaxies=self._galaxies), self._folder / "survey")
        source = SourceConfig(root=str(survey.frames))
        config = IngestConfig(catalog=survey.catalog, source=source, out=self._folder / "dataset")
        return write_dataset(config, prepare(config))
