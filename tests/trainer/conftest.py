"""Small datasets for the tests of the trainer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from sharding import Dataset, atomic_file
from sharding.manifest import Manifest, ShardEntry
from sharding.records import TarRecords, pixel_checksum
from sharding.writer import file_entry, finish, write_batches
from trainer.__main__ import main

BANDS = ("u", "g", "r", "i", "z")
SKY = 0.03  # nanomaggy / pixel
# Options of a network and a batch that train in no time.
SMALL = ["--depth", "10", "--width", "4", "--view-px", "16", "--batch", "32", "--batch-norm-groups", "1"]
MakeSurvey = Callable[..., Dataset]


@pytest.fixture(autouse=True)
def whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU torch rounds the factors of convolutions to 10 bits, by default: no test here is as tolerant as that."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's page takes a second or two to draw: only runs that fixtures make for several tests have theirs."""
    monkeypatch.setattr("trainer.running.write_run_report", lambda run: run / "report.html")


@pytest.fixture
def make_survey(tmp_path: Path) -> MakeSurvey:
    """A function that writes a dataset of round galaxies and opens it; its arguments are those of `survey`."""

    def make(samples: int, *, name: str = "survey", **how: Any) -> Dataset:
        return survey(tmp_path / name, samples, **how)

    return make


@pytest.fixture(scope="session")
def paint_survey() -> MakeSurvey:
    """`survey` itself, for datasets that several tests share."""
    return survey


@pytest.fixture(scope="session")
def large_survey(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset whose test split takes more than one batch to judge, the last one partial."""
    return survey(tmp_path_factory.mktemp("large") / "survey", 1100, side_px=17)


@pytest.fixture(scope="session")
def pretrained(large_survey: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training of two steps on `large_survey`."""
    run = tmp_path_factory.mktemp("pretrained") / "run"
    words = ["--data", str(large_survey.path), "--out", str(run), "--queue", "64", "--max-steps", "2", *SMALL]
    assert main(["pretrain", *words]) == 0
    return run


def survey(
    folder: Path,
    samples: int,
    *,
    labelled: int | None = None,
    side_px: int = 33,
    rename: Mapping[str, str] = MappingProxyType({}),
    change: Mapping[str, Any] = MappingProxyType({}),
) -> Dataset:
    """Write round galaxies, redder and smaller the farther, of which the first ``labelled`` (else all) have a redshift.

    ``change`` sets whole columns, ``rename`` then gives columns another name.
    """
    rng = np.random.default_rng(5)
    redshift = rng.uniform(0.02, 0.3, samples)
    flux = paint_fluxes(redshift, rng)
    images = np.stack([paint(f, z, side_px, rng) for f, z in zip(flux, redshift, strict=True)])
    redshift[samples if labelled is None else labelled :] = np.nan
    table = columns(redshift, flux, rng) | {name: np.full(samples, value) for name, value in change.items()}
    write(folder, images, {rename.get(name, name): values for name, values in table.items()})
    return Dataset.open(folder)


def paint_fluxes(redshift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nanomaggies in each band: (sample, band). Colours follow the redshift with a scatter of 0.05 mag."""
    bluer = 6.0 * redshift[:, None] * np.linspace(1.0, 0.0, len(BANDS)) + rng.normal(0, 0.05, (len(redshift), 1))
    return rng.uniform(60, 200, (len(redshift), 1)) * 10 ** (-0.4 * bluer)


def paint(flux: np.ndarray, redshift: float, side_px: int, rng: np.random.Generator) -> np.ndarray:
    """One Gaussian galaxy on a noisy sky: float32 (band, y, x)."""
    y, x = np.mgrid[:side_px, :side_px] - side_px // 2
    sigma = 2.0 + 0.5 / redshift**0.5
    profile = np.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return (flux[:, None, None] * profile + rng.normal(0, SKY, (len(BANDS), side_px, side_px))).astype(np.float32)


def columns(redshift: np.ndarray, flux: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The catalogue of the painted galaxies."""
    samples = len(redshift)
    table = {
        "objid": 1237645876861337000 + np.arange(samples),
        "thing_id": 1237645876861337000 + np.arange(samples),  # the identity by which the splits are drawn
        "ra": rng.uniform(0, 1, samples),
        "dec": rng.uniform(0, 1, samples),
        "ebv_sfd": rng.uniform(0.02, 0.08, samples),
        "specz": redshift,
        "morphology": np.where(redshift > 0.15, "smooth", "spiral").astype(object),
    }
    table["morphology"][::10] = None
    for number, band in enumerate(BANDS):
        table[f"modelMag_{band}"] = 22.5 - 2.5 * np.log10(flux[:, number])
        table[f"psf_fwhm_{band}"] = np.full(samples, 1.4)
        table[f"sky_sigma_{band}"] = np.full(samples, SKY)
        table[f"stamp_sigma_{band}"] = np.full(samples, SKY)
    return table


def write(folder: Path, images: np.ndarray, labels: dict[str, np.ndarray]) -> None:
    """Write one shard, the tables and the manifest."""
    (folder / "shards").mkdir(parents=True)
    records = TarRecords(images.shape[1:], 512)
    name = records.shard_name(0)
    pixels = [image.astype("<f4").tobytes() for image in images]
    with atomic_file(folder / name) as file:
        for objid, content in zip(labels["objid"], pixels, strict=True):
            file.write(records.encode(str(objid), content, b"{}"))
        file.write(records.trailer(range(len(images))))
    row = np.arange(len(images))
    place = {
        "shard": np.zeros(len(images), np.int32),
        "row": row,
        "offset": records.pixel_offset + row * records.record_bytes,
        "crc32c": [pixel_checksum(content) for content in pixels],
    }
    write_batches(folder / "samples.parquet", [pa.table({**labels, **place})])
    write_batches(folder / "rejects.parquet", [pa.table({"objid": pa.array([], pa.int64())})])
    entry = file_entry(folder, name)
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
        registration="none: painted on the grid",
        inputs={"frames": 0, "bytes": 0},
        labels=[],
        distributions={},
        plan="tests",
        shards=(ShardEntry(entry.name, entry.bytes, entry.sha256, len(images), 512),),
        files=(),
        made_by="tests",
    )
    finish(folder, manifest, ("samples.parquet", "rejects.parquet"))
