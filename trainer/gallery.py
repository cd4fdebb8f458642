"""Which galaxies of a dataset are shown, and their stamps with what is known of them."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sharding import Dataset

from .pictures import Tile, draw_tiles

STAMPS = 64
STAMP_COLUMNS = 8
BRIGHT_SHARE = 0.15  # of the samples: those whose shape can be seen

Indices = npt.NDArray[np.int64]


def random_galaxies(dataset: Dataset, count: int, seed: int) -> Indices:
    """Indices of ``count`` samples at random (all, where there are no more), ascending."""
    return _some(np.arange(len(dataset)), count, seed)


def bright_galaxies(dataset: Dataset, count: int, seed: int) -> Indices:
    """The same among the brightest in r, by petrosian magnitude; among all where the dataset has none."""
    if not dataset.has("petroMag_r"):
        return random_galaxies(dataset, count, seed)
    magnitude = dataset.column("petroMag_r").astype(np.float64)
    order = np.argsort(np.where(magnitude > 0, magnitude, np.inf), kind="stable")
    return _some(order[: max(count, round(BRIGHT_SHARE * len(dataset)))], count, seed)


def _some(members: Indices, count: int, seed: int) -> Indices:
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(members, min(count, len(members)), replace=False))


def redshift_captions(dataset: Dataset, indices: Indices) -> list[str]:
    """``z = 0.123`` of each sample whose redshift is known, else nothing."""
    if not dataset.has("specz"):
        return [""] * len(indices)
    redshift = dataset.column("specz").astype(np.float64)[indices]
    return [f"z = {z:.3f}" if np.isfinite(z) else "" for z in redshift]


def draw_stamps(path: Path, dataset: Dataset, *, seed: int) -> None:
    """Write random stamps of the dataset."""
    indices = random_galaxies(dataset, STAMPS, seed)
    captions = redshift_captions(dataset, indices)
    tiles = [Tile(image, caption) for image, caption in zip(dataset.images(indices), captions, strict=True)]
    draw_tiles(path, tiles, dataset.bands, columns=STAMP_COLUMNS, title=f"{len(indices)} of {len(dataset):,} stamps")
