"""`python -m trainer pretrain`: MoCo v2 on the images of a dataset, in one process or under torchrun.

Everything random is a function of (seed, epoch, sample), so a run that is killed goes on from its checkpoint as if
nothing had happened; on another number of ranks it goes on too, the same up to rounding. The galaxies of the test split
are left out, so nothing has seen what is judged later. The last partial batch of an epoch is dropped.
"""

import argparse
import math
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from augment import Plan, preset
from sharding import Dataset, Order, State

from .checkpoint import Checkpoints
from .collapse import keys_spread
from .config import PretrainConfig
from .data import Batch, Indices, Stamps, check_view_px, global_batches
from .distributed import Ranks, joined
from .engine import Engine
from .errors import TrainerError
from .flops import pretrain_step_flops
from .infonce import info_nce
from .moco import MoCo, gather_keys, key_permutation, normalise
from .pipelines import check_pipeline, views_ahead
from .precision import Arithmetic
from .resnet import describe
from .runfolder import RunInfo
from .running import Training, carry_out
from .schedule import cosine
from .settings import add_settings, config_from
from .signals import StopSignals
from .source import add_source, open_source
from .suspects import suspects
from .telemetry import LAG
from .trace import Record
from .watch import Note, Watch

QUERY, KEY = 0, 1  # numbers of the two views


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_source(parser, "dataset to learn from (its labels are not used)")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; resumed where it holds a checkpoint"
    )
    add_settings(parser, PretrainConfig)


def run(args: argparse.Namespace) -> int:
    """Train to the end of the schedule."""
    config = config_from(args, PretrainConfig)
    with joined() as ranks:
        console = Console(quiet=not ranks.first)
        with ranks.together():
            dataset = open_source(args, console)
        with dataset:
            pretrain(config, dataset, args.out, ranks=ranks, console=console)
    return 0


def pretrain(config: PretrainConfig, dataset: Dataset, out: Path, *, ranks: Ranks, console: Console) -> None:
    """Train in the folder ``out``, from its newest checkpoint if there is one; TrainerError where it is another's."""

    def prepare() -> tuple[Training, RunInfo]:
        info = RunInfo(kind="pretrain", config=config, dataset=dataset.digest, bands=dataset.bands)
        return Pretraining(config, dataset, ranks), info

    carry_out(prepare, out, ranks=ranks, console=console)


@dataclass(frozen=True, slots=True)
class Pair:
    """This rank's part of a global batch: its queries and the keys that it encodes, each galaxy read once."""

    batch: Batch
    unique: Indices  # the dataset's samples to read
    queries: Indices  # places in ``unique``
    keys: Indices
    order: Indices  # the place in the batch of each key, in the order in which all ranks encode them


class Pretraining:
    """The network, its optimiser and how far they are."""

    def __init__(self, config: PretrainConfig, dataset: Dataset, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        self.stamps = Stamps(dataset, ranks.device, config.read_threads)
        self.preset = preset(config.preset).without(config.without)
        check_view_px(dataset, config.view_px)
        check_pipeline(config.pipeline)
        members = np.union1d(dataset.split("train"), dataset.split("validation"))
        self.order = Order(members, config.seed, dataset=dataset.digest)
        steps = config.epochs * self.order.batches_per_epoch(config.batch)
        self.total_steps = min(steps, config.max_steps or steps)
        if config.warmup_steps > self.total_steps:
            raise TrainerError(
                f"--warmup-steps: expected at most the {self.total_steps} steps of the run, got {config.warmup_steps}"
            )
        self.step, self.state = 0, self.order.start
        self.moco = self._network(len(dataset.bands))
        groups = [{"params": list(self.moco.encoder_q.parameters()), "first_lr": config.peak_lr}]
        self.engine = Engine(self.moco.encoder_q, groups, config, ranks, follower=self.moco.encoder_k)
        self.stopped = False
        self._losses: list[float] = []  # of the records since the last checkpoint
        self._best, self._pending = math.inf, dict[str, list[float]]()
        self._lately: deque[tuple[int, Pair]] = deque(maxlen=LAG + 1)

    def _network(self, bands: int) -> MoCo:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            moco = MoCo(self.config, bands)
        moco.set_scale(self.stamps.noise)
        self.ranks.divide_statistics(moco, self.config)
        return Arithmetic(self.config.precision, self.ranks.device).prepare(moco).train()

    def opening(self) -> str:
        """What is about to happen, in a line."""
        return (
            f"pretrain: {describe(self.moco.encoder_q)} on {len(self.order.members):,} galaxies, "
            f"{self.ranks.describe()}, peak learning rate {self.config.peak_lr:.3g}, "
            f"steps {self.step} to {self.total_steps}"
        )

    def closing(self) -> str:
        """What has come of it, in a line."""
        return f"pre-trained, {self.step} steps"

    def line(self, record: Record) -> str:
        """A record as a person reads it."""
        return (
            f"step {record['step']}/{self.total_steps}  epoch {record['epoch']}  loss {record['loss']:.4f}  "
            f"accuracy {record['accuracy']:.3f}  lr {record['lr']:.4f}  {record['images_per_s']:.0f} images/s  "
            f"waiting for data {record['wait_share']:.1%}"
        )

    @property
    def at_checkpoint(self) -> bool:
        """Whether a checkpoint is due after the step just made."""
        return self.step % self.config.checkpoint_every_steps == 0 or self.step == self.total_steps

    def records(self, signals: StopSignals) -> Iterator[Record]:
        """Train to the end or to a signal; gives a record every so many steps, and at each checkpoint."""
        self.engine.start()
        flops = pretrain_step_flops(self.config, len(self.stamps.dataset.bands))
        watch = Watch(
            self.config, self.ranks, signals, flops_per_image=flops, pending=self._pending, explain=self._explain
        )
        self._pending = {}  # the watch has them now
        pairs = map(self.pair, global_batches(self.order, self.state, self.config.batch))
        ahead = views_ahead(self.config.pipeline, self.stamps, pairs, wanted=lambda pair: pair.unique, plan=self.plan)
        with closing(ahead) as fed:
            while self.step < self.total_steps and not watch.stopped:
                with watch.meter.timed("wait"):
                    pair, views = next(fed)
                with watch.meter.timed("augment"):
                    queries, keys = views().chunk(2)
                rate, figures = self.learn(queries, keys, pair.order, signal=watch.signal())
                self.state = pair.batch.following
                self._lately.append((self.step, pair))
                if self.at_checkpoint:
                    self.engine.check_weights(self.step)
                note = Note(self.step, pair.batch.state.epoch, rate, self.config.batch, last=self.at_checkpoint)
                watch.push(note, figures)
                yield from self._noted(watch.heard(drain=self.at_checkpoint))
            yield from self._noted(watch.heard(drain=True))
            self.stopped, self._pending = watch.stopped, watch.meter.pending()

    def _noted(self, records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            self._losses.append(record["loss"])
            yield record

    def _explain(self, step: int) -> str:
        pair = next(pair for made, pair in self._lately if made == step)
        views = self.stamps.render(self.stamps.read(pair.unique), self.plan(pair))
        taken = np.concatenate([pair.unique[pair.queries], pair.unique[pair.keys]])
        return suspects(self.moco.encoder_q, views, taken, self.stamps.dataset, self.ranks)

    def pair(self, batch: Batch) -> Pair:
        """What this rank takes of a global batch."""
        state, share = batch.state, self.ranks.share(len(batch.indices))
        order = key_permutation(len(batch.indices), seed=state.seed, epoch=state.epoch, position=state.position)
        wanted = batch.indices[share], batch.indices[order[share]]
        unique, place = np.unique(np.concatenate(wanted), return_inverse=True)
        queries, keys = np.split(place, 2)
        return Pair(batch, unique, queries, keys, order)

    def plan(self, pair: Pair) -> Plan:
        """How both views are made of the stamps of ``pair.unique``: the queries', then the keys'."""
        return Plan.joined([self._plan(pair, pair.queries, QUERY), self._plan(pair, pair.keys, KEY)])

    def _plan(self, pair: Pair, places: Indices, view: int) -> Plan:
        seed, epoch = self.config.seed, pair.batch.state.epoch
        wanted = pair.unique[places]
        plan = self.stamps.plan(wanted, self.preset, seed=seed, epoch=epoch, view=view, size_px=self.config.view_px)
        return replace(plan, place=torch.from_numpy(places))

    def learn(
        self, queries: Tensor, keys: Tensor, order: Indices, *, signal: Tensor | None = None
    ) -> tuple[float, dict[str, Tensor]]:
        """One step of MoCo; ``order`` is that of a `Pair`. Gives its learning rate, and its figures on the device."""
        factor = cosine(self.step, total=self.total_steps, warmup=self.config.warmup_steps)
        self.engine.begin(factor)
        permutation = self.ranks.send(torch.from_numpy(order))
        k = gather_keys(self.engine.follow(keys), permutation, self.ranks.gather)
        own = k[self.ranks.share(len(k))]

        def losses(embedding: Tensor, rows: slice) -> dict[str, Tensor]:
            told = info_nce(normalise(embedding), own[rows], self.moco.queue, temperature=self.config.temperature)
            return {"loss": told.loss_B, "accuracy": told.correct_B}

        figures = self.engine.learn(queries, losses) | {"spread": keys_spread(k)}
        figures["signal"] = torch.zeros_like(figures["loss"]) if signal is None else signal
        figures, counts = self.engine.finish(figures)
        self.moco.follow(counts)
        self.moco.enqueue(k, counts)
        self.step += 1
        return self.config.peak_lr * factor, figures

    def save(self, checkpoints: Checkpoints) -> None:
        """Best is the checkpoint before which the mean loss was lowest, once the queue held nothing but keys."""
        best = False
        if self.at_checkpoint:
            mean = sum(self._losses) / len(self._losses)
            best = self.step * self.config.batch > self.config.queue and mean < self._best
            self._best, self._losses = mean if best else self._best, []
        checkpoints.save(self.step, self.state_dict(), best=best)

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "order": self.state.as_dict(),
            "model": self.moco.state_dict(),
            "best": {"loss": self._best, "since": self._losses},
            "pending": self._pending,
            "ranks": self.ranks.size,
            **self.engine.state_dict(),
        }

    def load_state_dict(self, checkpoint: dict[str, Any]) -> None:
        """Stand where ``checkpoint`` was written; the inverse of `state_dict`, and its step."""
        self.ranks.check_resumed(checkpoint["ranks"], self.config)
        self.step = checkpoint["step"]
        self.state = State.from_dict(checkpoint["order"])
        self.moco.load_state_dict(checkpoint["model"])
        self.engine.load_state_dict(checkpoint)
        self._best, self._losses = checkpoint["best"]["loss"], list(checkpoint["best"]["since"])
        self._pending = checkpoint["pending"]
