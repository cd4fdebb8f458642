"""A server of frames that stalls, breaks off, refuses and lies; and readers in processes of their own."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ingest.sources import RemoteSource, SourceConfig
from sharding import fetch

CONTENT = hashlib.shake_128(b"a frame").digest(300_000)  # more than a socket's buffers take at once

SCRIPT = """
import json, sys
from pathlib import Path
from concurrent.futures import ThreadPoolExecutor
from ingest.framefile import Field
from ingest.sources import SourceConfig, open_source
given = json.loads(sys.argv[1])
source = open_source(SourceConfig(root=given["root"], cache=Path(given["cache"]), connections=given["connections"]))
with ThreadPoolExecutor(6) as threads:
    files = list(threads.map(lambda number: source.read(Field(94, 1, number, "301"), "r"), given["fields"]))
assert all(file is not None for file in files)
"""


class Archive(ThreadingHTTPServer):
    """A server of frames; ``faults`` are used up, one a request of the path, then ``always`` holds.

    A fault is a status or the name of a ``fault_...`` below.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.frames: dict[str, bytes] = {}
        self.content = CONTENT
        self.faults: dict[str, list[Any]] = {}
        self.always: Any = None
        self.delay_s = 0.0
        self.retry_after = ""
        self.requests: Counter[str] = Counter()
        self.encodings: set[str | None] = set()  # that clients accept
        self.open = 0  # connections
        self.served = self.most_served = 0  # requests between their arrival and the first byte of their answer
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are the point of these tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Archive

    def handle(self) -> None:
        """A connection is open until its client has closed it."""
        with self.server.lock:
            self.server.open += 1
        try:
            super().handle()
        finally:
            with self.server.lock:
                self.server.open -= 1

    def do_GET(self) -> None:
        path = self.path.split("?")[0].strip("/")
        with self.server.lock:
            self.server.requests[path] += 1
            self.server.encodings.add(self.headers["Accept-Encoding"])
            queue = self.server.faults.get(path)
            fault = queue.pop(0) if queue else self.server.always
            self.server.served += 1
            self.server.most_served = max(self.server.most_served, self.server.served)
        time.sleep(self.server.delay_s)
        with self.server.lock:
            self.server.served -= 1
        content = self.server.frames.get(path)
        if isinstance(fault, int):
            self.answer(fault, b"<Error><Code>SlowDown</Code></Error>" if fault == 503 else b"no")
        elif content is None:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif fault is None:
            self.answer(200, content)
        else:
            getattr(self, f"fault_{fault}")(content)

    def answer(self, status: int, content: bytes, promised: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if promised is None else promised))
        if status != 200 and self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()
        self.wfile.write(content)

    def fault_stall(self, content: bytes) -> None:
        self.answer(200, content[: len(content) // 2], len(content))
        self.server.closing.wait(20)

    def fault_silent(self, content: bytes) -> None:
        self.server.closing.wait(20)

    def fault_trickle(self, content: bytes) -> None:
        self.answer(200, b"", len(content))
        while not self.server.closing.wait(0.05):
            self.wfile.write(b"x")

    def fault_short(self, content: bytes) -> None:
        self.answer(200, content[:-1], len(content))
        self.close_connection = True

    def fault_chunked(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n" % len(content) + content[:1000])
        self.close_connection = True

    def fault_reset(self, content: bytes) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST instead of FIN
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def archive() -> Iterator[Archive]:
    server = Archive()
    server.frames["boss/photoObj/frames/301/94/1/frame-r-000094-1-0012.fits.bz2"] = CONTENT
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_FIRST_WAIT_S", 0.01)
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def open_url(tmp_path: Path) -> Callable[..., RemoteSource]:
    """A source as a fresh process has it: of its own, with the cache that all share."""

    def make(root: str, **settings: Any) -> RemoteSource:
        settings = {"cache": tmp_path / "cache", "timeout_s": 1.0, "tries": 3, **settings}
        return RemoteSource(SourceConfig(root=root, **settings))

    return make


@pytest.fixture
def read_in_processes(tmp_path: Path) -> Callable[..., None]:
    """Read these fields in as many processes at once, six threads each; all must end well and print nothing."""

    def run(root: str, *processes: list[int], connections: int = 8) -> None:
        given = [
            json.dumps({"root": root, "cache": str(tmp_path), "fields": fields, "connections": connections})
            for fields in processes
        ]
        started = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", SCRIPT, each], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            for each in given
        ]
        for process in started:
            printed, _ = process.communicate(timeout=60)
            assert (process.returncode, printed) == (0, b"")

    return run
