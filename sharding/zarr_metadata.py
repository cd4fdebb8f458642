"""What makes the shards of a Zarr dataset one array: its metadata, and which slots hold a sample.

Written as plain JSON without the zarr package, so the bytes are the same whatever is installed, and many workers can
write shards at once: none of them touches these files. Layout: https://zarr-specs.readthedocs.io/en/latest/v3/core
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .atomic import atomic_file
from .manifest import ZARR_FILES, Manifest
from .records import with_crc32c

Metadata = dict[str, Any]

_CRC32C: Metadata = {"name": "crc32c"}
_DECODING = (
    "flux [nanomaggy / pixel] = (value - u + 0.5) * step, with the sample's own step_{band} of samples.parquet and the "
    "dither u = (mix(key + p * 0x9E3779B9) >> 8) / 2**24; p: pixel's flat number in (band, y, x); "
    "key = mix(mix(objid mod 2**32) + (objid >> 32)); mix: MurmurHash3's fmix32; unsigned 32-bit arithmetic"
)
_LITTLE_ENDIAN: Metadata = {"name": "bytes", "configuration": {"endian": "little"}}


def write_zarr_metadata(
    folder: Path, manifest: Manifest, valid: npt.NDArray[np.bool_], scratch: Path | None = None
) -> tuple[str, ...]:
    """Write the four files of `images.zarr` that are not shards; returns their names, for `finish`.

    ``valid`` says which slots hold a sample: (shards of the plan * slots_per_shard,), so the array's length follows
    from it. ``scratch`` is that of `atomic_file`.
    """
    for name, content in zarr_files(manifest, valid).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / name, scratch) as file:
            file.write(content)
    return ZARR_FILES


def zarr_files(manifest: Manifest, valid: npt.NDArray[np.bool_]) -> dict[str, bytes]:
    """The content of those four files, by name."""
    if manifest.slots_per_shard < 1 or len(valid) % manifest.slots_per_shard:
        raise ValueError(f"{len(valid)} slots are not whole shards of {manifest.slots_per_shard}")
    arrays = {"images": _images(manifest, len(valid)), "valid": _valid(len(valid))}
    contents = {
        "images.zarr/zarr.json": _json(_group(manifest, arrays)),
        "images.zarr/images/zarr.json": _json(arrays["images"]),
        "images.zarr/valid/zarr.json": _json(arrays["valid"]),
        "images.zarr/valid/c/0": with_crc32c(valid.astype(np.uint8).tobytes()),
    }
    return {name: contents[name] for name in ZARR_FILES}


def _group(manifest: Manifest, arrays: dict[str, Metadata]) -> Metadata:
    attributes = {
        "survey": manifest.survey,
        "bands": list(manifest.bands),
        "pixel_scale_arcsec": manifest.pixel_scale_arcsec,
        "projection": manifest.projection,
        "registration": manifest.registration,
        "coverage": manifest.coverage,
    }
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        # Not in the specification yet, so it must not be understood; with it xarray opens the group in one read.
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": arrays},
    }


def _images(manifest: Manifest, slots: int) -> Metadata:
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [1, *manifest.image_shape],
            # The index's checksum alone would leave the pixels unprotected.
            "codecs": [_LITTLE_ENDIAN, _CRC32C],
            "index_codecs": [_LITTLE_ENDIAN, _CRC32C],
            "index_location": "end",
        },
    }
    flux = {"units": f"{manifest.flux_unit} / pixel", "long_name": "flux"}
    is_int16 = manifest.encoding.name == "int16"
    return _array(
        ("slot", "band", "y", "x"),
        shape=(slots, *manifest.image_shape),
        chunk=(manifest.slots_per_shard, *manifest.image_shape),
        data_type=manifest.encoding.name,
        fill_value=0 if is_int16 else "NaN",
        codecs=[sharding],
        attributes={"long_name": "flux, encoded", "decoding": _DECODING} if is_int16 else flux,
    )


def _valid(slots: int) -> Metadata:
    return _array(
        ("slot",),
        shape=(slots,),
        chunk=(slots,),
        data_type="bool",
        fill_value=False,
        codecs=[{"name": "bytes"}, _CRC32C],
        attributes={"long_name": "the slot holds a sample"},
    )


def _array(
    dimensions: tuple[str, ...],
    *,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    data_type: str,
    fill_value: str | int,
    codecs: list[Metadata],
    attributes: dict[str, str],
) -> Metadata:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill_value,
        "codecs": codecs,
        "attributes": attributes,
        "dimension_names": list(dimensions),
        "storage_transformers": [],
    }


def _json(metadata: Metadata) -> bytes:
    return (json.dumps(metadata, indent=1) + "\n").encode()
