"""fsspec's file systems as Skymill uses them: which URLs are taken, time-outs, connections, and their end.

fsspec's own retries are off, and its file systems are not shared with other users of fsspec in this process. Those over
http and S3 are opened in fsspec's asynchronous mode, in which it leaves the closing to us: what it does by itself
when a process ends takes connections from under the parent of a forked process.
"""

import asyncio
import os
import re
from collections.abc import Coroutine
from contextlib import suppress
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .errors import DatasetError
from .faults import without_password

HTTP, S3 = ("http", "https"), ("s3", "s3a")

# They wrap another file system, run something, or read this machine's own files by a detour.
_REFUSED = re.compile(
    "async.*|.*cache|cached|dask|data|dir|dvc|file|generic|git|jlab|jupyter|libarchive|local|pipe|pyscript|reference|tar|zip"
)
_CLOSING_S = 5.0
_inherited: list[Any] = []  # see `close_filesystem`

T = TypeVar("T")


def check_url(root: str, called: str) -> None:
    """DatasetError for a URL that chains file systems, executes something or cannot be joined with a path.

    ``called`` is what messages call the URL: the option that it came by.
    """
    protocol = root.partition("://")[0].lower()
    where = f"{called} {without_password(root)}"
    if "::" in root or _REFUSED.fullmatch(protocol) or not re.fullmatch(r"[a-z][a-z0-9+.-]*", protocol):
        raise DatasetError(
            f"{where}: expected a folder's path or a plain URL (https, s3, ...), "
            f"got one that chains, executes or is local; give the place itself"
        )
    if "?" in root or "#" in root:
        raise DatasetError(f"{where}: expected a URL to append a path to, got one with ? or #; cut it")
    try:
        whole = urlsplit(root).port != 0 and (urlsplit(root).hostname or protocol not in (*HTTP, *S3))
    except ValueError:  # a port or an address that cannot be
        whole = False
    if not whole:
        raise DatasetError(f"{where}: expected a URL with a server or bucket, got none; mend it")


def open_filesystem(root: str, *, timeout_s: float, connections: int | None) -> tuple[Any, str]:
    """A file system of our own, and the path of ``root`` in it; ImportError, ValueError or OSError as fsspec has them.

    ``connections`` are kept for the next request; None closes each after its request.
    """
    from fsspec.core import url_to_fs

    file_system, base = url_to_fs(root, skip_instance_cache=True, **_options(root, timeout_s, connections))
    if urlsplit(root).scheme in S3:
        file_system.retries = 1
    return file_system, str(base)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run in fsspec's loop and wait; what interrupts the waiting cancels it."""
    from fsspec.asyn import get_loop

    future = asyncio.run_coroutine_threadsafe(coroutine, get_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def close_filesystem(file_system: Any, pid: int) -> None:
    """Close the connections; in another process than ``pid``, a fork, only keep the file system from being collected.

    A forked process shares the parent's sockets and the epoll of its loop: to close one there would deafen the parent.
    """
    if os.getpid() != pid:
        _inherited.append(file_system)
        return
    if not (file_system.async_impl and file_system.asynchronous):
        return
    from fsspec.asyn import get_loop

    closing = asyncio.run_coroutine_threadsafe(_close_session(file_system), get_loop())
    try:
        asyncio.get_running_loop()  # garbage may be collected in the loop's own thread, which must not wait for itself
    except RuntimeError:
        with suppress(Exception):  # the process may be ending
            closing.result(_CLOSING_S)


async def _close_session(file_system: Any) -> None:
    creator = getattr(file_system, "_s3creator", None)
    session = getattr(file_system, "_session", None)
    if creator is not None:
        await creator.__aexit__(None, None, None)
    elif session is not None:
        await session.close()


def _options(root: str, timeout_s: float, connections: int | None) -> dict[str, Any]:
    protocol = urlsplit(root).scheme
    if protocol in HTTP:
        return {"asynchronous": True, "get_client": _http_client(timeout_s, keep=connections is not None)}
    if protocol in S3:
        config: dict[str, Any] = {
            "connect_timeout": timeout_s,
            "read_timeout": timeout_s,
            "retries": {"total_max_attempts": 1, "mode": "standard"},
        }
        if connections is None:
            config["connector_args"] = {"force_close": True, "keepalive_timeout": None}
        else:
            config["max_pool_connections"] = connections
        return {"asynchronous": True, "config_kwargs": config, "max_concurrency": 1}
    return {}


def _http_client(timeout_s: float, *, keep: bool) -> Any:
    import aiohttp

    async def client(*, loop: Any, **given: Any) -> aiohttp.ClientSession:
        """As fsspec calls it, inside its loop; ``given`` is client_kwargs of the user's fsspec configuration."""
        return aiohttp.ClientSession(
            **{
                "connector": aiohttp.TCPConnector(limit=0, force_close=not keep),
                "timeout": aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s),
                "headers": {"Accept-Encoding": "identity"},  # the length promised must be that of the file
                "trust_env": True,  # a cluster's nodes often reach the archive by a proxy only
                "raise_for_status": _refuse_whole_file,
                **given,
            }
        )

    return client


async def _refuse_whole_file(response: Any) -> None:
    """OSError where bytes of a file were asked for and all of it is about to come: it may be of any size."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", response.request_info.headers.get("Range", ""))
    if asked is None or response.status != HTTPStatus.OK:
        return
    start, last = int(asked[1]), int(asked[2])
    if start > 0 or response.content_length != last + 1:
        response.close()
        raise OSError("the whole file: this server serves no byte ranges")
