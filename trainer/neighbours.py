"""The rows of a table whose vectors point most nearly the way that a query does, found exactly.

Every row is compared, a chunk at a time, so the table may be larger than memory. Cosines are float64. They rank by
their value rounded to 2**-40 (9e-13): far coarser than the rounding of such a sum, which depends on the device, and far
finer than what float32 vectors can mean. Rows of equal rank keep the order of the table.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Q queries, N rows of a table, D features, K nearest rows

RANKS = 2**40  # ranks between a cosine of 0 and one of 1
CHUNK_ROWS = 8192  # rows of the table that are compared at a time; 2**40 ranks of so many rows fit into 63 bits
CHUNK_QUERIES = 1024


class Nearest(NamedTuple):
    """The nearest rows of each query in falling order of cosine; fewer than were asked for where the table has less."""

    cosine_QK: Float[Tensor, "Q K"]  # float64
    row_QK: Int[Tensor, "Q K"]  # place in the table


@torch.no_grad()
def nearest(queries_QD: Float[Tensor, "Q D"], table: Iterable[Float[Tensor, "_ D"]], k: int) -> Nearest:
    """The ``k`` nearest rows of each query, on the device of the queries; ``table`` gives the rows in pieces, in order.

    A vector of zeros points nowhere: its cosine with any other is 0.
    """
    blocks = torch.split(unit(queries_QD), CHUNK_QUERIES)
    best = [_none(block) for block in blocks]
    first = 0
    for piece in table:
        for rows in torch.split(piece, CHUNK_ROWS):
            rows_ND = unit(rows.to(queries_QD.device))
            for number, block in enumerate(blocks):
                best[number] = _merge(best[number], _within(block, rows_ND, first, k), k)
            first += len(rows)
    return Nearest(torch.cat([found.cosine_QK for found in best]), torch.cat([found.row_QK for found in best]))


def unit(rows_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Vectors of length one, in float64; a vector of zeros stays one."""
    rows_ND = rows_ND.double()
    norm = rows_ND.norm(dim=1, keepdim=True)
    return rows_ND / torch.where(norm > 0, norm, 1.0)


def _none(queries_QD: Tensor) -> Nearest:
    cosine = queries_QD.new_empty(len(queries_QD), 0)
    return Nearest(cosine, cosine.long())


def _within(queries_QD: Tensor, rows_ND: Tensor, first: int, k: int) -> Nearest:
    """The nearest of one chunk, whose rows begin at place ``first`` of the table."""
    cosine = queries_QD @ rows_ND.T
    # No two keys are equal: rank first, then the earlier row.
    key = _rank(cosine) * CHUNK_ROWS - torch.arange(len(rows_ND), device=rows_ND.device)
    place = key.topk(min(k, len(rows_ND)), dim=1).indices
    return Nearest(cosine.gather(1, place), place + first)


def _merge(earlier: Nearest, later: Nearest, k: int) -> Nearest:
    """The nearest of two parts of a table."""
    cosine = torch.cat([earlier.cosine_QK, later.cosine_QK], dim=1)
    row = torch.cat([earlier.row_QK, later.row_QK], dim=1)
    order = _rank(cosine).sort(dim=1, descending=True, stable=True).indices[:, :k]
    return Nearest(cosine.gather(1, order), row.gather(1, order))


def _rank(cosine: Tensor) -> Tensor:
    return (cosine * RANKS).round().long()
