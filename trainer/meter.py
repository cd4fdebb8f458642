"""What happened since the last line of a log: means, images a second, where the time went, and the memory it took."""

import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Lap:
    """When the host had begun a step on the device [s], and where its time had gone since the step before."""

    ended: float
    seconds: Mapping[str, float]


class Meter:
    """Collects the figures of steps as the host hears of them."""

    def __init__(self, device: torch.device, flops_per_image: float = 0.0) -> None:
        self._device = device
        self._flops_per_image = flops_per_image
        self._lap: dict[str, float] = defaultdict(float)
        self._restart(time.perf_counter())

    def _restart(self, began: float) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)
        self._seconds: dict[str, float] = defaultdict(float)
        self._images = 0
        self._began = self._ended = began

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the time of a block as ``name``'s, as the host sees it: on a GPU, which is behind, an upper bound."""
        began = time.perf_counter()
        yield
        self._lap[name] += time.perf_counter() - began

    def lap(self) -> Lap:
        """Of the step just begun; a GPU's figures come later, those of several steps perhaps at once."""
        lap = Lap(time.perf_counter(), dict(self._lap))
        self._lap.clear()
        return lap

    def pending(self) -> dict[str, list[float]]:
        """The figures of the steps since the last record: for the next one, of a run that is stopped and goes on."""
        return dict(self._values)

    def carry(self, pending: Mapping[str, list[float]]) -> None:
        """Begin with figures of steps that an earlier process took."""
        for name, values in pending.items():
            self._values[name].extend(values)

    def add(self, images: int, values: Mapping[str, float], lap: Lap) -> None:
        """One step: how many images it took, over all ranks, and its figures."""
        self._images += images
        self._ended = lap.ended
        for name, seconds in lap.seconds.items():
            self._seconds[name] += seconds
        for name, value in values.items():
            self._values[name].append(value)

    def take(self) -> dict[str, float]:
        """The mean of each figure, ``images_per_s``, ``{name}_share``, ``memory_gb``, ``tflops``; then begin anew."""
        elapsed = self._ended - self._began
        record = {name: sum(values) / len(values) for name, values in self._values.items()}
        record["images_per_s"] = self._images / elapsed
        record |= {f"{name}_share": seconds / elapsed for name, seconds in self._seconds.items()}
        record["memory_gb"] = self._memory_bytes() / 1e9
        record["tflops"] = self._flops_per_image * record["images_per_s"] / 1e12
        self._restart(self._ended)
        return record

    def _memory_bytes(self) -> int:
        """The most that the first rank has held: of its GPU's memory, or of the machine's where it has no GPU."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux
