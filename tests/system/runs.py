"""Small training runs that tests of whole jobs start, watch and compare; and what stands in for ingest's."""

import importlib.util
import json
import sys
from pathlib import Path

import jobs
import numpy as np

# A network and a batch that train in no time, on up to 4 ranks; every step is logged.
SMALL = [
    "--depth", "10", "--width", "2", "--stretch", "asinh", "--view-px", "16", "--batch", "16", "--queue", "64",
    "--embedding", "16", "--key-momentum", "0.9", "--batch-norm-groups", "4", "--lr", "0.03", "--epochs", "1000000",
    "--checkpoint-every-steps", "1000000", "--log-every-steps", "1", "--read-threads", "1",
]  # fmt: skip

# Notes its words and its token; then it ends with the status that it is told, or is there until it is told to end.
_STAND_IN = f"""#!{sys.executable} -SE
import json, os, signal, socket, sys
from pathlib import Path
me = Path(__file__)
server = None
if "--head" in sys.argv and "TEST_RAY" not in os.environ:
    port = next(word for word in sys.argv if word.startswith("--port="))
    server = socket.create_server(("127.0.0.1", int(port.removeprefix("--port="))))
partial = me.with_name(f"{{os.getpid()}}.partial")
partial.write_text(json.dumps([sys.argv[1:], os.environ["RAY_AUTH_TOKEN"]]))
partial.rename(me.with_name(f"{{os.getpid()}}.{{me.name}}"))
status = os.environ.get("TEST_RAY" if me.name == "ray" else "TEST_STATUS")
if status is None:
    signal.pause()
sys.exit(int(status))
"""


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


def executable(path: Path, text: str) -> None:
    """Write a command."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def make_stand_ins(folder: Path) -> Path:
    """A virtual environment FOLDER/.venv whose `ray` and `python` only note how they were called; its commands' folder.

    Each leaves PID.ray or PID.python there, as JSON: its words, and the token of Ray.
    """
    commands = folder / ".venv" / "bin"
    for name in ("ray", "python"):
        executable(commands / name, _STAND_IN)
    (commands / "activate").write_text("PATH=$PWD/.venv/bin:$PATH\n")
    return commands
