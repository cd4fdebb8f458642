"""How many floating-point operations a training needs, by count: what `tflops` in a record stands on.

Conventions: a multiplication with an addition is 2 FLOP; convolutions and matrix products count, what is done element
by element (batch norm, ReLU, pooling, the optimiser) does not; a gradient that nobody asks for, that of the image,
costs nothing. What an implementation computes twice to save memory counts once: the figures say what the algorithm
needs, so that a faster implementation of the same step has a higher rate.
"""

from functools import cache
from itertools import pairwise

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .config import EncoderConfig, FinetuneConfig, PretrainConfig
from .resnet import ResNet


def forward_flops(encoder: EncoderConfig, bands: int, view_px: int, *outputs: int) -> float:
    """FLOP of the forward pass of one image; ``outputs`` are the widths of the head's layers, none for the features."""
    return float(_count(encoder, bands, view_px, outputs, backward=False))


def training_flops(encoder: EncoderConfig, bands: int, view_px: int, *outputs: int) -> float:
    """FLOP of one image's forward pass and of the gradient of all weights: just below three times the first."""
    return float(_count(encoder, bands, view_px, outputs, backward=True))


def infonce_flops(queue: int, embedding: int) -> float:
    """FLOP of one query's InfoNCE: its similarities to the queue and its own key, and the gradient for the query."""
    return 2.0 * 2 * (queue + 1) * embedding


def pretrain_step_flops(config: PretrainConfig, bands: int) -> float:
    """FLOP of a step of MoCo per galaxy: the query's training, the key's forward pass, and the loss."""
    encoder, view_px = config.encoder, config.view_px
    head = (_features(encoder, bands), config.embedding)
    query = training_flops(encoder, bands, view_px, *head)
    key = forward_flops(encoder, bands, view_px, *head)
    return query + key + infonce_flops(config.queue, config.embedding)


def finetune_step_flops(config: FinetuneConfig, bands: int, outputs: int) -> float:
    """FLOP of a step on labels per galaxy; with a frozen encoder the head's alone, whose features are at hand."""
    if config.freeze:
        return 2.0 * 2 * _features(config.encoder, bands) * outputs
    return training_flops(config.encoder, bands, config.view_px, outputs)


@cache
def _count(encoder: EncoderConfig, bands: int, view_px: int, outputs: tuple[int, ...], *, backward: bool) -> int:
    """Of one image, by torch's own counter, on the meta device: nothing is computed and no random number drawn."""
    with torch.device("meta"):
        network = ResNet(encoder, bands).eval()  # in evaluation batch norm leaves its statistics alone
        widths = [network.num_features, *outputs]
        network.fc = nn.Sequential(*(nn.Linear(*pair) for pair in pairwise(widths)))
        image = torch.empty(1, bands, view_px, view_px)
    with FlopCounterMode(display=False) as counter:
        answer = network(image)
        if backward:
            answer.sum().backward()
    total: int = counter.get_total_flops()
    return total


@cache
def _features(encoder: EncoderConfig, bands: int) -> int:
    with torch.device("meta"):
        features: int = ResNet(encoder, bands).num_features
    return features
