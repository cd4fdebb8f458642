"""The practice survey on disk: frames in the archive's layout, then the truth, then the catalogue.

One frame is one piece of work; which process does it, and when, leaves no trace in the files.
"""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from sharding import atomic_file

from ..errors import IngestError
from .catalog import catalog_table, plan, truth_table
from .expose import expose
from .frames import encode_frame, frame_name
from .geometry import Field
from .paint import Sources, paint
from .scene import conditions_of, draw_passers, draw_targets
from .spectra import BANDS

CATALOG, TRUTH, FRAMES = "catalog.parquet", "truth.parquet", "frames"
LARGEST_SURVEY = 250_000  # galaxies, which make strips of 73 degrees; much longer ones would cross


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyConfig:
    """What decides every byte of a practice survey."""

    galaxies: int = 3060  # in the catalogue; 170 a field
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.galaxies <= LARGEST_SURVEY:
            raise IngestError(f"--galaxies: expected 1 to {LARGEST_SURVEY}, got {self.galaxies}; choose another")
        if self.seed < 0:
            raise IngestError(f"--seed: expected 0 or more, got {self.seed}; choose another")


@dataclass(frozen=True, slots=True)
class Survey:
    """A practice survey that has been written."""

    catalog: Path
    frames: Path
    galaxies: int
    fields: int


def simulate(
    config: SurveyConfig,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Survey:
    """Paint a survey into the new or empty folder `out`; `progress` hears (frames done, frames in all).

    Raises IngestError if `out` holds anything. `workers` processes (default: one a core) share the frames; the files do
    not depend on how many. Who can read `catalog.parquet`, written last, may trust that all its frames are there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise IngestError(f"{out}: expected a new or empty folder for the survey, got one in use; choose another --out")
    fields = plan(config.galaxies)
    frames = out / FRAMES
    frames.mkdir(parents=True)
    try:
        _paint_frames(config, frames, progress or (lambda done, total: None), workers or os.cpu_count() or 1)
    except BaseException:
        shutil.rmtree(frames)  # half a survey would only be refused by the next call
        raise
    rows = [(place, field, draw_targets(config.seed, place, field, n)) for place, (field, n) in enumerate(fields)]
    _write_table([truth_table(field, targets) for _, field, targets in rows], out / TRUTH)
    _write_table([catalog_table(config.seed, *row) for row in rows], out / CATALOG)
    return Survey(out / CATALOG, frames, config.galaxies, len(fields))


def _paint_frames(config: SurveyConfig, frames: Path, progress: Callable[[int, int], None], workers: int) -> None:
    pieces = [(place, band) for place in range(len(plan(config.galaxies))) for band in BANDS]
    progress(0, len(pieces))
    with ProcessPoolExecutor(min(workers, len(pieces)), get_context("forkserver")) as pool:
        waiting = [pool.submit(write_frame, config, frames, place, band) for place, band in pieces]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                progress(done, len(pieces))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def write_frame(config: SurveyConfig, frames: Path, place: int, band: str) -> None:
    """Paint and write one band of the field at `place` in the survey."""
    fields = plan(config.galaxies)
    field = fields[place][0]
    near = [p for p in (place - 1, place, place + 1) if 0 <= p < len(fields) and fields[p][0].strip == field.strip]
    clean = paint([field_sources(config.seed, p, *fields[p]) for p in near], field, band)
    path = frames / frame_name(field, band)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(encode_frame(expose(clean, config.seed, field, band), field, band))


def field_sources(seed: int, place: int, field: Field, galaxies: int) -> Sources:
    """Everything that one field adds to its strip, the catalogue's `galaxies` first."""
    targets, passers = draw_targets(seed, place, field, galaxies), draw_passers(seed, place, field)
    return Sources(
        field=field,
        conditions=conditions_of(seed, place, field),
        galaxies=targets.galaxies.join(passers.galaxies),
        flux=np.concatenate([targets.flux, passers.galaxy_flux, passers.star_flux]),
        ra_deg=np.concatenate([targets.ra_deg, passers.galaxy_sky[0], passers.star_sky[0]]),
        dec_deg=np.concatenate([targets.dec_deg, passers.galaxy_sky[1], passers.star_sky[1]]),
    )


def _write_table(parts: list[pa.Table], path: Path) -> None:
    with atomic_file(path) as file:
        pa.parquet.write_table(pa.concat_tables(parts), file)
