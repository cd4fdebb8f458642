"""Two CPU ranks under torchrun: they learn, one dies and they go on, errors are told once."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from sharding import Dataset
from trainer.checkpoint import Checkpoints
from trainer.distributed import Ranks
from trainer.errors import TrainerError

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trainer"]
SETTINGS = {
    "depth": "10",
    "width": "4",
    "stretch": "asinh",
    "preset": "none",
    "view-px": "16",
    "batch": "16",
    "queue": "32",
    "embedding": "16",
    "key-momentum": "0.99",
    "temperature": "0.2",
    "batch-norm-groups": "2",
    "max-steps": "40",
    "checkpoint-every-steps": "10",
    "log-every-steps": "1",
}
TIMEOUT_S = 120


def pretrain(dataset: Dataset, out: Path) -> list[str]:
    words = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    return ["pretrain", "--data", str(dataset.path), "--out", str(out), *words]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def torchrun(command: list[str]) -> subprocess.CompletedProcess[str]:
    words = [*TORCHRUN, *command]
    return subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def trace(out: Path) -> list[tuple[int, float, float]]:
    if not (out / "metrics.jsonl").exists():
        return []
    whole = [line for line in (out / "metrics.jsonl").read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [(r["step"], r["loss"], r["accuracy"]) for r in map(json.loads, whole)]


def kill_a_rank_at(step: int, agent: subprocess.Popen[str], out: Path) -> None:
    """kill -9 the last of torchrun's ranks once it has logged ``step``."""
    deadline = time.monotonic() + TIMEOUT_S
    while len(trace(out)) < step and agent.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    ranks = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    os.kill(int(ranks[-1]), signal.SIGKILL)


@pytest.mark.slow  # tests/system/test_torchrun_nodes.py loses a whole node
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds torchrun's ranks in /proc")
def test_torchrun_s_ranks_learn_and_go_on_when_one_has_died(
    make_survey: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = make_survey(100)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = torchrun(pretrain(dataset, whole))
    assert done.returncode == 0, done.stderr
    losses = np.array([loss for _, loss, _ in trace(whole)])
    # From step 2 on the queue holds real keys, and chance is log 33 = 3.5.
    assert losses[-8:].mean() < 0.9 * losses[8:16].mean()

    words = [*TORCHRUN[:4], "--max-restarts", "1", *TORCHRUN[4:], *pretrain(dataset, cut)]
    with subprocess.Popen(
        words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as agent:
        kill_a_rank_at(23, agent, cut)
        said, _ = agent.communicate(timeout=TIMEOUT_S)
    assert agent.returncode == 0, said
    assert "steps 20 to 40" in said or "steps 30 to 40" in said
    assert trace(cut) == trace(whole)
    states = [Checkpoints(out / "checkpoints").newest() for out in (cut, whole)]
    torch.testing.assert_close(states[0]["model"], states[1]["model"], rtol=0.0, atol=0.0)  # type: ignore[index]


RANK = """
import os, signal, sys, torch
from datetime import timedelta
from torch.distributed import group
from torch.distributed.distributed_c10d import _set_pg_timeout
from trainer.distributed import joined
from trainer.errors import TrainerError
from trainer.rendezvous import PATIENCE
try:
    with joined() as ranks:
        assert ranks.mean(torch.tensor([ranks.rank, 7.0])).tolist() == [0.5, 7.0]
        assert ranks.gather(torch.tensor([ranks.rank, 7])).tolist() == [[0, 7], [1, 7]]
        with ranks.together():
            if ranks.rank == 1 and sys.argv[1] == "begin":
                raise TrainerError("shard 7 is damaged")
        if sys.argv[1] == "silent":
            assert group.WORLD._get_backend(ranks.device).options._timeout == PATIENCE
            _set_pg_timeout(timedelta(seconds=2))  # in place of the ten minutes
            if ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGSTOP)
        if ranks.rank == 1:
            raise TrainerError("shard 9 is damaged")
        ranks.mean(torch.zeros(1))
except TrainerError as err:
    print(err)
    sys.exit(2)
"""


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("begin", ["shard 7 is damaged\n", ""]),  # where all ranks meet, the first one speaks for all
        ("midway", ["rank 0: another rank ended; its error says why\n", "shard 9 is damaged\n"]),
    ],
)
def test_an_error_of_one_rank_ends_all_with_one_reason(when: str, told: list[str]) -> None:
    with two_ranks(when) as ranks:
        said = [rank.communicate(timeout=TIMEOUT_S) for rank in ranks]
    assert [out for out, _ in said] == told
    assert [rank.returncode for rank in ranks] == [2, 2]
    assert not any("Traceback" in err for _, err in said)


def test_a_rank_that_falls_silent_is_given_up() -> None:
    with two_ranks("silent") as (first, _):
        said, _ = first.communicate(timeout=TIMEOUT_S)
    assert said == "rank 0: another rank has not answered for 0:10:00; are its node and the network up?\n"
    assert first.returncode == 2


@contextmanager
def two_ranks(when: str) -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes of `RANK`, which find each other; none is left."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = environment() | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, when],
            env=group | {"RANK": str(rank), "LOCAL_RANK": str(rank), "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        yield ranks
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


@pytest.mark.parametrize(("total", "size"), [(7, 2), (8, 2), (1, 4), (9, 4), (0, 2)])
def test_spread_rows_come_back_whole_and_in_order(total: int, size: int) -> None:
    ranks = [Ranks(rank, size, torch.device("cpu")) for rank in range(size)]
    parts = [torch.from_numpy(rank.spread(total)) for rank in ranks]
    assert len({len(part) for part in parts}) == 1  # collectives need equal shapes
    stacked = torch.stack(parts)

    class Joined(Ranks):
        def gather(self, part: torch.Tensor) -> torch.Tensor:
            return stacked

    assert Joined(0, size, torch.device("cpu")).collect(parts[0], total).tolist() == list(range(total))


def test_what_ranks_cannot_share_is_refused() -> None:
    ranks = Ranks(1, 3, torch.device("cpu"))
    assert ranks.share(12) == slice(4, 8)
    with pytest.raises(TrainerError, match="--batch: expected a multiple of the 3 ranks, got 16"):
        ranks.share(16)
    with pytest.raises(TrainerError, match="--batch-norm-groups: expected a multiple of the 3 ranks, got 8"):
        ranks.divide(8, "--batch-norm-groups")
