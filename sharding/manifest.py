"""`dataset.json`: what a dataset is, and the digest of every other file in it. It is written last.

Whoever can read it may trust all it lists; `parse` checks the manifest's own digest and shape before anything is used.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from .atomic import atomic_file
from .encoding import Encoding
from .errors import DatasetError
from .records import Records, TarRecords, ZarrRecords, shard_number

FORMAT = "skymill-dataset"
VERSION = 3
_READABLE = (2, VERSION)  # version 2 had no encodings: its pixels are float32
PERCENTILES = (1, 16, 50, 84, 99)  # of `Manifest.distributions`
MANIFEST = "dataset.json"
SAMPLES = "samples.parquet"
REJECTS = "rejects.parquet"
INPUTS = "inputs.parquet"
ZARR_FILES = (
    "images.zarr/images/zarr.json",
    "images.zarr/valid/c/0",
    "images.zarr/valid/zarr.json",
    "images.zarr/zarr.json",
)

# A container's shard names, and the files that it must have; `inputs.parquet` may come to them.
_SHARD_NAME = {"webdataset": r"shards/\d{5,}\.tar", "zarr": r"images\.zarr/images/c/(0|[1-9]\d*)/0/0/0"}
_FILES = {"webdataset": (REJECTS, SAMPLES), "zarr": (REJECTS, SAMPLES, *ZARR_FILES)}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file beside the manifest."""

    name: str  # relative to the dataset, "/" between parts
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardEntry(FileEntry):
    """The file of a shard, and what its records depend on."""

    samples: int
    json_bytes: int  # of the label's text in a tar; 0 in Zarr


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The content of `dataset.json`."""

    survey: str
    bands: tuple[str, ...]
    image_shape: tuple[int, int, int]  # band, y, x
    pixel_scale_arcsec: float
    noise: dict[str, dict[str, float]]  # band -> sky_sigma, stamp_sigma, mad [nanomaggy / pixel]
    counts: dict[str, int]  # catalogue_rows, objects, samples, rejects
    selection: list[dict[str, Any]]  # condition, removed
    extinction: dict[str, str]  # where ebv_sfd comes from, and by which law
    coverage: str  # what becomes of a pixel that no frame covers
    registration: str  # how pixels come from the inputs' pixels, and which revision of it
    inputs: dict[str, int]  # frames, bytes
    labels: list[dict[str, Any]]  # how each table of labels was joined, and its counts
    distributions: dict[str, dict[str, list[float]]]  # column prefix -> band -> its `PERCENTILES` over the samples
    plan: str  # hash of which objects and fields go into which shard
    shards: tuple[ShardEntry, ...]
    files: tuple[FileEntry, ...]
    made_by: str
    columns: dict[str, str] = field(default_factory=dict)  # what measured columns of `samples.parquet` mean
    container: str = "webdataset"
    slots_per_shard: int = 0  # Zarr: places of each shard, with or without a sample
    encoding: Encoding = field(default_factory=Encoding)  # how pixels are stored, and what that loses
    flux_unit: str = "nanomaggy"
    projection: str = "gnomonic, object at pixel 53 53 of 107, north up, east left, Lanczos-3, flux conserved"
    format: str = FORMAT
    version: int = VERSION
    digest: str = field(default="", compare=False)  # SHA-256 of the canonical form of all of the above

    def records(self, shard: ShardEntry) -> Records:
        """Where the records of one shard lie."""
        if self.container == ZarrRecords.container:
            return ZarrRecords(self.image_shape, self.slots_per_shard, self.encoding.dtype)
        return TarRecords(self.image_shape, shard.json_bytes, self.encoding.dtype)

    def write(self, folder: Path, scratch: Path | None = None) -> None:
        """Publish the manifest: the last act of making a dataset. ``scratch`` is that of `atomic_file`.

        DatasetError, and no file, where `read` would refuse it.
        """
        content = asdict(self) | {"dtype": self.encoding.dtype.str}
        content["digest"] = self.digest_of(content)
        text = _render(content)
        self.parse(text, str(folder / MANIFEST))
        with atomic_file(folder / MANIFEST, scratch) as file:
            file.write(text)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read and check `dataset.json`; raises DatasetError in one line."""
        path = folder / MANIFEST
        try:
            content = path.read_bytes()
        except OSError as err:
            raise DatasetError(f"{path}: cannot be read ({err.strerror}); is {folder} a finished dataset?") from err
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, text: bytes, where: str) -> Self:
        """Make a manifest of the bytes of `dataset.json`; DatasetError in one line where they may not be trusted.

        ``where`` they come from is for the message. The bytes must be those that `write` makes, blanks included.
        """
        try:
            content = json.loads(text)
            _check_text(content, text)
            return cls.check(content)
        except DatasetError as err:
            raise DatasetError(f"{where}: {err}") from None
        except (KeyError, TypeError, AttributeError) as err:
            raise DatasetError(f"{where}: not a manifest of version {VERSION} ({err}); ingest again") from err
        except (ValueError, RecursionError) as err:
            raise DatasetError(f"{where}: not JSON ({err}); the file is damaged, ingest again") from err

    @classmethod
    def check(cls, content: dict[str, Any]) -> Self:
        """Make a manifest of the content of `dataset.json`; DatasetError where it may not be trusted."""
        if content["format"] != FORMAT or content["version"] not in _READABLE:
            found = f"{content['format']} {content['version']}"
            raise DatasetError(f"expected {FORMAT} {VERSION}, got {found}; use the Skymill that made it")
        if content["digest"] != cls.digest_of(content):
            raise DatasetError("its digest differs from its content; it was damaged or edited, ingest again")
        _check_names(content)
        dtype = content.pop("dtype")
        content["encoding"] = Encoding.check(content.get("encoding", asdict(Encoding())), content["bands"])
        content["shards"] = tuple(ShardEntry(**entry) for entry in content["shards"])
        content["files"] = tuple(FileEntry(**entry) for entry in content["files"])
        content["bands"] = tuple(content["bands"])
        content["image_shape"] = tuple(content["image_shape"])
        manifest = cls(**content | {"version": VERSION})
        if dtype != manifest.encoding.dtype.str:
            raise DatasetError(f"dtype {dtype!r} does not fit the encoding {manifest.encoding.name}; ingest again")
        manifest._check_places()
        return manifest

    def _check_places(self) -> None:
        """Sizes and places are computed from these, so they must make sense together."""
        if len(self.image_shape) != 3 or min(self.image_shape) < 1 or len(self.bands) != self.image_shape[0]:
            raise DatasetError(f"image shape {self.image_shape} does not fit the bands {self.bands}; ingest again")
        is_zarr = self.container == ZarrRecords.container
        if (self.slots_per_shard > 0) != is_zarr:
            raise DatasetError(f"slots_per_shard {self.slots_per_shard} does not fit {self.container}; ingest again")
        for shard in self.shards:
            if shard.samples < 1 or (is_zarr and shard.samples > self.slots_per_shard):
                most = self.slots_per_shard or "any number of"
                raise DatasetError(f"{shard.name}: expected 1 to {most} samples, got {shard.samples}; ingest again")

    @staticmethod
    def digest_of(content: dict[str, Any]) -> str:
        """SHA-256 of the canonical form: keys sorted, no blanks, without the digest itself."""
        body = {name: value for name, value in content.items() if name != "digest"}
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _render(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _check_text(content: dict[str, Any], text: bytes) -> None:
    """A bit may flip where it leaves the content alone, as in a blank: that is damage too."""
    if _render(content) != text:
        raise DatasetError("its text is not as it was written; it was damaged or edited, ingest again")


def _check_names(content: dict[str, Any]) -> None:
    """Every name is of a file that this container has: none leaves the dataset's folder, none comes twice."""
    container = content["container"]
    if container not in _FILES:
        raise DatasetError(f"expected the container {' or '.join(_FILES)}, got {container!r}")
    shards = [entry["name"] for entry in content["shards"]]
    if bad := [name for name in shards if not re.fullmatch(_SHARD_NAME[container], name, re.ASCII)]:
        raise DatasetError(f"shard name {bad[0]!r} is not one of a {container} dataset; it may leave the folder")
    numbers = [shard_number(name) for name in shards]
    if numbers != sorted(set(numbers)):
        raise DatasetError("the shards are not in the order of their numbers; ingest again")
    _check_files([entry["name"] for entry in content["files"]], container)


def _check_files(names: Sequence[str], container: str) -> None:
    needed = _FILES[container]
    if sorted(names) not in (sorted(needed), sorted((*needed, INPUTS))):
        raise DatasetError(f"expected the files {', '.join(needed)} and perhaps {INPUTS}, got {', '.join(names)}")
