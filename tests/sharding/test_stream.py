"""A dataset as the webdataset library streams it, from a folder or a URL: whole, in order, or an error of one line."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharding import Dataset, DatasetError
from sharding.convert import convert
from sharding.stream import stream

pytest.importorskip("webdataset")

SHARD = "shards/00000.tar"


@pytest.fixture(params=["folder", "memory"])
def location(request: pytest.FixtureRequest, dataset_path: Path) -> Iterator[str]:
    """The nine samples, in a folder and at a URL."""
    if request.param == "folder":
        yield str(dataset_path)
        return
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(dataset_path), "/stream/nine", recursive=True)
    yield "memory://stream/nine"
    memory.rm("/stream", recursive=True)


@pytest.fixture
def copy(make_dataset: Any, tmp_path: Path) -> Path:
    """A tar dataset to damage."""
    return make_dataset(tmp_path / "copy", "webdataset")


def test_samples_come_in_the_order_of_the_dataset_with_its_pixels(
    location: str, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("webdataset.gopen"), "gopen", None)  # its openers run a shell: none is used
    samples = list(stream(location))
    assert [sample["__key__"] for sample in samples] == [str(objid) for objid in dataset.column("objid")]
    assert [sample["json"] for sample in samples] == [{"objid": objid} for objid in dataset.column("objid")]
    images = np.stack([sample["image.npy"] for sample in samples])
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, dataset.images(range(9)))


def test_shards_of_many_pieces_are_whole(location: str, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharding.storage._ROW", 700)  # no divisor of anything in a tar
    monkeypatch.setattr("sharding.stream._BUFFER_BYTES", 3 * 700)
    images = [sample["image.npy"] for sample in stream(location)]
    np.testing.assert_array_equal(images, dataset.images(range(9)))


@pytest.mark.parametrize("encoding", ["float16", "int16"])
def test_encoded_images_are_decoded(dataset_path: Path, tmp_path: Path, encoding: Any) -> None:
    convert(dataset_path, tmp_path / "new", encoding=encoding)
    images = [sample["image.npy"] for sample in stream(tmp_path / "new")]
    np.testing.assert_array_equal(images, Dataset.open(tmp_path / "new").images(range(9)))


def test_zarr_is_refused(zarr_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected a tar dataset, got zarr"):
        next(stream(zarr_path))


def _flip_pixel(content: bytearray, offset: int) -> None:
    content[offset + 5] ^= 1


def _want_pickle(content: bytearray, offset: int) -> None:
    begin = content.index(b"'<f4'", offset - 128)
    content[begin : begin + 5] = b"'|O' "


def _other_type(content: bytearray, offset: int) -> None:
    begin = content.index(b"'<f4'", offset - 128)
    content[begin : begin + 5] = b"'>f4'"


def _rename(content: bytearray, offset: int) -> None:
    """Another key, with the tar checksum that goes with it."""
    header = offset // 512 * 512 - 512
    content[header] += 1
    digits = content[header + 148 : header + 154]
    content[header + 148 : header + 154] = b"%06o" % (int(digits, 8) + 1)


def _break_header(content: bytearray, offset: int) -> None:
    content[offset // 512 * 512 - 512] ^= 64


def _end_early(content: bytearray, offset: int) -> None:
    header = offset // 512 * 512 - 512
    content[header : header + 1024] = bytes(1024)


def _break_text(content: bytearray, offset: int) -> None:
    begin = content.index(b'{"objid"', offset)
    content[begin] = ord("[")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_flip_pixel, "its pixels differ from their checksum"),
        (_want_pickle, "allow_pickle=False"),
        (_other_type, "its pixels differ from their checksum"),
        (_rename, "is not the next of samples.parquet"),
        (_break_header, "verify it"),
        (_end_early, "expected 5 samples, got 2"),
        (_break_text, "not as it was written"),
    ],
)
def test_a_damaged_shard_is_one_line_and_all_before_it_is_whole(
    copy: Path, dataset: Dataset, damage: Any, said: str
) -> None:
    content = bytearray((copy / SHARD).read_bytes())
    damage(content, int(dataset.column("offset")[2]))
    (copy / SHARD).write_bytes(bytes(content))
    images = []
    with pytest.raises(DatasetError, match=said) as caught:
        images.extend(sample["image.npy"] for sample in stream(copy))
    assert str(caught.value).startswith(f"{copy}/{SHARD}: ")
    assert "\n" not in str(caught.value)


def test_a_shard_that_cannot_be_read_is_the_storages_line(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = stream(copy)
    with monkeypatch.context() as patch:
        patch.setattr("sharding.stream._BUFFER_BYTES", 512)
        next(samples)
        (copy / SHARD).write_bytes(b"")
        with pytest.raises(DatasetError, match=f"^{copy}/{SHARD}: cannot be read"):
            list(samples)


def test_without_the_library_it_says_what_to_install(dataset_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset.tariterators", None)
    with pytest.raises(DatasetError, match=r"pip install 'skymill\[webdataset\]'"):
        next(stream(dataset_path))
