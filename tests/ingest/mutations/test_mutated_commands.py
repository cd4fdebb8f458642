"""The same through the command line and Ray: what a user sees, and that jobs without Ray are no other ones."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ingest", "run", "--workers", "1", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def _damaged(survey: Any, folder: Path) -> Path:
    frames = survey.copy(folder)
    bands = [survey.packed[1, 12, band] for band in "ri"]
    for key, content in {
        (0, 11, "g"): survey.packed[0, 11, "g"][:9000],
        (1, 12, "i"): bands[0],
        (1, 12, "r"): bands[1],
        (2, 10, "z"): b"<!DOCTYPE html>\n",
        (3, 13, "u"): b"",
    }.items():
        path = frames / survey.name(*key)
        path.unlink()
        path.write_bytes(content)
    return frames


def _one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("ingest: error: ")]
    assert len(errors) == 1
    assert done.stderr.rstrip().endswith(errors[0])
    assert "Traceback" not in done.stderr
    return errors[0]


def test_with_reject_the_command_makes_the_same_dataset_and_counts_the_rejects(survey: Any, tmp_path: Path) -> None:
    frames, catalog = _damaged(survey, tmp_path / "frames"), tmp_path / "catalog.parquet"
    rows = survey.table.to_pylist()
    rows[30] |= {"dec": 95.0}
    rows[37] |= {"objid": rows[36]["objid"]}
    rows[44] |= {"ra": rows[44]["ra"] + 1}
    pq.write_table(pa.Table.from_pylist(rows), catalog)
    arguments = ("--catalog", catalog, "--frames", frames, "--samples-per-shard", "25", "--on-error", "reject")
    done = _run(*arguments, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    inline = survey.ingest(tmp_path / "inline", on_error="reject", frames=frames, catalog=catalog)
    assert survey.content(tmp_path / "out") == survey.content(inline)
    found = survey.outcome(tmp_path / "out")
    assert f"{len(found.samples)} samples, {len(found.rejects)} rejects of {len(rows)} objects" in done.stdout
    reasons = {row["reason"] for row in found.rejects}
    assert {"ra or dec is not a position", "objid repeated", "outside the frames of its field"} <= reasons
    assert f"{survey.name(0, 11, 'g')}: not a whole bzip2 file" in reasons


def test_with_stop_the_command_says_one_line(survey: Any, tmp_path: Path) -> None:
    frames = _damaged(survey, tmp_path / "frames")
    done = _run("--catalog", survey.catalog, "--frames", frames, "--out", tmp_path / "out")
    assert str(frames / "frame-") in _one_line(done)
    assert not (tmp_path / "out").exists()


def test_a_page_in_place_of_the_catalogue_is_one_line(survey: Any, tmp_path: Path) -> None:
    (tmp_path / "catalog.csv").write_text(
        "<!DOCTYPE html>\n<html><body>\n<h1>504 Gateway Timeout</h1>\n</body></html>\n"
    )
    done = _run("--catalog", tmp_path / "catalog.csv", "--frames", survey.folder / "frames", "--out", tmp_path / "out")
    assert str(tmp_path / "catalog.csv") in _one_line(done)
