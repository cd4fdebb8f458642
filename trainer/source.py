"""Where a run's images come from: the dataset of ``--data``, and a local copy of its shards with ``--stage``."""

import argparse
from pathlib import Path

from rich.console import Console

from sharding import Dataset

from .errors import TrainerError


def add_source(parser: argparse.ArgumentParser, text: str) -> None:
    """Arguments that `open_source` reads."""
    parser.add_argument("--data", required=True, metavar="DATASET", help=f"{text}: a folder or a URL")
    group = parser.add_argument_group("local copy")
    group.add_argument(
        "--stage",
        type=Path,
        metavar="DIR",
        help="copy the shards there while training, once per node, and read them there; kept for the next run",
    )
    group.add_argument(
        "--stage-gb", type=float, metavar="GB", help="with --stage: copy no more than this of the dataset"
    )


def open_source(args: argparse.Namespace, console: Console) -> Dataset:
    """Open the dataset, and begin to copy it if that is wanted; ``console`` hears how far that is."""
    if (args.stage is None) != (args.stage_gb is None):
        raise TrainerError("--stage: it goes with --stage-gb, the size that the copy may have; give both or none")
    if args.stage_gb is not None and not 0 < args.stage_gb < float("inf"):
        raise TrainerError(f"--stage-gb: expected more than 0, got {args.stage_gb:g}")
    dataset = Dataset.open(args.data)
    if args.stage is not None:
        dataset.stage(args.stage, int(args.stage_gb * 1e9), _StageLines(console, args.stage))
    return dataset


class _StageLines:
    """A line for each further tenth of the copy."""

    def __init__(self, console: Console, folder: Path) -> None:
        self._console, self._folder = console, folder
        self._tenths = 0

    def __call__(self, staged: int, total: int) -> None:
        tenths = 10 * staged // max(total, 1)
        if tenths > self._tenths:
            self._tenths = tenths
            line = f"{self._folder}: {staged / 1e9:.3g} of {total / 1e9:.3g} GB staged"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
