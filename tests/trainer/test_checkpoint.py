"""Checkpoints: the newest whole one is found, damage is seen, nothing in one is run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from trainer.checkpoint import Checkpoints
from trainer.errors import TrainerError


class Stranger:
    """Something that is neither a tensor, a number nor text."""


def content(value: float) -> dict[str, object]:
    return {"model": {"weight": torch.full((1000,), value)}, "order": {"seed": 1, "epoch": 2, "position": 3}}


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    checkpoints.save(7, content(0.5))
    newest = checkpoints.newest()
    assert newest is not None
    assert newest["step"] == 7
    assert newest["order"] == {"seed": 1, "epoch": 2, "position": 3}
    assert torch.equal(newest["model"]["weight"], torch.full((1000,), 0.5))


def test_the_last_two_are_kept_by_number_not_by_name(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (99_999_999, 100_000_000, 100_000_001):  # nine digits sort before eight as text
        checkpoints.save(step, content(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-100000000.pt", "step-100000001.pt"]
    newest = checkpoints.newest()
    assert newest is not None
    assert newest["step"] == 100_000_001


@pytest.mark.parametrize("damage", ["empty", "cut", "flip"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, content(1.0))
    checkpoints.save(2, content(2.0))
    path = tmp_path / "step-00000002.pt"
    data = bytearray(path.read_bytes())
    place = data.find(torch.full((100,), 2.0).numpy().tobytes())
    data[place] ^= 1
    path.write_bytes({"empty": b"", "cut": bytes(data[: len(data) // 2]), "flip": bytes(data)}[damage])
    newest = checkpoints.newest()
    assert newest is not None
    assert newest["step"] == 1
    assert "step-00000002.pt: not a whole checkpoint" in caplog.text
    (tmp_path / "step-00000001.pt").write_bytes(b"")
    with pytest.raises(TrainerError, match="none of its 2 checkpoints can be read; start in a new folder"):
        checkpoints.newest()


def test_what_is_not_plain_data_is_not_loaded(tmp_path: Path) -> None:
    torch.save({"model": Stranger()}, tmp_path / "step-00000001.pt")
    with pytest.raises(TrainerError, match="none of its 1 checkpoints can be read"):
        Checkpoints(tmp_path).newest()


def test_the_best_is_apart_from_the_rest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(TrainerError, match=r"best\.pt: no such checkpoint"):
        checkpoints.best()
    checkpoints.save_best(content(1.0))
    checkpoints.save_best(content(3.0))
    for step in (1, 2, 3):
        checkpoints.save(step, content(0.0))
    assert checkpoints.best()["model"]["weight"][0] == 3.0


WRITER = """
import sys, torch
from pathlib import Path
from trainer.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
for step in range(1, 10**6):
    checkpoints.save(step, {"weight": torch.full((500_000,), float(step))})
"""


def test_kill_9_while_writing_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """The writer does nothing but write (2 MB each time), so the kill falls into a write."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "step-00000003.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.001)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    newest = Checkpoints(tmp_path).newest()
    assert newest is not None
    whole = sorted(path.name for path in tmp_path.glob("step-*.pt"))
    assert whole[-1] == f"step-{newest['step']:08d}.pt"  # no newer one was passed over
    assert torch.equal(newest["weight"], torch.full((500_000,), float(newest["step"])))
