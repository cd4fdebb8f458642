"""What the read benchmark reads, and how much: the same first images of one dataset, for every reader in its form.

They are those of the dataset that was given, read where it lies, or random numbers. What nobody asks for is not made.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from sharding import Dataset
from sharding.convert import convert
from sharding.dali_index import write_index
from sharding.encoding import Encoding, Stored
from sharding.records import ZarrRecords

from ..practice import Practice
from . import peers
from .images import BANDS, SIDE_PX, SIGMA, first_samples, random_dataset, read_stored, sparse_dataset

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """How many images are read, of datasets of how many, and how often."""

    samples: int = 8192  # 1.9 GB: no cache of a processor holds them
    batch: int = 256
    images: int = 8192  # read in one pass
    first: int = 8192  # in the first pass over a fresh mapping: each but once
    by_slow: int = 2048  # by a slow peer
    by_slowest: int = 256
    by_url: int = 512  # by our reader from a URL
    beside: int = 4096  # samples of a dataset beside the main one; of a smaller image, samples of as many bytes
    batches: tuple[int, ...] = (64, 1024)  # beside `batch`
    sides_px: tuple[int, ...] = (64,)  # beside 107
    sparse: tuple[int, ...] = (10_000, 1_000_000)  # samples of the datasets that are compared
    of_sparse: int = 2048  # different images read of each, every one twice: to meet a page first takes long
    cold: int = 2048  # images, or somewhat more, that are read from the disk
    rounds: int = 5
    cold_rounds: int = 7

    def doubled(self) -> tuple[Self, Self]:
        """Once and twice the same work, in whole batches."""
        work = {
            name: getattr(self, name) for name in ("images", "by_slow", "by_slowest", "by_url", "of_sparse", "cold")
        }
        work["first"] = self.samples // 2
        once = {name: self.batch * max(1, images // self.batch) for name, images in work.items()}
        return replace(self, **once), replace(self, **{name: 2 * images for name, images in once.items()})

    def of(self, samples: int) -> Self:
        """No more samples than there are, in batches of no more than half of them."""
        samples = min(self.samples, samples)
        batch = min(self.batch, max(1, samples // 2))
        batches = tuple(size for size in self.batches if size <= samples and size != batch)
        return replace(self, samples=samples, first=min(self.first, samples), batch=batch, batches=batches)

    def scaled(self, count: int, side_px: int) -> int:
        """So many images of another size as have the bytes of ``count`` of 107 pixels a side."""
        return count * SIDE_PX**2 // side_px**2


QUICK = Amount()
FULL = replace(
    QUICK,
    batches=(16, 64, 1024, 4096),
    sides_px=(32, 64, 214),
    sparse=(10_000, 1_000_000, 10_000_000),
    rounds=15,
    cold_rounds=11,
)


@dataclass(kw_only=True)
class Material:
    """The images in the forms in which they are read; ``folder`` is for those that must be made."""

    folder: Path
    amount: Amount
    place: Dataset  # as it was given, or made
    is_given: bool
    opened: ExitStack

    @cached_property
    def at_url(self) -> bool:
        """Whether ``place`` is; everything but our reader then reads a copy."""
        return not isinstance(self.place.location, Path)

    @cached_property
    def container(self) -> str:
        """Of the dataset that stands for the whole: "tar" or "zarr"."""
        is_zarr = self.place.manifest.container == ZarrRecords.container
        return "zarr" if is_zarr and not self.at_url else "tar"

    @cached_property
    def local(self) -> Dataset:
        """``place``, or the copy of what lies at a URL."""
        return self.tar if self.container == "tar" else self.zarr

    @cached_property
    def tar(self) -> Dataset:
        """The images in tar files, where they lie or copied."""
        is_tar = self.place.manifest.container != ZarrRecords.container
        return self.place if is_tar and not self.at_url else self._copied

    @cached_property
    def zarr(self) -> Dataset:
        """The images in Zarr, where they lie or converted."""
        if self.container == "zarr":
            return self.place
        whole = len(self.tar) == self.amount.samples
        source = self.tar if whole else self._copied
        return self._open(convert(source.path, self.folder / "zarr", container="zarr"))

    @cached_property
    def images(self) -> Stored:
        """The images in memory, as they are stored: (n, band, y, x)."""
        return read_stored(self.local, np.arange(self.amount.samples))

    @cached_property
    def hdf5(self) -> Path:
        """A file in which they lie one after another."""
        path = self.folder / "images.h5"
        peers.write_hdf5(path, self.images)
        return path

    @cached_property
    def shards(self) -> list[str]:
        """Paths of the tar files that hold them."""
        return peers.shard_paths(self.tar, self.amount.samples)

    @cached_property
    def index(self) -> list[Path]:
        """Of these, DALI's index files."""
        return write_index(self.tar.path, self.folder / "index")[: len(self.shards)]

    @cached_property
    def slots(self) -> Indices:
        """Where in the Zarr array each sample lies: (sample,)."""
        return self.zarr.column("row").astype(np.int64)

    @cached_property
    def encoded(self) -> Mapping[str, Dataset]:
        """Datasets of other pixels than float32: the one that was given, or random numbers."""
        if self.is_given:
            name = self.place.manifest.encoding.name
            return {} if name == "float32" else {name: self.tar}
        sigma = dict.fromkeys(BANDS, SIGMA)
        encodings = [Encoding.of("float16", 0, sigma), Encoding.of("int16", 0.25, sigma)]
        made = (random_dataset(self.folder / each.name, self.amount.beside, each) for each in encodings)
        return {each.name: self._open(dataset) for each, dataset in zip(encodings, made, strict=True)}

    @cached_property
    def sized(self) -> Mapping[int, Dataset]:
        """Side [pixel] -> a dataset of such images; none where the images were given."""
        sides = () if self.is_given else self.amount.sides_px
        return {
            side: self._open(
                random_dataset(self.folder / f"{side}-px", self.amount.scaled(self.amount.beside, side), side_px=side)
            )
            for side in sides
        }

    @cached_property
    def sparse(self) -> tuple[Dataset, ...]:
        """Datasets of few to many samples; none where the images were given."""
        counts = () if self.is_given else self.amount.sparse
        return tuple(self._open(sparse_dataset(self.folder / f"sparse-{count}", count)) for count in counts)

    @cached_property
    def _copied(self) -> Dataset:
        return self._open(first_samples(self.place, self.amount.samples, self.folder / "first"))

    def _open(self, dataset: Dataset) -> Dataset:
        return self.opened.enter_context(dataset)


def prepare(data: Practice, folder: Path, amount: Amount, opened: ExitStack) -> Material:
    """The images of the given dataset, which is opened anew: what others have mapped cannot be dropped from memory."""
    place = Dataset.open(data.given) if data.given is not None else random_dataset(folder / "tar", amount.samples)
    opened.enter_context(place)
    return Material(
        folder=folder, amount=amount.of(len(place)), place=place, is_given=data.given is not None, opened=opened
    )


def random_batches(samples: int, images: int, batch: int) -> list[Indices]:
    """Whole batches of ``images`` samples of a dataset, in random order; the same in every call.

    No sample comes twice in a batch, and none a second time before the others, but for those that fill no batch.
    """
    rng, batches = np.random.default_rng(0), list[Indices]()
    while len(batches) < max(1, images // batch):
        drawn = rng.permutation(samples)[: samples // batch * batch]
        batches.extend(drawn.reshape(-1, batch))
    return batches[: max(1, images // batch)]
