"""`python -m trainer evaluate`: judge a fine-tuned run on every labelled galaxy of the test split.

Writes metrics.json, figures/ and predictions.parquet in the run's own folder, or in another, and the run's page,
RUN/report.html. The test split is looked at here, in `knn` and in `study`, and nowhere else; nothing is
chosen by it. What is written for each task is said in `judge_photoz` and `judge_morphology`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sharding import Dataset, atomic_file

from .config import FinetuneConfig
from .data import Indices
from .errors import TrainerError
from .inference import predict
from .judge_morphology import judge_morphology
from .judge_photoz import judge_photoz
from .runreport import write_run_report
from .trained import load_trained


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", type=Path, help="folder of a fine-tuned run, or a file of weights with their head")
    parser.add_argument("--data", required=True, metavar="DATASET", help="dataset whose test split is judged")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write in (default: the run's own)")
    parser.add_argument(
        "--rotations",
        type=int,
        default=1,
        metavar="N",
        help="views of each galaxy, turned by 360/N degrees, whose answers are averaged (default: 1, the plain view)",
    )


def run(args: argparse.Namespace) -> int:
    """Judge the run, print its figures and where the rest is."""
    out = args.run if args.out is None else args.out
    result = evaluate(args.run, Dataset.open(args.data), out=out, rotations=args.rotations)
    shown = {name: value for name, value in result.items() if isinstance(value, int | float)}
    print("  ".join(f"{name} {value:.5g}" for name, value in shown.items()))
    for note in result.get("notes", []):
        print(note)
    print(f"{out / 'metrics.json'}, {out / 'figures'}")
    return 0


def evaluate(run: Path, dataset: Dataset, *, out: Path | None = None, rotations: int = 1) -> dict[str, Any]:
    """Judge the run and write all files in ``out``, else in its own folder; returns the content of metrics.json.

    The answers judged are the mean over ``rotations`` turned views. Raises TrainerError where the run has no head to
    judge, or the test split no label.
    """
    out = run if out is None else out
    if out.is_file():
        raise TrainerError(f"{out}: is a file, which has no folder of its own; say where to write with --out DIR")
    info = load_trained(run).info
    config = info.config
    if not isinstance(config, FinetuneConfig):
        raise TrainerError(f"{run}: expected a fine-tuned run, got a pre-training; run finetune --init {run} first")

    def answer(indices: Indices) -> npt.NDArray[np.float32]:
        return predict(run, dataset, indices, rotations=rotations)

    out.mkdir(parents=True, exist_ok=True)
    if config.task == "photoz":
        scores = judge_photoz(out, dataset, config, answer)
    else:
        scores = judge_morphology(out, dataset, config, info.classes, answer)
    result = {"task": config.task, **scores, "rotations": rotations, "dataset": dataset.digest}
    with atomic_file(out / "metrics.json") as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    if (out / "config.json").exists():  # it is the folder of a run
        write_run_report(out)
    return result
