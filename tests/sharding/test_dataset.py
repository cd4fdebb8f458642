"""Reading a dataset, splitting it, and finding every fault in it."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sharding import Dataset, DatasetError, atomic_file, splits, verify
from sharding.__main__ import main
from sharding.manifest import Manifest
from sharding.tarshard import Layout, ShardWriter

Flip = Callable[[Path, int, int], None]


def test_images_come_back_in_the_order_asked_for(dataset: Dataset) -> None:
    indices = np.array([8, 0, 4, 4, 5])
    expected = [np.random.default_rng(n).normal(size=dataset.image_shape).astype(np.float32) for n in indices]
    np.testing.assert_array_equal(dataset.images(indices), expected)
    assert dataset.images([]).shape == (0, 3, 9, 9)


@pytest.mark.parametrize("index", [-1, 9])
def test_an_index_outside_is_refused(dataset: Dataset, index: int) -> None:
    with pytest.raises(IndexError, match=r"\[0, 9\)"):
        dataset.images([index])


def test_columns_are_found_without_case_or_underscores(dataset: Dataset) -> None:
    np.testing.assert_array_equal(dataset.per_band("petromag"), np.arange(9.0)[:, None] + np.arange(3.0))
    assert np.isnan(dataset.column("SpecZ")[1])
    assert dataset.column("objid").dtype == np.int64
    assert dataset.has("label")
    assert not dataset.has("nothing")
    with pytest.raises(DatasetError, match="no column nothing; it has objid"):
        dataset.column("nothing")


def test_an_identifier_is_never_rounded(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="a float would round them"):
        dataset.column("galaxy_zoo_objid")


def test_splits_partition_the_samples_and_follow_the_identity(dataset: Dataset) -> None:
    parts = [dataset.split(name, seed=3) for name in ("train", "validation", "test")]
    assert sorted(np.concatenate(parts)) == list(range(9))
    for seed in range(50):  # samples 0 and 1 are two observations of one thing
        side = [{0, 1} <= set(dataset.split(name, seed)) for name in ("train", "validation", "test")]
        assert sum(side) == 1


def test_splits_do_not_depend_on_the_row_and_have_their_size() -> None:
    identity = np.random.default_rng(0).integers(1, 2**62, 100_000)
    shuffled = np.random.default_rng(1).permutation(identity)
    for name, (low, high) in splits.BOUNDS.items():
        assert set(identity[splits.members(identity, name)]) == set(shuffled[splits.members(shuffled, name)])
        share, expected = len(splits.members(identity, name)) / len(identity), high - low
        assert abs(share - expected) < 5 * np.sqrt(expected * (1 - expected) / len(identity))


def test_an_unknown_split_is_refused(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="expected one of train, validation, test"):
        dataset.split("holdout")  # type: ignore[arg-type]


def test_a_whole_dataset_verifies(dataset_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(verify(dataset_path)) == []
    assert main(["verify", str(dataset_path)]) == 0
    assert "9 samples" in capsys.readouterr().out
    assert main(["info", str(dataset_path)]) == 0
    assert "9 samples, 0 rejects" in capsys.readouterr().out


def test_any_flipped_bit_of_an_image_is_named_and_never_handed_out(
    damaged: Path, flip_bit: Flip, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Dataset.open(damaged)
    size = int(np.prod(dataset.image_shape)) * 4
    rng = random.Random(4)
    for _ in range(30):
        index, byte, bit = rng.randrange(9), rng.randrange(size), rng.randrange(8)
        objid, shard, offset = (dataset.samples[name][index].as_py() for name in ("objid", "shard", "offset"))
        path = damaged / f"shards/{shard:05d}.tar"
        flip_bit(path, offset + byte, bit)
        assert main(["verify", str(damaged)]) == 1
        printed = capsys.readouterr().out
        assert f"sample {objid}" in printed
        assert len(printed.splitlines()) == 1
        with pytest.raises(DatasetError, match=f"sample {objid}"):
            Dataset.open(damaged).images([index])
        flip_bit(path, offset + byte, bit)
    assert main(["verify", str(damaged)]) == 0


def test_a_flipped_bit_anywhere_is_caught(damaged: Path, flip_bit: Flip) -> None:
    files = sorted(path for path in damaged.rglob("*") if path.is_file())
    rng = random.Random(5)
    for path in files:
        for byte in {0, path.stat().st_size - 1, *(rng.randrange(path.stat().st_size) for _ in range(25))}:
            bit = rng.randrange(8)
            flip_bit(path, byte, bit)
            assert list(verify(damaged)), f"{path.name}: byte {byte} bit {bit}"
            flip_bit(path, byte, bit)


def test_a_changed_table_of_samples_is_never_read(damaged: Path, flip_bit: Flip) -> None:
    table = damaged / "samples.parquet"
    for byte in range(4, table.stat().st_size, 97):
        flip_bit(table, byte, 3)
        with pytest.raises(DatasetError, match=r"samples\.parquet"):
            Dataset.open(damaged)
        flip_bit(table, byte, 3)


def test_a_flipped_bit_of_an_image_s_headers_or_padding_is_named(damaged: Path, flip_bit: Flip) -> None:
    dataset = Dataset.open(damaged)
    layout = dataset.manifest.layout(dataset.manifest.shards[0])
    for byte in (0, 150, 511, 512, 600, layout.image_bytes - 1):
        flip_bit(damaged / "shards/00000.tar", layout.record_bytes + byte, 2)
        assert "sample 1237645876861337001 (row 1): its headers differ" in next(verify(damaged))
        flip_bit(damaged / "shards/00000.tar", layout.record_bytes + byte, 2)


@pytest.mark.parametrize("fault", ["truncated", "missing", "swapped", "stray", "edited"])
def test_other_faults_are_caught(damaged: Path, fault: str) -> None:
    first, second = (damaged / f"shards/0000{n}.tar" for n in range(2))
    if fault == "truncated":
        first.write_bytes(first.read_bytes()[:-512])
    elif fault == "missing":
        second.unlink()
    elif fault == "swapped":
        content = first.read_bytes()
        shutil.copyfile(second, first)
        second.write_bytes(content)
    elif fault == "stray":
        (damaged / "shards/00002.tar").write_bytes(b"")
    else:
        manifest = json.loads((damaged / "dataset.json").read_text())
        manifest["counts"]["samples"] = 8
        (damaged / "dataset.json").write_text(json.dumps(manifest))
    assert list(verify(damaged))
    if fault != "stray":
        with pytest.raises(DatasetError):
            Dataset.open(damaged)


def test_a_shard_name_that_leaves_the_folder_is_refused(damaged: Path) -> None:
    content = json.loads((damaged / "dataset.json").read_text())
    content["shards"][0]["name"] = "../../secret.tar"
    with pytest.raises(DatasetError, match=r"shard name '../../secret.tar'"):
        Manifest.check(content | {"digest": Manifest.digest_of(content)})


def test_no_dataset_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_file(tmp_path / "file") as file:
            file.write(b"half")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["a.b", "a/b", ""])
def test_a_key_that_readers_split_is_refused(tmp_path: Path, key: str) -> None:
    with (tmp_path / "t.tar").open("wb") as file, pytest.raises(ValueError, match="digits, letters"):
        ShardWriter(file, Layout((1, 2, 2), 512)).add(key, np.zeros((1, 2, 2), dtype=np.float32), b"{}")
