"""Files appear whole or not at all, and the same batches give the same bytes."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharding import atomic_file
from sharding.writer import write_batches


def batches() -> list[pa.Table]:
    """Two batches of unequal length."""
    return [pa.table({"a": np.arange(n), "b": [f"word {i}" for i in range(n)]}) for n in (5, 3)]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def write_half() -> None:
        with atomic_file(tmp_path / "file") as file:
            file.write(b"half")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_a_link_s_target_is_written_and_a_pipe_is_left_alone(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to("target")
    with atomic_file(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="expected a file, or none yet"), atomic_file(pipe):
        pass
    assert pipe.is_fifo()


def test_a_partial_file_lies_in_scratch_and_its_name_is_its_own(tmp_path: Path) -> None:
    scratch, target = tmp_path / "scratch", tmp_path / "target"
    scratch.mkdir()
    target.mkdir()
    with atomic_file(target / "file", scratch) as first, atomic_file(target / "file", scratch) as second:
        first.write(b"first")
        second.write(b"second")
        assert list(target.iterdir()) == []
        assert len(list(scratch.iterdir())) == 2
    assert (target / "file").read_bytes() == b"first"  # the block that ends last
    assert list(scratch.iterdir()) == []


def test_each_batch_is_a_row_group(tmp_path: Path) -> None:
    write_batches(tmp_path / "t.parquet", iter(batches()))
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [5, 3]
    assert file.read().equals(pa.concat_tables(batches()))
    file.close()


def test_the_bytes_do_not_depend_on_how_the_batches_came_to_be(tmp_path: Path) -> None:
    noted = [batch.replace_schema_metadata({"made": "on a Tuesday"}) for batch in batches()]
    chunked = [pa.concat_tables([batch[:2], batch[2:]]) for batch in batches()]
    written = []
    for number, tables in enumerate((batches(), noted, chunked)):
        write_batches(tmp_path / f"{number}.parquet", tables)
        written.append((tmp_path / f"{number}.parquet").read_bytes())
    assert written[0] == written[1] == written[2]


def test_an_empty_batch_gives_an_empty_table(tmp_path: Path) -> None:
    write_batches(tmp_path / "t.parquet", [batches()[0][:0]])
    table = pq.read_table(tmp_path / "t.parquet")
    assert (table.num_rows, table.column_names) == (0, ["a", "b"])


def test_without_a_batch_there_is_no_schema_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no batch, so no schema"):
        write_batches(tmp_path / "t.parquet", [])
    assert list(tmp_path.iterdir()) == []


def test_batches_of_another_schema_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="schema"):
        write_batches(tmp_path / "t.parquet", [batches()[0], pa.table({"c": [1]})])
    assert list(tmp_path.iterdir()) == []
