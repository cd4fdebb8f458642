"""`python -m trainer evaluate`: judge a fine-tuned run on every labelled galaxy of the test split.

Writes RUN/metrics.json, RUN/figures/ and, for redshifts, RUN/predictions.parquet. The test split is looked at here and
in `study`'s baselines, and nowhere else; nothing is chosen by it. What is written for each task is said in
`judge_photoz` and `judge_morphology`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from sharding import Dataset, atomic_file

from .config import FinetuneConfig
from .curves import draw_curves
from .errors import TrainerError
from .judge_morphology import judge_morphology
from .judge_photoz import judge_photoz
from .runfolder import RunInfo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", type=Path, help="folder of a fine-tuned run")
    parser.add_argument("--data", required=True, metavar="DATASET", help="dataset whose test split is judged")


def run(args: argparse.Namespace) -> int:
    """Judge the run, print its figures and where the rest is."""
    result = evaluate(args.run, Dataset.open(args.data))
    shown = {name: value for name, value in result.items() if isinstance(value, int | float)}
    print("  ".join(f"{name} {value:.5g}" for name, value in shown.items()))
    print(f"{args.run / 'metrics.json'}, {args.run / 'figures'}")
    return 0


def evaluate(run: Path, dataset: Dataset) -> dict[str, Any]:
    """Judge the run and write all its files, metrics.json last; returns the content of that file.

    Raises TrainerError where the run has no head to judge, or the test split no label.
    """
    config = RunInfo.read(run).config
    if not isinstance(config, FinetuneConfig):
        raise TrainerError(f"{run}: expected a fine-tuned run, got a pre-training; run finetune --init {run} first")
    judge = {"photoz": judge_photoz, "morphology": judge_morphology}[config.task]
    scores = judge(run, dataset, config)
    draw_curves(run, run / "figures" / "curves.png", title="training")
    result = {"task": config.task, **scores, "dataset": dataset.digest}
    with atomic_file(run / "metrics.json") as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    return result
