"""One resampling: exact on the grid, SciPy's bilinear off it, light conserved, the object in its place."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from augment.geometry import on_grid, view_affine
from augment.resample import BILINEAR_VARIANCE_PX2, resample

F64 = torch.float64


def affine(
    shape: tuple[int, int], size_px: int, angle_deg: float = 0.0, scale: float = 1.0, *, flip=False, shift=(0.0, 0.0)
) -> torch.Tensor:
    """The map of one view of ``size_px`` of a stamp of ``shape``."""
    return view_affine(
        angle_deg=torch.tensor([angle_deg], dtype=F64), scale=torch.tensor([scale], dtype=F64),
        flip=torch.tensor([flip]), shift_px=torch.tensor([shift], dtype=F64), stamp_shape=shape, size_px=size_px,
    )  # fmt: skip


def viewed(stamp: torch.Tensor, size_px: int, *moved, **also) -> torch.Tensor:
    return resample(stamp, affine(tuple(stamp.shape[2:]), size_px, *moved, **also), size_px)


def gaussian(y: float, x: float, sigma: float, shape=(107, 107)) -> torch.Tensor:
    """A round source of total flux 1, sampled at pixel centres; float64, one stamp, one band."""
    grid_y, grid_x = (torch.arange(side, dtype=F64) for side in shape)
    profile = torch.exp(-((grid_y[:, None] - y) ** 2 + (grid_x - x) ** 2) / (2 * sigma**2))
    return (profile / (2 * torch.pi * sigma**2))[None, None]


def moments(image: torch.Tensor) -> tuple[float, float, float, float]:
    """Flux, centroid (y, x) and mean second moment per axis."""
    flux = image.sum()
    grid_y, grid_x = (torch.arange(side, dtype=image.dtype) for side in image.shape[-2:])
    y, x = (image.sum(dim=-1) @ grid_y / flux).item(), (image.sum(dim=-2) @ grid_x / flux).item()
    spread = image.sum(dim=-1) @ (grid_y - y) ** 2 + image.sum(dim=-2) @ (grid_x - x) ** 2
    return flux.item(), y, x, (spread / (2 * flux)).item()


@pytest.mark.parametrize("turns", [-5, -1, 0, 1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_quarter_turns_equal_rot90_bit_for_bit(turns, dtype):
    stamp = torch.randn(1, 5, 107, 107, dtype=dtype)
    view = viewed(stamp, 64, 90.0 * turns)
    assert torch.equal(view, torch.rot90(stamp, turns, (2, 3))[:, :, 21:85, 21:85])


@pytest.mark.parametrize("shift", [(0, 0), (7, -7), (-3, 5)])
def test_a_flip_mirrors_x_and_the_shift_moves_the_object(shift):
    stamp = torch.randn(1, 2, 107, 107)
    y, x = 21 - shift[0], 21 - shift[1]
    view = viewed(stamp, 64, flip=True, shift=shift)
    assert torch.equal(view, stamp.flip(3)[:, :, y : y + 64, x : x + 64])


def test_the_flip_comes_before_the_turn():
    stamp = torch.randn(1, 1, 21, 21)
    view = viewed(stamp, 21, 90.0, flip=True)
    assert torch.equal(view, torch.rot90(stamp.flip(3), 1, (2, 3)))


@given(
    angle=st.floats(-720, 720), scale=st.floats(0.5, 2.0), flip=st.booleans(),
    shift=st.tuples(st.integers(-9, 9), st.integers(-9, 9)), shape=st.tuples(st.integers(20, 60), st.integers(20, 60)),
)  # fmt: skip
def test_equals_scipy_with_mirrored_borders(angle, scale, flip, shift, shape):
    """Also far outside the stamp, on odd, even and non-square ones."""
    stamp = torch.randn(1, 1, *shape, dtype=F64)
    radians = np.deg2rad(angle)
    dy, dx = np.mgrid[:24, :24] - 12.0 - np.array(shift)[:, None, None]
    y = shape[0] // 2 + (np.cos(radians) * dy + np.sin(radians) * dx) / scale
    x = shape[1] // 2 + (-np.sin(radians) * dy + np.cos(radians) * dx) / scale * (-1 if flip else 1)
    expected = ndimage.map_coordinates(stamp[0, 0].numpy(), [y, x], order=1, mode="mirror")
    got = viewed(stamp, 24, angle, scale, flip=flip, shift=shift)[0, 0]
    # Coordinates of some 100 px in float64 (1e-14), slopes of a few.
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)


def test_float32_is_float64_rounded():
    stamp = torch.randn(1, 5, 107, 107, dtype=F64)
    exact = viewed(stamp, 64, 33.0, 1.05, shift=(3, -4))
    single = viewed(stamp.float(), 64, 33.0, 1.05, shift=(3, -4))
    # grid_sample's coordinate, up to 128 px, is rounded three times by 2^-24 of it: 2e-5 px, times slopes up to 8.
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=2e-4)


@pytest.mark.parametrize("angle", [0.0, 12.3, 45.0, 90.0, 201.0])
@pytest.mark.parametrize("shift", [(0, 0), (7, -6)])
def test_the_object_lands_on_the_centre_plus_the_shift(angle, shift):
    view = viewed(gaussian(53, 53, 2.0), 64, angle, 1.1, shift=shift)
    _, y, x, _ = moments(view)
    # Bilinear interpolation is symmetric about the object; what lies beyond the view's edge is below 1e-20.
    assert (y, x) == pytest.approx((32 + shift[0], 32 + shift[1]), abs=1e-3)


@pytest.mark.parametrize("angle", [0.0, 7.0, 30.0, 45.0, 133.0])
@pytest.mark.parametrize("flip", [False, True])
def test_flux_is_conserved(angle, flip):
    # About the object both grids coincide, which favours its middle: 0.2 % at worst for sigma = 2 px, 0.6 % for 1.5 px.
    view = viewed(gaussian(53, 53, 2.0), 64, angle, flip=flip, shift=(2, 3))
    assert moments(view)[0] == pytest.approx(1.0, rel=3e-3)


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_flux_grows_with_the_objects_area(scale):
    fluxes = [moments(viewed(gaussian(53, 53, 2.0), 64, float(angle), scale))[0] for angle in range(90)]
    # One view, unturned, is off by up to 2.5 %, see above; the mean over the angles by 0.4 %.
    assert np.mean(fluxes) == pytest.approx(scale**2, rel=5e-3)
    assert fluxes == pytest.approx([scale**2] * 90, rel=0.03)


def test_interpolation_adds_a_sixth_of_a_pixel_squared():
    """The mean, over places and angles, of what a turn adds to a source's second moment."""
    sigma, added = 2.0, []
    for y, x, angle in np.random.default_rng(0).uniform([-12, -12, 0], [12, 12, 360], (60, 3)):
        view = viewed(gaussian(53 + y, 53 + x, sigma), 64, angle)
        added.append(moments(view)[3] - sigma**2)
    error = np.std(added) / np.sqrt(len(added))
    assert error < 0.05 * BILINEAR_VARIANCE_PX2
    assert np.mean(added) == pytest.approx(BILINEAR_VARIANCE_PX2, abs=4 * error)


def test_on_grid_is_true_only_where_nothing_is_interpolated():
    shape, shift = (107, 107), {"shift": (1, 2)}
    turns = [affine(shape, 64, angle, **shift) for angle in (0.0, 45.0, 1e-9)]
    turns += [affine(shape, 64, 270.0, flip=True, **shift), affine(shape, 64, 90.0, 0.9, **shift)]
    assert [bool(on_grid(turn)) for turn in turns] == [True, False, False, True, False]
    assert not on_grid(affine(shape, 64, 90.0, shift=(0.5, 0)))


def test_an_input_that_is_not_contiguous_is_read_right_and_left_alone():
    wide = torch.randn(2, 3, 40, 80)
    before = wide.clone()
    turn = affine((40, 40), 16, 77.0, shift=(1, 1)).expand(2, 2, 3)
    every_second = wide[..., ::2]
    assert torch.equal(resample(every_second, turn, 16), resample(every_second.contiguous(), turn, 16))
    assert torch.equal(wide, before)
