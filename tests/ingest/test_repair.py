"""The same command on a finished dataset: what is damaged in it is cut again, and nothing is lost on the way."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from astropy.io import fits

import ingest.job
import ingest.repair
from ingest.__main__ import main
from ingest.workfolder import WorkFolder
from sharding import verify
from sharding.encoding import Encoding
from sharding.manifest import Manifest

pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyWarning")

CONTAINERS = ("webdataset", "zarr")
SHARDS = 3  # of one strip each


class _Here:
    """Takes the place of Ray: does a task when it is put in, and remembers which."""

    free = True

    def __init__(self) -> None:
        self.done: list[str] = []
        self._results: list[tuple[Any, Any]] = []

    def put(self, name: Any, call: Callable[..., Any], *arguments: Any) -> None:
        self.done.append(call.__name__)
        self._results.append((name, call(*arguments)))

    def results(self, timeout_s: float) -> Iterator[tuple[Any, Any]]:
        yield self._results.pop()

    def __len__(self) -> int:
        return len(self._results)


@contextmanager
def _here(address: str | None, workers: int | None) -> Iterator[_Here]:
    yield _Here()


class Job:
    """`python -m ingest run` on some frames, without Ray."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.frames, self.catalog, self.out = folder / "frames", folder / "catalog.csv", folder / "out"
        self.pool = _Here()
        self._capsys = capsys
        monkeypatch.setattr(ingest.job, "ray_pool", self._here)

    @contextmanager
    def _here(self, address: str | None, workers: int | None) -> Iterator[_Here]:
        yield self.pool

    def run(self, *options: str, container: str = "webdataset") -> tuple[int, str, str]:
        """Exit status, what it printed, and its errors."""
        self.pool.done.clear()
        arguments = ["--catalog", self.catalog, "--frames", self.frames, "--out", self.out, "--format", container]
        status = main(["run", *map(str, arguments), "--samples-per-shard", "4", *options])
        printed = self._capsys.readouterr()
        return status, printed.out, printed.err.strip()

    def refused(self, *options: str, container: str = "webdataset") -> str:
        """The one line it ended with; it left no work folder."""
        status, _, errors = self.run(*options, container=container)
        assert status == 2
        assert "Traceback" not in errors
        assert not self.out.with_name("out.partial").exists()
        return errors.splitlines()[-1]


@pytest.fixture(scope="module")
def made(small_field: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of three camcols, their catalogue, and the dataset of them in either container; read only."""
    folder = tmp_path_factory.mktemp("repair")
    (folder / "frames").mkdir()
    tables = []
    for camcol in range(1, SHARDS + 1):
        for path in sorted(small_field.frames.glob("frame-*.fits")):
            with fits.open(path) as hdus:
                hdus[0].header["CAMCOL"] = camcol
                hdus[0].data = hdus[0].data + np.float32(camcol)
                hdus.writeto(folder / "frames" / path.name.replace("-3-", f"-{camcol}-"))
        table = small_field.table.slice(0, 4)
        columns = {"camcol": np.full(4, camcol), "objid": np.arange(4) + 10 * camcol}
        for name, values in columns.items():
            table = table.set_column(table.column_names.index(name), name, [values])
        tables.append(table)
    pa.csv.write_csv(pa.concat_tables(tables), folder / "catalog.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest.job, "ray_pool", _here)
        for container in CONTAINERS:
            where = f"--catalog {folder}/catalog.csv --frames {folder}/frames --out {folder}/{container}"
            assert main(["run", *where.split(), "--samples-per-shard", "4", "--format", container]) == 0
    return folder


@pytest.fixture
def job(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Job:
    """A job in a folder of its own; `restore` gives it a dataset."""
    shutil.copytree(made / "frames", tmp_path / "frames")
    shutil.copy(made / "catalog.csv", tmp_path)
    return Job(tmp_path, monkeypatch, capsys)


@pytest.fixture
def restore(made: Path, job: Job) -> Callable[[str], dict[str, bytes]]:
    """Put the whole dataset at the job's --out; returns its files."""

    def copy(container: str) -> dict[str, bytes]:
        shutil.rmtree(job.out, ignore_errors=True)
        shutil.copytree(made / container, job.out)
        return _content(job.out)

    return copy


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _shards(folder: Path) -> list[Path]:
    return [folder / entry.name for entry in Manifest.read(folder).shards]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_whole_dataset_is_left_alone(job: Job, restore: Any, container: str) -> None:
    whole = restore(container)
    status, printed, errors = job.run(container=container)
    assert (status, printed.splitlines()[-1], errors) == (0, f"{job.out}: whole: nothing to repair", "")
    assert job.pool.done == []
    assert _content(job.out) == whole
    assert not job.out.with_name("out.partial").exists()


@pytest.mark.parametrize("container", CONTAINERS)
def test_only_damaged_shards_are_cut_again(job: Job, restore: Any, container: str) -> None:
    whole = restore(container)
    shards = _shards(job.out)
    assert len(shards) == SHARDS
    _flip(shards[0])
    for damage in (_truncate, Path.unlink):
        damage(shards[2])
        status, printed, _ = job.run(container=container)
        damaged = 2 if damage is _truncate else 1  # the first run mended the flipped bit, too
        assert status == 0
        assert f"{job.out}: {damaged} files repaired\n" in printed
        assert sorted(job.pool.done) == ["cut_strip"] * damaged + ["join_shard"] * damaged
        assert _content(job.out) == whole
    assert list(verify(job.out)) == []
    assert not job.out.with_name("out.partial").exists()


def test_swapped_shards_are_both_cut_again(job: Job, restore: Any) -> None:
    whole = restore("webdataset")
    first, second, _ = _shards(job.out)
    first.rename(job.out / "aside")
    second.rename(first)
    (job.out / "aside").rename(second)
    assert first.stat().st_size == second.stat().st_size  # no size tells; and nobody wants a line for each sample
    names = [shard.relative_to(job.out) for shard in (second, first)]
    assert [fault.split(": ")[1] for fault in verify(job.out)] == [
        f"it is that of {name}, swapped or renamed; ingest again" for name in names
    ]
    assert job.run()[0] == 0
    assert _content(job.out) == whole


def test_what_does_not_belong_there_is_told_and_left_alone(job: Job, restore: Any) -> None:
    whole = restore("webdataset")
    _shards(job.out)[0].rename(job.out / "renamed.tar")
    assert job.run()[0] == 0
    assert _content(job.out) == whole | {"renamed.tar": whole["shards/00000.tar"]}
    (fault,) = verify(job.out)
    assert "renamed.tar: not listed in dataset.json, but holds shards/00000.tar; move it out" in fault


def test_metadata_of_zarr_are_written_again_without_cutting(job: Job, restore: Any) -> None:
    whole = restore("zarr")
    _flip(job.out / "images.zarr/zarr.json")
    (job.out / "images.zarr/valid/c/0").unlink()
    status, printed, _ = job.run(container="zarr")
    assert (status, printed.splitlines()[-1]) == (0, f"{job.out}: 2 files repaired")
    assert job.pool.done == []
    assert _content(job.out) == whole


def test_a_shard_that_comes_out_otherwise_does_not_replace_the_old_one(made: Path, job: Job, restore: Any) -> None:
    """Where the frames are no longer those of then; the other shards are mended all the same."""
    whole = restore("webdataset")
    for path in _shards(job.out):
        _flip(path)
    before = _content(job.out)
    changed = next(job.frames.glob("frame-r-*-1-*"))
    with fits.open(changed, mode="update") as hdus:
        hdus[0].data += np.float32(1)
    text = job.refused()
    after = _content(job.out)
    (kept,) = (name for name in whole if after[name] != whole[name])
    assert f"{job.out / kept}: made again, it is not what dataset.json tells" in text
    assert after[kept] == before[kept]
    shutil.copy(made / "frames" / changed.name, changed)
    assert job.run()[0] == 0
    assert _content(job.out) == whole


@pytest.mark.parametrize("when", ["cut", "joined", "replaced", "replaced all"])
def test_a_repair_that_is_killed_goes_on(job: Job, restore: Any, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    whole = restore("zarr")
    for path in _shards(job.out):
        _flip(path)
    with monkeypatch.context() as patch:
        _kill(patch, when)
        assert job.run(container="zarr")[0] == 130
    cut = job.pool.done.count("cut_strip")
    assert set(_content(job.out)) == set(whole)  # each file is there at any time, the damaged or the mended one
    assert job.run(container="zarr")[0] == 0
    assert cut + job.pool.done.count("cut_strip") == SHARDS  # no strip was cut twice
    assert _content(job.out) == whole
    assert not job.out.with_name("out.partial").exists()


def _kill(patch: pytest.MonkeyPatch, when: str) -> None:
    """Interrupt the command behind its second task or replacement, or just before its work folder is gone."""
    if when == "replaced all":
        patch.setattr(WorkFolder, "remove", lambda folder: (shutil.rmtree(folder.dataset), _interrupt()))
        return
    where, name = {
        "cut": (ingest.job, "cut_strip"),
        "joined": (ingest.job, "join_shard"),
        "replaced": (ingest.repair, "_take_place"),
    }[when]
    inner, calls = getattr(where, name), []

    def second(*arguments: Any) -> Any:
        result = inner(*arguments)
        calls.append(name)
        return result if len(calls) < 2 else _interrupt()

    second.__name__ = name
    patch.setattr(where, name, second)


def _interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["dataset.json", "samples.parquet", "rejects.parquet", "inputs.parquet"])
def test_what_is_made_of_all_shards_is_beyond_repair(job: Job, restore: Any, name: str) -> None:
    restore("webdataset")
    _flip(job.out / name)
    text = job.refused()
    assert name in text
    assert text.endswith(f"; this is beyond repair: move {job.out} away and ingest again")


@pytest.mark.parametrize(
    ("options", "container", "what"),
    [
        (("--samples-per-shard", "100"), "webdataset", "the objects or --samples-per-shard"),
        (("--min-coverage", "0.5"), "webdataset", "coverage"),
        (("--max-petro-r", "17"), "webdataset", "selection"),
        ((), "zarr", "container"),
    ],
)
def test_a_dataset_of_other_settings_is_in_the_way(
    job: Job, restore: Any, options: tuple[str, ...], container: str, what: str
) -> None:
    whole = restore("webdataset")
    _add_column(job.catalog, "petroMag_r", "16.5")
    assert f"{job.out}: already there, of another catalogue or settings ({what})" in job.refused(
        *options, container=container
    )
    assert _content(job.out) == whole


def test_a_dataset_of_other_labels_is_in_the_way(job: Job, restore: Any) -> None:
    """Else one would believe that the labels of the catalogue at hand are in it."""
    restore("webdataset")
    text = job.catalog.read_text()
    job.catalog.write_text(text.replace("0.01,", "0.02,", 1))
    assert "of another catalogue or settings (column " in job.refused()
    job.catalog.write_text(text)
    _add_column(job.catalog, "colour", "red")
    assert "of another catalogue or settings (columns)" in job.refused()


def _add_column(catalog: Path, name: str, value: str) -> None:
    head, *rows = catalog.read_text().splitlines()
    catalog.write_text("\n".join([f'{head},"{name}"', *(f"{row},{value}" for row in rows)]) + "\n")


def test_an_encoded_dataset_is_refused(job: Job, restore: Any) -> None:
    restore("webdataset")
    replace(Manifest.read(job.out), encoding=Encoding(name="float16")).write(job.out)
    assert "pixels encoded as float16, which no ingest makes; repair the dataset that it was" in job.refused()
