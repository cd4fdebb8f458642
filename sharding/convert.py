"""Make a dataset of another one: the other container, another encoding of the pixels, or both.

Samples, their order, the shards' numbers and all labels stay, and so does what the manifest says of how they came
about. The new dataset appears whole, under its name, or not at all.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .atomic import atomic_file
from .dataset import Dataset
from .encoding import Encoding, Name, step_columns
from .errors import DatasetError
from .loss import LossMeter
from .manifest import SAMPLES, FileEntry, Manifest
from .records import TarRecords, ZarrRecords, shard_number
from .rewrite import Rewriter
from .samples import open_samples
from .tables import read_parquet
from .writer import file_entry, finish, write_batches
from .zarr_metadata import write_zarr_metadata

FORMATS = (TarRecords.container, ZarrRecords.container)

#: int16's smallest step, of the band's noise. On 326 SDSS galaxies 1/8 adds 0.06 % to the noise, 0.036 of a flux's own
#: error (in quadrature) and 0.7 to 1.6 mmag rms to bright magnitudes; 1/4 adds 0.27 %, 0.07 and 0.9 to 2.5 mmag, and
#: would save nothing: a pixel takes two bytes. With 1/16, bright stars need a wider step in up to 1.2 % of the stamps
#: of a band; with 1/8 in 0.3 %.
DEFAULT_FRACTION = 0.125

_PARTS = frozenset(("lock", "dataset"))

Advance = Callable[[int], None]


def convert(
    folder: Path,
    out: Path,
    *,
    container: str | None = None,
    encoding: Name | None = None,
    fraction: float | None = None,
    advance: Advance = lambda size: None,
) -> Dataset:
    """Write the dataset in ``folder`` anew as ``out``; gives it open.

    None keeps the source's container or encoding; int16's ``fraction`` is then `DEFAULT_FRACTION`. ``advance`` hears
    from several threads how many more bytes of the source are done. DatasetError at a sample that is damaged, with its
    name, and for what cannot be had: pixels that were rounded once are not rounded in another way.
    """
    _check_out(folder, out)
    with Dataset.open(folder) as source:
        target = _target(source, container or source.manifest.container, encoding, fraction)
        with _whole_folder(out) as partial:
            _write(source, target, partial, advance)
    return Dataset.open(out)


def _target(source: Dataset, container: str, name: Name | None, fraction: float | None) -> Manifest:
    """The manifest of the new dataset, but for its shards, files and measured loss."""
    manifest = source.manifest
    encoding = _encoding(manifest, name or manifest.encoding.name, fraction)
    if container == manifest.container and encoding is manifest.encoding:
        raise DatasetError(
            f"{source.location}: {container} of {encoding.name} is what it is already; "
            "give another --format or --encoding"
        )
    taken = [name for name in step_columns(manifest.bands) if source.has(name)]
    if encoding.name == "int16" and manifest.encoding.name != "int16" and taken:
        raise DatasetError(f"{source.location}: has a label {taken[0]}, which int16 needs for its own; rename it")
    slots = 0
    if container == ZarrRecords.container:
        slots = manifest.slots_per_shard or max(shard.samples for shard in manifest.shards)
    return replace(manifest, container=container, slots_per_shard=slots, encoding=encoding, shards=(), files=())


def _encoding(manifest: Manifest, name: Name, fraction: float | None) -> Encoding:
    """The new encoding; the very object of ``manifest`` where stored pixels stay as they are."""
    given = manifest.encoding
    if fraction is not None and not (name == "int16" and 0 < fraction <= 1):
        raise DatasetError(f"--step: expected a number in (0, 1] and int16, got {fraction:g} and {name}")
    if name == given.name and fraction in (None, given.fraction):
        return given
    if name == "float32":
        return Encoding(loss=given.loss)  # what was lost stays lost
    if given.is_lossy or given.loss:
        was = given.loss.get("encoding", given.name)
        raise DatasetError(f"--encoding {name}: these pixels were rounded to {was} before; convert the original")
    sigma = _sigma(manifest)
    if unknown := [band for band, value in sigma.items() if not value > 0]:
        raise DatasetError(
            f"--encoding {name}: the noise of band {unknown[0]}, to measure by, is not known; keep float32"
        )
    return Encoding.of(name, fraction or DEFAULT_FRACTION, sigma)


def _sigma(manifest: Manifest) -> dict[str, float]:
    """Median noise of each band's stamps [nanomaggy / pixel]; NaN where it is not known."""
    return {band: manifest.noise.get(band, {}).get("stamp_sigma", np.nan) for band in manifest.bands}


def _write(source: Dataset, target: Manifest, folder: Path, advance: Advance) -> None:
    """Fill ``folder`` with the new dataset, its manifest last."""
    meter = None
    if target.encoding is not source.manifest.encoding:
        sigma = _sigma(source.manifest)
        meter = LossMeter(tuple(sigma), tuple(sigma.values()), len(source))
    shards = Rewriter(source, target, folder, meter, advance)
    # Closed whatever happens: no thread writes into the folder when it is removed.
    with closing(shards.tables(open_samples(source.path, source.manifest))) as tables:
        write_batches(folder / SAMPLES, tables)
    names = [SAMPLES]
    for entry in source.manifest.files:
        if entry.name.endswith(".parquet") and entry.name != SAMPLES:
            _copy(source.path, folder, entry)
            names.append(entry.name)
    manifest = replace(target, shards=tuple(shards.entries))
    if meter is not None and shards.losses:
        loss = meter.summary(shards.losses, target.encoding)
        manifest = replace(manifest, encoding=replace(target.encoding, loss=loss))
    if target.container == ZarrRecords.container:
        names += write_zarr_metadata(folder, manifest, _valid(source.manifest, manifest, folder))
    finish(folder, manifest, names)


def _copy(source: Path, folder: Path, entry: FileEntry) -> None:
    with (source / entry.name).open("rb") as old, atomic_file(folder / entry.name) as new:
        shutil.copyfileobj(old, new)
    if file_entry(folder, entry.name) != entry:
        raise DatasetError(f"{source / entry.name}: its bytes differ from the digest in dataset.json; ingest again")


def _valid(source: Manifest, target: Manifest, folder: Path) -> npt.NDArray[np.bool_]:
    """Which slots hold a sample. Of the source's array the length stays: shards without a sample at its end count."""
    length = next((entry.bytes - 4 for entry in source.files if entry.name == "images.zarr/valid/c/0"), 0)
    last = shard_number(target.shards[-1].name)
    valid = np.zeros(length or (last + 1) * target.slots_per_shard, dtype=bool)
    valid[read_parquet(folder / SAMPLES, ["row"])["row"].to_numpy()] = True
    return valid


def _check_out(folder: Path, out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DatasetError(f"--out: {out} is already there; remove it or choose another")
    if out.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(f"--out: {out} lies inside the dataset {folder}; choose a folder outside of it")


@contextmanager
def _whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name ``out`` if the block ends well, and else is removed.

    It lies in `OUT.partial`, beside ``out``, which one process at a time holds; what a killed one left there is
    removed.
    """
    root = out.absolute().with_name(f"{out.absolute().name}.partial")
    if root.exists() and not (root.is_dir() and {path.name for path in root.iterdir()} <= _PARTS):
        raise DatasetError(f"{root}: in the way, and not left by this command; move it or choose another --out")
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(f"{root}: another process is at work on it; wait for it, or end it") from None
        folder = root / "dataset"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
            yield folder
            if out.is_dir():
                out.rmdir()  # empty: checked at the start, and rmdir refuses anything else
            folder.replace(out)
        finally:
            shutil.rmtree(root, ignore_errors=True)
