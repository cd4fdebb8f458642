"""The RUN folder: what a run is, said in `config.json`, and whether it may go on.

`config.json` holds the kind of run, its settings, the dataset's digest and what a network needs to be built again: the
bands and, for morphology, the classes. A folder that holds another run is refused, never overwritten.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sharding import Dataset, atomic_file

from .checkpoint import Checkpoints
from .config import FinetuneConfig, PretrainConfig, differing, from_json, to_json
from .errors import TrainerError

FORMAT = "skymill-run"
VERSION = 1

_CONFIGS: dict[str, type[PretrainConfig] | type[FinetuneConfig]] = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInfo:
    """The content of `config.json`."""

    kind: Literal["pretrain", "finetune"]
    config: PretrainConfig | FinetuneConfig
    dataset: str  # digest of the dataset that the run is trained on
    bands: tuple[str, ...]
    classes: tuple[str, ...] = ()  # of a morphology run, in the order of the network's outputs
    init: str | None = None  # the run that gave the first weights, as it was named

    def as_json(self) -> dict[str, Any]:
        """Plain values, the inverse of `read`."""
        return {"format": FORMAT, "version": VERSION, **asdict(self), "config": to_json(self.config)}

    @classmethod
    def read(cls, run: Path) -> "RunInfo":
        """What the run in this folder is; TrainerError where it is none."""
        path = run / "config.json"
        try:
            return cls._parse(json.loads(path.read_bytes()))
        except OSError as err:
            raise TrainerError(f"{path}: cannot be read ({err.strerror}); is {run} the folder of a run?") from err
        except TrainerError as err:
            raise TrainerError(f"{path}: {err}") from None
        except (ValueError, KeyError, TypeError) as err:
            raise TrainerError(f"{path}: damaged ({err!r}); put it back from a copy, or start in a new folder") from err

    @classmethod
    def _parse(cls, content: dict[str, Any]) -> "RunInfo":
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise TrainerError(f"expected {FORMAT} {VERSION}; use the Skymill that wrote it")
        kind = content["kind"]
        return cls(
            kind=kind,
            config=from_json(_CONFIGS[kind], content["config"]),
            dataset=content["dataset"],
            bands=tuple(content["bands"]),
            classes=tuple(content["classes"]),
            init=content["init"],
        )


class RunFolder:
    """A run that is being made: `config.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = Checkpoints(path / "checkpoints")

    def enter(self, info: RunInfo) -> dict[str, Any] | None:
        """The newest checkpoint of this very run, None where it is still to begin; TrainerError for another run."""
        if not (self.path / "config.json").exists():
            if held := sorted(path.name for path in self.checkpoints.folder.glob("*.pt")):
                raise TrainerError(
                    f"{self.path}: holds checkpoints ({held[-1]}) but no config.json that says of which run; put that "
                    "file back, or choose another --out"
                )
            return None
        old = RunInfo.read(self.path)
        if changes := _changes(old, info):
            raise TrainerError(
                f"{self.path}: holds another run ({'; '.join(changes)}); resume it as it was, or choose another --out"
            )
        return self.checkpoints.newest()

    def publish(self, info: RunInfo) -> None:
        """Write `config.json`: one rank does, once all have entered."""
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path / "config.json") as file:
            file.write((json.dumps(info.as_json(), indent=1) + "\n").encode())


def check_bands(info: RunInfo, dataset: Dataset, run: Path) -> None:
    """Refuse a dataset whose bands are not the run's."""
    if info.bands != dataset.bands:
        raise TrainerError(
            f"{dataset.location}: expected the bands of {run} ({', '.join(info.bands)}), got {', '.join(dataset.bands)}"
        )


def _changes(old: RunInfo, new: RunInfo) -> list[str]:
    """What is not as it was, as text."""
    if old.kind != new.kind:
        return [f"it is a {old.kind} run"]
    changes = differing(to_json(old.config), to_json(new.config), type(new.config))
    if old.dataset != new.dataset:
        changes.append(f"its dataset has digest {old.dataset[:12]}, this one {new.dataset[:12]}")
    for name in ("init", "classes"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            changes.append(f"{name} is {before} there, {after} here")
    return changes
