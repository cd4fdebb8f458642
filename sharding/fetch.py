"""Fetching files, and byte ranges of files, over the network: time-outs, tries, how many requests at a time.

Neither caches nor knows what is in a file; filesystem.py says how the transport is set up, faults.py which faults pass.
"""

import asyncio
import os
import random
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .errors import DatasetError
from .faults import Fault, judge, said, without_password
from .filesystem import HTTP, S3, check_url, close_filesystem, open_filesystem, run

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_WHOLE_TRANSFER = 10  # time-outs: against a server that trickles
_AT_ONCE = 32  # requests of ranges: enough to hide the latency of an object store, below what servers refuse
_EXTRA = {"http": "remote", "https": "remote", "s3": "s3", "s3a": "s3"}

Limits = tuple[int, int] | tuple[()]  # start and stop of a range; none for a whole file
Slot = Callable[[], AbstractContextManager[object]]


class FetchError(DatasetError):
    """A fault that may pass, still there after all tries; any other DatasetError of a fetch will not pass."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a file's bytes, from ``start`` to before ``stop``."""

    name: str
    start: int
    stop: int


class Fetcher:
    """Fetches files below one URL; blocking, for any number of threads. Make one in each process.

    A ``slot`` is held during each transfer of a whole file, for a cap on connections that is kept elsewhere. As an idle
    connection would count too, each is then closed after its file; without a slot they are kept until `close`.
    ``called`` and ``noun`` are what messages call the URL and a file.
    """

    def __init__(
        self,
        root: str,
        *,
        called: str = "the URL",
        noun: str = "the file",
        timeout_s: float = 60.0,  # without a byte; a whole transfer may take ten times as long
        tries: int = 5,
        slot: Slot | None = None,
    ) -> None:
        check_url(root, called)
        self._called, self._noun = called, noun
        self._timeout_s = timeout_s
        self._tries = tries
        self._slot: Slot = slot or nullcontext
        self._root = without_password(root).rstrip("/")
        self._checks = urlsplit(root).scheme in (*HTTP, *S3)  # aiohttp holds what comes against Content-Length
        self._pid = os.getpid()
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._fs, base = self._open(root, None if slot else _AT_ONCE)
        self._base = base.rstrip("/")
        self.close = weakref.finalize(self, close_filesystem, self._fs, self._pid)

    def where(self, name: str) -> str:
        """The URL of a file, for messages: without a password."""
        return f"{self._root}/{name}"

    def fetch(self, name: str) -> bytes | None:
        """Content of a file, None where there is none; FetchError or DatasetError in one line otherwise."""
        return self._fetch(name, ())

    def fetch_spans(self, spans: Iterable[Span], deliver: Callable[[int, bytes], None]) -> None:
        """Fetch ranges and ``deliver`` each with its number, as they come, from any one thread at a time.

        Several at a time, if the file system is asynchronous; `_AT_ONCE` of this fetcher. Errors as of `fetch`, and
        DatasetError where a file is not there or ends too early; then what was under way is given up.
        """
        if not self._fs.async_impl:
            for number, span in enumerate(spans):
                deliver(number, self._present(span, self._fetch(span.name, (span.start, span.stop))))
            return
        try:
            run(self._fetch_all(spans, deliver))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _fetch_all(self, spans: Iterable[Span], deliver: Callable[[int, bytes], None]) -> None:
        async def one(number: int, span: Span) -> None:
            deliver(number, self._present(span, await self._fetch_async(span.name, (span.start, span.stop))))

        async with asyncio.TaskGroup() as group:
            for number, span in enumerate(spans):
                group.create_task(one(number, span))

    def _present(self, span: Span, content: bytes | None) -> bytes:
        if content is None:
            raise DatasetError(f"{self.where(span.name)}: expected {self._noun}, found none; check {self._called}")
        return content

    def _fetch(self, name: str, limits: Limits) -> bytes | None:
        tried = 0
        while True:
            tried += 1
            self._check_open()
            with self._slot():  # not while waiting for the next try
                outcome = self._try(name, limits)
            if not isinstance(outcome, Fault):
                return outcome
            if outcome.absent:
                return None
            time.sleep(self._pause_s(name, limits, outcome, tried))

    async def _fetch_async(self, name: str, limits: Limits) -> bytes | None:
        tried = 0
        while True:
            tried += 1
            self._check_open()
            async with self._gate:
                outcome = await self._try_async(name, limits)
            if not isinstance(outcome, Fault):
                return outcome
            if outcome.absent:
                return None
            await asyncio.sleep(self._pause_s(name, limits, outcome, tried))

    def _pause_s(self, name: str, limits: Limits, fault: Fault, tried: int) -> float:
        """How long to wait for the next try; DatasetError where there is none."""
        noun = "bytes {}-{} of {}".format(*limits, self._noun) if limits else self._noun
        told = f"{self.where(name)}: expected {noun}, got {fault.text}"
        if not fault.passes:
            raise DatasetError(f"{told}; check {self._called}")
        if tried == self._tries:
            raise FetchError(f"{told}, {tried} tries; see to the server or the network and start again")
        return _wait_s(tried, min(fault.wait_s, self._timeout_s))

    def _try(self, name: str, limits: Limits) -> bytes | Fault:
        try:
            return self._transfer(f"{self._base}/{name}", limits)
        except Exception as err:
            return _judged(err)

    async def _try_async(self, name: str, limits: Limits) -> bytes | Fault:
        try:
            return await self._transfer_async(f"{self._base}/{name}", limits)
        except Exception as err:
            return _judged(err)

    def _transfer(self, path: str, limits: Limits) -> bytes:
        if self._fs.async_impl:
            return run(self._transfer_async(path, limits))
        promised = limits[1] - limits[0] if limits else self._fs.info(path)["size"]
        return _whole(self._fs.cat_file(path, **_bounds(limits)), promised)

    async def _transfer_async(self, path: str, limits: Limits) -> bytes:
        limit_s = _WHOLE_TRANSFER * self._timeout_s
        try:
            async with asyncio.timeout(limit_s) as clock:
                promised = await self._promised(path, limits)
                return _whole(bytes(await self._fs._cat_file(path, **_bounds(limits))), promised)
        except TimeoutError:
            if clock.expired():
                raise ConnectionError(f"no whole file within {limit_s:g} s") from None
            raise

    async def _promised(self, path: str, limits: Limits) -> int | None:
        if limits:
            return limits[1] - limits[0]
        return None if self._checks else int((await self._fs._info(path))["size"])

    def _check_open(self) -> None:
        if not self.close.alive:
            raise ValueError(f"{self._root}: already closed")
        if os.getpid() != self._pid:
            raise DatasetError(
                f"{self._called} {self._root}: expected the process that opened it, got a fork of it; "
                f"open it in the new process"
            )

    def _open(self, root: str, connections: int | None) -> tuple[Any, str]:
        where = f"{self._called} {without_password(root)}"
        try:
            return open_filesystem(root, timeout_s=self._timeout_s, connections=connections)
        except ImportError as err:
            extra = _EXTRA.get(urlsplit(root).scheme)
            advice = f"pip install 'skymill[{extra}]'" if extra else "install it"
            raise DatasetError(f"{where}: {said(err)}; {advice}") from err
        except ValueError as err:
            raise DatasetError(f"{where}: not a URL that fsspec knows ({said(err)}); mend it") from err
        except OSError as err:  # some connect at once
            raise FetchError(f"{where}: expected a server, got {said(err)}; see to it or to the URL") from err


def _judged(err: Exception) -> Fault:
    fault = judge(err)
    if fault is None:
        raise err
    return fault


def _bounds(limits: Limits) -> dict[str, int]:
    return dict(zip(("start", "end"), limits, strict=False))  # no common place: s3fs has its own argument between


def _whole(content: bytes, promised: int | None) -> bytes:
    if promised is not None and len(content) != promised:
        raise ConnectionError(f"{len(content)} bytes of {promised}")
    return content


def _wait_s(tried: int, asked_s: float) -> float:
    """Exponential, and spread at random so that a thousand workers do not come back together."""
    wait_s = min(_FIRST_WAIT_S * 2.0 ** (tried - 1), _LONGEST_WAIT_S)
    return max(asked_s, wait_s) * random.uniform(1.0, 1.5)
