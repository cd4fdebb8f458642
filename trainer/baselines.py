"""What a network must beat sees no image: catalogue magnitudes as features, and neighbours among them.

What is done with the neighbours, and with the features otherwise, is `study.catalogue`'s.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from augment.extinction import coefficients
from sharding import Dataset

from .errors import TrainerError

NEIGHBOURS = 10
MAGNITUDES = ("modelMag", "petroMag")  # in order of preference: a model's magnitudes make the better colours
FAINTEST = -9000.0  # catalogues write -9999 for a magnitude that was not measured
DISTANCES_AT_ONCE = 2**24  # 128 MiB


@dataclass(frozen=True, slots=True)
class Photometry:
    """Catalogue magnitudes as a method's input."""

    features: Float[np.ndarray, "n feature"]  # adjacent colours from blue to red, then the r magnitude [mag]
    known: Bool[np.ndarray, " n"]  # where every one was measured
    description: str


def photometry(dataset: Dataset) -> Photometry:
    """Colours and r magnitude of every sample, dereddened with its own E(B-V) as the images are.

    Raises TrainerError where the dataset has neither kind of magnitudes, or no r band.
    """
    kind = next((name for name in MAGNITUDES if all(dataset.has(f"{name}_{b}") for b in dataset.bands)), None)
    if kind is None or "r" not in dataset.bands:
        expected = " or ".join(f"{name}_{{band}}" for name in MAGNITUDES)
        raise TrainerError(f"{dataset.location}: expected columns {expected} for every band, r among them; got none")
    observed = dataset.per_band(kind)
    ebv = dataset.column("ebv_sfd").astype(np.float64)
    intrinsic = observed - ebv[:, None] * coefficients(dataset.bands).numpy()
    features = np.column_stack([-np.diff(intrinsic, axis=1), intrinsic[:, dataset.bands.index("r")]])
    known = np.isfinite(features).all(axis=1) & (observed > FAINTEST).all(axis=1)
    return Photometry(features, known, f"{len(dataset.bands) - 1} colours and r of {kind}, dereddened")


def nearest_galaxies(
    train_features: Float[np.ndarray, "n feature"],
    features: Float[np.ndarray, "m feature"],
    k: int = NEIGHBOURS,
) -> Int[np.ndarray, "m k"]:
    """The places of each galaxy's ``k`` nearest training galaxies, nearest first.

    Each feature is divided by its median absolute deviation over the training galaxies, so that magnitudes do not drown
    colours; the distance is then Euclidean. Raises TrainerError where there are fewer training galaxies.
    """
    if len(train_features) < k:
        raise TrainerError(f"neighbours: expected at least {k} training galaxies, got {len(train_features)}")
    scale = np.median(np.abs(train_features - np.median(train_features, axis=0)), axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    known = torch.from_numpy(train_features / scale)
    asked = torch.from_numpy(features / scale)
    nearest = [
        torch.cdist(rows, known, compute_mode="donot_use_mm_for_euclid_dist").topk(k, largest=False).indices
        for rows in torch.split(asked, max(1, DISTANCES_AT_ONCE // len(known)))
    ]
    return np.concatenate([np.empty((0, k), np.int64), *(rows.numpy() for rows in nearest)])
