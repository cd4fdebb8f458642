"""Index files for DALI's `readers.webdataset`, which else parses every shard before it gives its first image.

They are those of DALI's own `wds2idx` (format v1.2, https://github.com/NVIDIA/DALI/blob/main/tools/wds2idx.py), made
without opening a shard: records have one size, so the manifest and the identifiers tell where each member lies.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .atomic import atomic_file
from .dataset import Dataset
from .errors import DatasetError
from .manifest import Manifest
from .records import TarRecords

_VERSION = "v1.2"
_BLOCK = 512


def write_index(folder: Path, out: Path) -> list[Path]:
    """Write `out/00000.idx` and so on, one for each shard of the tar dataset in ``folder``; returns their paths.

    Their order is that of the manifest's shards: give DALI both lists. DatasetError for another container, and where
    ``out`` lies inside the dataset, which holds nothing but what its manifest lists.
    """
    manifest = Manifest.read(folder)
    if manifest.container != TarRecords.container:
        raise DatasetError(
            f"{folder}: DALI reads {TarRecords.container} only, this is {manifest.container}; convert it"
        )
    if out.resolve().is_relative_to(folder.resolve()):
        raise DatasetError(f"--out: {out} lies inside the dataset; choose a folder outside of it")
    with Dataset.open(folder) as dataset:
        objid = dataset.column("objid").astype(np.int64)
    out.mkdir(parents=True, exist_ok=True)
    written, begin = [], 0
    for shard in manifest.shards:
        keys, begin = objid[begin : begin + shard.samples], begin + shard.samples
        path = out / f"{Path(shard.name).stem}.idx"
        with atomic_file(path) as file:
            file.writelines(_lines(TarRecords(manifest.image_shape, shard.json_bytes, manifest.encoding.dtype), keys))
        written.append(path)
    return written


def _lines(records: TarRecords, keys: npt.NDArray[np.int64]) -> Iterator[bytes]:
    """The version and the number of samples; then, of each, extension, offset, size and name of both members."""
    image_bytes = records.pixel_offset - _BLOCK + records.pixel_bytes
    json_blocks = -(-records.json_bytes // _BLOCK)
    yield f"{_VERSION} {len(keys)}\n".encode()
    for number, key in enumerate(keys.tolist()):
        image = number * records.record_bytes + _BLOCK
        json = (number + 1) * records.record_bytes - json_blocks * _BLOCK
        text = f"image.npy {image} {image_bytes} {key}.image.npy json {json} {records.json_bytes} {key}.json\n"
        yield text.encode()
