"""How the processes of one start find each other, and none that is gone.

torchrun starts ranks again after one has died, and gives the new ones the store of the old ones, with the addresses
that those left: a new rank may then wait for a dead one. So the ranks of a start agree on a name for themselves first,
and keep everything under it.

A node that loses its power or its network tells nobody: only time says that it is gone.
"""

import hashlib
import time
import uuid
from datetime import timedelta

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from .errors import TrainerError

POLL_S = 0.01
# How long a rank waits for another. Torch's own for NCCL; for gloo it is half an hour there, in which nobody works.
PATIENCE = timedelta(minutes=10)
# How gloo and nccl say that they did not get through to a peer.
_UNREACHABLE = ("connectFullMesh", "Connection refused", "No route to host", "timed out")


def join_group(backend: str) -> None:
    """`init_process_group` by the environment that torchrun sets; TrainerError where the ranks do not find each other.

    Then, too, a rank that waits for another for longer than `PATIENCE` gives up.
    """
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    named = PrefixStore(name_of_start(store, rank, size), store)
    try:
        dist.init_process_group(backend, store=named, rank=rank, world_size=size, timeout=PATIENCE)
    except RuntimeError as err:
        if not any(text in str(err) for text in _UNREACHABLE):
            raise
        raise TrainerError(
            f"rank {rank}: another rank cannot be reached ({str(err).splitlines()[0]}); if its address there is not "
            f"that of the network between the nodes, name the interface to it in {backend.upper()}_SOCKET_IFNAME"
        ) from err


def name_of_start(store: Store, rank: int, size: int) -> str:
    """A name that all ranks of this start, and no others, come to.

    Each says in the store who it is, then, until all say the same, whom it sees. One that is gone has not seen those
    that came after it, so it is in no group that all members say they see. TrainerError where one does not come.
    """
    store.set(f"here/{rank}", uuid.uuid4().hex)
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while time.monotonic() < deadline:
        if store.check([f"here/{other}" for other in range(size)]):
            seen = [store.get(f"here/{other}") for other in range(size)]
            name = hashlib.sha256(b" ".join(seen)).hexdigest()
            store.set(f"{name}/{rank}", "seen")
            if store.check([f"{name}/{other}" for other in range(size)]):
                return name
        time.sleep(POLL_S)
    raise TrainerError(f"rank {rank}: expected {size} ranks within {PATIENCE}, got fewer; see what the others say")
