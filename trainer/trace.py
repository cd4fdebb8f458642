"""What a run has left on disk, read back by whoever looks at it: the records of `metrics.jsonl`, the checkpoints held.

A run may be under way, killed or damaged: a line that is no record is counted, not trusted, and hides no other.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

METRICS = "metrics.jsonl"

Record = Mapping[str, int | float]


@dataclass(frozen=True, slots=True)
class Trace:
    """The records of a run in the order of the file, and the numbers of the lines that are none (the first is 1)."""

    records: list[Record]
    damaged: list[int]


def read_trace(path: Path) -> Trace:
    """The content of a `metrics.jsonl`; empty where there is none. A last line without its newline is still being made,
    or was when its process ended: it is neither a record nor damage."""
    whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    found = [_record(line) for line in whole]
    records = [record for record in found if record is not None]
    return Trace(records, [number for number, record in enumerate(found, 1) if record is None])


def checkpoint_files(run: Path) -> dict[int, Path]:
    """The numbered checkpoints by their step, ascending; one that is being written has another name."""
    numbered = {path.stem.removeprefix("step-"): path for path in (run / "checkpoints").glob("step-*.pt")}
    return dict(sorted((int(step), path) for step, path in numbered.items() if step.isdecimal()))


def _record(line: bytes) -> Record | None:
    """A line as a record: an object of numbers that has a step."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    right = isinstance(content, dict) and isinstance(content.get("step"), int)
    return content if right and all(isinstance(value, int | float) for value in content.values()) else None
