"""The file of representations: a row a sample in order, whole or not there, written while the next rows are made."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from sharding import Dataset
from trainer import embed as module
from trainer import embedder
from trainer.config import EncoderConfig, PretrainConfig
from trainer.data import EVALUATION_BATCH
from trainer.embed import embed, provenance
from trainer.embeddings import Embeddings
from trainer.errors import TrainerError
from trainer.resnet import ResNet
from trainer.runfolder import RunInfo
from trainer.trained import Trained

BANDS = ("u", "g", "r", "i", "z")


@pytest.fixture
def run(large_survey: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that gives an encoder with random weights and random running statistics."""
    torch.manual_seed(0)
    network = ResNet(EncoderConfig(depth=10, width=2), len(BANDS)).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
    config = PretrainConfig(encoder=network.config, view_px=16)
    info = RunInfo(kind="pretrain", config=config, dataset="", bands=BANDS)
    monkeypatch.setattr(embedder, "load_trained", lambda run: Trained(network, info))
    return Path("run")


def test_every_sample_has_its_features_in_order(
    run: Path, large_survey: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GROUP_BATCHES", 2)
    told: list[int] = []
    width = embed(run, large_survey, tmp_path / "sub" / "e.parquet", told.append)
    file = pq.ParquetFile(tmp_path / "sub" / "e.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [512, 512, 76]
    assert told == [256, 512, 768, 1024, 1100]
    assert len(large_survey) % EVALUATION_BATCH  # the last batch is partial
    found = Embeddings(tmp_path / "sub" / "e.parquet")
    assert found.objid.tolist() == large_survey.column("objid").tolist()
    vectors = np.concatenate(list(found.pieces()))
    assert vectors.shape == (1100, width)
    # One batch for all and one sample alone: the same arithmetic in batches cut elsewhere, fp32 rounding.
    some = np.array([0, 255, 256, 700, 1099])
    embedding = embedder.Embedder(run, large_survey)
    alone = np.concatenate([embedding.features(np.array([i])) for i in some])
    np.testing.assert_allclose(vectors[some], alone, rtol=1e-4, atol=1e-5 * float(np.abs(alone).max()))
    np.testing.assert_array_equal(found.rows(some[::-1]), vectors[some[::-1]])
    assert found.provenance == provenance(run, large_survey)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["e.parquet"]


def test_no_sample_has_no_row_of_features(run: Path, large_survey: Dataset) -> None:
    embedding = embedder.Embedder(run, large_survey)
    assert embedding.features(np.array([], dtype=np.int64)).shape == (0, embedding.width)


def test_a_row_group_is_written_while_the_next_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP_BATCHES", 1)
    begun, made = threading.Event(), threading.Event()
    written: list[tuple[list[int], int]] = []

    def write(writer: object, objids: np.ndarray, vectors: np.ndarray) -> None:
        begun.set()
        assert made.wait(60)  # the first write ends only when the second group has been made
        written.append((objids.tolist(), len(vectors)))

    def batches() -> Iterator[np.ndarray]:
        yield np.zeros((2, 3), np.float32)
        assert begun.wait(60)
        made.set()
        yield np.zeros((1, 3), np.float32)

    monkeypatch.setattr(module, "_write", write)
    with pq.ParquetWriter(io.BytesIO(), pa.schema([])) as writer:
        module.write_behind(writer, np.array([7, 8, 9]), batches())
    assert written == [([7, 8], 2), ([9], 1)]


@pytest.mark.parametrize("where", ["features", "disk"])
def test_what_ends_early_leaves_no_file(
    run: Path, large_survey: Dataset, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(done: int) -> None:
        if where == "features" and done > 512:
            raise TrainerError("stop")

    def write(writer: object, objids: np.ndarray, vectors: np.ndarray) -> None:
        raise TrainerError("stop")

    if where == "disk":
        monkeypatch.setattr(module, "_write", write)
    with pytest.raises(TrainerError, match="stop"):
        embed(run, large_survey, tmp_path / "e.parquet", told)
    assert not list(tmp_path.glob("e.parquet*"))
    assert "embed" not in {thread.name.split("_")[0] for thread in threading.enumerate()}
