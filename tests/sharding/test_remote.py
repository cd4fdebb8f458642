"""A dataset at a URL is the same dataset: pixels, order, state and errors, whatever the network does on the way."""

import gc
import json
import os
import signal
import socket
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sharding import Dataset, DatasetError, Order, State, fetch
from sharding.filesystem import run

SHARD = "shards/00000.tar"


class Store(ThreadingHTTPServer):
    """Serves a dataset's files by ranges; ``faults`` of a path are used up, one a request, then ``always`` holds."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.faults: dict[str, list[Any]] = {}
        self.always: Any = None
        self.delay_s = 0.0
        self.requests: Counter[str] = Counter()
        self.sent = 0  # bytes of contents
        self.open = 0  # connections
        self.served = self.most_served = 0
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that went away are the point of these tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def handle(self) -> None:
        self.count(open=1)
        try:
            super().handle()
        finally:
            self.count(open=-1)

    def do_GET(self) -> None:
        path = self.path.strip("/")
        with self.server.lock:
            self.server.requests[path] += 1
            queue = self.server.faults.get(path)
            fault = queue.pop(0) if queue else self.server.always
        self.count(served=1)
        time.sleep(self.server.delay_s)
        self.count(served=-1)
        content = self.server.files.get(path)
        if isinstance(fault, int):
            self.answer(fault, b"no")
        elif content is None:
            self.answer(404, b"no")
        else:
            self.answer_range(content, fault)

    def answer_range(self, content: bytes, fault: str | None) -> None:
        asked = self.headers["Range"]
        if asked is None or fault == "whole":
            self.answer(200, content)
            return
        start, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
        part = content[start : last + 1]
        if start >= len(content):
            self.answer(416, b"")
        elif fault == "short":  # breaks off
            self.answer(206, part[: len(part) // 2], len(part))
            self.close_connection = True
        elif fault == "less":  # a whole answer, of fewer bytes than asked for
            self.answer(206, part[:-1])
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST instead of FIN
            self.connection.close()
            self.close_connection = True
        else:
            self.answer(206, part)

    def answer(self, status: int, content: bytes, promised: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if promised is None else promised))
        self.end_headers()
        for start in range(0, len(content), 1_000_000):
            part = content[start : start + 1_000_000]
            self.wfile.write(part)
            with self.server.lock:
                self.server.sent += len(part)

    def count(self, open: int = 0, served: int = 0) -> None:
        with self.server.lock:
            self.server.open += open
            self.server.served += served
            self.server.most_served = max(self.server.most_served, self.server.served)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_FIRST_WAIT_S", 0.01)
    for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("AWS_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def store(dataset_path: Path) -> Iterator[Store]:
    """The nine samples in tar, served."""
    server = Store(dataset_path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The endpoint of a local S3 server; its buckets are those of every such server of the process."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def open_url(url: str) -> Any:
    return closing(Dataset.open(url))


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def test_pixels_and_labels_are_those_of_the_folder(store: Store, dataset: Dataset) -> None:
    wanted = [8, 0, 3, 3, 5]
    with open_url(store.url + "/") as remote:
        assert (remote.digest, len(remote)) == (dataset.digest, 9)
        assert remote.samples.equals(dataset.samples)
        store.requests.clear()
        np.testing.assert_array_equal(remote.images(wanted), dataset.images(wanted))
        assert store.requests == {SHARD: 3, "shards/00002.tar": 2}  # one a record: samples 5 to 8 are in the second


@pytest.mark.parametrize("container", ["webdataset", "zarr"])
def test_s3_and_any_file_system_of_fsspec(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, make_dataset: Any, tmp_path: Path, container: str
) -> None:
    import fsspec
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    folder = make_dataset(tmp_path / container, container)
    s3, memory = s3fs.S3FileSystem(skip_instance_cache=True), fsspec.filesystem("memory")
    s3.mkdirs("datasets", exist_ok=True)
    s3.put(str(folder), f"datasets/{container}", recursive=True)
    memory.put(str(folder), f"/remote/{container}", recursive=True)
    local = Dataset.open(folder).images(range(9))
    for url in (f"s3://datasets/{container}", f"memory://remote/{container}"):
        with open_url(url) as remote:
            np.testing.assert_array_equal(remote.images(range(9)), local)
    memory.rm("/remote", recursive=True)


@pytest.mark.parametrize("fault", [503, "short", "less", "reset", "whole"])
def test_a_fault_that_passes_is_not_seen_and_one_that_stays_is_one_line(
    store: Store, dataset: Dataset, fault: Any
) -> None:
    with open_url(store.url) as remote:
        if fault != "whole":  # a server that serves no ranges will not do so at the next try
            store.faults = {SHARD: [fault] * 3}
            np.testing.assert_array_equal(remote.images([4, 0, 8]), dataset.images([4, 0, 8]))
            assert store.faults == {SHARD: []}
        store.always = fault
        with pytest.raises(DatasetError, match=f"^{store.url}/shards/0000.*: expected bytes [0-9]") as caught:
            remote.images([0, 1, 5])
        assert "\n" not in str(caught.value)
        store.always = None
        np.testing.assert_array_equal(remote.images([0, 1, 5]), dataset.images([0, 1, 5]))


def test_a_server_without_ranges_is_told_at_once_and_its_files_are_not_read(store: Store) -> None:
    store.files["samples.parquet"] += bytes(50_000_000)
    store.always = "whole"
    with pytest.raises(DatasetError, match=r"samples\.parquet: expected bytes .*: this server serves no byte ranges"):
        Dataset.open(store.url)
    assert store.requests == {"dataset.json": 1, "samples.parquet": 1}
    assert eventually(lambda: store.open == 0)
    assert store.sent < 25_000_000  # what the sockets' buffers took


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("dataset.json", None, "dataset.json: expected a manifest, found none"),
        ("dataset.json", lambda content: content.replace(b"TEST", b"LEST"), "dataset.json: its digest differs"),
        ("samples.parquet", None, "samples.parquet: expected the file, found none"),
        ("samples.parquet", lambda content: b"X" + content[1:], "samples.parquet: its bytes differ from the digest"),
        (SHARD, None, f"{SHARD}: expected the file, found none"),
        (SHARD, lambda content: content[:-1], f"{SHARD}: expected bytes .* status 416"),
    ],
)
def test_what_is_missing_or_changed_is_one_line(store: Store, name: str, change: Any, said: str) -> None:
    content = store.files.pop(name)
    if change is not None:
        store.files[name] = change(content)
    with pytest.raises(DatasetError, match=said) as caught:
        Dataset.open(store.url)
    assert "\n" not in str(caught.value)
    assert eventually(lambda: store.open == 0)


def test_a_flipped_pixel_names_the_sample_as_in_a_folder(store: Store, dataset: Dataset) -> None:
    content = bytearray(store.files[SHARD])
    content[int(dataset.column("offset")[2]) + 7] ^= 4
    with open_url(store.url) as remote:
        store.files[SHARD] = bytes(content)
        with pytest.raises(DatasetError) as caught:
            remote.images([0, 2])
        said = f"{store.url}/{SHARD}: sample {dataset.column('objid')[2]} (row 2): its pixels differ"
        assert str(caught.value).startswith(said)


def test_an_order_begun_in_a_folder_goes_on_at_a_url(store: Store, dataset: Dataset) -> None:
    order = Order(np.arange(9), seed=5, dataset=dataset.digest)
    _, state = order.take(order.start, 4)
    saved = json.dumps(state.as_dict())
    with open_url(store.url) as remote:
        order, again = Order(np.arange(9), seed=5, dataset=remote.digest), State.from_dict(json.loads(saved))
        for _ in range(3):  # into the next epoch
            indices, state = order.take(state, 4)
            same, again = order.take(again, 4)
            np.testing.assert_array_equal(remote.images(same), dataset.images(indices))


def test_threads_share_the_bound_on_requests(store: Store, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_AT_ONCE", 3)
    store.delay_s = 0.05  # long enough for the others to come, on a busy machine too
    wanted = [np.random.default_rng(seed).integers(0, 9, 8) for seed in range(8)]
    with open_url(store.url) as remote, ThreadPoolExecutor(4) as threads:
        for indices, images in zip(wanted, threads.map(remote.images, wanted), strict=True):
            np.testing.assert_array_equal(images, dataset.images(indices))
    assert store.most_served == 3  # of 4 threads with 8 records each


def test_close_leaves_no_connection_and_no_thread(store: Store) -> None:
    Dataset.open(store.url).close()  # begins fsspec's own thread, which stays
    before = set(_threads())
    remote = Dataset.open(store.url)
    remote.images(range(9))
    assert store.open > 0  # kept for the next batch
    remote.close()
    assert eventually(lambda: store.open == 0)
    # The server has a thread a connection.
    assert eventually(lambda: set(_threads()) <= before)
    with pytest.raises(ValueError, match="already closed"):
        remote.images([0])


def _threads() -> list[threading.Thread]:
    """All but the few that fsspec's loop keeps for itself."""
    return [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]


def test_a_dataset_that_nobody_closed_is_closed_when_it_is_forgotten(store: Store) -> None:
    remote = Dataset.open(store.url)
    remote.images([0])
    del remote
    gc.collect()
    assert eventually(lambda: store.open == 0)


def test_one_that_is_forgotten_in_the_loops_own_thread_does_not_stop_it(store: Store) -> None:
    """Where garbage is collected is chance."""
    opened = [Dataset.open(store.url)]
    opened[0].images([0])

    async def forget() -> None:
        opened.clear()
        gc.collect()

    begin = time.monotonic()
    run(forget())
    assert eventually(lambda: store.open == 0)
    assert time.monotonic() - begin < 4  # it would wait five seconds for itself


def in_fork(work: Callable[[], int]) -> int:
    """Exit status of a fork that does this; -SIGKILL after ten seconds."""
    child = os.fork()
    if child == 0:
        status = 70
        try:
            status = work()
        finally:
            os._exit(status)
    deadline = threading.Timer(10, os.kill, (child, signal.SIGKILL))
    deadline.start()
    _, ended = os.waitpid(child, 0)
    deadline.cancel()
    return os.waitstatus_to_exitcode(ended)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # as it should be, from Python 3.12 on
def test_a_fork_is_refused_and_leaves_the_parent_its_connections(store: Store, dataset: Dataset) -> None:
    with open_url(store.url) as remote:
        remote.images(range(9))
        assert in_fork(lambda: _use_in_fork(remote)) == 0
        begin = time.monotonic()
        np.testing.assert_array_equal(remote.images(range(9)), dataset.images(range(9)))
        assert time.monotonic() - begin < 5  # a deaf connection would be waited for until its time-out


def _use_in_fork(remote: Dataset) -> int:
    """The child: every use is an error at once, and its end does not touch the parent's sockets."""
    try:
        remote.images([0])
    except DatasetError as err:
        refused = "open it in the new process" in str(err)
    else:
        refused = False
    remote.close()
    weakref.finalize._exitfunc()  # type: ignore[attr-defined]  # what the end of a process calls
    return 0 if refused else 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # as it should be, from Python 3.12 on
def test_a_fork_that_opens_it_itself_reads_it(store: Store, dataset: Dataset) -> None:
    expected = dataset.images(range(9))
    with open_url(store.url) as remote:
        remote.images([0])
        assert in_fork(lambda: _open_in_fork(store.url, expected)) == 0


def _open_in_fork(url: str, expected: np.ndarray) -> int:
    with open_url(url) as own:
        return 0 if np.array_equal(own.images(range(9)), expected) else 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://user:secret@host/dataset", "put it into ~/.netrc"),
        ("file:///dataset", "the URL file:///dataset: expected a folder's path or a plain URL"),
        ("s3://bucket/dataset?versionId=1", "cut it"),
        ("nosuch://host/dataset", "not a URL that fsspec knows"),
    ],
)
def test_urls_that_cannot_be_are_one_line(url: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said) as caught:
        Dataset.open(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
