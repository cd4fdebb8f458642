"""A Zarr dataset as zarr-python, xarray and TensorStore see it: independent readers of the same files."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import xarray
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from sharding import Dataset

MakeDataset = Callable[[Path, str], Path]
Flip = Callable[[Path, int, int], None]
Read = Callable[[Path], np.ndarray]


def read_zarr_python(path: Path, name: str = "images") -> np.ndarray:
    return zarr.open_group(path / "images.zarr", mode="r")[name][:]


def read_xarray(path: Path, name: str = "images") -> np.ndarray:
    with xarray.open_zarr(path / "images.zarr") as group:
        return group[name].to_numpy()


def read_tensorstore(path: Path, name: str = "images") -> np.ndarray:
    store = {"driver": "file", "path": str(path / "images.zarr" / name)}
    return tensorstore.open({"driver": "zarr3", "kvstore": store}, open=True).result().read().result()


READERS = pytest.mark.parametrize("read", [read_zarr_python, read_xarray, read_tensorstore])


@READERS
def test_readers_see_the_images_of_the_dataset_at_their_slots(zarr_path: Path, read: Read) -> None:
    dataset = Dataset.open(zarr_path)
    images = read(zarr_path)
    assert (images.shape, images.dtype) == ((18, 3, 9, 9), np.float32)
    np.testing.assert_array_equal(images[dataset.column("row")], dataset.images(range(len(dataset))))


@READERS
def test_a_slot_without_a_sample_is_nan_and_valid_says_so(zarr_path: Path, read: Callable[..., np.ndarray]) -> None:
    valid = read(zarr_path, "valid")
    assert np.flatnonzero(valid).tolist() == Dataset.open(zarr_path).column("row").tolist()
    images = read(zarr_path)
    assert np.isnan(images[~valid]).all()
    assert np.isfinite(images[valid]).all()


@READERS
def test_readers_refuse_a_damaged_pixel(make_dataset: MakeDataset, tmp_path: Path, flip_bit: Flip, read: Read) -> None:
    path = make_dataset(tmp_path / "nine", "zarr")
    flip_bit(path / "images.zarr/images/c/0/0/0/0", 100, 3)
    with pytest.raises(Exception, match=r"(?i)checksum|digest mismatch"):  # each has an exception of its own
        read(path)


def test_attributes_and_dimensions_are_there(zarr_path: Path) -> None:
    with xarray.open_zarr(zarr_path / "images.zarr") as group:
        assert group["images"].dims == ("slot", "band", "y", "x")
        assert group["valid"].dims == ("slot",)
        assert group.attrs["bands"] == ["g", "r", "i"]
        assert group["images"].attrs["units"] == "nanomaggy / pixel"


def test_zarr_python_writes_the_same_array(zarr_path: Path, tmp_path: Path) -> None:
    """The same values through its own writer: the same metadata and, read back, the same array."""
    ours = zarr.open_group(zarr_path / "images.zarr", mode="r")
    group = zarr.open_group(tmp_path / "theirs", mode="w", zarr_format=3)
    theirs = group.create_array(
        "images",
        shape=(18, 3, 9, 9),
        dtype="<f4",
        chunks=(1, 3, 9, 9),
        shards=(6, 3, 9, 9),
        fill_value=np.nan,
        serializer=BytesCodec(endian="little"),
        compressors=[Crc32cCodec()],
        dimension_names=["slot", "band", "y", "x"],
        attributes=dict(ours["images"].attrs),
    )
    valid = group.create_array(
        "valid",
        shape=(18,),
        dtype=bool,
        chunks=(18,),
        fill_value=False,
        compressors=[Crc32cCodec()],
        dimension_names=["slot"],
        attributes=dict(ours["valid"].attrs),
    )
    for slot in np.flatnonzero(ours["valid"][:]):
        theirs[slot] = ours["images"][slot]
    valid[:] = ours["valid"][:]
    np.testing.assert_array_equal(theirs[:], ours["images"][:])
    for name in ("images/zarr.json", "valid/zarr.json"):
        assert _json(tmp_path / "theirs" / name) == _json(zarr_path / "images.zarr" / name)
    assert (tmp_path / "theirs/valid/c/0").read_bytes() == (zarr_path / "images.zarr/valid/c/0").read_bytes()
    assert not (tmp_path / "theirs/images/c/1").exists()  # nor has ours: a shard without a sample


def _json(path: Path) -> object:
    return json.loads(path.read_text())
