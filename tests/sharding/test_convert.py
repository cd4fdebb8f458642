"""A converted dataset says the same as its source, in other bytes, and is there whole or not at all."""

import errno
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sharding import Dataset, DatasetError, verify
from sharding.__main__ import main
from sharding.convert import convert
from sharding.encoding import NAMES, Encoding, decode, encode
from sharding.manifest import Manifest
from sharding.rewrite import Rewriter
from sharding.sample_json import sample_json
from sharding.writer import finish, write_batches

MakeDataset = Callable[[Path, str], Path]
Flip = Callable[[Path, int, int], None]

PLACES = {"shard", "row", "offset", "crc32c"}  # columns that say where a sample lies


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def everything(dataset: Dataset) -> np.ndarray:
    return dataset.images(np.arange(len(dataset)))


@pytest.fixture(scope="module")
def int16_path(dataset_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nine samples in int16, to read only."""
    path = tmp_path_factory.mktemp("int16") / "nine"
    convert(dataset_path, path, encoding="int16").close()
    return path


def test_there_and_back_gives_the_same_files(zarr_path: Path, tmp_path: Path) -> None:
    tar = convert(zarr_path, tmp_path / "tar", container="webdataset")
    convert(tmp_path / "tar", tmp_path / "zarr", container="zarr").close()
    convert(tmp_path / "zarr", tmp_path / "again", container="webdataset").close()
    assert files(tmp_path / "again") == files(tmp_path / "tar")
    source = Dataset.open(zarr_path)
    assert everything(tar).tobytes() == everything(source).tobytes()
    labels = [name for name in source.samples.column_names if name not in PLACES]
    assert tar.samples.select(labels).equals(source.samples.select(labels))
    assert [shard.name for shard in tar.manifest.shards] == ["shards/00000.tar", "shards/00002.tar"]
    for name in ("rejects.parquet", "inputs.parquet"):
        assert (tmp_path / "tar" / name).read_bytes() == (zarr_path / name).read_bytes()
    kept = {"container": "zarr", "slots_per_shard": 6, "shards": source.manifest.shards, "files": source.manifest.files}
    assert replace(tar.manifest, **kept) == source.manifest  # all else of the manifest


def test_the_text_beside_an_image_is_that_of_its_labels(zarr_path: Path, int16_path: Path, tmp_path: Path) -> None:
    for path in (convert(zarr_path, tmp_path / "tar", container="webdataset").path, int16_path):
        dataset = Dataset.open(path)
        texts = []
        for shard in dataset.manifest.shards:
            with tarfile.open(path / shard.name) as archive:
                texts += [archive.extractfile(member).read().rstrip() for member in list(archive)[1::2]]
        assert texts == sample_json(dataset.samples, dataset.bands)


def test_who_has_only_the_shard_can_decode_int16(int16_path: Path) -> None:
    """The text beside an image holds its steps."""
    with tarfile.open(int16_path / "shards/00002.tar") as archive:
        image, text = (archive.extractfile(member).read() for member in list(archive)[:2])
    label = json.loads(text)
    step = np.array([[label[f"step_{band}"] for band in "gri"]], dtype=np.float32)
    stored = np.load(io.BytesIO(image), allow_pickle=False)
    decoded = decode(stored[np.newaxis], np.array([label["objid"]]), step)
    np.testing.assert_array_equal(decoded, Dataset.open(int16_path).images([5]))


@pytest.mark.parametrize("container", ["webdataset", "zarr"])
@pytest.mark.parametrize("name", NAMES)
def test_every_encoding_in_every_container_is_whole_and_as_encoded(
    zarr_path: Path, tmp_path: Path, container: str, name: str
) -> None:
    if (container, name) == ("zarr", "float32"):
        return  # the source itself
    with (
        convert(zarr_path, tmp_path / "new", container=container, encoding=name) as new,
        Dataset.open(zarr_path) as old,
    ):
        assert list(verify(tmp_path / "new")) == []
        assert (new.manifest.container, new.stored_dtype) == (container, np.dtype(name))
        objid = old.column("objid")
        stored, step = encode(everything(old), objid, new.manifest.encoding, old.bands)
        np.testing.assert_array_equal(everything(new), decode(stored, objid, step))
        if container == "zarr":  # slots of rejects stay empty
            np.testing.assert_array_equal(new.column("row"), old.column("row"))


def test_stored_pixels_keep_their_bits_in_the_other_container(int16_path: Path, tmp_path: Path) -> None:
    convert(int16_path, tmp_path / "zarr", container="zarr").close()
    convert(tmp_path / "zarr", tmp_path / "tar", container="webdataset").close()
    assert files(tmp_path / "tar") == files(int16_path)


def test_decoding_does_not_hide_what_was_lost(
    int16_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with convert(int16_path, tmp_path / "float", encoding="float32") as new, Dataset.open(int16_path) as old:
        assert everything(new).tobytes() == everything(old).tobytes()
        assert new.manifest.encoding == Encoding(loss=old.manifest.encoding.loss)
        assert new.manifest.encoding.loss["encoding"] == "int16"
        assert not [name for name in new.samples.column_names if name.startswith("step_")]
    assert main(["info", str(tmp_path / "float")]) == 0
    assert "lost        by int16, over 9 samples" in capsys.readouterr().out
    with pytest.raises(DatasetError, match=r"^--encoding float16: these pixels were rounded to int16 before"):
        convert(tmp_path / "float", tmp_path / "new", encoding="float16")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({}, r"webdataset of int16 is what it is already"),
        ({"encoding": "int16", "fraction": 0.125}, r"webdataset of int16 is what it is already"),
        ({"encoding": "float16"}, r"rounded to int16 before; convert the original"),
        ({"encoding": "int16", "fraction": 0.5}, r"rounded to int16 before; convert the original"),
        ({"encoding": "float32", "fraction": 0.5}, r"--step: expected a number in \(0, 1\] and int16"),
        ({"encoding": "int16", "fraction": 0.0}, r"--step: expected a number in \(0, 1\] and int16"),
        ({"encoding": "int16", "fraction": float("nan")}, r"--step: expected a number in \(0, 1\] and int16"),
    ],
)
def test_what_cannot_be_had_is_refused(
    int16_path: Path, tmp_path: Path, wanted: dict[str, object], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        convert(int16_path, tmp_path / "new", **wanted)
    assert not list(tmp_path.iterdir())


def test_noise_that_is_not_known_cannot_give_a_step(make_dataset: MakeDataset, tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "nine", "webdataset")
    manifest = Manifest.read(path)
    replace(manifest, noise={band: values for band, values in manifest.noise.items() if band != "r"}).write(path)
    with pytest.raises(DatasetError, match=r"^--encoding int16: the noise of band r, to measure by, is not known"):
        convert(path, tmp_path / "new", encoding="int16")


def test_the_result_does_not_depend_on_the_number_of_threads(
    dataset_path: Path, int16_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sharding.rewrite._BLOCK", 2)  # more parts than one
    digests = []
    for cores in (1, 7):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, cores=cores: set(range(cores)))
        with convert(dataset_path, tmp_path / str(cores), encoding="int16") as dataset:
            digests.append(dataset.digest)
            assert everything(dataset).tobytes() == everything(Dataset.open(int16_path)).tobytes()
    assert digests[0] == digests[1]


@pytest.mark.parametrize("wanted", [{"container": "zarr"}, {"encoding": "float16"}])
def test_a_damaged_sample_ends_it_with_its_name(
    make_dataset: MakeDataset, flip_bit: Flip, tmp_path: Path, wanted: dict[str, str]
) -> None:
    path = make_dataset(tmp_path / "nine", "webdataset")
    dataset = Dataset.open(path)
    flip_bit(path / "shards/00002.tar", int(dataset.samples["offset"][6].as_py()) + 5, 3)
    objid = dataset.column("objid")[6]
    with pytest.raises(DatasetError, match=rf"00002\.tar: sample {objid} \(row 1\): its pixels differ"):
        convert(path, tmp_path / "new", **wanted)
    assert [entry.name for entry in tmp_path.iterdir()] == ["nine"]


def test_a_damaged_table_is_not_carried_over(make_dataset: MakeDataset, flip_bit: Flip, tmp_path: Path) -> None:
    path = make_dataset(tmp_path / "nine", "webdataset")
    flip_bit(path / "rejects.parquet", 40, 1)
    with pytest.raises(DatasetError, match=r"rejects\.parquet: its bytes differ from the digest"):
        convert(path, tmp_path / "new", container="zarr")
    assert [entry.name for entry in tmp_path.iterdir()] == ["nine"]


def test_a_full_disk_leaves_neither_files_nor_threads(
    dataset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, batches: Iterator[object]) -> None:
        next(batches)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sharding.convert.write_batches", fail)
    with pytest.raises(OSError, match=r"No space left"):
        convert(dataset_path, tmp_path / "new", container="zarr")
    assert not list(tmp_path.iterdir())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("rewrite")]


def test_after_a_kill_nothing_is_there_and_the_next_one_works(dataset_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    kill = "lambda size: os.kill(os.getpid(), signal.SIGKILL)"
    script = (
        "import os, signal; from pathlib import Path; from sharding.convert import convert; "
        f"convert(Path({str(dataset_path)!r}), Path({str(out)!r}), container='zarr', advance={kill})"
    )
    checkout = Path(__file__).resolve().parents[2]
    killed = subprocess.run([sys.executable, "-c", script], cwd=checkout, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["new.partial"]
    assert list((tmp_path / "new.partial").rglob("*.partial"))  # it was at work
    convert(dataset_path, out, container="zarr").close()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert list(verify(out)) == []


def test_a_folder_in_the_way_is_left_alone(dataset_path: Path, tmp_path: Path) -> None:
    for name in ("new", "other.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years of work")
    with pytest.raises(DatasetError, match=r"new is already there; remove it"):
        convert(dataset_path, tmp_path / "new", container="zarr")
    with pytest.raises(DatasetError, match=r"other\.partial: in the way, and not left by this command"):
        convert(dataset_path, tmp_path / "other", container="zarr")
    with pytest.raises(DatasetError, match=r"lies inside the dataset"):
        convert(dataset_path, dataset_path / "new", container="zarr")
    assert list(files(tmp_path).values()) == [b"years of work"] * 2
    assert list(verify(dataset_path)) == []


def test_two_do_not_write_the_same_folder(dataset_path: Path, tmp_path: Path) -> None:
    work = tmp_path / "new.partial"
    work.mkdir()
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match=r"another process is at work on it"):
            convert(dataset_path, tmp_path / "new", container="zarr")


def test_the_commands(dataset_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new"
    assert main(["convert", str(dataset_path), "--out", str(out), "--encoding", "int16", "--step", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "steps       at least, 0.5 of the noise" in printed
    assert Manifest.read(out).encoding.fraction == 0.5
    assert main(["convert", str(dataset_path), "--out", str(out), "--format", "zarr"]) == 2
    assert capsys.readouterr().err == f"sharding: error: --out: {out} is already there; remove it or choose another\n"
    assert main(["index", str(out), "--out", str(tmp_path / "index")]) == 0
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["00000.idx", "00002.idx"]


def test_a_label_that_is_called_as_a_step_is_not_lost(make_dataset: MakeDataset, tmp_path: Path) -> None:
    folder = make_dataset(tmp_path / "given", "webdataset")
    table = Dataset.open(folder).samples
    write_batches(folder / "samples.parquet", [table.append_column("Step_G", pa.array(np.arange(9.0)))])
    manifest = Manifest.read(folder)
    finish(folder, manifest, [entry.name for entry in manifest.files])
    with pytest.raises(DatasetError, match="has a label step_g, which int16 needs"):
        convert(folder, tmp_path / "int16", encoding="int16")
    with convert(folder, tmp_path / "float16", encoding="float16") as converted:
        assert converted.column("step_g").tolist() == list(range(9))


def test_a_folder_that_cannot_be_made_and_a_url_are_lines(
    dataset_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert main(["convert", str(dataset_path), "--out", str(tmp_path / "file" / "new"), "--format", "zarr"]) == 2
    assert f"sharding: error: {tmp_path / 'file'}" in capsys.readouterr().err
    assert main(["info", "http://127.0.0.1:1/dataset"]) == 2
    assert "http://127.0.0.1:1/dataset: this command takes a folder, got a URL" in capsys.readouterr().err


def test_an_interrupt_ends_a_conversion_at_once(
    dataset_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: Rewriter, done: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Rewriter, "_note", interrupted)
    assert main(["convert", str(dataset_path), "--out", str(tmp_path / "new"), "--format", "zarr"]) == 130
    assert capsys.readouterr().err.endswith("sharding: interrupted\n")
    assert not list(tmp_path.iterdir())
