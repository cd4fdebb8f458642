"""The study as a whole: what it trains and chooses, what its table holds; no label of a test galaxy is used."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from sharding import Dataset
from trainer.__main__ import main
from trainer.metrics import score_photoz
from trainer.study import study
from trainer.study.scheduler import Job, Scheduler
from trainer.trace import read_trace

RECIPE = """
[study]
about = "A study for tests."
tasks = ["photoz", "morphology"]
methods = ["supervised", "finetuned", "probe"]
fractions = [0.5, 1.0]
seeds = 2
rates = [1.0, 0.1]
probe_epochs = 2
least_steps = 1

[pretrain]
depth = 10
width = 4
view_px = 16
batch = 32
batch_norm_groups = 1
queue = 64
max_steps = 2

[finetune]
view_px = 16
batch = 64
batch_norm_groups = 1
epochs = 1
bins = 20

[finetune.lr]
supervised = 0.05
finetuned = 0.05
probe = 0.5

[assumed]
galaxies = 1000
devices = 1
memory_gb = 16.0
step_ms = 1.0
source = "Nowhere."
plain = { tflops = 1.0, start_s = 1.0 }
labelled = { photoz = 1000, morphology = 900 }
"""
SAMPLES = 420
LEARNT = ("step", "epoch", "loss", "lr", "accuracy")  # of a record, beside the scores on validation
TRAININGS = 2 * 2 * (2 + 1)  # tasks, methods; both rates with the first seed, the chosen one with the other
BEGUN: list[str] = []


class InProcess(Scheduler):
    """Carries out jobs in this process, which spares importing torch for each; notes those that were not done."""

    def carry_out(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if not job.done:
                assert main(list(job.words)) == 0
                job.mark_done()
                BEGUN.append(job.name)


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings in this process, and no page: other tests look at it."""
    monkeypatch.setattr(study, "Scheduler", InProcess)
    monkeypatch.setattr(study, "write_report", lambda out, *_, **__: out / "index.html")
    BEGUN.clear()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tests.toml"
    path.write_text(RECIPE)
    return path


def conduct(recipe: Path, dataset: Dataset, out: Path, *words: str) -> dict[str, Any]:
    """Run the command; gives the content of the table."""
    assert main(["study", "--recipe", str(recipe), "--data", str(dataset.path), "--out", str(out), *words]) == 0
    content: dict[str, Any] = json.loads((out / "table.json").read_text())
    return content


def test_no_label_of_a_test_galaxy_is_used_but_in_the_table(
    make_survey, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = make_survey(SAMPLES, side_px=17)
    test = straight.split("test")
    rng = np.random.default_rng(0)
    scrambled = {name: straight.column(name).copy() for name in ("specz", "morphology")}
    for values in scrambled.values():
        values[test] = values[rng.permutation(test)]
    other = make_survey(SAMPLES, side_px=17, name="scrambled", change=scrambled)
    assert other.digest != straight.digest

    fewer = tmp_path / "fewer.toml"  # a fine-tuning goes the way of a training from scratch
    fewer.write_text(
        recipe.read_text().replace('"finetuned", ', "").replace("fractions = [0.5, 1.0]", "fractions = [1.0]")
    )
    tables = [conduct(fewer, dataset, tmp_path / name) for dataset, name in ((straight, "a"), (other, "b"))]
    left, right = tmp_path / "a", tmp_path / "b"
    assert len(BEGUN) == 2 * (1 + 1 + TRAININGS)
    files, others = ({path.relative_to(top) for path in top.rglob("*.[pj]*")} for top in (left, right))
    assert files == others
    for name in files:
        if name.suffix == ".pt":
            ours, theirs = (torch.load(top / name, weights_only=True)["model"] for top in (left, right))
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        elif name.name in ("test_answers.parquet", "embeddings.parquet"):
            assert pq.read_table(left / name).equals(pq.read_table(right / name))
        elif name.name == "metrics.jsonl":
            ours, theirs = ([learnt(record) for record in read_trace(top / name).records] for top in (left, right))
            assert ours == theirs
    chosen = [[row["seeds"] for row in table["rows"]] for table in tables]
    assert chosen[0] == chosen[1]
    for before, after in zip(*(table["rows"] for table in tables), strict=True):
        if before["task"] == "photoz" and before["method"] in ("supervised", "catalogue"):
            assert before["figures"] != after["figures"]  # the truth did change


def learnt(record: Any) -> dict[str, float]:
    """What of a record says what was learnt, and not how fast."""
    return {name: value for name, value in record.items() if name in LEARNT or name.startswith("validation")}


def test_the_table_holds_what_the_answers_are_worth_and_comes_again(
    make_survey, recipe: Path, pretrained: Path, large_survey: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    words = ["--init", str(pretrained), "--fractions", "1", "--seeds", "1"]
    content = conduct(recipe, large_survey, out, *words)
    assert content["dataset"] == large_survey.digest
    rows = {(row["task"], row["method"]): row for row in content["rows"]}
    assert {method for _, method in rows} == {
        "supervised", "finetuned", "probe", "neighbours", "catalogue", "trees", "guess"
    }  # fmt: skip
    test = large_survey.split("test")
    truth = large_survey.column("specz").astype(np.float64)[test]
    scores = {}
    for rate in ("1", "0.1"):
        folder = out / "runs" / "photoz" / "supervised" / "1" / f"seed0-x{rate}"
        scores[rate] = min(r["validation_sigma_mad"] for r in read_trace(folder / "metrics.jsonl").records
                           if "validation_sigma_mad" in r)  # fmt: skip
    best = min(scores, key=lambda rate: scores[rate])
    kept = out / "runs" / "photoz" / "supervised" / "1" / f"seed0-x{best}"
    held = pq.read_table(kept / "test_answers.parquet")
    np.testing.assert_array_equal(held["objid"].to_numpy(), large_survey.column("objid")[test])
    score = score_photoz(held["answer"].to_numpy(), truth)
    assert rows["photoz", "supervised"]["figures"]["sigma_mad"]["value"] == score.sigma_mad
    assert rows["photoz", "supervised"]["figures"]["sigma_mad"]["error"] == score.sigma_mad_error
    assert not list(kept.glob("checkpoints/step-*.pt"))  # of no use any more
    # Colours follow the redshift by 1.5 mag over the range, with a scatter of 0.05 mag: neighbours must beat the mean.
    figures = {method: rows["photoz", method]["figures"]["sigma_mad"]["value"] for method in ("catalogue", "guess")}
    assert figures["catalogue"] < 0.5 * figures["guess"]

    table = (out / "table.json").read_bytes()
    BEGUN.clear()
    conduct(recipe, large_survey, out, *words)  # done, so nothing is trained
    assert BEGUN == []
    assert (out / "table.json").read_bytes() == table


def test_a_study_of_another_dataset_is_refused(
    make_survey, recipe: Path, pretrained: Path, large_survey: Dataset, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "study"
    out.mkdir()
    (out / "study.json").write_text('{"format": "skymill-study", "dataset": "another", "init": null}')
    words = ["--recipe", str(recipe), "--data", str(large_survey.path), "--out", str(out), "--init", str(pretrained)]
    assert main(["study", *words]) == 2
    assert "holds a study of another dataset or another pre-training" in capsys.readouterr().err
    assert BEGUN == []


def test_few_labels_give_no_figure_of_skill(
    make_survey, recipe: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_survey(120, labelled=5, side_px=17, change={"morphology": None})
    words = ["--recipe", str(recipe), "--data", str(dataset.path), "--out", str(tmp_path / "s")]
    assert main(["study", *words, "--init", str(pretrained)]) == 0
    printed = capsys.readouterr().out
    assert "5 of 120 samples have a redshift: too few to measure skill; no table." in printed
    assert "0 of 120 samples have a class: too few to measure skill; no table." in printed
    assert "sigma_MAD" not in printed
    assert not (tmp_path / "s" / "table.json").exists()
    assert [name.split()[0] for name in BEGUN] == ["representations"]
