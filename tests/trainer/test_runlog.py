"""The trace of a run: one JSON object a line, cut back to the checkpoint that a run resumes from."""

import io
import json
from pathlib import Path

from rich.console import Console

from trainer.runlog import METRICS, RunLog, keep_until


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_records_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    path.write_text("".join(json.dumps({"step": step, "loss": 0.1}) + "\n" for step in (5, 10, 15, 20)))
    keep_until(path, 12)
    assert steps(path) == [5, 10]
    keep_until(path, 0)
    assert path.read_text() == ""


def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / METRICS
    for ending in ('{"step": 1', '{"step": 10, "loss": 0.5}'):  # not JSON; and whole, but for its newline
        path.write_text('{"step": 5}\n' + ending)
        keep_until(path, 100)
        assert path.read_text() == '{"step": 5}\n'


def test_a_resumed_log_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    def write(first: int, last: int, from_step: int) -> str:
        text = io.StringIO()
        with RunLog(tmp_path, from_step=from_step, console=Console(file=text)) as log:
            for step in range(first, last):
                log.record({"step": step, "epoch": 0, "loss": 1 / step}, f"step {step}")
        return text.getvalue()

    shown = write(1, 8, 0)
    assert shown == "step 1\n"  # where there is no terminal, a line now and then
    write(5, 11, 4)
    assert steps(tmp_path / METRICS) == list(range(1, 11))
    assert any((tmp_path / "tensorboard").iterdir())
