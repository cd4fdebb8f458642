"""Pairs of views as other people's code makes them, each with numbers of its own drawing: dust, turn, shift, noise.

These are the paper's four augmentations with the ranges of a preset that has no more than those; what is drawn is not
reproducible over batches, workers and restarts, as ours is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from augment import Preset

from .containers import EBV, IMAGE, Images, index_of, r_band, r_dr12

VIEWS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What all of them are to make of an image."""

    preset: Preset
    bands: tuple[str, ...]
    mad: Images  # (band,) [nanomaggy / pixel]
    stamp_px: int
    view_px: int
    batch: int
    device: torch.device

    @property
    def middles(self) -> tuple[float, float]:
        """Where along each axis the object is, in the view and in the stamp, from the edge [px]."""
        return self.view_px // 2 + 0.5, self.stamp_px // 2 + 0.5


def by_skimage(image: Images, e_bv: Images, recipe: Recipe, rng: np.random.Generator) -> Images:
    """(band, y, x) to one view of it, as the published code does: all of the stamp is turned, then cropped."""
    from skimage.transform import rotate

    chosen, bands = recipe.preset, recipe.bands
    ebv = (e_bv / r_dr12(bands)).mean() - rng.uniform(*chosen.ebv_mag)
    flux = image * (10.0 ** (0.4 * r_band(bands) * ebv)).astype(np.float32)[:, None, None]
    turned = rotate(np.moveaxis(flux, 0, -1), rng.uniform(*chosen.angle_deg))
    shift = rng.integers(-chosen.max_shift_px, chosen.max_shift_px + 1, 2)
    y, x = np.clip(recipe.stamp_px // 2 - recipe.view_px // 2 + shift, 0, recipe.stamp_px - recipe.view_px)
    view = turned[y : y + recipe.view_px, x : x + recipe.view_px]
    noise = rng.normal(size=view.shape) * recipe.mad * rng.uniform(*chosen.mad_factor)
    return np.ascontiguousarray(np.moveaxis(view + noise, -1, 0), dtype=np.float32)


class Hdf5Pairs(torch.utils.data.Dataset[Tensor]):
    """A published HDF5 file, an image at a time, each to two views by scikit-image: (view, band, y, x)."""

    def __init__(self, path: Path, images: int, recipe: Recipe) -> None:
        self._path, self._images, self._recipe = path, images, recipe
        self._file: Mapping[str, Any] | None = None  # each worker opens its own
        self._rng: np.random.Generator | None = None

    def __len__(self) -> int:
        return self._images

    def __getitem__(self, index: int) -> Tensor:
        import h5py

        if self._file is None or self._rng is None:
            self._file, self._rng = h5py.File(self._path, "r"), np.random.default_rng(torch.initial_seed())
        image, e_bv = self._file["images"][index], self._file["e_bv"][index]
        views = [by_skimage(image, e_bv, self._recipe, self._rng) for _ in range(VIEWS)]
        return torch.from_numpy(np.stack(views))


class TorchPairs:
    """A batch of stamps to two views of each, in plain torch: (view, n, band, y, x)."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __call__(self, batch: Sequence[Tensor]) -> Tensor:
        """From images (n, band, y, x) and E(B-V) (n, 1)."""
        images, ebv = batch
        return torch.stack([self._view(images, ebv) for _ in range(VIEWS)])

    def _view(self, images: Tensor, ebv: Tensor) -> Tensor:
        recipe, chosen, n = self._recipe, self._recipe.preset, len(images)

        def uniform(low: float, high: float) -> Tensor:
            return torch.empty(n, device=images.device).uniform_(low, high)

        turn, limit = torch.deg2rad(uniform(*chosen.angle_deg)), chosen.max_shift_px
        size = recipe.view_px / recipe.stamp_px
        matrix = size * torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()], dim=1).view(n, 2, 2)
        in_view, in_stamp = (2.0 * middle / px - 1.0 for middle, px in
                             zip(recipe.middles, (recipe.view_px, recipe.stamp_px), strict=True))  # fmt: skip
        shift = torch.randint(-limit, limit + 1, (n, 2), device=images.device) * 2.0 / recipe.stamp_px
        affine = torch.cat([matrix, (in_stamp + shift - in_view * matrix.sum(dim=2))[..., None]], dim=2)
        grid = F.affine_grid(affine, [*images.shape[:2], recipe.view_px, recipe.view_px], align_corners=False)
        views = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        r, mad = (torch.from_numpy(each).to(images.device) for each in (r_band(recipe.bands), recipe.mad))
        gain = 10.0 ** (0.4 * r * (ebv - uniform(*chosen.ebv_mag)[:, None]))
        sigma = mad * uniform(*chosen.mad_factor)[:, None]
        return views * gain[:, :, None, None] + torch.randn_like(views) * sigma[:, :, None, None]


def dali_pipeline(paths: Sequence[Path], recipe: Recipe, threads: int, headers: tuple[int, int]) -> Any:
    """DALI's reader of tars, shuffling, and its operators: two outputs (n, band, y, x, 1) on the device.

    ``headers``: bytes before the numbers in the .npy files of an image and of an E(B-V).
    """
    from nvidia.dali import fn, math, types
    from nvidia.dali.pipeline import Pipeline

    device = torch.cuda.current_device() if recipe.device.type == "cuda" else None
    backend, batch = "cpu" if device is None else "gpu", recipe.batch
    shape = [len(recipe.bands), recipe.stamp_px, recipe.stamp_px, 1]
    pipeline: Any
    with Pipeline(batch_size=batch, num_threads=threads, device_id=device) as pipeline:  # type: ignore[no-untyped-call]
        reader: Any = fn.readers.webdataset(
            paths=list(map(str, paths)),
            index_paths=[str(index_of(path)) for path in paths],
            ext=[IMAGE, EBV],
            random_shuffle=True,
            initial_fill=batch,
        )
        raw, dust = reader
        image = fn.reinterpret(raw[headers[0] :], dtype=types.DALIDataType.FLOAT, shape=shape, layout="FHWC")
        ebv = fn.reinterpret(dust[headers[1] :], dtype=types.DALIDataType.FLOAT, shape=[1])
        stamps = image.gpu() if backend == "gpu" else image
        pipeline.set_outputs(*(_dali_view(stamps, ebv, recipe, backend, fn, math, types) for _ in range(VIEWS)))
    pipeline.build()
    return pipeline


def _dali_view(stamps: Any, ebv: Any, recipe: Recipe, backend: str, fn: Any, math: Any, types: Any) -> Any:
    chosen, (in_view, in_stamp) = recipe.preset, recipe.middles
    limit = chosen.max_shift_px

    def uniform(low: float, high: float, *shape: int) -> Any:  # its own takes no range without a width
        return fn.random.uniform(range=[0.0, 1.0], shape=list(shape)) * (high - low) + low

    shift = math.floor(uniform(-limit, limit + 1, 2))
    to_stamp = fn.transforms.combine(
        fn.transforms.translation(offset=[-in_view, -in_view]),
        fn.transforms.rotation(angle=uniform(*chosen.angle_deg)),
        fn.transforms.translation(offset=shift + in_stamp),
    )
    view = fn.warp_affine(
        stamps, matrix=to_stamp, size=(recipe.view_px,) * 2, interp_type=types.DALIInterpType.INTERP_LINEAR
    )
    column = [len(recipe.bands), 1, 1, 1]
    r, mad = (
        types.Constant(each.tolist(), dtype=types.DALIDataType.FLOAT) for each in (r_band(recipe.bands), recipe.mad)
    )
    dust = ebv - uniform(*chosen.ebv_mag, 1)
    gain = fn.reshape(math.exp(float(0.4 * np.log(10.0)) * dust * r), shape=column)
    sigma = fn.reshape(mad * uniform(*chosen.mad_factor, 1), shape=column)
    if backend == "gpu":
        gain, sigma = gain.gpu(), sigma.gpu()
    return view * gain + fn.random.normal(view, device=backend) * sigma
