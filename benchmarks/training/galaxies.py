"""A dataset for steps on views in memory: no galaxy of it is read, so it holds as many as a batch wants, and no byte.

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
    """A dataset whose shards are holes, with what a pre-training asks of its table; the test split is a part of it."""
    bare = images.sparse_dataset(folder, 2 * settings.batch)
    table = pa.parquet.read_table(folder / _TABLES[0])
    write_batches(folder / _TABLES[0], [table.append_column("ebv_sfd", pa.array(np.zeros(len(bare))))])
    finish(folder, bare.manifest, _TABLES)
    bare.close()
    return Dataset.open(folder)
