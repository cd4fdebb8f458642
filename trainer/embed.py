"""`python -m trainer embed`: what a run's encoder makes of every sample of a dataset, as Parquet.

The file has a row a sample in dataset order: ``objid`` (int64) and ``embedding`` (fixed-size list of float32). Its
schema says which encoder and which dataset it is of, so a stale file is recognised. One pass: samples are read ahead,
and a thread writes row groups while the device computes; two row groups are in memory at a time.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sharding import Dataset, atomic_file

from .embedder import Embedder, Vectors

GROUP_BATCHES = 16  # batches a row group: 4,096 samples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", type=Path, help="folder of a run, pre-trained or fine-tuned, or a published file")
    parser.add_argument("--data", required=True, metavar="DATASET", help="dataset to embed: a folder or a URL")
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write")


def run(args: argparse.Namespace) -> int:
    """Embed the whole dataset and say where the file is."""
    dataset = Dataset.open(args.data)
    console = Console(stderr=True)
    columns = TextColumn("embed"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("embed", total=len(dataset))
        width = embed(args.run, dataset, args.out, told=lambda done: progress.update(bar, completed=done))
    print(f"{args.out}: {len(dataset)} galaxies, {width} features each")
    return 0


def embed(run: Path, dataset: Dataset, path: Path, told: Callable[[int], None] = lambda done: None) -> int:
    """Write the features of every sample; returns how many there are of each. ``told`` hears how many are done."""
    embedder = Embedder(run, dataset)
    vectors = pa.list_(pa.float32(), embedder.width)
    fields = [pa.field("objid", pa.int64()), pa.field("embedding", vectors)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_file(path) as file,
        # Floats hardly repeat; their bytes compress where those of one kind lie together.
        pq.ParquetWriter(
            file,
            pa.schema(fields, metadata=_provenance(embedder, dataset)),
            compression="zstd",
            use_dictionary=False,
            use_byte_stream_split=["embedding.list.element"],
        ) as writer,
        closing(embedder.stream(np.arange(len(dataset)))) as batches,
    ):
        objids = dataset.column("objid").astype(np.int64)
        write_behind(writer, objids, _counted(batches, told))
    return embedder.width


def provenance(run: Path, dataset: Dataset) -> dict[str, str]:
    """What identifies an embedding: digests of the run's weights and of the dataset."""
    return _provenance(Embedder(run, dataset), dataset)


def _provenance(embedder: Embedder, dataset: Dataset) -> dict[str, str]:
    return {"skymill.encoder": embedder.digest, "skymill.dataset": dataset.digest}


def write_behind(writer: pq.ParquetWriter, objids: npt.NDArray[np.int64], batches: Iterable[Vectors]) -> None:
    """Write row groups in a thread, each while the next one is computed; ``batches`` are of consecutive ``objids``."""
    first = 0
    writing: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="embed") as thread:
        for group in _groups(batches):
            if writing is not None:
                writing.result()  # one is under way at most; its error ends the embedding
            writing = thread.submit(_write, writer, objids[first : first + len(group)], group)
            first += len(group)
        if writing is not None:
            writing.result()


def _groups(batches: Iterable[Vectors]) -> Iterator[Vectors]:
    """The same rows, a row group at a time."""
    waiting = iter(batches)
    while group := list(islice(waiting, GROUP_BATCHES)):
        yield np.concatenate(group)


def _counted(batches: Iterable[Vectors], told: Callable[[int], None]) -> Iterator[Vectors]:
    done = 0
    for batch in batches:
        done += len(batch)
        told(done)
        yield batch


def _write(writer: pq.ParquetWriter, objids: npt.NDArray[np.int64], vectors: Vectors) -> None:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    writer.write_table(pa.table([pa.array(objids), flat], schema=writer.schema))
