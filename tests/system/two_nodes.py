"""A Ray cluster on this machine, as `ray start` makes it: a head and a node that can be lost.

Each node is a session of processes of its own. One file holds the token of them all.
"""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import jobs

_START_S = 120.0
_STORE_BYTES = 128 * 2**20


class TwoNodes:
    """The cluster; its head takes jobs at `dashboard`, and runs as many tasks at once as it is given cores."""

    def __init__(self, *, head_cpus: int = 1) -> None:
        # A short name: sockets lie in it.
        self._folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
        token = Path(self._folder.name, "token")
        token.write_text(secrets.token_hex(32))
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        gcs, dashboard, client = _free_ports(3)
        self.address, self.dashboard = f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}"
        self._nodes: list[subprocess.Popen[bytes]] = []
        ports = (f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}")
        self._start("--head", *ports, f"--num-cpus={head_cpus}")
        try:
            self._wait_for_dashboard()
            self.add_node()
        except BaseException:
            self.end()
            raise

    def add_node(self) -> None:
        """Start a node of one core; it joins within seconds."""
        self._start(f"--address={self.address}", "--num-cpus=1")

    def lose_node(self) -> None:
        """The node dies at once, with all that it runs."""
        node = self._nodes.pop()
        jobs.kill(jobs.session(node.pid))
        node.wait()

    def replace_node(self) -> None:
        """The node dies, and another one is started."""
        self.lose_node()
        self.add_node()

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

    def _start(self, *options: str) -> None:
        agent, agent_grpc, metrics = _free_ports(3)
        own = (f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}")
        own += (f"--metrics-export-port={metrics}", "--node-ip-address=127.0.0.1", "--block")
        # A folder each: a node that joins unpacks the code of a job anew, and would remove it under the others' feet.
        folder = Path(self._folder.name, str(agent))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where a job finds its python
        with Path(f"{folder}.log").open("w") as log:
            self._nodes.append(
                subprocess.Popen(
                    ["ray", "start", *options, *own, f"--temp-dir={folder}", f"--object-store-memory={_STORE_BYTES}"],
                    env=os.environ | self.environment | {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0"},
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
                return True
        except HTTPError as err:
            return err.code in (401, 403)  # it is there, and wants the token
        except OSError:
            return False


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
