"""What a study's page shows of the pre-training without any label: likenesses, a map, curves, views, stamps."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sharding import Dataset

from ..config import PretrainConfig
from ..curves import draw_curves
from ..embeddings import Embeddings
from ..errors import TrainerError
from ..gallery import bright_galaxies, draw_stamps
from ..map import placed
from ..map_figure import classes, draw_map, quantity
from ..page import Picture, Section
from ..similar import draw_neighbours, positions, similar
from ..trained import load_trained
from ..views import draw_views

QUERIES, NEIGHBOURS = 12, 7
MAP = "Map of the representations"
UMAP_MISSING = "No map: it needs the package umap-learn. Run pip install 'skymill[umap]' and the study again."
UNSEEN = "It saw no test galaxy, not even without its label; noise levels alone are medians over all galaxies."
UNTOLD = "The file of the pre-trained weights does not say how they were made."
MAYBE_SEEN = "It had another dataset, which may hold images of the test galaxies; it used no label."


def likenesses(figures: Path, dataset: Dataset, embeddings: Path) -> list[Section]:
    """Galaxies and their neighbours by the representations in a file that `embed` wrote, and a map of all."""
    path = figures / "neighbours.png"
    objids = dataset.column("objid").astype(np.int64)[bright_galaxies(dataset, QUERIES, seed=0)]
    draw_neighbours(path, dataset, similar(embeddings, objids.tolist(), NEIGHBOURS))
    text = "Each row: a galaxy, then those whose representations point most nearly its way. No label was used."
    neighbours = [Picture(path, "galaxies and their nearest neighbours", wide=True)]
    return [Section(title="Nearest neighbours", text=[text], pictures=neighbours), _map(figures, dataset, embeddings)]


def _map(figures: Path, dataset: Dataset, embeddings: Path) -> Section:
    """All representations in a plane, by redshift and by type as far as they are known; or why there is none."""
    if find_spec("umap") is None:
        return Section(title=MAP, text=[UMAP_MISSING])
    try:
        objid, places = placed(Embeddings(embeddings), embeddings.with_name(f"{embeddings.stem}.umap.parquet"))
    except TrainerError as err:  # too few galaxies
        return Section(title=MAP, text=[f"There is no map. {err}"])
    rows, pictures = positions(dataset, objid), []
    for column, label in (("specz", "redshift"), ("morphology", "type")):
        if dataset.has(column) and _any_known(values := dataset.column(column)[rows]):
            path = figures / f"map_{label}.png"
            draw_map(path, places, values, label=label, title=f"{len(objid):,} galaxies by their representations")
            pictures.append(Picture(path, f"the representations of {len(objid):,} galaxies (UMAP), by {label}"))
    text = (
        "Galaxies whose representations point the same way are near each other. Labels colour it; they did not make it."
    )
    return Section(title=MAP, text=[text], pictures=pictures)


def _any_known(values: np.ndarray) -> bool:
    names = classes(values)
    if names is None:
        return bool(np.isfinite(quantity(values)).any())
    return any(name is not None for name in names)


def pretraining(figures: Path, dataset: Dataset, runs: Mapping[str, Path]) -> list[Section]:
    """How the reference (the first of ``runs``) was pre-trained, the views of every preset, and stamps as they are."""
    infos = [load_trained(run).info for run in runs.values()]
    told = [info for info in infos if info.dataset]  # not by a published file, whose settings are not known
    configs = [info.config for info in told if isinstance(info.config, PretrainConfig)]
    draw_stamps(figures / "stamps.png", dataset, seed=0)
    stamps = Picture(figures / "stamps.png", f"random stamps among {len(dataset):,}", wide=True)
    sections = []
    if configs:
        curves = figures / "pretraining.png"
        drawn = draw_curves(next(iter(runs.values())), curves, title="pre-training")
        seen = UNSEEN if infos[0].dataset == dataset.digest else MAYBE_SEEN
        pictures = [Picture(curves, "what was logged in pre-training")] if drawn else []
        sections.append(Section(title="Pre-training", text=[f"{_how(configs[0])} {seen}"], pictures=pictures))
        sections.append(_views(figures, dataset, configs))
    else:
        sections.append(Section(title="Pre-training", text=[f"{UNTOLD} {MAYBE_SEEN}"]))
    return [*sections, Section(title="Stamps", pictures=[stamps])]


def _how(config: PretrainConfig) -> str:
    encoder = config.encoder
    end = "" if config.max_steps is None else f" or {config.max_steps:,} steps"
    return (
        f"MoCo v2 without labels: a ResNet-{encoder.depth} of width {encoder.width}, batches of {config.batch:,}, a "
        f"queue of {config.queue:,}, {config.epochs:,} epoch{'s' * (config.epochs != 1)}{end}."
    )


def _views(figures: Path, dataset: Dataset, configs: Sequence[PretrainConfig]) -> Section:
    """The views of each kind that a pre-training has, as large as it sees them."""
    pictures = []
    for preset, without, size_px in dict.fromkeys((each.preset, each.without, each.view_px) for each in configs):
        name = preset if without == "nothing" else f"{preset} without {without}"
        path = figures / f"views_{name.replace(' ', '_')}.png"
        draw_views(path, dataset, preset, without=without, seed=0, size_px=size_px)
        pictures.append(Picture(path, f"stamps and random views of {size_px} pixels, preset {name}", wide=True))
    text = "What the encoder learns to recognise as the same galaxy."
    return Section(title="Views", text=[text], pictures=pictures)
