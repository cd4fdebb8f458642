"""What all contenders of the read benchmark have in common: parameters, bytes and the limit, which is copying them."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from sharding import Dataset

from ..limits.names import memory_copy
from ..results import Limit, Param
from ..timing import Contender
from .material import Indices, random_batches
from .own import OwnReader


def reading(
    name: str,
    step: Callable[[], int],
    dataset: Dataset,
    *,
    batch: int,
    threads: int | None = 1,
    copied_bytes: int = 0,
    container: str = "tar",
) -> Contender:
    """A contender that reads images of ``dataset`` from the page cache.

    ``copied_bytes`` of memory are copied for an image at the least; 0: as many as it is stored in. ``threads`` is None
    where it cannot be chosen.
    """
    params: dict[str, Param] = {
        "batch": batch, "page_cache": "warm", "container": container, "encoding": dataset.manifest.encoding.name,
        "side_px": dataset.image_shape[-1], "samples": len(dataset),
    }  # fmt: skip
    if threads is not None:
        params["threads"] = threads
    limit = Limit(memory_copy(threads or 1), (copied_bytes or dataset.pixel_bytes) / 1e9)
    return Contender(name=name, step=step, bytes_per_image=dataset.pixel_bytes, params=params, limit=limit)


def own_reading(
    name: str,
    dataset: Dataset,
    batches: Sequence[Indices],
    threads: int = 1,
    *,
    container: str = "tar",
    check: bool = True,
    anew: bool = False,
    decoded: bool = False,
    device: str = "cpu",
) -> Contender:
    """Our reader of these batches; see `OwnReader`."""
    reader = OwnReader(dataset, batches, threads, check=check, anew=anew, decoded=decoded, device=device)
    copied = copied_to_decode(dataset) if decoded else 0
    contender = reading(
        name,
        reader.finish,
        dataset,
        batch=len(batches[0]),
        threads=threads,
        copied_bytes=copied,
        container=container,
    )
    size = image_bytes(dataset) if decoded else dataset.pixel_bytes
    return replace(contender, prepare=reader.begin, bytes_per_image=size)


def passes(samples: int, images: int, batch: int, threads: int) -> list[Indices]:
    """Random batches for a pass that takes many threads about as long as few."""
    return random_batches(samples, images * max(1, threads // 2), batch)


def image_bytes(dataset: Dataset) -> int:
    """Of an image as float32."""
    return 4 * dataset.pixel_bytes // dataset.stored_dtype.itemsize


def copied_to_decode(dataset: Dataset) -> int:
    """Bytes read and written once, to read an image into a batch and then to decode it."""
    return dataset.pixel_bytes + (dataset.pixel_bytes + image_bytes(dataset)) // 2
