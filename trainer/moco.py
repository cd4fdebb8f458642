"""MoCo v2 (He et al. 2020, Chen et al. 2020): two encoders and a queue of keys; the loss is in `infonce`.

The state lives in `MoCo`, under the published code's names (``encoder_q``, ``encoder_k``, ``queue``, ``queue_ptr``).
This file knows tensors and ranks, not datasets, schedules or optimisers.

Batch norm and cheating: statistics over a batch could tell a query which key was encoded beside it. So the keys are
encoded in another grouping than the queries: in a permutation of the global batch that is a function of (seed, epoch,
position). Each rank encodes its part of the permuted batch; `gather_keys` gathers the keys and puts them back, and
no image is sent. That needs at least two groups of statistics (``batch_norm_groups``): with one, both see all.
"""

# B queries of this rank, G global batch, K queue length, D embedding size, C bands, H W rows and columns
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .config import PretrainConfig
from .resnet import ResNet

Gather = Callable[[Tensor], Tensor]


def key_permutation(batch: int, *, seed: int, epoch: int, position: int) -> npt.NDArray[np.int64]:
    """The order in which the keys of one global batch are encoded; the same on every rank."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, position))))
    return generator.permutation(batch)


class MoCo(nn.Module):
    """The encoder that learns, the momentum encoder that follows, and the queue of past keys."""

    queue: Tensor
    queue_ptr: Tensor

    def __init__(self, config: PretrainConfig, bands: int) -> None:
        """Weights and queue are drawn from torch's current generator: seed it."""
        super().__init__()
        self.key_momentum = config.key_momentum
        self.encoder_q = _with_projection(config, bands)
        self.encoder_k = _with_projection(config, bands)
        self.encoder_k.load_state_dict(self.encoder_q.state_dict())
        self.encoder_k.requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(config.queue, config.embedding), dim=1))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    def set_scale(self, noise: Float[Tensor, " C"]) -> None:
        """Give both encoders the bands' noise [nanomaggy / pixel], for their stretch."""
        for encoder in (self.encoder_q, self.encoder_k):
            encoder.stretch.set_scale(noise)

    @torch.no_grad()
    def follow(self, counts: Bool[Tensor, ""]) -> None:
        """Move the key encoder's weights towards the query encoder's, if the step counts: three fused operations."""
        keys: list[Tensor] = list(self.encoder_k.parameters())
        queries: list[Tensor] = list(self.encoder_q.parameters())
        share = counts.to(keys[0].dtype) * (1 - self.key_momentum)
        way = list(torch._foreach_sub(queries, keys))
        torch._foreach_mul_(way, share)
        torch._foreach_add_(keys, way)

    @torch.no_grad()
    def enqueue(self, keys: Float[Tensor, "G D"], counts: Bool[Tensor, ""]) -> None:
        """Replace the oldest keys by those of a global batch, in the order of its samples, if the step counts."""
        place = (self.queue_ptr + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[place] = torch.where(counts, keys, self.queue[place])
        self.queue_ptr.copy_((self.queue_ptr + counts * len(keys)) % len(self.queue))


@torch.no_grad()
def gather_keys(own: Float[Tensor, "B D"], permutation: Int[Tensor, " G"], gather: Gather) -> Float[Tensor, "G D"]:
    """The keys of the whole batch in its own order, from this rank's embeddings of the permuted batch.

    ``gather`` stacks a tensor of every rank, in the order of the ranks.
    """
    permuted = gather(normalise(own)).flatten(0, 1)
    keys = torch.empty_like(permuted)
    keys[permutation] = permuted
    return keys


def normalise(embedding: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """Unit vectors in fp32 at least, whatever the encoder's precision: the loss must not lose digits."""
    return F.normalize(embedding.to(torch.promote_types(embedding.dtype, torch.float32)), dim=1)


def _with_projection(config: PretrainConfig, bands: int) -> ResNet:
    """An encoder with MoCo v2's two-layer head; its keys are ``fc.0`` and ``fc.2``, as published."""
    network = ResNet(config.encoder, bands)
    wide = network.num_features
    network.fc = nn.Sequential(nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, config.embedding))
    return network
