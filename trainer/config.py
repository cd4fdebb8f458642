"""What a run is made of: frozen settings, checked when they are made; the same in memory, as JSON and as options.

The defaults are those of Hayat et al. 2021 (ApJL 911 L33) and, where that paper says nothing, of MoCo v2 (He et al.
2020, Chen et al. 2020). `settings` turns these classes into command-line options; nothing here knows files or devices.

The rule of the learning rate, where none is given: with SGD, 0.03 (on labels 0.004) for a batch of 256, in proportion
to the batch (Goyal et al. 2017, "Accurate, large minibatch SGD"); with LARS, 0.3 for 256, in proportion too (Chen et
al. 2020, "SimCLR"); with AdamW, 1e-3 for 256, as the root of the batch (Malladi et al. 2022). A rate that is given is
taken as it is.
"""

import math
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from augment.presets import LeftOut

from .errors import TrainerError

Depth = Literal[10, 18, 34, 50, 101]
Stretch = Literal["none", "asinh"]
Precision = Literal["fp32", "bf16", "fp16", "fp64"]
BatchNorm = Literal["groups", "rank", "sync"]
OptimiserName = Literal["sgd", "lars", "adamw"]
Compression = Literal["none", "bf16", "fp16"]
Task = Literal["photoz", "morphology"]
Pipeline = Literal["torch", "dali"]
Question = Literal["smooth", "edge_on", "bar", "spiral", "bulge", "odd", "five_class"]

REFERENCE_BATCH = 256  # the batch of which the rule of the learning rate speaks

Config = TypeVar("Config", bound="EncoderConfig | PretrainConfig | FinetuneConfig")


def about(text: str, *, fixed: bool = True) -> dict[str, Any]:
    """What a field's metadata says: its help text, and whether it must stay the same when a run resumes."""
    return {"help": text, "fixed": fixed}


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """The network between an image and its features."""

    depth: Depth = field(default=50, metadata=about("layers: 10, 18 and 34 have basic blocks, 50 and 101 bottlenecks"))
    width: int = field(default=64, metadata=about("channels of the stem; 64 is ResNet's own"))
    stretch: Stretch = field(
        default="none", metadata=about("how flux is fed: none is linear, as published; asinh is in units of the noise")
    )

    def __post_init__(self) -> None:
        _need(self.width >= 1, "--width", "at least 1", self.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """What every training has."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    preset: str = field(default="hayat2021", metadata=about("augmentation preset"))
    view_px: int = field(default=64, metadata=about("side of a view [pixel]"))
    batch: int = field(default=256, metadata=about("galaxies in a global batch, all ranks together"))
    accumulate: int = field(
        default=1, metadata=about("parts in which each rank takes its batch, one after the other, to save memory")
    )
    epochs: int = field(default=100, metadata=about("passes over the galaxies"))
    optimiser: OptimiserName = field(
        default="sgd", metadata=about("sgd with momentum; lars for very large batches; adamw")
    )
    sgd_momentum: float = field(default=0.9, metadata=about("of sgd and lars"))
    weight_decay: float = field(default=0.0, metadata=about("of the optimiser"))
    batch_norm: BatchNorm = field(
        default="groups",
        metadata=about(
            "batch statistics over fixed groups of the global batch, the same on any number of ranks; over each rank's "
            "part; or sync: over the whole batch"
        ),
    )
    batch_norm_groups: int = field(
        default=8, metadata=about("parts of the global batch with batch statistics of their own (--batch-norm groups)")
    )
    precision: Precision = field(
        default="fp32",
        metadata=about("of the encoder's arithmetic; loss and weights stay fp32; fp64, all of it, is for tests"),
    )
    compile: bool = field(default=False, metadata=about("compile the encoder (torch.compile)", fixed=False))
    gradient_compression: Compression = field(
        default="none", metadata=about("what gradients are rounded to on their way between ranks")
    )
    seed: int = field(default=0, metadata=about("of the weights, the order, the views and the choice of labels"))
    keep: int = field(default=2, metadata=about("newest checkpoints that are kept, beside the best", fixed=False))
    log_every_steps: int = field(
        default=10, metadata=about("steps whose mean makes one line of metrics.jsonl", fixed=False)
    )
    read_threads: int | None = field(
        default=None,
        metadata=about("threads of each rank that read images, instead of one a core up to 4", fixed=False),
    )
    pipeline: Pipeline = field(
        default="torch",
        metadata=about("what makes the views, which are the same: our own op, or NVIDIA DALI beside it", fixed=False),
    )

    def __post_init__(self) -> None:
        _need(self.view_px >= 1, "--view-px", "at least 1", self.view_px)
        _need(self.batch >= 2, "--batch", "at least 2", self.batch)
        _need(self.accumulate >= 1, "--accumulate", "at least 1", self.accumulate)
        _need(self.batch % self.accumulate == 0, "--accumulate", f"a divisor of the batch ({self.batch})",
              self.accumulate)  # fmt: skip
        _need(self.epochs >= 1, "--epochs", "at least 1", self.epochs)
        _need(0 <= self.sgd_momentum < 1, "--sgd-momentum", "0 to less than 1", self.sgd_momentum)
        _need(0 <= self.weight_decay < math.inf, "--weight-decay", "at least 0", self.weight_decay)
        _need(0 <= self.seed < 2**63, "--seed", "0 or more, below 2^63", self.seed)
        _need(self.keep >= 1, "--keep", "at least 1", self.keep)
        _need(self.log_every_steps >= 1, "--log-every-steps", "at least 1", self.log_every_steps)
        _need(self.read_threads is None or self.read_threads >= 1, "--read-threads", "at least 1", self.read_threads)
        self._check_batch_norm()

    def _lr_by_rule(self, *, sgd: float) -> float:
        """``sgd``: the rate for SGD at a batch of `REFERENCE_BATCH`."""
        share = self.batch / REFERENCE_BATCH
        return {"sgd": sgd * share, "lars": 0.3 * share, "adamw": 1e-3 * math.sqrt(share)}[self.optimiser]

    def _check_batch_norm(self) -> None:
        groups = self.batch_norm_groups
        _need(groups >= 1, "--batch-norm-groups", "at least 1", groups)
        if self.batch_norm == "groups":
            wholly = self.batch % groups == 0 and self.batch // groups >= 2
            _need(wholly, "--batch-norm-groups", f"to cut the batch ({self.batch}) in equal parts of 2 or more", groups)
            _need(groups % self.accumulate == 0, "--accumulate", f"a divisor of --batch-norm-groups ({groups})",
                  self.accumulate)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig(TrainingConfig):
    """MoCo v2 pre-training."""

    without: LeftOut = field(default="nothing", metadata=about("augmentation of the preset that is left out"))
    max_steps: int | None = field(
        default=None, metadata=about("end, schedule included, after this many steps if that is sooner")
    )
    queue: int = field(default=65536, metadata=about("negatives: keys of earlier batches, at least one batch"))
    embedding: int = field(default=128, metadata=about("dimension in which views are compared"))
    temperature: float = field(default=0.1, metadata=about("of the softmax over the similarities"))
    key_momentum: float = field(default=0.999, metadata=about("share of itself that the key encoder keeps in a step"))
    lr: float | None = field(
        default=None, metadata=about("peak learning rate, instead of the rule's: 0.03 x batch / 256 with sgd")
    )
    weight_decay: float = field(default=1e-4, metadata=about("of the optimiser"))
    warmup_steps: int = field(
        default=0, metadata=about("steps over which the learning rate rises linearly to its peak")
    )
    checkpoint_every_steps: int = field(
        default=1000, metadata=about("steps between checkpoints; one is written at the end too", fixed=False)
    )

    def __post_init__(self) -> None:
        TrainingConfig.__post_init__(self)
        _need(self.max_steps is None or self.max_steps >= 1, "--max-steps", "at least 1", self.max_steps)
        _need(self.queue >= self.batch, "--queue", f"at least the batch ({self.batch})", self.queue)
        _need(self.embedding >= 1, "--embedding", "at least 1", self.embedding)
        _need(0 < self.temperature < math.inf, "--temperature", "more than 0", self.temperature)
        _need(0 <= self.key_momentum <= 1, "--key-momentum", "0 to 1", self.key_momentum)
        _need(self.lr is None or 0 < self.lr < math.inf, "--lr", "more than 0", self.lr)
        _need(self.warmup_steps >= 0, "--warmup-steps", "at least 0", self.warmup_steps)
        _need(self.checkpoint_every_steps >= 1, "--checkpoint-every-steps", "at least 1", self.checkpoint_every_steps)

    @property
    def peak_lr(self) -> float:
        """The learning rate after the warm-up: what was given, or the rule's (see the top of this file)."""
        return self.lr if self.lr is not None else self._lr_by_rule(sgd=0.03)


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneConfig(TrainingConfig):
    """Training on labels: from a pre-trained encoder, from a frozen one, or from scratch."""

    task: Task = field(default="photoz", metadata=about("what is learnt: a redshift, or a class"))
    label: str | None = field(
        default=None, metadata=about("column with the labels; else specz for photoz, morphology for morphology")
    )
    question: Question | None = field(
        default=None,
        metadata=about("of Galaxy Zoo 2, answered by the votes in the dataset's columns (morphology): see the README"),
    )
    label_fraction: float = field(
        default=1.0, metadata=about("share of the labelled training galaxies; smaller shares lie within larger ones")
    )
    bins: int = field(default=180, metadata=about("redshift bins (photoz)"))
    freeze: bool = field(
        default=False, metadata=about("linear probe: train the head alone, on the encoder's features of plain views")
    )
    preset: str = field(
        default="hayat2021", metadata=about("augmentation preset; training on labels takes its turns, flips and shifts")
    )
    epochs: int = field(
        default=100,
        metadata=about("passes over the labelled galaxies; the learning rate falls tenfold at 60 % and 90 %"),
    )
    lr: float | None = field(
        default=None, metadata=about("learning rate at the start, instead of the rule's: 0.004 x batch / 256 with sgd")
    )
    head_lr: float | None = field(default=None, metadata=about("learning rate of the head, if another"))
    judge_every_epochs: int = field(
        default=1,
        metadata=about("epochs between looks at the validation split, each with a checkpoint; the last has one anyway"),
    )
    pipeline: Pipeline = field(
        default="torch",
        metadata=about(
            "what makes the views, which are the same: our own op, or NVIDIA DALI beside it; no effect with --freeze",
            fixed=False,
        ),
    )

    def __post_init__(self) -> None:
        TrainingConfig.__post_init__(self)
        _need(0 < self.label_fraction <= 1, "--label-fraction", "more than 0, at most 1", self.label_fraction)
        _need(self.bins >= 2, "--bins", "at least 2", self.bins)
        _need(self.lr is None or 0 < self.lr < math.inf, "--lr", "more than 0", self.lr)
        _need(self.head_lr is None or 0 < self.head_lr < math.inf, "--head-lr", "more than 0", self.head_lr)
        _need(self.judge_every_epochs >= 1, "--judge-every-epochs", "at least 1", self.judge_every_epochs)
        _need(self.question is None or self.task == "morphology", "--question", "--task morphology with it", self.task)
        both = self.question is not None and self.label is not None
        _need(not both, "--question", "no --label beside it", self.label)

    @property
    def first_lr(self) -> float:
        """The learning rate at the start: what was given, or the rule's (see the top of this file)."""
        return self.lr if self.lr is not None else self._lr_by_rule(sgd=0.004)

    @property
    def label_column(self) -> str:
        """The column that holds the labels."""
        return self.label or {"photoz": "specz", "morphology": "morphology"}[self.task]


def to_json(config: EncoderConfig | PretrainConfig | FinetuneConfig) -> dict[str, Any]:
    """The settings as plain values, ready for JSON."""
    return asdict(config)


def from_json(kind: type[Config], content: Mapping[str, Any]) -> Config:
    """The inverse of `to_json`; TrainerError where a setting is unknown or out of range."""
    names = {item.name for item in fields(kind)}
    if unknown := sorted(set(content) - names):
        raise TrainerError(f"settings: {unknown[0]} is no setting of {kind.__name__}; use the Skymill that wrote it")
    _check_types(kind, content)
    values = dict(content)
    if "encoder" in names and "encoder" in values:
        values["encoder"] = from_json(EncoderConfig, values["encoder"])
    return kind(**values)


def differing(
    old: Mapping[str, Any], new: Mapping[str, Any], kind: type[EncoderConfig | PretrainConfig | FinetuneConfig]
) -> list[str]:
    """The settings that a resuming run may not change and that differ between two `to_json`, as text."""
    found = []
    for item in fields(kind):
        before, after = old.get(item.name), new.get(item.name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differing(before, after, EncoderConfig)
        elif before != after and item.metadata.get("fixed", True):
            there, here = ("not given" if value is None else value for value in (before, after))
            found.append(f"{option(item.name)} is {there} there, {here} here")
    return found


def option(name: str) -> str:
    """The command-line option of a setting."""
    return "--" + name.replace("_", "-")


def _need(holds: bool, where: str, expected: str, got: object) -> None:
    if not holds:
        raise TrainerError(f"{where}: expected {expected}, got {got}")


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types that a setting's hint allows: of ``int | None`` both, else itself."""
    return get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)


def _check_types(kind: type[Config], values: Mapping[str, Any]) -> None:
    """What comes from a file or a command line: literals hold one of their values, numbers are numbers."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        kinds = alternatives(hints[name])
        if choices := get_args(kinds[0]):
            right = value in choices or (value is None and type(None) in kinds)
            _need(right, option(name), f"one of {', '.join(map(str, choices))}", value)
        elif not is_dataclass(kinds[0]):
            accepted = (*kinds, int) if float in kinds else kinds
            right = isinstance(value, accepted) and (bool in kinds or not isinstance(value, bool))
            names = ("nothing" if kind is type(None) else f"a{'n' * (kind is int)} {kind.__name__}" for kind in kinds)
            _need(right, option(name), " or ".join(names), value)
