"""How one step of an optimiser is taken in fp32, bf16 or fp16."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .config import Precision

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Arithmetic:
    """Autocast for the forward pass, and for fp16 a scaled loss, whose scale is part of a checkpoint."""

    def __init__(self, precision: Precision, device: torch.device) -> None:
        self._device = device.type
        self._dtype = _DTYPES[precision]
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def autocast(self) -> torch.autocast:
        """The context in which the encoder runs."""
        return torch.autocast(self._device, self._dtype, enabled=self._dtype != torch.float32)

    def step(self, loss: Tensor, optimiser: Optimizer) -> None:
        """Backward and one step; with fp16 a step whose gradients overflow is left out and the scale lowered."""
        optimiser.zero_grad(set_to_none=True)
        scaled: Tensor = self._scaler.scale(loss)
        torch.autograd.backward(scaled)
        self._scaler.step(optimiser)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """What must be kept to go on: empty but for fp16."""
        return self._scaler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self._scaler.load_state_dict(dict(state))
