"""From indices to views on the device: stamps read ahead, and their own conditions.

Which samples come when is `sharding.Order`'s, how they are read `sharding.reader`'s, what a view is `augment`'s, who
makes those that a network learns from `pipelines`'. Threads take stamps from the dataset while the device computes;
they stay as they are stored, float32, float16 or int16, until the op that makes views decodes them.
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

from augment import Conditions, Dither, Plan, Preset, draw, make_plan, preset, render
from sharding import Dataset, Order, State, reader

from .errors import TrainerError

Indices = npt.NDArray[np.int64]
Job = TypeVar("Job")

EVALUATION_BATCH = 256

Stack = reader.Batch  # some samples' stamps as they are stored, on the device


class Stamps:
    """A dataset's stamps, and views of them on one device."""

    def __init__(self, dataset: Dataset, device: torch.device, read_threads: int | None = None) -> None:
        self.dataset = dataset
        self.device = device
        self._reader = reader.Reader(dataset, device, threads=read_threads)
        self._ebv = torch.from_numpy(_compact(dataset.column("ebv_sfd")))
        self._mad = torch.from_numpy(dataset.mad)
        self._psf_fwhm_arcsec = self._known("psf_fwhm")
        self._sky_sigma = self._known("sky_sigma")

    @property
    def noise(self) -> Float[Tensor, " C"]:
        """Per band, the median absolute deviation of the dataset's pixels [nanomaggy / pixel]."""
        return self._mad.float()

    def read(self, indices: Indices) -> Stack:
        """Some stamps, in the order of ``indices``; they last."""
        with closing(self._reader.batches([indices])) as batches:
            return next(batches)

    def ahead(self, jobs: Iterable[Job], wanted: Callable[[Job], Indices]) -> Generator[tuple[Job, Stack], None, None]:
        """Each job with the stamps that it wants, read while earlier jobs are done; errors are raised here.

        Stamps last until the next ones are asked for.
        """
        begun: deque[Job] = deque()

        def indices() -> Iterator[Indices]:
            for job in jobs:
                begun.append(job)
                yield wanted(job)

        with closing(self._reader.batches(indices())) as batches:
            for stack in batches:
                yield begun.popleft(), stack

    def plan(self, indices: Indices, chosen: Preset, *, seed: int, epoch: int, view: int, size_px: int) -> Plan:
        """How view number ``view`` of each of these samples is made of a stack of them, in this order; on the host."""
        bands = self.dataset.bands
        drawn = draw(chosen, seed=seed, epoch=epoch, sample=torch.from_numpy(indices), view=view, bands=bands)
        shape = self.dataset.image_shape[1:]
        return make_plan(drawn, self.conditions(indices), bands=bands, stamp_shape=shape, size_px=size_px)

    def render(self, stack: Stack, plan: Plan) -> Float[Tensor, "row C y x"]:
        """The views that ``plan`` makes of the stack, on the device; on a GPU channels-last, as its networks are."""
        dither = None if stack.objid is None or stack.step is None else Dither(stack.objid, stack.step)
        on_gpu = self.device.type == "cuda"
        return render(stack.stored, plan.to(self.device), dither=dither, channels_last=on_gpu)

    def plain(self, stack: Stack, size_px: int) -> Float[Tensor, "n C {size_px} {size_px}"]:
        """The views that networks are judged on: the dereddened centre of each stamp."""
        plan = self.plan(stack.indices, preset("none"), seed=0, epoch=0, view=0, size_px=size_px)
        return self.render(stack, plan)

    def conditions(self, indices: Indices) -> Conditions:
        """What the dataset knows of these samples."""
        sample = torch.from_numpy(indices)
        return Conditions(
            ebv=self._ebv[sample],
            pixel_scale_arcsec=self.dataset.pixel_scale_arcsec,
            mad=self._mad,
            psf_fwhm_arcsec=None if self._psf_fwhm_arcsec is None else self._psf_fwhm_arcsec[sample],
            sky_sigma=None if self._sky_sigma is None else self._sky_sigma[sample],
        )

    def _known(self, prefix: str) -> Float[Tensor, "n C"] | None:
        """A quantity per sample and band, or None where the dataset lacks it for a whole band."""
        names = [f"{prefix}_{band}" for band in self.dataset.bands]
        if not all(map(self.dataset.has, names)):
            return None
        columns = [_compact(self.dataset.column(name)) for name in names]
        if any(np.isnan(column).all() for column in columns):
            return None
        return torch.from_numpy(np.stack(columns, axis=1))


def _compact(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32] | npt.NDArray[np.float64]:
    """A column as float32 where that holds every bit of it, else as float64: millions of samples are kept in memory."""
    exact = values.astype(np.float64)
    with np.errstate(over="ignore"):  # then it is not held
        small = exact.astype(np.float32)
    return small if np.array_equal(small, exact, equal_nan=True) else exact


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
