"""Frames to samples on disk, beside the physical limit, which is unpacking the frames, and beside what others do.

Equal footing: the same frames from the page cache, the same objects and grids. On one core a strip of the plan is cut
and joined, all as a worker does it, in turns with unpacking and the peers. So do whole jobs with each number of
workers, in turns with unpacking by as many processes. Each worker gets one strip, so that a larger machine gets more
work; time counts from when the first strip is begun: Ray and its workers take some seconds to start, which are told
apart and are nothing beside a survey. Strips are shorter than a survey's, so of the next field more is unpacked again:
`unpacked_again` says how much.
"""

import statistics
from collections.abc import Iterator, Sequence

from ..fields import DENSE, SPARSE, Fields, strip_of
from ..ingesting import contenders
from ..ingesting.contenders import ASTROPY, SWARP, UNPACKING, OneCore, file_bytes, frame_gb, galaxies, ours
from ..ingesting.jobs import JobRun, run_job
from ..limits import bzip2
from ..practice import Practice
from ..results import Bars, Curve, Limit, Param, Promise, Ratio, Result, StageReport, known
from ..timing import Contender, race, summary
from ..unpacking import unpackers

OVER_UNPACKING = {SPARSE: 1.25, DENSE: 1.6}  # wall time over that of unpacking, at most
OVER_ASTROPY = 10.0
TWO_WORKERS = 1.7
WORKER_MB, WORKER_GROWTH = 600.0, 1.1
_BETWEEN = 30  # galaxies a field, where more is measured
_PEAK, _GROWTH = "worker_peak_mb", "worker_peak_over_first_half"  # see WorkerMemory
_UNSEEN = "no worker's memory was seen: needs Linux's /proc"


def run(data: Practice) -> StageReport:
    """One strip on one core, then whole jobs."""
    data.say("ingest: packing frames")
    fields = data.fields
    results = [*_one_core(data, fields), *_jobs(data, fields)]
    return StageReport(
        stage="ingest",
        results=tuple(results),
        own=galaxies(_job(ours(DENSE), max(data.threads))),
        ratios=known(_ratios(data), results),
        promises=tuple(_promises(data, results)),
        left_out=contenders.missing_peers(),
        footing=contenders.footing(),
        bars=tuple(_bars(results)),
        curves=tuple(_curves(data, results)),
    )


def doubled(data: Practice) -> Iterator[tuple[Contender, Contender]]:
    """Twice the fields, frames or stamps. Whole jobs have a start, which does not double."""
    way, half = OneCore(data, data.fields), min(2, data.fields.number // 2)
    yield way.unpacking(half), way.unpacking(2 * half)
    for density in (SPARSE, DENSE):
        yield way.ours(density, half), way.ours(density, 2 * half)
    missing = contenders.missing_peers()
    if "astropy and reproject" not in missing:
        yield way.astropy(1, 100), way.astropy(2, 100)
    if "SWarp" not in missing:
        yield way.swarp(10), way.swarp(20)


def _one_core(data: Practice, fields: Fields) -> Iterator[Result]:
    data.say("ingest: a strip on one core, and others' ways")
    number = strip_of(1, full=data.full)
    way = OneCore(data, fields)
    own = [way.ours(density, number) for density in data.pick((SPARSE, DENSE), (SPARSE, _BETWEEN, DENSE))]
    if data.full:
        own.append(way.ours(DENSE, number, "zarr"))
    unpacking, *others = race([way.unpacking(number), *own, *way.peers(data.pick(1, 5))], rounds=data.pick(3, 5))
    yield unpacking
    for result in others:
        whole = contenders.whole_frames(result, unpacking) if result.name == SWARP else result
        yield from contenders.with_galaxies(whole, int(whole.params["galaxies_per_field"]) / 5)


def _jobs(data: Practice, fields: Fields) -> Iterator[Result]:
    paths = sorted(fields.frames.rglob("*.bz2"))
    size, unpacked_gb = file_bytes(paths), frame_gb(paths[0])
    for workers in data.threads:
        number = workers * strip_of(workers, full=data.full)
        limit = Limit(bzip2(workers), unpacked_gb)
        params: dict[str, Param] = {"frames": 5 * number, "workers": workers, "page_cache": "warm"}
        densities = data.pick((DENSE,), (SPARSE, DENSE))
        rates: list[float] = []
        jobs: dict[int, list[JobRun]] = {density: [] for density in densities}
        with unpackers(workers, warm_up=paths[: 2 * workers]) as processes:
            for _ in range(data.pick(2, 3)):
                data.say(f"ingest: unpacking, processes: {workers}")
                rates.append(5 * number / processes.seconds(paths[: 5 * number]))
                for density in densities:
                    data.say(f"ingest: a job of {density} galaxies a field, workers: {workers}")
                    jobs[density].append(run_job(fields, density, number, workers))
        yield summary(_job(UNPACKING, workers), "frames/s", rates, size, params, limit)
        for density, runs in jobs.items():
            found = _job_params(runs, workers) | params | {"galaxies_per_field": density}
            rates = [run.frames / run.seconds for run in runs]
            result = summary(_job(ours(density), workers), "frames/s", rates, size, found, limit)
            yield from contenders.with_galaxies(result, runs[0].galaxies / runs[0].frames)


def _job_params(runs: Sequence[JobRun], workers: int) -> dict[str, Param]:
    """Of the worst run in memory, of the median one in time."""
    seconds = statistics.median(run.seconds for run in runs)
    params: dict[str, Param] = {
        "unpacked_again": round(runs[0].again_bytes / runs[0].unpacked_bytes, 3),
        "start_s": round(statistics.median(run.start_s for run in runs), 2),
        "galaxies_per_core_second": round(runs[0].galaxies / seconds / workers, 3),
    }
    peaks = [run.worker_peak_mb for run in runs if run.worker_peak_mb is not None]
    growths = [run.worker_growth for run in runs if run.worker_growth is not None]
    if peaks and growths:
        params |= {_PEAK: round(max(peaks)), _GROWTH: round(max(growths), 3)}
    return params


def _ratios(data: Practice) -> list[Ratio]:
    """The first: how many times longer ours takes than unpacking alone."""
    limits = [Ratio(first=UNPACKING, second=ours(each), at_most=most) for each, most in OVER_UNPACKING.items()]
    limits += [
        Ratio(first=_job(UNPACKING, workers), second=_job(ours(density), workers), at_most=most)
        for workers in data.threads
        for density, most in OVER_UNPACKING.items()
    ]
    peers = [
        Ratio(first=ours(DENSE), second=ASTROPY, at_least=OVER_ASTROPY),
        Ratio(first=ours(DENSE), second=SWARP),
        Ratio(first=ours(DENSE, "zarr"), second=ours(DENSE)),
    ]
    scaling = [
        Ratio(first=_job(name, workers), second=_job(name, 1), at_least=TWO_WORKERS if workers == 2 and own else None)
        for workers in data.threads[1:]
        for name, own in ((UNPACKING, False), (ours(SPARSE), True), (ours(DENSE), True))
    ]
    return [*limits, *peers, *scaling]


def _promises(data: Practice, results: list[Result]) -> Iterator[Promise]:
    """Of the worst of the dense jobs."""
    jobs = [result for result in results if "workers" in result.params and result.name.startswith(ours(DENSE))]
    peak, growth = (_worst(jobs, key) for key in (_PEAK, _GROWTH))
    unseen = _UNSEEN if peak is None else ""
    yield Promise(what="ingest: a worker's largest memory [MB]", measured=peak, at_most=WORKER_MB, missing=unseen)
    short = "" if data.full else "half of a quick job is the worker's start and first field; run with --full"
    yield Promise(
        what="ingest: a worker's largest memory over that of the job's first half",
        measured=None if short else growth,
        at_most=WORKER_GROWTH,
        missing=unseen or short,
    )


def _worst(jobs: Sequence[Result], key: str) -> float | None:
    """None where it was not seen in any."""
    return max((float(job.params[key]) for job in jobs if key in job.params), default=None)


def _bars(results: list[Result]) -> Iterator[Bars]:
    measured = {result.name for result in results}
    core, peers = [ours(SPARSE), ours(DENSE), UNPACKING], [galaxies(name) for name in (ours(DENSE), ASTROPY, SWARP)]
    yield Bars(title="Ingest: frames on one core", results=tuple(core))
    yield Bars(title=f"Ingest: {DENSE} galaxies a field, one core", results=tuple(n for n in peers if n in measured))


def _curves(data: Practice, results: list[Result]) -> Iterator[Curve]:
    measured = {result.name for result in results}
    names = {"unpacking": UNPACKING} | {f"skymill, {density} a field": ours(density) for density in (SPARSE, DENSE)}
    lines = {label: tuple(_job(name, workers) for workers in data.threads) for label, name in names.items()}
    of_jobs = {label: line for label, line in lines.items() if measured.issuperset(line)}
    yield Curve(title="Ingest: whole jobs", axis="workers", lines=of_jobs)
    densities = tuple(name for each in (SPARSE, _BETWEEN, DENSE) if (name := ours(each)) in measured)
    yield Curve(title="Ingest: density, one core", axis="galaxies_per_field", lines={"skymill": densities})


def _job(name: str, workers: int) -> str:
    return f"{name}, {workers} worker{'s' if workers > 1 else ''}"
