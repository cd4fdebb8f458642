"""The reference's blur: each image and band convolved with its own symmetric kernel along both axes.

Beyond an edge the image is mirrored about the centre of its edge pixels.
"""

import functools

import torch
from jaxtyping import Float, Float64
from torch import Tensor


def blur(
    images: Float[Tensor, "row band y x"], taps: Float64[Tensor, "row band reach"]
) -> Float[Tensor, "row band y x"]:
    """Each band convolved with its own ``taps`` (see `taps.blur_taps`); the one weight 1 gives the image bit for bit.

    A pixel that is not finite would spread over its whole row and column: fill it before.
    """
    height, width = images.shape[2:]
    rows = _matrix(taps, height, images)
    columns = rows if width == height else _matrix(taps, width, images)
    return rows @ images @ columns.transpose(-1, -2)


def _matrix(taps: Float64[Tensor, "row band reach"], side: int, like: Tensor) -> Float[Tensor, "row band side side"]:
    """The blur along one axis as a matrix: row i holds what pixel i takes from each pixel, mirror images included."""
    places = _places(side, taps.shape[-1]).to(like)
    return (taps.to(like) @ places).reshape(*taps.shape[:2], side, side)


@functools.lru_cache(maxsize=4)
def _places(side: int, reach: int) -> Float[Tensor, "reach pixels"]:
    """For each distance, the (to, from) pairs of pixels that lie so far apart, directly or by a mirror image."""
    place = torch.zeros(reach, side, side)
    to = torch.arange(side)
    for distance in range(reach):
        for source in {-distance, distance}:
            folded = (side - 1) - ((to + source) % (2 * (side - 1)) - (side - 1)).abs()
            place[distance, to, folded] += 1.0
    return place.flatten(1)
