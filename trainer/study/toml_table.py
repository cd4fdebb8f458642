"""A table of a TOML file from which every key must be taken, each as the type it should have.

Every error is a TrainerError in one line that names the key; the caller says which file it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import TrainerError


class TomlTable:
    """A table. What nobody takes of it is a mistake, which `end` reports."""

    def __init__(self, content: Mapping[str, Any], name: str = "") -> None:
        self._content, self._name = dict(content), name

    def text(self, key: str) -> str:
        """A text that is not empty."""
        return str(self._take(key, "text", lambda value: isinstance(value, str) and value.strip() != ""))

    def whole(self, key: str) -> int:
        """A whole number."""
        return int(self._take(key, "a whole number", _is_whole))

    def number(self, key: str) -> float:
        """A number."""
        return float(self._take(key, "a number", _is_number))

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers."""
        values = self._take(key, "a list of numbers", lambda value: _is_list(value, _is_number))
        return tuple(map(float, values))

    def texts(self, key: str, choices: tuple[str, ...]) -> tuple[Any, ...]:
        """A list of which each is one of ``choices``."""
        expected = f"a list of {', '.join(choices)}"
        return tuple(self._take(key, expected, lambda value: _is_list(value, choices.__contains__)))

    def table(self, key: str, *, optional: bool = False) -> "TomlTable":
        """A table in this one, or an empty one if it may be missing."""
        if optional and key not in self._content:
            return TomlTable({}, self._inner(key))
        return TomlTable(self._take(key, "a table", lambda value: isinstance(value, dict)), self._inner(key))

    def rest(self) -> dict[str, Any]:
        """All that has not been taken; it counts as taken."""
        rest, self._content = self._content, {}
        return rest

    @property
    def names(self) -> tuple[str, ...]:
        """The keys that have not been taken."""
        return tuple(self._content)

    def end(self) -> None:
        """TrainerError where something has not been taken."""
        for key in self._content:
            raise TrainerError(f"{self.where(key)}: expected no such key; correct or remove it")

    def where(self, key: str) -> str:
        """How messages call a key."""
        return f"[{self._name}] {key}" if self._name else key

    def _inner(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key

    def _take(self, key: str, expected: str, holds: Callable[[Any], bool]) -> Any:
        if key not in self._content:
            raise TrainerError(f"{self.where(key)}: expected {expected}, got nothing; add it")
        value = self._content.pop(key)
        if not holds(value):
            raise TrainerError(f"{self.where(key)}: expected {expected}, got {value!r}; correct it")
        return value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list(value: object, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(holds, value))
