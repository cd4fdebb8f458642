"""`ray job submit` to a real `ray start --head`, as on a cluster: the log is plain, the dataset the same."""

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import jobs
import pytest

_START_S, _SUBMIT_S = 90.0, 180.0
_SENT = ("ingest", "sharding")  # all that the job needs of a checkout


@dataclass(frozen=True)
class Head:
    """A running head node."""

    url: str  # of its dashboard, which takes jobs
    environment: dict[str, str]


def _free_ports(count: int) -> list[str]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports


@pytest.fixture
def head() -> Iterator[Head]:
    """A head node with ports, token and folder of its own; ended by the ids of its processes."""
    gcs, dashboard, client, agent, agent_grpc, metrics = _free_ports(6)
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # short: sockets lie in it
        token = Path(folder, "token")
        token.write_text(secrets.token_hex(32))
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        ports = {
            "--port": gcs,
            "--dashboard-port": dashboard,
            "--ray-client-server-port": client,
            "--dashboard-agent-listen-port": agent,
            "--dashboard-agent-grpc-port": agent_grpc,
            "--metrics-export-port": metrics,
        }
        options = [
            "--num-cpus=2",
            "--object-store-memory=134217728",
            "--node-ip-address=127.0.0.1",
            f"--temp-dir={folder}",
        ]
        command = ["ray", "start", "--head", "--block", *options, *(f"{name}={port}" for name, port in ports.items())]
        with Path(folder, "head.log").open("w") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _wait_for(f"http://127.0.0.1:{dashboard}/api/version", process, Path(log.name))
            yield Head(f"http://127.0.0.1:{dashboard}", environment)
        finally:
            jobs.kill(jobs.session(process.pid))
            process.wait()


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except URLError as err:
            if getattr(err, "code", None) in (401, 403):  # it is there, and wants the token
                return
        except OSError:
            pass
        time.sleep(0.2)
    pytest.fail(f"no head node at {url}: {log.read_text()[-2000:]}")


@pytest.mark.slow  # half a minute, most of it Ray's own start
def test_a_submitted_job_gives_the_same_bytes_and_a_plain_log(
    survey: jobs.Survey, reference: dict[str, dict[str, str]], tmp_path: Path, head: Head
) -> None:
    job = jobs.Job(survey=survey, out=tmp_path / "out")
    others = sorted(f"/{path.name}" for path in jobs.CHECKOUT.iterdir() if path.name not in _SENT)
    command = ["ray", "job", "submit", "--address", head.url, "--working-dir", str(jobs.CHECKOUT)]
    command += ["--runtime-env-json", json.dumps({"excludes": others}), "--", "python", "-m", "ingest", *job.arguments]
    done = subprocess.run(command, env=head.environment, capture_output=True, text=True, timeout=_SUBMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs.content(job.out) == reference["webdataset"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

    counts = json.loads((job.out / "dataset.json").read_text())["counts"]
    assert f"{counts['samples']} samples, {counts['rejects']} rejects of 161 objects" in done.stdout
    progress = [line for line in done.stdout.splitlines() if line.startswith("ingest: ")]
    assert progress[-1].startswith("ingest: 40/40 fields, 161/161 galaxies, ")
    assert all(line.isprintable() for line in progress)  # neither colours nor a bar that is drawn again
    assert "Traceback" not in done.stdout
