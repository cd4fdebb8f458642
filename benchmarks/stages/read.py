"""Shards to batches in memory, beside the limit, which is copying the same bytes in memory, and beside other readers.

Equal footing: the same images, larger than any cache, in files that the system holds in its page cache; batches of one
size. Ours, the limit and the random readers take them in random order; the webdataset library and DALI read the shards
in sequence, which is less work. Then the reader where files are not cached, against `dd`, and whether its rate stays
with a hundred times the samples (sparse files of zeros, the larger dataset larger than most memories).
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from sharding import Dataset
from sharding.manifest import Manifest

from ..practice import PracticeData
from ..reading import hot
from ..reading.coldcache import ColdRuns, read_by_dd
from ..reading.hot import Amount, copying, dali, ours
from ..reading.images import random_dataset, sparse_dataset
from ..reading.own import Indices, OwnReader, anonymous_growth_mb, read_once
from ..results import Param, Result, StageReport
from ..timing import Contender, race, summary

DD, IN_SEQUENCE, IN_RANDOM_ORDER = (
    f"read: from the disk, {how}" for how in ("dd", "skymill in sequence", "skymill in random order")
)
FEW, MANY = ("read: skymill tar, some of few samples", "read: skymill tar, some of many samples")
_COLD_RUNS = 3
_COLD_SHARDS = 2


def run(data: PracticeData, rounds: int = 5, amount: Amount | None = None) -> StageReport:
    """Makes its own data: those of the practice survey fit into a cache."""
    amount = amount or Amount()
    with tempfile.TemporaryDirectory(prefix="skymill-read-") as name:
        folder = Path(name)
        data.say("writing random images")
        random_dataset(folder / "tar", amount.samples).close()
        with ExitStack() as opened:
            contenders = list(hot.Hot(folder, amount, opened).contenders())
            data.say("reading from the page cache")
            results = list(race(contenders, rounds=rounds))
        del contenders
        data.say("reading from the disk")
        results += _cold(folder / "tar", amount)
        data.say("reading some of few and of many samples")
        results += _few_and_many(folder, amount, rounds)
    names = {result.name for result in results}
    pairs = {pair: least for pair, least in wanted().items() if names.issuperset(pair)}
    return StageReport(
        stage="read",
        results=tuple(results),
        own=ours(),
        pairs=tuple(pairs),
        left_out=tuple(peer for peer in hot.PEERS if not hot.is_installed(peer)),
        wanted={pair: least for pair, least in pairs.items() if least},
    )


def wanted() -> Mapping[tuple[str, str], float]:
    """The pairs whose ratios are told, and the least that is wanted of each; 0 where nothing is."""
    alone, google, own = hot.CHECKS
    limits = {(ours(c, n, check=False), copying(alone, n)): 0.8 for c in ("tar", "zarr") for n in hot.THREADS}
    limits |= {(ours(c), copying(google, 1)): 0.8 for c in ("tar", "zarr")}
    limits |= {(ours(c, n), copying(own, n)): 0.8 for c in ("tar", "zarr") for n in hot.THREADS}
    others = {(ours(), hot.WEBDATASET): 8.0, (ours("zarr"), hot.ZARR): 50.0}
    others |= {(ours(check=check), hot.HDF5): 1.0 for check in (False, True)}
    others |= {(ours(threads=n, check=check), dali(n)): 1.3 for n in hot.THREADS for check in (False, True)}
    told = {(ours("zarr", 2), hot.TENSORSTORE), (ours(how=hot.FRESH), ours()), (IN_SEQUENCE, DD), (IN_RANDOM_ORDER, DD)}
    return {**limits, **others, **dict.fromkeys(sorted(told), 0.0), (MANY, FEW): 0.9}


def _cold(folder: Path, amount: Amount) -> Iterator[Result]:
    """The first shards of a dataset that nobody has mapped, each run with nothing of them in memory."""
    shards = Manifest.read(folder).shards[:_COLD_SHARDS]
    paths, images = [folder / shard.name for shard in shards], sum(shard.samples for shard in shards)
    in_sequence = np.split(np.arange(images), range(amount.batch, images, amount.batch))
    at_random = hot.random_batches(images, images, amount.batch)
    threads = max(hot.THREADS)

    def by_dd() -> int:
        read_by_dd(paths)
        return images

    steps: dict[str, Callable[[], int]] = {
        DD: by_dd,
        IN_SEQUENCE: partial(_read_once, folder, in_sequence, threads),
        IN_RANDOM_ORDER: partial(_read_once, folder, at_random, threads),
    }
    ways = {name: ColdRuns(paths, step) for name, step in steps.items()}
    for _ in range(_COLD_RUNS):
        for way in ways.values():
            way.run()
    for name, way in ways.items():
        params: dict[str, Param] = {"page_cache": "cold", "from_disk": round(way.from_disk, 3)}
        if name != DD:
            params |= {"batch": amount.batch, "threads": threads}
        yield summary(name, "images/s", way.rates, hot.IMAGE_BYTES, params)


def _few_and_many(folder: Path, amount: Amount, rounds: int) -> Iterator[Result]:
    """As many images of either; and the memory that a process takes to read those of the many."""
    contenders = []
    with ExitStack() as opened:
        for name, samples in ((FEW, amount.few), (MANY, amount.many)):
            dataset = opened.enter_context(sparse_dataset(folder / str(samples), samples))
            batches = hot.random_batches(samples, amount.of_both, amount.batch)
            params: dict[str, Param] = {
                "batch": amount.batch, "threads": 1, "page_cache": "warm", "samples": samples,
                "images": amount.of_both, "dataset_gb": round(sum(e.bytes for e in dataset.manifest.shards) / 1e9, 3),
            }  # fmt: skip
            reader = OwnReader(dataset, batches, 1)
            contenders.append(
                Contender(
                    name=name, prepare=reader.begin, step=reader.finish, bytes_per_image=hot.IMAGE_BYTES, params=params
                )
            )
        few, many = race(contenders, rounds=rounds)
    grown = anonymous_growth_mb(folder / str(amount.many), batches, max(hot.THREADS))
    yield few
    yield replace(many, params={**many.params, "own_memory_grew_mb": round(grown, 1)})


def _read_once(folder: Path, batches: Sequence[Indices], threads: int) -> int:
    """As a new process does it, which also gets its buffers from the system; it leaves nothing mapped."""
    with Dataset.open(folder) as dataset:
        return read_once(dataset, batches, threads)
