"""A Ray cluster on this machine, started as cluster/README.md says: a head and a node that can be lost.

Each node is a session of processes of its own. They have a home folder of their own, and in it their token.
"""

import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import jobs
from commands import told

_START_S = 120.0
_STORE_BYTES = 128 * 2**20


class TwoNodes:
    """The cluster; its head takes jobs at `dashboard`."""

    def __init__(self, *head: str) -> None:
        """``head``: options of the head, behind those of the page."""
        # A short name: sockets lie in it.
        self._folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where a job finds its python
        self.environment = {"HOME": self._folder.name, "PATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
        make_token = ["bash", "-c", told("ray get-auth-token")]
        subprocess.run(make_token, env=os.environ | self.environment, capture_output=True, check=True)
        gcs, dashboard, client = _free_ports(3)
        self.address, self.dashboard = f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}"
        self._nodes: list[subprocess.Popen[bytes]] = []
        ports = (f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}")
        self._start(told("RAY_AUTH_MODE=token ray start --head"), *ports, *head)
        try:
            self._wait_for_dashboard()
            self.add_node()
        except BaseException:
            self.end()
            raise

    def add_node(self) -> None:
        """Start a node of one core; it joins within seconds."""
        self._start(told("RAY_AUTH_MODE=token ray start --address", {"HEAD:6379": self.address}), "--num-cpus=1")

    def lose_node(self) -> None:
        """The node dies at once, with all that it runs."""
        node = self._nodes.pop()
        jobs.kill(jobs.session(node.pid))
        node.wait()

    def replace_node(self) -> None:
        """The node dies, and another one is started."""
        self.lose_node()
        self.add_node()

    def carried(self) -> set[str]:
        """What jobs brought along and nodes unpacked: names at the top."""
        unpacked = Path(self._folder.name).glob("*/session_*/runtime_resources/working_dir_files/_ray_pkg_*/*")
        return {path.name for path in unpacked}

    def end(self) -> list[str]:
        """End the cluster; what is left of it."""
        left = []
        while self._nodes:
            node = self._nodes.pop()
            node.terminate()
            with suppress(subprocess.TimeoutExpired):
                node.wait(timeout=30)
            left += jobs.left_over(node.pid)
        self._folder.cleanup()
        return left

    def _start(self, command: str, *options: str) -> None:
        agent, agent_grpc, metrics = _free_ports(3)
        own = (f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}")
        own += (f"--metrics-export-port={metrics}", "--node-ip-address=127.0.0.1", "--block")
        # A folder each: a node that joins unpacks the code of a job anew, and would remove it under the others' feet.
        folder = Path(self._folder.name, str(agent))
        own += (f"--temp-dir={folder}", f"--object-store-memory={_STORE_BYTES}")
        with Path(f"{folder}.log").open("w") as log:
            self._nodes.append(
                subprocess.Popen(
                    ["env", *shlex.split(command), *options, *own],
                    env=os.environ | self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def _wait_for_dashboard(self) -> None:
        until = time.monotonic() + _START_S
        while not self._takes_jobs():
            if time.monotonic() > until or self._nodes[-1].poll() is not None:
                raise RuntimeError("".join(log.read_text()[-2000:] for log in Path(self._folder.name).glob("*.log")))
            time.sleep(0.1)

    def _takes_jobs(self) -> bool:
        try:
            with urlopen(f"{self.dashboard}/api/version", timeout=5):
                raise RuntimeError("the head answers who has no token")
        except HTTPError as err:
            return err.code == HTTPStatus.UNAUTHORIZED
        except OSError:
            return False


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
