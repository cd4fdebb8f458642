"""The stages' benchmarks run, and their peers do what they are timed for; ingest and read have files of their own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from augment import apply, draw, preset
from benchmarks import __main__ as command
from benchmarks.practice import PracticeData
from benchmarks.stages import augment, train
from trainer.config import EncoderConfig, PretrainConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PracticeData:
    return PracticeData(tmp_path_factory.mktemp("practice"), galaxies=30)


def test_train_runs(data: PracticeData):
    settings = PretrainConfig(
        encoder=EncoderConfig(depth=10, width=2), view_px=16, batch=8, queue=16, batch_norm_groups=2, epochs=9
    )
    report = train.measure(data.dataset, settings, rounds=1)
    assert {result.name for result in report.results} == {train.IN_MEMORY, train.WHOLE}
    assert report.results[0].params["batch"] == 8


def test_augment_runs_and_writes_its_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(augment, "BATCH", 2)
    monkeypatch.setattr(augment, "PEER_BATCH", 2)
    threads = torch.get_num_threads()
    try:
        assert command.main(["augment", "--json", str(tmp_path / "augment.json")]) == 0
    finally:
        torch.set_num_threads(threads)
    content = json.loads((tmp_path / "augment.json").read_text())
    assert len(content["results"]) == 4
    assert set(content["ratios"]) == {
        f"{augment.ours_name(name)} / {augment.peer_name(name)}" for name in augment.PRESETS
    }
    assert content["verdict"].startswith("augment alone was measured")


def test_a_file_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(augment, "BATCH", 1)
    monkeypatch.setattr(augment, "PEER_BATCH", 1)
    (tmp_path / "file").touch()
    threads = torch.get_num_threads()
    try:
        assert command.main(["augment", "--json", str(tmp_path / "file" / "out.json")]) == 2
    finally:
        torch.set_num_threads(threads)
    assert capsys.readouterr().err.count("\n") == 1


def test_the_augment_peer_makes_the_same_views():
    """Without noise, within the part of the view that the stamp covers under any turn, up to float32's rounding."""
    stamps = torch.randn(6, 5, augment.STAMP_PX, augment.STAMP_PX)
    known = augment.conditions(6)
    drawn = draw(preset("hayat2021"), seed=0, epoch=0, sample=torch.arange(6), view=1, bands=augment.BANDS)
    drawn = type(drawn)(
        **{name: getattr(drawn, name) for name in drawn.__slots__} | {"mad_factor": torch.zeros(6).double()}
    )
    ours = apply(stamps, drawn, known, bands=augment.BANDS).numpy()
    factor = 10 ** (-0.4 * (drawn.ebv - 0.05)[:, None] * torch.tensor([4.239, 3.303, 2.285, 1.698, 1.263]))
    for row in range(6):
        theirs = augment.scipy_view(
            stamps[row].numpy(), factor[row].numpy().astype(np.float32), float(drawn.angle_deg[row]),
            drawn.shift_px[row].int().numpy(), np.zeros(5), np.zeros(5), np.random.default_rng(0),
        )  # fmt: skip
        # Rounding of positions, 2e-5 px, times slopes up to 8 (see the tests of `augment.resample`).
        np.testing.assert_allclose(theirs[:, 8:56, 8:56], ours[row, :, 8:56, 8:56], atol=2e-4)
