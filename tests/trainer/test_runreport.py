"""The page of a run: whatever its folder holds, complete, in one file, and made from files alone."""

import argparse
import base64
import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch

from trainer import report
from trainer.checkpoint import Checkpoints
from trainer.config import EncoderConfig, FinetuneConfig, PretrainConfig
from trainer.errors import TrainerError
from trainer.runfolder import RunFolder, RunInfo
from trainer.runreport import write_run_report
from trainer.trace import METRICS

ENCODER = EncoderConfig(depth=10, width=2)
BANDS = ("u", "g", "r", "i", "z")
PNG = b"\x89PNG\r\n\x1a\n-not-really"


@pytest.fixture
def pretraining(tmp_path: Path) -> Path:
    """A pre-training that has only begun."""
    config = PretrainConfig(encoder=ENCODER, queue=1024, temperature=0.2)
    run = tmp_path / "pretraining"
    RunFolder(run).publish(RunInfo(kind="pretrain", config=config, dataset="0123456789abcdef", bands=BANDS))
    return run


@pytest.fixture
def finetuning(tmp_path: Path) -> Path:
    """A fine-tuning, judged, with figures that are known and one that is not."""
    config = FinetuneConfig(encoder=ENCODER, label="z<0.4")
    run = tmp_path / "finetuning"
    info = RunInfo(kind="finetune", config=config, dataset="0123456789abcdef", bands=BANDS, init="some/run")
    RunFolder(run).publish(info)
    write_records(run, [{"step": 10, "epoch": 0, "loss": 2.5, "validation_loss": 2.25, "lr": 0.004}])
    (run / "figures").mkdir()
    for name in ("zz_new_one", "densities", "redshift"):
        (run / "figures" / f"{name}.png").write_bytes(PNG + name.encode())
    scores = {
        "task": "photoz", "n": 1234, "sigma_mad": 0.01234, "sigma_mad_error": 0.00056, "notes": ["Five have no r."],
        "bins": {"redshift": {"quantity": "z", "rows": [{"low": 0.0, "eta": 0.125, "eta_error": 0.0625}]}},
    }  # fmt: skip
    (run / "metrics.json").write_text(json.dumps(scores))
    return run


def write_records(run: Path, records: list[dict[str, float]], ending: str = "") -> None:
    (run / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records) + ending)


def read(run: Path) -> str:
    """The page as words: tags are gaps, pictures are left out."""
    page = write_run_report(run).read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)))


def test_a_run_that_has_logged_nothing(pretraining: Path) -> None:
    text = read(pretraining)
    assert "It has logged nothing yet." in text
    assert "None is held yet." in text
    assert "ResNet-10 of width 2, bands u, g, r, i, z, dataset 0123456789ab." in text
    assert not (pretraining / "figures").exists()


def test_what_was_chosen_comes_before_what_is_as_by_default(pretraining: Path) -> None:
    chosen, default = read(pretraining).split("Settings at their defaults")
    chosen = chosen.split("Settings that were chosen")[1]
    assert chosen.split() == [
        "setting", "value", "default", "--depth", "10", "50", "--width", "2", "64", "--queue", "1024", "65536",
        "--temperature", "0.2", "0.1",
    ]  # fmt: skip
    assert "--lr not set" in default
    assert "--sgd-momentum 0.9" in default


def test_a_run_under_way_with_damage_collapse_and_checkpoints(pretraining: Path) -> None:
    records = [
        {"step": 10, "epoch": 0, "loss": 6.5, "spread": 0.4},
        {"step": 20, "epoch": 1, "loss": 6.25, "spread": 0.01},
    ]
    write_records(pretraining, records, ending='damaged\n{"step": 30, "los')
    with Checkpoints(pretraining / "checkpoints") as checkpoints:
        checkpoints.save(20, {"model": torch.zeros(3)})
    text = read(pretraining)
    assert "Last logged: step 20, epoch 2 of 100." in text
    assert "loss 6.2500 20 spread of keys 0.010 20" in text
    assert "Damaged lines of metrics.jsonl are left out (number 3)" in text
    assert "step 20: the representations have collapsed" in text
    assert "step-00000020.pt 0.0 MB" in text
    assert f"torch {torch.__version__}, numpy {np.__version__}." in text
    page = (pretraining / "report.html").read_text(encoding="utf-8")
    assert base64.b64encode((pretraining / "figures" / "curves.png").read_bytes()).decode() in page
    assert "running.png" not in [path.name for path in (pretraining / "figures").iterdir()]  # none of it was logged


def test_a_judged_run_shows_scores_tables_and_every_figure(finetuning: Path) -> None:
    text = read(finetuning)
    assert "Training on labels (photoz, begun with some/run)" in text
    assert "Five have no r." in text
    assert "n 1,234 sigma_mad 0.01234 0.00056" in text
    assert "bins: redshift: quantity z" in text
    assert "Judged: bins, redshift, rows low eta 0 0.125 ± 0.0625" in text
    assert "--label z<0.4 not set" in text  # escaped in the page
    page = (finetuning / "report.html").read_text(encoding="utf-8")
    places = [page.index(base64.b64encode(PNG + name).decode()) for name in (b"redshift", b"densities", b"zz_new_one")]
    assert places == sorted(places)
    assert "zz new one" in text


def test_damaged_scores_and_checkpoints_do_not_hide_the_rest(finetuning: Path) -> None:
    (finetuning / "metrics.json").write_text("{")
    (finetuning / "checkpoints").mkdir()
    (finetuning / "checkpoints" / "step-00000010.pt").write_bytes(b"no checkpoint")
    text = read(finetuning)
    assert "metrics.json is damaged: run evaluate again." in text
    assert "none of its 1 checkpoints can be read" in text
    assert "validation loss 2.2500 10" in text


def test_the_same_run_gives_the_same_page(finetuning: Path) -> None:
    first = write_run_report(finetuning).read_bytes()
    assert write_run_report(finetuning).read_bytes() == first


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"config\.json: cannot be read .*; is .* the folder of a run\?"):
        write_run_report(tmp_path)
    assert not any(tmp_path.iterdir())


def test_the_command_prints_where_the_page_is(pretraining: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    assert report.run(parser.parse_args([str(pretraining)])) == 0
    assert capsys.readouterr().out == f"{pretraining / 'report.html'}\n"
    assert (pretraining / "report.html").is_file()
