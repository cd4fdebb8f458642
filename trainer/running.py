"""How any training is carried out in its RUN folder: begun or gone on with, watched, saved, stopped and ended.

What is trained is a `Training`'s affair: `pretrain` and `finetune` have one each. On many ranks all of them are here in
step; the first one writes and speaks.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from rich.console import Console

from .checkpoint import Checkpoints
from .collapse import CollapseWatch
from .config import PretrainConfig
from .distributed import Ranks
from .errors import TrainerError
from .runfolder import RunFolder, RunInfo
from .runlog import RunLog
from .runreport import write_run_report
from .signals import Preempted, StopSignals, ask_requeue, clear_requeue
from .trace import Record


@runtime_checkable  # the tests check arguments by their types
class Training(Protocol):
    """Something that takes steps and can stand where an earlier process stood."""

    step: int  # taken so far
    total_steps: int

    @property
    def at_checkpoint(self) -> bool:
        """Whether a checkpoint is due after the step just made."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether it ended early, at a signal to any rank."""
        ...

    def records(self, signals: StopSignals) -> Iterator[Record]:
        """Train to the end or to a signal; gives a record now and then, and one before each checkpoint."""
        ...

    def save(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint, and the best one if it is that."""
        ...

    def load_state_dict(self, checkpoint: dict[str, Any]) -> None:
        """Stand where a checkpoint was written."""
        ...

    def line(self, record: Record) -> str:
        """A record as a person reads it."""
        ...

    def opening(self) -> str:
        """What is about to happen, in a line."""
        ...

    def closing(self) -> str:
        """What has come of it, in a line."""
        ...


def carry_out(prepare: Callable[[], tuple[Training, RunInfo]], out: Path, *, ranks: Ranks, console: Console) -> None:
    """Train in the folder ``out``, from its newest checkpoint if there is one.

    Raises TrainerError where the folder holds another run, and `Preempted` where a signal ended it, once it is saved.
    """
    folder = RunFolder(out)
    with ranks.together():
        training, info = _in_memory(prepare)
        if checkpoint := folder.enter(info):
            _stand(training, checkpoint, out)
    ranks.agree(training.step, f"{out}: step to begin from")
    if ranks.first:
        folder.publish(info)
        clear_requeue(out)
    with StopSignals() as signals:
        with _Witness(folder, info, training, console) if ranks.first else nullcontext() as witness:
            for record in training.records(signals):
                if witness:
                    witness.note(record)
            if witness:
                witness.end(signals.received)
        if training.stopped:
            ranks.wait()  # until the first has saved: one that ends sooner would have it ended too
            raise Preempted(f"{out}: saved at step {training.step}; start it again to go on")


def _in_memory(prepare: Callable[[], tuple[Training, RunInfo]]) -> tuple[Training, RunInfo]:
    try:
        return prepare()
    except RuntimeError as err:
        if not isinstance(err, torch.OutOfMemoryError) and "can't allocate memory" not in str(err):  # GPU's, CPU's
            raise
        raise TrainerError(
            "the network, its optimiser and the queue do not fit in memory; lower --width, --queue or --embedding"
        ) from err


def _stand(training: Training, checkpoint: dict[str, Any], out: Path) -> None:
    try:
        training.load_state_dict(checkpoint)
    except (KeyError, ValueError, RuntimeError, TypeError) as err:
        reason = str(err).splitlines()[0]
        raise TrainerError(
            f"{out}: its newest checkpoint does not fit this run ({reason}); go on with the Skymill that wrote it, or "
            "start in a new folder"
        ) from err


class _Witness:
    """What the first rank does beside training: it writes the log and the checkpoints."""

    def __init__(self, folder: RunFolder, info: RunInfo, training: Training, console: Console) -> None:
        self._folder, self._info, self._training, self._console = folder, info, training, console
        config = info.config
        self._checkpoints = Checkpoints(folder.path / "checkpoints", keep=config.keep)
        self._watch = (
            CollapseWatch(queue=config.queue, batch=config.batch) if isinstance(config, PretrainConfig) else None
        )
        self._open = ExitStack()
        self._saved = -1  # step of the last checkpoint

    def __enter__(self) -> "_Witness":
        self._log = self._open.enter_context(
            RunLog(
                self._folder.path,
                from_step=self._training.step,
                console=self._console,
                epochs=self._info.config.epochs,
                total_steps=self._training.total_steps,
            )
        )
        self._open.enter_context(self._checkpoints)
        self._log.say(self._training.opening())
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def note(self, record: Record) -> None:
        """Log a record, and write the checkpoint that is due after it."""
        self._log.record(record, self._training.line(record))
        if self._watch and (warning := self._watch.look(record)):
            self._log.say(warning)
        if self._training.at_checkpoint and record["step"] == self._training.step:
            self._save()

    def _save(self) -> None:
        self._training.save(self._checkpoints)
        self._saved = self._training.step

    def end(self, received: str | None) -> None:
        """Save what a signal stopped, or say that all is done; the page of the run in any case."""
        out, training = self._folder.path, self._training
        if training.stopped and self._saved != training.step:
            self._save()
        self._checkpoints.finish()
        if training.stopped:
            ask_requeue(out, step=training.step, received=received)
        page = write_run_report(out)
        if not training.stopped:
            self._log.say(f"{out}: {training.closing()}; {page}")
