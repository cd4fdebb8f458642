"""A disk that fills up stops a job with one line; when there is room again, the same command completes.

The disk is a small one in memory, mounted where only a process that holds it sees it: it goes with that process.
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jobs
import pytest

DISK_BYTES = 96 * 2**20  # the dataset takes 28 MB, and while a shard is joined 4 more
_HOLD = 'mount -t tmpfs -o size={size} skymill "$1" && echo mounted && exec cat'


@dataclass(frozen=True)
class SmallDisk:
    """A folder with little room."""

    folder: Path

    @property
    def filler(self) -> Path:
        """The file that takes the room away."""
        return self.folder / "filler"

    def fill(self, room_bytes: int) -> None:
        """Leave only so much."""
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_bsize
        with self.filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - room_bytes)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of `DISK_BYTES`; skips where no user may mount."""
    hold = _HOLD.format(size=DISK_BYTES)
    told = ""
    for options in (["--mount"], ["--mount", "--map-root-user"]):
        command = ["unshare", *options, "sh", "-c", hold, "sh", str(tmp_path)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as holder:
            if holder.stdout is not None and holder.stdout.readline() == "mounted\n":
                yield SmallDisk(Path(f"/proc/{holder.pid}/root{tmp_path}"))
                holder.communicate()
                return
            told = holder.communicate()[1].strip()
    pytest.skip(f"a small disk cannot be mounted here: {told}")


def _stopped_by_the_disk(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if " fields, " not in line]  # all but the progress
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("ingest: error: ")
    assert "No space left on device" in errors[0]


def _completes(job: jobs.Job, reference: dict[str, str]) -> None:
    done = job.run(("-c", jobs.WITHOUT_RAY + jobs.WITHOUT_RAY_END))  # sooner there
    assert done.returncode == 0, done.stderr
    assert jobs.content(job.out) == reference
    assert [path.name for path in job.out.parent.iterdir()] == ["out"]


def test_a_disk_that_fills_up_while_strips_are_cut(
    survey: jobs.Survey, reference: dict[str, dict[str, str]], disk: SmallDisk
) -> None:
    job = jobs.Job(survey=survey, out=disk.folder / "out", format="zarr")
    disk.fill(room_bytes=12 * 2**20)  # a third of the dataset
    _stopped_by_the_disk(job.run())
    assert job.strips_cut() > 0
    disk.filler.unlink()
    _completes(job, reference["zarr"])


_FULL_AT_THE_END = """
from pathlib import Path
cut = ingest.job.publish
def publish(*arguments):
    filler = Path(sys.argv[sys.argv.index("--out") + 1]).with_name("filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    cut(*arguments)
ingest.job.publish = publish
"""


def test_a_disk_that_is_full_when_all_is_cut(
    survey: jobs.Survey, reference: dict[str, dict[str, str]], disk: SmallDisk
) -> None:
    job = jobs.Job(survey=survey, out=disk.folder / "out")
    _stopped_by_the_disk(job.run(("-c", jobs.WITHOUT_RAY + _FULL_AT_THE_END + jobs.WITHOUT_RAY_END)))
    assert not job.out.exists()
    disk.filler.unlink()
    _completes(job, reference["webdataset"])
