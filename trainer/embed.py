"""`python -m trainer embed`: what a run's encoder makes of every sample of a dataset, as Parquet.

The file has a row a sample in dataset order: ``objid`` (int64) and ``embedding`` (fixed-size list of float32). Its
schema says which encoder and which dataset it is of, so a stale file is recognised.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import nn

from sharding import Dataset, atomic_file

from .inference import features, load_run

CHUNK_ROWS = 4096  # samples embedded and written at a time: one row group


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", type=Path, help="folder of a run, pre-trained or fine-tuned")
    parser.add_argument("--data", required=True, metavar="DATASET", help="dataset to embed")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")


def run(args: argparse.Namespace) -> int:
    """Embed the whole dataset and say where the file is."""
    dataset = Dataset.open(args.data)
    width = embed(args.run, dataset, args.out)
    print(f"{args.out}: {len(dataset)} galaxies, {width} features each")
    return 0


def embed(run: Path, dataset: Dataset, path: Path) -> int:
    """Write the features of every sample; returns how many there are of each."""
    objids = dataset.column("objid").astype(np.int64)
    metadata = provenance(run, dataset)
    width = load_run(run)[0].num_features
    schema = pa.schema(
        [pa.field("objid", pa.int64()), pa.field("embedding", pa.list_(pa.float32(), width))], metadata=metadata
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for first in range(0, len(dataset), CHUNK_ROWS):
            chunk = np.arange(first, min(first + CHUNK_ROWS, len(dataset)))
            flat = pa.array(features(run, dataset, chunk).ravel(), pa.float32())
            vectors = pa.FixedSizeListArray.from_arrays(flat, width)
            writer.write_table(pa.table([pa.array(objids[chunk]), vectors], schema=schema))
    return width


def provenance(run: Path, dataset: Dataset) -> dict[str, str]:
    """What identifies an embedding: digests of the run's weights and of the dataset."""
    network, _ = load_run(run)
    return {"skymill.encoder": weights_digest(network), "skymill.dataset": dataset.digest}


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
