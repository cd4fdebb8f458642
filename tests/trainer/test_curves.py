"""The curves show what was logged and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from trainer import curves
from trainer.quantities import LEARNT, RUNNING
from trainer.trace import METRICS

Panels = list[tuple[str, np.ndarray, np.ndarray]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Panels]:
    """Takes the place of the drawing; gives what was to be drawn."""
    calls: list[Panels] = []
    monkeypatch.setattr(curves, "curve_figure", lambda path, panels, title: calls.append(panels))
    return calls


def test_each_quantity_has_its_own_steps(tmp_path: Path, drawn: list[Panels]) -> None:
    records = [{"step": step, "epoch": 0, "loss": 1.0 / step, "lr": 0.1} for step in (10, 20, 30)]
    records[1]["validation_sigma_mad"] = 0.02
    lines = [json.dumps(record) for record in records]
    (tmp_path / METRICS).write_text("\n".join([lines[0], "damaged", *lines[1:], '{"step": 40, "loss": 0.']))
    assert curves.draw_curves(tmp_path, tmp_path / "a.png", title="t")
    (loss, score) = drawn[0]
    assert (loss[0], score[0]) == ("training loss", r"validation $\sigma_{\rm MAD}$")
    np.testing.assert_array_equal(loss[1:], [[10, 20, 30], [0.1, 0.05, 1 / 30]])
    np.testing.assert_array_equal(score[1:], [[20], [0.02]])
    assert curves.draw_curves(tmp_path, tmp_path / "a.png", title="t", shown=RUNNING)
    assert [name for name, _, _ in drawn[1]] == ["learning rate"]


def test_a_run_without_records_has_no_figure(tmp_path: Path, drawn: list[Panels]) -> None:
    assert not curves.draw_curves(tmp_path, tmp_path / "a.png", title="t")
    (tmp_path / METRICS).write_text('{"step": 1, "epoch": 0}\n')
    assert not curves.draw_curves(tmp_path, tmp_path / "a.png", title="t")
    assert drawn == []


def test_no_quantity_is_drawn_twice() -> None:
    assert not set(LEARNT) & set(RUNNING)
