"""The arithmetic of a training: autocast in bf16 or fp16, a scaled loss for fp16, float64 for tests."""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .config import Precision

Module = TypeVar("Module", bound=nn.Module)

SKIPS_IN_A_ROW = 32  # each halves the scale: from 2^16 they lead to 2^-16, where nothing overflows that is not infinite

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}


class Arithmetic:
    """Autocast for the forward pass, and for fp16 a scaled loss, whose scale is part of a checkpoint."""

    def __init__(self, precision: Precision, device: torch.device) -> None:
        self._device = device
        self._dtype = _DTYPES[precision]
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    @property
    def skips(self) -> int:
        """How many steps in a row may be left out for gradients that are not finite: with fp16 the scale is sought."""
        return SKIPS_IN_A_ROW if self._scaler.is_enabled() else 0

    @property
    def weights(self) -> torch.dtype:
        """What weights, views and queue are held in."""
        return torch.float64 if self._dtype == torch.float64 else torch.float32

    def prepare(self, module: Module) -> Module:
        """The module on the device in the dtype of the weights; on a GPU channels-last, as its images are."""
        module.to(self._device, self.weights)
        if self._device.type == "cuda":
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return module

    def autocast(self) -> torch.autocast:
        """The context in which the encoder runs."""
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype in (torch.bfloat16, torch.float16))

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, for fp16 times the scale."""
        scaled: Tensor = self._scaler.scale(loss)
        torch.autograd.backward(scaled)

    def unscale(self, optimiser: Optimizer) -> None:
        """Bring the gradients back to their size."""
        if self._scaler.is_enabled():
            self._scaler.unscale_(optimiser)

    def step(self, optimiser: Optimizer, left_out: Tensor) -> None:
        """One step, unless ``left_out`` (a 0-dim bool on the device) says no, or fp16's gradients overflowed."""
        if self._scaler.is_enabled():  # the scaler knows by itself, from `unscale`
            self._scaler.step(optimiser)
            self._scaler.update()
        else:
            optimiser.found_inf = left_out.to(torch.float32)  # type: ignore[attr-defined]
            optimiser.step()

    def state_dict(self) -> dict[str, Any]:
        """What must be kept to go on: empty but for fp16."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._scaler.load_state_dict(dict(state))
