"""Views in scikit-image, a stamp at a time, as the code released with Stein et al. (2021) makes them.

Equal footing: angles, flips, shifts, gains, widths and noise levels are those of the plan, given ready-made as plain
numbers; nothing is done to bands without blur or noise. What else they leave out is said with each. Images are
(y, x, band) as in that code, and only seen so: the stamps are not transposed in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from augment import VIEW_PX

from .work import STAMP_PX, Work, blur_sigma_px

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One view of one stamp, in plain numbers and numpy's."""

    angle_deg: float  # counter-clockwise as numpy.rot90
    flip: bool  # along x, before the turn
    shift_px: tuple[int, int]  # (y, x) of the object from the view's centre
    matrix: npt.NDArray[np.float64]  # (3, 3): (x, y, 1) of the view to those of the stamp; has the scale in it, too
    gain: Float32s  # (band,)
    blur_px: npt.NDArray[np.float64]  # (band,)
    noise: Float32s  # (band,)


Way = Callable[[Float32s, Recipe, np.random.Generator], Float32s]


def recipes(work: Work, view: int) -> list[Recipe]:
    """What is to become of each stamp."""
    drawn, plan, widths = work.drawn[view], work.plans[view], blur_sigma_px(work.plans[view])
    to_stamp = np.tile(np.eye(3), (len(plan.affine), 1, 1))
    to_stamp[:, :2, :2] = plan.affine[:, :, :2].flip(1, 2).numpy()
    to_stamp[:, :2, 2] = plan.affine[:, :, 2].flip(1).numpy()
    return [
        Recipe(
            angle_deg=float(drawn.angle_deg[row]),
            flip=bool(drawn.flip[row]),
            shift_px=(int(drawn.shift_px[row, 0]), int(drawn.shift_px[row, 1])),
            matrix=to_stamp[row],
            gain=plan.gain[row].float().numpy(),
            blur_px=widths[row].numpy(),
            noise=plan.noise_sigma[row].float().numpy(),
        )
        for row in range(len(to_stamp))
    ]


def turned_and_cropped(stamp: Float32s, recipe: Recipe, rng: np.random.Generator) -> Float32s:
    """The released way: turn all of the stamp, then crop; zeros beyond its edge, and no change of size."""
    from skimage.transform import rotate

    image = np.moveaxis(stamp * recipe.gain[:, None, None], 0, -1)
    image = np.flip(image, axis=1) if recipe.flip else image
    turned = rotate(image, recipe.angle_deg)
    y, x = (STAMP_PX // 2 - VIEW_PX // 2 - shift for shift in recipe.shift_px)
    return _finished(turned[y : y + VIEW_PX, x : x + VIEW_PX], recipe, rng)


def warped(stamp: Float32s, recipe: Recipe, rng: np.random.Generator) -> Float32s:
    """One warp straight to the view: turn, flip, size, shift and crop, mirrored beyond the stamp's edge as ours is."""
    from skimage.transform import warp

    image = np.moveaxis(stamp * recipe.gain[:, None, None], 0, -1)
    return _finished(warp(image, recipe.matrix, output_shape=(VIEW_PX, VIEW_PX), mode="reflect"), recipe, rng)


def _finished(view: Float32s, recipe: Recipe, rng: np.random.Generator) -> Float32s:
    """Blur and noise, band by band and in place; seen as (band, y, x)."""
    from skimage.filters import gaussian

    for band, (blur_px, noise) in enumerate(zip(recipe.blur_px.tolist(), recipe.noise.tolist(), strict=True)):
        if blur_px > 0:
            view[:, :, band] = gaussian(view[:, :, band], sigma=blur_px, mode="mirror")
        if noise > 0:
            view[:, :, band] += rng.normal(0.0, noise, size=view.shape[:2])
    return np.moveaxis(view, -1, 0)
