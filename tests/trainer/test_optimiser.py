"""The optimisers against their formulas, and steps that are left out."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from trainer.config import PretrainConfig
from trainer.optimiser import TRUST, make_optimiser
from trainer.schedule import cosine

KINDS = ("sgd", "lars", "adamw")


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(5, 3)


def optimiser(module: nn.Module, kind: str, lr: float = 0.1) -> torch.optim.Optimizer:
    config = PretrainConfig(optimiser=kind, weight_decay=0.01)  # type: ignore[arg-type]
    return make_optimiser(config, [{"params": list(module.parameters()), "first_lr": lr}])


def set_gradients(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_lars_is_its_formula() -> None:
    """You et al. 2017, a layer at a time, with torch's momentum; the bias moves as with SGD, without decay."""
    module = layer()
    weight, bias = (p.detach().clone() for p in (module.weight, module.bias))
    made = optimiser(module, "lars")
    moments = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for seed in range(3):
        set_gradients(module, seed)
        assert module.weight.grad is not None
        assert module.bias.grad is not None
        g, g_bias = module.weight.grad.clone(), module.bias.grad.clone()
        made.step()
        rate = TRUST * weight.norm() / (g.norm() + 0.01 * weight.norm())
        moments = [0.9 * moments[0] + rate * (g + 0.01 * weight), 0.9 * moments[1] + g_bias]
        weight, bias = weight - 0.1 * moments[0], bias - 0.1 * moments[1]
        assert_close(module.weight.detach(), weight)
        assert_close(module.bias.detach(), bias)


def test_lars_takes_a_layer_of_zeros_and_a_gradient_of_zeros() -> None:
    module = layer()
    nn.init.zeros_(module.weight)
    made = optimiser(module, "lars")
    set_gradients(module, 0)
    made.step()
    assert module.weight.isfinite().all()
    before = module.weight.detach().clone()
    module.zero_grad(set_to_none=False)
    made.step()
    assert module.weight.isfinite().all()
    assert not torch.equal(module.weight, before)  # by its momentum


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_sgd_and_adamw_are_torchs(kind: str) -> None:
    ours, theirs = layer(), layer()
    made = optimiser(ours, kind)
    plain: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01, "foreach": False}
    expected = (
        torch.optim.SGD(theirs.parameters(), momentum=0.9, **plain)
        if kind == "sgd"
        else torch.optim.AdamW(theirs.parameters(), **plain)
    )
    for seed in range(4):
        set_gradients(ours, seed)
        set_gradients(theirs, seed)
        made.step()
        expected.step()
    assert_close(ours.weight, theirs.weight)


@pytest.mark.parametrize("first", [True, False])  # torch's own SGD would keep memory that nobody wrote
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_is_left_out_leaves_no_trace(kind: str, first: bool) -> None:
    ours, theirs = layer(), layer()
    made, expected = optimiser(ours, kind), optimiser(theirs, kind)
    for number, seed in enumerate(range(3)):
        if number == (0 if first else 2):
            for parameter in ours.parameters():
                parameter.grad = torch.full_like(parameter, torch.nan)
            made.found_inf = torch.ones(())  # type: ignore[attr-defined]
            made.step()
        set_gradients(ours, seed)
        set_gradients(theirs, seed)
        made.found_inf = torch.zeros(())  # type: ignore[attr-defined]
        made.step()
        expected.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


def test_the_rate_follows_the_stated_rule_unless_it_is_given() -> None:
    def rate(kind: str, batch: int, **given: float) -> float:
        return PretrainConfig(optimiser=kind, batch=batch, queue=65536, **given).peak_lr  # type: ignore[arg-type]

    assert rate("sgd", 256) == 0.03
    assert rate("sgd", 1024) == pytest.approx(4 * 0.03)
    assert rate("lars", 4096) == pytest.approx(16 * 0.3)
    assert rate("adamw", 1024) == pytest.approx(2 * 1e-3)
    assert all(rate(kind, 1024, lr=0.5) == 0.5 for kind in KINDS)


def test_warm_up_is_a_line_and_the_rest_half_a_cosine() -> None:
    factors = [cosine(step, total=20, warmup=4) for step in range(21)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[12] == pytest.approx(0.5)
    assert factors[16] == pytest.approx(0.5 * (1 - math.sqrt(0.5)))
    assert factors[20] == pytest.approx(0.0)
