"""Fields for the ingest benchmark: frames of real size, format and noise, neighbours in one run, with catalogues.

Round Gaussians stand for galaxies: painting those of the practice survey takes longer than all that is measured. How
fast a frame unpacks depends on its noise, which is the practice survey's.
"""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

from ingest.plan import LONGEST_STRIP, SHORTEST_STRIP
from ingest.simulate.expose import expose
from ingest.simulate.frames import encode_frame, frame_name
from ingest.simulate.geometry import COLUMNS, RERUN, ROWS, STRIPS, Field, pixel_of, sky_of
from ingest.tables import SDSS_BANDS

SPARSE, DENSE = 2, 300  # galaxies a field
QUICK_STRIP = 3  # fields
_SHORT_STRIPS = 24  # the plan makes strips longer before it makes more of them
_SEED = 1
_SIDE_PX = 80  # no stamp leaves a camcol's side, which has no neighbour
_END_ROWS = 64  # nearer to a field's end an object belongs to its neighbour
_SIGMA_PX, _PATCH_PX = 1.7, 15
_FLUX_NANOMAGGY = (1.0, 100.0)  # magnitudes 22.5 to 17.5

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fields:
    """So many consecutive fields on disk, in the archive's layout."""

    frames: Path
    number: int

    def catalog(self, density: int, number: int) -> Path:
        """A catalogue of the first ``number`` fields; a sparser one has the first objects of a denser one's fields."""
        path = self.frames.with_name(f"catalog-{density}-{number}.parquet")
        pa.parquet.write_table(_catalog(number, density), path)
        return path


def strip_of(workers: int, *, full: bool) -> int:
    """How many fields a worker gets, so that the plan cuts those of all workers into one strip for each."""
    if not full:
        return QUICK_STRIP
    return SHORTEST_STRIP if workers <= _SHORT_STRIPS else LONGEST_STRIP


def make_fields(folder: Path, number: int, processes: int = 2) -> Fields:
    """Write ``number`` consecutive fields of one run, with as many sources as the dense catalogue has."""
    found = Fields(folder / "frames", number)
    (found.frames / frame_name(_field(0), "r")).parent.mkdir(parents=True)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        frames = [(found.frames, _field(index), band) for index in range(number) for band in SDSS_BANDS]
        for _ in pool.map(_write_frame, *zip(*frames, strict=True)):
            pass  # what went wrong in a process is raised here
    return found


def _field(index: int) -> Field:
    return Field(STRIPS[1], index)


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


def _catalog(fields: int, density: int) -> pa.Table:
    skies = [_positions(_field(index)) for index in range(fields)]
    count = density * fields
    number = np.repeat([_field(index).number for index in range(fields)], density)
    ra, dec = (np.concatenate([sky[axis][:density] for sky in skies]) for axis in (0, 1))
    return pa.table(
        {
            "objid": 1000 * number + np.tile(np.arange(density), fields),
            "run": np.full(count, STRIPS[1].run),
            "camcol": np.full(count, STRIPS[1].camcol),
            "field": number,
            "rerun": [RERUN] * count,
            "ra": ra,
            "dec": dec,
            "ebv_sfd": np.full(count, 0.03),
        }
    )
