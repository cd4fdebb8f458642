"""A study's jobs as processes: their order and devices, what is skipped, how they are stopped, and that none is left.

The programs are lines of Python, `words` of which the first is the code, in place of `python -m trainer`.
"""

import io
import json
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from trainer.errors import TrainerError
from trainer.signals import Preempted
from trainer.study import process
from trainer.study.devices import Device, devices
from trainer.study.held import Held
from trainer.study.progress import Tally, spoken
from trainer.study.scheduler import Job, Scheduler

TIMEOUT_S = 30

# Appends a line to the file argv[1]; waits for a file, but not longer than a test that has failed would need.
SAY = """
import os, sys, time
def say(text):
    open(sys.argv[1], "a").write(text + "\\n")
def wait(path, until=time.monotonic() + 60):
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.01)
"""
# Says ready; at SIGTERM says saved and ends as a run of the trainer does.
SAVING = (
    SAY
    + """
import signal
def save(*_):
    say("saved")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
say("ready")
time.sleep(60)
"""
)


@pytest.fixture(autouse=True)
def any_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-I", "-S", "-c"))


class Study:
    """A folder, jobs in it, and what the study and its jobs say."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said, self.output = folder, folder / "said", io.StringIO()

    def job(self, name: str, code: str, *words: str, **how: Any) -> Job:
        """Its words: the code, the file to say something in, and others."""
        return Job(name=name, words=(code, str(self.said), *words), folder=self.folder / "runs" / name, **how)

    @contextmanager
    def scheduler(self, *given: Device, terminal: bool = False) -> Iterator[Scheduler]:
        """A new start, on the devices or on one core."""
        console = Console(file=self.output, force_terminal=terminal, width=100)
        with Held(self.folder) as held, Scheduler(given or [Device(0)], console, held=held) as scheduler:
            yield scheduler

    def carry_out(self, *jobs: Job, on: tuple[Device, ...] = ()) -> None:
        """In one start."""
        with self.scheduler(*on) as scheduler:
            scheduler.carry_out(jobs)

    def lines(self) -> list[str]:
        """What the jobs have said."""
        return self.said.read_text().splitlines() if self.said.exists() else []


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "study")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def meanwhile(act: Callable[[], None]) -> threading.Thread:
    """Act beside the scheduler, which needs the main thread."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_long_jobs_come_first_and_equal_ones_in_their_order(study: Study) -> None:
    weights = {"a": 1.0, "b": 3.0, "c": 2.0, "d": 2.0}
    study.carry_out(*(study.job(name, SAY + f"say('{name}')", weight=weight) for name, weight in weights.items()))
    assert study.lines() == ["b", "c", "d", "a"]


def test_each_process_sees_the_devices_that_are_its_own(study: Study) -> None:
    code = SAY + "open(sys.argv[2], 'w')\nwait(sys.argv[3])\nsay(os.environ['CUDA_VISIBLE_DEVICES'])"
    marks = [str(study.folder / "one"), str(study.folder / "other")]
    jobs = [study.job("one", code, *marks), study.job("other", code, *reversed(marks))]
    study.carry_out(*jobs, on=(Device(0, "GPU-8a56"), Device(1, "3")))
    assert sorted(study.lines()) == ["3", "GPU-8a56"]


TORCHRUN = """
import os, sys
words = sys.argv[1:]
assert words[words.index("--nproc-per-node") + 1] == "2"
program = words[words.index("--no-python") + 1 :]
os.execv(program[0], program)
"""


def test_a_job_on_several_ranks_waits_for_as_many_devices(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TORCHRUN", (sys.executable, "-I", "-S", "-c", TORCHRUN))
    code = SAY + "say('begin ' + sys.argv[2]); time.sleep(0.2); say('end ' + os.environ['CUDA_VISIBLE_DEVICES'])"
    alone = study.job("alone", code, "alone", weight=9.0)
    pair = study.job("pair", code, "pair", ranks=2, weight=10.0)
    last = study.job("last", code, "last", weight=1.0)
    study.carry_out(last, pair, alone, on=(Device(0, "4"), Device(1, "7")))
    assert study.lines() == ["begin alone", "end 4", "begin pair", "end 4,7", "begin last", "end 4"]


def test_more_ranks_than_devices_are_refused(study: Study) -> None:
    with pytest.raises(TrainerError, match="pair: expected 2 devices, got 1"):
        study.carry_out(study.job("alone", SAY + "say('started')"), study.job("pair", "", ranks=2))
    assert not study.lines()


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [
        (None, 2, ["0", "1"]),
        ("5,2", 2, ["5", "2"]),
        ("GPU-8a56, GPU-11c0", 2, ["GPU-8a56", "GPU-11c0"]),
        ("1,-1,0", 1, ["1"]),  # CUDA sees none after a bad one
    ],
)
def test_gpus_are_called_as_the_environment_calls_them(
    visible: str | None, count: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices() == [Device(number, name) for number, name in enumerate(names)]


def test_without_a_gpu_each_core_is_a_device_for_one_thread(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 6})
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert devices() == [Device(0), Device(1), Device(2)]
    study.carry_out(study.job("job", SAY + "say(os.environ['OMP_NUM_THREADS'])"))
    assert study.lines() == ["1"]


def test_what_is_done_is_not_started_again(study: Study) -> None:
    first, second = (study.job(name, SAY + "say(sys.argv[2])", name) for name in ("first", "second"))
    study.carry_out(first)
    held = json.loads((first.folder / "job.json").read_text())
    assert held == {"words": list(first.words), "origin": [], "ended": "well", "ranks": 1}
    study.carry_out(first, second)
    assert study.lines() == ["first", "second"]
    assert "done before: 1 of 2 jobs\n" in study.output.getvalue()


def test_a_folder_that_is_done_with_other_settings_is_refused(study: Study) -> None:
    code = SAY + "say('started')"
    study.carry_out(study.job("job", code, "--lr", "0.1", "--seed", "0"))
    study.carry_out(study.job("job", code, "--seed", "0", "--lr", "0.1"))
    changed = study.job("job", code, "--lr", "0.2", "--seed", "0", "--freeze")
    told = (
        r"runs/job: expected to be done with --lr 0\.2, --freeze, was done with --lr 0\.1; choose another --out or rem"
    )
    with pytest.raises(TrainerError, match=told):
        study.carry_out(study.job("new", code), changed)
    (changed.folder / "job.json").write_text("{")
    with pytest.raises(TrainerError, match=r"job\.json: damaged .* remove the folder"):
        study.carry_out(study.job("new", code), changed)
    assert study.lines() == ["started"]


def test_what_is_called_by_another_path_is_the_same(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    study.carry_out(study.job("job", SAY + "say(sys.argv[-1])", places=("--data", "survey")))
    study.carry_out(study.job("job", SAY + "say(sys.argv[-1])", places=("--data", "../there/survey")))
    assert study.lines() == ["survey"]


@pytest.mark.parametrize("ends", ["", "sys.exit(75)"])
def test_what_was_made_from_something_else_is_cleared_away_and_done_again(study: Study, ends: str) -> None:
    """Whether it had ended or not: a training would go on from what it has learnt with another encoder."""
    code = SAY + f"say(sys.argv[2])\nopen(sys.argv[3], 'a').write(sys.argv[2])\n{ends}"

    def start(encoder: str) -> None:
        made = str(study.folder / "runs/job/made")
        with suppress(Preempted):
            study.carry_out(study.job("job", code, places=(encoder, made), origin=("dataset 1", f"encoder {encoder}")))

    start("a")
    start("b")
    assert study.lines() == ["a", "b"]
    assert (study.folder / "runs/job/made").read_text() == "b"


def test_a_training_may_diverge_where_that_is_an_answer(study: Study) -> None:
    fails = (
        SAY
        + "say(sys.argv[2])\nprint('trainer: error: step 3: got loss nan: lower --lr', file=sys.stderr)\nsys.exit(2)"
    )
    strict, lenient = (study.job(name, fails, name, may_diverge=name == "lenient") for name in ("strict", "lenient"))
    other = study.job("other", fails.replace("lower --lr", "no space left"), "other", may_diverge=True)
    study.carry_out(lenient)
    study.carry_out(lenient)
    assert lenient.diverged
    assert "lenient: has diverged\n" in study.output.getvalue()
    for job in (strict, other):
        with pytest.raises(TrainerError, match=f"{job.name}: ended with status 2: step 3"):
            study.carry_out(job)
    assert study.lines() == ["lenient", "strict", "other"]


def test_each_job_is_told_of_as_it_ends(study: Study) -> None:
    """And not when all have, which a signal may keep from happening; those done before are told of again."""
    one, other = (
        study.job(name, SAY + f"say('{name}')", weight=weight) for name, weight in (("one", 2.0), ("other", 1.0))
    )
    told: list[list[str]] = []
    for _ in range(2):
        with study.scheduler() as scheduler:
            scheduler.carry_out([one, other], lambda job: told.append([job.name, *study.lines()]))
    assert told[0] == ["one", "one"]
    assert [each[0] for each in told[:2]] == ["one", "other"]
    assert sorted(each[0] for each in told[2:]) == ["one", "other"]


def test_a_study_that_is_a_file_is_refused(study: Study) -> None:
    study.folder.touch()
    for folder in (study.folder, study.folder / "within"):
        with pytest.raises(TrainerError, match=r"expected a folder for the study, got a file .*choose another --out"):
            Held(folder).__enter__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_lets_all_save_and_the_next_start_goes_on(study: Study, number: signal.Signals) -> None:
    def act() -> None:
        until(lambda: study.lines() == ["ready", "ready"])
        send(number)

    acting = meanwhile(act)
    saving = [study.job(name, SAVING, weight=2.0) for name in ("one", "other")]
    last = study.job("last", SAY + "say('last')")
    with pytest.raises(Preempted, match=rf"study: stopped by {number.name}; start it again to go on"):
        study.carry_out(*saving, last, on=(Device(0), Device(1)))
    acting.join()
    assert study.lines() == ["ready", "ready", "saved", "saved"]
    study.carry_out(last)
    assert study.lines()[-1] == "last"


def test_a_second_ctrl_c_kills_what_does_not_end_and_what_it_has_started(study: Study) -> None:
    stubborn = SAY + (
        "import signal, subprocess\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(60)'])\n"
        "say(f'{os.getpid()} {child.pid}')\ntime.sleep(60)"
    )

    def act() -> None:
        until(lambda: bool(study.lines()))
        send(signal.SIGINT)
        until(lambda: "a second Ctrl-C kills them" in study.output.getvalue())
        send(signal.SIGINT)

    acting = meanwhile(act)
    with pytest.raises(Preempted):
        study.carry_out(study.job("job", stubborn))
    acting.join()
    for pid in study.lines()[0].split():
        until(lambda pid=pid: gone(int(pid)))


@pytest.mark.parametrize(
    "code", ["sys.exit(75)", "os.kill(os.getpid(), 15); time.sleep(60)", "open(sys.argv[2], 'w'); sys.exit(1)"]
)
def test_a_job_that_a_signal_has_reached_stops_the_study(study: Study, code: str) -> None:
    """Slurm signals all processes of a step. The last one is torchrun's way: its status is 1, RUN/requeue is there."""
    job = study.job("job", "import os, sys, time\n" + code, str(study.folder / "runs/job/requeue"))
    with pytest.raises(Preempted, match="stopped by a signal to job"):
        study.carry_out(job)
    assert not job.done


def test_an_old_request_to_start_again_does_not_hide_a_failure(study: Study) -> None:
    job = study.job("job", "import sys; sys.exit(1)")
    job.folder.mkdir(parents=True)
    (job.folder / "requeue").touch()
    with pytest.raises(TrainerError, match="job: ended with status 1"):
        study.carry_out(job)


def test_a_failure_lets_the_others_save_and_is_told_in_a_line(study: Study) -> None:
    fails = SAY + (
        "wait(sys.argv[1])\n"
        "print('trainer: error: --lr: expected less', file=sys.stderr)\nprint('and more')\nsys.exit(2)"
    )
    jobs = [study.job("saves", SAVING), study.job("fails", fails), study.job("last", SAY + "say('started')")]
    told = r"^fails: ended with status 2: --lr: expected less \(all it said is in .*runs/fails/log\.txt\)$"
    with pytest.raises(TrainerError, match=told):
        study.carry_out(*jobs, on=(Device(0), Device(1)))
    assert study.lines() == ["ready", "saved"]


def test_of_a_failure_without_a_line_the_end_of_this_starts_log_is_told(study: Study) -> None:
    job = study.job("job", "import os\nfor n in range(12): print('line', n, flush=True)\nos.kill(os.getpid(), 9)")
    job.folder.mkdir(parents=True)
    (job.folder / "log.txt").write_text("trainer: error: of an earlier start\n")
    with pytest.raises(TrainerError) as told:
        study.carry_out(job)
    first, *rest = str(told.value).splitlines()
    assert first == f"job: was killed by SIGKILL; the end of {job.folder / 'log.txt'}:"
    assert rest == [f"  line {n}" for n in range(2, 12)]
    assert len((job.folder / "log.txt").read_text().splitlines()) == 13


def fork(act: Callable[[], None]) -> int:
    """The process id of a copy of this one that acts; starting anew would take the time to import torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that of threads, none of which matters to the copy
        pid = os.fork()
    if pid:
        return pid
    try:
        act()
    finally:
        os._exit(1)


def test_the_jobs_of_a_killed_study_save_and_keep_the_next_one_out_until_then(study: Study) -> None:
    go_on = study.folder / "go on"
    slow = SAVING.replace('say("saved")', 'say(f"saving {os.getpid()}")\n    wait(sys.argv[2])\n    say("saved")')
    killed = fork(lambda: study.carry_out(study.job("job", slow, str(go_on))))
    until(lambda: study.lines() == ["ready"])
    with pytest.raises(TrainerError, match=rf"expected no other study at work there, got process {killed}, \d+;"):
        study.carry_out()
    os.kill(killed, signal.SIGKILL)
    os.waitpid(killed, 0)
    until(lambda: len(study.lines()) == 2)
    pid = int(study.lines()[1].removeprefix("saving "))
    with pytest.raises(TrainerError, match=rf"expected no other study at work there, got process {pid};"):
        study.carry_out()
    go_on.touch()
    until(lambda: gone(pid))
    assert study.lines()[2] == "saved"
    study.carry_out()


def test_a_signal_between_two_calls_ends_the_study_at_once_and_none_after_it(study: Study) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with study.scheduler(), pytest.raises(Preempted, match="stopped by SIGUSR1"):
        signal.raise_signal(signal.SIGUSR1)
    with Held(study.folder), pytest.raises(Preempted, match="stopped by SIGINT; start it again to go on"):
        signal.raise_signal(signal.SIGINT)  # while the answers and the page are made
    assert signal.getsignal(signal.SIGUSR1) == before


def test_lines_tell_of_each_job_that_has_ended(study: Study) -> None:
    study.carry_out(study.job("photoz [5 %]", ""), study.job("morphology", ""))
    first, second = study.output.getvalue().splitlines()
    assert re.fullmatch(r"1/2 photoz \[5 %\]: done in \d+ s, about \d+ s left", first)
    assert re.fullmatch(r"2/2 morphology: done in \d+ s", second)


def test_a_terminal_shows_what_runs(study: Study) -> None:
    seen = {"0/2 jobs": study.folder / "go on, first", "1/2 jobs": study.folder / "go on, second"}

    def act() -> None:
        for text, mark in seen.items():
            until(lambda text=text: text in study.output.getvalue())
            mark.touch()

    acting = meanwhile(act)
    code = SAY + "wait(sys.argv[2])"
    names = ("photoz [5 %]", "morphology")
    with study.scheduler(terminal=True) as scheduler:
        scheduler.carry_out([study.job(name, code, str(mark)) for name, mark in zip(names, seen.values(), strict=True)])
    acting.join()
    shown = study.output.getvalue()
    assert all(text in shown for text in (*names, "2/2 jobs"))
    assert "done in" not in shown


def test_the_time_that_is_left_follows_from_the_work_done_in_this_start(tmp_path: Path) -> None:
    def job(weight: float, ranks: int = 1) -> Job:
        return Job(name="job", words=(), folder=tmp_path, weight=weight, ranks=ranks)

    tally = Tally(devices=2, total_weight=100.0)
    before, now, running = job(20.0), job(10.0), job(8.0, ranks=2)
    tally.give([before, now, running], [now, running])
    assert (tally.done, tally.jobs, tally.seconds_left([])) == (1, 3, None)
    tally.end(now, seconds=5.0)  # 2 a device-second
    assert tally.seconds_left([]) == (100 - 30) / (2 * 2)
    assert tally.seconds_left([(running, 1.5)]) == (100 - 30 - 6) / (2 * 2)
    assert tally.reached([(running, 60.0)]) == 38  # no more than there is in it
    tally.give([job(100.0)], [])  # more than was foreseen
    assert tally.total_weight == 138


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (89.0, "89 s"), (720.0, "12 min"), (5400.0, "1.5 h")])
def test_durations_are_told_as_people_do(seconds: float, text: str) -> None:
    assert spoken(seconds) == text


RANK = """
import os, pathlib, signal, sys, time
run, rank = pathlib.Path(sys.argv[2]), os.environ["RANK"]
def save(*_):
    if rank == "0":
        (run / "requeue").touch()
    (run / f"saved-{rank}").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
(run / f"ready-{rank}").write_text(str(os.getpid()))
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("interrupts", [1, 2])
def test_ranks_under_torchrun_save_at_a_signal_and_do_not_outlive_it(study: Study, interrupts: int) -> None:
    run = study.folder / "runs/pair"
    code = RANK if interrupts == 1 else RANK.replace("sys.exit(75)", "")
    job = study.job("pair", code, str(run), ranks=2)
    ready = [run / f"ready-{rank}" for rank in range(2)]

    def act() -> None:
        for number in range(interrupts):
            until(lambda: all(path.exists() and path.read_text() for path in ready))
            until(lambda number=number: number == 0 or len(list(run.glob("saved-*"))) == 2)
            send(signal.SIGINT)

    acting = meanwhile(act)
    with pytest.raises(Preempted):
        study.carry_out(job, on=(Device(0), Device(1)))
    acting.join()
    assert len(list(run.glob("saved-*"))) == 2
    for path in ready:
        until(lambda path=path: gone(int(path.read_text())))
