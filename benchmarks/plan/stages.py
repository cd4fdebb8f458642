"""A stage of the plan; and ingest, from the measured time of a field."""

from dataclasses import dataclass

from ingest.tables import SDSS_BANDS

from ..fields import DENSE, SPARSE
from ..ingesting.contenders import ours
from ..results import Result
from .evidence import Evidence, Source, count_of
from .sizes import Survey

_BANDS = len(SDSS_BANDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What one command takes. It holds its GPUs and cores all the time, also while they wait."""

    name: str
    seconds: float
    images_per_s: float
    gpus: int = 0
    cores: int = 0  # 0 of a stage on GPUs, whose hosts' cores come with them
    waits: float = 0.0  # share of the time for which GPUs wait for data
    binds: str  # "the cores", "the GPUs", "the disk" or "reading from memory"
    source: str

    @property
    def gpu_hours(self) -> float:
        """0 of a stage without GPUs."""
        return self.gpus * self.seconds / 3600

    @property
    def core_hours(self) -> float:
        """0 of a stage on GPUs."""
        return self.cores * self.seconds / 3600


class Ingest:
    """The time of a field, which grows with the galaxies in it; on one core, and on many at once."""

    def __init__(self, evidence: Evidence) -> None:
        source, (sparse, dense) = evidence.newest(ours(SPARSE), ours(DENSE))
        self._sparse_s, dense_s = _BANDS / sparse.median, _BANDS / dense.median
        self._galaxy_s = (dense_s - self._sparse_s) / (DENSE - SPARSE)
        self._spread, told = _over_workers(source)
        strips = f"strips of {SPARSE} and {DENSE} a field, frames of {sparse.bytes_per_image / 1e6:.1f} MB, on one core"
        self._source = f"{source.measured(strips)}; {told}"

    def seconds_a_field(self, galaxies: float) -> float:
        """On one core of many at work: linear between the two densities that were measured."""
        return (self._sparse_s + (galaxies - SPARSE) * self._galaxy_s) / self._spread

    def stage(self, survey: Survey, workers: int) -> Stage:
        """The survey's."""
        return self._stage("ingest", survey.galaxies, survey.fields, workers)

    def dense(self, survey: Survey, workers: int) -> Stage:
        """As many galaxies in far fewer fields: of another survey, to compare with."""
        return self._stage(f"ingest, {DENSE} a field", survey.galaxies, survey.dense_fields, workers)

    def _stage(self, name: str, galaxies: int, fields: float, workers: int) -> Stage:
        seconds = fields * self.seconds_a_field(galaxies / fields) / workers
        return Stage(
            name=name,
            seconds=seconds,
            images_per_s=galaxies / seconds,
            cores=workers,
            binds="the cores",
            source=self._source,
        )


def _over_workers(source: Source) -> tuple[float, str]:
    """What is left of a core's rate where many are at work: of the most workers whose whole jobs were measured."""
    jobs = {count_of(result, "workers"): result.median for result in source.report.results if _is_job(result)}
    most = max(jobs, default=1)
    if most <= 1 or 1 not in jobs:
        return 1.0, "that more cores are each as fast is assumed"
    share = jobs[most] / jobs[1] / most
    return share, f"{most} give {most * share:.2f} times one, and more the same share is assumed"


def _is_job(result: Result) -> bool:
    return result.name.startswith(f"{ours(DENSE)}, ") and result.unit == "frames/s"
