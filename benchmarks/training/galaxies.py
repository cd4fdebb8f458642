"""Datasets to train on: one for views in memory, whose shards hold no byte; and one that is read, of random numbers.

Stamps of SDSS's shape, in five bands.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from sharding import Dataset
from sharding.writer import finish, write_batches
from trainer.config import PretrainConfig

from ..reading import images

BANDS = len(images.BANDS)
PIXEL_BYTES = 4 * BANDS * images.SIDE_PX**2
_TABLES = ("samples.parquet", "rejects.parquet")


def galaxies_for(folder: Path, settings: PretrainConfig) -> Dataset:
    """A dataset whose shards are holes, with as many galaxies as a batch wants; the test split is a part of it."""
    return _with_dust(images.sparse_dataset(folder, 2 * settings.batch), folder)


def random_galaxies(folder: Path, samples: int) -> Dataset:
    """A dataset that is whole, of random numbers."""
    return _with_dust(images.random_dataset(folder, samples), folder)


def _with_dust(bare: Dataset, folder: Path) -> Dataset:
    """With what a pre-training asks of the table beside objid; ``bare`` is closed."""
    table = pa.parquet.read_table(folder / _TABLES[0])
    write_batches(folder / _TABLES[0], [table.append_column("ebv_sfd", pa.array(np.zeros(len(bare))))])
    finish(folder, bare.manifest, _TABLES)
    bare.close()
    return Dataset.open(folder)
