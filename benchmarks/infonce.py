"""`python -m benchmarks.infonce`: the time and the memory of the streaming InfoNCE beside the plain one's.

A batch's loss and its gradient, on the CPU. Memory is what the process takes beyond its inputs, as the kernel counts it
(Linux only); so each measurement is a process of its own.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Sequence
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

_TEMPERATURE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one batch's loss and gradient take."""

    seconds: float  # median
    extra_mb: float  # the largest resident memory beyond that of the inputs


def measure(
    queue: int, *, batch: int = 256, embedding: int = 128, rounds: int = 3, threads: int = 1
) -> dict[str, Cost]:
    """The costs of "streaming" and of "plain"."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process:
        return process.submit(_costs, queue, batch, embedding, rounds, threads).result()


def plain(q_BD: Tensor, k_BD: Tensor, queue_KD: Tensor) -> Tensor:
    """As published (He et al. 2020, algorithm 1)."""
    logits = torch.cat([(q_BD * k_BD).sum(dim=1, keepdim=True), q_BD @ queue_KD.T], dim=1) / _TEMPERATURE
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def streaming(q_BD: Tensor, k_BD: Tensor, queue_KD: Tensor) -> Tensor:
    """Ours."""
    from trainer.infonce import info_nce

    return info_nce(q_BD, k_BD, queue_KD, temperature=_TEMPERATURE).loss_B.mean()


def _costs(queue: int, batch: int, embedding: int, rounds: int, threads: int) -> dict[str, Cost]:
    """The lean one first: a process's peak only rises, and both are counted from that of the inputs."""
    torch.set_num_threads(threads)
    vectors = [_unit_vectors(rows, embedding) for rows in (batch, batch, queue)]
    contenders: dict[str, Callable[..., Tensor]] = {"streaming": streaming, "plain": plain}
    for loss in contenders.values():  # what libraries set up once
        _step(loss, [each[:64] for each in vectors])
    before_mb = _resident_mb("VmRSS")
    costs = {}
    for name, loss in contenders.items():
        seconds = median(_step(loss, vectors) for _ in range(rounds))
        costs[name] = Cost(seconds=seconds, extra_mb=_resident_mb("VmHWM") - before_mb)
    return costs


def _unit_vectors(rows: int, embedding: int) -> Tensor:
    """Made in place: a copy would be counted as the peak of the inputs."""
    vectors = torch.randn(rows, embedding)
    return vectors.div_(torch.linalg.vector_norm(vectors, dim=1, keepdim=True))


def _step(loss: Callable[..., Tensor], vectors: Sequence[Tensor]) -> float:
    query = vectors[0].requires_grad_()
    began = perf_counter()
    torch.autograd.grad(loss(query, *vectors[1:]), query)
    return perf_counter() - began


def _resident_mb(line: str) -> float:
    """Of this process: "VmRSS" now, "VmHWM" at most so far. Not getrusage's, which starts from its parent's."""
    status = dict(each.split(":", 1) for each in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status[line].split()[0]) / 1e6


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
            table.add_row(f"{queue:,}", name, f"{cost.seconds:.3f}", f"{cost.extra_mb:,.1f}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
