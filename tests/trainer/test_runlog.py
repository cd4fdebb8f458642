"""The log of a run: one JSON object a line, cut back to the checkpoint that a run resumes from; damage is told."""

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.errors import TrainerError
from trainer.runlog import RunLog, keep_until
from trainer.trace import METRICS, read_trace


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_records_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    path.write_text("".join(json.dumps({"step": step, "loss": 0.1}) + "\n" for step in (5, 10, 15, 20)))
    assert keep_until(path, 12) == []
    assert steps(path) == [5, 10]
    keep_until(path, 0)
    assert path.read_text() == ""


def test_what_is_kept_is_kept_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    text = "".join(json.dumps({"step": step, "loss": 1 / (3 + step), "lr": 1e-300}) + "\n" for step in range(9))
    path.write_text(text)
    keep_until(path, 100)
    assert path.read_text() == text


def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    for ending in ('{"step": 1', '{"step": 10, "loss": 0.5}'):  # not JSON; and whole, but for its newline
        path.write_text('{"step": 5}\n' + ending)
        assert read_trace(path).records == [{"step": 5}]
        assert keep_until(path, 100) == []
        assert path.read_text() == '{"step": 5}\n'


@pytest.mark.parametrize(
    "damage", [b"\0\0\0\0", b"\xff\xfe", b'{"step": 7, "lo', b'{"loss": 1}', b"7", b'{"step": "7"}']
)
def test_a_damaged_line_is_told_and_hides_no_other(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / METRICS
    path.write_bytes(b'{"step": 5}\n' + damage + b'\n{"step": 10}\n{"step": 15}\n')
    said = io.StringIO()
    with RunLog(tmp_path, from_step=10, console=Console(file=said)):
        pass
    assert steps(path) == [5, 10]
    assert "damaged lines are left out (number 2)" in said.getvalue()


def test_a_resumed_log_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    def write(first: int, last: int, from_step: int, scale: float) -> str:
        text = io.StringIO()
        with RunLog(tmp_path, from_step=from_step, console=Console(file=text)) as log:
            for step in range(first, last):
                log.record({"step": step, "epoch": 0, "loss": scale * step}, f"step {step}")
        return text.getvalue()

    (tmp_path / "config.json").write_text('{"kind": "pretrain"}\n')
    shown = write(1, 8, 0, 1.0)
    assert shown == "step 1\n"  # where there is no terminal, a line now and then
    time.sleep(1.1)  # the next start of a run is another process, later: TensorBoard's files are in order by the second
    write(5, 11, 4, 2.0)
    assert steps(tmp_path / METRICS) == list(range(1, 11))
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    values = [(event.step, event.value) for event in board.Scalars("loss")]
    assert values == [(step, (1.0 if step < 5 else 2.0) * step) for step in range(1, 11)]
    assert board.Tags()["scalars"] == ["loss"]  # where a record stands is no curve
    (tag,) = board.Tags()["tensors"]
    assert b'"kind": "pretrain"' in board.Tensors(tag)[0].tensor_proto.string_val[0]


def test_on_a_terminal_there_is_a_panel_and_lines_stay_above_it(tmp_path: Path) -> None:
    file = io.StringIO()
    with RunLog(
        tmp_path, from_step=0, console=Console(file=file, force_terminal=True), epochs=2, total_steps=40
    ) as log:
        log.record({"step": 10, "epoch": 0, "loss": 1.5}, "a plain line")
        log.say("[something] was noticed")
    assert "step 10/40" in file.getvalue()
    assert "[something] was noticed" in file.getvalue()
    assert "a plain line" not in file.getvalue()


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    log = RunLog(tmp_path, from_step=0, console=Console(file=io.StringIO()))
    log._file.close()
    with Path("/dev/full").open("ab", buffering=0) as log._file:  # Linux' disk that is always full
        words = r"step 3 cannot be written \(No space left on device\); make room"
        with pytest.raises(TrainerError, match=words), log:
            log.record({"step": 3, "epoch": 0, "loss": 1.0}, "")
