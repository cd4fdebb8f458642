"""The judging of photometric redshifts: estimates for the test galaxies, their scores, a table of them and figures."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from augment.extinction import coefficients
from sharding import Dataset, atomic_file
from sharding.splits import Split

from . import calibration, figures, figures_calibration, metrics, photoz
from .binned import Binned, in_bins
from .config import FinetuneConfig
from .errors import TrainerError
from .metrics import PhotozScore, bootstrap_error, score_photoz
from .tasks import make_task

EXAMPLES = 6  # galaxies whose probability density is drawn
MAGNITUDES = ("petroMag_r", "modelMag_r", "cModelMag_r")  # in order of preference: the first is what samples are cut in
FAINTEST = -9000.0  # catalogues write -9999 for a magnitude that was not measured

Indices = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Answer = Callable[[Indices], npt.NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is said of some galaxies."""

    indices: Indices
    z_spec: Values
    z_phot: Values
    probabilities: npt.NDArray[np.float32]  # (galaxy, bin)


def judge_photoz(out: Path, dataset: Dataset, config: FinetuneConfig, answer: Answer) -> dict[str, Any]:
    """Score every labelled galaxy of the test split; write the table and the figures in ``out``; return the scores.

    ``answer`` gives the probability of each redshift bin for these samples: (n, bins), rows sum to one. Returned:
    n, sigma_mad, eta and bias (`metrics`), crps and pit_ks (`calibration`), ``bins`` of redshift and magnitude
    (`binned`), ``notes`` on what could not be said, and the number of galaxies ``unlabelled``.
    """
    estimates = estimate(dataset, config, answer)
    score = score_photoz(estimates.z_phot, estimates.z_spec)
    pit = calibration.pit(estimates.probabilities, estimates.z_spec)
    bins, notes = score_in_bins(dataset, config, estimates)
    write_predictions(out / "predictions.parquet", dataset, estimates)
    draw(out / "figures", dataset, estimates, score)
    figures_calibration.bins_figure(out / "figures" / "bins.png", list(bins.values()), score)
    figures_calibration.pit_figure(out / "figures" / "pit.png", pit)
    return {
        **score.as_dict(),
        **score_crps(estimates),
        "pit_ks": calibration.ks_distance(pit),
        "unlabelled": len(dataset.split("test")) - score.n,
        "bins": {name: each.as_dict() for name, each in bins.items()},
        "notes": notes,
    }


def labelled(dataset: Dataset, config: FinetuneConfig, split: Split) -> Indices:
    """Indices of a split's samples whose redshift is known and within the bins, ascending."""
    members = dataset.split(split)
    return members[make_task(config, dataset).known(members)]


def estimate(dataset: Dataset, config: FinetuneConfig, answer: Answer) -> Estimates:
    """Estimates for every labelled galaxy of the test split."""
    indices = labelled(dataset, config, "test")
    if len(indices) == 0:
        raise TrainerError(
            f"{dataset.location}: expected redshifts in {config.label_column} in the test split, got none"
        )
    probabilities = np.asarray(answer(indices), dtype=np.float32)
    z_spec = dataset.column(config.label_column).astype(np.float64)[indices]
    return Estimates(indices, z_spec, photoz.estimate(probabilities), probabilities)


def score_crps(estimates: Estimates) -> dict[str, float]:
    """The mean CRPS of the densities, with its bootstrap error."""
    each = calibration.crps(estimates.probabilities, estimates.z_spec)
    return {"crps": metrics.mean(each), "crps_error": bootstrap_error(each, metrics.mean, seed=0)}


def score_in_bins(
    dataset: Dataset, config: FinetuneConfig, estimates: Estimates
) -> tuple[dict[str, Binned], list[str]]:
    """The scores in bins of redshift and of r magnitude, by these names; and what to say of galaxies left out."""
    z_phot, z_spec = estimates.z_phot, estimates.z_spec
    bins = {"redshift": in_bins(f"spectroscopic redshift ({config.label_column})", z_spec, z_phot, z_spec)}
    column = next((name for name in MAGNITUDES if dataset.has(name)), None)
    if column is None:
        return bins, [f"no bins of magnitude: {dataset.location} has none of the columns {', '.join(MAGNITUDES)}"]
    magnitude = dereddened(dataset, column)[estimates.indices]
    known = np.isfinite(magnitude)
    if known.any():
        quantity = f"r magnitude ({column}, dereddened)"
        bins["magnitude"] = in_bins(quantity, magnitude[known], z_phot[known], z_spec[known])
    if known.all():
        return bins, []
    return bins, [f"bins of magnitude: {int((~known).sum()):,} of {len(known):,} galaxies have no {column}"]


def dereddened(dataset: Dataset, column: str) -> Values:
    """An r magnitude of every sample without the Milky Way's dust; NaN where it was not measured."""
    observed = dataset.column(column).astype(np.float64)
    dust = dataset.column("ebv_sfd").astype(np.float64) * float(coefficients(("r",)))
    return np.where(observed > FAINTEST, observed - dust, np.nan)


def write_predictions(path: Path, dataset: Dataset, estimates: Estimates) -> None:
    """One row a galaxy: objid, z_spec, z_phot, and the probability of each bin."""
    bins = estimates.probabilities.shape[1]
    flat = pa.array(estimates.probabilities.ravel(), pa.float32())
    table = pa.table(
        {
            "objid": dataset.column("objid").astype(np.int64)[estimates.indices],
            "z_spec": estimates.z_spec,
            "z_phot": estimates.z_phot,
            "probabilities": pa.FixedSizeListArray.from_arrays(flat, bins),
        }
    )
    with atomic_file(path) as file:
        pq.write_table(table, file, compression="zstd")


def draw(folder: Path, dataset: Dataset, estimates: Estimates, score: PhotozScore) -> None:
    """redshift.png, residuals.png and densities.png."""
    title = f"{score.n:,} test galaxies"
    figures.redshift_figure(folder / "redshift.png", estimates.z_spec, estimates.z_phot, score, title=title)
    figures.residual_figure(folder / "residuals.png", estimates.z_spec, estimates.z_phot, title=title)
    centres = photoz.bin_centres(estimates.probabilities.shape[1])
    shown = examples(dataset, estimates)
    title = f"redshift densities of {len(shown)} test galaxies"
    figures.density_figure(folder / "densities.png", shown, centres, dataset.bands, title=title)


def examples(dataset: Dataset, estimates: Estimates) -> list[figures.Example]:
    """Test galaxies spread evenly over the redshifts: chosen by the truth, not by how well they came out."""
    count = len(estimates.indices)
    places = np.rint(np.linspace(0.04, 0.96, min(EXAMPLES, count)) * (count - 1)).astype(np.int64)
    places = np.argsort(estimates.z_spec, kind="stable")[places]
    images = dataset.images(estimates.indices[places])
    objid = dataset.column("objid").astype(np.int64)[estimates.indices[places]]
    return [
        figures.Example(
            objid=int(objid[row]),
            image=images[row],
            probabilities=estimates.probabilities[place].astype(np.float64),
            z_spec=float(estimates.z_spec[place]),
            z_phot=float(estimates.z_phot[place]),
        )
        for row, place in enumerate(places)
    ]
