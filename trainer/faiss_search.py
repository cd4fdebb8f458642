"""The same search as `neighbours`', by FAISS: its flat index of inner products, which compares every row too.

It works in float32 and holds the whole table in memory; rows that are as near come in any order.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from .extras import require
from .neighbours import Nearest, unit


def nearest(queries_QD: Float[Tensor, "Q D"], table: Iterable[Float[Tensor, "_ D"]], k: int) -> Nearest:
    """As `neighbours.nearest`, on the CPU."""
    faiss = require("faiss", extra="faiss", needed_by="similar --index faiss")
    index = faiss.IndexFlatIP(queries_QD.shape[1])
    for rows_ND in table:
        index.add(unit(rows_ND).float().numpy())
    cosine, row = index.search(unit(queries_QD.cpu()).float().numpy(), min(k, index.ntotal))
    return Nearest(torch.from_numpy(cosine).double(), torch.from_numpy(row))
