"""A copy of a training's state on the host, which stays as it is while the training goes on.

The state is made of mappings, lists, tuples, tensors, numbers and text. Anything else is a bug of the caller: it would
be written, and then refused when the file is loaded.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_PLAIN = (bool, int, float, str, type(None))  # exactly: a NumPy scalar is a float, and no plain data


def snapshot(content: Mapping[str, Any]) -> dict[str, Any]:
    """A deep copy on the host; tensors become plain ones. From a GPU it goes through pinned memory, in one wait."""
    copied: dict[str, Any] = _copy(content, "checkpoint")
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.current_stream().synchronize()
    return copied


def _copy(value: Any, where: str) -> Any:
    if isinstance(value, Tensor):
        return _copy_tensor(value.detach())
    if isinstance(value, Mapping):
        return {name: _copy(part, f"{where}[{name!r}]") for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copy(part, f"{where}[{place}]") for place, part in enumerate(value))
    if type(value) in _PLAIN:
        return value
    raise TypeError(f"{where}: a {type(value).__name__} is neither a tensor, a number nor text")


def _copy_tensor(tensor: Tensor) -> Tensor:
    if tensor.device.type != "cuda":
        return tensor.to("cpu", copy=True)  # .cpu() would give the same memory
    host = torch.empty_like(tensor, device="cpu", pin_memory=True)  # torch keeps pinned memory for the next time
    return host.copy_(tensor, non_blocking=True)
