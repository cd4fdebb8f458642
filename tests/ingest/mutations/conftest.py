"""A survey small enough to be ingested hundreds of times, in SDSS's own frame format, and jobs without Ray.

Every group is one camera column of a run: four fields that share rows, of which the middle two have objects. They are
one strip; of the outer two only those rows are read that stamps across the strip's ends need. A frame is packed in
small bzip2 blocks, so that here, too, what is read of it is not always all of it.
"""

import bz2
import hashlib
import io
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import ingest.job
import ingest.window
from ingest.framefile import Field
from ingest.pool import _attempt
from ingest.prepare import IngestConfig, prepare
from ingest.sources import SourceConfig
from ingest.strip import CutConfig
from sharding import Dataset

BANDS = "ugriz"
GROUPS = 8
FIELDS = (10, 11, 12, 13)
WIDTH, HEIGHT, STEP = 150, 190, 130  # pixels; neighbours share 60 rows. No row fills the padding of a FITS block.
SCALE_DEG = 0.396 / 3600
INCLINATION_DEG, NODE_DEG = 12.0, 95.0  # of the great circle that all scan: stamps lie askew in their frames
SHIFT_PX = {"u": (7.0, -2.0), "g": (9.0, 1.0), "r": (0.0, 0.0), "i": (4.0, -1.0), "z": (6.0, 2.0)}  # y, x from r's
SIGMA = {"u": 0.041, "g": 0.015, "r": 0.022, "i": 0.033, "z": 0.19}  # [nanomaggy / pixel]
# Of each group, in rows and columns of the scan: three of field 11 and four of field 12. The stamp of the first goes on
# in field 10, that of the last in 13, those at 300 and 310 in the other of the two; no frame covers the second whole.
PLACES = ((182.0, 75.0), (225.0, 60.0), (230.0, 74.5), (300.0, 76.0), (310.0, 73.25), (350.0, 75.5), (398.0, 74.0))
FIELD_OF_PLACE = (11, 11, 11, 11, 12, 12, 12)


def field_of(group: int, number: int) -> Field:
    """Field ``number`` of a group."""
    return Field(run=101 + group // 2, camcol=1 + group % 2, field=number, rerun="301")


def _sky(group: int, row: Any, column: Any) -> tuple[Any, Any]:
    """(ra, dec) [deg] of rows and columns of the scan, counted from a pixel's edge: great circles turned into place."""
    mu, nu = np.deg2rad(10.0 + 3 * group + SCALE_DEG * row), np.deg2rad(SCALE_DEG * (column - WIDTH / 2))
    incl = np.deg2rad(INCLINATION_DEG)
    x, y, z = np.cos(mu) * np.cos(nu), np.sin(mu) * np.cos(nu), np.sin(nu)
    ra = np.rad2deg(np.arctan2(y * np.cos(incl) - z * np.sin(incl), x)) + NODE_DEG
    return ra % 360, np.rad2deg(np.arcsin(y * np.sin(incl) + z * np.cos(incl)))


def _wcs(group: int, number: int, band: str) -> WCS:
    """The gnomonic WCS of a frame, from differences over 50 pixels about its centre."""
    shift_y, shift_x = SHIFT_PX[band]
    row, column = FIELDS.index(number) * STEP + HEIGHT / 2 - shift_y, WIDTH / 2 - shift_x
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---TAN", "DEC--TAN"], ["deg", "deg"]
    wcs.wcs.crval = _sky(group, row, column)
    plane = wcs.deepcopy()  # of one degree a pixel
    along = [
        plane.wcs_world2pix(*_sky(group, row + dy, column + dx), 0) for dx, dy in ((50, 0), (-50, 0), (0, 50), (0, -50))
    ]
    wcs.wcs.cd = np.transpose([np.subtract(along[0], along[1]) / 100, np.subtract(along[2], along[3]) / 100])
    wcs.wcs.crpix = [(WIDTH + 1) / 2, (HEIGHT + 1) / 2]
    return wcs


def _paint(band: str) -> Any:
    """The scan of all four fields in one band, quantised as frames are: the same for every group."""
    rng = np.random.default_rng(BANDS.index(band))
    image = rng.normal(0, SIGMA[band], (STEP * (len(FIELDS) - 1) + HEIGHT, WIDTH))
    y, x = np.mgrid[: image.shape[0], :WIDTH]
    shift_y, shift_x = SHIFT_PX[band]
    for row, column in PLACES:
        image += 2 * np.exp(-((x + 0.5 - column - shift_x) ** 2 + (y + 0.5 - row - shift_y) ** 2) / (2 * 1.7**2))
    step = 2.0 ** np.floor(np.log2(SIGMA[band] / 2))
    return (np.rint(image / step) * step).astype(np.float32)


def encode(image: Any, group: int, number: int, band: str) -> bytes:
    """A frame's FITS file with all four HDUs, as SDSS's have them."""
    field, wcs = field_of(group, number), _wcs(group, number, band)
    header = fits.Header([("ORIGIN", "SMALL"), ("RUN", field.run), ("FRAME", number + 4), ("FIELD", "NA")])
    header.update({"EXPTIME": "53.907456", "BUNIT": "nanomaggy", "FILTER": band, "CAMCOL": field.camcol})
    header.update({"RADECSYS": "ICRS", "EQUINOX": 2000.0, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    for axis in (1, 2):
        header[f"CUNIT{axis}"] = "deg"
        header[f"CRPIX{axis}"], header[f"CRVAL{axis}"] = wcs.wcs.crpix[axis - 1], wcs.wcs.crval[axis - 1]
        header.update({f"CD{axis}_{other}": wcs.wcs.cd[axis - 1, other - 1] for other in (1, 2)})
    file = io.BytesIO()
    fits.PrimaryHDU(image, header=header).writeto(file)
    return file.getvalue() + _calibration_and_sky() + _astrans(field, group, band)


@cache
def _calibration_and_sky() -> bytes:
    sky = [
        fits.Column("ALLSKY", "48E", dim="(8, 6)", array=np.ones((1, 6, 8))),
        fits.Column("XINTERP", f"{WIDTH}E", array=np.zeros((1, WIDTH))),
        fits.Column("YINTERP", f"{HEIGHT}E", array=np.zeros((1, HEIGHT))),
    ]
    return _extensions(fits.ImageHDU(np.full(WIDTH, 0.005, np.float32)), fits.BinTableHDU.from_columns(sky))


def _astrans(field: Field, group: int, band: str) -> bytes:
    shift_y, shift_x = SHIFT_PX[band]
    numbers = dict.fromkeys((f"{name}{k}" for name in ("DROW", "DCOL") for k in range(4)), 0.0)
    numbers |= {"NODE": NODE_DEG, "INCL": INCLINATION_DEG, "B": SCALE_DEG, "C": 0.0, "E": 0.0, "F": SCALE_DEG}
    numbers["A"] = NODE_DEG + 10.0 + 3 * group + SCALE_DEG * (FIELDS.index(field.field) * STEP - shift_y)
    numbers["D"] = SCALE_DEG * (-shift_x - WIDTH / 2)
    kinds: list[Any] = [("RUN", ">i4"), ("CAMCOL", ">i4"), ("FIELD", ">i4"), ("FILTER", "S1"), ("NAXIS", ">i4", 2)]
    row = (field.run, field.camcol, field.field, band.encode(), (WIDTH, HEIGHT), *numbers.values())
    return _extensions(fits.BinTableHDU(np.array([row], [*kinds, *((name, ">f8") for name in numbers)])))


def _extensions(*hdus: Any) -> bytes:
    """What stands in a file behind its primary HDU."""
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(file)
    return file.getvalue()[2880:]


def pack(unpacked: bytes) -> bytes:
    """A .bz2 file of blocks of 100 kB."""
    return bz2.compress(unpacked, 1)


def catalogue() -> pa.Table:
    """All objects of all groups."""
    rows = []
    for group in range(GROUPS):
        for place, (row, column) in enumerate(PLACES):
            ra, dec = _sky(group, row, column)
            field, number = field_of(group, FIELD_OF_PLACE[place]), 10 * group + place
            known = {"objid": 1237645876861337000 + number, "ra": float(ra), "dec": float(dec), "rerun": field.rerun}
            known |= {"run": field.run, "camcol": field.camcol, "field": field.field, "ebv_sfd": 0.01 + number / 1000}
            rows.append(known | {"specz": 0.01 + number / 500, "thing_id": 7000 + number, "note": f"object {number}"})
    return pa.Table.from_pylist(rows)


class _InlinePool:
    """What `ingest.pool.Pool` does, in this process and at once."""

    def __init__(self) -> None:
        self._ended: deque[tuple[Any, Any]] = deque()

    @property
    def free(self) -> bool:
        return not self._ended

    def put(self, name: Any, call: Callable[..., Any], *arguments: Any) -> None:
        self._ended.append((name, _attempt(call, arguments)))

    def results(self, timeout_s: float) -> Iterator[tuple[Any, Any]]:
        name, result = self._ended.popleft()
        if isinstance(result, ValueError):
            raise result
        yield name, result

    def __len__(self) -> int:
        return len(self._ended)


@contextmanager
def _inline(address: str | None, workers: int | None) -> Iterator[_InlinePool]:
    yield _InlinePool()


@dataclass(frozen=True)
class Outcome:
    """What a job made of the objects it was asked for, by position on the sky: an objid may be what is damaged."""

    samples: dict[tuple[float, float], dict[str, Any]]
    rejects: list[dict[str, Any]]
    pixels: dict[tuple[float, float], Any]  # (band, y, x)

    @property
    def objects(self) -> int:
        return len(self.samples) + len(self.rejects)


def outcome(out: Path) -> Outcome:
    """Read a dataset; pixels are checked against their checksums on the way."""
    dataset = Dataset.open(out)
    rows = dataset.samples.drop_columns(["shard", "row", "offset"]).to_pylist()
    places = [(row["ra"], row["dec"]) for row in rows]
    assert len(set(places)) == len(places)
    images = dataset.images(range(len(rows)))
    rejects = pq.read_table(out / "rejects.parquet").to_pylist()
    assert dataset.manifest.counts["samples"] == len(rows)
    assert dataset.manifest.counts["rejects"] == len(rejects)
    assert dataset.manifest.counts["objects"] == len(rows) + len(rejects)
    return Outcome(dict(zip(places, rows, strict=True)), rejects, dict(zip(places, images, strict=True)))


def content(out: Path) -> dict[str, str]:
    """Digest of every file of a dataset."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Survey:
    """Whole frames in memory and on disk, their catalogue, and what an undisturbed job makes of them."""

    fields, groups, bands, height, width, step = FIELDS, GROUPS, BANDS, HEIGHT, WIDTH, STEP
    encode, field_of, pack = staticmethod(encode), staticmethod(field_of), staticmethod(pack)
    outcome, content = staticmethod(outcome), staticmethod(content)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unpacked: dict[tuple[int, int, str], bytes] = {}
        self.packed: dict[tuple[int, int, str], bytes] = {}
        (folder / "frames").mkdir(parents=True)
        scan = {band: _paint(band) for band in BANDS}
        for group in range(GROUPS):
            for place, number in enumerate(FIELDS):
                for band in BANDS:
                    key = group, number, band
                    self.unpacked[key] = encode(scan[band][place * STEP : place * STEP + HEIGHT], *key)
                    self.packed[key] = pack(self.unpacked[key])
                    (folder / "frames" / self.name(*key)).write_bytes(self.packed[key])
        self._whole = {(self.name(*key), content) for key, content in self.packed.items()}
        self._parsed: dict[Any, Any] = {}
        self.table = catalogue()
        self.catalog = folder / "catalog.parquet"
        pq.write_table(self.table, self.catalog)

    @staticmethod
    def name(group: int, number: int, band: str) -> str:
        """A frame's file."""
        return field_of(group, number).file_name(band) + ".fits.bz2"

    @staticmethod
    def touches(row: dict[str, Any]) -> tuple[int, ...]:
        """The fields that an object's stamp may be taken from, its own first."""
        place = (row["objid"] - 1237645876861337000) % 10
        other = {0: 10, 3: 12, 4: 11, 6: 13}
        return (FIELD_OF_PLACE[place], other[place]) if place in other else (FIELD_OF_PLACE[place],)

    def copy(self, folder: Path) -> Path:
        """The frames in another folder; a test may replace, but not write into, a file there."""
        folder.mkdir(parents=True)
        for path in (self.folder / "frames").iterdir():
            os.link(path, folder / path.name)
        return folder

    def ingest(self, out: Path, *, on_error: Any, frames: Path | None = None, **changes: Any) -> Path:
        """One job, as a user's command runs it, but for Ray; warnings are no errors there either."""
        config: dict[str, Any] = {"catalog": self.catalog, "samples_per_shard": 25, **changes}
        config["source"] = SourceConfig(root=str(frames or self.folder / "frames"))
        with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
            warnings.simplefilter("ignore")
            patch.setattr(ingest.job, "ray_pool", _inline)
            for name in ("read_frame", "read_rows"):
                patch.setattr(ingest.window, name, self._once(getattr(ingest.window, name)))
            job = IngestConfig(out=out, cut=CutConfig(on_error=on_error), **config)
            ingest.job.write_dataset(job, prepare(job))
        return out

    def _once(self, read: Callable[..., Any]) -> Callable[..., Any]:
        """Whole frames are parsed once, for time's sake: what comes of a file depends on its bytes alone."""

        def remembered(file: Any, field: Field, band: str, *positions: Any, **named: Any) -> Any:
            if (file.name, file.content) not in self._whole:
                return read(file, field, band, *positions, **named)
            key = read.__name__, file.name, field, band, *(values.tobytes() for values in (*positions, *named.values()))
            if key not in self._parsed:
                self._parsed[key] = read(file, field, band, *positions, **named)
            return self._parsed[key]

        return remembered


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """Read only."""
    return Survey(tmp_path_factory.mktemp("mutations") / "survey")


@pytest.fixture(scope="session")
def whole(survey: Survey) -> Path:
    """The dataset of the undisturbed survey."""
    return survey.ingest(survey.folder / "whole", on_error="stop")


@pytest.fixture(scope="session")
def truth(whole: Path) -> Outcome:
    """What is in that dataset."""
    return outcome(whole)
