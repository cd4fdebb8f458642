"""The grid of views shows what was drawn."""

import dataclasses
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from augment import PRESETS, Conditions, draw
from trainer.__main__ import main
from trainer.views import captions, stamp_captions

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
        f"E(B-V) {plain.ebv[0]:.2f}, noise {plain.mad_factor[0]:.1f}\n"
        f"turn {plain.angle_deg[0]:.0f}°\nshift {shift_y:+.0f} {shift_x:+.0f}"
    )
    text = captions(PRESETS["stein2021"], drawn["stein2021"], BANDS)[1]
    assert f"PSF {drawn['stein2021'].psf_fwhm_arcsec[1, 2]:.2f}" in text
    assert f"sky {drawn['stein2021'].sky_sigma[1, 2]:.3f}" in text
    both = drawn["stein2021-drawn"]
    text_of_both = captions(PRESETS["stein2021-drawn"], both, BANDS)[1]
    assert f"PSF {both.own_psf_fwhm_arcsec[1, 2]:.2f} to {both.psf_fwhm_arcsec[1, 2]:.2f}\n" in text_of_both
    assert f"sky {both.own_sky_sigma[1, 2]:.3f} to {both.sky_sigma[1, 2]:.3f}\n" in text_of_both
    assert ("not flipped" in text) != bool(drawn["stein2021"].flip[1])


def test_a_stamp_says_what_is_known_of_it() -> None:
    known = Conditions(
        ebv=torch.tensor([0.05]), pixel_scale_arcsec=0.396, mad=torch.ones(2), sky_sigma=torch.tensor([[0.02, 0.03]])
    )
    assert stamp_captions(known, ("g", "r")) == ["stamp: E(B-V) 0.05\nsky 0.030"]
    seen = dataclasses.replace(known, psf_fwhm_arcsec=torch.tensor([[1.3, 1.2]]), sky_sigma=None)
    assert stamp_captions(seen, ("g", "r")) == ["stamp: E(B-V) 0.05\nPSF 1.20"]


@pytest.mark.parametrize("name", PRESETS)
def test_the_grid_is_drawn_for_every_preset(name: str, make_survey, tmp_path: Path) -> None:
    dataset = make_survey(8, side_px=107)
    out = tmp_path / "views.png"
    assert main(["views", str(dataset.path), "--preset", name, "--out", str(out)]) == 0
    assert imread(out).std() > 0
    assert not list(tmp_path.glob("*.partial"))


def test_what_is_left_out_is_not_told_of(make_survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {}
    monkeypatch.setattr("trainer.views.draw_tiles", lambda path, tiles, bands, **more: told.update(more, tiles=tiles))
    words = ["--preset", "hayat2021", "--without", "dust", "--out", str(tmp_path / "views.png")]
    assert main(["views", str(make_survey(8, side_px=107).path), *words]) == 0
    assert told["title"] == "views of preset hayat2021 without dust, seed 0"
    views = [tile for tile in told["tiles"] if tile.frame_px is None]
    assert all("E(B-V)" not in tile.caption and "turn" in tile.caption for tile in views)


def test_an_unknown_preset_is_one_line(make_survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = make_survey(2)
    out = tmp_path / "views.png"
    assert main(["views", str(dataset.path), "--preset", "sharp", "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "expected one of hayat2021, stein2021, stein2021-drawn, none, got 'sharp'" in err
    assert not out.exists()


def test_a_seed_that_is_none_is_one_line(make_survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, out = make_survey(2), tmp_path / "views.png"
    assert main(["views", str(dataset.path), "--preset", "none", "--out", str(out), "--seed", "-1"]) == 2
    assert capsys.readouterr().err == "trainer: error: --seed: expected 0 or more, below 2^64, got -1\n"
