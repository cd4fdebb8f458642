"""Judged morphology: what is written follows from the votes and the answers, from fine-tuning to figures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread
from sklearn import metrics as reference

from sharding import Dataset
from trainer.__main__ import main
from trainer.config import EncoderConfig, FinetuneConfig
from trainer.errors import TrainerError
from trainer.galaxy_zoo import FEATURES, NOT_EDGE_ON, SMOOTH, debiased
from trainer.judge_morphology import judge_morphology

from .conftest import SMALL, MakeSurvey

CONFIG = FinetuneConfig(
    encoder=EncoderConfig(depth=10, width=2), batch=16, batch_norm_groups=1, task="morphology", question="bar"
)
BAR = ("bar", "no bar")


def votes(samples: int) -> dict[str, np.ndarray]:
    """Votes on bars; every fourth galaxy was shown the question too rarely."""
    rng = np.random.default_rng(8)
    bar = rng.uniform(0, 1, samples)
    return {
        debiased(FEATURES): rng.uniform(0.5, 1, samples),
        debiased(NOT_EDGE_ON): rng.uniform(0.8, 1, samples),
        f"{NOT_EDGE_ON}_count": np.where(np.arange(samples) % 4 == 0, 12, 30),
        "t03_bar_a06_bar_debiased": bar,
        "t03_bar_a07_no_bar_debiased": 1.0 - bar,
    }


@pytest.fixture
def barred(make_survey: MakeSurvey) -> Dataset:
    """A dataset with votes on bars."""
    return make_survey(400, side_px=17, change=votes(400))


def guess(dataset: Dataset, seed: int = 0) -> Any:
    """An answer that knows something: the share of the votes, noisy and in steps, so that there are ties."""
    share = dataset.column("t03_bar_a06_bar_debiased")
    noise = np.random.default_rng(seed).normal(0, 0.3, len(share))
    said = np.round(np.clip(share + noise, 0, 1), 1)
    return lambda indices: np.stack([said[indices], 1 - said[indices]], axis=1)


def test_the_scores_follow_from_the_predictions(barred: Dataset, tmp_path: Path) -> None:
    result = judge_morphology(tmp_path, barred, CONFIG, BAR, guess(barred))
    table = pq.read_table(tmp_path / "predictions.parquet")
    test = barred.split("test")
    asked = test[test % 4 != 0]
    assert (result["n"], result["unlabelled"]) == (len(asked), len(test) - len(asked))
    assert table["objid"].to_pylist() == barred.column("objid")[asked].tolist()
    assert json.loads(table.schema.metadata[b"classes"]) == list(BAR) == result["classes"]
    truth, answer = table["truth"].to_pylist(), table["answer"].to_pylist()
    share = barred.column("t03_bar_a06_bar_debiased")[asked]
    assert truth == [BAR[0] if each >= 0.5 else BAR[1] for each in share]
    shares, probabilities = (np.array(table[name].to_pylist()) for name in ("shares", "probabilities"))
    np.testing.assert_allclose(shares[:, 0], share, rtol=1e-6)
    assert result["accuracy"] == pytest.approx(reference.accuracy_score(truth, answer), rel=1e-12)
    assert result["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(truth, answer), rel=1e-12)
    assert result["confusion"] == reference.confusion_matrix(truth, answer, labels=BAR).tolist()
    area = reference.roc_auc_score(np.array(truth) == BAR[0], probabilities[:, 0])
    assert result["auc_of_class"] == pytest.approx(dict.fromkeys(BAR, area), rel=1e-12)
    assert result["auc"] == pytest.approx(area, rel=1e-12)
    clipped = np.clip(probabilities, np.finfo(np.float32).eps, 1)
    assert result["log_loss"] == pytest.approx(-np.sum(shares * np.log(clipped), axis=1).mean(), rel=1e-6)
    # The scatter of a share of n galaxies, which 1,000 draws tell to 1 / sqrt(2,000); five times that
    scatter = (result["accuracy"] * (1 - result["accuracy"]) / result["n"]) ** 0.5
    assert result["accuracy_error"] == pytest.approx(scatter, rel=5 / 2000**0.5)
    assert 0 < result["auc_error"] < scatter * 2


def test_a_class_that_the_test_split_lacks_leaves_its_figures_undefined(
    make_survey: MakeSurvey, tmp_path: Path
) -> None:
    dataset = make_survey(100, side_px=5, change={"morphology": np.array(["b", "c"] * 50, dtype=object)})
    config = FinetuneConfig(encoder=CONFIG.encoder, batch=16, batch_norm_groups=1, task="morphology")
    even = lambda indices: np.full((len(indices), 3), 1 / 3)  # noqa: E731
    result = judge_morphology(tmp_path, dataset, config, ("a", "b", "c"), even)
    assert result["auc_of_class"] == {"a": None, "b": 0.5, "c": 0.5}
    assert result["confusion"][0] == [0, 0, 0]
    assert result["auc"] == 0.5
    json.dumps(result, allow_nan=False)
    with pytest.raises(TrainerError, match="column morphology: expected classes x, y in the test split, got none"):
        judge_morphology(tmp_path, dataset, config, ("x", "y"), even)


def test_figures_are_the_same_bytes_each_time(barred: Dataset, tmp_path: Path) -> None:
    names = ["confusion.png", "reliability.png", "roc.png"]
    written = []
    for place in (tmp_path / "one", tmp_path / "two"):
        judge_morphology(place, barred, CONFIG, BAR, guess(barred))
        assert sorted(path.name for path in (place / "figures").iterdir()) == names
        assert all(imread(place / "figures" / name).std() > 0 for name in names)
        written.append([path.read_bytes() for path in sorted(place.rglob("*.*"))])
    assert written[0] == written[1]


@pytest.mark.parametrize("question", ["bar", "five_class"])
def test_a_question_is_learnt_and_judged_from_start_to_end(
    make_survey: MakeSurvey, tmp_path: Path, question: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    five = {
        debiased(answer): rng.uniform(0, 1, 300)
        for answer in (
            SMOOTH,
            "t02_edgeon_a04_yes",
            "t04_spiral_a08_spiral",
            "t07_rounded_a16_completely_round",
            "t07_rounded_a17_in_between",
            "t07_rounded_a18_cigar_shaped",
        )
    }
    data, run = str(make_survey(300, side_px=17, change=votes(300) | five).path), str(tmp_path / "run")
    words = ["--data", data, "--out", run, "--init", "none", "--task", "morphology", "--question", question]
    assert main(["finetune", *words, *SMALL, "--epochs", "1"]) == 0
    assert main(["evaluate", run, "--data", data]) == 0
    result = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert result["n"] == sum(map(sum, result["confusion"])) > 20
    assert len(result["classes"]) == {"bar": 2, "five_class": 5}[question]
    assert "accuracy" in capsys.readouterr().out
