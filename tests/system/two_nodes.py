"""A Ray cluster of two nodes on this machine, of which one can be lost."""

import os
import secrets
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import jobs

_CLUSTER = """
import sys
from ray.cluster_utils import Cluster
shape = {"num_cpus": 1, "object_store_memory": 128 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**shape, "include_dashboard": False})
node = cluster.add_node(**shape)
print("skymill", cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(node, allow_graceful=False)
    node = cluster.add_node(**shape)
    print("skymill back", flush=True)
cluster.shutdown()
"""


class TwoNodes:
    """The cluster, in a process and a session of its own."""

    def __init__(self, folder: Path) -> None:
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        with (folder / "cluster.log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CLUSTER],
                env=os.environ | self.environment | {"RAY_USAGE_STATS_ENABLED": "0"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.address = self._answer()

    def replace_node(self) -> None:
        """The node that is not the head dies; a new one is there when this returns."""
        print("replace", file=self._process.stdin, flush=True)
        self._answer()

    def _answer(self) -> str:
        for line in self._process.stdout or ():
            if line.startswith("skymill "):
                return line.split()[1]
        raise RuntimeError("the cluster ended; see cluster.log")

    def end(self) -> list[str]:
        """Shut it down; what is left of it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=60)
        return jobs.left_over(self._process.pid)
