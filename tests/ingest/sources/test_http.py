"""Frames over HTTP: what is fetched, how often is asked, which faults pass, what the cache saves."""

import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest.errors import IngestError
from ingest.framefile import Field, FrameFile
from ingest.sources import FetchError, RemoteSource
from sharding import fetch

FIELD = Field(run=94, camcol=1, field=12, rerun="301")
NAME = "frame-r-000094-1-0012"
LAYOUTS = [
    folder + NAME + suffix
    for folder in ("", "301/94/1/", "boss/photoObj/frames/301/94/1/")
    for suffix in (".fits", ".fits.bz2")
]
ARCHIVE = "boss/photoObj/frames/301/94/1/"


def read(source: Any, field: Field = FIELD) -> FrameFile:
    file = source.read(field, "r")
    assert file is not None
    return file


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def cached_file(folder: Path) -> Path:
    (path,) = (folder / "cache" / "files").iterdir()
    return path


def test_the_layout_of_a_url_is_found_once(archive: Any, open_url: Callable[..., RemoteSource]) -> None:
    archive.frames[ARCHIVE + "frame-r-000094-1-0013.fits.bz2"] = b"another"
    source = open_url(archive.url + "/")
    where = f"{archive.url}/{ARCHIVE}{NAME}.fits.bz2"
    assert read(source) == FrameFile(NAME + ".fits.bz2", where, archive.content, cached=False)
    assert archive.requests == dict.fromkeys(LAYOUTS, 1)
    assert archive.encodings == {"identity"}  # the length promised must be that of the file
    archive.requests.clear()
    assert read(source, Field(94, 1, 13, "301")).content == b"another"
    assert archive.requests == {ARCHIVE + "frame-r-000094-1-0013.fits.bz2": 1}


def test_what_is_not_there_is_asked_for_once_a_layout(archive: Any, open_url: Callable[..., RemoteSource]) -> None:
    archive.frames.clear()
    assert open_url(archive.url).read(FIELD, "r") is None
    assert archive.requests == dict.fromkeys(LAYOUTS, 1)


@pytest.mark.parametrize("fault", [408, 429, 500, 502, 503, 504, "stall", "silent", "short", "chunked", "reset"])
def test_a_fault_that_passes_is_tried_again(archive: Any, open_url: Callable[..., RemoteSource], fault: Any) -> None:
    path = ARCHIVE + NAME + ".fits.bz2"
    archive.faults[path] = [fault, fault]
    source = open_url(archive.url + "/" + ARCHIVE.removesuffix("301/94/1/"), timeout_s=0.3)
    assert read(source).content == archive.content
    assert archive.requests[path] == 3


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (500, "status 500 Internal Server Error"),
        ("stall", "[Tt]imeout"),
        ("silent", "[Tt]imeout"),
        ("short", "not completed"),
        ("chunked", "not completed"),
        ("reset", "disconnected|reset"),
    ],
)
def test_a_fault_that_stays_ends_in_one_line(
    archive: Any, open_url: Callable[..., RemoteSource], tmp_path: Path, fault: Any, said: str
) -> None:
    archive.frames[NAME + ".fits"] = archive.content
    archive.always = fault
    source = open_url(archive.url, timeout_s=0.2)
    with pytest.raises(FetchError, match=said) as caught:
        source.read(FIELD, "r")
    text = str(caught.value)
    assert text.startswith(f"{archive.url}/{NAME}.fits: expected the frame, got ")
    assert "3 tries" in text
    assert "\n" not in text
    # aiohttp itself repeats a GET, once and at once, if the connection is lost before the answer begins.
    assert archive.requests == {NAME + ".fits": 6 if fault == "reset" else 3}
    assert not list((tmp_path / "cache" / "files").iterdir())


def test_a_server_that_trickles_is_left(
    archive: Any, open_url: Callable[..., RemoteSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.frames[NAME + ".fits"] = archive.content
    archive.always = "trickle"
    monkeypatch.setattr(fetch, "_WHOLE_TRANSFER", 2)
    source = open_url(archive.url, timeout_s=0.3, tries=1)
    begin = time.monotonic()
    with pytest.raises(FetchError, match=r"no whole file within 0\.6 s"):
        source.read(FIELD, "r")
    assert 0.6 <= time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("status", "said"), [(401, "status 401 Unauthorized"), (403, "status 403 Forbidden"), (400, "400")]
)
def test_a_refusal_is_not_tried_again(
    archive: Any, open_url: Callable[..., RemoteSource], status: int, said: str
) -> None:
    archive.always = status
    source = open_url(archive.url.replace("//", "//user:secret@"))
    with pytest.raises(IngestError, match=said) as caught:
        source.read(FIELD, "r")
    assert not isinstance(caught.value, FetchError)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert archive.requests == dict.fromkeys(LAYOUTS, 1)


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_no_connection_stays_open(
    archive: Any, open_url: Callable[..., RemoteSource], monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", archive.url)
    archive.frames[f"survey/{NAME}.fits"] = archive.content
    source = open_url(f"{archive.url}/survey" if scheme == "http" else "s3://survey")
    read(source)
    assert eventually(lambda: archive.open == 0)  # an idle one would count against the cap


def test_a_refused_layout_does_not_hide_the_right_one(archive: Any, open_url: Callable[..., RemoteSource]) -> None:
    for path in LAYOUTS[:-1]:
        archive.faults[path] = [403]
    assert read(open_url(archive.url)).content == archive.content


def test_a_certificate_that_nobody_vouches_for_is_a_refusal(
    archive: Any, open_url: Callable[..., RemoteSource], tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))
    archive.socket = context.wrap_socket(archive.socket, server_side=True)
    with pytest.raises(IngestError, match="self-signed certificate") as caught:
        open_url(archive.url.replace("http:", "https:")).read(FIELD, "r")
    assert not isinstance(caught.value, FetchError)
    assert not archive.requests


def self_signed(path: Path) -> Path:
    """Write a fresh key and its certificate for localhost."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_nobody_listening_is_a_fault_that_may_pass(open_url: Callable[..., RemoteSource]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        root = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(FetchError, match="Cannot connect"):
        open_url(root).read(FIELD, "r")


def test_the_servers_wish_to_wait_is_heard(
    archive: Any, open_url: Callable[..., RemoteSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.frames[NAME + ".fits"] = archive.content
    archive.faults[NAME + ".fits"] = [429, 503]
    archive.retry_after = "7"
    waits: list[float] = []
    monkeypatch.setattr(fetch, "time", SimpleNamespace(sleep=waits.append))
    read(open_url(archive.url, timeout_s=5.0))
    # At most a time-out, and up to half as long again: a thousand workers must not come back together.
    assert len(waits) == 2
    assert all(5.0 <= wait <= 7.5 for wait in waits), waits


def test_waits_grow_exponentially_and_stay_bounded() -> None:
    for tried in range(1, 60):
        assert min(0.01 * 2.0 ** (tried - 1), 30.0) <= fetch._wait_s(tried, 0.0) <= 45.0


def test_a_bug_keeps_its_traceback(
    archive: Any, open_url: Callable[..., RemoteSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_url(archive.url)
    monkeypatch.setattr(source._fetcher, "_transfer", lambda path: path / 0)
    with pytest.raises(TypeError):
        source.read(FIELD, "r")


def test_the_cap_on_connections_holds_over_processes_and_threads(
    archive: Any, read_in_processes: Callable[..., None]
) -> None:
    for number in range(24):
        archive.frames[f"frame-r-000094-1-{number:04d}.fits"] = b"frame"
    archive.delay_s = 0.05
    read_in_processes(archive.url, list(range(12)), list(range(12, 24)), connections=3)
    assert sum(archive.requests.values()) == 24
    assert archive.most_served == 3  # of 12 threads that ask


def test_what_is_cached_is_not_asked_for_again(archive: Any, open_url: Callable[..., RemoteSource]) -> None:
    first = read(open_url(archive.url))
    archive.requests.clear()
    again = read(open_url(archive.url))
    assert again == FrameFile(first.name, first.where, archive.content, cached=True)
    assert not archive.requests


def test_readers_of_one_frame_fetch_it_once(archive: Any, open_url: Callable[..., RemoteSource]) -> None:
    archive.frames = {NAME + ".fits": archive.content}
    archive.delay_s = 0.2
    sources = [open_url(archive.url) for _ in range(4)]  # as processes: nothing but the cache is shared
    with ThreadPoolExecutor(4) as threads:
        files = list(threads.map(read, sources))
    assert {file.content for file in files} == {archive.content}
    assert sorted(file.cached for file in files) == [False, True, True, True]
    assert archive.requests == {NAME + ".fits": 1}


def test_processes_that_want_the_same_frames_fetch_them_once(
    archive: Any, read_in_processes: Callable[..., None]
) -> None:
    names = [f"frame-r-000094-1-{number:04d}.fits" for number in range(8)]
    archive.frames = dict.fromkeys(names, archive.content)
    archive.delay_s = 0.05
    read_in_processes(archive.url, list(range(8)), list(range(8)))
    assert archive.requests == dict.fromkeys(names, 1)


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_shorten, _flip, _lengthen, _empty])
def test_a_damaged_cached_file_is_fetched_anew(
    archive: Any, open_url: Callable[..., RemoteSource], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    source = open_url(archive.url)
    read(source)
    damage(cached_file(tmp_path))
    archive.requests.clear()
    assert not read(source).cached
    assert archive.requests == {ARCHIVE + NAME + ".fits.bz2": 1}
    assert read(source).cached


def test_a_forgotten_frame_is_fetched_anew(archive: Any, open_url: Callable[..., RemoteSource]) -> None:
    source = open_url(archive.url)
    read(source)
    archive.frames[ARCHIVE + NAME + ".fits.bz2"] = b"mended"
    assert read(source).content == archive.content
    source.forget(FIELD, "r")
    assert read(source).content == b"mended"


def test_prefetched_frames_are_there_when_read(archive: Any, open_url: Callable[..., RemoteSource]) -> None:
    fields = [Field(94, 1, number, "301") for number in range(20)]
    names = [f"frame-r-000094-1-{number:04d}.fits" for number in range(20)]
    archive.frames = dict.fromkeys(names, archive.content)
    source = open_url(archive.url, connections=3)
    source.prefetch([(field, "r") for field in fields[:10]])
    assert eventually(lambda: archive.requests == dict.fromkeys(names[:10], 1))
    source.prefetch([(field, "r") for field in fields])
    assert [read(source, field).content for field in fields] == [archive.content] * 20
    assert eventually(lambda: source._background._running == 0)
    assert archive.requests == dict.fromkeys(names, 1)
    assert archive.most_served <= 3
    assert eventually(lambda: "prefetch frames" not in {thread.name for thread in threading.enumerate()})


def test_a_fault_of_a_prefetch_is_met_by_the_reader(
    archive: Any, open_url: Callable[..., RemoteSource], capfd: pytest.CaptureFixture[str]
) -> None:
    archive.always = 403
    source = open_url(archive.url)
    source.prefetch([(FIELD, "r"), (Field(94, 1, 13, "../x"), "r")])
    with pytest.raises(IngestError, match="403"):
        source.read(FIELD, "r")
    assert capfd.readouterr() == ("", "")
