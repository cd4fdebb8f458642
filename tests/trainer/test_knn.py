"""Neighbours' votes against scikit-learn's classifier, and what the command judges by and writes."""

import argparse
import json
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from sharding import Dataset
from trainer import knn as module
from trainer.config import FinetuneConfig
from trainer.embedder import Embedder
from trainer.errors import TrainerError
from trainer.knn import CANDIDATES, Voters, choose_k, knn
from trainer.labels import choose_labels
from trainer.tasks import make_task


class Features(Embedder):
    """The redshift as an angle in the place of a network's features, so that near redshifts are near directions."""

    def __init__(self, source: Path, dataset: Dataset) -> None:
        angle = np.nan_to_num(dataset.column("specz").astype(np.float64)) * 4.0
        noise = np.random.default_rng(0).normal(0, 0.02, (len(angle), 1))
        self._table = np.hstack([np.cos(angle)[:, None], np.sin(angle)[:, None], noise]).astype(np.float32)
        self.width, self.digest = 3, "features"

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def stream(self, indices: np.ndarray) -> Generator[np.ndarray, None, None]:
        for part in np.array_split(indices, 3):
            ASKED.append(part)
            yield self._table[part]


ASKED: list[np.ndarray] = []


@pytest.fixture(autouse=True)
def features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Embedder", Features)
    ASKED.clear()


@pytest.mark.parametrize("task_name", ["photoz", "morphology"])
@pytest.mark.parametrize("k", [1, 7])
def test_shares_are_those_of_scikit_learns_classifier(large_survey: Dataset, task_name: str, k: int) -> None:
    config = FinetuneConfig(task=task_name, bins=12)
    task = make_task(config, large_survey)
    labels = choose_labels(config, large_survey, task)
    embedder = Features(Path("run"), large_survey)
    voters = Voters(embedder, labels.train, task)
    classifier = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
    classifier.fit(embedder.features(labels.train).astype(np.float64), task.target(labels.train))
    expected = np.zeros((len(labels.validation), task.outputs))
    answer = classifier.predict_proba(embedder.features(labels.validation).astype(np.float64))
    expected[:, classifier.classes_] = answer
    shares = voters.shares(voters.nearest(labels.validation, 9), k)
    np.testing.assert_allclose(shares, expected, rtol=0, atol=6e-8)  # float32


def test_validation_chooses_the_number_of_neighbours(large_survey: Dataset) -> None:
    config = FinetuneConfig(bins=60)
    task = make_task(config, large_survey)
    labels = choose_labels(config, large_survey, task)
    voters = Voters(Features(Path("run"), large_survey), labels.train, task)
    scores = [task.score(voters.shares(voters.nearest(labels.validation, k), k), labels.validation) for k in CANDIDATES]
    assert choose_k(voters, labels, task) == CANDIDATES[int(np.argmin(scores))]


@pytest.mark.parametrize("task_name", ["photoz", "morphology"])
def test_an_encoder_is_judged_on_the_test_split_and_nothing_is_chosen_by_it(
    large_survey: Dataset, tmp_path: Path, task_name: str
) -> None:
    config = FinetuneConfig(task=task_name, bins=60, label_fraction=0.5)
    result = knn(Path("run"), large_survey, config, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == result
    labels = choose_labels(config, large_survey, make_task(config, large_survey))
    assert (result["train"], result["label_fraction"]) == (len(labels.train), 0.5)
    test = large_survey.split("test")
    before = np.concatenate(ASKED[:6])  # three pieces of training, three of validation: then k is chosen
    np.testing.assert_array_equal(before, np.concatenate([labels.train, labels.validation]))
    np.testing.assert_array_equal(np.concatenate(ASKED[6:]), test[make_task(config, large_survey).known(test)])
    # Half of some 850 redshifts over 0.28 and few neighbours: the features tell redshifts to a few thousandths.
    assert result["sigma_mad"] < 0.01 if task_name == "photoz" else result["accuracy"] > 0.95
    assert len(list((tmp_path / "out" / "figures").glob("*.png"))) >= 1
    assert pq.read_table(tmp_path / "out" / "predictions.parquet").num_rows == result["n"]


def test_the_settings_of_labels_are_those_of_finetune(
    large_survey: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judged: list[FinetuneConfig] = []
    monkeypatch.setattr(module, "_judge", lambda out, dataset, config, task, answer: judged.append(config) or {})
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    words = ["run", "--data", str(large_survey.path), "--out", str(tmp_path / "o"), "--k", "3", "--bins", "30"]
    assert module.run(parser.parse_args([*words, "--task", "photoz", "--label-fraction", "0.3"])) == 0
    assert "k 3  " in capsys.readouterr().out
    assert judged == [FinetuneConfig(task="photoz", bins=30, label_fraction=0.3)]
    with pytest.raises(SystemExit):
        parser.parse_args([*words, "--task", "stars"])


@pytest.mark.parametrize("k", [0, 100_000])
def test_more_neighbours_than_galaxies_are_refused_before_anything_is_computed(
    large_survey: Dataset, tmp_path: Path, k: int
) -> None:
    with pytest.raises(TrainerError, match=rf"--k: expected 1 to \d+, the labelled training galaxies, got {k}"):
        knn(Path("run"), large_survey, FinetuneConfig(), tmp_path / "out", k)
    assert not ASKED
