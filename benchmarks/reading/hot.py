"""The same images from files that the system holds in its page cache: the limit, our reader and others, in one race."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from sharding import Dataset

from ..installed import is_installed
from ..limits.names import HOST_TO_DEVICE, memory_copy
from ..practice import available_cores
from ..results import Limit
from ..timing import Contender
from . import names, peers
from .contender import own_reading, passes, reading
from .copying import Check, by_google, by_ours, copy_all, no_check
from .material import Amount, Indices, Material
from .own import open_for_plain_reads

PEERS: Mapping[str, str] = {  # peer -> its package
    "webdataset library": "webdataset",
    "DALI's tar reader": "nvidia.dali",
    "zarr-python": "zarr",
    "h5py": "h5py",
    "TensorStore": "tensorstore",
}
_CHECKS: Mapping[str, Check] = dict(zip(names.CHECKS, (no_check, by_google, by_ours), strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Hot:
    """The contenders over one material. Those of one number of threads follow each other: they are compared."""

    material: Material
    amount: Amount
    threads: tuple[int, ...]

    def contenders(self) -> Iterator[Contender]:
        """All of them, but for peers that are not installed."""
        for threads in self.threads:
            yield from self._copying(threads)
            yield from self._own(threads)
            if is_installed("nvidia.dali"):
                yield self._dali(threads)
            if threads == self.threads[0]:
                yield from self._peers()
        if self.material.at_url:
            yield from self._from_url()
        if has_gpu():
            yield self._to_gpu(max(self.threads))

    def _copying(self, threads: int) -> Iterator[Contender]:
        images, batches = self.material.images, self._batches(threads)
        rows = images.reshape(len(images), -1).view(np.uint8)
        out = np.zeros((self.amount.batch, rows.shape[1]), dtype=np.uint8)
        for name, check in _CHECKS.items():
            if check is not by_google or threads == 1:  # more threads gain nothing from it
                step = partial(copy_all, rows, batches, out, threads, check)
                yield self._reading(names.copying(name, threads), step, threads=threads)

    def _own(self, threads: int) -> Iterator[Contender]:
        material, batches = self.material, self._batches(threads)
        for container, dataset in (("tar", material.tar), ("zarr", material.zarr)):
            for check in (True, False):
                name = names.ours(container, threads, check=check)
                yield own_reading(name, dataset, batches, threads, container=container, check=check)
        kind, path = material.container, material.local.path
        plain = material.opened.enter_context(open_for_plain_reads(path))
        yield own_reading(names.ours(kind, threads, how=names.PLAIN), plain, batches, threads, container=kind)
        if threads == 1:
            fresh = material.opened.enter_context(Dataset.open(path))
            first = passes(self.amount.samples, self.amount.first, self.amount.batch, threads)
            yield own_reading(names.ours(kind, how=names.FRESH), fresh, first, container=kind, anew=True)

    def _dali(self, threads: int) -> Contender:
        material, batches = self.material, self._batches(threads)
        pipeline = peers.dali_pipeline(material.shards, material.index, self.amount.batch, threads)
        return self._reading(names.dali(threads), partial(_run_dali, pipeline, len(batches)), threads=threads)

    def _peers(self) -> Iterator[Contender]:
        amount, material = self.amount, self.material
        few, fewest = (passes(amount.samples, n, amount.batch, 1) for n in (amount.by_slow, amount.by_slowest))
        if is_installed("webdataset"):
            stream = partial(peers.webdataset_batches, material.shards, amount.batch)
            yield self._reading(names.WEBDATASET, partial(_whole_batches, stream, amount.batch, len(few)))
        if is_installed("h5py"):
            step = _pass(lambda: peers.hdf5_batches(material.hdf5, self._batches(1)))
            yield self._reading(names.HDF5, step, container="hdf5")
        if is_installed("zarr"):
            step = _pass(lambda: peers.zarr_batches(material.zarr.path, [material.slots[each] for each in fewest]))
            yield self._reading(names.ZARR, step, container="zarr")
        if is_installed("tensorstore"):
            step = _pass(lambda: peers.tensorstore_batches(material.zarr.path, [material.slots[each] for each in few]))
            of_all = memory_copy(available_cores())
            yield self._reading(names.TENSORSTORE, step, threads=None, container="zarr", limit=of_all)

    def _from_url(self) -> Iterator[Contender]:
        """Few images and small batches: a request for each takes time."""
        batch = max(1, self.amount.batch // 4)
        batches = passes(self.amount.samples, self.amount.by_url, batch, 1)
        for threads in sorted({min(self.threads), max(self.threads)}):
            yield own_reading(names.at_url(threads), self.material.place, batches, threads, container="url")

    def _to_gpu(self, threads: int) -> Contender:
        material = self.material
        name = names.ours(material.container, threads, how=names.TO_GPU)
        contender = own_reading(
            name, material.local, self._batches(threads), threads, container=material.container, device="cuda"
        )
        return replace(contender, limit=Limit(HOST_TO_DEVICE, material.local.pixel_bytes / 1e9))

    def _batches(self, threads: int) -> list[Indices]:
        return passes(self.amount.samples, self.amount.images, self.amount.batch, threads)

    def _reading(
        self,
        name: str,
        step: Callable[[], int],
        *,
        threads: int | None = 1,
        container: str = "tar",
        limit: str | None = None,
    ) -> Contender:
        local = self.material.local
        found = reading(name, step, local, batch=self.amount.batch, threads=threads, container=container)
        return replace(found, limit=Limit(limit, local.pixel_bytes / 1e9)) if limit else found


def has_gpu() -> bool:
    """Whether batches can be read into a GPU's memory."""
    import torch

    return torch.cuda.is_available()


def _pass(batches: Callable[[], Iterable[Any]]) -> Callable[[], int]:
    return lambda: sum(map(len, batches()))


def _whole_batches(stream: Callable[[], Iterable[Any]], batch: int, count: int) -> int:
    """Take so many batches, pass after pass; what fills none at the end of a pass is not counted."""
    every = itertools.chain.from_iterable(stream() for _ in itertools.count())
    whole = (images for images in every if len(images) == batch)
    return sum(map(len, itertools.islice(whole, count)))


def _run_dali(pipeline: Any, batches: int) -> int:
    return sum(len(pipeline.run()[0]) for _ in range(batches))
