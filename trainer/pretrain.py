"""`python -m trainer pretrain`: MoCo v2 on the images of a dataset, in one process or under torchrun.

Everything random is a function of (seed, epoch, sample), so a run that is killed goes on from its checkpoint as if
nothing had happened; on another number of ranks it goes on too, the same up to rounding. The galaxies of the test split
are left out, so nothing has seen what is judged later. The last partial batch of an epoch is dropped.
"""

import argparse
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from augment import Plan, preset
from sharding import Dataset, Order, State

from .config import PretrainConfig
from .data import Batch, Indices, Stamps, check_view_px, global_batches
from .distributed import Ranks, joined
from .meter import Meter
from .moco import MoCo, info_nce, key_permutation, normalise
from .pipelines import check_pipeline, views_ahead
from .precision import Arithmetic
from .resnet import describe, set_batch_norm_groups
from .runfolder import RunFolder, RunInfo
from .runlog import Record, RunLog
from .schedule import cosine
from .settings import add_settings, config_from
from .source import add_source, open_source

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
    folder = RunFolder(out)
    info = RunInfo(kind="pretrain", config=config, dataset=dataset.digest, bands=dataset.bands)
    with ranks.together():
        training = Pretraining(config, dataset, ranks)
        if checkpoint := folder.enter(info):
            training.load_state_dict(checkpoint)
    ranks.agree(training.step, f"{out}: step to begin from")
    if ranks.first:
        folder.publish(info)
    with RunLog(out, from_step=training.step, console=console) if ranks.first else nullcontext() as log:
        if log:
            log.say(training.opening())
        for record in training.records():
            if log:
                log.record(record, line(record, training.total_steps))
            if log and training.at_checkpoint:
                folder.checkpoints.save(training.step, training.state_dict())
        if log:
            log.say(f"{out}: pre-trained, {training.step} steps")


def line(record: Record, total_steps: int) -> str:
    """A record as a person reads it."""
    return (
        f"step {record['step']}/{total_steps}  epoch {record['epoch']}  loss {record['loss']:.4f}  "
        f"accuracy {record['accuracy']:.3f}  lr {record['lr']:.4f}  {record['images_per_s']:.0f} images/s  "
        f"waiting for data {record['wait_share']:.1%}"
    )


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
        self.preset = preset(config.preset)
        check_view_px(dataset, config.view_px)
        check_pipeline(config.pipeline)
        members = np.union1d(dataset.split("train"), dataset.split("validation"))
        self.order = Order(members, config.seed, dataset=dataset.digest)
        steps = config.epochs * self.order.batches_per_epoch(config.batch)
        self.total_steps = min(steps, config.max_steps or steps)
        self.step = 0
        self.state = self.order.start
        self.moco = self._network(len(dataset.bands)).to(ranks.device)
        self.optimiser = torch.optim.SGD(
            self.moco.encoder_q.parameters(), config.lr, config.sgd_momentum, weight_decay=config.weight_decay
        )
        self.arithmetic = Arithmetic(config.precision, ranks.device)
        self._query: nn.Module = self.moco.encoder_q

    def _network(self, bands: int) -> MoCo:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            moco = MoCo(self.config, bands)
        moco.set_scale(self.stamps.noise)
        set_batch_norm_groups(moco, self.ranks.divide(self.config.batch_norm_groups, "--batch-norm-groups"))
        return moco

    def opening(self) -> str:
        """What is about to happen, in a line."""
        return (
            f"pretrain: {describe(self.moco.encoder_q)} on {len(self.order.members):,} galaxies, "
            f"{self.ranks.describe()}, steps {self.step} to {self.total_steps}"
        )

    @property
    def at_checkpoint(self) -> bool:
        """Whether a checkpoint is due after the step just made."""
        return self.step % self.config.checkpoint_every_steps == 0 or self.step == self.total_steps

    def records(self) -> Iterator[Record]:
        """Train to the end; gives a record every so many steps, and at each checkpoint. All ranks go in step."""
        self._query = self.ranks.wrap(self.moco.encoder_q)
        meter = Meter(self.ranks)
        pairs = map(self.pair, global_batches(self.order, self.state, self.config.batch))
        ahead = views_ahead(self.config.pipeline, self.stamps, pairs, wanted=lambda pair: pair.unique, plan=self.plan)
        with closing(ahead) as fed:
            while self.step < self.total_steps:
                with meter.timed("wait"):
                    pair, views = next(fed)
                with meter.timed("augment"):
                    queries, keys = views().chunk(2)
                rate = self.learn(meter, queries, keys, pair.order)
                self.state = pair.batch.following
                if self.step % self.config.log_every_steps == 0 or self.at_checkpoint:
                    place = {"step": self.step, "epoch": pair.batch.state.epoch}
                    yield place | {"lr": rate} | meter.take(self.step)

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

    def learn(self, meter: Meter, queries: Tensor, keys: Tensor, order: Indices) -> float:
        """One step of MoCo; ``order`` is that of a `Pair`. Gives the learning rate it was made with."""
        permutation = torch.from_numpy(order).to(self.ranks.device)
        rate = self.config.lr * cosine(self.step, total=self.total_steps, warmup=self.config.warmup_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with self.arithmetic.autocast():
            q = self._query(queries)
            self.moco.follow()
            k = self.moco.encode_keys(keys, permutation, self.ranks.gather)
        own = k[self.ranks.share(len(k))]
        loss, accuracy = info_nce(normalise(q), own, self.moco.queue, temperature=self.config.temperature)
        self.arithmetic.step(loss, self.optimiser)
        self.moco.enqueue(k)
        self.ranks.average_buffers(self.moco.encoder_q)
        self.step += 1
        meter.add(len(k), loss=loss, accuracy=accuracy)
        return rate

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "order": self.state.as_dict(),
            "model": self.moco.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "arithmetic": self.arithmetic.state_dict(),
        }

    def load_state_dict(self, checkpoint: dict[str, Any]) -> None:
        """Stand where ``checkpoint`` was written; the inverse of `state_dict`, and its step."""
        self.step = checkpoint["step"]
        self.state = State.from_dict(checkpoint["order"])
        self.moco.load_state_dict(checkpoint["model"])
        self.optimiser.load_state_dict(checkpoint["optimiser"])
        self.arithmetic.load_state_dict(checkpoint["arithmetic"])
