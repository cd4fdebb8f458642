"""`python -m ingest hdf5`: a dataset of the HDF5 files that published codes use; see `hdf5_layouts` for what they are.

Samples keep the order of the rows, of all files in the order given. A row with a pixel that is not finite, and one
whose identifier came before, is a reject. objid is the layout's identifier; where the files have none, it is the row's
number, from 0, over all files. One process reads and writes: the disk is the limit. The dataset appears whole or not at
all, and the same files give the same bytes.
"""

import argparse
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from sharding import Dataset
from sharding.manifest import PERCENTILES, REJECTS, SAMPLES, Manifest
from sharding.tables import read_parquet
from sharding.writer import finish, write_batches
from sharding.zarr_metadata import write_zarr_metadata

from .errors import IngestError
from .extinction import Reddening, reddening
from .hdf5_files import HdfRows
from .hdf5_shards import FORMATS, NOT_FINITE, ShardMaker
from .prepare import check_out
from .version import made_by

_MEASURED = ("stamp_sigma", "psf_fwhm")  # their distributions are in dataset.json where the files have them
_OURS = re.compile(r"shards|images\.zarr|(samples\.parquet|rejects\.parquet|dataset\.json)(\.[0-9a-f]+\.partial)?")

Advance = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Hdf5Config:
    """What to convert, and where to."""

    files: tuple[Path, ...]
    out: Path
    container: str = FORMATS[0]
    rows_per_shard: int = 2048

    def __post_init__(self) -> None:
        if self.rows_per_shard < 1:
            raise IngestError(f"--samples-per-shard: expected at least 1, got {self.rows_per_shard}")
        check_out(self.out)


def add_hdf5(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m ingest hdf5`."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="HDF5 files; samples keep their order")
    parser.add_argument("--out", type=Path, required=True, help="dataset to make; must not exist yet")
    parser.add_argument("--format", choices=FORMATS, default=FORMATS[0], help=f"container (default: {FORMATS[0]})")
    parser.add_argument("--samples-per-shard", type=int, default=2048, help="input rows of a shard (default: 2048)")
    parser.set_defaults(command=_hdf5)


def _hdf5(args: argparse.Namespace) -> int:
    from .report import bar

    config = Hdf5Config(
        files=tuple(args.files), out=args.out, container=args.format, rows_per_shard=args.samples_per_shard
    )
    with bar("hdf5", "images") as advance:
        dataset = convert(config, advance)
    counts = dataset.manifest.counts
    print(f"{args.out}: {counts['samples']} samples, {counts['rejects']} rejects of {counts['objects']} rows")
    return 0


def convert(config: Hdf5Config, advance: Advance = lambda done, total: None) -> Dataset:
    """Make the dataset; IngestError in one line for files that are of no published layout, damaged or unlike.

    ``advance`` hears (rows done, rows in all).
    """
    first = config.files[0]
    with HdfRows(config.files) as rows:
        if not len(rows):
            raise IngestError(f"{first}: expected rows, got none in {len(config.files)} files; check them")
        objid, identifier = rows.identifiers()
        dust = _dust(rows, str(first))
        derived = dust.ebv_sfd if dust is not None else None
        maker = ShardMaker(rows, objid, derived, config.container, config.rows_per_shard)
        with _whole_folder(config.out) as folder:
            write_batches(folder / SAMPLES, maker.sample_batches(folder, advance))
            if not maker.entries:
                raise IngestError(f"{first}: no row can become a sample ({NOT_FINITE}, in every image); check it")
            write_batches(folder / REJECTS, maker.reject_batches())
            manifest = _manifest(config, maker, folder, identifier, _extinction(rows, dust))
            names: tuple[str, ...] = (SAMPLES, REJECTS)
            if config.container == "zarr":
                names += write_zarr_metadata(folder, manifest, _valid(maker))
            finish(folder, manifest, names)
    return Dataset.open(config.out)


def _dust(rows: HdfRows, where: str) -> Reddening | None:
    """E(B-V) from five extinctions, where the files give these and not E(B-V) itself."""
    extinction = rows.per_band("extinction")
    given = any(column.name == "ebv_sfd" for column in rows.columns)
    return None if given or extinction is None else reddening(None, extinction, where)


def _extinction(rows: HdfRows, dust: Reddening | None) -> dict[str, str]:
    if dust is not None:
        return {"source": dust.source, "law": dust.law}
    given = next((column.key for column in rows.columns if column.name == "ebv_sfd"), None)
    return {"source": f"key {given}" if given else "none", "law": "as given" if given else "none"}


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name ``out`` if the block ends well, and else is removed."""
    partial = out.with_name(out.name + ".partial")
    if partial.exists():
        if not partial.is_dir() or not all(_OURS.fullmatch(path.name) for path in partial.iterdir()):
            raise IngestError(f"{partial}: in the way, and not left by this command; move it or choose another --out")
        shutil.rmtree(partial)  # a killed run left it
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.is_dir():
            out.rmdir()  # empty: checked at the start, and rmdir refuses anything else
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _manifest(
    config: Hdf5Config, maker: ShardMaker, folder: Path, identifier: str, extinction: dict[str, str]
) -> Manifest:
    rows, layout = maker.rows, maker.rows.layout
    rejects = int(maker.bad.sum())
    distributions = _distributions(folder / SAMPLES, layout.bands)
    return Manifest(
        survey=layout.survey,
        bands=tuple(layout.bands),
        image_shape=maker.image_shape,
        pixel_scale_arcsec=layout.pixel_scale_arcsec,
        noise=_noise(distributions["stamp_sigma"]),
        counts={
            "catalogue_rows": len(rows),
            "objects": len(rows),
            "samples": len(rows) - rejects,
            "rejects": rejects,
        },
        selection=[],
        extinction=extinction,
        coverage="a row with a pixel that is not finite is a reject; pixels that were filled before are not known",
        registration=f"none: the pixels of {layout.name} as published",
        inputs={"files": len(rows.paths), "bytes": sum(path.stat().st_size for path in rows.paths)},
        labels=[{"objid": identifier, "columns": len(rows.columns), "left out": ", ".join(rows.left_out) or "none"}],
        distributions=distributions,
        plan=_plan_digest(maker),
        container=config.container,
        slots_per_shard=config.rows_per_shard if config.container == "zarr" else 0,
        shards=tuple(maker.entries),
        files=(),
        made_by=made_by(),
        projection=layout.projection,
    )


def _distributions(samples: Path, bands: str) -> dict[str, dict[str, list[float]]]:
    """`PERCENTILES` of what is measured, with one column in memory at a time; a band without a number drops out."""
    names = set(pq.read_schema(samples).names)
    found: dict[str, dict[str, list[float]]] = {}
    for prefix in _MEASURED:
        for band in bands:
            if (column := f"{prefix}_{band}") not in names:
                continue
            values = read_parquet(samples, [column])[column].drop_null().to_numpy()
            if len(values):
                found.setdefault(prefix, {})[band] = np.percentile(values, PERCENTILES).tolist()
    return found


def _noise(stamp_sigma: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Per band, medians over the samples [nanomaggy / pixel]; the noise of the native frames is not known."""
    middle = PERCENTILES.index(50)
    return {band: {"stamp_sigma": p[middle], "mad": p[middle] / 1.4826} for band, p in stamp_sigma.items()}


def _valid(maker: ShardMaker) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which slots of all shards, the last one filled up, hold a sample."""
    valid = np.zeros(len(maker.ranges) * maker.rows_per_shard, dtype=bool)
    valid[: len(maker.bad)] = ~maker.bad
    return valid


def _plan_digest(maker: ShardMaker) -> str:
    """Which row goes into which shard: a hash of all identifiers in order, and of the shards' size."""
    head = f"hdf5 {maker.rows.layout.name} {maker.rows_per_shard} ".encode()
    return hashlib.sha256(head + maker.objid.astype("<i8").tobytes()).hexdigest()
