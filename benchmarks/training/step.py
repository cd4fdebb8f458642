"""MoCo's step on views in memory: what it is measured with, and the trainer's own step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sharding import Dataset
from trainer.config import EncoderConfig, PretrainConfig
from trainer.data import Indices
from trainer.distributed import Ranks
from trainer.flops import pretrain_step_flops
from trainer.moco import key_permutation
from trainer.pretrain import Pretraining

from ..limits import matrix, threads_text
from ..results import Limit, Param
from .galaxies import BANDS

GFLOP = 1e9
SKY = 0.03  # of the views' noise [nanomaggy / pixel]
_EPOCHS = 100_000  # more than any benchmark takes: the schedule must not end


@dataclass(frozen=True, slots=True)
class Views:
    """Two views of some galaxies, of noise: how fast a step is does not depend on what views show."""

    queries: Tensor  # (n, band, y, x), nanomaggies per pixel, on the device
    keys: Tensor
    order: Indices  # to which place in the batch each key belongs, for ours


Step = Callable[[Views], Tensor]  # gives the loss, on the device


def settings_for(device: torch.device) -> PretrainConfig:
    """The paper's batch and network (ResNet-50, 64 pixels, batch 256) on a GPU, on a CPU the demo's."""
    if device.type == "cuda":
        return PretrainConfig(precision="bf16", epochs=_EPOCHS)
    encoder = EncoderConfig(depth=10, width=16, stretch="asinh")
    return PretrainConfig(encoder=encoder, batch=64, queue=4096, epochs=_EPOCHS)


def make_views(settings: PretrainConfig, ranks: Ranks, seed: int = 0) -> Views:
    """This rank's part of a batch, laid out as the trainer does."""
    shape = (2, ranks.divide(settings.batch, "--batch"), BANDS, settings.view_px, settings.view_px)
    drawn = SKY * torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(ranks.device)
    layout = torch.channels_last if ranks.device.type == "cuda" else torch.contiguous_format
    queries, keys = (views.contiguous(memory_format=layout) for views in drawn)
    return Views(queries, keys, key_permutation(settings.batch, seed=seed, epoch=0, position=0))


def own_step(settings: PretrainConfig, dataset: Dataset, ranks: Ranks) -> Step:
    """`trainer pretrain`'s step, whole, less the reading and making of views; all ranks take it together."""
    training = Pretraining(settings, dataset, ranks)
    training.engine.start()

    def step(views: Views) -> Tensor:
        _, figures = training.learn(views.queries, views.keys, views.order)
        return figures["loss"]

    return step


def repeated(step: Step, batches: Sequence[Views]) -> Callable[[], int]:
    """The step with each of these batches; gives how many galaxies this rank learned from."""

    def take() -> int:
        for views in batches:
            step(views)
        return sum(len(views.queries) for views in batches)

    return take


def steps_timed(device: torch.device) -> int:
    """How many steps are timed as one: on a GPU one is over soon."""
    return 4 if device.type == "cuda" else 1


def flops_of(settings: PretrainConfig) -> float:
    """FLOP of a step, all ranks together."""
    return settings.batch * pretrain_step_flops(settings, BANDS)


def described(settings: PretrainConfig, device: torch.device, threads: int) -> dict[str, Param]:
    """A result's params."""
    return {
        "batch": settings.batch,
        "depth": settings.encoder.depth,
        "width": settings.encoder.width,
        "view_px": settings.view_px,
        "bands": BANDS,
        "queue": settings.queue,
        "precision": settings.precision,
        "device": device.type,
        "threads": threads,
        "flop_per_image": pretrain_step_flops(settings, BANDS),
    }


def limit_of(settings: PretrainConfig, device: torch.device, threads: int) -> Limit:
    """The rate of matrix products in the encoder's precision, and what a galaxy's two views take of it [GFLOP]."""
    where = "cuda" if device.type == "cuda" else threads_text(threads)
    return Limit(matrix(settings.precision, where), pretrain_step_flops(settings, BANDS) / GFLOP)
