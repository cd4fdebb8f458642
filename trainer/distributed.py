"""One process or many: who this process is, and the few things that ranks do together.

Under torchrun the ranks form a process group (nccl where each has a GPU, else gloo); without it there is one rank and
nothing is sent. Every collective of the trainer is here, but that of batch norm over ranks (`resnet`).
"""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from .config import Compression, TrainingConfig
from .errors import USER_ERRORS, TrainerError
from .rendezvous import PATIENCE, join_group
from .resnet import set_batch_norm_groups

# How gloo and nccl say that a peer has gone; the peer has printed the reason.
PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
PEER_SILENT = "Timed out waiting"  # gloo's; nccl ends the process, and says so itself

# How DDP is told that buffers are each rank's own: newer versions of torch warn of the older name.
_NEWER = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
_BUFFERS_OPTION = "forward_sync_buffers" if _NEWER else "broadcast_buffers"


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among its peers."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this rank is the one that writes and speaks."""
        return self.rank == 0

    def divide(self, number: int, what: str) -> int:
        """Each rank's part of a number that all must share evenly."""
        if number % self.size:
            raise TrainerError(f"{what}: expected a multiple of the {self.size} ranks, got {number}")
        return number // self.size

    def share(self, batch: int) -> slice:
        """This rank's part of a global batch: as many for each, in order."""
        each = self.divide(batch, "--batch")
        return slice(self.rank * each, (self.rank + 1) * each)

    def divide_statistics(self, network: nn.Module, config: TrainingConfig) -> None:
        """Say over which images each batch norm of the network takes its statistics, on this rank, in each part.

        TrainerError where a group of ``--batch-norm-groups`` would not lie whole in one part of one rank.
        """
        rows = self.divide(config.batch, "--batch")
        if rows % config.accumulate:
            raise TrainerError(
                f"--accumulate: expected a divisor of each rank's {rows} galaxies, got {config.accumulate}"
            )
        if config.batch_norm != "groups":
            set_batch_norm_groups(network, 1, everyone=config.batch_norm == "sync")
            return
        groups = self.divide(config.batch_norm_groups, "--batch-norm-groups")
        if groups % config.accumulate:
            raise TrainerError(
                f"--accumulate: expected a divisor of each rank's {groups} of --batch-norm-groups, "
                f"got {config.accumulate}"
            )
        set_batch_norm_groups(network, groups // config.accumulate)

    def check_compression(self, compression: Compression) -> None:
        """Refuse what these ranks cannot send."""
        if compression == "bf16" and self.device.type == "cpu" and self.size > 1:
            raise TrainerError("--gradient-compression: expected none or fp16 on CPUs, got bf16, which needs NCCL")

    def check_resumed(self, ranks: int, config: TrainingConfig) -> None:
        """Refuse to go on on another number of ranks where that would be another run."""
        if config.batch_norm == "rank" and ranks != self.size:
            raise TrainerError(
                f"--batch-norm rank: expected the {ranks} ranks that the run began with, got {self.size}; its "
                "statistics depend on them: resume on as many, or use --batch-norm groups in a new run"
            )

    def describe(self) -> str:
        """How many ranks there are, on what."""
        return f"{self.size} rank{'s' if self.size > 1 else ''} on {self.device.type}"

    def send(self, values: Tensor) -> Tensor:
        """Something small on its way from the host to the device; nobody waits for it."""
        return values if self.device.type == "cpu" else values.pin_memory().to(self.device, non_blocking=True)

    def gather(self, part: Tensor) -> Tensor:
        """The parts of all ranks, equal in shape, stacked in the order of the ranks: (rank, ...)."""
        if self.size == 1:
            return part[None]
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part.contiguous())
        return torch.stack(parts)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the ranks, element by element."""
        if self.size == 1:
            return values
        if self.device.type == "cpu":
            return _sum_in_order(list(self.gather(values))) / self.size
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def wrap(self, module: nn.Module, *, compression: Compression = "none", parts: int = 1) -> nn.Module:
        """A module whose gradients are the mean over the ranks, sent while the rest is computed.

        ``compression`` rounds them for the way; ``parts``: in how many parts a batch goes through. Buffers stay each
        rank's own.
        """
        if self.size == 1:
            return module
        own_buffers: dict[str, Any] = {_BUFFERS_OPTION: False}
        wrapped = DistributedDataParallel(module, gradient_as_bucket_view=True, static_graph=parts == 1, **own_buffers)
        hooks = {"bf16": default_hooks.bf16_compress_hook, "fp16": default_hooks.fp16_compress_hook}
        if compression != "none":
            wrapped.register_comm_hook(None, hooks[compression])
        elif self.device.type == "cpu":
            wrapped.register_comm_hook(None, _mean_in_order)
        return wrapped

    @contextmanager
    def exchanging(self, wrapped: nn.Module, *, now: bool) -> Iterator[None]:
        """A backward pass whose gradients go to the other ranks ``now``, or are kept to be sent with later ones."""
        with nullcontext() if now or not isinstance(wrapped, DistributedDataParallel) else wrapped.no_sync():
            yield

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that all ranks pass, or none: a user's error on any of them ends them all, and is told once.

        Nothing in the block may wait for another rank.
        """
        own = ""
        try:
            yield
        except USER_ERRORS as err:
            if self.size == 1:
                raise
            own = str(err)
        if self.size == 1:
            return
        errors = [""] * self.size
        dist.all_gather_object(errors, own)
        if found := next(filter(None, errors), None):
            self.fail(found)

    def fail(self, reason: str) -> NoReturn:
        """End on a user's error that every rank has met: the first raises it, the others follow it in silence."""
        if self.first:
            raise TrainerError(reason)
        with suppress(RuntimeError):  # returns when the first has spoken and gone; ending earlier would end it too
            dist.barrier()
        sys.exit(2)

    def wait(self) -> None:
        """For the others to come here."""
        if self.size > 1:
            dist.barrier()

    def agree(self, value: int, what: str) -> None:
        """Refuse to go on where the ranks hold different values."""
        values = self.gather(torch.tensor([value], device=self.device)).flatten().tolist()
        if len(set(values)) > 1:
            self.fail(f"{what}: expected one value on all ranks, got {values}")

    def spread(self, total: int) -> npt.NDArray[np.int64]:
        """Which of ``total`` rows this rank works on: as many for each rank, so that some come twice."""
        each = -(-total // self.size)
        return np.minimum(self.rank + self.size * np.arange(each), total - 1)

    def collect(self, part: Tensor, total: int) -> Tensor:
        """All ``total`` rows in order, from every rank's rows of `spread`."""
        return self.gather(part).transpose(0, 1).flatten(0, 1)[:total]


def _mean_in_order(_: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    """Gradients of all ranks, added up in the order of the ranks.

    gloo adds in an order that depends on where in a bucket a number lies, and DDP lays its buckets out anew after a
    start: with more than two ranks a resumed run would be rounded in another way than an undisturbed one (seen).
    """
    own, size = bucket.buffer(), dist.get_world_size()
    parts = [torch.empty_like(own) for _ in range(size)]
    gathered = dist.all_gather(parts, own, async_op=True).get_future()
    mean: torch.futures.Future[Tensor] = gathered.then(lambda _: _sum_in_order(parts) / size)
    return mean


def _sum_in_order(parts: list[Tensor]) -> Tensor:
    total = parts[0].clone()
    for part in parts[1:]:
        total += part
    return total


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the ranks that torchrun started, or be the only one; leave them at the end of the block."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(0, 1, _device(0))
        return
    device = _device(int(os.environ.get("LOCAL_RANK", "0")))
    join_group("nccl" if device.type == "cuda" else "gloo")
    rank = dist.get_rank()
    try:
        yield Ranks(rank, size, device)
    except RuntimeError as err:
        if any(text in str(err) for text in PEER_LOST):
            raise TrainerError(f"rank {rank}: another rank ended; its error says why") from err
        if PEER_SILENT in str(err):
            raise TrainerError(
                f"rank {rank}: another rank has not answered for {PATIENCE}; are its node and the network up?"
            ) from err
        raise
    finally:
        with suppress(RuntimeError):  # leaving a group that a peer has broken; left to the interpreter's end, it aborts
            dist.destroy_process_group()


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise TrainerError(
            f"rank {local_rank} of this machine: expected a GPU for each rank, got {torch.cuda.device_count()}; "
            "start as many ranks as GPUs, or hide them with CUDA_VISIBLE_DEVICES="
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)
