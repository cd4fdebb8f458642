"""`python -m benchmarks.infonce`: the time and the memory of the streaming InfoNCE beside the plain one's.

A batch's loss and its gradient. Memory is what they take beyond their inputs: on the CPU of the process, as the kernel
counts it (Linux only), so each measurement is a process of its own; on a GPU what torch has allocated.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

EMBEDDING = 128
_TEMPERATURE = 0.2

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one batch's loss and gradient take."""

    seconds: tuple[float, ...]  # of each timing
    extra_mb: float  # the largest memory beyond that of the inputs


def measure(
    queue: int, *, batch: int = 256, embedding: int = EMBEDDING, rounds: int = 3, threads: int = 1, device: str = "cpu"
) -> dict[str, Cost]:
    """The costs of "streaming" and of "plain"."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process:
        return process.submit(_costs, queue, batch, embedding, rounds, threads, device).result()


def plain(q_BD: Tensor, k_BD: Tensor, queue_KD: Tensor) -> Tensor:
    """As published (He et al. 2020, algorithm 1)."""
    logits = torch.cat([(q_BD * k_BD).sum(dim=1, keepdim=True), q_BD @ queue_KD.T], dim=1) / _TEMPERATURE
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def streaming(q_BD: Tensor, k_BD: Tensor, queue_KD: Tensor) -> Tensor:
    """Ours."""
    from trainer.infonce import info_nce

    return info_nce(q_BD, k_BD, queue_KD, temperature=_TEMPERATURE).loss_B.mean()


LOSSES: Mapping[str, Loss] = {"streaming": streaming, "plain": plain}


def step(loss: Loss, vectors: Sequence[Tensor]) -> None:
    """The loss of queries, their keys and a queue, and its gradient in the queries."""
    query = vectors[0].requires_grad_()
    torch.autograd.grad(loss(query, *vectors[1:]), query)


def repeats(queue: int, device: str) -> int:
    """How many steps are timed as one, so that it is long enough."""
    return 64 if device == "cuda" else max(1, min(4, 131_072 // queue))


def unit_vectors(rows: int, embedding: int = EMBEDDING, device: str = "cpu") -> Tensor:
    """Random ones, made in place: a copy would be counted as the peak of the inputs."""
    vectors = torch.randn(rows, embedding, device=device)
    return vectors.div_(torch.linalg.vector_norm(vectors, dim=1, keepdim=True))


def _costs(queue: int, batch: int, embedding: int, rounds: int, threads: int, device: str) -> dict[str, Cost]:
    """Memory first, of the lean one first: a process's peak only rises, and both are counted from that of the inputs.

    Then the times, in turns.
    """
    torch.set_num_threads(threads)
    memory = _allocated_mb if device == "cuda" else _resident_mb
    sync: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
    vectors = [unit_vectors(rows, embedding, device) for rows in (batch, batch, queue)]
    for loss in LOSSES.values():  # what libraries set up once
        step(loss, [each[:64] for each in vectors])
    before_mb, extra_mb = memory(peak=False), {}
    for name, loss in LOSSES.items():
        step(loss, vectors)
        extra_mb[name] = memory(peak=True) - before_mb
    seconds: dict[str, list[float]] = {name: [] for name in LOSSES}
    times = repeats(queue, device)
    for _ in range(rounds):
        for name, loss in LOSSES.items():
            sync()
            began = perf_counter()
            for _ in range(times):
                step(loss, vectors)
            sync()
            seconds[name].append((perf_counter() - began) / times)
    return {name: Cost(seconds=tuple(seconds[name]), extra_mb=extra_mb[name]) for name in LOSSES}


def _allocated_mb(*, peak: bool) -> float:
    """Of torch on the GPU: now, and from here on anew; or at most since then."""
    if peak:
        return torch.cuda.max_memory_allocated() / 1e6
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / 1e6


def _resident_mb(*, peak: bool) -> float:
    """Of this process, now or at most so far. Not getrusage's, which starts from its parent's."""
    status = dict(each.split(":", 1) for each in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["VmHWM" if peak else "VmRSS"].split()[0]) / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.infonce", description=measure.__doc__)
    parser.add_argument("--queue", type=int, nargs="+", default=[65_536, 1_048_576], help="negatives")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    table = Table("negatives", "loss", "seconds", "extra MB", title=f"InfoNCE and its gradient, batch {args.batch}")
    for queue in args.queue:
        for name, cost in measure(queue, batch=args.batch, threads=args.threads).items():
            table.add_row(f"{queue:,}", name, f"{median(cost.seconds):.3f}", f"{cost.extra_mb:,.1f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
