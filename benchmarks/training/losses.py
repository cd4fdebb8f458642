"""The streaming InfoNCE beside the plain one: losses/s, with the gradient in the queries, and the memory they take."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from trainer.flops import infonce_flops

from .. import infonce
from ..limits import matrix, threads_text
from ..practice import Practice
from ..results import Curve, Limit, Param, Promise, Ratio, Result, StageReport
from ..timing import Contender, summary
from .step import GFLOP

BATCH = 256
QUEUES = (65_536, LONGEST := 1_048_576)  # MoCo's own, and the one of which the memory was promised
PLAIN = "InfoNCE, plain"
FOOTING = {
    PLAIN: "the same vectors in float32; the whole matrix of logits as published (He et al. 2020, algorithm 1), "
    "torch's cross-entropy and the gradient that torch derives",
}
_SHARE = 0.05  # of the plain one's memory
_DOUBLED_QUEUE = 262_144  # long enough to be timed well
_BYTES = 2 * 4 * infonce.EMBEDDING  # of a query and its key


def named(queue: int, way: str) -> str:
    """A result's name; the ways are those of `infonce.LOSSES`."""
    return f"train: InfoNCE, {queue:,} negatives, {way}"


def measure(data: Practice, device: torch.device, queues: Sequence[int]) -> StageReport:
    """Both with each queue for which there is memory, each queue in a process of its own."""
    threads = 1 if device.type == "cuda" else max(data.threads)
    results: list[Result] = []
    shares: dict[int, float] = {}
    left_out: dict[str, str] = {}
    for queue in queues:
        data.say(f"train: InfoNCE, {queue:,} negatives")
        if _free_gib(device) < _needed_gib(queue):
            left_out |= dict.fromkeys((named(queue, way) for way in infonce.LOSSES), _needs(queue))
            continue
        rounds = data.pick(2, 7) if queue == LONGEST else 15
        costs = infonce.measure(queue, batch=BATCH, rounds=rounds, threads=threads, device=device.type)
        results += [_result(queue, way, cost, device, threads) for way, cost in costs.items()]
        shares[queue] = costs["streaming"].extra_mb / costs["plain"].extra_mb
    lines = {way: tuple(named(queue, way) for queue in shares) for way in infonce.LOSSES}
    return StageReport(
        stage="train",
        results=tuple(results),
        ratios=tuple(Ratio(first=named(queue, "streaming"), second=named(queue, "plain")) for queue in shares),
        promises=(promise(shares.get(LONGEST)),),
        left_out=left_out,
        footing=FOOTING,
        curves=(Curve(title=f"InfoNCE, batch {BATCH}", axis="queue", lines=lines),),
    )


def promise(share: float | None) -> Promise:
    """Of the memory; None where the plain loss was not measured."""
    return Promise(
        what=f"InfoNCE, {LONGEST:,} negatives, batch {BATCH}: streaming's memory beyond its inputs / plain's",
        measured=share,
        at_most=_SHARE,
        missing=_needs(LONGEST) if share is None else "",
    )


def doubled(device: torch.device, threads: int) -> Iterator[tuple[Contender, Contender]]:
    """Either loss of one batch and of twice as many queries."""
    queue = infonce.unit_vectors(_DOUBLED_QUEUE, device=device.type)
    for way, loss in infonce.LOSSES.items():
        once, twice = (
            Contender(
                name=f"{named(_DOUBLED_QUEUE, way)}, {times}",
                unit="losses/s",
                step=_step(loss, queue, batch, device),
                prepare=partial(torch.set_num_threads, threads),
                bytes_per_image=_BYTES,
                params=_params(_DOUBLED_QUEUE, device, threads) | {"batch": batch},
                limit=_limit(_DOUBLED_QUEUE, device, threads),
            )
            for times, batch in (("once", BATCH), ("twice", 2 * BATCH))
        )
        yield once, twice


def _step(loss: infonce.Loss, queue: Tensor, batch: int, device: torch.device) -> Callable[[], int]:
    vectors = [*(infonce.unit_vectors(batch, device=device.type) for _ in range(2)), queue]
    repeats = infonce.repeats(len(queue), device.type)

    def step() -> int:
        for _ in range(repeats):
            infonce.step(loss, vectors)
        return repeats * batch

    return step


def _result(queue: int, way: str, cost: infonce.Cost, device: torch.device, threads: int) -> Result:
    rates = [BATCH / seconds for seconds in cost.seconds]
    params = _params(queue, device, threads) | {"extra_mb": cost.extra_mb}
    return summary(named(queue, way), "losses/s", rates, _BYTES, params, _limit(queue, device, threads))


def _params(queue: int, device: torch.device, threads: int) -> dict[str, Param]:
    return {"batch": BATCH, "queue": queue, "device": device.type, "threads": threads}


def _limit(queue: int, device: torch.device, threads: int) -> Limit:
    where = "cuda" if device.type == "cuda" else threads_text(threads)
    return Limit(matrix("fp32", where), infonce_flops(queue, infonce.EMBEDDING) / GFLOP)


def _needed_gib(queue: int) -> float:
    """For the matrix of logits, three times (products, logits, their gradient), and the inputs, with room to spare."""
    return 6.0 * queue / LONGEST


def _needs(queue: int) -> str:
    return f"needs Linux or a GPU, with {_needed_gib(queue):.2g} GiB of free memory"


def _free_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**30
    known = Path("/proc/meminfo")
    lines = known.read_text().splitlines() if known.exists() else []  # Linux alone counts memory as `infonce` needs it
    return sum(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20
