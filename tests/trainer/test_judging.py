"""Judged runs: every labelled test galaxy is scored, and what is written can be read and checked by others."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.stats import mad_std
from matplotlib.image import imread
from sklearn.metrics import accuracy_score, confusion_matrix

from sharding import Dataset
from trainer import inference, photoz
from trainer.__main__ import main
from trainer.data import EVALUATION_BATCH
from trainer.embed import embed, provenance
from trainer.evaluate import evaluate
from trainer.judge_morphology import confusion

TASKS = ("photoz", "morphology")


@pytest.fixture(scope="module")
def runs(large_survey: Dataset, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A fine-tuned run for each task, judged."""
    folder = tmp_path_factory.mktemp("runs")
    for task in TASKS:
        words = ["--data", str(large_survey.path), "--out", str(folder / task), "--init", str(pretrained)]
        small = ["--task", task, "--epochs", "1", "--batch", "64", "--batch-norm-groups", "1", "--view-px", "16"]
        assert main(["finetune", *words, *small]) == 0
        assert main(["evaluate", str(folder / task), "--data", str(large_survey.path)]) == 0
    return {task: folder / task for task in TASKS}


def test_every_labelled_test_galaxy_is_scored_the_last_partial_batch_too(
    runs: dict[str, Path], large_survey: Dataset
) -> None:
    test = large_survey.split("test")
    assert len(test) > EVALUATION_BATCH
    assert len(test) % EVALUATION_BATCH
    result = json.loads((runs["photoz"] / "metrics.json").read_text())
    predictions = pq.read_table(runs["photoz"] / "predictions.parquet")
    assert (result["n"], result["unlabelled"]) == (len(test), 0)
    assert predictions["objid"].to_pylist() == large_survey.column("objid")[test].tolist()
    np.testing.assert_array_equal(predictions["z_spec"].to_numpy(), large_survey.column("specz")[test])


def test_the_scores_follow_from_the_predictions(runs: dict[str, Path], large_survey: Dataset) -> None:
    result = json.loads((runs["photoz"] / "metrics.json").read_text())
    table = pq.read_table(runs["photoz"] / "predictions.parquet")
    z_spec, z_phot = table["z_spec"].to_numpy(), table["z_phot"].to_numpy()
    probabilities = np.array(table["probabilities"].to_pylist())
    # float32 probabilities of 180 bins: their sum is right to 180 times half an ulp at most
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=180 * 6e-8)
    np.testing.assert_allclose(probabilities @ photoz.bin_centres(180), z_phot, rtol=1e-12)
    dz = (z_phot - z_spec) / (1 + z_spec)
    # astropy's constant is 1.482602..., the papers' 1.4826
    assert result["sigma_mad"] == pytest.approx(mad_std(dz), rel=2e-6)
    assert result["eta"] == pytest.approx(np.mean(np.abs(dz) > 0.05), rel=1e-12)
    assert result["bias"] == pytest.approx(np.mean(dz), rel=1e-9, abs=1e-12)
    assert (result["task"], result["dataset"]) == ("photoz", large_survey.digest)
    assert min(result[f"{name}_error"] for name in ("sigma_mad", "eta", "bias")) > 0


def test_a_galaxy_is_judged_alone_as_in_a_batch(runs: dict[str, Path], large_survey: Dataset) -> None:
    table = pq.read_table(runs["photoz"] / "predictions.parquet").slice(250, 10)
    indices = np.flatnonzero(np.isin(large_survey.column("objid"), table["objid"].to_numpy()))
    alone = [inference.predict_photoz(runs["photoz"], large_survey, indices[[i]])[0] for i in range(10)]
    # fp32 sums in another order: relative 1e-5 of a probability
    np.testing.assert_allclose(alone, np.array(table["probabilities"].to_pylist()), rtol=1e-4, atol=1e-7)


def test_classes_are_counted_as_scikit_learn_does(runs: dict[str, Path], large_survey: Dataset) -> None:
    result = json.loads((runs["morphology"] / "metrics.json").read_text())
    test = large_survey.split("test")
    names = large_survey.column("morphology")[test]
    known = np.array([name is not None for name in names])
    answer = inference.predict(runs["morphology"], large_survey, test[known]).argmax(axis=1)
    given = np.array(["smooth", "spiral"])[answer]
    assert (result["n"], result["unlabelled"]) == (int(known.sum()), int((~known).sum()))
    assert result["classes"] == ["smooth", "spiral"]
    assert result["accuracy"] == pytest.approx(accuracy_score(list(names[known]), given), rel=1e-12)
    assert result["confusion"] == confusion_matrix(list(names[known]), given).tolist()


def test_confusion_has_a_row_for_a_class_that_never_comes() -> None:
    truth, answer = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    assert confusion(truth, answer, 3).tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 2]]


@pytest.mark.parametrize(
    ("task", "names"),
    [("photoz", ["curves", "densities", "redshift", "residuals"]), ("morphology", ["confusion", "curves"])],
)
def test_figures_are_there_and_nothing_is_left_half_written(runs: dict[str, Path], task: str, names: list[str]) -> None:
    figures = sorted((runs[task] / "figures").iterdir())
    assert [path.name for path in figures] == [f"{name}.png" for name in names]
    assert all(imread(path).std() > 0 for path in figures)
    assert not list(runs[task].rglob("*.partial"))


def test_judging_again_gives_the_same_files(runs: dict[str, Path], large_survey: Dataset) -> None:
    before = {name: (runs["photoz"] / name).read_bytes() for name in ("metrics.json", "figures/redshift.png")}
    evaluate(runs["photoz"], large_survey)
    assert before == {name: (runs["photoz"] / name).read_bytes() for name in before}


def test_what_cannot_be_judged_says_so(
    pretrained: Path, runs: dict[str, Path], large_survey: Dataset, make_survey, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(pretrained), "--data", str(large_survey.path)]) == 2
    assert "expected a fine-tuned run, got a pre-training" in capsys.readouterr().err
    unlabelled = make_survey(40, labelled=0)
    assert main(["evaluate", str(runs["photoz"]), "--data", str(unlabelled.path)]) == 2
    assert "expected redshifts in specz in the test split, got none" in capsys.readouterr().err


def test_embeddings_are_the_features_of_every_sample_in_order(
    pretrained: Path, large_survey: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.embed.CHUNK_ROWS", 300)  # several row groups, the last one partial
    width = embed(pretrained, large_survey, tmp_path / "sub" / "e.parquet")
    table = pq.read_table(tmp_path / "sub" / "e.parquet")
    assert table["objid"].to_pylist() == large_survey.column("objid").tolist()
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, width)
    expected = inference.features(pretrained, large_survey, np.arange(len(large_survey)))
    # The same arithmetic in batches cut elsewhere: fp32 rounding.
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max()))
    metadata = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    assert metadata == provenance(pretrained, large_survey)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["e.parquet"]


def test_similar_draws_and_prints(
    pretrained: Path, large_survey: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = str(tmp_path / "e.parquet"), str(tmp_path / "n.png")
    data = ["--data", str(large_survey.path)]
    assert main(["embed", str(pretrained), *data, "--out", file]) == 0
    objid = str(large_survey.column("objid")[3])
    assert main(["similar", file, "--objid", objid, "--k", "4", *data, "--out", picture]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["0", objid, "1.0000"]
    assert len(lines) == 1 + 1 + 5 + 1
    assert imread(picture).std() > 0
    assert main(["similar", file, "--objid", "7"]) == 2
    assert "no objid 7 among its 1100 galaxies" in capsys.readouterr().err
    assert main(["similar", file, "--objid", objid, *data]) == 2
    assert "--data and --out go together" in capsys.readouterr().err
