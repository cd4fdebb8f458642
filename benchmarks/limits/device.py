"""Copies to a GPU and within its memory."""

from collections.abc import Mapping, Sequence
from functools import partial

from ..results import Param
from .way import Setting, Way, repeated


def host_to_device_ways(setting: Setting) -> Sequence[Way]:
    """GB/s from pinned memory of the host."""
    return _copies(setting, pinned=True)


def device_copy_ways(setting: Setting) -> Sequence[Way]:
    """GB/s from one place to another: bytes count once, though they are read and written."""
    return _copies(setting, pinned=False)


def _copies(setting: Setting, *, pinned: bool) -> Sequence[Way]:
    import torch

    count = setting.amount.device_bytes
    target = torch.zeros(count, dtype=torch.uint8, device="cuda")
    source = torch.ones(count, dtype=torch.uint8, pin_memory=True) if pinned else torch.ones_like(target)
    once = partial(target.copy_, source, non_blocking=True)
    how = "torch, pinned" if pinned else "torch"
    params: Mapping[str, Param] = {"block_bytes": count}
    return (repeated(how, once, count, params, step_s=setting.amount.step_s, sync=torch.cuda.synchronize),)
