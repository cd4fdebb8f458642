"""The running statistics of batch norm in a step that is taken in parts, by many ranks, and perhaps not at all.

Each part of a batch, on each rank, moves the statistics from where they stood before the step. What counts is the mean
of where all parts of all ranks came to, and that only if the step counts.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class RunningStatistics:
    """Means and variances of all batch norms of a module, as one flat vector."""

    def __init__(self, module: nn.Module) -> None:
        self._buffers = [
            buffer
            for norm in module.modules()
            if isinstance(norm, nn.BatchNorm2d)
            for buffer in (norm.running_mean, norm.running_var)
            if buffer is not None
        ]

    def begin(self) -> None:
        """A step begins where the statistics stand now."""
        self._before, self._ends = self._read(), list[Tensor]()

    def end_part(self) -> None:
        """A part has been through the module, and backwards: note where it came to, and stand as before."""
        self._ends.append(self._read())
        self.restore()

    def restore(self) -> None:
        """Stand as at the beginning of the step."""
        self._write(self._before)

    def reached(self) -> Float[Tensor, " values"]:
        """The mean over this rank's parts."""
        return torch.stack(self._ends).mean(dim=0)

    def settle(self, mean: Float[Tensor, " values"], counts: Bool[Tensor, ""]) -> None:
        """Stand at the mean over all ranks, or as before a step that does not count."""
        if self._buffers:
            self._write(torch.where(counts, mean, self._before))

    def _read(self) -> Tensor:
        return torch.cat([buffer.flatten() for buffer in self._buffers]) if self._buffers else torch.empty(0)

    @torch.no_grad()
    def _write(self, values: Tensor) -> None:
        if self._buffers:
            torch._foreach_copy_(self._buffers, torch.split(values, [buffer.numel() for buffer in self._buffers]))
