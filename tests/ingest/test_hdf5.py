"""HDF5 files of the two published layouts against h5py's own reading of them, in both containers."""

import argparse
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from ingest import hdf5_files
from ingest.errors import IngestError
from ingest.hdf5 import Hdf5Config, add_hdf5, convert
from ingest.hdf5_files import slab_rows
from ingest.hdf5_shards import NOT_FINITE, REPEATED
from sharding import Dataset, verify

R_DR12 = np.array([5.155, 3.793, 2.751, 2.086, 1.479])  # A / E(B-V) of u..z in DR12; Stoughton et al. 2002
FIRST = 2**60 + 1  # a float64 would round it
SIDE = 16  # pixels; the published 107 would only take longer

Storage = dict[str, Any]
STORAGES: dict[str, Storage] = {
    "contiguous": {},
    "one image a chunk": {"chunks": (1, 5, SIDE, SIDE), "compression": "gzip"},
    "chunks across images, bands and pixels": {"chunks": (6, 2, 5, 7), "compression": "lzf", "shuffle": True},
    "more rows a chunk than there are": {"chunks": (64, 5, SIDE, SIDE)},
}


def write_hayat(path: Path, rows: int, first: int = FIRST, dtype: str = "<f4", **storage: Any) -> Path:
    """A file as Hayat et al. 2021 released it; identifiers count up from ``first``."""
    rng = np.random.default_rng(first % 1000)
    if "chunks" in storage:
        storage["maxshape"] = (None, 5, SIDE, SIDE)  # h5py wants it where there are fewer rows than a chunk has
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=rng.normal(0, 0.03, (rows, 5, SIDE, SIDE)).astype(dtype), **storage)
        file["e_bv"] = rng.uniform(0.02, 0.2, rows)[:, None] * R_DR12
        file["ObjID"] = first + np.arange(rows)
        file["specObjID"] = (first + np.arange(rows)).astype("<u8")
        for key, high in {"ra": 360.0, "dec": 60.0, "specz_redshift": 0.4, "specz_redshift_err": 1e-4}.items():
            file[key] = rng.uniform(0, high, rows)
    return path


def write_stein(path: Path, rows: int) -> Path:
    """A file as Stein et al. 2021 released it, with some of its columns."""
    rng = np.random.default_rng(rows)
    with h5py.File(path, "w") as file:
        file["images"] = rng.normal(0, 0.01, (rows, 3, SIDE, SIDE)).astype("f4")
        file["release"] = np.full(rows, 9011, dtype="i2")
        file["brickid"] = np.full(rows, 565022, dtype="i4")
        file["objid"] = np.arange(rows, dtype="i4") + 1254
        file["psfsize"] = np.where(np.arange(rows)[:, None] == 1, 0, rng.uniform(1, 2, (rows, 3))).astype("f4")
        file["ebv"] = rng.uniform(0, 0.1, rows).astype("f4")
        file["z_spec"] = np.where(np.arange(rows) % 2, 0.1, -99).astype("f4")
        file["flux"] = rng.uniform(1, 9, (rows, 3)).astype("f4")
        file["source_type"] = np.array([b"PSF", b"SER", b"DEV"] * rows, dtype="S3")[:rows]
        file["representations"] = np.zeros((rows, 8), dtype="f4")
    return path


def read(paths: list[Path], key: str) -> np.ndarray:
    """What h5py reads of all files, one after another."""
    pieces = []
    for path in paths:
        with h5py.File(path) as file:
            pieces.append(file[key][:])
    return np.concatenate(pieces)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=["webdataset", "zarr"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Dataset]:
    """Convert files in either container and check the result with `verify`."""

    def run(*files: Path, name: str = "out", rows_per_shard: int = 4) -> Dataset:
        config = Hdf5Config(files=files, out=tmp_path / name, container=request.param, rows_per_shard=rows_per_shard)
        dataset = convert(config)
        assert list(verify(dataset.path)) == []
        return dataset

    return run


@pytest.mark.parametrize("storage", STORAGES)
def test_pixels_and_labels_of_several_files_are_those_that_h5py_reads(
    storage: str, make: Callable[..., Dataset], tmp_path: Path
) -> None:
    lengths = (7, 0, 13, 1)
    files = [
        write_hayat(tmp_path / f"{n}.h5", rows, FIRST + 100 * n, **STORAGES[storage]) for n, rows in enumerate(lengths)
    ]
    dataset = make(*files)
    np.testing.assert_array_equal(dataset.images(np.arange(21)), read(files, "images"))
    for name, key in {"objid": "ObjID", "ra": "ra", "dec": "dec", "specz": "specz_redshift"}.items():
        np.testing.assert_array_equal(dataset.column(name), read(files, key))
    np.testing.assert_array_equal(dataset.per_band("extinction"), read(files, "e_bv"))
    assert dataset.samples["specObjID"].to_pylist() == read(files, "specObjID").tolist()
    assert dataset.samples["sky_sigma_r"].null_count == 21  # the frames are not here


def test_e_bv_of_hayat_is_five_extinctions_and_gives_ebv_sfd(make: Callable[..., Dataset], tmp_path: Path) -> None:
    path = write_hayat(tmp_path / "a.h5", 9)
    dataset = make(path)
    # The mean of A / R, which is what A was made of: exact to the rounding of a float64.
    np.testing.assert_allclose(dataset.column("ebv_sfd"), read([path], "e_bv")[:, 0] / R_DR12[0], rtol=1e-12)
    assert "Schlegel" in dataset.manifest.extinction["law"]


def test_columns_of_stein_get_their_meaning(make: Callable[..., Dataset], tmp_path: Path) -> None:
    path = write_stein(tmp_path / "a.h5", 5)
    dataset = make(path)
    assert (dataset.bands, dataset.pixel_scale_arcsec) == (("g", "r", "z"), 0.262)
    # DESI EDR lists this very release, brick and object as TARGETID 39633166985594086.
    assert dataset.samples["objid"].to_pylist() == [39633166985594086 + n for n in range(5)]
    assert dataset.samples["brick_objid"].to_pylist() == [1254 + n for n in range(5)]
    psf = read([path], "psfsize")
    np.testing.assert_array_equal(dataset.per_band("psf_fwhm"), np.where(psf > 0, psf, np.nan))
    np.testing.assert_array_equal(
        dataset.column("specz"), np.where(read([path], "z_spec") > 0, np.float32(0.1), np.nan)
    )
    np.testing.assert_array_equal(dataset.column("ebv_sfd"), read([path], "ebv"))
    np.testing.assert_array_equal(dataset.per_band("flux"), read([path], "flux"))
    assert dataset.samples["source_type"].to_pylist() == ["PSF", "SER", "DEV", "PSF", "SER"]
    assert dataset.manifest.labels[0]["left out"] == "representations"


def test_rows_without_an_identifier_are_numbered_over_all_files(make: Callable[..., Dataset], tmp_path: Path) -> None:
    files = [write_hayat(tmp_path / f"{n}.h5", 3) for n in range(2)]
    for path in files:
        with h5py.File(path, "r+") as file:
            del file["ObjID"]
    dataset = make(*files)
    assert dataset.samples["objid"].to_pylist() == list(range(6))
    assert "number" in dataset.manifest.labels[0]["objid"]


def test_identifiers_may_be_decimal_text(make: Callable[..., Dataset], tmp_path: Path) -> None:
    path = write_hayat(tmp_path / "a.h5", 3)
    with h5py.File(path, "r+") as file:
        del file["ObjID"]
        file["ObjID"] = np.array([str(FIRST + n).encode() for n in range(3)])
    assert make(path).samples["objid"].to_pylist() == [FIRST, FIRST + 1, FIRST + 2]


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2"])
def test_images_of_other_floats_become_float32(dtype: str, make: Callable[..., Dataset], tmp_path: Path) -> None:
    path = write_hayat(tmp_path / "a.h5", 5, dtype=dtype)
    np.testing.assert_array_equal(make(path).images(np.arange(5)), read([path], "images").astype(np.float32))


def test_rows_that_cannot_be_samples_are_counted_rejects(make: Callable[..., Dataset], tmp_path: Path) -> None:
    files = [write_hayat(tmp_path / "a.h5", 10, dtype="<f8"), write_hayat(tmp_path / "b.h5", 4, FIRST + 8, "<f8")]
    with h5py.File(files[0], "r+") as file:
        file["images"][2, 4, -1, -1] = np.nan
        file["images"][3, 0, 0, 0] = 1e300  # beyond float32
        file["images"][4:8] = np.inf  # a whole shard
    dataset = make(*files)
    rejects = pq.read_table(dataset.path / "rejects.parquet")
    assert rejects["input_row"].to_pylist() == [2, 3, 4, 5, 6, 7, 10, 11]  # rows 10, 11 have the identifiers of 8, 9
    assert rejects["reason"].to_pylist() == [NOT_FINITE] * 6 + [REPEATED] * 2
    kept = [0, 1, 8, 9, 12, 13]
    np.testing.assert_array_equal(dataset.images(np.arange(6)), read(files, "images")[kept].astype(np.float32))
    assert dataset.samples["objid"].to_pylist() == read(files, "ObjID")[kept].tolist()
    assert dataset.manifest.counts == {"catalogue_rows": 14, "objects": 14, "samples": 6, "rejects": 8}


def test_a_slot_of_zarr_is_the_number_of_the_input_row(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    path = write_hayat(tmp_path / "a.h5", 6)
    with h5py.File(path, "r+") as file:
        file["images"][1] = np.nan
    dataset = convert(Hdf5Config(files=(path,), out=tmp_path / "out", container="zarr", rows_per_shard=4))
    group = zarr.open_group(dataset.path / "images.zarr", mode="r")
    assert group["valid"][:].tolist() == [True, False, True, True, True, True, False, False]
    assert dataset.samples["row"].to_pylist() == [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(group["images"][:6], read([path], "images"))  # the empty slot is NaN


@pytest.mark.parametrize("slab_bytes", [1, 20_000])
def test_bytes_do_not_depend_on_slabs_nor_on_the_files_storage_and_hold_no_path(
    slab_bytes: int, make: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = contents(make(write_hayat(tmp_path / "a.h5", 11)).path)
    monkeypatch.setattr(hdf5_files, "SLAB_BYTES", slab_bytes)
    other = write_hayat(tmp_path / "secret.h5", 11, chunks=(6, 2, 5, 7))
    second = contents(make(other, name="second").path)
    first.pop("dataset.json"), second.pop("dataset.json")  # the size of the input is in it
    assert first == second
    for content in contents(tmp_path / "second").values():
        assert b"secret" not in content
        assert str(tmp_path).encode() not in content


def test_a_second_run_writes_the_same_bytes(make: Callable[..., Dataset], tmp_path: Path) -> None:
    path = write_hayat(tmp_path / "a.h5", 11)
    assert contents(make(path, name="one").path) == contents(make(path, name="two").path)


def _replace(key: str, values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[key]
            if values is not None:
                file[key] = values

    return change


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _damage_chunk(path: Path) -> None:
    write_hayat(path, 6, chunks=(2, 5, SIDE, SIDE), compression="gzip", fletcher32=True)
    with h5py.File(path) as file:
        offset = file["images"].id.get_chunk_info(1).byte_offset
    content = bytearray(path.read_bytes())
    content[offset + 100] ^= 1
    path.write_bytes(bytes(content))


MUTATIONS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "there is no such file": (Path.unlink, "there is no such file"),
    "empty file": (lambda path: path.write_bytes(b""), "not a whole HDF5 file"),
    "not HDF5": (lambda path: path.write_text("objid,ra,dec\n" * 99), "not a whole HDF5 file"),
    "truncated": (_truncate, "not a whole HDF5 file"),
    "damaged chunk": (_damage_chunk, "not a whole HDF5 file"),
    "no images": (_replace("images", None), "expected a dataset images, got the keys"),
    "no rows": (lambda path: write_hayat(path, 0), "expected rows, got none"),
    "bands last": (_replace("images", np.zeros((6, SIDE, SIDE, 5), "f4")), "expected images of shape"),
    "one band": (_replace("images", np.zeros((6, SIDE, SIDE), "f4")), "expected images of shape"),
    "integers": (_replace("images", np.zeros((6, 5, SIDE, SIDE), "u1")), "expected floats"),
    "all NaN": (_replace("images", np.full((6, 5, SIDE, SIDE), np.nan, "f4")), "no row can become a sample"),
    "short label": (_replace("ra", np.zeros(5)), "ra: expected 6 rows, as images has, got 5"),
    "short identifiers": (_replace("ObjID", np.arange(5)), "ObjID: expected 6 rows"),
    "rounded identifiers": (_replace("ObjID", np.arange(6.0)), "expected integers, got float64"),
    "identifiers that are names": (_replace("ObjID", np.array([b"M31"] * 6)), "expected identifiers of 64 bits"),
    "identifiers beyond int64": (_replace("ObjID", np.full(6, 2**63, "u8")), "does not fit into int64"),
    "one extinction": (_replace("e_bv", np.zeros(6)), "e_bv: expected shape"),
    "no law of extinction": (_replace("e_bv", np.full((6, 5), 0.1)), "A_g / A_r is 1.000"),
    "a label that is ours": (
        lambda path: h5py.File(path, "r+").create_dataset("crc32c", data=np.arange(6)),
        "two columns",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_cannot_be_read_is_one_line_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    path = write_hayat(tmp_path / "a.h5", 6)
    change, message = MUTATIONS[name]
    opened = change(path)
    if isinstance(opened, h5py.Dataset):
        opened.file.close()
    with pytest.raises(IngestError, match=message) as caught:
        convert(Hdf5Config(files=(path,), out=tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: write_stein(path, 3), "expected Hayat et al. 2021"),
        (_replace("ra", None), "ra is missing or differs"),
        (_replace("ra", np.zeros(6, "f4")), "ra is missing or differs"),
        (_replace("ObjID", None), "ObjID is missing or differs"),
    ],
)
def test_files_that_are_unlike_are_refused(change: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    files = (write_hayat(tmp_path / "a.h5", 6), write_hayat(tmp_path / "b.h5", 6, FIRST + 50))
    change(files[1])
    with pytest.raises(IngestError, match=message) as caught:
        convert(Hdf5Config(files=files, out=tmp_path / "out"))
    assert str(files[1]) in str(caught.value)


def test_a_folder_in_the_way_is_never_removed_unless_a_killed_run_left_it(tmp_path: Path) -> None:
    path = write_hayat(tmp_path / "a.h5", 3)
    config = Hdf5Config(files=(path,), out=tmp_path / "out")
    partial = tmp_path / "out.partial"
    (partial / "pieces").mkdir(parents=True)  # of an unfinished `ingest run`
    with pytest.raises(IngestError, match="in the way"):
        convert(config)
    (partial / "pieces").rename(partial / "shards")
    (partial / "samples.parquet.0123456789abcdef.partial").write_bytes(b"half")
    assert len(convert(config)) == 3
    with pytest.raises(IngestError, match="already there"):
        Hdf5Config(files=(path,), out=tmp_path / "out")


def test_memory_is_bounded_by_the_slab_not_by_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, side = 3000, 64
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:  # 246 MB of images that compress well
        shape, chunks = (rows, 5, side, side), (16, 5, side, side)
        file.create_dataset("images", shape, "f4", chunks=chunks, compression="gzip", fillvalue=0.5)
    slab = 4_000_000
    monkeypatch.setattr(hdf5_files, "SLAB_BYTES", slab)
    (tmp_path / "out").mkdir()
    tracemalloc.start()
    try:
        convert(Hdf5Config(files=(path,), out=tmp_path / "out", rows_per_shard=500))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A slab, its copy in bytes where it is encoded, which images are finite (a quarter of a slab), labels, imports.
    assert peak < 8 * slab < path.stat().st_size + rows * 5 * side**2 * 4 / 7


@pytest.mark.parametrize(
    ("chunks", "rows"),
    [(None, 139), ((1, 5, 107, 107), 139), ((20, 5, 107, 107), 120), ((500, 1, 107, 107), 500), ((5000, 5, 1, 1), 139)],
)
def test_a_slab_is_of_whole_chunks_as_far_as_memory_allows(chunks: tuple[int, ...] | None, rows: int) -> None:
    # 32 MB hold 139 images of 228,980 bytes; 500 are 114 MB, below the largest slab, and 5000 are above it.
    assert slab_rows((10_000, 5, 107, 107), 4, chunks) == rows


def test_the_command_says_what_it_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_hdf5(parser)
    path, out = write_hayat(tmp_path / "a.h5", 5), tmp_path / "out"
    args = parser.parse_args([str(path), "--out", str(out), "--format", "zarr", "--samples-per-shard", "2"])
    assert args.command(args) == 0
    assert "5 samples, 0 rejects of 5 rows" in capsys.readouterr().out
    assert Dataset.open(out).manifest.slots_per_shard == 2
