"""Small training runs that tests of whole jobs start, watch and compare."""

import importlib.util
import json
from pathlib import Path

import jobs
import numpy as np

# A network and a batch that train in no time, on up to 4 ranks; every step is logged.
SMALL = [
    "--depth", "10", "--width", "2", "--stretch", "asinh", "--view-px", "16", "--batch", "16", "--queue", "64",
    "--embedding", "16", "--key-momentum", "0.9", "--batch-norm-groups", "4", "--lr", "0.03", "--epochs", "1000000",
    "--checkpoint-every-steps", "1000000", "--log-every-steps", "1", "--read-threads", "1",
]  # fmt: skip


def make_dataset(folder: Path, samples: int = 90) -> Path:
    """A dataset of round galaxies: that of the trainer's own tests."""
    spec = importlib.util.spec_from_file_location("surveys", jobs.CHECKOUT / "tests" / "trainer" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    surveys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(surveys)
    surveys.survey(folder, samples)
    return folder


def trace(run: Path) -> np.ndarray:
    """Loss, accuracy and spread of each step so far: (step, 3). Each step is there once."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be under way
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return np.array([[record["loss"], record["accuracy"], record["spread"]] for record in records])


def processes(root: int) -> list[int]:
    """A process and all that it, and those, have started and that are still there."""
    found = [root]
    for pid in found:
        try:
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            found += [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return found if Path(f"/proc/{root}").exists() else []
