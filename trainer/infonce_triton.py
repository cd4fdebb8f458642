"""What InfoNCE needs to know of its negatives, in Triton: what `infonce_cpu` finds, on a GPU.

The queue is cut into parts (as in Flash-Decoding, Dao et al. 2023), so that a batch of any size keeps every
multiprocessor busy: one program reads one part for a block of queries, and another joins the parts of a query. There
are no atomics, and the cut follows from the queue's length alone: same input, same bits, and what is found of a query
does not depend on the other ones.

Products are "ieee": fused multiply-add in float32. Tensor cores are faster, but cut off the low bits of a sum where
they should round it (Fasi et al. 2021), and over a long part that may cost the gradient the 1e-5 that are allowed. At a
queue of 65,536 the loss is a thousandth of a step's arithmetic. Triton's interpreter (TRITON_INTERPRET=1) runs it too.
"""

# B queries, K queue length, S parts of the queue, D embedding size
from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from .infonce_cpu import Negatives

ROWS, KEYS = 64, 32  # of a tile of logits; no register spills, and two programs share a multiprocessor
COLUMNS, SLICE = 128, 32  # of the embedding: those one program weighs, and those of a product at a time
PARTS = 128  # at most: at a batch of 256 they are 512 programs, which find 17 MB
WARPS = 4


def negatives(q_BD: Tensor, queue_KD: Tensor, temperature: float) -> Negatives:
    """Of tensors on one GPU, in two launches; all arithmetic and the results are float32."""
    (batch, width), length = q_BD.shape, len(queue_KD)
    part = max(8, triton.cdiv(length, KEYS * PARTS)) * KEYS
    parts = triton.cdiv(length, part)
    of_part = _empty(q_BD, parts, batch), _empty(q_BD, parts, batch), _empty(q_BD, parts, batch, width)
    of_query = Negatives(_empty(q_BD, batch), _empty(q_BD, batch), _empty(q_BD, batch, width))
    columns = min(COLUMNS, max(16, triton.next_power_of_2(width)))
    few = min(SLICE, columns)
    with torch.cuda.device_of(q_BD):  # type: ignore[no-untyped-call]  # torch's
        weigh_part[(triton.cdiv(batch, ROWS), parts, triton.cdiv(width, columns))](
            *of_part, q_BD.contiguous(), queue_KD.contiguous(), 1 / temperature, batch, length, width, part,
            ROWS=ROWS, KEYS=KEYS, COLUMNS=columns, SLICE=few, num_warps=WARPS, num_stages=1,
        )  # fmt: skip
        join_parts[(batch, triton.cdiv(width, few))](
            *of_query, *of_part, parts, batch, width, PARTS=PARTS, COLUMNS=few, num_warps=WARPS
        )
    return of_query


def _empty(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.float32)


@triton.jit(do_not_specialize=["batch", "length", "part"])
@no_type_check
def weigh_part(
    largest,  # (part, query), contiguous as is all below
    total,  # (part, query)
    weighted,  # (part, query, column)
    q,  # (query, column)
    queue,  # (key, column)
    scale,  # 1 / temperature
    batch,
    length,
    width,
    part,  # keys of a part, a multiple of KEYS
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SLICE: tl.constexpr,
):
    """The online softmax of one block of queries over one part of the queue; one block of columns is weighed."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(2) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(1) * part
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    exponentials = tl.zeros((ROWS,), tl.float32)
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(first, tl.minimum(first + part, length), KEYS):
        key = start + tl.arange(0, KEYS)
        logits = _similarities(q, queue, row, key, batch, length, width, SLICE) * scale
        logits = tl.where((key < length)[None, :], logits, float("-inf"))
        before = top
        top = tl.maximum(top, tl.max(logits, axis=1))
        shrink = tl.exp(before - top)
        weights = tl.exp(logits - top[:, None])
        exponentials = exponentials * shrink + tl.sum(weights, axis=1)
        keys = _tile(queue, key, column, length, width)
        products = products * shrink[:, None] + tl.dot(weights, keys, input_precision="ieee")
    place = tl.program_id(1).to(tl.int64) * batch + row
    if tl.program_id(2) == 0:
        tl.store(largest + place, top, mask=row < batch)
        tl.store(total + place, exponentials, mask=row < batch)
    inside = (row < batch)[:, None] & (column < width)[None, :]
    tl.store(weighted + place[:, None] * width + column[None, :], products, mask=inside)


@triton.jit(do_not_specialize=["parts", "batch"])
@no_type_check
def join_parts(
    largest,  # (query,)
    total,  # (query,)
    weighted,  # (query, column)
    largest_of,  # (part, query)
    total_of,  # (part, query)
    weighted_of,  # (part, query, column)
    parts,  # at most PARTS
    batch,
    width,
    PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Bring the parts of one query to the largest logit of all, and add them up; of one block of columns."""
    row = tl.program_id(0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.arange(0, PARTS)
    place = part.to(tl.int64) * batch + row
    top_of = tl.load(largest_of + place, mask=part < parts, other=float("-inf"))
    top = tl.max(top_of, axis=0)
    shrink = tl.exp(top_of - top)
    exponentials = tl.sum(tl.load(total_of + place, mask=part < parts, other=0.0) * shrink, axis=0)
    inside = (part < parts)[:, None] & (column < width)[None, :]
    products = tl.load(weighted_of + place[:, None] * width + column[None, :], mask=inside, other=0.0)
    if tl.program_id(1) == 0:
        tl.store(largest + row, top)
        tl.store(total + row, exponentials)
    joined = tl.sum(products * shrink[:, None], axis=0)
    tl.store(weighted + row.to(tl.int64) * width + column, joined, mask=column < width)


@triton.jit
@no_type_check
def _similarities(q, queue, row, key, batch, length, width, SLICE: tl.constexpr):
    """Of each query with each key, a slice of the embedding after the other."""
    similarities = tl.zeros((row.shape[0], key.shape[0]), tl.float32)
    for start in range(0, width, SLICE):
        column = start + tl.arange(0, SLICE)
        queries, keys = _tile(q, row, column, batch, width), _tile(queue, key, column, length, width)
        similarities += tl.dot(queries, tl.trans(keys), input_precision="ieee")
    return similarities


@triton.jit
@no_type_check
def _tile(matrix, row, column, rows, columns):
    """Part of a matrix as float32, 0 outside it."""
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    place = row.to(tl.int64)[:, None] * columns + column[None, :]
    return tl.load(matrix + place, mask=inside, other=0.0).to(tl.float32)
