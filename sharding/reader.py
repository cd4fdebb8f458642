"""Batches of stored images, read ahead by threads into buffers that are used again, and copied to the device.

The pixels come as they are stored; `Batch.pixels` decodes them where they are. Which samples a batch holds is the
caller's affair (see `order`). Only trainers import this: it needs torch.
"""

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import torch
from torch import Tensor

from .dataset import Dataset, Indices
from .decode import decode_on_device
from .encoding import decode
from .mapping import Bytes

_TORCH = {"<f4": torch.float32, "<f2": torch.float16, "<i2": torch.int16}

AHEAD = 2  # batches that are read, or being read, while one is used


@dataclass(frozen=True, slots=True)
class Batch:
    """Stored images of some samples, on the device; on the CPU, asking for the next batch overwrites them."""

    indices: Indices  # (n,) which samples of the dataset
    stored: Tensor  # (n, band, y, x), float32, float16 or int16
    objid: Tensor | None = None  # int16: (n,), see `decode`
    step: Tensor | None = None  # int16: (n, band)

    def pixels(self) -> Tensor:
        """The images: float32 (n, band, y, x), nanomaggies per pixel, not dereddened."""
        if self.objid is None or self.step is None:
            return self.stored.float()  # float32 as it is, not copied
        if self.stored.device.type == "cpu":  # the compiled kernel is many times as fast there
            return torch.from_numpy(decode(self.stored.numpy(), self.objid.numpy(), self.step.numpy()))
        return decode_on_device(self.stored, self.objid, self.step)


class Reader:
    """Reads a dataset in any order, each image verified, with ``threads`` that do not hold the interpreter lock.

    Memory: `AHEAD` + 1 batches an iteration, pinned where the device is a GPU; kept for the next one.
    """

    def __init__(
        self, dataset: Dataset, device: torch.device, *, threads: int | None = None, check: bool = True
    ) -> None:
        self.dataset = dataset
        self.device = device
        self.threads = threads or default_threads()
        self._check = check
        self._spare: deque[_Buffer] = deque()

    def batches(self, wanted: Iterable[Indices]) -> Generator[Batch, None, None]:
        """A batch for each array of sample indices, in order; they are read ahead, at most `AHEAD` at a time.

        An error of reading is raised in its batch's place, one of ``wanted`` itself when it is met. Closing the
        generator, or letting go of it, ends its threads. It cannot go on in a forked process: RuntimeError; make a new
        one there.
        """
        waiting, owner = iter(wanted), os.getpid()
        free = deque(self._buffer() for _ in range(AHEAD + 1))
        pending: deque[_Filling] = deque()
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="reader")
        try:
            pending.extend(self._begin(pool, free, islice(waiting, AHEAD)))
            while pending:
                filling = pending.popleft()
                batch = filling.result()
                pending.extend(self._begin(pool, free, islice(waiting, 1)))
                yield batch
                if os.getpid() != owner:
                    raise RuntimeError("a reader's batches cannot go on in a forked process: begin anew there")
                if pending:  # the last batch keeps its own
                    free.append(filling.buffer)
        finally:
            if os.getpid() == owner:  # a forked process has no thread to wait for, but perhaps a lock that one held
                pool.shutdown(cancel_futures=True)
                self._spare.extend((*free, *(filling.buffer for filling in pending)))

    def _buffer(self) -> "_Buffer":
        try:
            return self._spare.popleft()
        except IndexError:
            return _Buffer(self.device)

    def _begin(
        self, pool: ThreadPoolExecutor, free: "deque[_Buffer]", wanted: Iterator[Indices]
    ) -> "Iterator[_Filling]":
        for indices in wanted:
            yield _Filling(self, pool, free.popleft(), np.asarray(indices, dtype=np.int64))

    def read(self, indices: Indices, rows: Bytes) -> None:
        """Fill rows of a batch; a thread's work."""
        self.dataset.read_into(indices, rows, check=self._check)


class _Buffer:
    """Host memory of one batch, as large as the largest that it held, and the copy from it that is under way."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._copied: torch.cuda.Event | None = None

    def rows(self, count: int, size: int) -> Tensor:
        """Room for rows of bytes: (count, size). Waits until what it held has left for the device."""
        if self._copied is not None:
            self._copied.synchronize()
        if len(self._memory) < count * size:
            self._memory = torch.empty(count * size, dtype=torch.uint8, pin_memory=self._stream is not None)
        return self._memory[: count * size].view(count, size)

    def send(self, *held: Tensor) -> tuple[Tensor, ...]:
        """This memory, and what little goes with it, on the device: copies under way; on the CPU the same tensors."""
        if self._stream is None:
            return held
        with torch.cuda.stream(self._stream):
            sent = tuple(tensor.to(self._device, non_blocking=True) for tensor in held)
            self._copied = self._stream.record_event()
        return sent

    def received(self, sent: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What `send` gave, for use on the current stream, which waits for the copies; the host does not."""
        if self._copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(self._copied)
            for tensor in sent:
                tensor.record_stream(current)  # or its memory may be given away while this stream still reads it
        return sent


class _Filling:
    """A batch on its way: threads fill parts of a buffer, and the last of them sends it to the device."""

    def __init__(self, reader: Reader, pool: ThreadPoolExecutor, buffer: _Buffer, indices: Indices) -> None:
        self.buffer = buffer
        self._reader, self._indices = reader, indices
        self._rows = buffer.rows(len(indices), reader.dataset.pixel_bytes)
        self._sent: tuple[Tensor, ...] = ()
        bounds = np.linspace(0, len(indices), reader.threads + 1).astype(int).tolist()
        self._unfilled, self._lock = reader.threads, threading.Lock()
        rows = self._rows.numpy()
        self._parts = [pool.submit(self._fill, indices[a:b], rows[a:b]) for a, b in pairwise(bounds)]

    def _fill(self, indices: Indices, rows: Bytes) -> None:
        self._reader.read(indices, rows)
        with self._lock:
            self._unfilled -= 1
            is_last = self._unfilled == 0
        if is_last:
            dataset = self._reader.dataset
            stored = self._rows.view(_TORCH[dataset.stored_dtype.str]).view(len(self._indices), *dataset.image_shape)
            dither = dataset.dither(self._indices) or ()
            self._sent = self.buffer.send(stored, *map(torch.from_numpy, dither))

    def result(self) -> Batch:
        """The batch, once it is whole; raises what went wrong."""
        for part in self._parts:
            part.result()
        return Batch(self._indices, *self.buffer.received(self._sent))


def default_threads() -> int:
    """Four at most: memory is no faster with more."""
    return min(4, len(os.sched_getaffinity(0)))
