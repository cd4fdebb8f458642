"""How the processes of one start find each other, and none that is gone.

torchrun starts ranks again after one has died, and gives the new ones the store of the old ones, with the addresses
that those left: a new rank may then wait for a dead one. So the ranks of a start agree on a name for themselves first,
and keep everything under it.
"""

import hashlib
import time
import uuid

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

POLL_S = 0.01


def join_group(backend: str) -> None:
    """`init_process_group` by the environment that torchrun sets."""
    store, rank, size = next(rendezvous("env://"))
    named = PrefixStore(name_of_start(store, rank, size), store)
    dist.init_process_group(backend, store=named, rank=rank, world_size=size)


def name_of_start(store: Store, rank: int, size: int) -> str:
    """A name that all ranks of this start, and no others, come to.

    Each says in the store who it is, then, until all say the same, whom it sees. One that is gone has not seen those
    that came after it, so it is in no group that all members say they see.
    """
    store.set(f"here/{rank}", uuid.uuid4().hex)
    while True:
        seen = [store.get(f"here/{other}") for other in range(size)]
        name = hashlib.sha256(b" ".join(seen)).hexdigest()
        store.set(f"{name}/{rank}", "seen")
        if store.check([f"{name}/{other}" for other in range(size)]):
            return name
        time.sleep(POLL_S)
