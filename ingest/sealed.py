"""Small JSON files that tell whether they are as they were written: what a restart trusts on a disk that may be bad."""

import hashlib
import json
from pathlib import Path
from typing import Any

from sharding import atomic_file


def write_sealed(path: Path, content: dict[str, Any], scratch: Path) -> None:
    """Write ``content`` and its SHA-256, whole or not at all."""
    with atomic_file(path, scratch) as file:
        file.write(json.dumps({"content": content, "sha256": _digest(content)}).encode())


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The content, or None where the file is missing or not as it was written."""
    try:
        found = json.loads(path.read_bytes())
        content: dict[str, Any] = found["content"]
        return content if found["sha256"] == _digest(content) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
