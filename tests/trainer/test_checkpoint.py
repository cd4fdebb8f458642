"""Checkpoints: written beside the training, the newest whole one found, damage seen, nothing in one run."""

import os
import re
import resource
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch

from trainer import checkpoint as checkpoint_module
from trainer.checkpoint import Checkpoints, DamagedError, read_whole
from trainer.errors import TrainerError
from trainer.version import VERSION

CHECKOUT = Path(__file__).parents[2]


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
    with checkpoints:
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
    checkpoints.finish()
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


@pytest.mark.parametrize("call", ["os.system", "builtins.eval", "tests.nothing.Thing"])
def test_what_would_be_run_is_named_and_no_way_to_run_it_is_told(tmp_path: Path, call: str) -> None:
    module, name = call.rsplit(".", 1)
    pickled = f"c{module}\n{name}\n(S'exit 3'\ntR.".encode()
    torch.save({"step": 1}, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "evil.pt", "w") as evil:
        for item in whole.namelist():
            evil.writestr(item, pickled if item.endswith("data.pkl") else whole.read(item))
    with pytest.raises(DamagedError) as told:
        read_whole(tmp_path / "evil.pt")
    assert name in str(told.value)
    assert "weights_only" not in str(told.value)
    assert "\n" not in str(told.value)


def test_the_best_is_apart_from_the_rest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(TrainerError, match=r"best\.pt: no such checkpoint"):
        checkpoints.best()
    checkpoints.save_best(content(1.0))
    checkpoints.save_best(content(3.0))
    for step in (1, 2, 3):
        checkpoints.save(step, content(0.0))
    assert checkpoints.best()["model"]["weight"][0] == 3.0


class Gate:
    """Holds `torch.save` back until it is opened, as a slow disk would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._save, self._open, self.calls = torch.save, threading.Event(), 0
        monkeypatch.setattr(checkpoint_module.torch, "save", self._held)

    def _held(self, content: Any, file: BinaryIO) -> None:
        self.calls += 1
        assert self._open.wait(60)
        self._save(content, file)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


def test_training_goes_on_during_a_write_and_the_file_holds_what_was(tmp_path: Path, gate: Gate) -> None:
    weight = torch.nn.Parameter(torch.arange(24.0).reshape(2, 3, 2, 2).to(memory_format=torch.channels_last))
    moments = {0: {"momentum_buffer": torch.ones(3)}}
    held = {"model": {"weight": weight}, "optimiser": {"state": moments, "betas": (0.9, [1, None, "text", True])}}
    before = weight.detach().clone()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, held)
    assert not list(tmp_path.glob("*.pt"))  # it has returned, and nothing is there yet
    weight.data.zero_()
    moments[0]["momentum_buffer"].zero_()
    gate.open()
    newest = checkpoints.newest()
    assert newest is not None
    assert torch.equal(newest["model"]["weight"], before)
    assert torch.equal(newest["optimiser"]["state"][0]["momentum_buffer"], torch.ones(3))
    assert newest["optimiser"]["betas"] == (0.9, [1, None, "text", True])


def test_one_write_at_a_time(tmp_path: Path, gate: Gate) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, content(1.0))
    second = threading.Thread(target=checkpoints.save, args=(2, content(2.0)))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    assert gate.calls <= 1
    gate.open()
    second.join()
    checkpoints.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001.pt", "step-00000002.pt"]


def test_the_best_step_is_published_twice(tmp_path: Path) -> None:
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, content(1.0), best=True)
        checkpoints.save(2, content(2.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "step-00000002.pt"]
    assert checkpoints.best()["step"] == 1


def test_what_could_not_be_loaded_again_is_not_saved(tmp_path: Path) -> None:
    for stranger, name in ((np.float64(1.0), "float64"), (Stranger(), "Stranger")):
        with pytest.raises(TypeError, match=re.escape(f"checkpoint['a'][1]: a {name} is neither a tensor")):
            Checkpoints(tmp_path).save(1, {"a": [0, stranger]})


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Files end at 100 kB: the system refuses the rest, as a full disk does, and needs no rights for that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


LARGE = {"weight": torch.zeros(100_000)}


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_told_and_leaves_what_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, content(1.0), best=True)
    checkpoints.save(2, LARGE)
    told = r"step-00000002\.pt: cannot be written \(File too large\); make room"
    with pytest.raises(TrainerError, match=told):
        checkpoints.save(3, content(3.0))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "step-00000001.pt"]
    checkpoints.save(4, LARGE)
    with pytest.raises(TrainerError, match=r"step-00000004\.pt: cannot be written"):
        checkpoints.finish()
    checkpoints.finish()  # told once
    checkpoints.save(5, LARGE)
    with pytest.raises(KeyError, match="first"), checkpoints:
        raise KeyError("first")
    assert "step-00000005.pt: cannot be written" in caplog.text


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with (
        pytest.raises(TrainerError, match=r"cannot be written \(Not a directory\)"),
        Checkpoints(tmp_path / "run/a") as it,
    ):
        it.save(1, content(1.0))


def test_a_killed_writer_s_partial_files_are_swept_and_no_others(tmp_path: Path) -> None:
    letters = "0123456789abcdef" * 2
    ours = [f"step-00000001.pt.{letters}.partial", f"best.pt.{letters}.partial"]
    others = [f"config.json.{letters}.partial", "step-00000001.pt.partial", f"mystep-00000001.pt.{letters}.partial"]
    for name in ours + others:
        (tmp_path / name).touch()
    Checkpoints(tmp_path).newest()
    assert {path.name for path in tmp_path.iterdir()} == {*ours, *others}  # who reads does not sweep
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, content(2.0))
    assert {path.name for path in tmp_path.iterdir()} == {*others, "step-00000002.pt"}


def test_a_damaged_checkpoint_ahead_makes_way(tmp_path: Path) -> None:
    (tmp_path / "step-00000009.pt").write_bytes(b"damaged")
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(8, content(8.0))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000008.pt"]


def test_versions_are_said_and_another_format_is_refused(tmp_path: Path) -> None:
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, content(1.0))
    newest = checkpoints.newest()
    assert newest is not None
    assert newest["versions"] == {"skymill": VERSION, "torch": str(torch.__version__), "numpy": np.__version__}
    torch.save(newest | {"format": 2, "versions": {"skymill": "9.1"}}, tmp_path / "step-00000002.pt")
    with pytest.raises(TrainerError, match=r"expected checkpoint format 1, got 2; .* \(9\.1\)"):
        checkpoints.newest()


def test_the_version_is_the_package_s() -> None:
    stated = re.search(r'^version = "(.*)"', (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE)
    assert stated is not None
    assert stated[1] == VERSION


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_whatever_the_bytes_the_answer_is_a_line(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / "any.pt"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    legacy = path.read_bytes()
    for length in range(300):
        path.write_bytes((legacy[:length], rng.bytes(length), b"\x80\x02" + rng.bytes(length))[length % 3])
        with pytest.raises(TrainerError, match=r"any\.pt: not a whole checkpoint"):
            read_whole(path)


# Writers are forks of one process, so that torch is imported once. Each goes on from the newest checkpoint and does
# nothing but write (2 MB each time), so that the kill falls into a write; the weights change while that is under way.
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from trainer.checkpoint import Checkpoints

folder, kills = Path(sys.argv[1]), int(sys.argv[2])
random.seed(kills)

def write():
    newest = Checkpoints(folder).newest()
    weight = torch.zeros(500_000)
    with Checkpoints(folder) as checkpoints:
        for step in range(newest["step"] + 1 if newest else 1, 10**6):
            checkpoints.save(step, {"weight": weight.fill_(step)}, best=step % 2 == 0)

def last():
    return max((int(path.stem[5:]) for path in folder.glob("step-*.pt")), default=0)

reached, partial = 0, 0
for _ in range(kills):
    if (writer := os.fork()) == 0:
        write()
    while last() < reached + 3:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.05))
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    reached = last()
    partial += bool(list(folder.glob("*.partial")))
    newest, best = Checkpoints(folder).newest(), Checkpoints(folder).best()
    assert newest["step"] == reached, (newest["step"], reached)  # no newer one was passed over
    for checkpoint in (newest, best):
        assert torch.equal(checkpoint["weight"], torch.full((500_000,), float(checkpoint["step"])))
    assert len(list(folder.glob("*.partial"))) <= 1  # earlier ones are swept
print(partial)
"""


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_while_writing_leaves_a_whole_checkpoint(tmp_path: Path, kills: int) -> None:
    words = [sys.executable, "-c", KILLER, str(tmp_path), str(kills)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert kills < 20 or int(done.stdout) >= 5  # most kills fell between the opening of a file and its renaming
