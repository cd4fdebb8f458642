"""Two nodes of torchrun, started as cluster/README.md says: one is lost and comes back, and the run is the same."""

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest
from commands import commands
from network import Host, lacking, power_off, two_hosts

import trainer.running
from benchmarks.training.galaxies import random_galaxies
from trainer.__main__ import main

SETTINGS = {
    "depth": "10", "width": "2", "view-px": "16", "batch": "16", "queue": "64", "embedding": "16",
    "key-momentum": "0.9", "batch-norm-groups": "4", "epochs": "1000", "checkpoint-every-steps": "5",
    "log-every-steps": "1", "read-threads": "1", "precision": "fp64",
}  # fmt: skip
TIMEOUT_S = 180.0
# Which hosts there are, for the test's name to say.
HOSTS = f"on loopback ({lacking()})" if lacking() else "on hosts of their own"
# The trainer, less patient with a node that says nothing.
IMPATIENT = """
import sys
from datetime import timedelta
import trainer.distributed, trainer.rendezvous
trainer.distributed.PATIENCE = trainer.rendezvous.PATIENCE = timedelta(seconds=20)
from trainer.__main__ import main
sys.exit(main())
"""


class Run:
    """A pre-training on two nodes, of which the first, A, holds the store where they meet."""

    def __init__(
        self, folder: Path, hosts: tuple[Host, Host], *, steps: int, told: str, nodes: str, program: tuple[str, ...]
    ) -> None:
        """``told``: how the page's command that is taken begins; ``nodes``: how many of them there are here."""
        self.folder, self.out, self.steps, self._hosts = folder, folder / "run", steps, hosts
        words = shlex.split(next(each.text for each in commands() if each.text.startswith(told)))
        options = words[1 : words.index("-m")]
        endpoint = f"{hosts[0].name}:{hosts[0].free_port()}"
        given = {"--nnodes": nodes, "--nproc-per-node": "1", "--rdzv-endpoint": endpoint}
        for name, value in given.items():
            options[options.index(name) + 1] = value
        quick = ["--rdzv-conf", "keep_alive_interval=1,last_call_timeout=3"]  # a dead node is known after 3 s, not 15
        self._torchrun = [sys.executable, "-m", "torch.distributed.run", *options, *quick, *program]
        exports = dict(
            word.split("=")
            for each in commands()
            if each.text.startswith("export TORCH_")
            for word in each.text.split()[1:]
        )
        self._environment = {**os.environ, **exports, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def start(self, number: int) -> "Popen[bytes]":
        """Switch a node on."""
        words = pretrain(self.folder / "data", self.out, self.steps)
        return self._hosts[number].start([*self._torchrun, *words], self.log(number), self._environment)

    def log(self, number: int) -> Path:
        """What the node's torchrun and ranks say."""
        return self.folder / f"{'ab'[number]}.log"

    def reach(self, holds: Callable[[], bool], node: "Popen[bytes]") -> None:
        """Wait until something holds, while the node is on."""
        deadline = time.monotonic() + TIMEOUT_S
        while not holds():
            assert node.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.005)

    def logged(self) -> int:
        """Records so far."""
        log = self.out / "metrics.jsonl"
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def starts(self) -> list[tuple[int, int]]:
        """Of each start the number of ranks and the step from which it went on."""
        found = re.findall(r"(\d+) ranks? on cpu, .* steps (\d+) to", self.said())
        return [(int(ranks), int(step)) for ranks, step in found]

    def said(self) -> str:
        """By both nodes."""
        return "".join(self.log(number).read_text() for number in (0, 1))


def pretrain(data: Path, out: Path, steps: int) -> list[str]:
    given = {"data": str(data), "out": str(out), "max-steps": str(steps), **SETTINGS}
    return ["pretrain", *(word for name, value in given.items() for word in (f"--{name}", value))]


@contextmanager
def switched_off(nodes: list["Popen[bytes]"]) -> Iterator[None]:
    """Whatever happens in the block, none of the nodes is on after it."""
    try:
        yield
    finally:
        for node in nodes:
            power_off(node)


def undisturbed(folder: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The losses of one rank, in this process; makes the dataset too."""
    monkeypatch.setattr(trainer.running, "write_run_report", lambda run: run / "report.html")
    random_galaxies(folder / "data", 64).close()
    assert main(pretrain(folder / "data", folder / "whole", steps)) == 0
    return losses(folder / "whole", steps)


def losses(out: Path, steps: int) -> np.ndarray:
    """Of each step, which must be there once."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, steps + 1))
    return np.array([record["loss"] for record in records])


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("node-a", "node-b"), id=f"a rank's, {HOSTS}"),
        pytest.param(("node-b", "node-a"), id=f"the first rank's, {HOSTS}", marks=pytest.mark.slow),
    ],
)  # torchrun orders nodes by their names
def test_a_node_is_lost_and_comes_back(names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 60
    whole = undisturbed(tmp_path, steps, monkeypatch)
    assert np.abs(np.diff(whole)).min() > 1e-6  # something happens in every step
    with two_hosts(tmp_path, names) as hosts:
        run = Run(tmp_path, hosts, steps=steps, told="torchrun --nnodes 4 ", nodes="2", program=("-m", "trainer"))
        nodes = [run.start(0), run.start(1)]
        with switched_off(nodes):
            run.reach(lambda: run.logged() >= 12, nodes[0])  # the checkpoint of step 5 is whole
            power_off(nodes[1])
            nodes[1] = run.start(1)
            assert [node.wait(TIMEOUT_S) for node in nodes] == [0, 0], run.said()
    (ranks, first), *_, (ranks_again, step) = run.starts()
    assert (ranks, first, ranks_again) == (2, 0, 2)
    assert step >= 5
    np.testing.assert_allclose(losses(run.out, steps), whole, rtol=0.0, atol=1e-9)


@pytest.mark.slow  # three minutes
@pytest.mark.skipif(bool(lacking()), reason=lacking() or "hosts can be made")
def test_an_elastic_run_goes_on_without_a_node_that_falls_silent_and_with_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 600
    whole = undisturbed(tmp_path, steps, monkeypatch)
    (tmp_path / "impatient.py").write_text(IMPATIENT)
    program = (str(tmp_path / "impatient.py"),)
    with two_hosts(tmp_path, ("node-a", "node-b")) as hosts:
        run = Run(tmp_path, hosts, steps=steps, told="torchrun --nnodes 2:4 ", nodes="1:2", program=program)
        nodes = [run.start(0), run.start(1)]
        with switched_off(nodes):
            run.reach(lambda: run.logged() >= 12, nodes[0])
            hosts[1].plug("down")
            run.reach(lambda: len(run.starts()) == 2, nodes[0])
            power_off(nodes[1])
            hosts[1].plug("up")
            nodes[1] = run.start(1)
            assert [node.wait(TIMEOUT_S) for node in nodes] == [0, 0], run.said()
    assert [ranks for ranks, _ in run.starts()] == [2, 1, 2]
    assert "another rank has not answered for 0:00:20; are its node and the network up?" in run.log(0).read_text()
    saved = f"saved at step {run.starts()[2][1]}; start it again to go on"
    assert saved in run.log(0).read_text()  # a node that comes costs no step
    np.testing.assert_allclose(losses(run.out, steps), whole, rtol=0.0, atol=1e-9)
