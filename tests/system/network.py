"""Two hosts on this machine: each with a name, an address and an interface of its own, and a cable between them.

A host is a network namespace; what runs on it also has its own host name and /etc/hosts. Where the machine does not
allow that, both are this machine itself, by its loopback.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

_ADDRESSES = ("10.77.0.1", "10.77.0.2")
_INTERFACE = "eth0"
# Names itself, puts another table of hosts in the place of this machine's, then becomes what runs on it.
_ENTER = 'hostname "$0" && mount --bind "$1" /etc/hosts && shift && exec "$@"'


@dataclass(frozen=True)
class Host:
    """Where a process can be started."""

    name: str
    space: str = ""  # its namespace, if it has one
    entry: tuple[str, ...] = ()  # words before a command that runs there

    def start(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] = os.environ
    ) -> "subprocess.Popen[bytes]":
        """Run a command there; what it says is added to ``log``."""
        words = [*self.entry, *command]
        with log.open("ab") as file:
            return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def plug(self, state: str) -> None:
        """Plug its cable ``up`` or ``down``: while it is down nothing arrives, and nobody is told."""
        _ip("-n", self.space, "link", "set", _INTERFACE, state)

    def free_port(self) -> int:
        """One that nothing there listens to."""
        if self.space:
            return 29500
        with socket.create_server(("127.0.0.1", 0)) as server:
            return int(server.getsockname()[1])


@cache
def lacking() -> str:
    """Why this machine cannot hold hosts of their own; nothing where it can."""
    try:
        with TemporaryDirectory() as folder, _hosts(Path(folder), ("one", "other")) as (one, _):
            subprocess.run([*one.entry, "true"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as err:
        return (getattr(err, "stderr", "") or str(err)).strip()
    return ""


@contextmanager
def two_hosts(folder: Path, names: tuple[str, str]) -> Iterator[tuple[Host, Host]]:
    """Until the block ends, with all that still runs on them; ``folder`` is for a file of theirs."""
    if lacking():
        yield Host("localhost"), Host("localhost")
    else:
        with _hosts(folder, names) as hosts:
            yield hosts


@contextmanager
def _hosts(folder: Path, names: tuple[str, str]) -> Iterator[tuple[Host, Host]]:
    table = folder / "hosts"
    lines = ["127.0.0.1 localhost", *(f"{place} {name}" for place, name in zip(_ADDRESSES, names, strict=True))]
    table.write_text("\n".join(lines) + "\n")
    spaces = [f"skymill-{os.getpid()}-{name}" for name in names]
    try:
        for space in spaces:
            _ip("netns", "add", space)
        other_end = ["peer", "name", _INTERFACE, "netns", spaces[1]]
        _ip("link", "add", _INTERFACE, "netns", spaces[0], "type", "veth", *other_end)
        for space, address in zip(spaces, _ADDRESSES, strict=True):
            _ip("-n", space, "address", "add", f"{address}/24", "dev", _INTERFACE)
            for interface in ("lo", _INTERFACE):
                _ip("-n", space, "link", "set", interface, "up")
        yield _host(names[0], spaces[0], table), _host(names[1], spaces[1], table)
    finally:
        for space in spaces:
            _remove(space)


def _host(name: str, space: str, table: Path) -> Host:
    outside = ("ip", "netns", "exec", space, "unshare", "--uts", "--mount")
    return Host(name, space, (*outside, "sh", "-c", _ENTER, name, str(table)))


def _remove(space: str) -> None:
    """Kill what runs on a host, then take it away, where it was made at all."""
    with suppress(OSError):  # no `ip`
        found = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False)
        for pid in found.stdout.split():
            _kill(int(pid))
        subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)


def power_off(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to a process and all that it has started, at once; torchrun's ranks are in sessions of their own."""
    family = [process.pid]
    for pid in family:  # grows on the way
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                family += map(int, children.read_text().split())
    if process.poll() is None:
        for pid in family:
            _kill(pid)
        process.wait()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
