"""The optimisers: SGD with momentum, LARS and AdamW, fused, each of them able to leave a step out without the host.

A step is left out where ``optimiser.found_inf`` is 1: torch's fused optimisers look at that number on the device. So a
gradient that is not finite changes neither weights nor moments, and nobody waits to find out.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from .config import TrainingConfig

TRUST = 1e-3  # LARS' own coefficient (You et al. 2017)

Groups = Sequence[dict[str, Any]]  # "params", and "first_lr": the rate before any schedule


def make_optimiser(config: TrainingConfig, groups: Groups) -> Optimizer:
    """The configured optimiser over these groups."""
    rates = [{**group, "lr": group["first_lr"]} for group in groups]
    if config.optimiser == "adamw":
        return AdamW(rates, weight_decay=config.weight_decay, fused=True)
    kind = {"sgd": MomentumSGD, "lars": LARS}[config.optimiser]
    return kind(rates, momentum=config.sgd_momentum, weight_decay=config.weight_decay)


class MomentumSGD(SGD):
    """torch's fused SGD, whose momentum begins at zero.

    Left to itself torch takes the first gradient as the first momentum: a first step that is left out (fp16 begins with
    such) would leave memory that nobody wrote. The two are the same otherwise: m * 0 + g = g.
    """

    def __init__(self, params: Groups, *, momentum: float, weight_decay: float) -> None:
        super().__init__(params, momentum=momentum, weight_decay=weight_decay, fused=True)
        if momentum > 0:
            for parameter in self._parameters():
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


class LARS(MomentumSGD):
    """SGD in which a layer's step is in proportion to its weights (You et al. 2017, arXiv:1708.03888).

    The gradient g, with decay * w added to it, is scaled by TRUST * |w| / (|g| + decay * |w|). Biases and the scales of
    batch norm, which have one dimension, are neither scaled nor decayed, as is usual (Chen et al. 2020). The momentum
    is torch's: the learning rate is outside it.
    """

    def __init__(self, params: Groups, *, momentum: float, weight_decay: float) -> None:
        super().__init__(params, momentum=momentum, weight_decay=0.0)
        self._decay = weight_decay

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; the gradients are scaled where they lie."""
        layers = [p for p in self._parameters() if p.grad is not None and p.ndim > 1]
        weights: list[Tensor] = [p.detach() for p in layers]
        gradients: list[Tensor] = [p.grad for p in layers if p.grad is not None]
        if layers:
            for gradient, ratio in zip(gradients, self._ratios(weights, gradients), strict=True):
                gradient.mul_(ratio)
        super().step()

    def _ratios(self, weights: list[Tensor], gradients: list[Tensor]) -> tuple[Tensor, ...]:
        """One a layer, on the device; 1 where there is no weight or no gradient. Adds the decay to the gradients."""
        size = torch.stack(torch._foreach_norm(weights))
        slope = torch.stack(torch._foreach_norm(gradients))
        torch._foreach_add_(gradients, weights, alpha=self._decay)
        scaled = TRUST * size / (slope + self._decay * size)
        return torch.where((size > 0) & (slope > 0), scaled, 1.0).unbind()
