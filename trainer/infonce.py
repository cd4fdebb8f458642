"""InfoNCE that never holds the batch-by-queue matrix: `skymill::info_nce`, the operator and how it is called.

The queue is read once. Of each query the pass keeps the largest logit, the sum of the exponentials and their sum
weighted by the keys (as FlashAttention does, Dao et al. 2022, with the queue as keys and values), which give the loss
and its gradient; so the backward pass is a product, and needs no queue. The passes are `infonce_cpu` and, on a GPU,
`infonce_triton`. A million negatives take no more memory than their queue.

The arithmetic is float32 whatever the inputs, and float64 where one of them is; autocast does not reach it. Same
input, same bits. The operator is opaque to torch.compile, which sees its shapes. It has no second derivative.
"""

# B queries of this rank, K queue length, D embedding size
import math
from types import ModuleType
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import infonce_cpu
from .errors import TrainerError
from .infonce_cpu import Negatives


class InfoNCE(NamedTuple):
    """What the loss says of each query."""

    loss_B: Float[Tensor, " B"]
    correct_B: Bool[Tensor, " B"]  # the query is nearer to its own key than to any in the queue


def info_nce(
    q_BD: Float[Tensor, "B D"], k_BD: Float[Tensor, "B D"], queue_KD: Float[Tensor, "K D"], *, temperature: float
) -> InfoNCE:
    """The loss of each query, -log(exp(q k / T) / (exp(q k / T) + sum_j exp(q queue_j / T))).

    Row i of q matches row i of k (van den Oord et al. 2018, eq. 4; He et al. 2020, eq. 1). Only q gets a gradient. The
    loss is float32, or float64 where an input is.
    """
    loss_B, correct_B, _ = torch.ops.skymill.info_nce(q_BD, k_BD.detach(), queue_KD.detach(), temperature)
    return InfoNCE(loss_B, correct_B)


def _on_cpu(q_BD: Tensor, k_BD: Tensor, queue_KD: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, whether the positive is the largest, and the gradient of each query's loss in it: (B, D)."""
    dtype = _checked(q_BD, k_BD, queue_KD, temperature)
    with torch.autocast(q_BD.device.type, enabled=False):
        found = infonce_cpu.negatives(q_BD, queue_KD, temperature, dtype)
        return _finished(q_BD.to(dtype), k_BD.to(dtype), found, temperature)


def _on_gpu(q_BD: Tensor, k_BD: Tensor, queue_KD: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """The same on a GPU. float64, a precision of tests, takes the chunks."""
    dtype = _checked(q_BD, k_BD, queue_KD, temperature)
    if dtype == torch.float64:
        return _on_cpu(q_BD, k_BD, queue_KD, temperature)
    with torch.autocast(q_BD.device.type, enabled=False):
        found = _kernel().negatives(q_BD, queue_KD, temperature)
        return _finished(q_BD.to(dtype), k_BD.to(dtype), found, temperature)


def _finished(q_BD: Tensor, k_BD: Tensor, found: Negatives, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Add the positive to the negatives.

    Nothing cancels where the loss is small: there it is log(1 + what the negatives weigh), and the pull towards the
    own key is their share, not 1 less the key's own.
    """
    positive_B = (q_BD * k_BD).sum(dim=1) / temperature
    top_B = torch.maximum(found.largest_B, positive_B)
    shrink_B = (found.largest_B - top_B).exp()
    others_B = found.total_B * shrink_B
    whole_B = others_B + (positive_B - top_B).exp()
    ahead_B = positive_B >= found.largest_B
    loss_B = torch.where(ahead_B, others_B.log1p(), top_B - positive_B + whole_B.log())
    pushed_BD = found.weighted_BD * (shrink_B / whole_B)[:, None]
    gradient_BD = (pushed_BD - k_BD * (others_B / whole_B)[:, None]) / temperature
    return loss_B, positive_B > found.largest_B, gradient_BD


def _checked(q_BD: Tensor, k_BD: Tensor, queue_KD: Tensor, temperature: float) -> torch.dtype:
    """The precision of the arithmetic; ValueError for what does not fit together."""
    shapes = tuple(q_BD.shape), tuple(k_BD.shape), tuple(queue_KD.shape)
    fits = q_BD.ndim == queue_KD.ndim == 2 and shapes[0] == shapes[1] and q_BD.shape[1] == queue_KD.shape[1]
    if not fits or 0 in shapes[0] + shapes[2]:
        raise ValueError(f"info_nce: expected q and k of (B, D) and a queue of (K, D), none empty, got {shapes}")
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"info_nce: expected a temperature above 0, got {temperature}")
    of = {each.device for each in (q_BD, k_BD, queue_KD)}
    if len(of) > 1 or not all(each.is_floating_point() for each in (q_BD, k_BD, queue_KD)):
        dtypes = [str(each.dtype) for each in (q_BD, k_BD, queue_KD)]
        raise ValueError(
            f"info_nce: expected floating-point tensors on one device, got {dtypes} on {sorted(map(str, of))}"
        )
    return torch.promote_types(
        torch.promote_types(q_BD.dtype, k_BD.dtype), torch.promote_types(queue_KD.dtype, torch.float32)
    )


def _kernel() -> ModuleType:
    try:
        from . import infonce_triton
    except ModuleNotFoundError as err:
        if err.name != "triton":
            raise
        raise TrainerError(
            "info_nce: the loss on a GPU needs Triton, which is not installed; pip install triton"
        ) from err
    return infonce_triton


_operator = torch.library.custom_op("skymill::info_nce", _on_cpu, mutates_args=(), device_types="cpu")
_operator.register_kernel("cuda", _on_gpu)


@_operator.register_fake
def _shapes(q_BD: Tensor, k_BD: Tensor, queue_KD: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """What comes of it, without making it."""
    dtype = _checked(q_BD, k_BD, queue_KD, temperature)
    loss_B = q_BD.new_empty(q_BD.shape[:1], dtype=dtype)
    return loss_B, torch.empty_like(loss_B, dtype=torch.bool), q_BD.new_empty(q_BD.shape, dtype=dtype)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, correct_B, gradient_BD = output
    ctx.mark_non_differentiable(correct_B, gradient_BD)
    ctx.save_for_backward(gradient_BD)
    ctx.dtype = inputs[0].dtype


@once_differentiable
def _backward(ctx: Any, loss_B: Tensor, *_: Any) -> tuple[Tensor, None, None, None]:
    (gradient_BD,) = ctx.saved_tensors
    return (loss_B[:, None] * gradient_BD).to(ctx.dtype), None, None, None


_operator.register_autograd(_backward, setup_context=_keep)
