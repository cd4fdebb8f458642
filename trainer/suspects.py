"""Which samples of a failed step to look at: those whose views no network could take."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sharding import Dataset

from .data import Indices
from .distributed import Ranks

NAMED = 5


@torch.no_grad()
def suspects(
    network: nn.Module, views: Float[Tensor, "row C y x"], indices: Indices, dataset: Dataset, ranks: Ranks
) -> str:
    """The galaxies whose embedding is not finite when batch norm does not mix them; else the brightest; all ranks call.

    ``indices``: the sample that each view is of.
    """
    network.eval()
    finite = torch.stack([network(view[None]).isfinite().all() for view in views])
    network.train()
    peak = torch.nan_to_num(views.abs().flatten(1).amax(dim=1), nan=torch.inf, posinf=torch.inf)
    told = torch.stack([(~finite).double(), peak.double(), ranks.send(torch.from_numpy(indices)).double()], dim=1)
    bad, flux, sample = ranks.gather(told).flatten(0, 1).cpu().numpy().T
    order = np.lexsort((sample, -flux, -bad))
    if bad.any():
        order = order[bad[order] > 0]
    if bad.all():
        return "not one sample gives a finite embedding: the weights are at fault"
    objid = dataset.column("objid")
    names: dict[int, str] = {}  # by sample: both views of one galaxy are there
    for row in order:
        names.setdefault(int(sample[row]), f"objid {objid[int(sample[row])]} (up to {flux[row]:.3g} nanomaggy)")
    what = (
        "samples that give no finite embedding" if bad.any() else "every sample alone gives a finite embedding; largest"
    )
    return f"{what}: {', '.join(list(names.values())[:NAMED])}"
