"""The page of a study: what was run, the table, the figures, and galaxies to look at, in one HTML file.

Here is said what the page shows and in which words; how HTML is made is `page`'s.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from sharding import Dataset

from .config import PretrainConfig
from .curves import draw_curves
from .embed import embed, provenance
from .gallery import bright_galaxies, draw_stamps
from .metrics import BOOTSTRAP_DRAWS, ETA_LIMIT, MAD_TO_SIGMA
from .page import Picture, Section, Table, write_page
from .runfolder import RunInfo
from .similar import draw_neighbours, similar
from .views import draw_views

QUERIES, NEIGHBOURS = 8, 7

UNSEEN = "No training saw the test galaxies, not even without their labels, and nothing was chosen by them."
MAYBE_SEEN = "No label of a test galaxy was used; the pre-training had another dataset, which may hold their images."
CREDITS = {
    "SDSS": "Images and catalogue: Sloan Digital Sky Survey (SDSS), www.sdss.org.",
    "SKYMILL practice survey": "Practice survey: simulated galaxies, drawn by Skymill. Nothing here was observed.",
}


def write_report(
    out: Path, dataset: Dataset, init: Path, *, runs: Mapping[str, Path], table: Table | None, notes: Sequence[str]
) -> Path:
    """Draw what the runs have not drawn themselves and write STUDY/index.html.

    ``runs`` are the judged trainings by name; ``notes`` are sentences for those, or why there are none.
    """
    info = RunInfo.read(init)
    assert isinstance(info.config, PretrainConfig)
    figures = out / "figures"
    draw_stamps(figures / "stamps.png", dataset, seed=0)
    draw_views(figures / "views.png", dataset, info.config.preset, seed=0)
    draw_curves(init, figures / "pretraining.png", title="pre-training")
    draw_queries(figures / "neighbours.png", dataset, init, out / "embeddings.parquet")
    seen = UNSEEN if info.dataset == dataset.digest else MAYBE_SEEN
    sections = [
        _redshifts(table, runs, [*notes, seen] if table else notes),
        *_looks(figures, info.config, len(dataset)),
    ]
    path = out / "index.html"
    credit = CREDITS.get(dataset.manifest.survey, f"Survey: {dataset.manifest.survey}.")
    write_page(path, title="From survey frames to redshifts", lead=lead(dataset), sections=sections, credit=credit)
    return path


def lead(dataset: Dataset) -> str:
    """What the dataset is, in a sentence."""
    height, width = dataset.image_shape[1:]
    known = np.isfinite(dataset.column("specz").astype(np.float64)).sum() if dataset.has("specz") else 0
    return (
        f"{dataset.manifest.survey}: {len(dataset):,} galaxies in {len(dataset.bands)} bands "
        f"({', '.join(dataset.bands)}), stamps of {width} x {height} pixels of {dataset.pixel_scale_arcsec} arcsec; "
        f"{known:,} have a redshift."
    )


def draw_queries(path: Path, dataset: Dataset, run: Path, embeddings: Path) -> None:
    """Some bright galaxies, each with its nearest neighbours among all; embeds the dataset where that is not done."""
    if not embeddings.is_file() or not _is_of(embeddings, provenance(run, dataset)):
        embed(run, dataset, embeddings)
    objids = dataset.column("objid").astype(np.int64)[bright_galaxies(dataset, QUERIES, seed=0)]
    draw_neighbours(path, dataset, similar(embeddings, objids.tolist(), NEIGHBOURS))


def _is_of(embeddings: Path, wanted: Mapping[str, str]) -> bool:
    metadata = pq.read_schema(embeddings).metadata or {}
    return all(metadata.get(name.encode()) == value.encode() for name, value in wanted.items())


def _redshifts(table: Table | None, runs: Mapping[str, Path], notes: Sequence[str]) -> Section:
    """The table, then one kind of figure after another, the runs side by side; or why there is no table."""
    if table is None:
        return Section(title="Redshifts", text=notes)
    kinds = (("redshift", "estimates against truth"), ("residuals", "residuals"), ("curves", "training"))
    beside = [
        Picture(run / "figures" / f"{kind}.png", f"{name}: {text}")
        for kind, text in kinds
        for name, run in runs.items()
    ]
    densities = [
        Picture(run / "figures" / "densities.png", f"{name}: probability densities", wide=True)
        for name, run in runs.items()
    ]
    text = [
        f"dz = (z_phot - z_spec) / (1 + z_spec). sigma_MAD = {MAD_TO_SIGMA} median |dz - median dz|; eta is the share "
        f"of galaxies with |dz| > {ETA_LIMIT}; bias is the mean of dz. Errors are one standard deviation over "
        f"{BOOTSTRAP_DRAWS:,} bootstrap samples of the test galaxies. The table is as measured.",
        *notes,
    ]
    return Section(title="Redshifts", text=text, table=table, pictures=[*beside, *densities])


def _looks(figures: Path, config: PretrainConfig, galaxies: int) -> list[Section]:
    """What needs no labels: pre-training, neighbours, views, stamps."""
    encoder = config.encoder
    how = f"batches of {config.batch:,}, a queue of {config.queue:,}, {config.epochs} epochs"
    return [
        Section(
            title="Pre-training",
            text=[f"MoCo v2 without labels: a ResNet-{encoder.depth} of width {encoder.width}, {how}."],
            pictures=[Picture(figures / "pretraining.png", "what was logged in pre-training")],
        ),
        Section(
            title="Nearest neighbours",
            text=["Each row: a galaxy, then those whose representations point most nearly its way. No label was used."],
            pictures=[Picture(figures / "neighbours.png", "galaxies and their nearest neighbours", wide=True)],
        ),
        Section(
            title="Views",
            text=[f"What the encoder learns to recognise as the same galaxy: preset {config.preset}."],
            pictures=[Picture(figures / "views.png", "stamps and their random views", wide=True)],
        ),
        Section(
            title="Stamps",
            pictures=[Picture(figures / "stamps.png", f"random stamps among {galaxies:,}", wide=True)],
        ),
    ]
