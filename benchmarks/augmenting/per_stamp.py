"""Views in scikit-image, a stamp at a time, as the code released with Stein et al. (2021) makes them.

Equal footing: angles, flips, shifts, gains, widths and noise levels are those of the plan, given ready-made as plain
numbers; nothing is done to bands without blur or noise. What else they leave out is said with each. Images are
(y, x, band) as in that code, and only seen so: the stamps are not transposed in memory. The interpreter's lock keeps
threads from working side by side, so several processes do, as data loaders have them; they import this file, which is
why it does without torch.
"""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One view of one stamp, in plain numbers and numpy's."""

    size_px: int  # side of the view
    angle_deg: float  # counter-clockwise as numpy.rot90
    flip: bool  # along x, before the turn
    shift_px: tuple[int, int]  # (y, x) of the object from the view's centre
    matrix: npt.NDArray[np.float64]  # (3, 3): (x, y, 1) of the view to those of the stamp; has the scale in it, too
    gain: Float32s  # (band,)
    blur_px: npt.NDArray[np.float64]  # (band,)
    noise: Float32s  # (band,)


Way = Callable[[Float32s, Recipe, np.random.Generator], Float32s]

Rows = Sequence[tuple[Float32s, Recipe]]

_rows: Rows = ()  # of a process


def maker(rows: Rows, processes: int, opened: ExitStack) -> Callable[[Way], int]:
    """A function that makes all views in a way, once in each of the processes, and says how many they were.

    Views stay in the process that made them: handing them over costs nothing. One process is this one.
    """
    if processes == 1:
        return lambda way: _count(way, rows)
    context = multiprocessing.get_context("forkserver")
    pool = opened.enter_context(
        ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(rows,))
    )
    return lambda way: sum(pool.map(_count_here, [way] * processes))


def _begin(rows: Rows) -> None:
    global _rows
    _rows = rows


def _count_here(way: Way) -> int:
    return _count(way, _rows)


def _count(way: Way, rows: Rows) -> int:
    rng = np.random.default_rng(0)
    return len([way(stamp, recipe, rng) for stamp, recipe in rows])


def turned_and_cropped(stamp: Float32s, recipe: Recipe, rng: np.random.Generator) -> Float32s:
    """The released way: turn all of the stamp, then crop; zeros beyond its edge, and no change of size."""
    from skimage.transform import rotate

    image = np.moveaxis(stamp * recipe.gain[:, None, None], 0, -1)
    image = np.flip(image, axis=1) if recipe.flip else image
    turned = rotate(image, recipe.angle_deg)
    size = recipe.size_px
    y, x = (side // 2 - size // 2 - shift for side, shift in zip(stamp.shape[1:], recipe.shift_px, strict=True))
    return _finished(turned[y : y + size, x : x + size], recipe, rng)


def warped(stamp: Float32s, recipe: Recipe, rng: np.random.Generator) -> Float32s:
    """One warp straight to the view: turn, flip, size, shift and crop, mirrored beyond the stamp's edge as ours is."""
    from skimage.transform import warp

    image = np.moveaxis(stamp * recipe.gain[:, None, None], 0, -1)
    shape = (recipe.size_px, recipe.size_px)
    return _finished(warp(image, recipe.matrix, output_shape=shape, mode="reflect"), recipe, rng)


def _finished(view: Float32s, recipe: Recipe, rng: np.random.Generator) -> Float32s:
    """Blur and noise, band by band and in place; seen as (band, y, x)."""
    from skimage.filters import gaussian

    for band, (blur_px, noise) in enumerate(zip(recipe.blur_px.tolist(), recipe.noise.tolist(), strict=True)):
        if blur_px > 0:
            view[:, :, band] = gaussian(view[:, :, band], sigma=blur_px, mode="mirror")
        if noise > 0:
            view[:, :, band] += rng.normal(0.0, noise, size=view.shape[:2])
    return np.moveaxis(view, -1, 0)
