"""A survey of many small fields, and ingest jobs on it that tests start, disturb and compare.

Fields of a run are cut out of one long strip, so most stamps go on in a neighbour. Nothing here knows who kills what.
"""

import bz2
import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from astropy.io import fits
from astropy.wcs import WCS

from ingest.framefile import Field

_GONE_S = 30.0  # a raylet waits some seconds for what it started
_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")

CHECKOUT = Path(__file__).resolve().parents[2]

RUNS, FIELDS_OF_RUN, OBJECTS_OF_FIELD = 5, 8, 4  # two strips a run
SHAPE, STEP = (220, 240), 150  # y, x of a frame [px]; rows from one field to the next
ANGLE_DEG = 33.0
BAND_SHIFTS_PX = {"u": 7.3, "g": 14.2, "r": 0.0, "i": 4.6, "z": 10.4}  # along y
SKY_SIGMA = 0.03  # [nanomaggy / pixel]


@dataclass(frozen=True)
class Survey:
    """Frames and their catalogue."""

    root: Path

    @property
    def frames(self) -> Path:
        """Folder of frames."""
        return self.root / "frames"

    @property
    def catalog(self) -> Path:
        """Objects, `OBJECTS_OF_FIELD` a field, and one twice."""
        return self.root / "catalog.csv"


def write_survey(root: Path) -> Survey:
    """Make the survey: the same bytes each time."""
    survey = Survey(root)
    survey.frames.mkdir(parents=True)
    rng = np.random.default_rng(3)
    parts = [_write_run(survey.frames, run, rng) for run in range(RUNS)]
    table = pa.concat_tables([*parts, parts[-1].slice(0, 1)])
    pa.csv.write_csv(table, survey.catalog)
    return survey


def _write_run(folder: Path, run: int, rng: np.random.Generator) -> pa.Table:
    fields = [Field(run=1000 + run, camcol=1 + run % 6, field=11 + n, rerun="301") for n in range(FIELDS_OF_RUN)]
    owner = np.repeat(np.arange(FIELDS_OF_RUN), OBJECTS_OF_FIELD)
    x = rng.uniform(70, SHAPE[1] - 70, len(owner))  # the outermost leave the side of their run: rejects
    y = rng.uniform(35, 35 + STEP, len(owner)) + STEP * owner
    ra, dec = _wcs(run, 0, "r").wcs_pix2world(x, y, 0)
    for number, each in enumerate(fields):
        for band in BAND_SHIFTS_PX:
            wcs = _wcs(run, number, band)
            image = rng.normal(0, SKY_SIGMA, SHAPE)
            _paint(image, wcs.wcs_world2pix(ra, dec, 0))
            header = wcs.to_header()
            header.update({"RUN": each.run, "CAMCOL": each.camcol, "FILTER": band, "ORIGIN": "SMALL"})
            content = io.BytesIO()
            calibration = fits.ImageHDU(np.ones(SHAPE[1], dtype=np.float32))
            fits.HDUList([fits.PrimaryHDU(image.astype(np.float32), header), calibration]).writeto(content)
            (folder / f"{each.file_name(band)}.fits.bz2").write_bytes(bz2.compress(content.getvalue()))
    return pa.table(
        {
            "objid": 1237645876861337000 + 1000 * run + np.arange(len(owner)),
            "run": np.full(len(owner), fields[0].run),
            "camcol": np.full(len(owner), fields[0].camcol),
            "field": owner + fields[0].field,
            "ra": ra,
            "dec": dec,
            "ebv_sfd": rng.uniform(0.01, 0.09, len(owner)),
        }
    )


def _wcs(run: int, number: int, band: str) -> WCS:
    """The tangent point is that of the run; each field sees it `STEP` rows lower than the field before."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [20.0 + 11 * run, 5.0 * run - 12]
    wcs.wcs.crpix = [SHAPE[1] / 2, STEP * (FIELDS_OF_RUN / 2 - number) + BAND_SHIFTS_PX[band]]
    cos, sin = np.cos(np.deg2rad(ANGLE_DEG)), np.sin(np.deg2rad(ANGLE_DEG))
    wcs.wcs.cd = np.array([[-cos, sin], [sin, cos]]) * 0.396 / 3600
    return wcs


def _paint(image: np.ndarray, places: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    y, x = (np.arange(size) for size in SHAPE)
    for center_x, center_y in np.transpose(places):
        image += 2 * np.outer(np.exp(-((y - center_y) ** 2) / 8), np.exp(-((x - center_x) ** 2) / 8))


@dataclass(frozen=True, kw_only=True)
class Job:
    """One `python -m ingest run` on the survey."""

    survey: Survey
    out: Path
    format: str = "webdataset"
    samples_per_shard: int = 32  # two strips
    options: tuple[str, ...] = ("--workers", "2")
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """Behind `python -m ingest`."""
        given = {
            "--catalog": self.survey.catalog,
            "--frames": self.survey.frames,
            "--out": self.out,
            "--format": self.format,
            "--samples-per-shard": self.samples_per_shard,
        }
        return ["run", *(str(part) for pair in given.items() for part in pair), *self.options]

    @property
    def partial(self) -> Path:
        """Its work folder."""
        return self.out.with_name(self.out.name + ".partial")

    def strips_cut(self) -> int:
        """Pieces that are whole on disk."""
        return len(list(self.partial.glob("pieces/*.json")))

    def start(self, entry: Sequence[str] = ("-m", "ingest")) -> subprocess.Popen[str]:
        """Begin it, in a session of its own: so the processes it starts are told from all others."""
        return subprocess.Popen(
            [sys.executable, *entry, *self.arguments],
            cwd=CHECKOUT,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, entry: Sequence[str] = ("-m", "ingest")) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return finished(self.start(entry))


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a process; kills its session where it takes longer than any job here should."""
    try:
        out, err = process.communicate(timeout=180)
    except subprocess.TimeoutExpired:
        kill(session(process.pid))
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def session(leader: int) -> dict[int, str]:
    """Processes of the session that ``leader`` began, also those whose parents are gone: id -> command line."""
    found = {}
    for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
        try:
            if os.getsid(pid) == leader:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if command:  # a zombie has none
                    found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()
        except (ProcessLookupError, FileNotFoundError):
            continue  # it ended meanwhile
    return found


def left_over(leader: int) -> list[str]:
    """Processes of a session that do not end, but for Ray's agents.

    These find out only after a minute that their raylet is gone, when its driver was killed: they are ended here.
    """
    until = time.monotonic() + _GONE_S
    while left := {pid: name for pid, name in session(leader).items() if not name.startswith(_AGENTS)}:
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    kill(session(leader))
    return [f"process left: {pid} {command[:80]}" for pid, command in left.items()]


def kill(pids: Iterable[int]) -> None:
    """SIGKILL, to those that there still are."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def content(folder: Path) -> dict[str, str]:
    """Every file of a dataset, with the hash of its bytes; folders without a file, too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }


class _Here:
    """A pool that does a task when its result is asked for, in this process, the last one first."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Any, Callable[..., Any], tuple[Any, ...]]] = deque()

    @property
    def free(self) -> bool:
        return len(self._waiting) < 3

    def put(self, name: Any, call: Callable[..., Any], *arguments: Any) -> None:
        self._waiting.append((name, call, arguments))

    def results(self, timeout_s: float) -> Iterator[tuple[Any, Any]]:
        name, call, arguments = self._waiting.pop()
        yield name, call(*arguments)

    def __len__(self) -> int:
        return len(self._waiting)


@contextmanager
def here(address: str | None, workers: int | None) -> Iterator[_Here]:
    """Takes the place of `ingest.pool.ray_pool`: no Ray, no other process."""
    yield _Here()


# Run by `python -c` in place of `python -m ingest`: the same command without Ray.
WITHOUT_RAY = f"""
import sys
sys.path.insert(0, {str(CHECKOUT / "tests/system")!r})
import ingest.job, jobs
from ingest.__main__ import main
ingest.job.ray_pool = jobs.here
"""
WITHOUT_RAY_END = "sys.exit(main(sys.argv[1:]))"


def references(survey: Survey) -> dict[str, dict[str, str]]:
    """What a dataset must hold, by container: made beside the survey by one process, without Ray, undisturbed."""
    found = {}
    for container in ("webdataset", "zarr"):
        job = Job(survey=survey, out=survey.root.with_name(f"reference-{container}"), format=container)
        done = None if job.out.exists() else job.run(("-c", WITHOUT_RAY + WITHOUT_RAY_END))
        if done is not None and done.returncode:
            raise RuntimeError(done.stderr)
        found[container] = content(job.out)
    return found
