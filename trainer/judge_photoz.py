"""The judging of a photo-z run: estimates for the test galaxies, their score, a table of them and figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sharding import Dataset, atomic_file
from sharding.splits import Split

from . import figures, photoz
from .config import FinetuneConfig
from .errors import TrainerError
from .inference import predict_photoz
from .metrics import PhotozScore, score_photoz
from .tasks import make_task

EXAMPLES = 6  # galaxies whose probability density is drawn

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimates:
    """What a run says of some galaxies."""

    indices: Indices
    z_spec: npt.NDArray[np.float64]
    z_phot: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float32]  # (galaxy, bin)


def judge_photoz(run: Path, dataset: Dataset, config: FinetuneConfig) -> dict[str, int | float]:
    """Score every labelled galaxy of the test split; write the table and the figures; return the scores."""
    estimates = estimate(run, dataset, config)
    score = score_photoz(estimates.z_phot, estimates.z_spec)
    write_predictions(run / "predictions.parquet", dataset, estimates)
    draw(run / "figures", dataset, estimates, score)
    return {**score.as_dict(), "unlabelled": len(dataset.split("test")) - score.n}


def labelled(dataset: Dataset, config: FinetuneConfig, split: Split) -> Indices:
    """Indices of a split's samples whose redshift is known and within the bins, ascending."""
    members = dataset.split(split)
    return members[make_task(config, dataset).known(members)]


def estimate(run: Path, dataset: Dataset, config: FinetuneConfig) -> Estimates:
    """Estimates for every labelled galaxy of the test split, the last partial batch too."""
    indices = labelled(dataset, config, "test")
    if len(indices) == 0:
        raise TrainerError(
            f"{dataset.location}: expected redshifts in {config.label_column} in the test split, got none"
        )
    probabilities = predict_photoz(run, dataset, indices)
    z_spec = dataset.column(config.label_column).astype(np.float64)[indices]
    return Estimates(indices, z_spec, photoz.estimate(probabilities), probabilities)


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
    title = "what the network says of six test galaxies"
    figures.density_figure(folder / "densities.png", examples(dataset, estimates), centres, dataset.bands, title=title)


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
