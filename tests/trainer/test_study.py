"""The study as a whole: what it trains and chooses, what its table holds; no label of a test galaxy is used."""

import json
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from sharding import Dataset
from trainer.__main__ import main
from trainer.config import EncoderConfig, PretrainConfig
from trainer.errors import TrainerError
from trainer.export import export
from trainer.metrics import score_photoz
from trainer.study import process, report_looks, study
from trainer.study.given import Given, judging, read_given
from trainer.study.held import Held
from trainer.study.plan import Plan
from trainer.study.recipe import Recipe, read_recipe
from trainer.study.scheduler import Job, Scheduler
from trainer.trace import read_trace
from trainer.trained import load_trained

from .conftest import SMALL

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
TRAININGS = 2 * 2 * 2  # tasks, methods, rates
BEGUN: list[str] = []


class InProcess(Scheduler):
    """Carries out jobs in this process, which spares importing torch for each; notes those that were not done."""

    def carry_out(self, jobs: Sequence[Job], after: Callable[[Job], object] = lambda job: None) -> None:
        for job in jobs:
            if not job.done:
                job.begin()
                assert main([*job.words, *job.places]) == 0
                job.end()
                BEGUN.append(job.name)
            after(job)


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
    both = ((straight, "a"), (other, "b"))
    tables = [conduct(fewer, dataset, tmp_path / name, "--seeds", "1") for dataset, name in both]
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
    assert tables[0]["pretraining_ranks"] == {"reference": 1}
    for before, after in zip(*(table["rows"] for table in tables), strict=True):
        if before["task"] == "photoz" and before["method"] in ("supervised", "catalogue"):
            assert before["figures"] != after["figures"]  # the truth did change


def learnt(record: Any) -> dict[str, float]:
    """What of a record says what was learnt, and not how fast."""
    return {name: value for name, value in record.items() if name in LEARNT or name.startswith("validation")}


def test_the_table_holds_what_the_answers_are_worth_and_comes_again(
    make_survey, recipe: Path, pretrained: Path, large_survey: Dataset, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, called = tmp_path / "study", list[str]()
    for name in ("rows_of", "truth_of"):
        act = getattr(study, name)
        monkeypatch.setattr(study, name, lambda *how, name=name, act=act: called.append(name) or act(*how))
    words = ["--init", str(pretrained), "--fractions", "0.01", "1", "--seeds", "1"]
    content = conduct(recipe, large_survey, out, *words)
    assert called == ["rows_of", "rows_of", "truth_of", "truth_of"]  # all have answered before any truth is read
    printed = capsys.readouterr().out
    assert "photoz: 1 % of the labels are fewer than 50 and left out." in printed
    assert re.fullmatch(r"\d+ x \S.*", content["devices"])
    assert content["pretraining_ranks"] == {}
    assert content["validation_labels"]["photoz"] == len(large_survey.split("validation"))
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
    moved, link = tmp_path / "moved", tmp_path / "link"
    out.rename(moved)
    link.symlink_to(large_survey.path)
    conduct(recipe, Dataset.open(link), moved, *words)  # done, so nothing is trained
    assert BEGUN == []
    assert (moved / "table.json").read_bytes() == table

    learnt_labels = str(moved / kept.relative_to(out))
    words = ["--recipe", str(recipe), "--data", str(link), "--out", str(tmp_path / "other"), "--init", learnt_labels]
    assert main(["study", *words]) == 2
    assert "expected a pre-training, got a network that has learnt labels" in capsys.readouterr().err


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
    make_survey, recipe: Path, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    export(pretrained, tmp_path / "weights.safetensors")  # a file does as well as a RUN
    dataset = make_survey(120, labelled=5, side_px=17, change={"morphology": None})
    words = ["--recipe", str(recipe), "--data", str(dataset.path), "--out", str(tmp_path / "s")]
    words += ["--init", str(tmp_path / "weights.safetensors")]
    assert main(["study", *words]) == 0
    printed = capsys.readouterr().out
    assert "5 of 120 samples have a redshift: too few to measure skill; no table." in printed
    assert "0 of 120 samples have a class: too few to measure skill; no table." in printed
    assert "sigma_MAD" not in printed
    assert not (tmp_path / "s" / "table.json").exists()
    assert [name.split()[0] for name in BEGUN] == ["representations"]

    monkeypatch.setattr(study, "publish", lambda *_: signal.raise_signal(signal.SIGINT))
    assert main(["study", *words]) == 75  # a signal after the last training, too
    assert capsys.readouterr().err.endswith("stopped by SIGINT; start it again to go on\n")


def test_what_a_pre_training_that_is_given_changes_is_said(recipe: Path) -> None:
    """All networks have its encoder and its views: those from scratch too."""
    named = read_recipe(str(recipe))
    variants = {"reference": named.pretrain, "cold": replace(named.pretrain, temperature=0.05)}
    config = PretrainConfig(encoder=EncoderConfig(depth=18, width=8), view_px=32, epochs=7, compile=True)
    made, notes = judging(replace(named, variants=variants), Given(Path("run"), config, "d"))
    assert made.variants == {"reference": replace(config, compile=False)}
    assert (made.pretrain, made.finetune) == (made.variants["reference"], replace(named.finetune, view_px=32))
    assert "a ResNet-18 of width 8, stretch none, views of 32 pixels." in notes[0]
    assert notes[1] == "Left out, because a pre-training was given: cold."
    assert judging(named, Given(Path("run"), named.pretrain, "d")) == (named, [])


@pytest.mark.parametrize("known", [True, False])
def test_the_page_tells_of_a_file_of_weights_what_it_says(
    known: bool, pretrained: Path, large_survey: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("draw_stamps", "draw_views"):
        monkeypatch.setattr(report_looks, name, lambda *_, **__: None)
    file = tmp_path / "weights.safetensors"
    export(pretrained, file)
    if not known:
        save_file({name: value.clone() for name, value in load_trained(file).network.state_dict().items()}, file)
    sections = {each.title: each for each in report_looks.pretraining(tmp_path, large_survey, {"reference": file})}
    assert list(sections) == ["Pre-training", *(["Views"] if known else []), "Stamps"]
    text = f"{sections['Pre-training'].text}"
    assert ("a queue of 64" in text, report_looks.UNSEEN in text) == (known, known)
    assert (report_looks.UNTOLD in text, report_looks.MAYBE_SEEN in text) == (not known, not known)


def test_another_pre_training_makes_undone_what_came_of_the_first(
    recipe: Path, pretrained: Path, large_survey: Dataset, tmp_path: Path
) -> None:
    def jobs() -> list[Job]:
        plan = Plan(read_recipe(str(recipe)), large_survey, tmp_path, given=None, devices=1)
        return [*plan.representations(), *map(plan.job, plan.first_trainings())]

    run = tmp_path / "pretrain" / "reference"
    run.parent.mkdir()
    run.symlink_to(pretrained)
    for job in jobs():
        job.begin()
        job.end()
    assert all(job.done for job in jobs())
    run.unlink()
    words = ["--data", str(large_survey.path), "--out", str(run), "--queue", "64", "--max-steps", "1", *SMALL]
    assert main(["pretrain", *words]) == 0
    assert all(job.done == ("supervised" in job.name) for job in jobs())
    assert len({job.done for job in jobs()}) == 2


class Pretending(Scheduler):
    """Trains nothing: all have the better score the higher the rate, and what ``diverges`` does."""

    diverges = ""

    def carry_out(self, jobs: Sequence[Job], after: Callable[[Job], object] = lambda job: None) -> None:
        for job in jobs:
            if not job.done:
                job.begin()
                score = 0.2 if job.folder.name.endswith("x0.1") else 0.1
                names = ("validation_sigma_mad", "validation_error")
                (job.folder / "metrics.jsonl").write_text(json.dumps({"step": 1} | dict.fromkeys(names, score)) + "\n")
                job.end(diverged=bool(re.search(self.diverges, str(job.folder))))
                BEGUN.append(job.folder.name)


def few(recipe: Path) -> Recipe:
    """One method on one task, at all labels."""
    return replace(read_recipe(str(recipe)), tasks=("photoz",), methods=("supervised",), fractions=(1.0,))


@pytest.mark.parametrize(
    ("diverges", "rate", "begun", "lost"),
    [
        ("nothing", 1.0, ["seed0-x1", "seed0-x0.1", "seed1-x1"], []),
        ("seed0-x1$", 0.1, ["seed0-x1", "seed0-x0.1", "seed1-x0.1"], [(0, 1)]),  # though it had the better score before
        ("seed1-x1$", 0.1, ["seed0-x1", "seed0-x0.1", "seed1-x1", "seed1-x0.1"], [(1, 1)]),
        ("x1$|seed0-x0", None, ["seed0-x1", "seed0-x0.1"], [(0, 1), (0, 0.1)]),
    ],
)
def test_a_rate_that_diverges_is_not_chosen(
    diverges: str, rate: float | None, begun: list[str], lost: list[tuple[int, float]],
    recipe: Path, pretrained: Path, large_survey: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(study, "Scheduler", Pretending)
    monkeypatch.setattr(Pretending, "diverges", diverges)
    plan = Plan(few(recipe), large_survey, tmp_path, given=read_given(pretrained), devices=1)
    with Held(tmp_path) as held:
        if rate is None:
            with pytest.raises(
                TrainerError, match=r"got none of 1\.0, 0\.1; lower the recipe's \[finetune\.lr\] supervised"
            ):
                study.train(plan, held, Console(quiet=True))
        else:
            assert list(study.train(plan, held, Console(quiet=True)).values()) == [rate]
    assert BEGUN[1:] == begun  # after the representations
    assert plan.diverged() == [
        f"photoz supervised, 100 % of labels, seed {seed}, rate x{rate:g}" for seed, rate in lost
    ]


def test_a_training_that_diverges_says_so_in_the_words_that_the_study_looks_for(
    large_survey: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(large_survey.path), "--out", str(tmp_path / "run"), "--init", "none", "--task", "photoz"]
    assert main(["finetune", *words, *SMALL, "--lr", "1e30", "--epochs", "1"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(process.OWN_ERROR)
    assert process.TOO_HIGH in line
