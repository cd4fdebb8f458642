"""From indices to views on the device: stamps read ahead, and their own conditions.

Which samples come when is `sharding.Order`'s, how they are read `sharding.reader`'s, what a view is `augment`'s.
Threads take raw stamps from the dataset while the device computes; views are made on the device, by the thread that
trains.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from augment import Conditions, Preset, apply, draw, preset
from sharding import Dataset, Order, State
from sharding.reader import Reader

from .errors import TrainerError

Indices = npt.NDArray[np.int64]
Job = TypeVar("Job")

EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True)
class Stack:
    """Raw stamps of some samples, on the device; one that was read ahead lasts until the next is asked for."""

    indices: Indices
    images: Float[Tensor, "n C H W"]  # nanomaggy / pixel, not dereddened

    def at(self, places: Indices) -> "Stack":
        """The stamps at these places of the stack, in this order; one may come twice."""
        return Stack(self.indices[places], self.images[torch.from_numpy(places).to(self.images.device)])


class Stamps:
    """A dataset's stamps, and views of them on one device."""

    def __init__(self, dataset: Dataset, device: torch.device, read_threads: int | None = None) -> None:
        self.dataset = dataset
        self.device = device
        self._reader = Reader(dataset, device, threads=read_threads)
        self._ebv = torch.from_numpy(dataset.column("ebv_sfd").astype(np.float64))
        self._mad = torch.from_numpy(dataset.mad)
        self._psf_fwhm_arcsec = self._known("psf_fwhm")
        self._sky_sigma = self._known("sky_sigma")

    @property
    def noise(self) -> Float[Tensor, " C"]:
        """Per band, the median absolute deviation of the dataset's pixels [nanomaggy / pixel]."""
        return self._mad.float()

    def read(self, indices: Indices) -> Stack:
        """Some stamps, in the order of ``indices``."""
        return Stack(indices, torch.from_numpy(self.dataset.images(indices)).to(self.device))

    def ahead(self, jobs: Iterable[Job], wanted: Callable[[Job], Indices]) -> Generator[tuple[Job, Stack], None, None]:
        """Each job with the stamps that it wants, read while earlier jobs are done; errors are raised here."""
        begun: deque[Job] = deque()

        def indices() -> Iterator[Indices]:
            for job in jobs:
                begun.append(job)
                yield wanted(job)

        with closing(self._reader.batches(indices())) as batches:
            for batch in batches:
                yield begun.popleft(), Stack(batch.indices, batch.pixels())

    def view(
        self, stack: Stack, chosen: Preset, *, seed: int, epoch: int, view: int, size_px: int
    ) -> Float[Tensor, "n C {size_px} {size_px}"]:
        """View number ``view`` of each stamp, on the device."""
        sample = torch.from_numpy(stack.indices)
        bands = self.dataset.bands
        drawn = draw(chosen, seed=seed, epoch=epoch, sample=sample, view=view, bands=bands)
        return apply(stack.images, drawn, self._conditions(sample), bands=bands, size_px=size_px)

    def plain(self, stack: Stack, size_px: int) -> Float[Tensor, "n C {size_px} {size_px}"]:
        """The views that networks are judged on: the dereddened centre of each stamp."""
        return self.view(stack, preset("none"), seed=0, epoch=0, view=0, size_px=size_px)

    def _conditions(self, sample: Tensor) -> Conditions:
        return Conditions(
            ebv=self._ebv[sample],
            pixel_scale_arcsec=self.dataset.pixel_scale_arcsec,
            mad=self._mad,
            psf_fwhm_arcsec=None if self._psf_fwhm_arcsec is None else self._psf_fwhm_arcsec[sample],
            sky_sigma=None if self._sky_sigma is None else self._sky_sigma[sample],
        )

    def _known(self, prefix: str) -> Float[Tensor, "n C"] | None:
        """A quantity per sample and band, or None where the dataset lacks it."""
        if not all(self.dataset.has(f"{prefix}_{band}") for band in self.dataset.bands):
            return None
        return torch.from_numpy(self.dataset.per_band(prefix))


def check_view_px(dataset: Dataset, view_px: int) -> None:
    """Refuse to learn from views that are larger than the stamps: their borders would be made up."""
    side = min(dataset.image_shape[1:])
    if view_px > side:
        raise TrainerError(f"--view-px: expected at most a stamp's side, {side}, got {view_px}; choose a smaller one")


@dataclass(frozen=True, slots=True)
class Batch:
    """A global batch: its samples in order, where it stands, and where the next one begins."""

    indices: Indices
    state: State
    following: State


def global_batches(order: Order, state: State, batch: int) -> Iterator[Batch]:
    """The endless sequence of global batches from ``state`` on; the same on any number of ranks."""
    while True:
        indices, following = order.take(state, batch)
        yield Batch(indices, replace(following, position=following.position - len(indices)), following)
        state = following


def evaluation_batches(indices: Indices, size: int = EVALUATION_BATCH) -> list[Indices]:
    """All indices in order, in batches; the last one may be smaller."""
    return [indices[first : first + size] for first in range(0, len(indices), size)]
