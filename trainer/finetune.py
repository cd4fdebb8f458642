"""`python -m trainer finetune`: learn labels, from a pre-trained encoder, on a frozen one, or from scratch.

The recipe is that of Hayat et al. 2021: cross-entropy, SGD, a learning rate that falls tenfold after 60 % and 90 % of
the epochs. The epoch that is kept is chosen on the validation split; the test split's labels are not looked at. A run
goes on from its last finished epoch.
"""

import argparse
import math
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from sharding import Dataset, Order, State

from .config import FinetuneConfig
from .data import Batch, Stamps, check_view_px, global_batches
from .distributed import Ranks, joined
from .errors import TrainerError
from .inference import load_run
from .labels import choose_labels
from .learners import FrozenEncoder, Learner, WholeNetwork
from .meter import Meter
from .precision import Arithmetic
from .resnet import ResNet
from .runfolder import RunFolder, RunInfo, check_bands
from .runlog import Record, RunLog
from .schedule import steps_down
from .settings import add_settings, config_from
from .source import add_source, open_source
from .tasks import make_task

FROM_SCRATCH = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_source(parser, "dataset with labels")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; resumed where it holds a checkpoint"
    )
    parser.add_argument("--init", required=True, metavar="RUN", help="run whose encoder to begin with, or none")
    add_settings(parser, FinetuneConfig)


def run(args: argparse.Namespace) -> int:
    """Train to the last epoch."""
    init = None if args.init == FROM_SCRATCH else Path(args.init)
    with joined() as ranks:
        console = Console(quiet=not ranks.first)
        with ranks.together():
            inherited = None if init is None else RunInfo.read(init).config.encoder
            config = config_from(args, FinetuneConfig, inherited)
            dataset = open_source(args, console)
        with dataset:
            finetune(config, dataset, args.out, init=init, ranks=ranks, console=console)
    return 0


def finetune(
    config: FinetuneConfig, dataset: Dataset, out: Path, *, init: Path | None, ranks: Ranks, console: Console
) -> None:
    """Train in the folder ``out``, from its newest checkpoint if there is one; TrainerError where it holds another run.

    ``init`` is the run that the encoder comes from; its encoder must be the configuration's. None starts from scratch.
    """
    folder = RunFolder(out)
    with ranks.together():
        training = Finetuning(config, dataset, init, ranks)
        info = RunInfo(
            kind="finetune",
            config=config,
            dataset=dataset.digest,
            bands=dataset.bands,
            classes=training.task.classes,
            init=None if init is None else str(init),
        )
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
                log.record(record, line(record, config.epochs))
            if log and training.at_epoch_end:
                if training.improved:
                    folder.checkpoints.save_best({"model": training.learner.network_state()})
                folder.checkpoints.save(training.step, training.state_dict())
        if log:
            kept = training.task.describe(training.best_score)
            log.say(f"{out}: {config.epochs} epochs done; kept number {training.best_epoch + 1}, {kept}")


def line(record: Record, epochs: int) -> str:
    """A record as a person reads it."""
    judged = "".join(
        f"  {name.replace('_', ' ')} {value:.4f}" for name, value in record.items() if name.startswith("validation")
    )
    return (
        f"epoch {record['epoch'] + 1}/{epochs}  step {record['step']}  loss {record['loss']:.4f}{judged}  "
        f"{record['images_per_s']:.0f} images/s  data {record['data_share']:.1%}"
    )


class Finetuning:
    """The labels, what learns them, and how far it is."""

    def __init__(self, config: FinetuneConfig, dataset: Dataset, init: Path | None, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        self.task = make_task(config, dataset)
        self.labels = choose_labels(config, dataset, self.task)
        check_view_px(dataset, config.view_px)
        self.order = Order(self.labels.train, config.seed, dataset=dataset.digest)
        self.steps_per_epoch = self.order.batches_per_epoch(config.batch)
        self.learner = self._learner(dataset, init)
        groups = self.learner.parameters()
        self.optimiser = torch.optim.SGD(groups, config.lr, config.sgd_momentum, weight_decay=config.weight_decay)
        self.arithmetic = Arithmetic(config.precision, ranks.device)
        self._module = self.learner.module
        self.step, self.state = 0, self.order.start
        self.best_epoch, self.best_score = -1, math.inf

    def _learner(self, dataset: Dataset, init: Path | None) -> Learner:
        stamps = Stamps(dataset, self.ranks.device, self.config.read_threads)
        network = starting_network(self.config, stamps, init, self.task.outputs).to(self.ranks.device)
        if not self.config.freeze:
            return WholeNetwork(network, self.config, stamps, self.ranks)
        train, validation = self.labels.train, self.labels.validation
        return FrozenEncoder(network, self.config, stamps, self.ranks, train=train, judged=validation)

    @property
    def at_epoch_end(self) -> bool:
        """Whether the step just made was the last of its epoch."""
        return self.step % self.steps_per_epoch == 0

    @property
    def improved(self) -> bool:
        """Whether the epoch just finished is the best so far."""
        return self.at_epoch_end and self.best_epoch == self.step // self.steps_per_epoch - 1

    def records(self) -> Iterator[Record]:
        """Train to the end; a record every so many steps, and one with the validation score after each epoch."""
        self._module = self.ranks.wrap(self.learner.module)
        meter = Meter(self.ranks)
        total_steps = self.config.epochs * self.steps_per_epoch
        batches = global_batches(self.order, self.state, self.config.batch)
        with closing(self.learner.training(batches)) as fed:
            while self.step < total_steps:
                with meter.timed("data"):  # reading and, where there are views, making them
                    batch, inputs = next(fed)
                rate = self._learn(meter, batch, inputs)
                self.state = batch.following
                if self.at_epoch_end or self.step % self.config.log_every_steps == 0:
                    record = {"step": self.step, "epoch": batch.state.epoch, "lr": rate} | meter.take(self.step)
                    yield record | (self._judge(batch.state.epoch) if self.at_epoch_end else {})

    def _learn(self, meter: Meter, batch: Batch, inputs: Tensor) -> float:
        """One step; gives the learning rate it was made with."""
        factor = steps_down(batch.state.epoch, epochs=self.config.epochs)
        for group in self.optimiser.param_groups:
            group["lr"] = group["first_lr"] * factor
        own = batch.indices[self.ranks.share(len(batch.indices))]
        with self.arithmetic.autocast():
            logits = self._module(inputs)
        loss = F.cross_entropy(logits.float(), torch.from_numpy(self.task.target(own)).to(self.ranks.device))
        self.arithmetic.step(loss, self.optimiser)
        self.ranks.average_buffers(self.learner.module)
        self.step += 1
        meter.add(len(batch.indices), loss=loss)
        return self.config.lr * factor

    def _judge(self, epoch: int) -> dict[str, float]:
        """Score the network on the whole validation split, each rank answering for its part."""
        judged = self.labels.validation
        own = self.learner.answer(judged[self.ranks.spread(len(judged))])
        logits = self.ranks.collect(own.to(self.ranks.device), len(judged)).cpu()
        loss = F.cross_entropy(logits, torch.from_numpy(self.task.target(judged)))
        score = self.task.score(logits.softmax(dim=1).numpy(), judged)
        if score < self.best_score:
            self.best_epoch, self.best_score = epoch, score
        return {"validation_loss": float(loss), self.task.score_name: score}

    def opening(self) -> str:
        """What is about to happen, in a line."""
        labels, what = self.labels, "head alone" if self.config.freeze else "encoder and head"
        return (
            f"finetune: {self.config.task}, {what}, on {len(labels.train):,} galaxies, judged on "
            f"{len(labels.validation):,} ({labels.unusable:,} without a usable label), {self.ranks.describe()}, "
            f"epochs {self.step // self.steps_per_epoch} to {self.config.epochs}"
        )

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "order": self.state.as_dict(),
            "model": self.learner.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "arithmetic": self.arithmetic.state_dict(),
            "best": {"epoch": self.best_epoch, "score": self.best_score},
        }

    def load_state_dict(self, checkpoint: dict[str, Any]) -> None:
        """Stand where ``checkpoint`` was written; the inverse of `state_dict`, and its step."""
        self.step = checkpoint["step"]
        self.state = State.from_dict(checkpoint["order"])
        self.learner.module.load_state_dict(checkpoint["model"])
        self.optimiser.load_state_dict(checkpoint["optimiser"])
        self.arithmetic.load_state_dict(checkpoint["arithmetic"])
        self.best_epoch, self.best_score = checkpoint["best"]["epoch"], checkpoint["best"]["score"]


def starting_network(config: FinetuneConfig, stamps: Stamps, init: Path | None, outputs: int) -> ResNet:
    """The encoder of ``init``, or a new one, with a new linear head. Raises TrainerError where they do not fit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = ResNet(config.encoder, len(stamps.dataset.bands))
        head = nn.Linear(network.num_features, outputs)
    if init is None:
        network.stretch.set_scale(stamps.noise)
    else:
        check_bands(RunInfo.read(init), stamps.dataset, init)
        source, pretraining = load_run(init)
        if pretraining.encoder != config.encoder:
            raise TrainerError(f"{init}: expected the encoder {config.encoder}, got {pretraining.encoder}")
        source.fc = nn.Identity()
        network.load_state_dict(source.state_dict())
    network.fc = head
    return network
