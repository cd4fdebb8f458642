"""Run tasks on Ray: a local one that this process starts, or a cluster. The only file that knows Ray."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sharding.errors import one_line

from .errors import IngestError

# A task that loses its worker is run again this often. A worker is lost with its node, or by a bug that crashes it,
# which would come back for ever.
RETRIES = 10
_CANCEL_S = 10.0
_STORE_BYTES = 128 * 2**20  # arguments and results are small: pixels go through files


@dataclass(slots=True)
class Pool:
    """Tasks at work, a bounded number at a time. Made by `ray_pool`."""

    ray: Any
    workers: int | None
    shared: bool = False  # a cluster's, whose nodes may differ
    _task: Any = field(init=False)
    _waiting: dict[Any, Any] = field(default_factory=dict)  # Ray's reference -> what the caller calls it

    def __post_init__(self) -> None:
        self._task = self.ray.remote(num_cpus=1, max_retries=RETRIES)(_attempt)

    @property
    def free(self) -> bool:
        """Whether another task may be put in: two a core wait at most, so that memory stays bounded."""
        cores = self.workers or max(1, int(self.ray.cluster_resources().get("CPU", 1)))
        return len(self._waiting) < (cores if self.workers else 2 * cores)

    def put(self, name: Any, call: Callable[..., Any], *arguments: Any) -> None:
        """Begin a task. It must give the same result when it is run again."""
        self._waiting[self._task.remote(call, arguments, self.shared)] = name

    def results(self, timeout_s: float) -> Iterator[tuple[Any, Any]]:
        """Names and results of tasks that ended, perhaps none within the time. IngestError where one failed."""
        ready, _ = self.ray.wait(list(self._waiting), num_returns=1, timeout=timeout_s)
        for reference in ready:
            name = self._waiting.pop(reference)
            try:
                result = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError:
                raise  # a bug keeps its traceback
            except self.ray.exceptions.RayError as err:
                reason = str(err).strip().splitlines()[0]
                text = f"{name}: its worker was lost {RETRIES + 1} times ({reason}); see to the nodes"
                raise IngestError(text) from err
            if isinstance(result, IngestError):
                raise result
            yield name, result

    def abandon(self) -> None:
        """End the tasks that are left. A Ray that is shut down over running tasks writes beside our one line."""
        left, self._waiting = list(self._waiting), {}
        for reference in left:
            self.ray.cancel(reference, force=True)
        if left:
            self.ray.wait(left, num_returns=len(left), timeout=_CANCEL_S)

    def __len__(self) -> int:
        return len(self._waiting)


@contextmanager
def ray_pool(address: str | None, workers: int | None) -> Iterator[Pool]:
    """Connect to the Ray at ``address`` or RAY_ADDRESS, else start a local one of ``workers`` processes."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Else ray.init waits for ever where one of the workers that it starts ahead dies before it is ready (seen in 2.60).
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    address = address or os.environ.get("RAY_ADDRESS")
    common = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if address:
            _check_reachable(address)
            ray.init(address=address, runtime_env=_code(), **common)
        else:
            cores = workers or os.cpu_count()
            ray.init(
                address="local", num_cpus=cores, include_dashboard=False, object_store_memory=_STORE_BYTES, **common
            )
    except Exception as err:  # OSError where nobody answers; a bare Exception where a node does not come up
        where = (
            f"--address (or RAY_ADDRESS) {address}: no Ray cluster answers" if address else "Ray does not start here"
        )
        raise IngestError(f"{where} ({one_line(err)}); start one, or try again") from err
    pool = Pool(ray, workers if address else None, shared=bool(address))
    try:
        yield pool
    finally:
        pool.abandon()
        ray.shutdown()


def in_submitted_job() -> bool:
    """Whether this process is what `ray job submit` started; it then stands in a folder that Ray will remove."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def _check_reachable(address: str) -> None:
    """Ray itself waits for minutes for a head node that is not there."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()


def _code() -> dict[str, Any] | None:
    """The packages that the workers of a cluster need; a submitted job brings its own."""
    if in_submitted_job():
        return None
    checkout = Path(__file__).resolve().parent.parent
    return {"py_modules": [str(checkout / name) for name in ("ingest", "sharding")], "excludes": ["__pycache__"]}


def _attempt(call: Callable[..., Any], arguments: tuple[Any, ...], shared: bool = False) -> Any:
    """A user's error is a result: Ray must not retry it, and its text must stay one line."""
    node = f"node {socket.gethostname()}: " if shared else ""
    try:
        return call(*arguments)
    except IngestError as err:
        return IngestError(f"{node}{err}")
    except OSError as err:
        what = f"{err.filename or 'disk'}: {err.strerror or err}"
        return IngestError(f"{node}{what}; mend it, then start again to go on")
