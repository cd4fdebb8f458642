"""Our files as others read them: independent readers of tar and Zarr see exactly the pixels that we see."""

import gc
import io
import json
import os
import subprocess
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tensorstore
import webdataset
import xarray
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from sharding import Dataset, DatasetError
from sharding.convert import convert
from sharding.dali_index import write_index
from sharding.encoding import NAMES

MakeDataset = Callable[[Path, str], Path]
Flip = Callable[[Path, int, int], None]
Read = Callable[[Path], np.ndarray]
Sample = tuple[bytes, bytes]  # the members image.npy and json


@pytest.fixture(scope="module")
def datasets(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """The nine samples in both containers and every encoding."""
    folder = tmp_path_factory.mktemp("encodings")
    found = {("webdataset", "float32"): dataset_path}
    for container in ("webdataset", "zarr"):
        for name in NAMES:
            if (container, name) not in found:
                found[container, name] = folder / f"{container}-{name}"
                convert(dataset_path, found[container, name], container=container, encoding=name).close()
    return found


def stored(path: Path) -> np.ndarray:
    """The pixels as we store them; those of float32 are `Dataset.images`."""
    with Dataset.open(path) as dataset:
        out = np.empty((len(dataset), dataset.pixel_bytes), dtype=np.uint8)
        dataset.read_into(np.arange(len(dataset)), out)
        pixels = out.view(dataset.stored_dtype).reshape(-1, *dataset.image_shape)
        if dataset.stored_dtype == np.float32:
            np.testing.assert_array_equal(pixels, dataset.images(np.arange(len(dataset))))
        return pixels


def shards(path: Path) -> list[str]:
    with Dataset.open(path) as dataset:
        return [str(path / shard.name) for shard in dataset.manifest.shards]


def read_webdataset(path: Path, scratch: Path) -> list[Sample]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the closing of its files to Python
        pipeline = webdataset.WebDataset(shards(path), shardshuffle=False, empty_check=False)
        samples = [(sample["image.npy"], sample["json"]) for sample in pipeline]
        del pipeline
        gc.collect()
    return samples


def read_tarfile(path: Path, scratch: Path) -> list[Sample]:
    samples = []
    for shard in shards(path):
        with tarfile.open(shard) as archive:
            contents = [archive.extractfile(member).read() for member in archive]
            samples += list(zip(contents[::2], contents[1::2], strict=True))
    return samples


def read_tar_command(path: Path, scratch: Path) -> list[Sample]:
    samples = []
    for number, shard in enumerate(shards(path)):
        folder = scratch / str(number)
        folder.mkdir()
        listed = subprocess.run(["tar", "-xvf", shard, "-C", folder], check=True, capture_output=True, text=True)
        names = listed.stdout.split()
        contents = [(folder / name).read_bytes() for name in names]
        samples += list(zip(contents[::2], contents[1::2], strict=True))
    return samples


def dali() -> ModuleType:
    """DALI; skips where it is not installed, but in CI its absence is a failure."""
    try:
        import nvidia.dali
    except ImportError as err:
        reason = f"DALI cannot be imported ({err}); pip install 'skymill[dali]'"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return nvidia.dali


def read_dali(path: Path, scratch: Path) -> list[Sample]:
    module = dali()
    index = write_index(path, scratch / "index")

    @module.pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def pipeline() -> object:
        return tuple(
            module.fn.readers.webdataset(
                paths=shards(path),
                index_paths=[str(file) for file in index],
                ext=["image.npy", "json"],
                missing_component_behavior="error",
            )
        )

    running = pipeline()
    running.build()
    with Dataset.open(path) as dataset:
        count = len(dataset)
    outputs = [running.run() for _ in range(count)]
    return [(image.at(0).tobytes(), text.at(0).tobytes()) for image, text in outputs]


TAR_READERS = pytest.mark.parametrize("read", [read_webdataset, read_tarfile, read_tar_command, read_dali])


@TAR_READERS
@pytest.mark.parametrize("name", NAMES)
def test_tar_readers_see_our_pixels_and_labels(
    datasets: dict[tuple[str, str], Path], tmp_path: Path, name: str, read: Callable[[Path, Path], list[Sample]]
) -> None:
    path = datasets["webdataset", name]
    samples = read(path, tmp_path)
    images = np.stack([np.load(io.BytesIO(image), allow_pickle=False) for image, _ in samples])
    expected = stored(path)
    assert images.dtype == np.dtype(name)
    np.testing.assert_array_equal(images.view(np.uint8), expected.view(np.uint8))
    objid = Dataset.open(path).column("objid").tolist()
    assert [json.loads(text)["objid"] for _, text in samples] == objid


def test_the_index_is_the_one_that_dali_would_make(datasets: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    dali()
    import wds2idx  # of DALI

    for name in NAMES:
        path = datasets["webdataset", name]
        ours = write_index(path, tmp_path / name)
        for shard, index in zip(shards(path), ours, strict=True):
            with wds2idx.IndexCreator(shard, str(tmp_path / "theirs"), verbose=False) as creator:
                creator.create_index()
            assert index.name == Path(shard).with_suffix(".idx").name
            assert index.read_bytes() == (tmp_path / "theirs").read_bytes()


def test_an_index_is_of_tar_and_lies_outside_of_the_dataset(
    dataset_path: Path, zarr_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=r"DALI reads webdataset only, this is zarr"):
        write_index(zarr_path, tmp_path / "index")
    with pytest.raises(DatasetError, match=r"lies inside the dataset"):
        write_index(dataset_path, dataset_path / "index")
    assert not (dataset_path / "index").exists()


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
    np.testing.assert_array_equal(images[dataset.column("row")], stored(zarr_path))


@READERS
@pytest.mark.parametrize("name", NAMES)
def test_zarr_readers_see_our_stored_pixels(
    datasets: dict[tuple[str, str], Path], name: str, read: Callable[..., np.ndarray]
) -> None:
    path = datasets["zarr", name]
    images, valid = read(path), read(path, "valid")
    assert images.dtype == np.dtype(name)
    np.testing.assert_array_equal(images[valid].view(np.uint8), stored(path).view(np.uint8))
    assert (images[~valid] == 0).all() if name == "int16" else np.isnan(images[~valid]).all()


def test_zarr_says_how_int16_is_decoded(datasets: dict[tuple[str, str], Path]) -> None:
    with xarray.open_zarr(datasets["zarr", "int16"] / "images.zarr") as group:
        attributes = group["images"].attrs
    assert "units" not in attributes  # they are not nanomaggies yet
    for word in ("nanomaggy", "step_{band}", "samples.parquet", "0x9E3779B9", "fmix32"):
        assert word in attributes["decoding"]


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
