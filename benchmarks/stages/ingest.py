"""Frames to samples on disk, beside the physical limit, which is unpacking the frames, and beside what scripts do.

Equal footing: the same frames from the page cache, the same objects and grids. On one core a strip of the plan is cut
and joined, all as a worker does it; the peer gets one field of it, and one counted run, since it takes so long. Whole
jobs run once for each number of workers; their time begins when Ray is ready and has the start of the workers in it.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import replace

from ..cutouts import reprojected_stamps
from ..fields import DENSE, SPARSE, Fields
from ..jobs import IMAGE_BYTES, JobRun, Strip, run_job
from ..practice import PracticeData
from ..results import Param, Result, StageReport
from ..timing import Contender, race, summary
from ..unpacking import unpack, unpackers

WORKERS = (1, 2)
UNPACKING = "ingest: unpacking"
OURS = {density: f"ingest: skymill, {density} a field" for density in (SPARSE, DENSE)}
ASTROPY = f"ingest: astropy and reproject, {DENSE} a field"
_PEER_PACKAGE = "reproject"


def run(data: PracticeData, rounds: int = 3) -> StageReport:
    """One strip on one core, then whole jobs."""
    data.say("packing frames")
    fields = data.fields
    installed = importlib.util.find_spec(_PEER_PACKAGE) is not None
    results = [*_one_core(data, fields, rounds), *(_peer(data, fields) if installed else ()), *_jobs(data, fields)]
    return StageReport(
        stage="ingest",
        results=tuple(results),
        own=_galaxies(OURS[DENSE]),
        pairs=_pairs(installed),
        left_out=() if installed else (_PEER_PACKAGE,),
    )


def _pairs(installed: bool) -> tuple[tuple[str, str], ...]:
    """The first two and those of jobs: how many times longer ours takes than unpacking alone."""
    most = max(WORKERS)
    peer = [(OURS[DENSE], ASTROPY)] if installed else []
    limits = [(UNPACKING, OURS[density]) for density in OURS]
    limits += [(_job(UNPACKING, workers), _job(OURS[density], workers)) for workers in WORKERS for density in OURS]
    scaling = [(_job(name, most), _job(name, 1)) for name in (UNPACKING, *OURS.values())]
    return (*limits, *peer, *scaling)


def _one_core(data: PracticeData, fields: Fields, rounds: int) -> Iterator[Result]:
    data.say("a strip on one core")
    strips = {density: Strip(fields, density) for density in OURS}
    paths = strips[DENSE].paths()

    def unpack_all() -> int:
        return len([unpack(path) for path in paths])

    params: dict[str, Param] = {"frames": len(paths), "threads": 1, "page_cache": "warm"}
    limit = Contender(
        name=UNPACKING, unit="frames/s", step=unpack_all, bytes_per_image=_file_bytes(strips[DENSE]), params=params
    )
    ours = [
        replace(limit, name=OURS[density], step=strip.cut, params=params | {"galaxies_per_field": density})
        for density, strip in strips.items()
    ]
    first, *others = race([limit, *ours], rounds=rounds)
    yield first
    for result, strip in zip(others, strips.values(), strict=True):
        yield from _with_galaxies(result, len(strip.objects.objid) / len(paths))


def _peer(data: PracticeData, fields: Fields) -> Iterator[Result]:
    data.say("one field by astropy and reproject")
    strip = Strip(fields, DENSE)
    paths, ra, dec = strip.first_field()

    def step() -> int:
        reprojected_stamps(paths, ra, dec)
        return len(paths)

    contender = Contender(
        name=ASTROPY,
        unit="frames/s",
        step=step,
        warm_up=lambda: reprojected_stamps(paths[:1], ra[:1], dec[:1]),
        bytes_per_image=_file_bytes(strip),
        params={"frames": len(paths), "galaxies_per_field": len(ra), "threads": 1, "page_cache": "warm"},
    )
    (result,) = race([contender], rounds=1)
    yield from _with_galaxies(result, len(ra) / len(paths))


def _jobs(data: PracticeData, fields: Fields) -> Iterator[Result]:
    paths = sorted(fields.frames.rglob("*.bz2"))
    size = sum(path.stat().st_size for path in paths) // len(paths)
    for workers in WORKERS:
        data.say(f"unpacking in {workers} processes")
        with unpackers(workers, warm_up=paths[: 2 * workers]) as processes:
            rate = len(paths) / processes.seconds(paths)
        params: dict[str, Param] = {"frames": len(paths), "workers": workers, "page_cache": "warm"}
        yield summary(_job(UNPACKING, workers), "frames/s", [rate], size, params)
        for density in OURS:
            data.say(f"a job of {density} galaxies a field with {workers} workers")
            job = run_job(fields, density, workers)
            found = _job_params(job) | params | {"galaxies_per_field": density}
            result = summary(_job(OURS[density], workers), "frames/s", [job.frames / job.seconds], size, found)
            yield from _with_galaxies(result, job.galaxies / job.frames)


def _job_params(job: JobRun) -> dict[str, Param]:
    return {
        "worker_peak_mb": round(job.worker_peak_mb),
        "worker_peak_over_first_half": round(job.worker_growth, 3),
        "unpacked_again": round(job.again_bytes / job.unpacked_bytes, 3),
    }


def _with_galaxies(result: Result, galaxies_per_frame: float) -> tuple[Result, Result]:
    """The same runs told in frames and in galaxies."""
    name = _galaxies(result.name)
    return result, result.converted(name, "images/s", galaxies_per_frame, bytes_per_image=IMAGE_BYTES)


def _galaxies(name: str) -> str:
    return f"{name}, galaxies"


def _job(name: str, workers: int) -> str:
    return f"{name}, {workers} worker{'s' if workers > 1 else ''}"


def _file_bytes(strip: Strip) -> int:
    """Of a frame's file, on average."""
    paths = strip.paths()
    return sum(path.stat().st_size for path in paths) // len(paths)
