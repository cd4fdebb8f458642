"""What a study compares, read from a TOML file: its pre-trainings, its trainings on labels, and what they may spend.

The files in ``recipes/`` go by their names. `training` makes the settings of one training on labels; whatever trains,
chooses or forecasts asks it, so that all speak of the same trainings. Nothing here knows a dataset.
"""

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from augment import AugmentError, preset

from ..config import EncoderConfig, FinetuneConfig, PretrainConfig, Task, TrainingConfig, from_json, to_json
from ..errors import TrainerError
from .toml_table import TomlTable

Trained = Literal["supervised", "finetuned", "probe"]  # the methods that take a training on labels

REFERENCE = "reference"  # the pre-training of [pretrain], which variants are compared with
RECIPES = Path(__file__).with_name("recipes")

# Settings of a training that are not a recipe's to say, for the study varies them or has its own rule for them.
_OF_THE_STUDY = ("task", "label", "question", "label_fraction", "freeze", "seed", "lr", "judge_every_epochs")
_VARIANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+_-]*")  # a folder too

_ENCODER: frozenset[str] = frozenset(item.name for item in fields(EncoderConfig))

Config = TypeVar("Config", PretrainConfig, FinetuneConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Of a device."""

    tflops: float  # sustained in training [10^12 FLOP / s]
    start_s: float  # until a process has begun to train, and after it has ended: imports, compiling, the run's page

    def __post_init__(self) -> None:
        _need("assumed tflops", 0 < self.tflops < math.inf, "more than 0", self.tflops)
        _need("assumed start_s", 0 <= self.start_s < math.inf, "at least 0", self.start_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What a forecast counts with."""

    galaxies: int  # of all splits
    labelled: Mapping[Task, int]  # of all splits
    devices: int
    memory_gb: float  # of a device [10^9 bytes]
    step_ms: float  # a step takes at least so long, however small the network
    plain: Speed
    compiled: Speed | None  # with ``compile``
    source: str  # where these come from, a sentence

    def __post_init__(self) -> None:
        _need("assumed galaxies", self.galaxies >= 1, "at least 1", self.galaxies)
        for task, count in self.labelled.items():
            held = 0 <= count <= self.galaxies
            _need(f"assumed labelled {task}", held, f"0 to the {self.galaxies} galaxies", count)
        _need("assumed devices", self.devices >= 1, "at least 1", self.devices)
        _need("assumed memory_gb", 0 < self.memory_gb < math.inf, "more than 0", self.memory_gb)
        _need("assumed step_ms", 0 <= self.step_ms < math.inf, "at least 0", self.step_ms)

    def speed(self, config: TrainingConfig) -> Speed:
        """What a training runs at."""
        return self.compiled if config.compile and self.compiled is not None else self.plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A study, without its dataset."""

    name: str
    about: str  # a sentence for the page
    tasks: tuple[Task, ...]  # none where a dataset has labels of none
    methods: tuple[Trained, ...]  # what needs no training on labels is always asked
    fractions: tuple[float, ...]  # of the labels, ascending
    seeds: int  # of each row of the table
    rates: tuple[float, ...]  # factors of `lr`; so many settings validation chooses among, for every method
    lr: Mapping[Trained, float]
    probe_epochs: int  # many: a probe's features are computed once
    least_steps: int  # of a training, however few its labels
    pretrain: PretrainConfig
    variants: Mapping[str, PretrainConfig]  # the first is `pretrain` itself
    finetune: FinetuneConfig  # what all trainings on labels share
    assumed: Assumed

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the table: all but the words about it and what a forecast assumes."""
        settings = {name: value for name, value in asdict(self).items() if name not in ("name", "about", "assumed")}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def __post_init__(self) -> None:
        for name in ("tasks", "methods", "fractions", "rates"):
            values = getattr(self, name)
            held = len(values) == len(set(values)) and (len(values) > 0 or name == "tasks")
            _need(name, held, "one or more, all different", list(values))
        held = all(0 < each <= 1 for each in self.fractions) and sorted(self.fractions) == list(self.fractions)
        _need("fractions", held, "shares above 0, up to 1, in ascending order", list(self.fractions))
        _need("rates", all(0 < each < math.inf for each in self.rates), "factors above 0", list(self.rates))
        for name in ("seeds", "probe_epochs", "least_steps"):
            _need(name, getattr(self, name) >= 1, "at least 1", getattr(self, name))
        for method in self.methods:
            rate = self.lr.get(method, math.nan)
            _need(f"finetune.lr {method}", 0 < rate < math.inf, "a learning rate above 0", self.lr.get(method))
        for task in self.tasks:
            _need(f"assumed labelled {task}", task in self.assumed.labelled, "a number of galaxies", "nothing")
        compiles = any(config.compile for config in (*self.variants.values(), self.finetune))
        if compiles and self.assumed.compiled is None:
            raise TrainerError("[assumed.compiled]: expected a speed, for the recipe compiles, got nothing; add it")


def read_recipe(name_or_path: str) -> Recipe:
    """The recipe of that name, or that of a ``.toml`` file; TrainerError names the file and the key that is wrong."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
        if name_or_path not in recipe_names():
            raise TrainerError(
                f"recipe: expected one of {', '.join(recipe_names())}, or a .toml file, got {name_or_path!r}"
            )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise TrainerError(f"{path}: cannot be read ({err.strerror}); give another recipe") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise TrainerError(f"{path}: expected TOML, got what is none ({err}); correct it") from err
    try:
        return _recipe(path.stem, content)
    except TrainerError as err:
        raise TrainerError(f"{path}: {err}") from None


def recipe_names() -> list[str]:
    """Those that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def training(
    recipe: Recipe, *, task: Task, method: Trained, fraction: float, seed: int, rate: float, labels: int
) -> FinetuneConfig:
    """The settings of one training on ``labels`` galaxies, at ``rate`` times its method's learning rate.

    It takes the recipe's epochs, or more until it has made `Recipe.least_steps`; validation looks at it in at most as
    many epochs as [finetune] has, so that no training has a wider choice than another.
    """
    shared = recipe.finetune
    batch = fitting_batch(shared, labels)
    usual = recipe.probe_epochs if method == "probe" else shared.epochs
    epochs = max(usual, math.ceil(recipe.least_steps / (labels // batch)))
    return replace(
        shared,
        encoder=recipe.pretrain.encoder,
        task=task,
        freeze=method == "probe",
        label_fraction=fraction,
        seed=seed,
        lr=recipe.lr[method] * rate,
        batch=batch,
        epochs=epochs,
        judge_every_epochs=math.ceil(epochs / shared.epochs),
    )


def fitting_batch(config: FinetuneConfig, labels: int) -> int:
    """The batch, or where there are fewer labels the most of them that fall in equal parts.

    The parts are the groups of batch statistics, or those of ``accumulate``; there are as many of them as in a whole
    batch, each with fewer galaxies. TrainerError where a part would have less than two.
    """
    if labels >= config.batch:
        return config.batch
    parts = config.batch_norm_groups if config.batch_norm == "groups" else config.accumulate
    if labels < 2 * parts:
        raise TrainerError(
            f"finetune: expected at least {2 * parts} labels, two for each of {parts} parts of a batch, got {labels}; "
            "take a larger fraction or fewer batch_norm_groups"
        )
    return labels // parts * parts


def _recipe(name: str, content: Mapping[str, Any]) -> Recipe:
    file = TomlTable(content)
    study, finetune, changes = file.table("study"), file.table("finetune"), file.table("variants", optional=True)
    lr = finetune.table("lr")
    pretrain = _settings(file.table("pretrain"), PretrainConfig())
    variants = {key: _variant(key, changes.table(key), pretrain) for key in changes.names}
    recipe = Recipe(
        name=name,
        about=study.text("about"),
        tasks=study.texts("tasks", get_args(Task)),
        methods=study.texts("methods", get_args(Trained)),
        fractions=study.numbers("fractions"),
        seeds=study.whole("seeds"),
        rates=study.numbers("rates"),
        lr={method: lr.number(method) for method in get_args(Trained) if method in lr.names},
        probe_epochs=study.whole("probe_epochs"),
        least_steps=study.whole("least_steps"),
        pretrain=pretrain,
        variants={REFERENCE: pretrain, **variants},
        finetune=_settings(finetune, FinetuneConfig(), refused=_OF_THE_STUDY),
        assumed=_assumed(file.table("assumed")),
    )
    for table in (lr, study, file):
        table.end()
    _need("[study] tasks", len(recipe.tasks) > 0, "one or more", list(recipe.tasks))
    return recipe


def _assumed(table: TomlTable) -> Assumed:
    counts = table.table("labelled")
    made = Assumed(
        galaxies=table.whole("galaxies"),
        labelled={task: counts.whole(task) for task in get_args(Task) if task in counts.names},
        devices=table.whole("devices"),
        memory_gb=table.number("memory_gb"),
        step_ms=table.number("step_ms"),
        plain=_speed(table.table("plain")),
        compiled=_speed(table.table("compiled")) if "compiled" in table.names else None,
        source=table.text("source"),
    )
    counts.end()
    table.end()
    return made


def _speed(table: TomlTable) -> Speed:
    made = Speed(tflops=table.number("tflops"), start_s=table.number("start_s"))
    table.end()
    return made


def _variant(name: str, changes: TomlTable, pretrain: PretrainConfig) -> PretrainConfig:
    if not _VARIANT.fullmatch(name) or name == REFERENCE:
        raise TrainerError(
            f"[variants.{name}]: expected a name of letters, digits, spaces and .+_-, other than {REFERENCE}, which is "
            "[pretrain]'s; choose another"
        )
    return _settings(changes, pretrain, refused=tuple(sorted(_ENCODER)))  # all share one encoder, as trainings do


def _settings(table: TomlTable, base: Config, refused: tuple[str, ...] = ()) -> Config:
    """``base`` with the changes that are left in the table, those of a pre-training's encoder among them."""
    inner = _ENCODER if isinstance(base, PretrainConfig) else frozenset[str]()
    outer = {item.name for item in fields(base)} - {"encoder", *refused}
    changes = table.rest()
    for key in changes:
        if key in refused:
            raise TrainerError(
                f"{table.where(key)}: expected no such key, for it is not this table's to set; remove it"
            )
        if key not in inner | outer:
            raise TrainerError(f"{table.where(key)}: expected a setting of a {type(base).__name__}; correct it")
    held = to_json(base)
    encoder = {**held["encoder"], **{key: changes[key] for key in changes if key in inner}}
    try:
        made = from_json(
            type(base), {**held, **{key: changes[key] for key in changes if key in outer}, "encoder": encoder}
        )
        _check_preset(made)
    except (TrainerError, AugmentError) as err:
        raise TrainerError(f"{table.where('').rstrip()} {_as_keys(str(err))}") from None
    return made


def _check_preset(config: PretrainConfig | FinetuneConfig) -> None:
    """AugmentError where there is no such preset, or where it has not what is left out."""
    found = preset(config.preset)
    if isinstance(config, PretrainConfig):
        found.without(config.without)


def _need(where: str, holds: bool, expected: str, got: object) -> None:
    if not holds:
        raise TrainerError(f"{where}: expected {expected}, got {got}; correct it")


def _as_keys(text: str) -> str:
    """Command-line options, of which the checks of settings speak, as the keys of a file."""
    return re.sub(r"--([a-z][a-z-]*[a-z])", lambda found: found[1].replace("-", "_"), text)
