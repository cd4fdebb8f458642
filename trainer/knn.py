"""`python -m trainer knn`: judge an encoder without training anything, by the labels of the nearest training galaxies.

Neighbours are by the cosine of the encoder's features of plain views, exactly (see `neighbours`). A galaxy's
probability of a class, or of a redshift bin, is that class' share among its k nearest. The test split is met in the
judging alone. Written: OUT/metrics.json and what the task's judge writes.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sharding import Dataset, atomic_file

from .config import FinetuneConfig
from .data import Indices
from .embedder import Embedder
from .errors import TrainerError
from .judge_morphology import judge_morphology
from .judge_photoz import judge_photoz
from .labels import Labels, choose_labels
from .neighbours import nearest
from .settings import add_settings, config_from
from .tasks import Task, make_task

OF_LABELS = ("task", "label", "question", "label_fraction", "bins", "seed")  # the settings that say which labels
CANDIDATES = (5, 10, 20, 50, 100)  # numbers of neighbours that validation chooses among

Shares = npt.NDArray[np.float32]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command; those of the labels are finetune's."""
    parser.add_argument(
        "run", type=Path, help="folder of the run to judge, pre-trained or fine-tuned, or a published file"
    )
    parser.add_argument("--data", required=True, metavar="DATASET", help="dataset with labels: a folder or a URL")
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json and figures")
    parser.add_argument("--k", type=int, help="how many neighbours (default: what is best on validation)")
    add_settings(parser, FinetuneConfig, names=OF_LABELS)


def run(args: argparse.Namespace) -> int:
    """Judge the encoder, print its figures and where the rest is."""
    config = config_from(args, FinetuneConfig)
    result = knn(args.run, Dataset.open(args.data), config, args.out, args.k)
    shown = {name: value for name, value in result.items() if isinstance(value, int | float)}
    print("  ".join(f"{name} {value:.5g}" for name, value in shown.items()))
    print(f"{args.out / 'metrics.json'}, {args.out / 'figures'}")
    return 0


def knn(run: Path, dataset: Dataset, config: FinetuneConfig, out: Path, k: int | None = None) -> dict[str, Any]:
    """Judge a run's encoder and write all files, metrics.json last; returns the content of that file.

    ``config`` says which labels. Without ``k`` the validation split chooses it. Raises TrainerError where the labels or
    the run do not fit.
    """
    task = make_task(config, dataset)
    labels = choose_labels(config, dataset, task)
    if k is not None and not 1 <= k <= len(labels.train):
        raise TrainerError(f"knn: --k: expected 1 to {len(labels.train)}, the labelled training galaxies, got {k}")
    embedder = Embedder(run, dataset)
    voters = Voters(embedder, labels.train, task)
    chosen = choose_k(voters, labels, task) if k is None else k

    def answer(indices: Indices) -> Shares:
        return voters.shares(voters.nearest(indices, chosen), chosen)

    out.mkdir(parents=True, exist_ok=True)
    scores = _judge(out, dataset, config, task, answer)
    settings = {"k": chosen, "train": len(labels.train), "label_fraction": config.label_fraction}
    origin = {"encoder": embedder.digest, "dataset": dataset.digest}
    result = {"task": config.task, "method": "nearest neighbours", **settings, **scores, **origin}
    with atomic_file(out / "metrics.json") as file:
        file.write((json.dumps(result, indent=1) + "\n").encode())
    return result


class Voters:
    """The labelled training galaxies: their features and their classes."""

    def __init__(self, embedder: Embedder, train: Indices, task: Task) -> None:
        self._embedder = embedder
        self._features = torch.from_numpy(embedder.features(train)).to(embedder.device)
        self._class, self._classes = task.target(train), task.outputs

    def nearest(self, indices: Indices, k: int) -> Indices:
        """The ``k`` voters nearest to each of these samples, nearest first: (n, k)."""
        found = [
            nearest(torch.from_numpy(features).to(self._embedder.device), [self._features], k).row_QK.cpu().numpy()
            for features in self._embedder.stream(indices)
        ]
        return np.concatenate([np.empty((0, k), np.int64), *found])

    def shares(self, found: Indices, k: int) -> Shares:
        """Each class' share among the ``k`` nearest of those ``found``: (n, classes), rows sum to one."""
        votes = self._class[found[:, :k]]
        row = np.arange(len(votes))[:, None] * self._classes
        counts = np.bincount((row + votes).ravel(), minlength=len(votes) * self._classes)
        return (counts.reshape(len(votes), self._classes) / k).astype(np.float32)


def choose_k(voters: Voters, labels: Labels, task: Task) -> int:
    """The number of neighbours among `CANDIDATES` that is best on validation; the smallest of equal ones."""
    candidates = [k for k in CANDIDATES if k <= len(labels.train)]
    found = voters.nearest(labels.validation, max(candidates))
    scores = {k: task.score(voters.shares(found, k), labels.validation) for k in candidates}
    return min(scores, key=lambda k: scores[k])


def _judge(
    out: Path, dataset: Dataset, config: FinetuneConfig, task: Task, answer: Callable[[Indices], Shares]
) -> dict[str, Any]:
    if config.task == "photoz":
        return judge_photoz(out, dataset, config, answer)
    return judge_morphology(out, dataset, config, task.classes, answer)
