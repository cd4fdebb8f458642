"""Small datasets for the tests of the trainer."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sharding import Dataset, atomic_file
from sharding.manifest import Manifest, ShardEntry
from sharding.tarshard import Layout, ShardWriter
from sharding.writer import file_entry, finish

BANDS = ("u", "g", "r", "i", "z")
SIDE = 107
SKY = 0.03  # nanomaggy / pixel
MakeSurvey = Callable[..., Dataset]


@pytest.fixture
def make_survey(tmp_path: Path) -> MakeSurvey:
    """A function that writes a dataset of round galaxies, redder and smaller the farther, and opens it."""

    def make(samples: int, *, labelled: int | None = None, name: str = "survey") -> Dataset:
        rng = np.random.default_rng(5)
        redshift = rng.uniform(0.02, 0.3, samples)
        flux = paint_fluxes(redshift, rng)
        images = np.stack([paint(f, z, rng) for f, z in zip(flux, redshift, strict=True)])
        redshift[samples if labelled is None else labelled :] = np.nan
        write(tmp_path / name, images, columns(redshift, flux, rng))
        return Dataset.open(tmp_path / name)

    return make


def paint_fluxes(redshift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nanomaggies in each band: (sample, band). Colours follow the redshift with a scatter of 0.05 mag."""
    bluer = 6.0 * redshift[:, None] * np.linspace(1.0, 0.0, len(BANDS)) + rng.normal(0, 0.05, (len(redshift), 1))
    return rng.uniform(60, 200, (len(redshift), 1)) * 10 ** (-0.4 * bluer)


def paint(flux: np.ndarray, redshift: float, rng: np.random.Generator) -> np.ndarray:
    """One Gaussian galaxy on a noisy sky: float32 (band, y, x)."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    sigma = 2.0 + 0.5 / redshift**0.5
    profile = np.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return (flux[:, None, None] * profile + rng.normal(0, SKY, (len(BANDS), SIDE, SIDE))).astype(np.float32)


def columns(redshift: np.ndarray, flux: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The catalogue of the painted galaxies."""
    samples = len(redshift)
    table = {
        "objid": 1237645876861337000 + np.arange(samples),
        "ra": rng.uniform(0, 1, samples),
        "dec": rng.uniform(0, 1, samples),
        "ebv_sfd": rng.uniform(0.02, 0.08, samples),
        "specz": redshift,
    }
    for number, band in enumerate(BANDS):
        table[f"modelMag_{band}"] = 22.5 - 2.5 * np.log10(flux[:, number])
        table[f"psf_fwhm_{band}"] = np.full(samples, 1.4)
        table[f"sky_sigma_{band}"] = np.full(samples, SKY)
        table[f"stamp_sigma_{band}"] = np.full(samples, SKY)
    return table


def write(folder: Path, images: np.ndarray, labels: dict[str, np.ndarray]) -> None:
    """Write one shard, the tables and the manifest."""
    (folder / "shards").mkdir(parents=True)
    path = folder / "shards" / "00000.tar"
    writer: ShardWriter
    with atomic_file(path) as file:
        writer = ShardWriter(file, Layout(images.shape[1:], 512))
        keys = [str(objid) for objid in labels["objid"]]
        records = [writer.add(key, image, json.dumps({}).encode()) for key, image in zip(keys, images, strict=True)]
        writer.close()
    offset, crc32c = np.array(records, dtype=np.int64).T
    place = {"shard": np.zeros(len(images), np.int32), "row": np.arange(len(images)), "offset": offset}
    samples = pa.table({**labels, **place, "crc32c": crc32c})
    entry = file_entry(folder, "shards/00000.tar")
    noise = {band: {"sky_sigma": SKY, "stamp_sigma": SKY, "mad": SKY} for band in BANDS}
    manifest = Manifest(
        survey="tests",
        bands=BANDS,
        image_shape=images.shape[1:],
        pixel_scale_arcsec=0.396,
        noise=noise,
        counts={"catalogue_rows": len(images), "objects": len(images), "samples": len(images), "rejects": 0},
        selection=[],
        extinction={"source": "tests", "law": "sfd"},
        coverage="whole",
        plan="tests",
        shards=(ShardEntry(entry.name, entry.bytes, entry.sha256, len(images), 512),),
        files=(),
        made_by="tests",
    )
    finish(folder, manifest, samples, pa.table({"objid": pa.array([], pa.int64())}))
