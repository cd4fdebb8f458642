"""Kill ingest jobs at random moments and see that the dataset does not care.

    python tests/system/chaos.py --kills 60 --seed 0

Each kill is a job of its own: its driver dies and the same command is given again; or one of its Ray workers dies; or
a node of the cluster that it runs on dies, and another one comes. Then the dataset must be, byte for byte, what one
undisturbed process makes without Ray, with no other file beside it and no process left. Exit status 1 where not.
"""

import argparse
import itertools
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jobs
from two_nodes import TwoNodes

KINDS = ("driver", "worker", "node")
FORMATS = ("webdataset", "zarr")
_POLL_S = 0.005
_TRIES = 5  # a moment may come too late, when the job is done


@dataclass(frozen=True)
class Pace:
    """How an undisturbed job goes."""

    strips: int
    start_s: float  # from its work folder to its first strip
    strip_s: float
    end_s: float  # from its last strip to the end of its work folder


@dataclass(frozen=True)
class Moment:
    """So long after so many strips are cut. Counted by strips: they come at any pace on a busy machine."""

    strips: int
    delay_s: float

    def __str__(self) -> str:
        return f"{self.delay_s:.2f} s after strip {self.strips}"


@dataclass(frozen=True)
class Kill:
    """What one kill came to."""

    kind: str
    format: str
    moment: Moment
    seconds: float
    faults: tuple[str, ...]

    def __str__(self) -> str:
        told = "; ".join(self.faults) or "same bytes"
        return f"{self.kind:7s} {self.format:10s} {self.moment}, {self.seconds:.1f} s: {told}"


def draw_moment(rng: random.Random, pace: Pace) -> Moment:
    """A fifth while Ray starts, a fifth in the last joins and tables, the rest while strips are cut."""
    where = rng.random()
    if where < 0.2:
        return Moment(0, rng.uniform(0, pace.start_s))
    if where < 0.4:
        return Moment(pace.strips, rng.uniform(0, pace.end_s))
    return Moment(rng.randrange(1, pace.strips), rng.uniform(0, 2 * pace.strip_s))


def measure_pace(job: jobs.Job) -> Pace:
    """Run a job undisturbed and watch it."""
    process = job.start()
    times: dict[int, float] = {}
    while process.poll() is None:
        if job.partial.exists():
            times.setdefault(job.strips_cut(), time.monotonic())
            last = time.monotonic()
        time.sleep(_POLL_S)
    done = jobs.finished(process)
    if done.returncode or len(times) < 3:
        raise RuntimeError(f"the undisturbed job failed: {done.stderr}")
    strips, begun, first = max(times), min(times.values()), sorted(times.values())[1]
    return Pace(strips, first - begun, (times[strips] - first) / (strips - 1), last - times[strips])


def reached(job: jobs.Job, process: subprocess.Popen[str], moment: Moment) -> bool:
    """Wait for a moment; False where the job is done before."""
    while not (job.partial.exists() and job.strips_cut() >= moment.strips):
        if process.poll() is not None:
            return False
        time.sleep(_POLL_S)
    time.sleep(moment.delay_s)
    return process.poll() is None


def kill_driver(job: jobs.Job, moment: Moment) -> list[str] | None:
    """The driver dies, and at once the same command is given again. None where it was done before the moment."""
    process = job.start()
    if not reached(job, process, moment):
        jobs.finished(process)
        return None
    process.kill()
    process.wait()
    faults = _failure(job.start())
    return faults + _failure(process, expected=-9)


def kill_worker(job: jobs.Job, moment: Moment, rng: random.Random) -> list[str] | None:
    """A worker process of the job dies, at work or idle; the job must go on by itself."""
    process = job.start()
    workers: list[int] = []
    if reached(job, process, moment):
        while not workers and process.poll() is None:
            found = jobs.session(process.pid)
            workers = [pid for pid, name in found.items() if name.startswith(("ray::_attempt", "ray::IDLE"))]
    if workers:
        jobs.kill([rng.choice(workers)])
    faults = _failure(process)
    return faults if workers else None


def kill_node(job: jobs.Job, moment: Moment, cluster: TwoNodes) -> list[str] | None:
    """A node dies with all it runs, and another one comes; the job must go on by itself."""
    options = ("--address", cluster.address, "--workers", "2")
    job = replace(job, options=options, environment=cluster.environment | {"RAY_AUTH_MODE": "token"})
    process = job.start()
    alive = reached(job, process, moment)
    if alive:
        cluster.replace_node()
    faults = _failure(process)
    return faults if alive else None


def _failure(process: subprocess.Popen[str], expected: int = 0) -> list[str]:
    """Wait for a job, and for every process of its session."""
    try:
        done = jobs.finished(process)
    except subprocess.TimeoutExpired:
        return ["it did not end"]
    faults = [] if done.returncode == expected else [f"exit status {done.returncode}: {done.stderr[-500:]}"]
    return faults + jobs.left_over(process.pid)


def difference(job: jobs.Job, reference: dict[str, str]) -> list[str]:
    """How what lies on disk differs from what must: the dataset, and nothing beside it."""
    found = jobs.content(job.out)
    names = sorted(found.items() ^ reference.items())
    faults = [f"{job.out.name}/{name}" for name in dict.fromkeys(name for name, _ in names)]
    return faults + [f"stray: {path.name}" for path in job.out.parent.iterdir() if path != job.out]


class Chaos:
    """A campaign: its survey, what must come of it, and the kills."""

    def __init__(self, folder: Path, survey: jobs.Survey, seed: int) -> None:
        self._folder, self._seed, self._survey = folder, seed, survey
        self._references = jobs.references(survey)
        undisturbed = jobs.Job(survey=survey, out=folder / "undisturbed/out")
        undisturbed.out.parent.mkdir()
        self.pace = measure_pace(undisturbed)
        if faults := difference(undisturbed, self._references["webdataset"]):
            raise RuntimeError(f"with Ray and undisturbed: {faults}")
        self._cluster: TwoNodes | None = None

    def kill(self, number: int) -> Kill:
        """The kill of this number: same seed, same kind and moment."""
        kind, container = KINDS[number % len(KINDS)], FORMATS[number % len(FORMATS)]
        rng = random.Random(f"{self._seed} {number}")
        job = jobs.Job(survey=self._survey, out=self._folder / f"kill-{number}/out", format=container)
        for _ in range(_TRIES):
            shutil.rmtree(job.out.parent, ignore_errors=True)
            job.out.parent.mkdir()
            moment, began = draw_moment(rng, self.pace), time.monotonic()
            faults = self._act(kind, job, moment, rng)
            if faults is not None:
                break
        else:
            faults = [f"{_TRIES} jobs were done before their moment"]
        faults += difference(job, self._references[container])
        if not faults:
            shutil.rmtree(job.out.parent)
        return Kill(kind, container, moment, time.monotonic() - began, tuple(faults))

    def _act(self, kind: str, job: jobs.Job, moment: Moment, rng: random.Random) -> list[str] | None:
        if kind == "driver":
            return kill_driver(job, moment)
        if kind == "worker":
            return kill_worker(job, moment, rng)
        self._cluster = self._cluster or TwoNodes("--num-cpus=1")  # one that goes on while the other is lost
        return kill_node(job, moment, self._cluster)

    def end(self) -> list[str]:
        """End the cluster; what is left of it."""
        return self._cluster.end() if self._cluster else []


def main() -> int:
    """Kill, tell, and say whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60, help="how many (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same moments (default: 0)")
    parser.add_argument("--survey", type=Path, help="a survey that `jobs.write_survey` made (default: make it)")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="skymill-chaos-"))
    chaos = Chaos(folder, jobs.Survey(args.survey) if args.survey else jobs.write_survey(folder / "survey"), args.seed)
    pace = chaos.pace
    print(
        f"seed {args.seed}; undisturbed {pace.start_s + pace.strips * pace.strip_s + pace.end_s:.1f} s, of which "
        f"{pace.start_s:.1f} s to the first of {pace.strips} strips, {pace.end_s:.1f} s after the last",
        flush=True,
    )
    kills = []
    try:
        for number in range(args.kills):
            kills.append(chaos.kill(number))
            print(f"kill {number:3d}  {kills[-1]}", flush=True)
    finally:
        left = chaos.end()
    print("\n".join([*left, *summary(kills)]))
    if left or any(kill.faults for kill in kills):
        print(f"see {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def summary(kills: Sequence[Kill]) -> list[str]:
    """A table of what the kills came to."""
    lines = [f"{'killed':8s}{'container':12s}{'kills':>6s}{'differ':>8s}{'median s':>10s}"]
    for kind, container in itertools.product(KINDS, FORMATS):
        some = [kill for kill in kills if (kill.kind, kill.format) == (kind, container)]
        if some:
            differ = sum(bool(kill.faults) for kill in some)
            seconds = statistics.median(kill.seconds for kill in some)
            lines.append(f"{kind:8s}{container:12s}{len(some):6d}{differ:8d}{seconds:10.1f}")
    return [*lines, f"{'all':20s}{len(kills):6d}{sum(bool(kill.faults) for kill in kills):8d}"]


if __name__ == "__main__":
    sys.exit(main())
