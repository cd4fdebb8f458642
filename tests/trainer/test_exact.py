"""The same run on 1, 2 and 4 ranks, killed and gone on with on any number of them.

In float64 rounding is 1e-16 a sum and stays far below 1e-9 for 50 steps; in fp32 training makes it grow by itself, so
the yardstick is a run whose weights start one ulp away.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharding import Dataset
from trainer.checkpoint import Checkpoints
from trainer.config import EncoderConfig, PretrainConfig
from trainer.data import global_batches
from trainer.distributed import Ranks
from trainer.errors import TrainerError
from trainer.pretrain import KEY, QUERY, Pretraining

SETTINGS = {
    "depth": "10", "width": "2", "stretch": "asinh", "view-px": "16", "batch": "16", "queue": "64", "embedding": "16",
    "key-momentum": "0.9", "batch-norm-groups": "4", "max-steps": "50", "epochs": "100", "lr": "0.03",
    "checkpoint-every-steps": "5", "log-every-steps": "1", "read-threads": "1",
}  # fmt: skip
STEPS = 50
RANKS = (1, 2, 4)
TIMEOUT_S = 120.0


class Server:
    """A `rank_server`, and the runs it is asked for."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        words = [sys.executable, str(Path(__file__).with_name("rank_server.py"))]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )

    def begin(self, ranks: int, dataset: Dataset, out: Path, *, nudge: bool = False, **settings: str) -> list[int]:
        """Start a run; the process ids of its ranks."""
        assert self.process.stdin
        given = SETTINGS | {name.replace("_", "-"): value for name, value in settings.items()}
        options = [word for name, value in given.items() for word in (f"--{name}", value)]
        words = ["pretrain", "--data", str(dataset.path), "--out", str(out), *options]
        request = {"ranks": ranks, "words": words, "log": f"{out}.log", "nudge": nudge}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> list[int]:
        """Wait for the run; the statuses of its ranks."""
        return self._answer()

    def run(self, ranks: int, dataset: Dataset, out: Path, *, nudge: bool = False, **settings: str) -> Path:
        """A whole run."""
        self.begin(ranks, dataset, out, nudge=nudge, **settings)
        assert self.end() == [0] * ranks, Path(f"{out}.log").read_text()
        return out

    def _answer(self) -> list[int]:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    assert made.process.stdin
    assert made.process.stdout
    made.process.stdin.close()
    made.process.wait(timeout=TIMEOUT_S)
    made.process.stdout.close()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, paint_survey: Callable[..., Dataset]) -> Dataset:
    return paint_survey(tmp_path_factory.mktemp("survey") / "dataset", 90)


@pytest.fixture(scope="module")
def whole(server: Server, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The undisturbed float64 run on each number of ranks."""
    folder = tmp_path_factory.mktemp("whole")
    return {ranks: server.run(ranks, dataset, folder / str(ranks), precision="fp64") for ranks in RANKS}


def trace(run: Path) -> np.ndarray:
    """Loss, accuracy and spread of each step."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return np.array([[record["loss"], record["accuracy"], record["spread"]] for record in records])


def newest(run: Path) -> dict[str, Any]:
    content = Checkpoints(run / "checkpoints").newest()
    assert content is not None
    return content


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Networks, running statistics, queue and momenta of the newest checkpoint, by name."""
    content = newest(run)
    momenta = content["optimiser"]["state"]
    return content["model"] | {f"momentum {name}": state["momentum_buffer"] for name, state in momenta.items()}


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Norm of the difference over the norm."""
    return float(torch.linalg.vector_norm(one - other) / torch.linalg.vector_norm(one).clamp(min=1e-300))


def test_in_float64_all_numbers_of_ranks_make_the_same_run(whole: dict[int, Path]) -> None:
    one, *others = (trace(whole[ranks]) for ranks in RANKS)
    assert len(one) == STEPS
    assert np.abs(np.diff(one[:, 0])).min() > 1e-6  # something happens in every step
    for other in others:
        np.testing.assert_allclose(other, one, rtol=0.0, atol=1e-9)
    for ranks in RANKS[1:]:  # running statistics and the queue too, in their order
        for name, value in weights(whole[1]).items():
            assert apart(value.double(), weights(whole[ranks])[name].double()) < 1e-9, name


@pytest.mark.slow  # seven runs; those in float64, above, must agree far closer
def test_in_fp32_the_first_step_agrees_and_fifty_drift_as_one_ulp_does(
    server: Server, dataset: Dataset, tmp_path: Path
) -> None:
    first = {r: server.run(r, dataset, tmp_path / f"first{r}", max_steps="1") for r in RANKS}
    gradients = {
        r: torch.cat([value.flatten() for name, value in weights(first[r]).items() if name.startswith("momentum")])
        for r in RANKS
    }  # the first momentum is the gradient, weight decay added
    runs = {r: server.run(r, dataset, tmp_path / str(r)) for r in RANKS}
    nudged = server.run(1, dataset, tmp_path / "nudged", nudge=True)
    drift = np.abs(trace(nudged)[:, 0] - trace(runs[1])[:, 0]).max()
    assert drift > 0.0
    for ranks in RANKS[1:]:
        assert apart(gradients[1], gradients[ranks]) < 1e-5
        assert trace(first[ranks])[0, 0] == pytest.approx(trace(first[1])[0, 0], rel=1e-5)
        assert np.abs(trace(runs[ranks])[:, 0] - trace(runs[1])[:, 0]).max() <= 3.0 * drift


def wait_for(out: Path, *, records: int) -> None:
    """Until a run has logged so many."""
    log, deadline = out / "metrics.jsonl", time.monotonic() + TIMEOUT_S
    while not (log.exists() and log.read_bytes().count(b"\n") >= records) and time.monotonic() < deadline:
        time.sleep(0.002)


def kill_at(server: Server, step: int, ranks: int, dataset: Dataset, out: Path) -> None:
    """Start a float64 run and kill -9 its ranks once it has logged ``step``."""
    pids = server.begin(ranks, dataset, out, precision="fp64")
    wait_for(out, records=step)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert server.end() == [-signal.SIGKILL] * ranks


def check_kill(server: Server, number: int, whole: dict[int, Path], dataset: Dataset, out: Path) -> None:
    """Kill number ``number``: at a random step on 1, 2 or 4 ranks; the next of these numbers goes on."""
    seed = random.SystemRandom().randrange(2**32)
    before, after = RANKS[number // 3 % 3], RANKS[number % 3]
    step = random.Random(seed).randrange(1, STEPS - 5)
    kill_at(server, step, before, dataset, out)
    where = f"seed {seed}: killed at step {step} on {before} ranks, resumed on {after}"
    server.run(after, dataset, out, precision="fp64")
    exact = before == after
    np.testing.assert_allclose(trace(out), trace(whole[after]), rtol=0.0, atol=0.0 if exact else 1e-9, err_msg=where)
    kept, expected = weights(out), weights(whole[after])
    for name, value in expected.items():
        assert apart(value.double(), kept[name].double()) <= (0.0 if exact else 1e-9), f"{where}: {name}"


@pytest.mark.parametrize("number", [4, 5, 8])  # 2 -> 2, 2 -> 4, 4 -> 4 ranks
def test_a_killed_run_goes_on_on_any_number_of_ranks(
    number: int, server: Server, whole: dict[int, Path], dataset: Dataset, tmp_path: Path
) -> None:
    check_kill(server, number, whole, dataset, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_twenty_killed_runs_go_on_on_any_number_of_ranks(
    number: int, server: Server, whole: dict[int, Path], dataset: Dataset, tmp_path: Path
) -> None:
    check_kill(server, number, whole, dataset, tmp_path / "run")


def test_a_signal_saves_and_asks_for_another_start(
    server: Server, whole: dict[int, Path], dataset: Dataset, tmp_path: Path
) -> None:
    """To the second rank alone, as a node's daemon may send it: both save at one step and end with 75."""
    out, settings = tmp_path / "run", {"precision": "fp64", "log_every_steps": "7"}
    pids = server.begin(2, dataset, out, **settings)
    wait_for(out, records=4)  # of steps 5, 7, 10 and 14
    os.kill(pids[1], signal.SIGUSR1)
    assert server.end() == [75, 75]
    assert 14 <= newest(out)["step"] < STEPS
    assert (out / "requeue").read_text().startswith(f"saved at step {newest(out)['step']} after")
    server.run(2, dataset, out, **settings)
    assert not (out / "requeue").exists()
    ends = sorted({*range(7, STEPS, 7), *range(5, STEPS + 1, 5)})
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == ends
    loss = trace(whole[2])[:, 0]  # a record is the mean over its steps, those before the signal too
    means = [loss[first:last].mean() for first, last in zip([0, *ends], ends, strict=False)]
    np.testing.assert_allclose([record["loss"] for record in records], means, rtol=1e-14)
    kept, expected = weights(out), weights(whole[2])
    assert all(torch.equal(value, kept[name]) for name, value in expected.items())


@pytest.mark.parametrize("settings", [{"accumulate": "2"}, {"batch_norm": "sync", "max_steps": "20"}])
def test_other_ways_to_take_a_step_are_the_same_on_one_rank_and_two(
    settings: dict[str, str], server: Server, whole: dict[int, Path], dataset: Dataset, tmp_path: Path
) -> None:
    runs = [server.run(r, dataset, tmp_path / str(r), precision="fp64", **settings) for r in (1, 2)]
    np.testing.assert_allclose(trace(runs[1]), trace(runs[0]), rtol=0.0, atol=1e-9)
    if "accumulate" in settings:  # and as without it, running statistics too
        np.testing.assert_allclose(trace(runs[0]), trace(whole[1]), rtol=0.0, atol=1e-9)
        kept, expected = weights(runs[1]), weights(whole[1])
        assert all(apart(value.double(), kept[name].double()) < 1e-9 for name, value in expected.items())
    else:
        assert np.abs(trace(runs[0]) - trace(whole[1])[:20]).max() > 1e-6


def test_gradients_may_be_rounded_on_their_way(server: Server, dataset: Dataset, tmp_path: Path) -> None:
    plain, rounded = (
        server.run(2, dataset, tmp_path / kind, max_steps="3", gradient_compression=kind) for kind in ("none", "fp16")
    )
    difference = np.abs(trace(plain)[:, 0] - trace(rounded)[:, 0])
    assert difference[0] == 0.0  # the first loss is before any gradient
    assert 0.0 < difference[2] < 0.05


def test_statistics_of_each_rank_are_refused_on_another_number(
    server: Server, dataset: Dataset, tmp_path: Path
) -> None:
    out = server.run(2, dataset, tmp_path / "run", max_steps="6", batch_norm="rank")
    before = newest(out)["step"]
    server.begin(1, dataset, out, max_steps="6", batch_norm="rank")
    assert server.end() == [2]
    assert "--batch-norm rank: expected the 2 ranks that the run began with, got 1" in Path(f"{out}.log").read_text()
    assert newest(out)["step"] == before


CONFIG = PretrainConfig(
    encoder=EncoderConfig(depth=10, width=2), view_px=16, batch=16, queue=64, embedding=16, batch_norm_groups=4
)


@pytest.mark.parametrize("size", RANKS)
def test_ranks_share_the_samples_and_parameters_of_one(size: int, dataset: Dataset) -> None:
    alone = Pretraining(CONFIG, dataset, Ranks(0, 1, torch.device("cpu")))
    batch = next(global_batches(alone.order, alone.state, CONFIG.batch))
    expected = alone.pair(batch)
    pairs, plans = [], []
    for rank in range(size):
        training = Pretraining(CONFIG, dataset, Ranks(rank, size, torch.device("cpu")))
        pairs.append(training.pair(batch))
        plans.append(training.plan(pairs[-1]))
    assert np.array_equal(np.concatenate([p.unique[p.queries] for p in pairs]), expected.unique[expected.queries])
    assert np.array_equal(np.concatenate([p.unique[p.keys] for p in pairs]), expected.unique[expected.keys])
    whole = alone.plan(expected)
    for name in ("affine", "gain", "taps", "noise_sigma", "noise_key"):
        parts = [getattr(plan, name).chunk(2) for plan in plans]
        for view in (QUERY, KEY):
            ours, theirs = torch.cat([part[view] for part in parts]), getattr(whole, name).chunk(2)[view]
            assert torch.equal(ours, theirs), name


def test_a_group_that_would_lie_in_two_ranks_or_parts_is_refused(dataset: Dataset) -> None:
    with pytest.raises(TrainerError, match="--batch-norm-groups: expected a multiple of the 8 ranks, got 4"):
        Pretraining(CONFIG, dataset, Ranks(0, 8, torch.device("cpu")))
    config = replace(CONFIG, accumulate=4)
    with pytest.raises(TrainerError, match="--accumulate: expected a divisor of each rank's 2 of --batch-norm-groups"):
        Pretraining(config, dataset, Ranks(0, 2, torch.device("cpu")))
