"""Files to batches of pairs of views, ready on the device: ours beside what other people's loaders do.

Equal footing: the same galaxies, as many cores, batches of one size, the paper's four augmentations; a loader runs
alone, and what it read ahead before its turn counts for nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from augment import preset
from trainer.data import Indices

from ..installed import is_installed
from ..practice import Practice, available_cores
from ..results import Limit, Ratio, Result
from ..timing import Contender, race
from .containers import header_bytes, write_hdf5, write_tars
from .loaders import Files, Pairs, by_dali, by_hdf5, by_skymill, by_webdataset
from .running import Run, sync
from .views import Recipe

T = TypeVar("T")

OURS = "whole: read and augment, skymill"
HDF5 = "whole: read and augment, h5py and scikit-image in a DataLoader"
WEBDATASET = "whole: read and augment, webdataset and torch in a DataLoader"
DALI = "whole: read and augment, DALI alone"
RATIOS = tuple(Ratio(first=OURS, second=peer) for peer in (HDF5, WEBDATASET, DALI))
FOOTING: Mapping[str, str] = {
    HDF5: (
        "what the published code does, written anew: an image at a time from a contiguous file, all 107 pixels turned, "
        "then cropped, zeros beyond the edge, a worker process a core; no checksums, and draws that no restart repeats"
    ),
    WEBDATASET: (
        "tars in sequence, shuffled among 256 samples, decoded, and views by grid_sample, a batch at a time, in a "
        "worker process a core (on a GPU the views there); no checksums, and draws that no restart repeats"
    ),
    DALI: (
        "its own reader of the tars, shuffled among a batch, and its own operators, a thread a core (on a GPU there); "
        "it repeats the stamp's edge where ours mirrors it; no checksums, and draws that no restart repeats"
    ),
}
_NEEDED = {HDF5: ("h5py", "skimage"), WEBDATASET: ("webdataset",), DALI: ("nvidia.dali",)}
_OPENINGS = 2  # batches of each worker that are let go of after a start


class LoaderError(Exception):
    """A loader of other people failed."""

    def __init__(self, name: str, why: Exception) -> None:
        super().__init__(name)
        self.name = name
        self.why = " ".join(f"failed: {type(why).__name__}: {why}".split())  # in one line


class _Turn:
    """One loader at a time, kept busy from its start on: it never works in another one's time, nor in nobody's."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self._pairs: Pairs | None = None

    def begin(self, opener: Callable[[], Pairs], openings: int) -> None:
        """End the one before, start this one, and go on to where it runs evenly."""
        self.end()
        self._pairs = opener()
        self.take(openings)
        self._sync()

    def take(self, batches: int) -> int:
        """So many batches; how many images they had."""
        assert self._pairs is not None
        return sum(next(self._pairs) for _ in range(batches))

    def end(self) -> None:
        """Stop what runs, its processes too."""
        ending, self._pairs = self._pairs, None
        if ending is not None:
            ending.close()


def measure(run: Run, data: Practice, limit: Limit) -> tuple[tuple[Result, ...], dict[str, str]]:
    """Rates of all that are installed and work, ours first; and of the others, why they were left out."""
    missing = left_out()
    waited = sync(run.training.ranks.device)
    turn = _Turn(waited)
    try:
        ways = [once for once, _ in _contenders(run, data, turn, limit)]
        while True:
            try:
                return race(ways, rounds=data.pick(5, 9), sync=waited), missing
            except LoaderError as failed:  # the others race anew
                missing[failed.name] = failed.why
                ways = [way for way in ways if way.name != failed.name]
    finally:
        turn.end()


def doubled(run: Run, data: Practice) -> Iterator[tuple[Contender, Contender]]:
    """Each way with as many batches and with twice as many."""
    turn = _Turn(sync(run.training.ranks.device))
    try:
        yield from _contenders(run, data, turn, None)
    finally:
        turn.end()


def left_out() -> dict[str, str]:
    """Peers that are not installed, and what of them is missing."""
    found = {}
    for peer, packages in _NEEDED.items():
        if missing := [name for name in packages if not is_installed(name)]:
            found[peer] = f"{', '.join(missing)} cannot be imported"
    return found


def _contenders(run: Run, data: Practice, turn: _Turn, limit: Limit | None) -> Iterator[tuple[Contender, Contender]]:
    """Each way, and the same with twice as many batches."""
    dataset, settings = run.training.stamps.dataset, run.training.config
    order = run.training.order.members
    members = order.at(np.arange(min(len(order), max(data.pick(512, 4096), 8 * settings.batch))))
    files, recipe = _written(run, data, members), _recipe(run)
    cores = available_cores()
    openers: dict[str, tuple[Callable[[], Pairs], int]] = {
        OURS: (partial(by_skymill, run, members), data.pick(60, 400)),
        HDF5: (partial(by_hdf5, files, recipe), data.pick(3, 6) * cores),
        WEBDATASET: (partial(by_webdataset, files, recipe), data.pick(8, 16) * cores),
        DALI: (partial(by_dali, files, recipe), data.pick(12, 40)),
    }
    missing = left_out()
    for name, (opener, batches) in openers.items():
        if name in missing:
            continue
        once = Contender(
            name=name,
            step=_told(name, partial(turn.take, batches)),
            prepare=_told(name, partial(turn.begin, opener, _OPENINGS * cores)),
            warm_up=lambda: None,  # each start has its own
            bytes_per_image=dataset.pixel_bytes,
            params={
                "batch": settings.batch, "preset": settings.preset, "view_px": settings.view_px, "cores": cores,
                "images": len(members), "page_cache": "warm", "device": run.training.ranks.device.type,
            },
            limit=limit,
        )  # fmt: skip
        yield once, replace(once, step=_told(name, partial(turn.take, 2 * batches)))


def _told(name: str, does: Callable[[], T]) -> Callable[[], T]:
    """What goes wrong in it is the loader's, if it is one of other people."""

    def guarded() -> T:
        try:
            return does()
        except Exception as err:
            if name == OURS:
                raise
            raise LoaderError(name, err) from err

    return guarded


def _written(run: Run, data: Practice, members: Indices) -> Files:
    """Once for all: what an earlier call wrote is taken."""
    folder, dataset = data.folder / "feeding", run.training.stamps.dataset
    folder.mkdir(exist_ok=True)
    images, ebv = dataset.images(members), dataset.column("ebv_sfd").astype(np.float32)[members]
    hdf5, tars = folder / "images.hdf5", folder / "tars"
    if not tars.exists():
        number = min(2 * available_cores(), max(1, len(images) // run.training.config.batch))
        write_tars(tars, images, ebv, number)
    if not hdf5.exists() and HDF5 not in left_out():
        write_hdf5(hdf5, images, ebv, dataset.bands)
    headers = header_bytes(images[0]), header_bytes(ebv[:1])
    return Files(hdf5=hdf5, tars=sorted(tars.glob("*.tar")), images=len(members), headers=headers)


def _recipe(run: Run) -> Recipe:
    settings, dataset = run.training.config, run.training.stamps.dataset
    return Recipe(
        preset=preset(settings.preset),
        bands=dataset.bands,
        mad=dataset.mad.astype(np.float32),
        stamp_px=dataset.image_shape[1],
        view_px=settings.view_px,
        batch=settings.batch,
        device=run.training.ranks.device,
    )
