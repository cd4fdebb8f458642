"""Shards to batches in memory, beside the limit, which is copying the same bytes in memory, and beside other readers.

Equal footing: the same images, larger than any cache, in files that the system holds in its page cache; batches of one
size. Ours, the limit and the random readers take them in random order; the webdataset library and DALI read the shards
in sequence, which is less work. Then the reader where files are not cached, against `dd`, and whether its rate stays
with a hundred times the samples (sparse files of zeros, the larger dataset larger than most memories).

A dataset that is given is read where it lies; readers of another format get its first images in theirs. At a URL our
reader takes ranges of it, and everything is measured on a copy of its first images too.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..installed import is_installed
from ..practice import Practice
from ..reading import cold, hot, names, told
from ..reading.hot import Hot, has_gpu
from ..reading.material import FULL, QUICK, Amount, Material, prepare, random_batches
from ..reading.own import anonymous_growth_mb, can_tell_memory
from ..reading.scaling import Scaling
from ..results import Promise, Result, StageReport
from ..timing import Contender, race

_MEMORY_MB = 500.0
_FROM_DISK = "reading from the disk"


def run(data: Practice, amount: Amount | None = None) -> StageReport:
    """On random numbers where no dataset was given: those of the practice survey fit into a cache."""
    with _folder(data) as folder:
        with _material(data, folder, amount) as material:
            results = _hot(data, material)
            promises = _promises(data, material)
            where = material.local.path
        data.say("reading from the disk")  # nothing is mapped any more
        from_disk, why = cold.measure(where, material.amount, max(data.threads))
    left_out = {peer: "it cannot be imported" for peer, package in hot.PEERS.items() if not is_installed(package)}
    return _report(
        (*results, *from_disk),
        material,
        data.threads,
        promises=promises,
        left_out=left_out | ({_FROM_DISK: why} if why else {}),
    )


def doubled(data: Practice, amount: Amount | None = None) -> Iterator[tuple[Contender, Contender]]:
    """Each way to read, once and twice as many images."""
    threads = max(data.threads)
    with _folder(data) as folder:
        with _material(data, folder, amount) as material:
            once, twice = material.amount.doubled()
            yield from zip(_contenders(data, material, once), _contenders(data, material, twice), strict=True)
            where = material.local.path
        if not cold.why_not():
            ways = zip(cold.contenders(where, once, threads), cold.contenders(where, twice, threads), strict=True)
            yield from ((one, two) for (one, _), (two, _) in ways if cold.images(two) == 2 * cold.images(one))


def _hot(data: Practice, material: Material) -> tuple[Result, ...]:
    contenders = list(_contenders(data, material, material.amount))
    contenders += Scaling(material=material, amount=material.amount, threads=data.threads).sizes()
    data.say("reading from the page cache")
    return race(contenders, rounds=material.amount.rounds, sync=_synchronize if has_gpu() else lambda: None)


def _contenders(data: Practice, material: Material, amount: Amount) -> Iterator[Contender]:
    """Everything that reads from the page cache, but for our reader with batches and images of other sizes."""
    scaling = Scaling(material=material, amount=amount, threads=data.threads)
    yield from Hot(material=material, amount=amount, threads=data.threads).contenders()
    yield from scaling.encodings()
    yield from scaling.numbers()


def _promises(data: Practice, material: Material) -> tuple[Promise, ...]:
    """The memory that a reader of many samples takes; and what only random data can tell."""
    data.say("reading in a process of its own")
    amount, measured, missing = material.amount, None, ""
    dataset = material.place if material.is_given else material.sparse[1]
    if can_tell_memory():
        images = amount.by_url if material.at_url else amount.of_sparse
        batches = random_batches(len(dataset), images, amount.batch)
        measured = anonymous_growth_mb(dataset.location, batches, max(data.threads))
    else:
        missing = "this system does not tell a process's own memory"
    what = f"read: own memory of a reader of {len(dataset):,} samples [MB]"
    memory = Promise(what=what, measured=measured, at_most=_MEMORY_MB, missing=missing)
    if not material.is_given:
        return (memory,)
    what = f"{names.MANY} / {names.FEW}"
    return memory, Promise(what=what, measured=None, at_least=0.9, missing="measured where no dataset is given")


def _report(
    results: tuple[Result, ...],
    material: Material,
    threads: tuple[int, ...],
    *,
    promises: tuple[Promise, ...],
    left_out: dict[str, str],
) -> StageReport:
    kind, most = material.container, max(threads)
    return StageReport(
        stage="read",
        results=results,
        own=names.at_url(most) if material.at_url else names.ours(kind, most),
        ratios=told.ratios(kind, threads, results),
        promises=promises,
        left_out=left_out,
        footing={peer: text for peer, text in told.FOOTING.items() if peer not in left_out},
        bars=told.bars(kind, most, results),
        curves=told.curves(kind, threads, results),
    )


@contextmanager
def _folder(data: Practice) -> Iterator[Path]:
    """Room for datasets, which later stages need not keep."""
    with tempfile.TemporaryDirectory(prefix="read-", dir=data.folder) as name:
        yield Path(name)


@contextmanager
def _material(data: Practice, folder: Path, amount: Amount | None) -> Iterator[Material]:
    data.say("writing images to read")
    with ExitStack() as opened:
        yield prepare(data, folder, amount or data.pick(QUICK, FULL), opened)


def _synchronize() -> None:
    import torch

    torch.cuda.synchronize()
