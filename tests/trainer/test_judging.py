"""Judged runs: every labelled test galaxy is scored, and what is written can be read and checked by others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from astropy.stats import mad_std
from matplotlib.image import imread
from scipy.stats import kstest
from sklearn.metrics import accuracy_score, confusion_matrix

from sharding import Dataset
from trainer import inference, photoz
from trainer.__main__ import main
from trainer.binned import Binned
from trainer.config import EncoderConfig, FinetuneConfig
from trainer.data import EVALUATION_BATCH, Stamps
from trainer.evaluate import evaluate
from trainer.export import export
from trainer.judge_morphology import confusion
from trainer.judge_photoz import Estimates, score_in_bins
from trainer.resnet import ResNet
from trainer.trained import PUBLISHED_BINS, load_trained

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
    assert min(result[f"{name}_error"] for name in ("sigma_mad", "eta", "bias", "crps")) > 0


def test_the_densities_are_scored_as_written(runs: dict[str, Path]) -> None:
    result = json.loads((runs["photoz"] / "metrics.json").read_text())
    table = pq.read_table(runs["photoz"] / "predictions.parquet")
    z_spec, probabilities = table["z_spec"].to_numpy(), np.array(table["probabilities"].to_pylist())
    edges, fine = np.linspace(0, 0.4, 181), np.linspace(0, 0.4, 4001)
    below = [np.interp(fine, edges, np.append(0, np.cumsum(row))) for row in probabilities]
    pit = [np.interp(z, fine, row) for z, row in zip(z_spec, below, strict=True)]
    assert result["pit_ks"] == pytest.approx(kstest(pit, "uniform").statistic, abs=1e-3)
    crps = [np.trapezoid((row - (fine > z)) ** 2, fine) for z, row in zip(z_spec, below, strict=True)]
    # The step lies anywhere in its interval of 1e-4: an error of as much a galaxy at most.
    assert result["crps"] == pytest.approx(np.mean(crps), abs=1e-4)
    assert result["rotations"] == 1


def test_bins_hold_every_galaxy(runs: dict[str, Path], large_survey: Dataset) -> None:
    bins = json.loads((runs["photoz"] / "metrics.json").read_text())["bins"]
    test = large_survey.split("test")
    assert bins["redshift"]["quantity"] == "spectroscopic redshift (specz)"
    assert bins["magnitude"]["quantity"] == "r magnitude (modelMag_r, dereddened)"
    dust = large_survey.column("ebv_sfd")[test] * 2.285  # Schlafly & Finkbeiner 2011
    of = {"redshift": large_survey.column("specz")[test], "magnitude": large_survey.column("modelMag_r")[test] - dust}
    for name, values in of.items():
        rows = bins[name]["rows"]
        assert sum(row["n"] for row in rows) == len(test)
        assert (rows[0]["low"], rows[-1]["high"]) == pytest.approx((values.min(), values.max()), rel=1e-12)


def test_galaxies_without_a_magnitude_are_named(make_survey: Callable[..., Dataset]) -> None:
    def scored(name: str, **how: Any) -> tuple[dict[str, Binned], list[str]]:
        dataset = make_survey(40, name=name, side_px=17, **how)
        z = dataset.column("specz").astype(np.float64)
        estimates = Estimates(np.arange(40), z, z, np.full((40, 180), 1 / 180, dtype=np.float32))
        return score_in_bins(dataset, FinetuneConfig(), estimates)

    bins, notes = scored("without", rename={"modelMag_r": "brightness"})
    assert list(bins) == ["redshift"]
    assert len(notes) == 1
    assert "none of the columns petroMag_r, modelMag_r" in notes[0]
    magnitude = np.linspace(15, 18, 40)
    magnitude[:3] = [np.nan, -9999.0, np.nan]
    bins, notes = scored("some", change={"petroMag_r": magnitude})
    assert sum(each.score.n for each in bins["magnitude"].bins) == 37
    assert notes == ["bins of magnitude: 3 of 40 galaxies have no petroMag_r"]


def test_a_file_of_weights_is_judged_as_its_run(
    runs: dict[str, Path], pretrained: Path, large_survey: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, data = tmp_path / "network.safetensors", ["--data", str(large_survey.path)]
    export(runs["photoz"], file)
    assert main(["evaluate", str(file), *data]) == 2
    assert "say where to write with --out" in capsys.readouterr().err
    assert main(["evaluate", str(file), *data, "--out", str(tmp_path / "judged")]) == 0
    assert (tmp_path / "judged/metrics.json").read_bytes() == (runs["photoz"] / "metrics.json").read_bytes()
    export(pretrained, file)
    assert main(["evaluate", str(file), *data, "--out", str(tmp_path / "other")]) == 2
    assert "expected a fine-tuned run, got a pre-training" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_averaging_over_rotations_is_what_is_judged(
    runs: dict[str, Path], large_survey: Dataset, tmp_path: Path
) -> None:
    words = ["evaluate", str(runs["photoz"]), "--data", str(large_survey.path)]
    assert main([*words, "--out", str(tmp_path), "--rotations", "2"]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["rotations"] == 2
    written = pq.read_table(tmp_path / "predictions.parquet")["probabilities"].to_pylist()
    expected = inference.predict_photoz(runs["photoz"], large_survey, large_survey.split("test"), rotations=2)
    np.testing.assert_array_equal(np.array(written, dtype=np.float32), expected)


def test_a_published_photoz_checkpoint_is_told_by_its_head(
    runs: dict[str, Path], large_survey: Dataset, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = ResNet(EncoderConfig(depth=10, width=2), 5)
    network.fc = torch.nn.Linear(network.num_features, PUBLISHED_BINS)
    weights = {f"module.{name}": value for name, value in network.state_dict().items() if "stretch" not in name}
    torch.save({"model_state": weights, "epoch": 100}, tmp_path / "published.tar")
    trained = load_trained(tmp_path / "published.tar")
    assert isinstance(trained.info.config, FinetuneConfig)
    assert (trained.info.config.task, trained.info.config.bins, trained.info.config.view_px) == ("photoz", 180, 64)
    assert trained.info.bands == large_survey.bands
    some = np.arange(3)
    answers = inference.predict_photoz(tmp_path / "published.tar", large_survey, some)
    with torch.no_grad():
        stamps = Stamps(large_survey, torch.device("cpu"))
        expected = network.eval()(stamps.plain(stamps.read(some), 64)).softmax(dim=1)
    np.testing.assert_array_equal(answers, expected.numpy())


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
    [
        ("photoz", ["bins", "curves", "densities", "pit", "redshift", "residuals"]),
        ("morphology", ["confusion", "curves", "reliability", "roc"]),
    ],
)
def test_figures_are_there_and_nothing_is_left_half_written(runs: dict[str, Path], task: str, names: list[str]) -> None:
    figures = sorted((runs[task] / "figures").iterdir())
    assert {path.stem for path in figures} - {"running"} == set(names)  # how it ran is the page's figure
    assert (runs[task] / "report.html").exists()
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
