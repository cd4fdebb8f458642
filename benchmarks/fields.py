"""Fields for the ingest benchmark: frames of real size, format and noise, neighbours in one run, with catalogues.

Round Gaussians stand for galaxies: painting those of the practice survey takes longer than all that is measured. How
fast a frame unpacks depends on its noise, which is the practice survey's.
"""

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from ingest.simulate.expose import expose
from ingest.simulate.frames import encode_frame, frame_name
from ingest.simulate.geometry import COLUMNS, RERUN, ROWS, STRIPS, Field, pixel_of, sky_of
from ingest.tables import SDSS_BANDS

FIELDS = 8  # two strips of the plan, one for each of two workers
SPARSE, DENSE = 2, 300  # galaxies a field
_SEED = 1
_SIDE_PX = 80  # no stamp leaves a camcol's side, which has no neighbour
_END_ROWS = 64  # nearer to a field's end an object belongs to its neighbour
_SIGMA_PX, _PATCH_PX = 1.7, 15
_FLUX_NANOMAGGY = (1.0, 100.0)  # magnitudes 22.5 to 17.5

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fields:
    """Frames on disk, in the archive's layout, and catalogues over them."""

    frames: Path
    catalogs: Mapping[int, Path]  # galaxies a field -> file


def make_fields(folder: Path, number: int = FIELDS, processes: int = 2) -> Fields:
    """Write ``number`` consecutive fields of one run, and a sparse and a dense catalogue of the same frames."""
    fields = [Field(STRIPS[1], index) for index in range(number)]
    skies = [_positions(field) for field in fields]
    found = Fields(folder / "frames", {density: folder / f"catalog-{density}.parquet" for density in (SPARSE, DENSE)})
    (found.frames / frame_name(fields[0], "r")).parent.mkdir(parents=True)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        frames = [(found.frames, field, band) for field in fields for band in SDSS_BANDS]
        for _ in pool.map(_write_frame, *zip(*frames, strict=True)):
            pass  # what went wrong in a process is raised here
    for density, path in found.catalogs.items():
        pa.parquet.write_table(_catalog(fields, skies, density), path)
    return found


def _positions(field: Field) -> tuple[Float64s, Float64s]:
    """(ra, dec) [deg] of the dense catalogue's objects; a sparse one takes the first."""
    rng = np.random.default_rng((_SEED, field.index))
    x = rng.uniform(_SIDE_PX, COLUMNS - _SIDE_PX, DENSE)
    return sky_of(field, x, rng.uniform(_END_ROWS, ROWS - _END_ROWS, DENSE))


def _write_frame(folder: Path, field: Field, band: str) -> None:
    image = np.zeros((ROWS, COLUMNS), dtype=np.float32)
    fluxes = np.geomspace(*_FLUX_NANOMAGGY, DENSE)
    for x, y, flux in zip(*pixel_of(field, band, *_positions(field)), fluxes, strict=True):
        _paint(image, x, y, flux)
    content = encode_frame(expose(image, _SEED, field, band), field, band)
    (folder / frame_name(field, band)).write_bytes(content)


def _paint(image: npt.NDArray[np.float32], x: float, y: float, flux: float) -> None:
    """Add a round Gaussian about (x, y), which lies at least a patch from the image's ends."""
    left, low = round(x) - _PATCH_PX, round(y) - _PATCH_PX
    along = np.arange(2 * _PATCH_PX + 1)
    across_x, across_y = (np.exp(-(((along - at) / _SIGMA_PX) ** 2) / 2) for at in (x - left, y - low))
    patch = np.outer(across_y, across_x) * flux / (2 * np.pi * _SIGMA_PX**2)
    image[low : low + len(along), left : left + len(along)] += patch.astype(np.float32)


def _catalog(fields: Sequence[Field], skies: Sequence[tuple[Float64s, Float64s]], density: int) -> pa.Table:
    count = density * len(fields)
    number = np.repeat([field.number for field in fields], density)
    place = np.tile(np.arange(density), len(fields))
    ra, dec = (np.concatenate([sky[axis][:density] for sky in skies]) for axis in (0, 1))
    run, camcol = fields[0].strip.run, fields[0].strip.camcol
    return pa.table(
        {
            "objid": 1000 * number + place,
            "run": np.full(count, run),
            "camcol": np.full(count, camcol),
            "field": number,
            "rerun": [RERUN] * count,
            "ra": ra,
            "dec": dec,
            "ebv_sfd": np.full(count, 0.03),
        }
    )
