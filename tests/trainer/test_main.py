"""The command line: commands, quick help, user errors in one line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sharding import Dataset
from trainer.__main__ import COMMANDS, main


def test_the_list_of_commands_does_not_wait_for_torch() -> None:
    code = (
        "import sys, trainer.__main__ as m\n"
        "try:\n    m.main(['--help'])\n"
        "except SystemExit as end:\n    sys.exit(end.code or 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"\n    {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"usage: python -m trainer {name}" in capsys.readouterr().out


def test_a_users_error_is_one_line_and_status_2(
    make_survey: Callable[..., Dataset], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(make_survey(20).path)
    run = ["--out", str(tmp_path / "run"), "--batch", "8", "--queue", "8", "--batch-norm-groups", "2"]
    cases = {
        "hayat2020": ["pretrain", "--data", data, *run, "--preset", "hayat2020"],
        "cannot be read": ["pretrain", "--data", str(tmp_path / "nowhere"), *run],
        "--temperature: expected more than 0": ["pretrain", "--data", data, *run, "--temperature", "0"],
        "the folder of a run": ["finetune", "--data", data, "--init", str(tmp_path), "--out", str(tmp_path / "run")],
        "no column magic": [
            "finetune",
            "--data",
            data,
            "--init",
            "none",
            "--out",
            str(tmp_path / "r"),
            "--label",
            "magic",
        ],
    }
    for text, words in cases.items():
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith("trainer: error: ")
        assert text in error
        assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()  # a run that could not begin leaves nothing behind


def test_an_unknown_command_or_setting_is_told_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    for words, text in ((["train"], "invalid choice: 'train'"), (["pretrain", "--depth", "11"], "--depth")):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 2
        assert text in capsys.readouterr().err
