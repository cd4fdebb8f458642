"""A step that counts, one that does not, and a host that is not asked while it is made."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from sharding import Dataset
from trainer.config import EncoderConfig, PretrainConfig
from trainer.data import global_batches
from trainer.distributed import Ranks
from trainer.errors import TrainerError
from trainer.precision import SKIPS_IN_A_ROW
from trainer.pretrain import Pretraining, pretrain
from trainer.statistics import RunningStatistics

ALONE = Ranks(0, 1, torch.device("cpu"))
CONFIG = PretrainConfig(
    encoder=EncoderConfig(depth=10, width=2, stretch="asinh"), view_px=16, batch=16, epochs=50, max_steps=12, queue=32,
    embedding=16, key_momentum=0.9, lr=0.03, batch_norm_groups=4, log_every_steps=1,
)  # fmt: skip


def views(seed: int) -> tuple[Tensor, Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    queries, keys = torch.randn(2, 16, 5, 16, 16, generator=generator).unbind()
    return queries, keys, np.random.default_rng(seed).permutation(16)


def state(training: Pretraining) -> dict[str, Any]:
    kept = training.state_dict()
    return {"model": {name: value.clone() for name, value in kept["model"].items()}} | {
        "moments": {n: {k: v.clone() for k, v in s.items()} for n, s in kept["optimiser"]["state"].items()}
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("where", ["queries", "keys"])
@pytest.mark.parametrize("optimiser", ["sgd", "lars", "adamw"])
def test_a_step_that_is_not_finite_changes_nothing_nor_do_those_after_it(
    optimiser: Any, where: str, precision: Any, make_survey: Callable[..., Dataset]
) -> None:
    training = Pretraining(replace(CONFIG, optimiser=optimiser, precision=precision), make_survey(60), ALONE)
    for step in range(3):
        _, figures = training.learn(*views(step))
        assert not figures["failed"]
    before = state(training)
    queries, keys, order = views(3)
    {"queries": queries, "keys": keys}[where][5] = 1e38  # overflows in the first convolution
    training.moco.encoder_q.stretch.kind = training.moco.encoder_k.stretch.kind = "none"
    for number, given in enumerate([(queries, keys, order), views(4), views(5)]):
        _, figures = training.learn(*given)
        assert figures["failed"] == 1.0, number
        assert_close(state(training), before, rtol=0.0, atol=0.0)


def test_a_failure_names_the_step_and_the_sample(
    make_survey: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_survey(60)
    config = replace(CONFIG, encoder=replace(CONFIG.encoder, stretch="none"))
    order = Pretraining(config, dataset, ALONE).order
    batches = global_batches(order, order.start, config.batch)
    wrong = [next(batches).indices for _ in range(2)][1][3]
    read = Dataset.read_into

    def damaged(self: Dataset, indices: np.ndarray, out: np.ndarray, *, check: bool) -> None:
        read(self, indices, out, check=check)
        pixels = out.view(np.float32)
        pixels[indices == wrong] = 1e38

    monkeypatch.setattr(Dataset, "read_into", damaged)
    objid = dataset.column("objid")[wrong]
    told = rf"step 2: expected finite values, got gradients.*samples that give no.*: objid {objid} \("
    with pytest.raises(TrainerError, match=told):
        pretrain(config, dataset, tmp_path / "run", ranks=ALONE, console=Console(file=io.StringIO()))
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1]


def test_an_overflow_of_fp16_leaves_the_step_out_and_lowers_the_scale(make_survey: Callable[..., Dataset]) -> None:
    training = Pretraining(replace(CONFIG, precision="fp16"), make_survey(60), ALONE)
    scaler = training.engine.arithmetic._scaler
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**40})
    weights = training.moco.encoder_q.conv1.weight.detach().clone()
    _, figures = training.learn(*views(0))
    assert (figures["failed"], figures["skipped"]) == (0.0, 1.0)
    assert torch.equal(training.moco.encoder_q.conv1.weight, weights)
    assert training.moco.queue_ptr == 16  # the keys are as good as any
    assert scaler.state_dict()["scale"] == 2.0**39
    momenta = training.engine.optimiser.state_dict()["state"]
    assert not any(moment["momentum_buffer"].any() for moment in momenta.values())


def test_with_fp16_gradients_that_are_never_finite_are_a_failure(make_survey: Callable[..., Dataset]) -> None:
    training = Pretraining(replace(CONFIG, precision="fp16", max_steps=100), make_survey(60), ALONE)
    training.moco.encoder_q.conv1.weight.register_hook(lambda gradient: gradient * torch.nan)
    failed = [bool(training.learn(*views(0))[1]["failed"]) for _ in range(SKIPS_IN_A_ROW + 2)]
    assert failed == [False] * SKIPS_IN_A_ROW + [True] * 2


def test_a_module_without_batch_norm_has_no_statistics_to_keep() -> None:
    """On the meta device, where a tensor that was left on the CPU would be seen."""
    statistics = RunningStatistics(torch.nn.Linear(2, 2, device="meta"))
    statistics.begin()
    statistics.end_part()
    statistics.settle(torch.empty(0, device="meta"), torch.ones((), dtype=torch.bool, device="meta"))


class NoAnswers(TorchDispatchMode):
    """Refuses whatever makes the host wait for a value from the device."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        assert name not in self.WAITING, f"the host waits for {func}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimiser", ["sgd", "lars", "adamw"])
def test_the_host_asks_the_device_nothing_in_a_step(
    optimiser: Any, precision: Any, make_survey: Callable[..., Dataset]
) -> None:
    training = Pretraining(replace(CONFIG, optimiser=optimiser, precision=precision), make_survey(60), ALONE)
    training.learn(*views(0))
    with NoAnswers():
        training.learn(*views(1))
        with pytest.raises(AssertionError, match="the host waits"):  # the mode would see it
            float(torch.ones(1).sum())


def test_parts_add_up_to_the_whole_batch(make_survey: Callable[..., Dataset]) -> None:
    dataset = make_survey(60)
    whole, parts = (
        Pretraining(replace(CONFIG, precision="fp64", accumulate=number), dataset, ALONE) for number in (1, 4)
    )
    for step in range(3):
        told = [training.learn(*views(step))[1] for training in (whole, parts)]
        assert_close(told[0]["loss"], told[1]["loss"], rtol=1e-12, atol=0.0)
    assert_close(state(whole), state(parts), rtol=1e-10, atol=1e-12)
