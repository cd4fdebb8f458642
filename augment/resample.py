"""Flip, scale, turn, shift and crop in one bilinear resampling about the object.

The object sits on the stamp's pixel (H // 2, W // 2), which is (53, 53) of 107. It lands on the view's pixel
(n // 2, n // 2), which is (32, 32) of 64, plus the shift. A view pixel q shows the stamp at
p = H // 2 + A (q - n // 2 - shift).

What lies outside the stamp is the stamp mirrored about the centres of its edge pixels: the sky goes on with the same
noise and without a step. (Corners of zeros, or of one repeated value, would tell a network how a view was turned.)
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64
from torch import Tensor

# What bilinear interpolation adds to a source's second moment along each axis: f (1 - f) at a fraction f of a pixel,
# 1/6 px^2 in the mean over f (in the stamp's pixels).
BILINEAR_VARIANCE_PX2 = 1.0 / 6.0


def view_to_stamp(
    angle_deg: Float64[Tensor, " batch"], scale: Float64[Tensor, " batch"], flip: Bool[Tensor, " batch"]
) -> Float64[Tensor, "batch 2 2"]:
    """The matrix A from (y, x) offsets in the view to offsets in the stamp; exact for multiples of 90 degrees.

    The view is the stamp mirrored along x (``flip``), made larger by ``scale``, then turned as torch.rot90 turns.
    """
    cosine, sine = _cos_sin(angle_deg)
    mirror = 1.0 - 2.0 * flip.to(torch.float64)
    rows = [torch.stack([cosine, sine], dim=-1), torch.stack([-sine * mirror, cosine * mirror], dim=-1)]
    return torch.stack(rows, dim=-2) / scale[:, None, None]


def on_grid(matrix: Float64[Tensor, "batch 2 2"], shift_px: Float64[Tensor, "batch 2"]) -> Bool[Tensor, " batch"]:
    """Whether every view pixel falls onto a stamp pixel, so that nothing is interpolated."""
    whole = (matrix == matrix.round()).flatten(1).all(dim=1)
    return whole & (shift_px == shift_px.round()).all(dim=1)


def resample(
    images: Float[Tensor, "batch band y x"],
    matrix: Float64[Tensor, "batch 2 2"],
    shift_px: Float64[Tensor, "batch 2"],
    size_px: int,
) -> Float[Tensor, "batch band {size_px} {size_px}"]:
    """The view of each image. Values are interpolated, so surface brightness stays.

    With it, an object's total flux stays under turns, flips and shifts, and grows as scale squared.
    """
    height, width = images.shape[2:]
    # float32 holds (2 p + 1) / side exactly for a whole p where side is a power of two, so whole pixels stay exact.
    # The zeros that fill up to it are never seen: coordinates end at the stamp's edge.
    side = 2 ** math.ceil(math.log2(max(height, width)))
    padded = F.pad(images, (0, side - width, 0, side - height))
    matrix, shift_px = matrix.to(images.device), shift_px.to(images.device)
    position = _mirror(_positions(matrix, shift_px, size_px, (height, width)), (height, width))
    grid = ((2.0 * position + 1.0) / side - 1.0).flip(-1).to(images.dtype)  # grid_sample wants (x, y)
    return F.grid_sample(padded, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _cos_sin(angle_deg: Float64[Tensor, " batch"]) -> tuple[Float64[Tensor, " batch"], Float64[Tensor, " batch"]]:
    """From the nearest quarter turn, which is exact, and the at most 45 degrees beyond it."""
    quarter = torch.round(angle_deg / 90.0)
    rest = torch.deg2rad(angle_deg - 90.0 * quarter)
    cosine, sine = torch.cos(rest), torch.sin(rest)
    turn = torch.remainder(quarter, 4.0)
    odd = torch.remainder(turn, 2.0) == 1.0
    sign_cos = 1.0 - 2.0 * ((turn == 1.0) | (turn == 2.0)).to(torch.float64)
    sign_sin = 1.0 - 2.0 * (turn >= 2.0).to(torch.float64)
    return sign_cos * torch.where(odd, sine, cosine), sign_sin * torch.where(odd, cosine, sine)


def _positions(
    matrix: Float64[Tensor, "batch 2 2"], shift_px: Float64[Tensor, "batch 2"], size_px: int, shape: tuple[int, int]
) -> Float64[Tensor, "batch {size_px} {size_px} 2"]:
    """Stamp coordinates (y, x) of every view pixel: affine, so the sum of a row's part and a column's part."""
    centre = torch.tensor([shape[0] // 2, shape[1] // 2]).to(matrix)
    origin = centre - (matrix @ (size_px // 2 + shift_px)[:, :, None])[:, :, 0]
    step = torch.arange(size_px).to(matrix)[None, :, None]
    by_row = origin[:, None, :] + step * matrix[:, None, :, 0]
    by_column = step * matrix[:, None, :, 1]
    return by_row[:, :, None, :] + by_column[:, None, :, :]


def _mirror(position: Float64[Tensor, "batch n n 2"], shape: tuple[int, int]) -> Float64[Tensor, "batch n n 2"]:
    """Coordinates folded back into 0 .. side - 1, about the centres of the edge pixels."""
    period = torch.tensor([2 * (shape[0] - 1), 2 * (shape[1] - 1)]).to(position)
    return torch.addcmul(position, period, torch.round(position / period), value=-1.0).abs_()
