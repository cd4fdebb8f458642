"""`python -m trainer finetune`: learn labels, from a pre-trained encoder, on a frozen one, or from scratch.

The recipe is that of Hayat et al. 2021: cross-entropy, SGD, a learning rate that falls tenfold after 60 % and 90 % of
the epochs. The epoch that is kept is chosen on the validation split, among those that are judged there; nothing looks
at the test split's labels. A run goes on from the last epoch that was judged.
"""

import argparse
import math
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from sharding import Dataset, Order, State

from .checkpoint import Checkpoints
from .config import FinetuneConfig
from .data import Batch, Stamps, check_view_px, global_batches
from .distributed import Ranks, joined
from .engine import Engine
from .errors import TrainerError
from .flops import finetune_step_flops
from .labels import choose_labels
from .learners import FrozenEncoder, Learner, WholeNetwork
from .precision import Arithmetic
from .resnet import ResNet
from .runfolder import RunInfo, check_bands
from .running import Training, carry_out
from .schedule import steps_down
from .settings import add_settings, config_from
from .signals import StopSignals
from .source import add_source, open_source
from .tasks import make_task
from .telemetry import LAG
from .trace import Record
from .trained import load_trained
from .watch import Note, Watch

FROM_SCRATCH = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_source(parser, "dataset with labels")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the run; resumed where it holds a checkpoint"
    )
    parser.add_argument(
        "--init", required=True, metavar="RUN", help="run, or file of weights, whose encoder to begin with, or none"
    )
    add_settings(parser, FinetuneConfig)


def run(args: argparse.Namespace) -> int:
    """Train to the last epoch."""
    init = None if args.init == FROM_SCRATCH else Path(args.init)
    with joined() as ranks:
        console = Console(quiet=not ranks.first)
        with ranks.together():
            inherited = None if init is None else load_trained(init).info.config.encoder
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

    def prepare() -> tuple[Training, RunInfo]:
        training = Finetuning(config, dataset, init, ranks)
        info = RunInfo(
            kind="finetune",
            config=config,
            dataset=dataset.digest,
            bands=dataset.bands,
            classes=training.task.classes,
            init=None if init is None else str(init),
        )
        return training, info

    carry_out(prepare, out, ranks=ranks, console=console)


class Finetuning:
    """The labels, what learns them, and how far it is."""

    def __init__(self, config: FinetuneConfig, dataset: Dataset, init: Path | None, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        self.task = make_task(config, dataset)
        self.labels = choose_labels(config, dataset, self.task)
        check_view_px(dataset, config.view_px)
        if config.batch > len(self.labels.train):
            remedy = "" if config.label_fraction == 1.0 else ", or raise --label-fraction"
            raise TrainerError(
                f"--batch: expected at most the {len(self.labels.train)} galaxies with labels to train on, got "
                f"{config.batch}; choose a smaller batch{remedy}"
            )
        self.order = Order(self.labels.train, config.seed, dataset=dataset.digest)
        self.steps_per_epoch = self.order.batches_per_epoch(config.batch)
        self.learner = self._learner(dataset, init)
        self.engine = Engine(self.learner.module, self.learner.parameters(), config, ranks)
        self.step, self.state = 0, self.order.start
        self.total_steps = config.epochs * self.steps_per_epoch
        self.best_epoch, self.best_score = -1, math.inf
        self.stopped, self._pending = False, dict[str, list[float]]()
        self._lately: deque[tuple[int, Batch]] = deque(maxlen=LAG + 1)

    def _learner(self, dataset: Dataset, init: Path | None) -> Learner:
        self.stamps = stamps = Stamps(dataset, self.ranks.device, self.config.read_threads)
        network = starting_network(self.config, stamps, init, self.task.outputs)
        network = Arithmetic(self.config.precision, self.ranks.device).prepare(network)
        if not self.config.freeze:
            return WholeNetwork(network, self.config, stamps, self.ranks)
        train, validation = self.labels.train, self.labels.validation
        return FrozenEncoder(network, self.config, stamps, self.ranks, train=train, judged=validation)

    @property
    def at_checkpoint(self) -> bool:
        """Whether the step just made was the last of an epoch that is judged; the run's last one always is."""
        between = self.config.judge_every_epochs * self.steps_per_epoch
        return self.step % between == 0 or self.step == self.total_steps

    @property
    def improved(self) -> bool:
        """Whether the epoch just judged is the best so far."""
        return self.at_checkpoint and self.best_epoch == self.step // self.steps_per_epoch - 1

    def records(self, signals: StopSignals) -> Iterator[Record]:
        """Train to the end or to a signal; a record now and then, and one with the score of a judged epoch."""
        self.engine.start()
        flops = finetune_step_flops(self.config, len(self.stamps.dataset.bands), self.task.outputs)
        watch = Watch(
            self.config, self.ranks, signals, flops_per_image=flops, pending=self._pending, explain=self._explain
        )
        self._pending = {}  # the watch has them now
        batches = global_batches(self.order, self.state, self.config.batch)
        with closing(self.learner.training(batches)) as fed:
            while self.step < self.total_steps and not watch.stopped:
                with watch.meter.timed("wait"):  # for reading and, where there are views, making them
                    batch, inputs = next(fed)
                rate, figures = self.learn(batch, inputs, watch.signal())
                self.state = batch.following
                self._lately.append((self.step, batch))
                if self.at_checkpoint:
                    self.engine.check_weights(self.step)
                watch.push(
                    Note(self.step, batch.state.epoch, rate, self.config.batch, last=self.at_checkpoint), figures
                )
                for record in watch.heard(drain=self.at_checkpoint):
                    judged = self.at_checkpoint and record["step"] == self.step
                    yield {**record, **(self._judge(batch.state.epoch) if judged else {})}
            yield from watch.heard(drain=True)
            self.stopped, self._pending = watch.stopped, watch.meter.pending()

    def learn(self, batch: Batch, inputs: Tensor, signal: Tensor) -> tuple[float, dict[str, Tensor]]:
        """One step; gives its learning rate, and its figures on the device."""
        factor = steps_down(batch.state.epoch, epochs=self.config.epochs)
        own = batch.indices[self.ranks.share(len(batch.indices))]
        self.engine.begin(factor)

        def losses(outputs: Tensor, rows: slice) -> dict[str, Tensor]:
            return {"loss": self.task.loss(outputs, own[rows])}

        figures = self.engine.learn(inputs, losses)
        figures, _ = self.engine.finish({**figures, "signal": signal})
        self.step += 1
        return self.config.first_lr * factor, figures

    def _explain(self, step: int) -> str:
        return self.learner.suspects(next(batch for made, batch in self._lately if made == step))

    def save(self, checkpoints: Checkpoints) -> None:
        """The network of an epoch that is the best so far is kept beside the rest."""
        if self.improved:
            checkpoints.save_best({"model": self.learner.network_state()})
        checkpoints.save(self.step, self.state_dict())

    def _judge(self, epoch: int) -> dict[str, float]:
        """Score the network on the whole validation split, each rank answering for its part."""
        judged = self.labels.validation
        own = self.learner.answer(judged[self.ranks.spread(len(judged))])
        outputs = self.ranks.collect(self.ranks.send(own), len(judged)).cpu()
        loss = self.task.loss(outputs, judged).mean()
        score = self.task.score(self.task.probabilities(outputs).numpy(), judged)
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

    def line(self, record: Record) -> str:
        """A record as a person reads it."""
        judged = "".join(
            f"  {name.replace('_', ' ')} {value:.4f}" for name, value in record.items() if name.startswith("validation")
        )
        return (
            f"epoch {record['epoch'] + 1}/{self.config.epochs}  step {record['step']}  loss {record['loss']:.4f}"
            f"{judged}  {record['images_per_s']:.0f} images/s  waiting for data {record['wait_share']:.1%}"
        )

    def closing(self) -> str:
        """What has come of it, in a line."""
        kept = self.task.describe(self.best_score)
        return f"{self.config.epochs} epochs done; kept number {self.best_epoch + 1}, {kept}"

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        return {
            "order": self.state.as_dict(),
            "model": self.learner.module.state_dict(),
            "pending": self._pending,
            "ranks": self.ranks.size,
            **self.engine.state_dict(),
            "best": {"epoch": self.best_epoch, "score": self.best_score},
        }

    def load_state_dict(self, checkpoint: dict[str, Any]) -> None:
        """Stand where ``checkpoint`` was written; the inverse of `state_dict`, and its step."""
        self.ranks.check_resumed(checkpoint["ranks"], self.config)
        self.step = checkpoint["step"]
        self.state = State.from_dict(checkpoint["order"])
        self.learner.module.load_state_dict(checkpoint["model"])
        self.engine.load_state_dict(checkpoint)
        self._pending = checkpoint["pending"]
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
        source, info = load_trained(init)
        check_bands(info, stamps.dataset, init)
        if source.config != config.encoder:
            raise TrainerError(f"{init}: expected the encoder {config.encoder}, got {source.config}")
        source.fc = nn.Identity()
        network.load_state_dict(source.state_dict())
    network.fc = head
    return network
