"""Where frames come from: a folder, or a URL with a cache in front. Finds a frame's file and gives its bytes, unparsed.

A frame lies flat, or in the archive's layout below the root, as .fits or .fits.bz2. In a folder the first of these in
a fixed order is taken, whatever was read before, so that a run's input never depends on its history. Below a URL each
try is a request: the layout that was right is tried first. What the cache holds of a URL is not asked for again.
"""

import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Protocol

from sharding import DatasetError, fetch
from sharding.filesystem import check_url

from .cache import FileCache, Slots, default_folder
from .errors import FrameError, IngestError
from .framefile import Field, FrameFile

__all__ = ["FetchError", "Source", "SourceConfig", "open_source"]

_SUFFIXES = (".fits", ".fits.bz2")
_OPTION = "--frames"  # that a URL comes by, for messages


class FetchError(IngestError):
    """A fault of the network that may pass, still there after all tries."""


@contextmanager
def _as_ingest_error() -> Iterator[None]:
    """What is wrong with a transfer, as an error of this room."""
    try:
        yield
    except fetch.FetchError as err:
        raise FetchError(str(err)) from err
    except DatasetError as err:
        raise IngestError(str(err)) from err


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceConfig:
    """Where frames come from; all but ``root`` matters for a URL only."""

    root: str  # a folder's path, or a URL
    cache: Path | None = None  # folder on a local disk, of one user; None takes one below the temporary folder
    cache_bytes: int = 10_000_000_000
    connections: int = 8  # open at a time, over all processes of a node that share the cache
    timeout_s: float = 60.0  # without a byte; a whole transfer may take ten times as long
    tries: int = 5

    def __post_init__(self) -> None:
        for flag, value in (("connections", self.connections), ("tries", self.tries)):
            if value < 1:
                raise IngestError(f"--{flag}: expected at least 1, got {value}")
        for flag, amount in (("cache-gb", self.cache_bytes), ("timeout", self.timeout_s)):
            if not amount > 0:
                raise IngestError(f"--{flag}: expected more than 0, got {amount}")
        if self.is_url:
            with _as_ingest_error():
                check_url(self.root, _OPTION)

    @property
    def is_url(self) -> bool:
        """``::`` chains file systems in fsspec, with or without a protocol before it."""
        return "://" in self.root or "::" in self.root


class Source(Protocol):
    """What both kinds of source do; for any number of threads."""

    fetches: ClassVar[bool]  # over a network, which can lose the end of a file unseen
    where: str  # the folder or URL, for messages

    def read(self, field: Field, band: str) -> FrameFile | None:
        """The file of a frame, or None where there is none; waits for it.

        IngestError for what will not pass, FetchError for what may, OSError for a full or broken disk of the cache.
        """

    def prefetch(self, wanted: Sequence[tuple[Field, str]]) -> None:
        """Begin to fetch these in the background; faults are kept for ``read``."""

    def forget(self, field: Field, band: str) -> None:
        """Drop what the cache has of a frame, so that the next read fetches it anew."""


def open_source(config: SourceConfig) -> Source:
    """The source of this process: the same object for the same configuration."""
    with _opening:
        key = os.getpid(), config  # a fork must not use its parent's connections
        if key not in _opened:
            _opened[key] = RemoteSource(config) if config.is_url else FolderSource(config)
        return _opened[key]


_opened: dict[tuple[int, SourceConfig], Source] = {}
_opening = threading.Lock()


class FolderSource:
    """Frames of a folder."""

    fetches: ClassVar[bool] = False

    def __init__(self, config: SourceConfig) -> None:
        self._root = Path(config.root)
        self.where = config.root
        if not self._root.is_dir():
            raise IngestError(f"{self._root}: expected a folder of frames, found none; check --frames")

    def read(self, field: Field, band: str) -> FrameFile | None:
        """See Source."""
        for name in _candidates(field, band):
            path = self._root / name
            try:  # opening is the look-up: no stat, and a failed one costs microseconds
                content = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as err:
                raise FrameError(str(path), path.name, "cannot be read", str(err.strerror), "mend the disk") from err
            return FrameFile(path.name, str(path), content, cached=False)
        return None

    def prefetch(self, wanted: Sequence[tuple[Field, str]]) -> None:
        """Nothing: the operating system reads ahead."""

    def forget(self, field: Field, band: str) -> None:
        """Nothing: there is no cache."""


class RemoteSource:
    """Frames below a URL, kept in a cache that the node's processes share."""

    fetches: ClassVar[bool] = True

    def __init__(self, config: SourceConfig) -> None:
        folder = config.cache or default_folder()
        self.where = config.root
        self._cache = FileCache(folder, config.cache_bytes)
        with _as_ingest_error():
            self._fetcher = fetch.Fetcher(
                config.root,
                called=_OPTION,
                noun="the frame",
                timeout_s=config.timeout_s,
                tries=config.tries,
                slot=Slots(folder, config.connections).one,
            )
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        self._identity = f"{endpoint} {config.root.rstrip('/')}"  # one bucket's name at two servers is two places
        self._layout: int | None = None
        self._search = threading.Lock()
        self._background = _Background(self._warm, config.connections)

    def read(self, field: Field, band: str) -> FrameFile | None:
        """See Source."""
        names = _candidates(field, band)
        if self._layout is None:
            with self._search:
                if self._layout is None:
                    return self._find(names)
        return self._find(names)

    def prefetch(self, wanted: Sequence[tuple[Field, str]]) -> None:
        """See Source; as many threads at most as connections."""
        self._background.add(wanted)

    def forget(self, field: Field, band: str) -> None:
        """See Source."""
        for name in _candidates(field, band):
            self._cache.drop(self._key(name))

    def _find(self, names: list[str]) -> FrameFile | None:
        """Try the known layout, then cached files, then the rest.

        A refusal is not the end: S3 refuses what is not there to those who may not list the bucket.
        """
        refusal: IngestError | None = None

        def rank(layout: int) -> tuple[bool, bool]:
            return layout != self._layout, not self._cache.holds(self._key(names[layout]))

        for layout in sorted(range(len(names)), key=rank):
            try:
                file = self._get(names[layout])
            except FetchError:
                raise
            except IngestError as err:
                refusal = refusal or err
                continue
            if file is not None:
                self._layout = layout
                return file
        if refusal is not None:
            raise refusal
        return None

    def _get(self, name: str) -> FrameFile | None:
        key = self._key(name)
        content = self._cache.read(key)
        cached = content is not None
        if content is None:
            with self._cache.alone(key):
                content = self._cache.read(key)  # another may just have fetched it
                cached = content is not None
                if content is None:
                    with _as_ingest_error():
                        content = self._fetcher.fetch(name)
                    if content is None:
                        return None
                    self._cache.store(key, content)
        return FrameFile(name.rpartition("/")[2], self._fetcher.where(name), content, cached)

    def _key(self, name: str) -> str:
        """Unlike for unlike URLs, and legible."""
        return f"{sha256(f'{self._identity}/{name}'.encode()).hexdigest()[:32]}-{name.rpartition('/')[2]}"

    def _warm(self, field: Field, band: str) -> None:
        if self._layout is None or not self._cache.holds(self._key(_candidates(field, band)[self._layout])):
            self.read(field, band)


class _Background:
    """A queue, and threads that live only while it has something: none is left to wait for at the process's end."""

    def __init__(self, work: "_Work", threads: int) -> None:
        self._work = work
        self._threads = threads
        self._queue: deque[tuple[Field, str]] = deque()
        self._running = 0
        self._lock = threading.Lock()

    def add(self, wanted: Sequence[tuple[Field, str]]) -> None:
        with self._lock:
            self._queue.extend(wanted)
            started = max(0, min(self._threads, len(self._queue)) - self._running)
            self._running += started
        for _ in range(started):
            threading.Thread(target=self._run, name="prefetch frames", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._running -= 1
                    return
                item = self._queue.popleft()
            with suppress(Exception):  # whoever reads the frame meets the same fault, and is told
                self._work(*item)


class _Work(Protocol):
    def __call__(self, field: Field, band: str) -> None: ...


def _candidates(field: Field, band: str) -> list[str]:
    """Relative paths where a frame may lie; IngestError for a rerun or band that could lead out of the root."""
    for value, what in ((field.rerun, "rerun"), (band, "band")):
        if not re.fullmatch(r"[0-9A-Za-z]+", value):
            raise IngestError(f"{field}: expected a {what} of letters and digits, got {value!r}; mend the catalogue")
    archive = f"{field.rerun}/{field.run}/{field.camcol}/"
    folders = ("", archive, f"boss/photoObj/frames/{archive}")
    return [folder + field.file_name(band) + suffix for folder in folders for suffix in _SUFFIXES]
