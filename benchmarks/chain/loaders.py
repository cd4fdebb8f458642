"""Endless loaders of pairs of views; each tells how many images its batch has once that is on the device.

Closing one ends its threads and processes.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from torch.utils.dlpack import from_dlpack

from sharding import Order
from trainer.data import Indices

from ..practice import available_cores
from .containers import EBV, IMAGE
from .running import Run
from .views import Hdf5Pairs, Recipe, TorchPairs, dali_pipeline

Pairs = Generator[int, None, None]

_ENDLESS = 2**40
_SHUFFLED = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """The same images in each container."""

    hdf5: Path
    tars: list[Path]
    images: int
    headers: tuple[int, int]  # see `dali_pipeline`


def by_skymill(run: Run, members: Indices) -> Pairs:
    """The trainer's own pipeline."""
    training = run.training
    order = Order(members, training.config.seed, dataset=training.stamps.dataset.digest)
    with closing(run.feed(order)) as fed:
        for _, views in fed:
            yield len(views()) // 2


def by_hdf5(files: Files, recipe: Recipe) -> Pairs:
    """A DataLoader over the HDF5 file, random images, with a worker a core; views by scikit-image."""
    pairs = Hdf5Pairs(files.hdf5, files.images, recipe)
    sampler = RandomSampler(pairs, replacement=True, num_samples=_ENDLESS)
    for views in _loader(pairs, recipe, batch_size=recipe.batch, sampler=sampler):
        yield len(_on_device(views, recipe))


def by_webdataset(files: Files, recipe: Recipe) -> Pairs:
    """The webdataset library in a DataLoader with a worker a core; views by torch, on a GPU there."""
    import webdataset

    make, on_gpu = TorchPairs(recipe), recipe.device.type == "cuda"
    stamps = webdataset.WebDataset(list(map(str, files.tars)), resampled=True, shardshuffle=False)
    stamps = stamps.shuffle(_SHUFFLED).decode().to_tuple(IMAGE, EBV).batched(recipe.batch).map(_tensors)
    for batch in _loader(stamps if on_gpu else stamps.map(make), recipe, batch_size=None):
        views = make([_on_device(each, recipe) for each in batch]) if on_gpu else batch
        yield views.shape[1]


def by_dali(files: Files, recipe: Recipe) -> Pairs:
    """DALI alone, with a thread a core."""
    pipeline = dali_pipeline(files.tars, recipe, available_cores(), files.headers)
    while True:
        first, second = (from_dlpack(output.as_tensor()) for output in pipeline.run())
        yield min(len(first), len(second))


def _loader(dataset: Any, recipe: Recipe, **settings: Any) -> DataLoader[Any]:
    return DataLoader(dataset, num_workers=available_cores(), pin_memory=recipe.device.type == "cuda", **settings)


def _on_device(values: Tensor, recipe: Recipe) -> Tensor:
    return values.to(recipe.device, non_blocking=True)


def _tensors(batch: tuple[Any, Any]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.asarray(each, dtype=np.float32)) for each in batch)
