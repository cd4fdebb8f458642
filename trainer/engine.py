"""One step of an optimiser, the same for every training: in parts, over ranks, in any precision, and only if it counts.

A step whose loss, gradients or batch statistics are not finite does not count: weights, moments, running statistics,
and by `finish`'s answer whatever else a training keeps, stay as they were. The device decides that; the host hears of
it later, by `telemetry`, and stops. From there on nothing counts any more. With fp16 a gradient that overflows is a
matter of course: the optimiser leaves that step out, and the scale is lowered; only many in a row are a failure.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from .config import TrainingConfig
from .distributed import Ranks
from .optimiser import Groups, make_optimiser
from .precision import Arithmetic
from .statistics import RunningStatistics

# What a module gives for some rows, and which they are, to "loss" and other figures: a value a row of each.
Losses = Callable[[Tensor, slice], Mapping[str, Tensor]]


class Engine:
    """Takes steps with a module; ``follower`` is another whose running statistics belong to the step."""

    def __init__(
        self, module: nn.Module, groups: Groups, config: TrainingConfig, ranks: Ranks, follower: nn.Module | None = None
    ) -> None:
        self.module, self.follower = module, follower
        self.ranks, self._config = ranks, config
        ranks.check_compression(config.gradient_compression)
        self.arithmetic = Arithmetic(config.precision, ranks.device)
        self.optimiser = make_optimiser(config, groups)
        self._statistics = [RunningStatistics(part) for part in (module, follower) if part is not None]
        self._wrapped: nn.Module = module
        self._settled = False
        self._failed = torch.zeros((), dtype=torch.bool, device=ranks.device)
        self._skipped = torch.zeros((), dtype=torch.int32, device=ranks.device)  # steps in a row
        self._parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]

    def start(self) -> None:
        """To be called once the weights are there: compiles, and ties the ranks' gradients together."""
        if self._config.compile:
            for module in (self.module, self.follower):
                if module is not None:
                    module.compile()
        self._wrapped = self.ranks.wrap(
            self.module, compression=self._config.gradient_compression, parts=self._config.accumulate
        )

    def begin(self, factor: float) -> None:
        """Begin a step at this share of the groups' first learning rates."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["first_lr"] * factor
        self.optimiser.zero_grad(set_to_none=True)
        for statistics in self._statistics:
            statistics.begin()

    @torch.no_grad()
    def follow(self, inputs: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "n outputs"]:
        """What the follower makes of the rows, part by part."""
        assert self.follower is not None
        outputs = []
        for rows in self._parts(len(inputs)):
            with self.arithmetic.autocast():
                outputs.append(self.follower(inputs[rows]))
            self._statistics[1].end_part()
        return torch.cat(outputs)

    def learn(self, inputs: Shaped[Tensor, "n ..."], losses: Losses) -> dict[str, Tensor]:
        """Gradients of the mean loss over the rows, part by part; the means of all that ``losses`` told."""
        parts = self._parts(len(inputs))
        if self._wrapped is not self.module and not self._settled:
            self._settle(inputs[parts[0]])
        told = []
        for rows in parts:
            with self.ranks.exchanging(self._wrapped, now=rows is parts[-1]):
                with self.arithmetic.autocast():
                    outputs = self._wrapped(inputs[rows])
                figures = losses(outputs, rows)
                loss = figures["loss"].mean() * torch.where(self._failed, torch.nan, 1.0)  # gradients will be NaN too
                self.arithmetic.backward(loss / len(parts))
            self._statistics[0].end_part()
            told.append(
                {name: value.detach().to(loss.dtype).mean() for name, value in figures.items()} | {"loss": loss}
            )
        return {name: torch.stack([part[name].detach() for part in told]).mean() for name in told[0]}

    def _settle(self, inputs: Tensor) -> None:
        """A backward pass that counts for nothing, for DDP to find its buckets, which it orders by the first one.

        In what order NCCL adds ranks up depends on a gradient's place in a bucket: without this, the first step after a
        resume might be rounded in another way than that of an undisturbed run. On CPUs `distributed` sees to it.
        """
        self._settled = True
        with self.arithmetic.autocast():
            outputs = self._wrapped(inputs)
        torch.autograd.backward(0.0 * outputs.float().sum())
        self.optimiser.zero_grad(set_to_none=True)
        self._statistics[0].restore()

    def finish(self, figures: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Bool[Tensor, ""]]:
        """Step, if the step counts: the figures' means over the ranks, with ``failed`` and ``skipped``; and whether."""
        self.arithmetic.unscale(self.optimiser)
        finite = self._gradients_are_finite()
        means, statistics = self._average(figures)
        self._failed = ~torch.stack([values.isfinite().all() for values in (means["loss"], *statistics)]).all()
        self._skipped = torch.where(finite, 0, self._skipped + 1)
        self._failed = self._failed | (self._skipped > self.arithmetic.skips)
        left_out = self._failed | ~finite
        self.arithmetic.step(self.optimiser, left_out)
        for running, mean in zip(self._statistics, statistics, strict=True):
            running.settle(mean, ~self._failed)
        flags = {"failed": self._failed, "skipped": left_out}
        return means | {name: flag.to(means["loss"].dtype) for name, flag in flags.items()}, ~self._failed

    def _average(self, figures: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Figures and running statistics, meant over the ranks in one message."""
        statistics = [running.reached() for running in self._statistics]
        head = torch.stack(list(figures.values()))
        mean = self.ranks.mean(torch.cat([head, *(values.to(head) for values in statistics)]))
        parts = torch.split(mean, [len(head), *map(len, statistics)])
        return dict(zip(figures, parts[0].unbind(), strict=True)), list(parts[1:])

    def _gradients_are_finite(self) -> Bool[Tensor, ""]:
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        return torch.stack(torch._foreach_norm(gradients)).isfinite().all()

    def _parts(self, rows: int) -> list[slice]:
        size = rows // self._config.accumulate  # a divisor: `Ranks.divide_statistics` has seen to that
        return [slice(first, first + size) for first in range(0, rows, size)]

    def check_weights(self, step: int) -> None:
        """To be asked on all ranks before a checkpoint: one whose weights are not finite would end every resume."""
        weights = [parameter.detach() for parameter in self._parameters]
        if not torch.stack(torch._foreach_norm(weights)).isfinite().all():
            self.ranks.fail(f"step {step}: expected finite weights, got some that are not, and saved none; lower --lr")

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on, beside the modules."""
        return {"optimiser": self.optimiser.state_dict(), "arithmetic": self.arithmetic.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.arithmetic.load_state_dict(state["arithmetic"])
