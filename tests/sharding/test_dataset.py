"""Columns, splits and the summary of a dataset; what depends on the container is in test_containers.py."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sharding import Dataset, DatasetError, splits
from sharding.__main__ import main


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


def test_a_reader_that_has_enough_is_no_fault(zarr_path: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-u", "-m", "sharding", "info", str(zarr_path)]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_info_says_what_is_in_a_dataset(zarr_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(zarr_path)]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "9 samples, 9 rejects",
        "zarr, 2 shards of 6 slots",
        "frames 2, bytes 3000",
        "- 2: petroMag_r < 17.8",
        "- table zoo.csv, matched 7",
        "percentiles 1, 16, 50, 84, 99",
        "sky_sigma: as the catalogue gives it\n",
        "  r: 0.5 0.75 1 1.25 2\n",
    ):
        assert expected in printed


def test_no_dataset_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_dataset_is_read_without_what_a_training_node_lacks(zarr_path: Path) -> None:
    code = (
        "import sys; from sharding import Dataset, verify; from pathlib import Path; path = Path(sys.argv[1]);"
        "assert len(Dataset.open(path).images([0])) == 1; assert list(verify(path)) == [];"
        "print([name for name in ('zarr', 'webdataset', 'ray', 'torch', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(zarr_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
