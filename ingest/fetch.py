"""Fetching one file over the network: which URLs are taken, time-outs, tries.

Neither caches nor knows frames; faults.py says which faults pass. The transport is fsspec's; its own retries are off,
because they neither hold the cap on connections nor know which faults pass. Connections are closed after each file: an
idle one would count too.
"""

import asyncio
import random
import re
import time
from typing import Any
from urllib.parse import urlsplit

from .cache import Slots
from .errors import IngestError
from .faults import Fault, judge, one_line, without_password

_HTTP, _S3 = ("http", "https"), ("s3", "s3a")
# They wrap another file system, run something, or read this machine's own files by a detour.
_REFUSED = re.compile(
    "async.*|.*cache|cached|dask|data|dir|dvc|file|generic|git|jlab|jupyter|libarchive|local|pipe|pyscript|reference|tar|zip"
)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_WHOLE_TRANSFER = 10  # time-outs: against a server that trickles


class FetchError(IngestError):
    """A fault that may pass, still there after all tries; any other IngestError of a fetch will not pass."""


def check_url(root: str) -> None:
    """IngestError for a URL that chains file systems, executes something or cannot be joined with a path."""
    protocol = root.partition("://")[0].lower()
    if "::" in root or _REFUSED.fullmatch(protocol) or not re.fullmatch(r"[a-z][a-z0-9+.-]*", protocol):
        raise IngestError(
            f"--frames {without_password(root)}: expected a folder's path or a plain URL (https, s3, ...), "
            f"got one that chains, executes or is local; give the place of the frames itself"
        )
    if "?" in root or "#" in root:
        raise IngestError(
            f"--frames {without_password(root)}: expected a URL to append a path to, got one with ? or #; cut it"
        )
    try:
        whole = urlsplit(root).port != 0 and (urlsplit(root).hostname or protocol not in (*_HTTP, *_S3))
    except ValueError:  # a port or an address that cannot be
        whole = False
    if not whole:
        raise IngestError(
            f"--frames {without_password(root)}: expected a URL with a server or bucket, got none; mend it"
        )


class Fetcher:
    """Fetches files below one URL; blocking, for any number of threads. Make one in each process."""

    def __init__(self, root: str, slots: Slots, *, timeout_s: float, tries: int) -> None:
        check_url(root)
        self._slots = slots
        self._timeout_s = timeout_s
        self._tries = tries
        self._fs, self._base = _open_filesystem(root, timeout_s)
        self._root = without_password(root).rstrip("/")
        self._checks = urlsplit(root).scheme in (*_HTTP, *_S3)  # aiohttp holds what comes against Content-Length

    def where(self, name: str) -> str:
        """The URL of a file, for messages: without a password."""
        return f"{self._root}/{name}"

    def fetch(self, name: str) -> bytes | None:
        """Content of a file, None where there is none; FetchError or IngestError in one line otherwise."""
        tried = 0
        while True:
            outcome = self._try(f"{self._base.rstrip('/')}/{name}")
            tried += 1
            if isinstance(outcome, bytes):
                return outcome
            if outcome.absent:
                return None
            if not outcome.passes:
                raise IngestError(f"{self.where(name)}: expected the frame, got {outcome.text}; check --frames")
            if tried == self._tries:
                raise FetchError(
                    f"{self.where(name)}: expected the frame, got {outcome.text}, {tried} tries; "
                    f"see to the server or the network and start again"
                )
            time.sleep(_wait_s(tried, min(outcome.wait_s, self._timeout_s)))

    def _try(self, path: str) -> bytes | Fault:
        with self._slots.one():  # not while waiting for the next try
            try:
                return self._transfer(path)
            except Exception as err:
                fault = judge(err)
                if fault is None:
                    raise
                return fault

    def _transfer(self, path: str) -> bytes:
        from fsspec.asyn import sync

        if self._fs.async_impl:
            return bytes(sync(self._fs.loop, self._transfer_async, path))
        promised = self._fs.info(path)["size"]
        return _whole(self._fs.cat_file(path), promised)

    async def _transfer_async(self, path: str) -> bytes:
        limit_s = _WHOLE_TRANSFER * self._timeout_s
        try:
            async with asyncio.timeout(limit_s) as clock:
                promised = None if self._checks else (await self._fs._info(path))["size"]
                return _whole(await self._fs._cat_file(path), promised)
        except TimeoutError:
            if clock.expired():
                raise ConnectionError(f"no whole file within {limit_s:g} s") from None
            raise


def _open_filesystem(root: str, timeout_s: float) -> tuple[Any, str]:
    """An fsspec file system of our own, not one shared with other users of fsspec in this process."""
    try:
        from fsspec.core import url_to_fs

        file_system, base = url_to_fs(root, skip_instance_cache=True, **_options(root, timeout_s))
    except ImportError as err:
        extra = {"http": "ingest", "https": "ingest", "s3": "s3", "s3a": "s3"}.get(urlsplit(root).scheme)
        advice = f"pip install 'skymill[{extra}]'" if extra else "install it"
        raise IngestError(f"--frames {without_password(root)}: {one_line(err)}; {advice}") from err
    except ValueError as err:
        raise IngestError(
            f"--frames {without_password(root)}: not a URL that fsspec knows ({one_line(err)}); mend it"
        ) from err
    except OSError as err:  # some connect at once
        raise FetchError(
            f"--frames {without_password(root)}: expected a server, got {one_line(err)}; see to it or to the URL"
        ) from err
    if urlsplit(root).scheme in _S3:
        file_system.retries = 1
    return file_system, str(base)


def _options(root: str, timeout_s: float) -> dict[str, Any]:
    protocol = urlsplit(root).scheme
    if protocol in _HTTP:
        return {"get_client": _http_client(timeout_s)}
    if protocol in _S3:
        config = {
            "connect_timeout": timeout_s,
            "read_timeout": timeout_s,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "connector_args": {"force_close": True, "keepalive_timeout": None},
        }
        return {"config_kwargs": config, "max_concurrency": 1}
    return {}


def _http_client(timeout_s: float) -> Any:
    import aiohttp

    async def client(*, loop: Any, **given: Any) -> aiohttp.ClientSession:
        """As fsspec calls it, inside its loop; ``given`` is client_kwargs of the user's fsspec configuration."""
        return aiohttp.ClientSession(
            **{
                "connector": aiohttp.TCPConnector(limit=0, force_close=True),
                "timeout": aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s),
                "headers": {"Accept-Encoding": "identity"},  # the length promised must be that of the file
                "trust_env": True,  # a cluster's nodes often reach the archive by a proxy only
                **given,
            }
        )

    return client


def _whole(content: bytes, promised: int | None) -> bytes:
    if promised is not None and len(content) != promised:
        raise ConnectionError(f"{len(content)} bytes of {promised}")
    return content


def _wait_s(tried: int, asked_s: float) -> float:
    """Exponential, and spread at random so that a thousand workers do not come back together."""
    wait_s = min(_FIRST_WAIT_S * 2.0 ** (tried - 1), _LONGEST_WAIT_S)
    return max(asked_s, wait_s) * random.uniform(1.0, 1.5)
