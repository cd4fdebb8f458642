"""Where each pixel of a view lies in its stamp: flip, scale, turn, shift and crop as one affine map about the object.

The object sits on the stamp's pixel (H // 2, W // 2), which is (53, 53) of 107. It lands on the view's pixel
(n // 2, n // 2), which is (32, 32) of 64, plus the shift: a view pixel q shows the stamp at
p = H // 2 + A (q - n // 2 - shift). (A side of 107 is odd and one of 64 even, so the object is half a pixel off the
view's middle: the central crop is [21:85].)
"""

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from .elementary import cos_sin

VIEW_PX = 64  # side of a view, unless told otherwise


def view_affine(
    *,
    angle_deg: Float64[Tensor, " row"],
    scale: Float64[Tensor, " row"],
    flip: Bool[Tensor, " row"],
    shift_px: Float64[Tensor, "row 2"],
    stamp_shape: tuple[int, int],
    size_px: int,
) -> Float64[Tensor, "row 2 3"]:
    """The map from (y, x, 1) in pixels of the view to (y, x) in pixels of the stamp.

    The view is the stamp mirrored along x (``flip``), made larger by ``scale``, then turned as torch.rot90 turns.
    Whole numbers stay whole: the map is exact for multiples of 90 degrees.
    """
    cosine, sine = cos_sin(angle_deg)
    mirror = 1.0 - 2.0 * flip.to(torch.float64)
    turned = torch.stack([cosine, sine, -sine * mirror, cosine * mirror], dim=-1).reshape(-1, 2, 2)
    matrix = turned / scale[:, None, None]
    y, x = (size_px // 2 + shift_px).unbind(dim=-1)
    centre = torch.tensor([side // 2 for side in stamp_shape], dtype=torch.float64)
    # Spelt out: a matrix product may add in an order that depends on the batch.
    origin = centre - (matrix[:, :, 0] * y[:, None] + matrix[:, :, 1] * x[:, None])
    return torch.cat([matrix, origin[:, :, None]], dim=-1)


def on_grid(affine: Float64[Tensor, "row 2 3"]) -> Bool[Tensor, " row"]:
    """Whether every view pixel falls onto a stamp pixel, so that nothing is interpolated."""
    return (affine == affine.round()).flatten(1).all(dim=1)
