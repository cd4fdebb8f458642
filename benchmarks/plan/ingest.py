"""Ingest: what it fetches, and its time from the measured time of a field."""

import math

from ingest.simulate.geometry import COLUMNS, FIELD_STEP_ROWS
from ingest.tables import SDSS_BANDS

from ..fields import DENSE, SPARSE
from ..ingesting.contenders import ours
from ..results import Result
from ..wording import share
from .evidence import Evidence, Source, count_of
from .figures import Figure, size, span
from .stage import Stage

PAPER_GALAXIES = 1_200_000  # that Hayat et al. 2021 pre-train on
FOOTPRINT_DEG2 = 14_555  # SDSS's imaging (Aihara et al. 2011)
PIXEL_ARCSEC = 0.396
FRAME_BYTES = 3_360_000  # mean of the ten frames of SDSS fields 94-1-12 and 4510-4-30, as the archive has them
ROW_BYTES = 320  # as CSV, of field 94-1-12's galaxies with casjobs.sql's columns, those of spectra made up
LINK_BYTES_PER_S = 1e9 / 8

_BANDS = len(SDSS_BANDS)
_FIELD_DEG2 = COLUMNS * FIELD_STEP_ROWS * (PIXEL_ARCSEC / 3600) ** 2  # of sky that the field before has not
_PER_FIELD = PAPER_GALAXIES / FOOTPRINT_DEG2 * _FIELD_DEG2  # galaxies, the mean of all fields
_OCCUPIED = -math.expm1(-_PER_FIELD)  # share of the fields that have a galaxy, if they are spread at random


class Ingest:
    """Of galaxies as dense on the sky as the paper's sample, by so many cores."""

    def __init__(self, galaxies: int, workers: int, evidence: Evidence) -> None:
        self.galaxies, self.workers = galaxies, workers
        self.fields = galaxies / _PER_FIELD * _OCCUPIED  # at least
        self.frame_bytes = _BANDS * self.fields * FRAME_BYTES
        self.fetching_s = self.frame_bytes / LINK_BYTES_PER_S
        self._source, (self._frames,) = evidence.newest(ours(SPARSE))

    def fetched(self) -> list[Figure]:
        """Catalogue and frames."""
        return [
            Figure(name="galaxies", value=self.galaxies, unit="galaxies", source="given: --galaxies"),
            Figure(name="galaxies a field", value=_PER_FIELD, unit="galaxies/field",
                   source=f"assumed: {PAPER_GALAXIES:,} on {FOOTPRINT_DEG2:,} deg2; a field adds {_FIELD_DEG2:.4f} "
                          "deg2"),
            Figure(name="fields that have one, at least", value=self.fields, unit="fields",
                   source=f"computed: {share(_OCCUPIED)} of all, of galaxies spread at random; strips overlap sideways "
                          "too, which makes them more"),
            Figure(name="catalogue", value=ROW_BYTES * self.galaxies, unit="bytes",
                   source=f"assumed: {ROW_BYTES} bytes a row, ingest/casjobs.sql as CSV"),
            Figure(name="frames, at least", value=_BANDS * self.fields, unit="frames",
                   source=f"computed: {_BANDS} a field"),
            Figure(name="frames to fetch, at least", value=self.frame_bytes, unit="bytes",
                   source=f"computed: {FRAME_BYTES / 1e6:.2f} MB each, the mean of ten SDSS frames"),
            Figure(name="fetching them", value=self.fetching_s, unit="s",
                   source="computed: at an assumed 1 Gbit/s"),
        ]  # fmt: skip

    def read_rate(self) -> Figure:
        """What keeps the cores at work."""
        rate = self.frame_bytes / self.stage().seconds
        return Figure(name="ingest reads frames at", value=rate, unit="bytes/s",
                      source=f"computed: {self.workers:,} cores; shared storage has to give it")  # fmt: skip

    def says(self) -> str:
        """What has to be there before."""
        return (
            f"The frames, at least {size(self.frame_bytes)}, are to be there before: {span(self.fetching_s)} at an "
            f"assumed 1 Gbit/s. Ingest reads them at {self.read_rate().text}, which their storage has to give."
        )

    def stage(self) -> Stage:
        """A real frame of 3.36 MB unpacks in the time of the benchmark's of 2.74 (0.37 s): pixels count, not bytes."""
        together, told = _over_workers(self._source)
        seconds = _BANDS * self.fields / (self._frames.median * together * self.workers)
        strips = f"strips of {SPARSE} a field, {self._frames.median:.2f} frames/s on one core"
        return Stage(
            name="ingest",
            seconds=seconds,
            images_per_s=self.galaxies / seconds,
            cores=self.workers,
            binds="the cores",
            source=f"{self._source.measured(strips)}; {told}",
        )


def _over_workers(source: Source) -> tuple[float, str]:
    """What is left of a core's rate where many are at work: of the most workers whose whole jobs were measured."""
    jobs = {count_of(result, "workers"): result.median for result in source.report.results if _is_job(result)}
    most = max(jobs, default=1)
    if most <= 1 or 1 not in jobs:
        return 1.0, "that more cores are each as fast is assumed"
    times = jobs[most] / jobs[1]
    return times / most, f"{most} give {times:.2f} times one, and more the same share is assumed"


def _is_job(result: Result) -> bool:
    return result.name.startswith(f"{ours(DENSE)}, ") and result.unit == "frames/s"
