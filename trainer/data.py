"""From indices to views on the device: a reader that runs ahead, and the stamps' own conditions.

Which samples come when is `sharding.Order`'s, what a view is `augment`'s. A reader thread takes raw stamps from the
dataset while the device computes; the views are made on the device, by the thread that trains.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from augment import Conditions, Preset, apply, draw, preset
from sharding import Dataset, Order, State

from .errors import TrainerError

Indices = npt.NDArray[np.int64]
Job = TypeVar("Job")
Result = TypeVar("Result")

READ_AHEAD = 2  # batches read or being read while one is used
EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True)
class Stack:
    """Raw stamps of some samples, on the host."""

    indices: Indices
    images: Float[Tensor, "n C H W"]  # nanomaggy / pixel, not dereddened

    def at(self, places: Indices) -> "Stack":
        """The stamps at these places of the stack, in this order; one may come twice."""
        return Stack(self.indices[places], self.images[torch.from_numpy(places)])


class Stamps:
    """A dataset's stamps, and views of them on one device."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.dataset = dataset
        self.device = device
        self._ebv = torch.from_numpy(dataset.column("ebv_sfd").astype(np.float64))
        self._mad = torch.from_numpy(dataset.mad)
        self._psf_fwhm_arcsec = self._known("psf_fwhm")
        self._sky_sigma = self._known("sky_sigma")

    @property
    def noise(self) -> Float[Tensor, " C"]:
        """Per band, the median absolute deviation of the dataset's pixels [nanomaggy / pixel]."""
        return self._mad.float()

    def read(self, indices: Indices) -> Stack:
        """Take stamps from the dataset, in the order of ``indices``; the reader thread's work."""
        return Stack(indices, torch.from_numpy(self.dataset.images(indices)))

    def view(
        self, stack: Stack, chosen: Preset, *, seed: int, epoch: int, view: int, size_px: int
    ) -> Float[Tensor, "n C {size_px} {size_px}"]:
        """View number ``view`` of each stamp, on the device."""
        sample = torch.from_numpy(stack.indices)
        bands = self.dataset.bands
        drawn = draw(chosen, seed=seed, epoch=epoch, sample=sample, view=view, bands=bands)
        images = stack.images.to(self.device)
        return apply(images, drawn, self._conditions(sample), bands=bands, size_px=size_px)

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
        yield Batch(indices, State(following.seed, following.epoch, following.position - batch), following)
        state = following


def evaluation_batches(indices: Indices, size: int = EVALUATION_BATCH) -> list[Indices]:
    """All indices in order, in batches; the last one may be smaller."""
    return [indices[first : first + size] for first in range(0, len(indices), size)]


def read_ahead(work: Callable[[Job], Result], jobs: Iterable[Job]) -> Generator[Result, None, None]:
    """``map(work, jobs)``, done by one thread, at most `READ_AHEAD` results ahead; its errors are raised here."""
    waiting = iter(jobs)
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as reader:
        pending = deque(reader.submit(work, job) for job in islice(waiting, READ_AHEAD))
        while pending:
            result = pending.popleft().result()
            pending.extend(reader.submit(work, job) for job in islice(waiting, 1))
            yield result
