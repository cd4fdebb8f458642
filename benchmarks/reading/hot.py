"""Everything that reads from files that the system holds in its page cache, as contenders of one race."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sharding import Dataset
from sharding.convert import convert
from sharding.dali_index import write_index
from sharding.encoding import Encoding, decode

from ..results import Param
from ..timing import Contender
from . import peers
from .copying import Check, by_google, by_ours, copy_all, no_check
from .images import BANDS, IMAGE_SHAPE, SIGMA, random_dataset
from .own import OwnReader, open_for_plain_reads

THREADS = (1, 2)
IMAGE_BYTES = 4 * int(np.prod(IMAGE_SHAPE))
CHECKS: dict[str, Check] = {"": no_check, " and google_crc32c": by_google, " and our CRC32C": by_ours}
PLAIN, FRESH = ", plain reads", ", first pass over a fresh mapping"
WEBDATASET = "read: webdataset library, decoding"
ZARR = "read: zarr-python, random batches"
HDF5 = "read: h5py contiguous, random batches"
TENSORSTORE = "read: TensorStore, random batches"
PEERS = ("webdataset", "nvidia.dali", "zarr", "h5py", "tensorstore")

Step = Callable[[], int]
Indices = npt.NDArray[np.int64]
Images = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """How many images are read, of datasets of how many."""

    samples: int = 8192  # 1.9 GB: no cache of a processor holds them
    batch: int = 256
    encoded: int = 2048  # samples of the int16 dataset
    by_slow: int = 2048  # images that a slow peer reads in a run
    by_slowest: int = 256
    few: int = 10_000
    many: int = 1_000_000
    of_both: int = 4096  # images read, of few and of many


def ours(container: str = "tar", threads: int = 1, *, check: bool = True, how: str = "") -> str:
    """Name of one of our results."""
    return f"read: skymill {container}, {_threads(threads)}{how}{'' if check else ', no checksums'}"


def copying(check: str, threads: int) -> str:
    """Name of a limit; ``check`` is one of `CHECKS`."""
    return f"read: copy in memory{check}, {_threads(threads)}"


def dali(threads: int) -> str:
    """Name of a result of DALI."""
    return f"read: DALI, raw bytes, {_threads(threads)}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def is_installed(package: str) -> bool:
    """Whether a peer can be measured."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package that it lies in
        return False


def random_batches(samples: int, images: int, batch: int) -> list[Indices]:
    """Whole batches of ``images`` different samples of a dataset, in random order; the same in every call."""
    drawn = np.random.default_rng(0).permutation(samples)[: images // batch * batch]
    return list(drawn.reshape(-1, batch))


class Hot:
    """The contenders over ``folder / "tar"``, a dataset of random images; ``opened`` is left with what must be closed.

    Everything but the tar is written into ``folder`` when its contender is made.
    """

    def __init__(self, folder: Path, amount: Amount, opened: ExitStack) -> None:
        self._folder, self._amount, self._opened = folder, amount, opened
        self._batches = random_batches(amount.samples, amount.samples, amount.batch)
        self._tar = self._open(Dataset.open(folder / "tar"))

    def contenders(self) -> Iterator[Contender]:
        """All of them, but for peers that are not installed."""
        images = in_memory(self._tar)
        yield from self._limits(images)
        yield from self._own()
        yield from self._own_int16()
        yield from self._sequential_peers()
        yield from self._random_peers(images)

    def _limits(self, images: Images) -> Iterator[Contender]:
        rows = images.reshape(len(images), -1).view(np.uint8)
        out = np.zeros((self._amount.batch, rows.shape[1]), dtype=np.uint8)
        for threads in THREADS:
            for name, check in CHECKS.items():
                step = partial(copy_all, rows, self._batches, out, threads, check)
                yield self._contender(copying(name, threads), step, threads=threads)

    def _own(self) -> Iterator[Contender]:
        plain = self._open(open_for_plain_reads(self._folder / "tar"))
        zarr = self._open(convert(self._folder / "tar", self._folder / "zarr", container="zarr"))
        for container, how, dataset in (("tar", "", self._tar), ("tar", PLAIN, plain), ("zarr", "", zarr)):
            for threads in THREADS:
                for check in (True, False):
                    reader = OwnReader(dataset, self._batches, threads, check=check)
                    yield self._own_contender(ours(container, threads, check=check, how=how), reader, threads)
        reader = OwnReader(self._open(Dataset.open(self._folder / "tar")), self._batches, 1, anew=True)
        yield self._own_contender(ours(how=FRESH), reader, 1)

    def _own_int16(self) -> Iterator[Contender]:
        """What is stored; and apart from it decoding, as readers on the host and as the trainer do it."""
        import torch

        from sharding.decode import decode_on_device

        count = self._amount.encoded
        encoding = Encoding.of("int16", 0.25, dict.fromkeys(BANDS, SIGMA))
        dataset = self._open(random_dataset(self._folder / "int16", count, encoding))
        batches = random_batches(count, count, self._amount.batch)
        for threads in THREADS:
            reader = OwnReader(dataset, batches, threads)
            contender = self._own_contender(ours("tar of int16", threads), reader, threads)
            yield replace(contender, bytes_per_image=dataset.pixel_bytes)
        raw = np.empty((len(batches[0]), dataset.pixel_bytes), dtype=np.uint8)
        dataset.read_into(batches[0], raw)
        stored = raw.view(dataset.stored_dtype).reshape(-1, *IMAGE_SHAPE)
        objid, steps = dataset.dither(batches[0]) or (batches[0], None)
        tensors = [torch.from_numpy(values) for values in (stored, objid, steps)]
        host, device = partial(_decode, decode, stored, objid, steps), partial(_decode, decode_on_device, *tensors)
        yield self._contender("read: decode int16, on the host", host, threads=1)
        yield self._contender("read: decode int16, by torch on the CPU", device, threads=1)

    def _sequential_peers(self) -> Iterator[Contender]:
        batch, paths = self._amount.batch, peers.shard_paths(self._tar)
        if is_installed("webdataset"):
            count = self._amount.by_slow // batch
            yield self._contender(WEBDATASET, lambda: _pass(islice(peers.webdataset_batches(paths, batch), count)))
        if is_installed("nvidia.dali"):
            indices = write_index(self._folder / "tar", self._folder / "index")
            for threads in THREADS:
                pipeline = peers.dali_pipeline(paths, indices, batch, threads)
                step = partial(_run_dali, pipeline, len(self._batches))
                yield self._contender(dali(threads), step, threads=threads)

    def _random_peers(self, images: Images) -> Iterator[Contender]:
        amount, zarr, hdf5 = self._amount, self._folder / "zarr", self._folder / "images.h5"
        few, fewest = (self._batches[: count // amount.batch] for count in (amount.by_slow, amount.by_slowest))
        if is_installed("zarr"):
            yield self._contender(ZARR, lambda: _pass(peers.zarr_batches(zarr, fewest)))
        if is_installed("h5py"):
            peers.write_hdf5(hdf5, images)
            yield self._contender(HDF5, lambda: _pass(peers.hdf5_batches(hdf5, few)))
        if is_installed("tensorstore"):
            yield self._contender(TENSORSTORE, lambda: _pass(peers.tensorstore_batches(zarr, few)))

    def _open(self, dataset: Dataset) -> Dataset:
        return self._opened.enter_context(dataset)

    def _own_contender(self, name: str, reader: OwnReader, threads: int) -> Contender:
        return replace(self._contender(name, reader.finish, threads=threads), prepare=reader.begin)

    def _contender(self, name: str, step: Step, *, threads: int | None = None) -> Contender:
        params: dict[str, Param] = {"batch": self._amount.batch, "page_cache": "warm"}
        if threads is not None:
            params["threads"] = threads
        return Contender(name=name, step=step, bytes_per_image=IMAGE_BYTES, params=params)


def in_memory(dataset: Dataset) -> Images:
    """All images of a dataset of float32, in its order."""
    images = np.empty((len(dataset), *dataset.image_shape), dtype=np.float32)
    dataset.read_into(np.arange(len(dataset)), images.reshape(len(dataset), -1).view(np.uint8))
    return images


def _decode(by: Callable[..., Any], *arguments: Any) -> int:
    return len(by(*arguments))


def _pass(batches: Iterable[Sequence[object] | Images]) -> int:
    return sum(map(len, batches))


def _run_dali(pipeline: Any, batches: int) -> int:
    return sum(len(pipeline.run()[0]) for _ in range(batches))
