"""The grid of views shows what was drawn."""

from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from augment import PRESETS, draw
from trainer.__main__ import main
from trainer.views import captions

BANDS = ("u", "g", "r", "i", "z")


def test_captions_say_what_the_preset_varies() -> None:
    drawn = {
        name: draw(preset, seed=3, epoch=0, sample=torch.arange(2), view=1, bands=BANDS)
        for name, preset in PRESETS.items()
    }
    assert captions(PRESETS["none"], drawn["none"], BANDS) == ["", ""]
    plain = drawn["hayat2021"]
    shift_y, shift_x = plain.shift_px[0].tolist()
    assert captions(PRESETS["hayat2021"], plain, BANDS)[0] == (
        f"E(B-V) {plain.ebv[0]:.2f}, turn {plain.angle_deg[0]:.0f}°\n"
        f"shift {shift_y:+.0f} {shift_x:+.0f}, noise {plain.mad_factor[0]:.1f}"
    )
    text = captions(PRESETS["stein2021"], drawn["stein2021"], BANDS)[1]
    assert f"PSF {drawn['stein2021'].psf_fwhm_arcsec[1, 2]:.2f}" in text
    assert f"sky {drawn['stein2021'].sky_sigma[1, 2]:.3f}" in text
    assert ("not flipped" in text) != bool(drawn["stein2021"].flip[1])


@pytest.mark.parametrize("name", PRESETS)
def test_the_grid_is_drawn_for_every_preset(name: str, make_survey, tmp_path: Path) -> None:
    dataset = make_survey(8, side_px=107)
    out = tmp_path / "views.png"
    assert main(["views", str(dataset.path), "--preset", name, "--out", str(out)]) == 0
    assert imread(out).std() > 0
    assert not list(tmp_path.glob("*.partial"))


def test_an_unknown_preset_is_one_line(make_survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_survey(2)
    out = tmp_path / "views.png"
    assert main(["views", str(dataset.path), "--preset", "sharp", "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "expected one of hayat2021, stein2021, none, got 'sharp'" in err
    assert not out.exists()
