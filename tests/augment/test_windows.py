"""Windows: a bilinear renderer that never looks out of them makes the views of the endlessly mirrored stamp."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from augment import Plan
from augment.windows import Windows, windows

F64 = torch.float64


def plan_of(affine: torch.Tensor, size_px: int) -> Plan:
    """One row a stamp, nothing but geometry."""
    rows = len(affine)
    one = torch.ones(rows, 1, dtype=F64)
    return Plan(
        size_px=size_px, place=torch.arange(rows), affine=affine, taps=one[..., None], gain=one, noise_sigma=0 * one,
        noise_key=torch.zeros(rows, 2, dtype=torch.int64),
    )  # fmt: skip


def looks_at(affine: torch.Tensor, size_px: int) -> np.ndarray:
    """(2, pixel): the position (y, x) of every view pixel."""
    y, x = np.indices((size_px, size_px)).reshape(2, -1)
    return affine.numpy() @ np.stack([y, x, np.ones_like(y)])


def cut_out(cut: Windows, row: int, stamp: int) -> torch.Tensor:
    (y, x), (height, width) = cut.start[row].tolist(), cut.shape[row].tolist()
    return cut.stamps[stamp, :, y : y + height, x : x + width]


# Scaled up and down, turned, far off to either side: up to 50 times as far as the stamp is large.
AFFINE = torch.tensor([
    [[0.8, 0.6, 3.1], [-0.6, 0.8, 7.3]],
    [[-0.02, 0.01, 0.4], [0.03, 0.05, 9.6]],
    [[2.5, -1.5, -444.25], [1.25, 3.5, 530.75]],
    [[0.0, 1.0, -7.0], [-1.0, 0.0, 23.0]],
], dtype=F64)  # fmt: skip


@pytest.mark.parametrize("shape", [(9, 12), (2, 3), (50, 40)])
def test_a_renderer_that_sees_only_the_window_makes_what_scipy_makes_of_the_mirrored_stamp(shape):
    stamps = torch.randn(len(AFFINE), 1, *shape)
    cut = windows(stamps, plan_of(AFFINE, 8))
    for row, stamp in enumerate(stamps[:, 0].double().numpy()):
        mirrored = map_coordinates(stamp, looks_at(AFFINE[row], 8), order=1, mode="mirror")
        window = cut_out(cut, row, row)[0].double().numpy()
        assert list(window.shape) == cut.shape[row].tolist()
        inside = looks_at(cut.affine[row], 8)
        last = np.array(window.shape)[:, None] - 1
        assert inside.clip(0, last) == pytest.approx(inside, abs=1e-9)  # rounding of float64 at 500 px: 1e-13
        # 1e-9 px is the most that clip moves; steps between neighbours are below 10.
        np.testing.assert_allclose(map_coordinates(window, inside.clip(0, last), order=1), mirrored, atol=1e-8)


def test_a_row_has_the_same_window_in_any_batch():
    stamps = torch.randn(len(AFFINE), 2, 9, 12)
    plan = plan_of(AFFINE, 8)
    together = windows(stamps, plan)
    for row in range(len(AFFINE)):
        alone = windows(stamps[row : row + 1], replace(plan.rows(slice(row, row + 1)), place=torch.tensor([0])))
        assert torch.equal(alone.affine[0], together.affine[row])
        assert torch.equal(alone.shape[0], together.shape[row])
        assert torch.equal(cut_out(alone, 0, 0), cut_out(together, row, row))


def test_whole_positions_stay_whole_however_far_away():
    affine = torch.tensor([[[0.0, -1.0, 1e6], [1.0, 0.0, -1e6 - 3]]], dtype=F64)
    cut = windows(torch.randn(1, 1, 30, 31), plan_of(affine, 16))
    assert torch.equal(cut.affine, cut.affine.round())
    assert cut.shape.tolist() == [[16, 16]]


def test_stamps_that_no_view_looks_beyond_are_not_copied():
    stamps = torch.randn(1, 2, 9, 12)
    identity = torch.eye(2, 3, dtype=F64)[None]
    assert windows(stamps, plan_of(identity, 9)).stamps is stamps
    assert windows(stamps, plan_of(identity, 10)).stamps.shape == (1, 2, 10, 12)
