"""The panel fits its terminal, says what a record has, and knows how long the rest takes."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from trainer.panel import BLOCKS, Panel, Status, shortened, sparkline

PRETRAINING = Status(
    run="/surveys/dr12/runs/a-long-name-of-a-folder/of-a-long-path/pretraining-of-a-resnet-50-with-a-queue-of-65536-keys",
    values={
        "step": 12345, "epoch": 11, "lr": 0.0123, "loss": 6.30124, "accuracy": 0.312, "spread": 0.94,
        "images_per_s": 12301.3, "wait_share": 0.012, "augment_share": 0.03, "memory_gb": 31.2, "tflops": 412.3,
        "skipped": 0.0,
    },
    losses=[9 / (1 + step) for step in range(150)],
    epochs=100,
    total_steps=100000,
    seconds_left=2 * 86400 + 3723.2,
    checkpoint=12000,
)  # fmt: skip
FINETUNING = Status(
    run="run",
    values={"step": 1, "epoch": 0, "loss": 2.3, "lr": 4e-3, "validation_sigma_mad": 0.0213, "something_new": 3.0},
)


def drawn(status: Status, width: int, encoding: str = "utf-8", *, colours: bool = False) -> list[str]:
    """The lines as a terminal shows them."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, force_terminal=colours, color_system="256" if colours else None).print(status)
    file.seek(0)
    return re.sub(r"\x1b\[[\d;]*m", "", file.read()).splitlines()


@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("status", [PRETRAINING, FINETUNING], ids=["pretraining", "fine-tuning"])
def test_every_line_is_as_wide_as_the_terminal_and_no_number_is_cut(status: Status, width: int, colours: bool) -> None:
    lines = drawn(status, width, colours=colours)
    assert {cell_len(line) for line in lines} == {width}
    assert sum(line.startswith("│ loss  ") for line in lines) == 1
    assert all(set(line) <= {*"│━╸╺ "} for line in lines if "━" in line)  # the bar has a line of its own
    assert not any("…" in line for line in lines[1:])  # the title may be cut, nothing else
    assert len(lines) <= 16


@pytest.mark.parametrize("width", [60, 80, 120])
def test_everything_that_is_known_is_said(width: int) -> None:
    text = "\n".join(drawn(PRETRAINING, width))
    for words in (
        "epoch 12/100  step 12,345/100,000", "2 days, 1:02:03 left", "6.3012", "31.2%", "0.940", "0.0123", "12,301",
        "waiting for data", "1.2%", "31.20 GB", "412 TFLOP/s", "queue-of-65536-keys", "last checkpoint: step 12,000",
        "▁", "━",
    ):  # fmt: skip
        assert words in text


def test_what_is_not_known_is_left_out_and_what_is_new_is_shown() -> None:
    text = "\n".join(drawn(FINETUNING, 80))
    assert "no checkpoint yet" in text
    assert "something new" in text
    assert "validation sigma_MAD" in text
    for words in ("left", "accuracy", "memory", "loss lately"):
        assert words not in text


def test_a_terminal_without_unicode_gets_none() -> None:
    lines = drawn(PRETRAINING, 80, "ascii")  # encoding anything else would fail
    assert "loss lately" not in "\n".join(lines)
    assert "412 TFLOP/s" in "\n".join(lines)


def test_the_line_of_blocks() -> None:
    assert sparkline([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 80) == BLOCKS
    assert sparkline([9.0, 0.0, 7.0], 2) == "▁█"
    assert sparkline([3.0, 3.0, 3.0], 80) == "▁▁▁"


def test_a_path_keeps_its_end() -> None:
    assert shortened("abc/def", 7, "…") == "abc/def"
    assert shortened("abc/def", 4, "…") == "…def"


class Clock:
    """A clock that a test winds."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100)


def test_the_time_left_is_that_of_the_steps_seen(tmp_path: Path, console: Console) -> None:
    """Not of those that an earlier process made, nor of this one's start."""
    clock = Clock()
    with Panel(tmp_path, console, epochs=10, total_steps=1000, clock=clock) as panel:
        clock.now = 60.0
        panel.see({"step": 510, "epoch": 5, "loss": 3.0, "validation_loss": 7.0})
        assert panel.status().seconds_left is None
        clock.now = 80.0
        panel.see({"step": 520, "epoch": 5, "loss": 2.0})
        status = panel.status()
        assert status.seconds_left == pytest.approx(2.0 * 480)
    assert status.values == {"step": 520, "epoch": 5, "loss": 2.0, "validation_loss": 7.0}
    assert status.losses == (3.0, 2.0)
    assert replace(status, run="") == Status(
        run="", values=status.values, losses=(3.0, 2.0), epochs=10, total_steps=1000, seconds_left=960.0
    )


def test_the_newest_checkpoint_is_the_one_on_disk(tmp_path: Path, console: Console) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("step-00000900.pt", "step-100000000.pt", "step-200000000.pt.0123.partial", "best.pt"):
        (folder / name).touch()
    with Panel(tmp_path, console, epochs=None, total_steps=None) as panel:
        panel.see({"step": 1, "epoch": 0})
        assert panel.status().checkpoint == 100000000


def test_it_is_not_drawn_more_often_than_one_can_see(tmp_path: Path, console: Console) -> None:
    clock = Clock()
    file = console.file
    assert isinstance(file, io.StringIO)
    with Panel(tmp_path, console, epochs=1, total_steps=9, clock=clock) as panel:
        panel.see({"step": 1, "epoch": 0})
        shown = file.tell()
        panel.see({"step": 2, "epoch": 0})
        assert file.tell() == shown
        clock.now = 1.0
        panel.see({"step": 3, "epoch": 0})
        assert file.tell() > shown
        panel.see({"step": 4, "epoch": 0})
    assert "step 4/9" in file.getvalue()  # the last status stays
