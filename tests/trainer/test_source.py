"""Where a run's images come from changes nothing but where they come from."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sharding import Dataset
from sharding.convert import convert
from trainer.__main__ import main

TINY = ["--depth", "10", "--width", "2", "--view-px", "16", "--batch", "8", "--queue", "16", "--max-steps", "4",
        "--batch-norm-groups", "2", "--log-every-steps", "1"]  # fmt: skip


def losses(data: str | Path, out: Path, *words: str) -> list[float]:
    assert main(["pretrain", "--data", str(data), "--out", str(out), *TINY, *words]) == 0
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_staged_run_equals_one_that_is_not(
    make_survey: Callable[..., Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_survey(40).path
    plain = losses(data, tmp_path / "plain")
    stage = ["--stage", str(tmp_path / "stage"), "--stage-gb", "1", "--read-threads", "2"]
    assert losses(data, tmp_path / "staged", *stage) == plain
    copied = any((tmp_path / "stage").rglob("00000.tar"))  # unless the run was over sooner
    assert ("GB staged" in capsys.readouterr().out) == copied
    assert losses(data, tmp_path / "again", *stage) == plain


def test_a_run_on_another_container_is_the_same_and_on_int16_nearly(
    make_survey: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = make_survey(40).path
    plain = losses(data, tmp_path / "plain")
    convert(data, tmp_path / "zarr", container="zarr").close()
    assert losses(tmp_path / "zarr", tmp_path / "run-zarr") == plain
    convert(data, tmp_path / "int16", encoding="int16").close()
    rounded = losses(tmp_path / "int16", tmp_path / "run-int16")
    assert rounded != plain
    # A step is 1/8 of the noise, so its error is 0.036 of the noise: the first loss is that of nearly the same views.
    assert rounded[0] == pytest.approx(plain[0], rel=0.02)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--stage", "copies"], "--stage: it goes with --stage-gb"),
        (["--stage-gb", "3"], "--stage: it goes with --stage-gb"),
        (["--stage", "copies", "--stage-gb", "0"], "--stage-gb: expected more than 0, got 0"),
        (["--stage", "copies", "--stage-gb", "inf"], "--stage-gb: expected more than 0, got inf"),
        (["--read-threads", "0"], "--read-threads: expected at least 1, got 0"),
    ],
)
def test_what_cannot_be_staged_is_told_in_a_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", "--data", "nowhere", "--out", str(tmp_path / "run"), *words]) == 2
    assert told in capsys.readouterr().err
