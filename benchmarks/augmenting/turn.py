"""A pipeline that goes on by itself, and only in its own turn."""

from collections.abc import Callable, Generator
from typing import Any

from torch import Tensor

Views = Generator[Tensor, None, None]  # of a batch after the other, without end

_OPENINGS = 4  # batches: as many as are under way, and the first, in which the pipeline is built


class Turn:
    """At most one pipeline runs: whoever comes next ends it, so that it never works ahead in another's time."""

    def __init__(self) -> None:
        self._views: Views | None = None

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *error: Any) -> None:
        self.end()

    def begin(self, opener: Callable[[], Views]) -> None:
        """End the one before, build this one, and go on to where it runs evenly."""
        self.end()
        self._views = opener()
        self.take(_OPENINGS)

    def take(self, batches: int) -> int:
        """So many batches; how many views they had."""
        assert self._views is not None
        return sum(len(next(self._views)) for _ in range(batches))

    def end(self) -> None:
        """Let go of what runs."""
        if self._views is not None:
            self._views.close()
        self._views = None
