"""What both containers promise: one suite that each inherits."""

import hashlib
import itertools
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharding import Dataset, DatasetError
from sharding.__main__ import main
from sharding.manifest import Manifest
from sharding.records import Records, TarRecords, ZarrRecords, file_bytes
from sharding.samples import Samples, check_samples

MakeDataset = Callable[[Path, str], Path]
Flip = Callable[[Path, int, int], None]


class Contract:
    """Laws of a dataset, whatever holds its pixels."""

    container: ClassVar[str]

    @pytest.fixture
    def path(self, make_dataset: MakeDataset, tmp_path: Path) -> Path:
        """A dataset that a test may damage."""
        return make_dataset(tmp_path / "nine", self.container)

    def records(self) -> Records:
        """The container's layout of records, as if alone."""
        raise NotImplementedError

    def test_images_come_back_in_the_order_asked_for(self, path: Path) -> None:
        dataset = Dataset.open(path)
        indices = np.array([8, 0, 4, 4, 5])
        expected = [np.random.default_rng(n).normal(size=dataset.image_shape).astype(np.float32) for n in indices]
        np.testing.assert_array_equal(dataset.images(indices), expected)
        assert dataset.images([]).shape == (0, 3, 9, 9)

    @pytest.mark.parametrize("index", [-1, 9])
    def test_an_index_outside_is_refused(self, path: Path, index: int) -> None:
        with pytest.raises(IndexError, match=r"\[0, 9\)"):
            Dataset.open(path).images([index])

    def test_a_shard_without_a_sample_has_no_file(self, path: Path) -> None:
        shards = {entry.name for entry in Manifest.read(path).shards}
        assert shards == {self.records().shard_name(number) for number in (0, 2)}
        assert not (path / self.records().shard_name(1)).exists()

    def test_the_same_samples_give_the_same_bytes(self, path: Path, make_dataset: MakeDataset, tmp_path: Path) -> None:
        again = make_dataset(tmp_path / "again", self.container)
        assert _contents(again) == _contents(path)

    def test_offsets_point_at_the_pixels(self, path: Path) -> None:
        dataset = Dataset.open(path)
        for index in range(len(dataset)):
            shard, offset = (dataset.samples[name][index].as_py() for name in ("shard", "offset"))
            content = (path / dataset.manifest.shards[shard].name).read_bytes()
            pixels = np.frombuffer(content, "<f4", count=3 * 9 * 9, offset=offset)
            np.testing.assert_array_equal(pixels.reshape(3, 9, 9), dataset.images([index])[0])

    def test_any_flipped_bit_of_an_image_is_named_and_never_handed_out(
        self, path: Path, flip_bit: Flip, capsys: pytest.CaptureFixture[str]
    ) -> None:
        dataset = Dataset.open(path)
        size = int(np.prod(dataset.image_shape)) * 4
        rng = random.Random(4)
        for _ in range(30):
            index, byte, bit = rng.randrange(9), rng.randrange(size), rng.randrange(8)
            objid, shard, offset = (dataset.samples[name][index].as_py() for name in ("objid", "shard", "offset"))
            file = path / dataset.manifest.shards[shard].name
            flip_bit(file, offset + byte, bit)
            assert main(["verify", str(path)]) == 1
            printed = capsys.readouterr().out
            assert f"sample {objid}" in printed
            assert len(printed.splitlines()) == 1
            with pytest.raises(DatasetError, match=f"sample {objid}"):
                Dataset.open(path).images([index])
            flip_bit(file, offset + byte, bit)
        assert main(["verify", str(path)]) == 0

    def test_a_changed_table_of_samples_is_never_read(self, path: Path, flip_bit: Flip) -> None:
        table = path / "samples.parquet"
        for byte in range(4, table.stat().st_size, 97):
            flip_bit(table, byte, 3)
            with pytest.raises(DatasetError, match=r"samples\.parquet"):
                Dataset.open(path)
            flip_bit(table, byte, 3)

    @pytest.mark.parametrize("cut", [1, 4, 500, "empty"])
    def test_a_truncated_shard_is_refused(self, path: Path, cut: int | str) -> None:
        file = path / self.records().shard_name(0)
        content = file.read_bytes()
        file.write_bytes(b"" if isinstance(cut, str) else content[:-cut])
        with pytest.raises(DatasetError, match=f"expected {len(content)} bytes, got {file.stat().st_size}"):
            Dataset.open(path)

    @pytest.mark.parametrize("fault", ["missing", "swapped", "edited"])
    def test_other_faults_are_refused(self, path: Path, fault: str) -> None:
        first, second = (path / self.records().shard_name(number) for number in (0, 2))
        if fault == "missing":
            second.unlink()
        elif fault == "swapped":
            content = first.read_bytes()
            shutil.copyfile(second, first)
            second.write_bytes(content)
        else:
            manifest = json.loads((path / "dataset.json").read_text())
            manifest["counts"]["samples"] = 8
            (path / "dataset.json").write_text(json.dumps(manifest, indent=1) + "\n")
        with pytest.raises(DatasetError):
            Dataset.open(path)

    @pytest.mark.parametrize(
        "name", ["../../secret.tar", "/secret", "shards/../00000.tar", "images.zarr/images/c/../0/0/0"]
    )
    def test_a_shard_name_that_leaves_the_folder_is_refused(self, path: Path, name: str) -> None:
        content = json.loads((path / "dataset.json").read_text())
        content["shards"][0]["name"] = name
        with pytest.raises(DatasetError, match=f"shard name '{name}'"):
            Manifest.check(content | {"digest": Manifest.digest_of(content)})

    @pytest.mark.parametrize("name", ["../samples.parquet", "notes.txt", "rejects.parquet"])
    def test_a_file_that_no_dataset_has_is_refused(self, path: Path, name: str) -> None:
        content = json.loads((path / "dataset.json").read_text())
        content["files"][-1]["name"] = name
        with pytest.raises(DatasetError, match=r"expected the files .* and perhaps inputs\.parquet, got"):
            Manifest.check(content | {"digest": Manifest.digest_of(content)})

    def test_a_manifest_that_reading_would_refuse_is_not_written(self, path: Path) -> None:
        manifest, before = Manifest.read(path), (path / "dataset.json").read_bytes()
        for wrong in (
            replace(manifest, files=manifest.files[:1]),
            replace(manifest, shards=manifest.shards[::-1]),
            replace(manifest, shards=manifest.shards[:1] * 2),
            replace(manifest, bands=("g", "r")),
            replace(manifest, shards=(replace(manifest.shards[0], samples=0),)),
        ):
            with pytest.raises(DatasetError):
                wrong.write(path)
        assert (path / "dataset.json").read_bytes() == before

    def test_a_dataset_of_another_version_is_refused(self, path: Path) -> None:
        content = json.loads((path / "dataset.json").read_text()) | {"version": 1}
        with pytest.raises(DatasetError, match="expected skymill-dataset 3, got skymill-dataset 1; use the Skymill"):
            Manifest.check(content)

    def test_a_dataset_of_version_2_is_read_as_float32(self, path: Path) -> None:
        """Version 2 was written before there were encodings; its pixels need not be made anew."""
        expected = Dataset.open(path).images(range(9))
        content = json.loads((path / "dataset.json").read_text()) | {"version": 2}
        del content["encoding"]
        content["digest"] = Manifest.digest_of(content)
        (path / "dataset.json").write_text(json.dumps(content, indent=1) + "\n")
        dataset = Dataset.open(path)
        assert dataset.digest == content["digest"]
        np.testing.assert_array_equal(dataset.images(range(9)), expected)

    def test_a_table_of_samples_that_tells_of_other_records_is_refused(self, path: Path) -> None:
        dataset = Dataset.open(path)
        for name, change in itertools.product(("shard", "row", "offset"), (1, -1, 10**6)):
            column = dataset.samples.column_names.index(name)
            values = dataset.samples[name].to_numpy().copy()
            values[1] += change  # its neighbours in the shard are at places 0 and 2
            table = dataset.samples.set_column(column, name, [values])
            with pytest.raises(DatasetError, match="ingest again"):
                check_samples(in_memory(table), dataset.manifest, "samples.parquet")

    @pytest.mark.parametrize("wrong", [[None, *range(8)], [0.5] * 9, ["0"] * 9])
    @pytest.mark.parametrize("name", ["shard", "row", "offset", "crc32c"])
    def test_places_that_are_no_numbers_are_refused(self, path: Path, name: str, wrong: list[object]) -> None:
        dataset = Dataset.open(path)
        table = dataset.samples.set_column(dataset.samples.column_names.index(name), name, [wrong])
        with pytest.raises(DatasetError, match="must be whole numbers, none missing; ingest again"):
            check_samples(in_memory(table), dataset.manifest, "samples.parquet")

    def test_pixels_of_another_size_are_refused(self) -> None:
        with pytest.raises(ValueError, match="sample 7: its pixels have 8 bytes, those of the shard 972"):
            self.records().encode("7", bytes(8), b"{}")

    def test_records_have_the_sizes_that_they_announce(self) -> None:
        records = self.records()
        pixels = np.random.default_rng(3).bytes(records.pixel_bytes)
        one = records.encode("12", pixels, b"{}")
        assert len(one) == records.record_bytes
        assert one[records.pixel_offset :][: records.pixel_bytes] == pixels
        before, behind = records.frame("12", pixels)
        assert one.startswith(before + pixels + behind)
        assert len(one * 3 + records.trailer([0, 1, 4])) == file_bytes(records, 3)


class TestTar(Contract):
    """Plain WebDataset."""

    container = "webdataset"

    def records(self) -> TarRecords:
        return TarRecords((3, 9, 9), 512)

    def test_the_bytes_of_a_shard_are_frozen(self, path: Path) -> None:
        """Made by the writer of version 1: who has such shards need not ingest again."""
        assert {name: digest for name, digest in _contents(path).items() if name.endswith(".tar")} == {
            "shards/00000.tar": "e348469fc1ad9e8ce371d444686d83874204351a296599e50e3ec3cb6de0e6dc",
            "shards/00002.tar": "0a403499ba0fdc3a46b847e5f2fae092ba2c6a78da979794f639351968b87c9e",
        }

    def test_tar_and_numpy_read_it(self, path: Path) -> None:
        dataset = Dataset.open(path)
        with tarfile.open(path / "shards/00002.tar") as archive:
            members = [(member.name, archive.extractfile(member).read()) for member in archive.getmembers()]
        objid = dataset.samples["objid"].to_pylist()[5:]
        assert [name for name, _ in members] == [f"{o}.{end}" for o in objid for end in ("image.npy", "json")]
        assert [json.loads(text)["objid"] for _, text in members[1::2]] == objid
        header = len(members[0][1]) - 972
        images = [np.frombuffer(content[header:], "<f4").reshape(3, 9, 9) for _, content in members[::2]]
        np.testing.assert_array_equal(images, dataset.images(range(5, 9)))

    @pytest.mark.parametrize("key", ["a.b", "a/b", ""])
    def test_a_key_that_readers_split_is_refused(self, key: str) -> None:
        with pytest.raises(ValueError, match="digits, letters"):
            self.records().encode(key, bytes(972), b"{}")

    def test_a_label_that_would_shift_the_next_record_is_refused(self) -> None:
        with pytest.raises(ValueError, match="its label has 513 bytes, the shard has room for 512"):
            self.records().encode("7", bytes(972), b" " * 513)


class TestZarr(Contract):
    """One Zarr v3 array; other readers of it are in test_zarr_readers.py."""

    container = "zarr"

    def records(self) -> ZarrRecords:
        return ZarrRecords((3, 9, 9), 6)

    def test_row_is_the_slot(self, path: Path) -> None:
        assert Dataset.open(path).column("row").tolist() == [0, 1, 2, 4, 5, 12, 14, 15, 16]

    @pytest.mark.parametrize("slots", [[0, 0], [6], [-1]])
    def test_slots_outside_a_shard_or_used_twice_are_refused(self, slots: list[int]) -> None:
        with pytest.raises(ValueError, match=r"distinct and lie in \[0, 6\)"):
            self.records().trailer(slots)

    def test_a_row_in_another_shard_than_its_sample_is_refused(self, path: Path) -> None:
        dataset = Dataset.open(path)
        rows = dataset.column("row").copy()
        rows[4] = 6  # still before the next one, but the first slot of shard 1
        column = dataset.samples.column_names.index("row")
        changed = in_memory(dataset.samples.set_column(column, "row", [rows]))
        with pytest.raises(DatasetError, match="shard and row do not count the records"):
            check_samples(changed, dataset.manifest, "samples.parquet")

    @pytest.mark.parametrize("slots", [0, -6])
    def test_slots_per_shard_is_needed(self, path: Path, slots: int) -> None:
        content = json.loads((path / "dataset.json").read_text()) | {"slots_per_shard": slots}
        with pytest.raises(DatasetError, match=f"slots_per_shard {slots} does not fit zarr"):
            Manifest.check(content | {"digest": Manifest.digest_of(content)})

    def test_more_samples_than_slots_are_refused(self, path: Path) -> None:
        content = json.loads((path / "dataset.json").read_text()) | {"slots_per_shard": 4}
        with pytest.raises(DatasetError, match=r"images\.zarr/images/c/0/0/0/0: expected 1 to 4 samples, got 5"):
            Manifest.check(content | {"digest": Manifest.digest_of(content)})


def test_both_containers_hold_the_same_pixels_and_labels(dataset_path: Path, zarr_path: Path) -> None:
    tar, zarr = Dataset.open(dataset_path), Dataset.open(zarr_path)
    everything = range(len(tar))
    assert tar.images(everything).tobytes() == zarr.images(everything).tobytes()
    for name in set(tar.samples.column_names) - {"row", "offset"}:
        assert tar.samples[name].equals(zarr.samples[name]), name


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux does")
def test_a_dataset_holds_mappings_but_no_file_open(make_dataset: MakeDataset, tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "nine", "webdataset")
    before = len(os.listdir("/proc/self/fd"))
    dataset = Dataset.open(path)
    assert len(os.listdir("/proc/self/fd")) == before  # a million galaxies are more shards than a process may open
    assert len(dataset.images([0])) == 1
    assert str(path) in Path("/proc/self/maps").read_text()
    del dataset
    assert str(path) not in Path("/proc/self/maps").read_text()


def in_memory(table: pa.Table) -> Samples:
    """A table as if it were read from `samples.parquet`."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return Samples(sink.getvalue(), "samples.parquet")


def _contents(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
