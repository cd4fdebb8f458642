"""Other libraries reading the same images: batches (n, band, y, x), each the fastest way that was found for it.

What they leave out is said with each. None of them verifies a tar's pixels. Pixels stay as they are stored.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sharding import Dataset

Images = npt.NDArray[np.generic]
Indices = npt.NDArray[np.int64]


def shard_paths(dataset: Dataset, samples: int) -> list[str]:
    """The files of the shards that hold the first samples of a dataset."""
    shards = dataset.manifest.shards
    begin = np.cumsum([0, *(shard.samples for shard in shards)])
    return [str(dataset.path / shard.name) for shard, first in zip(shards, begin[:-1], strict=True) if first < samples]


def webdataset_batches(paths: Sequence[str], batch: int) -> Iterator[Images]:
    """The webdataset library, decoding, in the order of the files; a last partial batch too."""
    import webdataset

    waiting: list[Images] = []
    for (image,) in webdataset.WebDataset(list(paths), shardshuffle=False).decode().to_tuple("image.npy"):
        waiting.append(image)
        if len(waiting) == batch:
            yield np.stack(waiting)
            waiting = []
    if waiting:
        yield np.stack(waiting)


def dali_pipeline(paths: Sequence[str], indices: Sequence[Path], batch: int, threads: int) -> Any:
    """DALI's reader with its index files, from mapped files in their order: raw bytes of .npy files, not decoded."""
    from nvidia.dali import fn
    from nvidia.dali.pipeline import Pipeline

    pipeline: Any
    with Pipeline(batch_size=batch, num_threads=threads, device_id=None) as pipeline:  # type: ignore[no-untyped-call]
        index_paths = list(map(str, indices))
        pipeline.set_outputs(fn.readers.webdataset(paths=list(paths), index_paths=index_paths, ext=["image.npy"]))
    pipeline.build()
    return pipeline


def zarr_batches(folder: Path, batches: Iterable[Indices]) -> Iterator[Images]:
    """zarr-python, random batches; it verifies each inner chunk's CRC32C."""
    import zarr

    images = zarr.open_array(folder / "images.zarr/images", mode="r")
    for batch in batches:
        yield images.oindex[np.sort(batch)]  # type: ignore[misc]


def tensorstore_batches(folder: Path, batches: Iterable[Indices]) -> Iterator[Images]:
    """TensorStore, random batches, on as many threads as it likes; it verifies each inner chunk's CRC32C."""
    import tensorstore

    store = {"driver": "file", "path": str(folder / "images.zarr/images")}
    images = tensorstore.open({"driver": "zarr3", "kvstore": store}, open=True, read=True).result()
    for batch in batches:
        yield images[batch].read().result()


def write_hdf5(path: Path, images: Images) -> None:
    """A contiguous HDF5 dataset `images`, which is on the disk before anything is timed."""
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images)
    with path.open("rb") as written:
        os.fsync(written.fileno())


def hdf5_batches(path: Path, batches: Iterable[Indices]) -> Iterator[Images]:
    """h5py, random batches of a contiguous dataset, ascending in a batch; nothing is verified. One array is used again.

    One read of a union of hyperslabs is faster than sorted indices, `read_direct` or a read an image.
    """
    import h5py

    with h5py.File(path, "r") as file:
        images = file["images"]
        place, shape = images.id.get_space(), images.shape[1:]
        out = np.empty((0, *shape), dtype=images.dtype)
        for batch in batches:
            if len(out) != len(batch):
                out = np.empty((len(batch), *shape), dtype=images.dtype)
            place.select_none()
            for index in np.sort(batch).tolist():
                place.select_hyperslab((index, 0, 0, 0), (1, *shape), op=h5py.h5s.SELECT_OR)
            images.id.read(h5py.h5s.create_simple(out.shape), place, out)
            yield out
