"""What is stored and held: in closed form, from the layout of a dataset and from the network itself."""

import torch

from ingest.prepare import IMAGE_SHAPE
from sharding.encoding import Encoding, Name
from sharding.records import TarRecords
from trainer.config import PretrainConfig
from trainer.moco import MoCo

from .figures import Figure, size

JSON_BYTES: dict[Name, int] = {"float32": 512, "int16": 1024}  # a sample's member, as casjobs.sql's columns fill it


def dataset_bytes(galaxies: int, encoding: Name) -> int:
    """All records, as tar shards."""
    return galaxies * _record(encoding).record_bytes


def dataset_figures(galaxies: int) -> list[Figure]:
    """The dataset as ingest writes it, and with half the bytes; and what a node needs for it never to wait."""
    half = size(dataset_bytes(galaxies, "int16"))
    return [
        _dataset(galaxies, "float32"),
        _dataset(galaxies, "int16"),
        Figure(name="page cache or --stage, on each node", value=dataset_bytes(galaxies, "float32"), unit="bytes",
               source=f"computed: the dataset, for any sample may come to any rank; {half} as int16"),
    ]  # fmt: skip


def network_figures(config: PretrainConfig, galaxies: int) -> list[Figure]:
    """What pre-training holds on a GPU and writes, and the embeddings of all; counted from the network itself."""
    with torch.device("meta"):
        moco = MoCo(config, IMAGE_SHAPE[0])
    learnt = sum(each.numel() * each.element_size() for each in moco.encoder_q.parameters())
    state = sum(each.numel() * each.element_size() for each in moco.state_dict().values())
    queue = moco.queue.numel() * moco.queue.element_size()
    saved, features = state + learnt, moco.encoder_q.num_features  # with the momentum
    return [
        Figure(name="queue, on each GPU", value=queue, unit="bytes",
               source=f"computed: {config.queue:,} keys x {config.embedding} x 4 bytes"),
        Figure(name="weights and optimiser, on each GPU", value=state - queue + 2 * learnt, unit="bytes",
               source="computed: both encoders, gradients and momentum; activations, which take more, are not told"),
        Figure(name="checkpoints of pre-training", value=saved * (config.keep + 1), unit="bytes",
               source=f"computed: {saved / 1e6:,.0f} MB each (encoders, queue, momentum), the newest {config.keep} and "
                      "the best"),
        Figure(name="embeddings", value=galaxies * (4 * features + 8), unit="bytes",
               source=f"computed: {features} x 4 + 8 bytes a galaxy"),
    ]  # fmt: skip


def _dataset(galaxies: int, encoding: Name) -> Figure:
    record, shape = _record(encoding), " x ".join(map(str, IMAGE_SHAPE))
    more = record.record_bytes - record.pixel_bytes
    return Figure(
        name=f"dataset, {encoding}",
        value=dataset_bytes(galaxies, encoding),
        unit="bytes",
        source=f"computed: {shape} x {record.dtype.itemsize} bytes an image and {more:,} of tar headers and JSON",
    )


def _record(encoding: Name) -> TarRecords:
    return TarRecords(IMAGE_SHAPE, JSON_BYTES[encoding], Encoding(name=encoding).dtype)
