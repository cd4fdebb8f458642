"""What InfoNCE needs to know of its negatives, chunk by chunk in plain torch: the body for the CPU, and for float64.

One block of logits, `ROWS` x `KEYS`, is all that exists of the batch-by-queue matrix, so what this takes beside its
inputs and its results is 2 MB (4 in float64), however long the queue and however large the batch.
"""

# B queries, R of them at a time, K queue length, N keys of a chunk, D embedding size
from typing import NamedTuple

import torch
from torch import Tensor

# With these it takes 1.1 times as long as its two matrix products alone; half or twice of either is no faster.
ROWS, KEYS = 256, 2048


class Negatives(NamedTuple):
    """Of each query's logits with the queue: what their softmax and its gradient are made of."""

    largest_B: Tensor  # the largest logit
    total_B: Tensor  # sum of exp(logit - largest)
    weighted_BD: Tensor  # sum of exp(logit - largest) times the key


def negatives(q_BD: Tensor, queue_KD: Tensor, temperature: float, dtype: torch.dtype) -> Negatives:
    """One pass over the queue for each block of queries; all arithmetic and the results are in ``dtype``."""
    block = q_BD.new_empty(min(ROWS, len(q_BD)) * min(KEYS, len(queue_KD)), dtype=dtype)
    parts = [_of_rows(q_RD.to(dtype) / temperature, queue_KD, block) for q_RD in torch.split(q_BD, ROWS)]
    return Negatives(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _of_rows(scaled_RD: Tensor, queue_KD: Tensor, block: Tensor) -> Negatives:
    """The online softmax of Milakov and Gimelshein (2018): what was summed is rescaled when a larger logit comes."""
    rows = len(scaled_RD)
    largest_R = scaled_RD.new_full((rows,), -torch.inf)
    total_R, weighted_RD = torch.zeros_like(largest_R), torch.zeros_like(scaled_RD)
    for stored_ND in torch.split(queue_KD, KEYS):
        keys_ND = stored_ND.to(scaled_RD.dtype)
        logits_RN = torch.mm(scaled_RD, keys_ND.T, out=block[: rows * len(keys_ND)].view(rows, -1))
        before_R, largest_R = largest_R, torch.maximum(largest_R, logits_RN.amax(dim=1))
        shrink_R = (before_R - largest_R).exp_()
        weights_RN = logits_RN.sub_(largest_R[:, None]).exp_()
        total_R.mul_(shrink_R).add_(weights_RN.sum(dim=1))
        weighted_RD.mul_(shrink_R[:, None]).addmm_(weights_RN, keys_ND)
    return Negatives(largest_R, total_R, weighted_RD)
