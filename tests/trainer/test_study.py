"""The study: its table is what its parts measure, its trainings are what was asked for, few labels give no figure."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sharding import Dataset
from trainer import study
from trainer.__main__ import main
from trainer.config import EncoderConfig, FinetuneConfig
from trainer.metrics import score_photoz
from trainer.page import Table
from trainer.settings import add_settings, config_from

SETTINGS = ["--epochs", "1", "--batch", "64", "--batch-norm-groups", "1", "--view-px", "16"]


@pytest.mark.parametrize(
    "config",
    [
        FinetuneConfig(),
        FinetuneConfig(encoder=EncoderConfig(depth=10, width=4, stretch="asinh"), lr=1e-5, head_lr=0.5, freeze=True),
        FinetuneConfig(label="z", label_fraction=0.25, bins=90, seed=7, weight_decay=0.1),
    ],
)
def test_a_process_gets_the_settings_it_was_meant_to_get(config: FinetuneConfig) -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser, FinetuneConfig)
    assert config_from(parser.parse_args(study.as_words(config)), FinetuneConfig) == config


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Trainings in this process, which spares importing torch three times; gives their command lines."""
    commands: list[list[str]] = []

    def train(config: FinetuneConfig, dataset: Dataset, folder: Path, init: Path | None, ranks: int) -> None:
        words = ["--data", str(dataset.path), "--out", str(folder), "--init", str(init or "none")]
        commands.append(words)
        assert main(["finetune", *words, *study.as_words(config)]) == 0

    monkeypatch.setattr(study, "train", train)
    return commands


def test_the_table_holds_what_was_measured(
    large_survey: Dataset,
    pretrained: Path,
    tmp_path: Path,
    in_process: list[list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "study"
    words = ["--data", str(large_survey.path), "--init", str(pretrained), "--out", str(out)]
    assert main(["study", *words, *SETTINGS]) == 0
    content = json.loads((out / "table.json").read_text())
    rows = {row.pop("method"): row for row in content["rows"]}
    assert content["dataset"] == large_survey.digest
    assert len(rows) == 5
    assert len({row["n"] for row in rows.values()}) == 1

    redshift = large_survey.column("specz").astype(np.float64)
    train, test = large_survey.split("train"), large_survey.split("test")
    mean = score_photoz(np.full(len(test), redshift[train].mean()), redshift[test])
    assert rows["the mean redshift for all"] == mean.as_dict()
    # Colours follow the redshift by 1.5 mag over the range, with a scatter of 0.05 mag: neighbours must beat the mean.
    neighbours = next(row for name, row in rows.items() if "nearest neighbours" in name)
    assert neighbours["sigma_mad"] < 0.5 * mean.sigma_mad
    for method in study.METHODS:
        judged = json.loads((out / "runs" / method.folder / "metrics.json").read_text())
        assert {name: judged[name] for name in rows[method.name]} == rows[method.name]
        settings = json.loads((out / "runs" / method.folder / "config.json").read_text())
        assert settings["config"]["freeze"] == method.freeze
        assert settings["config"]["epochs"] == (study.PROBE_PASSES if method.freeze else 1)
        assert (settings["init"] is not None) == method.pretrained
        assert settings["config"]["encoder"]["depth"] == 10

    printed = capsys.readouterr().out
    page = (out / "index.html").read_text(encoding="utf-8")
    for name, row in rows.items():
        cell = f"{row['sigma_mad']:.4f} ± {row['sigma_mad_error']:.4f}"
        for text in (printed, (out / "table.md").read_text(), page):
            assert name in text
            assert cell in text
    assert page.count("data:image/png;base64,") == 3 * 3 + 3 + 4
    assert len(in_process) == 3


def test_few_labels_give_pictures_and_no_figure_of_skill(
    make_survey, pretrained: Path, tmp_path: Path, in_process: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = make_survey(120, labelled=5, side_px=33)
    out = tmp_path / "study"
    assert main(["study", "--data", str(dataset.path), "--init", str(pretrained), "--out", str(out)]) == 0
    sentence = "5 of 120 samples have a redshift: too few to measure skill; no table."
    printed = capsys.readouterr().out
    page = (out / "index.html").read_text(encoding="utf-8")
    for text in (printed, page):
        assert sentence in text
        assert "sigma_MAD" not in text
    assert not (out / "table.json").exists()
    assert in_process == []
    assert page.count("data:image/png;base64,") == 4


def test_the_words_for_few_labels(make_survey) -> None:
    assert study.too_few(make_survey(300, name="a"), FinetuneConfig()) == ""
    assert study.too_few(make_survey(30, labelled=1, name="b"), FinetuneConfig()).startswith(
        "1 of 30 samples has a redshift"
    )
    nameless = make_survey(30, rename={"specz": "unknown"}, name="c")
    assert study.too_few(nameless, FinetuneConfig()).startswith("0 of 30 samples have a redshift")


def test_without_magnitudes_the_neighbours_are_missing_and_missed(make_survey) -> None:
    dataset = make_survey(300, rename={f"modelMag_{band}": f"brightness_{band}" for band in "ugriz"})
    rows, (remark,) = study.baselines(dataset, FinetuneConfig())
    assert [row.method for row in rows] == ["the mean redshift for all"]
    assert remark.startswith("No row of neighbours: ")
    assert "expected columns modelMag_{band}" in remark


def test_what_the_study_varies_is_not_the_users_to_set(
    large_survey: Dataset, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", str(large_survey.path), "--init", str(pretrained), "--out", str(tmp_path / "s")]
    assert main(["study", *words, "--freeze"]) == 2
    assert "--freeze is what the study varies; leave it out" in capsys.readouterr().err


def test_a_training_that_fails_ends_the_study(large_survey: Dataset, tmp_path: Path) -> None:
    config = replace(FinetuneConfig(), batch=10_000)  # more than the galaxies there are
    with pytest.raises(study.TrainerError, match="its training ended with status 2"):
        study.train(config, large_survey, tmp_path / "run", None, 1)


def test_markdown_columns_line_up() -> None:
    text = study.markdown(Table(["a", "long name"], [["1", "2"], ["333", "4"]]))
    assert text == "| a   | long name |\n| --- | --------- |\n| 1   | 2         |\n| 333 | 4         |\n"
