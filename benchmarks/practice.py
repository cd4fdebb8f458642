"""Data to measure on, made when a stage first asks for it: a small practice survey and the dataset that comes of it."""

from functools import cached_property
from pathlib import Path

from ingest.job import IngestConfig, Prepared, prepare, write_dataset
from ingest.selection import SelectionConfig
from ingest.simulate import Survey, SurveyConfig, simulate
from sharding import Dataset

GALAXIES = 340  # two fields


class PracticeData:
    """Lives in a folder that the caller removes."""

    def __init__(self, folder: Path, galaxies: int = GALAXIES) -> None:
        self._folder = folder
        self._galaxies = galaxies

    @cached_property
    def survey(self) -> Survey:
        """Frames in SDSS's own format, and their catalogue."""
        return simulate(SurveyConfig(galaxies=self._galaxies), self._folder / "survey")

    @cached_property
    def prepared(self) -> Prepared:
        """The catalogue, planned for ingest."""
        return prepare(self._config)

    @cached_property
    def dataset(self) -> Dataset:
        """The stamps of the survey's galaxies."""
        return write_dataset(self._config, self.prepared, progress=lambda done, total: None)

    @property
    def _config(self) -> IngestConfig:
        return IngestConfig(
            catalog=self.survey.catalog,
            frames=self.survey.frames,
            out=self._folder / "dataset",
            selection=SelectionConfig(),
        )
