"""What the host hears of the device's steps without stopping it.

A step's figures are copied to the host while the device goes on, and read when they must have arrived: two steps later.
Every rank reads the same figures after the same step, so what follows from them, to stop for one, happens on all ranks
at once. On the CPU there is nothing to wait for.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

LAG = 2  # steps behind a GPU: it has always two to work on

Note = TypeVar("Note")


@dataclass(frozen=True, slots=True)
class _Sent(Generic[Note]):
    note: Note
    values: Tensor  # on the host
    arrived: torch.cuda.Event | None


class Telemetry(Generic[Note]):
    """Figures of steps on their way to the host, in order."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._sent: deque[_Sent[Note]] = deque()

    def push(self, note: Note, values: Tensor) -> None:
        """Send a vector of figures on the device; ``note`` comes back with it."""
        if not self._on_gpu:
            self._sent.append(_Sent(note, values.detach().clone(), None))
            return
        host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        host.copy_(values.detach(), non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        self._sent.append(_Sent(note, host, arrived))

    def due(self, *, drain: bool = False) -> Iterator[tuple[Note, list[float]]]:
        """What is old enough to have arrived; with ``drain`` all, and the host waits for it."""
        while len(self._sent) > (LAG if self._on_gpu and not drain else 0):
            sent = self._sent.popleft()
            if sent.arrived is not None:
                sent.arrived.synchronize()
            yield sent.note, sent.values.tolist()
