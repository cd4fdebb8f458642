"""Frames from S3, real enough (moto) and faulty (our own server), and from any other file system."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ingest.errors import IngestError
from ingest.framefile import Field, FrameFile
from ingest.sources import FetchError, RemoteSource

FIELD = Field(run=94, camcol=1, field=12, rerun="301")
NAME = "frame-r-000094-1-0012"
LAYOUTS = [
    folder + NAME + suffix
    for folder in ("", "301/94/1/", "boss/photoObj/frames/301/94/1/")
    for suffix in (".fits", ".fits.bz2")
]
ARCHIVE = "boss/photoObj/frames/301/94/1/"
CONTENT = hashlib.shake_128(b"a frame").digest(300_000)  # as the faulty server has it


def read(source: Any, field: Field = FIELD) -> FrameFile:
    file = source.read(field, "r")
    assert file is not None
    return file


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket ``survey`` of a local S3 server, with one frame in it."""
    moto = pytest.importorskip("moto.server")
    import s3fs

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    file_system = s3fs.S3FileSystem(skip_instance_cache=True)
    file_system.mkdir("survey")
    file_system.pipe_file(f"survey/dr12/{ARCHIVE}{NAME}.fits.bz2", CONTENT)
    yield "s3://survey/dr12"
    server.stop()


def test_frames_come_from_s3(bucket: str, open_url: Callable[..., RemoteSource]) -> None:
    source = open_url(bucket)
    where = f"{bucket}/{ARCHIVE}{NAME}.fits.bz2"
    assert read(source) == FrameFile(NAME + ".fits.bz2", where, CONTENT, cached=False)
    assert read(source).cached
    assert source.read(FIELD, "g") is None
    with pytest.raises(IngestError, match="no such bucket"):
        open_url("s3://nosuch").read(FIELD, "r")


def test_one_bucket_name_at_two_servers_is_two_places(
    archive: Any, open_url: Callable[..., RemoteSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.frames = {f"survey/{NAME}.fits": CONTENT}
    for endpoint in (archive.url, archive.url.replace("127.0.0.1", "127.0.0.2")):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        if endpoint == archive.url:
            assert not read(open_url("s3://survey")).cached
            assert read(open_url("s3://survey")).cached
        else:
            with pytest.raises(FetchError):  # the cache does not answer for it
                open_url("s3://survey", tries=1).read(FIELD, "r")


@pytest.mark.parametrize("fault", [500, 503, "stall", "short", "reset"])
def test_s3_has_the_same_rules(
    archive: Any, open_url: Callable[..., RemoteSource], monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", archive.url)
    path = f"survey/{NAME}.fits"
    archive.frames = {path: CONTENT}
    archive.faults[path] = [fault, fault]
    source = open_url("s3://survey", timeout_s=0.3)
    assert read(source).content == CONTENT
    assert archive.requests == {path: 3}
    archive.always = fault
    archive.requests.clear()
    source.forget(FIELD, "r")
    with pytest.raises(FetchError, match="3 tries") as caught:
        source.read(FIELD, "r")
    assert "\n" not in str(caught.value)
    # aiohttp itself repeats a GET, once and at once, if the connection is lost before the answer begins.
    assert archive.requests == {path: 6 if fault == "reset" else 3}


def test_s3_refusals_are_one_line(
    archive: Any, open_url: Callable[..., RemoteSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", archive.url)
    archive.always = 403
    with pytest.raises(IngestError, match="status 403") as caught:
        open_url("s3://survey").read(FIELD, "r")
    assert not isinstance(caught.value, FetchError)
    assert archive.requests == {f"survey/{path}": 1 for path in LAYOUTS}


def test_missing_credentials_are_one_line(
    open_url: Callable[..., RemoteSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    with pytest.raises(IngestError, match=r"no credentials.*FSSPEC_S3_ANON=true"):
        open_url("s3://survey").read(FIELD, "r")


@pytest.mark.parametrize("anonymous", [False, True])
def test_a_process_that_reads_s3_prints_nothing(
    archive: Any, read_in_processes: Callable[..., None], monkeypatch: pytest.MonkeyPatch, anonymous: bool
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", archive.url)
    if anonymous:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("FSSPEC_S3_ANON", "true")
    archive.frames = {f"survey/{NAME}.fits": CONTENT}
    read_in_processes("s3://survey", [12])


def test_any_other_file_system_is_asked_for_the_length(
    open_url: Callable[..., RemoteSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    MemoryFileSystem().pipe_file(f"/survey/{NAME}.fits", CONTENT)
    source = open_url("memory://survey")
    assert read(source).content == CONTENT
    assert source.read(FIELD, "g") is None
    source.forget(FIELD, "r")
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda self, path: CONTENT[:-1])
    with pytest.raises(FetchError, match=f"{len(CONTENT) - 1} bytes of {len(CONTENT)}"):
        source.read(FIELD, "r")
