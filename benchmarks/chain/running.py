"""A MoCo run to be measured: the trainer's own parts, watched, each to be run alone or all at once."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager

import torch
from torch import Tensor

from augment import Plan, Preset
from sharding import Dataset, Order
from sharding.mapping import Bytes
from sharding.reader import AHEAD, Reader
from trainer.data import Indices, Stack, Stamps, global_batches
from trainer.pipelines import Views, views_ahead
from trainer.pretrain import Pair, Pretraining

from .watch import Watch


class _WatchedReader(Reader):
    def __init__(self, dataset: Dataset, device: torch.device, threads: int | None, watch: Watch) -> None:
        super().__init__(dataset, device, threads=threads)
        self._watch = watch

    def read(self, indices: Indices, rows: Bytes) -> None:
        with self._watch.at("read"):
            self._watch.delay("read")  # in each thread: they do a batch together
            super().read(indices, rows)


class _WatchedStamps(Stamps):
    def __init__(self, dataset: Dataset, device: torch.device, read_threads: int | None, watch: Watch) -> None:
        super().__init__(dataset, device, read_threads)
        self._reader = _WatchedReader(dataset, device, read_threads, watch)
        self._watch = watch

    def plan(self, indices: Indices, chosen: Preset, *, seed: int, epoch: int, view: int, size_px: int) -> Plan:
        with self._watch.at("augment"):
            return super().plan(indices, chosen, seed=seed, epoch=epoch, view=view, size_px=size_px)

    def render(self, stack: Stack, plan: Plan) -> Tensor:
        with self._watch.at("augment", device=True):
            self._watch.delay("augment")
            return super().render(stack, plan)


class Run:
    """The ways to run it; each method works on so many batches and returns how many images they had.

    It reads, and begins to read again, the same galaxies in the same order; the network goes on learning. Made by
    `started`.
    """

    def __init__(self, training: Pretraining, watch: Watch) -> None:
        self.training, self.watch = training, watch
        config = training.config
        training.stamps = _WatchedStamps(training.stamps.dataset, training.ranks.device, config.read_threads, watch)
        self._pairs = self.pairs(training.order)
        pair = next(self._pairs)
        self._stack = training.stamps.read(pair.unique)
        self._ready = training.stamps.render(self._stack, training.plan(pair)), pair
        self._fed = self.feed(training.order)
        self._read = training.stamps.ahead(self.pairs(training.order), lambda pair: pair.unique)

    def pairs(self, order: Order) -> Iterator[Pair]:
        """The trainer's batches of these galaxies, without an end."""
        return map(self.training.pair, global_batches(order, order.start, self.training.config.batch))

    def feed(self, order: Order) -> Generator[tuple[Pair, Views], None, None]:
        """The trainer's pipeline. Close it."""
        run = self.training
        return views_ahead(
            run.config.pipeline, run.stamps, self.pairs(order), wanted=lambda pair: pair.unique, plan=run.plan
        )

    def close(self) -> None:
        """End what reads ahead."""
        self._fed.close()
        self._read.close()

    @property
    def batch(self) -> int:
        """Galaxies in a batch."""
        return self.training.config.batch

    def drain(self) -> None:
        """Let go of what was read ahead in somebody else's time."""
        for _ in range(AHEAD + 1):
            next(self._fed)

    def drain_reader(self) -> None:
        """The same for reading alone."""
        for _ in range(AHEAD + 1):
            next(self._read)

    def read(self, batches: int) -> int:
        """Stored images to batches, nothing else."""
        for _ in range(batches):
            next(self._read)
        return batches * self.batch

    def augment(self, batches: int) -> int:
        """Batches in memory to two views of each galaxy: numbers drawn, plans made, and views rendered."""
        for _ in range(batches):
            self.training.stamps.render(self._stack, self.training.plan(next(self._pairs)))
        return batches * self.batch

    def train(self, batches: int) -> int:
        """Steps on views in memory."""
        for _ in range(batches):
            self._learn(*self._ready)
        return batches * self.batch

    def whole(self, batches: int) -> int:
        """All at once, as the trainer has them."""
        for _ in range(batches):
            with self.watch.at("wait"):
                pair, views = next(self._fed)
            self._learn(views(), pair)
        return batches * self.batch

    def watched(self, batches: int) -> int:
        """The same, looked at by the watch."""
        with self.watch.looking():
            return self.whole(batches)

    def _learn(self, views: Tensor, pair: Pair) -> None:
        queries, keys = views.chunk(2)
        with self.watch.at("train", device=True):
            self.watch.delay("train")
            self.training.learn(queries, keys, pair.order)


@contextmanager
def started(training: Pretraining, delays: Mapping[str, float] | None = None) -> Iterator[Run]:
    """A run ready to be measured."""
    training.engine.start()
    with closing(Run(training, Watch(delays, on_gpu=training.ranks.device.type == "cuda"))) as run:
        yield run


def sync(device: torch.device) -> Callable[[], None]:
    """Waits for the accelerator."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None
