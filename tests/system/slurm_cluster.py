"""A Slurm of one's own on this machine, of one node, with ports, keys and folders of its own; Debian's `slurm-wlm`."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import jobs
from runs import processes

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
_PATH = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
_TIMEOUT_S = 180.0
# Jobs of `high` preempt those of `low`, which have 30 s from the first signal on.
_CONF = """\
ClusterName=tests
SlurmctldHost=localhost
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=localhost NodeAddr=127.0.0.1 Port={node} CPUs=64 RealMemory=1000
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=30
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str | None:
    """The first program that is not installed."""
    return next((name for name in PROGRAMS if shutil.which(name, path=_PATH) is None), None)


@dataclass(frozen=True)
class Cluster:
    """A running Slurm."""

    environment: dict[str, str]

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(
            command, cwd=jobs.CHECKOUT, env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """The state of a job, and how often it was started again: `PENDING 1`."""
        shown = dict(word.split("=", 1) for word in self.ask("scontrol", "show", "job", job).split() if "=" in word)
        return f"{shown['JobState']} {shown['Restarts']}"

    def wait(self, job: str, state: str) -> None:
        """For a job to come to a state."""
        wait_for(lambda: self.state(job) == state, lambda: f"job {job}: expected {state}, got {self.state(job)}")


def wait_for(what: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    """For something to hold."""
    until = time.monotonic() + _TIMEOUT_S
    while not what():
        assert time.monotonic() < until, otherwise()
        time.sleep(0.2)


@contextmanager
def running() -> Iterator[Cluster]:
    """Start Slurm; all its processes and jobs are ended after the block."""
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:  # short: sockets lie in it
        folder = Path(name)
        ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        controller, node = (port.getsockname()[1] for port in ports)
        for port in ports:
            port.close()
        conf = folder / "slurm.conf"
        conf.write_text(_CONF.format(folder=folder, user=getpass.getuser(), controller=controller, node=node))
        (folder / "state").mkdir()
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        environment = os.environ | {"PATH": _PATH, "SLURM_CONF": str(conf)}
        files = [f"--{each}-file={folder / each}" for each in ("key", "pid", "log", "seed")]
        daemons: list[subprocess.Popen[bytes]] = []

        def start(*command: str) -> None:
            with (folder / f"{command[0]}.out").open("w") as log:
                daemons.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
                )

        cluster = Cluster(environment)
        try:
            start("munged", "--foreground", "--force", f"--socket={folder / 'socket'}", *files)
            wait_for((folder / "socket").exists, (folder / "munged.out").read_text)
            start("slurmctld", "-D", "-i")
            start("slurmd", "-D", "-N", "localhost")
            wait_for(lambda: _is_idle(environment), (folder / "slurmctld.out").read_text)
            yield cluster
        finally:
            with suppress(subprocess.TimeoutExpired):  # where slurmctld did not come up
                subprocess.run(["scancel", f"--user={getpass.getuser()}"], env=environment, timeout=30, check=False)
            steps = _of_folder(folder)
            jobs.kill(pid for root in steps for pid in processes(root))
            for daemon in reversed(daemons):
                daemon.terminate()
                try:
                    daemon.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()


def _is_idle(environment: dict[str, str]) -> bool:
    done = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, check=False)
    return "idle" in done.stdout


def _of_folder(folder: Path) -> list[int]:
    """The processes that watch over this Slurm's jobs: they are told from others' by their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"SLURM_CONF={folder}/slurm.conf".encode() in (path / "environ").read_bytes()
            if ours and b"slurmstepd" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return found
