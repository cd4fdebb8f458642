"""`dataset.json`: what a dataset is, and the digest of every other file in it. It is written last.

Whoever can read it may trust all it lists; `parse` checks the manifest's own digest and shape before anything is used.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from .atomic import atomic_file
from .errors import DatasetError
from .tarshard import Layout

FORMAT = "skymill-dataset"
VERSION = 1
MANIFEST = "dataset.json"

_SHARD_NAME = re.compile(r"shards/\d{5,}\.tar")
_FILES = ("samples.parquet", "rejects.parquet")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file beside the manifest."""

    name: str  # relative to the dataset, "/" between parts
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardEntry(FileEntry):
    """A tar shard and where its records lie."""

    samples: int
    json_bytes: int


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
    plan: str  # hash of which objects and fields go into which shard
    shards: tuple[ShardEntry, ...]
    files: tuple[FileEntry, ...]
    made_by: str
    container: str = "webdataset"
    dtype: str = "<f4"
    flux_unit: str = "nanomaggy"
    projection: str = "gnomonic, object at pixel 53 53 of 107, north up, east left, Lanczos-3, flux conserved"
    format: str = FORMAT
    version: int = VERSION
    digest: str = field(default="", compare=False)  # SHA-256 of the canonical form of all of the above

    def layout(self, shard: ShardEntry) -> Layout:
        """Where the records of one shard lie."""
        return Layout(self.image_shape, shard.json_bytes)

    def write(self, folder: Path) -> None:
        """Publish the manifest: the last act of making a dataset."""
        content = asdict(self)
        content["digest"] = self.digest_of(content)
        with atomic_file(folder / MANIFEST) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read and check `dataset.json`; raises DatasetError in one line."""
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_bytes())
        except OSError as err:
            raise DatasetError(f"{path}: cannot be read ({err.strerror}); is {folder} a finished dataset?") from err
        except (ValueError, RecursionError) as err:
            raise DatasetError(f"{path}: not JSON ({err}); the file is damaged, ingest again") from err
        try:
            return cls.check(content)
        except (KeyError, TypeError, AttributeError) as err:
            raise DatasetError(f"{path}: not a manifest of version {VERSION} ({err}); ingest again") from err
        except DatasetError as err:
            raise DatasetError(f"{path}: {err}") from None

    @classmethod
    def check(cls, content: dict[str, Any]) -> Self:
        """Make a manifest of the content of `dataset.json`; DatasetError where it may not be trusted."""
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            found = f"{content['format']} {content['version']}"
            raise DatasetError(f"expected {FORMAT} {VERSION}, got {found}; use the Skymill that made it")
        if content["digest"] != cls.digest_of(content):
            raise DatasetError("its digest differs from its content; it was damaged or edited, ingest again")
        names = [entry["name"] for entry in content["shards"]]
        if bad := [name for name in names if not _SHARD_NAME.fullmatch(name)]:
            raise DatasetError(f"shard name {bad[0]!r} is not shards/NNNNN.tar; it may leave the dataset's folder")
        if tuple(entry["name"] for entry in content["files"]) != _FILES:
            raise DatasetError(f"expected the files {', '.join(_FILES)}")
        content["shards"] = tuple(ShardEntry(**entry) for entry in content["shards"])
        content["files"] = tuple(FileEntry(**entry) for entry in content["files"])
        content["bands"] = tuple(content["bands"])
        content["image_shape"] = tuple(content["image_shape"])
        return cls(**content)

    @staticmethod
    def digest_of(content: dict[str, Any]) -> str:
        """SHA-256 of the canonical form: keys sorted, no blanks, without the digest itself."""
        body = {name: value for name, value in content.items() if name != "digest"}
        return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
