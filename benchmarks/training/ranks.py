"""Data-parallel steps: what more ranks give, and what their messages cost.

Weak scaling: a rank's batch is the same whatever their number. One rank alone, while the others wait, shows what a rank
can do; all at once, each by itself, what the hardware leaves of that; all together, what the messages leave of that.
"""

import os
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import torch

from sharding import Dataset
from trainer.config import PretrainConfig
from trainer.distributed import Ranks, joined

from ..practice import Practice
from ..results import Curve, Limit, Ratio, Result, StageReport
from ..timing import summary
from .galaxies import PIXEL_BYTES, galaxies_for
from .step import described, limit_of, make_views, own_step, repeated, settings_for, steps_timed

ALONE = "train: DDP, 1 rank alone"


def by_itself(ranks: int) -> str:
    """All ranks at work, each on a network of its own: no messages."""
    return f"train: DDP, {ranks} ranks, each by itself"


def together(ranks: int) -> str:
    """All ranks at work on one network."""
    return f"train: DDP, {ranks} ranks together"


def under_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


def measure(data: Practice) -> StageReport | None:
    """On the ranks that torchrun started, all of which must come here; None on all but the first."""
    with joined() as ranks:
        results = race_ranks(ranks, settings_of_a_rank(ranks.device), data.folder, rounds=data.pick(9, 15))
        if not ranks.first:
            return None
    several = (ranks.size,) if ranks.size > 1 else ()
    own = together(ranks.size) if several else ALONE
    return StageReport(stage="train", results=results, own=own, ratios=ratios(several), curves=curves(several))


def settings_of_a_rank(device: torch.device) -> PretrainConfig:
    """The stage's own, but on a CPU half the batch: a rank has fewer threads there."""
    settings = settings_for(device)
    if device.type == "cuda":
        return settings
    return replace(settings, batch=settings.batch // 2, batch_norm_groups=settings.batch_norm_groups // 2)


def over_ranks(settings: PretrainConfig, ranks: int) -> PretrainConfig:
    """As many batches and groups of statistics in a step as there are ranks."""
    batch, groups = settings.batch * ranks, settings.batch_norm_groups * ranks
    return replace(settings, batch=batch, batch_norm_groups=groups, queue=max(settings.queue, batch))


def race_ranks(ranks: Ranks, settings: PretrainConfig, folder: Path, rounds: int) -> tuple[Result, ...]:
    """The three ways in turns, a first round not counted; images/s of all ranks, by the clock of this one.

    ``settings`` are those of one rank. All ranks call it.
    """
    steps = steps_timed(ranks.device)
    rates: dict[str, list[float]] = {}
    with galaxies_for(folder / f"galaxies-{ranks.rank}", over_ranks(settings, ranks.size)) as dataset:
        ways = _ways(ranks, settings, dataset)
        for number in range(rounds + 1):
            for name, (working, step) in ways.items():
                seconds = _timed(step, ranks)
                if number:
                    rates.setdefault(name, []).append(steps * working * settings.batch / seconds)
    return tuple(_result(name, working, rates[name], settings, ranks) for name, (working, _) in ways.items())


def _ways(ranks: Ranks, settings: PretrainConfig, dataset: Dataset) -> dict[str, tuple[int, Callable[[], int]]]:
    """By name: how many ranks are at work, and what this one does."""
    steps, single, shared = steps_timed(ranks.device), Ranks(0, 1, ranks.device), over_ranks(settings, ranks.size)
    own = repeated(own_step(settings, dataset, single), steps * [make_views(settings, single)])
    ways = {ALONE: (1, own if ranks.first else lambda: 0)}
    if ranks.size > 1:
        views = make_views(shared, ranks, seed=ranks.rank)
        ways[by_itself(ranks.size)] = (ranks.size, own)
        ways[together(ranks.size)] = (ranks.size, repeated(own_step(shared, dataset, ranks), steps * [views]))
    return ways


def sizes(data: Practice, device: torch.device) -> tuple[int, ...]:
    """Numbers of ranks, above one, for which this machine has cores or GPUs."""
    if device.type == "cuda":
        most = torch.cuda.device_count()
        return tuple(2**power for power in range(1, most.bit_length()))
    return data.threads[1:]


def spawn_all(sizes: Sequence[int], device: torch.device, data: Practice) -> tuple[Result, ...]:
    """`race_ranks` on each number of ranks, in processes of their own; the rank alone is that of the first."""
    found: dict[str, Result] = {}
    for size in sizes:
        settings, folder = settings_of_a_rank(device), data.folder / f"ranks-{size}"
        for result in spawn_ranks(size, settings, folder, rounds=data.pick(9, 15)):
            found.setdefault(result.name, result)
    return tuple(found.values())


def spawn_ranks(size: int, settings: PretrainConfig, folder: Path, rounds: int) -> tuple[Result, ...]:
    """`race_ranks` in as many processes, on a CPU with one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ProcessPoolExecutor(size, mp_context=get_context("spawn")) as processes:
        jobs = [processes.submit(_as_rank, rank, size, port, settings, folder, rounds) for rank in range(size)]
        first, *_ = [job.result() for job in jobs]  # what went wrong in any is raised here
        return first


def ratios(sizes: Sequence[int]) -> tuple[Ratio, ...]:
    """What ranks give that do not talk, and what messages leave of that."""
    by_hardware = (Ratio(first=by_itself(size), second=ALONE) for size in sizes)
    return (*by_hardware, *(Ratio(first=together(size), second=by_itself(size)) for size in sizes))


def curves(sizes: Sequence[int]) -> tuple[Curve, ...]:
    """Both ways over the number of ranks, if there are several."""
    lines = {"together": (ALONE, *map(together, sizes)), "each by itself": (ALONE, *map(by_itself, sizes))}
    return (Curve(title="MoCo step, ranks with equal batches", axis="ranks", lines=lines),) if sizes else ()


def _as_rank(
    rank: int, size: int, port: int, settings: PretrainConfig, folder: Path, rounds: int
) -> tuple[Result, ...]:
    """What torchrun would start."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    with joined() as ranks:
        return race_ranks(ranks, settings, folder, rounds)


def _timed(step: Callable[[], int], ranks: Ranks) -> float:
    """Seconds from the time that all ranks are there until all are done."""
    _all_here(ranks)
    began = perf_counter()
    step()
    _all_here(ranks)
    return perf_counter() - began


def _all_here(ranks: Ranks) -> None:
    if ranks.device.type == "cuda":
        torch.cuda.synchronize(ranks.device)
    ranks.wait()
    if ranks.device.type == "cuda":
        torch.cuda.synchronize(ranks.device)  # NCCL's barrier is a kernel


def _result(name: str, working: int, rates: Sequence[float], settings: PretrainConfig, ranks: Ranks) -> Result:
    whole = over_ranks(settings, working) if name == together(working) else settings
    threads = torch.get_num_threads()
    limit = limit_of(whole, ranks.device, working * threads)
    if ranks.device.type == "cuda":  # whose rate is that of one GPU
        limit = Limit(limit.name, limit.per_item / working)
    params = described(whole, ranks.device, threads) | {"ranks": working, "batch": settings.batch}
    return summary(name, "images/s", rates, PIXEL_BYTES, params, limit)
