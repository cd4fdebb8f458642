"""Windows: a bilinear renderer that never looks out of them makes the views of the endlessly mirrored stamp."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from augment import AugmentError, Plan
from augment.windows import Windows, check_positions, windows

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


@pytest.mark.parametrize("far", [10**6, 2**40 - 20])
def test_whole_positions_stay_whole_however_far_away(far):
    """Bit for bit the pixels that whole numbers without rounding, Python's, fold the positions onto."""
    affine = torch.tensor([[[0.0, -1.0, far], [1.0, 0.0, -far - 3]]], dtype=F64)
    plan, stamps = plan_of(affine, 16), torch.randn(1, 1, 30, 31)
    check_positions(plan)
    cut = windows(stamps, plan)
    assert cut.shape.tolist() == [[16, 16]]
    y, x = looks_at(cut.affine[0], 16)
    assert all(float(each).is_integer() for each in (*y, *x))
    want = [stamps[0, 0, folded(far - column, 30), folded(row - far - 3, 31)] for row, column in np.ndindex(16, 16)]
    assert cut_out(cut, 0, 0)[0, y.astype(int), x.astype(int)].tolist() == [float(each) for each in want]


def folded(position: int, side: int) -> int:
    return min(position % (2 * side - 2), -position % (2 * side - 2))


@pytest.mark.parametrize(
    "lost", [float("nan"), float("inf"), -float("inf"), 1e26, -1e26, 2.0**40], ids=lambda each: f"{each:g}"
)
@pytest.mark.parametrize("entry", [(0, 0), (1, 1), (0, 2), (1, 2)])
def test_a_view_whose_pixels_lie_nowhere_or_too_far_is_refused_in_a_line(lost, entry):
    affine = torch.eye(2, 3, dtype=F64).repeat(3, 1, 1)
    check_positions(plan_of(affine, 8))
    affine[1][entry] = lost
    with pytest.raises(AugmentError, match=r"span less than 4096 .* in row 1; ") as error:
        check_positions(plan_of(affine, 8))
    assert "\n" not in str(error.value)


def test_a_view_spans_no_more_than_its_positions_are_known_for():
    wide = torch.tensor([[[585.0, 0.0, -9.0], [0.0, 1.0, 0.0]]], dtype=F64)  # 7 steps of 585 px are 4095
    check_positions(plan_of(wide, 8))
    with pytest.raises(AugmentError, match="span less than 4096"):
        check_positions(plan_of(wide + 0.2, 8))


def test_stamps_that_no_view_looks_beyond_are_not_copied():
    stamps = torch.randn(1, 2, 9, 12)
    identity = torch.eye(2, 3, dtype=F64)[None]
    assert windows(stamps, plan_of(identity, 9)).stamps is stamps
    assert windows(stamps, plan_of(identity, 10)).stamps.shape == (1, 2, 10, 12)
