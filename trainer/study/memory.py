"""How many bytes a training holds on its device, counted from the very modules that it trains: nothing is computed.

Activations are what the forward pass keeps for the backward pass, each piece of storage once, as it runs without
``--compile``. A library's work space, and what an allocator keeps in reserve, come on top and are not told.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode  # tensors of any shape and precision that hold no values

from ..config import EncoderConfig, FinetuneConfig, Precision, PretrainConfig, TrainingConfig
from ..moco import MoCo
from ..precision import Arithmetic
from ..resnet import ResNet, set_batch_norm_groups

STAMP_PX = 107  # side of a stamp as ingest cuts it
_PIXEL_BYTES = 4  # float32, as stamps and views are held
_CPU = torch.device("cpu")  # where precision is rounded as on a GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes on one device."""

    state: int  # weights, running statistics, gradients, the optimiser's moments, and the queue
    images: int  # stamps and views of a batch, or the features of all galaxies
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.state + self.images + self.activations


def pretrain_memory(config: PretrainConfig, bands: int, *, ranks: int = 1) -> Memory:
    """Of MoCo on one of ``ranks`` devices that share a batch."""
    with _weightless(config.precision):
        moco = MoCo(config, bands)
        state = _bytes_of(moco) + _learning_bytes(moco, config)
    rows = config.batch // ranks
    stamps = rows * min(ranks, 2)  # a rank encodes other galaxies as keys than as queries, but for one that has all
    return Memory(
        state=state,
        images=stamps * _image_bytes(bands, STAMP_PX) + 2 * rows * _image_bytes(bands, config.view_px),
        activations=_activations(_part(config, ranks), bands, config.view_px, config.embedding, projected=True),
    )


def finetune_memory(config: FinetuneConfig, bands: int, outputs: int, *, galaxies: int) -> Memory:
    """Of a training on labels; ``galaxies``, of training and validation, are those whose features a probe holds."""
    with _weightless(config.precision):
        network = ResNet(config.encoder, bands)
        network.fc = nn.Linear(network.num_features, outputs)
        features = galaxies * network.num_features * network.fc.weight.element_size() if config.freeze else 0
        state = _bytes_of(network) + _learning_bytes(network.fc if config.freeze else network, config)
    return Memory(
        state=state,
        images=features + config.batch * (_image_bytes(bands, STAMP_PX) + _image_bytes(bands, config.view_px)),
        activations=0 if config.freeze else _activations(_part(config, 1), bands, config.view_px, outputs),
    )


@contextmanager
def _weightless(precision: Precision) -> Iterator[None]:
    """Tensors that are made here have a shape and a type, and no values."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(Arithmetic(precision, _CPU).weights)
    try:
        with FakeTensorMode():
            yield
    finally:
        torch.set_default_dtype(before)


@dataclass(frozen=True, slots=True)
class _Part:
    """What goes through the encoder at once."""

    encoder: EncoderConfig
    precision: Precision
    rows: int
    groups: int  # of batch statistics
    everyone: bool  # whether all ranks' statistics are one


def _part(config: TrainingConfig, ranks: int) -> _Part:
    parts = ranks * config.accumulate
    groups = config.batch_norm_groups // parts if config.batch_norm == "groups" else 1
    return _Part(config.encoder, config.precision, config.batch // parts, groups, config.batch_norm == "sync")


@cache
def _activations(part: _Part, bands: int, view_px: int, outputs: int, *, projected: bool = False) -> int:
    """Counted for two and for four images a group: in between, and beyond, it is linear."""
    counts = []
    with _weightless(part.precision):
        network = ResNet(part.encoder, bands).train()
        wide = network.num_features
        projection = (nn.Linear(wide, wide), nn.ReLU()) if projected else ()
        network.fc = nn.Sequential(*projection, nn.Linear(wide, outputs))
        set_batch_norm_groups(network, part.groups, everyone=part.everyone)
        for rows in (2 * part.groups, 4 * part.groups):
            images = torch.empty(rows, bands, view_px, view_px)
            with Arithmetic(part.precision, _CPU).autocast():
                counts.append(saved_bytes(network, images))
    few, more = counts
    return few + (part.rows - 2 * part.groups) * (more - few) // (2 * part.groups)


def saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Bytes that a forward pass of ``images`` keeps for its backward pass, beside network and images themselves."""
    held = {_place(tensor) for tensor in (*network.parameters(), *network.buffers(), images)}
    kept: dict[int, Tensor] = {}  # the tensors too, lest another takes the place of one that is gone

    def note(tensor: Tensor) -> Tensor:
        kept[_place(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(images)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in held)


def _place(tensor: Tensor) -> int:
    """What tells one storage from another."""
    return int(tensor.untyped_storage()._cdata)


def _bytes_of(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _learning_bytes(module: nn.Module, config: TrainingConfig) -> int:
    """Gradients and the optimiser's moments."""
    moments = {"adamw": 2, "sgd": 1, "lars": 1}[config.optimiser]
    if config.optimiser != "adamw" and config.sgd_momentum == 0:
        moments = 0
    return (1 + moments) * sum(weight.nbytes for weight in module.parameters() if weight.requires_grad)


def _image_bytes(bands: int, side_px: int) -> int:
    return bands * side_px**2 * _PIXEL_BYTES
