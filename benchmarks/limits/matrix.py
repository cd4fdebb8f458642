"""Products of large square matrices by torch."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..results import Param
from ..threads import torch_threads
from .way import Setting, Way, repeated

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp64": "float64"}  # ours -> torch's name
ON_CUDA = {**PRECISIONS, "tf32": "float32"}


def matrix_ways(precision: str, threads: int, setting: Setting) -> Sequence[Way]:
    """GFLOP/s of so many threads on the CPU."""
    amount = setting.amount
    setting.opened.enter_context(torch_threads(threads))
    once, count = _product(precision, "cpu", amount.side)
    params: Mapping[str, Param] = {"threads": threads, "side": amount.side}
    return (repeated("torch.mm", once, count, params, step_s=amount.step_s),)


def device_matrix_ways(precision: str, setting: Setting) -> Sequence[Way]:
    """GFLOP/s of a GPU: "fp32" is IEEE's, "tf32" has its range and 10 bits.

    A training in fp32 is told beside "fp32", though torch lets its convolutions take TF32: it may be above this limit.
    """
    import torch

    amount = setting.amount
    setting.opened.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    once, count = _product(precision, "cuda", amount.device_side)
    params: Mapping[str, Param] = {"side": amount.device_side}
    return (repeated("torch.mm", once, count, params, step_s=amount.step_s, sync=torch.cuda.synchronize),)


def _product(precision: str, device: str, side: int) -> tuple[Callable[[], object], int]:
    """A product and its FLOP."""
    import torch

    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, ON_CUDA[precision])
    left, right = (torch.randn(side, side, generator=generator).to(device, dtype) for _ in range(2))
    return partial(torch.mm, left, right, out=torch.empty_like(left)), 2 * side**3
