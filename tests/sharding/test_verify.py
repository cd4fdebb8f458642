"""`verify`: whatever bit, byte or file of a dataset is not as it was written, a line says so."""

import errno
import hashlib
import json
import os
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sharding import Dataset, DatasetError, damage, verify
from sharding.__main__ import main
from sharding.manifest import ZARR_FILES, Manifest
from sharding.records import TarRecords, ZarrRecords

Flip = Callable[[Path, int, int], None]

RECORDS = {"webdataset": TarRecords((3, 9, 9), 512), "zarr": ZarrRecords((3, 9, 9), 6)}
FIRST = 1237645876861337000  # objid of the first sample


@pytest.fixture(params=RECORDS)
def container(request: pytest.FixtureRequest) -> str:
    """Both, one after the other."""
    return str(request.param)


@pytest.fixture
def path(make_dataset: Callable[[Path, str], Path], container: str, tmp_path: Path) -> Path:
    """A dataset that a test may damage."""
    return make_dataset(tmp_path / "nine", container)


@pytest.fixture
def shards(path: Path) -> list[Path]:
    """Its two shards, of five and four samples."""
    return [path / entry.name for entry in Manifest.read(path).shards]


def _faults(path: Path, **options: int) -> list[str]:
    return list(verify(path, **options))


def test_a_whole_dataset_has_no_fault_and_all_bytes_of_its_shards_are_read(
    path: Path, shards: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    read: list[int] = []
    assert list(verify(path, read.append)) == []
    assert sum(read) == sum(shard.stat().st_size for shard in shards)
    assert main(["verify", str(path)]) == 0
    assert "9 samples" in capsys.readouterr().out


def test_any_of_500_flipped_bits_is_caught(path: Path, flip_bit: Flip) -> None:
    """1,000 in both containers, over every file: pixels, padding, headers, JSON, Parquet, Zarr's index and metadata."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    rng = random.Random(4)
    for number in range(500):
        file = files[number % len(files)]
        byte, bit = rng.randrange(file.stat().st_size), rng.randrange(8)
        flip_bit(file, byte, bit)
        assert next(verify(path), None), f"{file.name}: byte {byte} bit {bit}"
        flip_bit(file, byte, bit)
    assert _faults(path) == []


def test_a_flipped_bit_of_the_manifest_is_caught_even_where_its_content_stays(path: Path) -> None:
    """Blanks, escapes and the spelling of numbers are no content, and its digest says nothing of them."""
    content = (path / "dataset.json").read_bytes()
    rng = random.Random(5)
    for byte in range(len(content)):
        flipped = bytearray(content)
        flipped[byte] ^= 1 << rng.randrange(8)
        with pytest.raises(DatasetError, match="here: "):
            Manifest.parse(bytes(flipped), "here")


def test_each_damaged_image_is_named_and_no_other(path: Path, shards: list[Path], flip_bit: Flip) -> None:
    table = Dataset.open(path).samples
    for index in (1, 3):
        flip_bit(shards[0], table["offset"][index].as_py() + 7, 0)
    row = table["row"].to_pylist()
    assert _faults(path) == [
        f"{shards[0]}: sample {FIRST + n} (row {row[n]}): pixels differ from what was written; ingest again"
        for n in (1, 3)
    ]


@pytest.mark.parametrize("container", ["webdataset"], indirect=True)
@pytest.mark.parametrize("place", ["tar header", "its end", "npy header", "padding"])
def test_a_flipped_bit_of_an_image_s_headers_or_padding_is_named(
    path: Path, shards: list[Path], flip_bit: Flip, place: str
) -> None:
    records = RECORDS["webdataset"]
    before, behind = records.frame(str(FIRST + 1), bytes(records.pixel_bytes))
    end = len(before) + records.pixel_bytes + len(behind)
    byte = {"tar header": 0, "its end": 511, "npy header": 512, "padding": end - 1}[place]
    flip_bit(shards[0], records.record_bytes + byte, 2)
    (fault,) = _faults(path)
    assert f"sample {FIRST + 1} (row 1): its headers or padding differ" in fault


@pytest.mark.parametrize("container", ["zarr"], indirect=True)
def test_a_flipped_bit_of_an_inner_chunk_s_checksum_is_named(path: Path, shards: list[Path], flip_bit: Flip) -> None:
    flip_bit(shards[0], 2 * RECORDS["zarr"].record_bytes - 1, 2)
    (fault,) = _faults(path)
    assert f"sample {FIRST + 1} (row 1): its headers or padding differ" in fault


def test_damage_at_the_end_of_a_shard_is_named(path: Path, shards: list[Path], flip_bit: Flip) -> None:
    flip_bit(shards[1], shards[1].stat().st_size - 9, 5)
    (fault,) = _faults(path)
    assert fault.startswith(f"{shards[1]}: the end of the file differs")


@pytest.mark.parametrize("cut", [1, 500, None])
def test_a_truncated_shard_is_caught(path: Path, shards: list[Path], cut: int | None) -> None:
    content = shards[0].read_bytes()
    shards[0].write_bytes(content[:-cut] if cut else b"")
    (fault,) = _faults(path)
    assert f"{shards[0]}: expected {len(content)} bytes, got {shards[0].stat().st_size}" in fault


def test_missing_renamed_and_swapped_shards_are_told_apart(path: Path, shards: list[Path]) -> None:
    first, second = (shard.relative_to(path).as_posix() for shard in shards)
    shards[0].rename(path / "elsewhere")
    stray, missing = _faults(path)
    assert stray.startswith(f"{path / 'elsewhere'}: not listed in dataset.json, but holds {first}; move it")
    assert missing == f"{shards[0]}: missing; ingest again"
    shards[1].rename(shards[0])
    (path / "elsewhere").rename(shards[1])
    swapped = _faults(path)
    assert [fault.split(": ")[-1] for fault in swapped] == [
        f"it is that of {name}, swapped or renamed; ingest again" for name in (second, first)
    ]


def test_a_file_that_the_disk_does_not_give_is_a_line(
    path: Path, shards: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = os.preadv

    def bad_disk(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(shards[0]) and offset:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return inner(descriptor, buffers, offset)

    monkeypatch.setattr(damage, "_PIECE_BYTES", 1)  # so that the fault is behind the first record
    with monkeypatch.context() as patch:
        patch.setattr(damage.os, "preadv", bad_disk)
        assert _faults(path) == [f"{shards[0]}: cannot be read (Input/output error); ingest again"]
    with monkeypatch.context() as patch:
        patch.setattr(damage.os, "preadv", lambda *arguments: 0)
        assert [fault.split(": ")[1] for fault in _faults(path)] == [
            "cannot be read (it became shorter while it was read); ingest again"
        ] * 2
    shards[0].unlink()
    os.mkfifo(shards[0])  # opening it would wait for ever
    (fault,) = _faults(path)
    assert fault.startswith(f"{shards[0]}: cannot be read (not a file")


def test_a_damaged_table_does_not_hide_a_damaged_shard(path: Path, shards: list[Path], flip_bit: Flip) -> None:
    flip_bit(path / "rejects.parquet", 100, 1)
    flip_bit(shards[1], 2000, 1)
    faults = _faults(path)
    assert [str(file) in fault for file, fault in zip((path / "rejects.parquet", shards[1]), faults, strict=True)] == [
        True
    ] * 2


def test_lines_are_those_of_one_thread_in_the_order_of_the_shards(path: Path, shards: list[Path]) -> None:
    for shard in shards:
        content = shard.read_bytes()
        shard.write_bytes(bytes(byte ^ 1 for byte in content))
    assert _faults(path, threads=4) == _faults(path, threads=1)
    assert [fault.split(": ")[0] for fault in _faults(path)] == sorted(fault.split(": ")[0] for fault in _faults(path))


def test_who_stops_listening_leaves_no_thread(path: Path, shards: list[Path], flip_bit: Flip) -> None:
    flip_bit(shards[0], 1000, 1)
    before = threading.active_count()
    lines = verify(path, threads=2)
    assert next(lines)
    lines.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("fault", ["stray", "edited"])
def test_other_faults_are_caught(path: Path, container: str, fault: str) -> None:
    if fault == "stray":
        stray = path / RECORDS[container].shard_name(1)
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"")
    else:
        manifest = json.loads((path / "dataset.json").read_text())
        manifest["counts"]["samples"] = 8
        (path / "dataset.json").write_text(json.dumps(manifest, indent=1) + "\n")
    assert len(_faults(path)) == 1


def test_inputs_that_the_table_does_not_hold_are_named(path: Path) -> None:
    replace(Manifest.read(path), inputs={"frames": 3, "bytes": 3000}).write(path)
    (fault,) = _faults(path)
    assert "inputs are {'frames': 3, 'bytes': 3000}, inputs.parquet holds {'frames': 2, 'bytes': 3000}" in fault


@pytest.mark.parametrize("container", ["zarr"], indirect=True)
@pytest.mark.parametrize("name", ZARR_FILES)
def test_metadata_that_do_not_fit_the_table_are_named(path: Path, name: str) -> None:
    """Even where the manifest vouches for them: other readers would see another dataset than ours."""
    content = bytearray((path / name).read_bytes())
    content[3] ^= 1
    (path / name).write_bytes(content)
    manifest = Manifest.read(path)
    digest = hashlib.sha256(content).hexdigest()
    files = tuple(replace(entry, sha256=digest) if entry.name == name else entry for entry in manifest.files)
    replace(manifest, files=files).write(path)
    assert [str(path / name) in fault for fault in _faults(path)] == [True]
