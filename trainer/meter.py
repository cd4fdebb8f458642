"""What happened since the last line of a log: means, images a second, and where the time went."""

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .distributed import Ranks


class Meter:
    """Collects values that stay on the device until they are asked for, so that steps do not wait for each other."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._restart()

    def _restart(self) -> None:
        self._values: dict[str, list[Tensor]] = defaultdict(list)
        self._seconds: dict[str, float] = defaultdict(float)
        self._images = 0
        self._began = time.perf_counter()

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the time of a block as ``name``'s, as the host sees it."""
        began = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - began

    def add(self, images: int, **values: Tensor) -> None:
        """One step: how many images it took, over all ranks, and this rank's scalars."""
        self._images += images
        for name, value in values.items():
            self._values[name].append(value.detach())

    def take(self, step: int) -> dict[str, float]:
        """The mean of each value over the steps and ranks, ``images_per_s`` and ``{name}_share``; then begin anew.

        All ranks must call it together. A value that is not finite ends the run: it computes nothing any more.
        """
        means = torch.stack([torch.stack(values).double().mean() for values in self._values.values()])
        record = dict(zip(self._values, self._ranks.mean(means).tolist(), strict=True))
        if bad := [f"{name} {value}" for name, value in record.items() if not math.isfinite(value)]:
            self._ranks.fail(
                f"step {step}: expected finite values, got {', '.join(bad)}; lower --lr or use --precision fp32"
            )
        elapsed = time.perf_counter() - self._began
        record["images_per_s"] = self._images / elapsed
        record |= {f"{name}_share": seconds / elapsed for name, seconds in self._seconds.items()}
        self._restart()
        return record
