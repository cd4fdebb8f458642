"""The two things that fine-tuning may train: a whole network on augmented views, or a head alone on fixed features.

A learner says which module is trained and what it is fed, what it answers to plain views, and what network comes of
it. It knows no labels.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from augment import Plan, Preset, preset

from .config import FinetuneConfig
from .data import Batch, Indices, Stamps
from .distributed import Ranks
from .inference import over
from .pipelines import check_pipeline, views_ahead
from .resnet import ResNet
from .suspects import suspects

_SMALLEST_SPREAD = 1e-6  # a feature that varies less over the training galaxies says nothing


@runtime_checkable  # the tests check arguments by their types
class Learner(Protocol):
    """What is trained."""

    @property
    def module(self) -> nn.Module:
        """What the optimiser moves."""
        ...

    def parameters(self) -> list[dict[str, Any]]:
        """The optimiser's groups, each with its first learning rate as ``first_lr``."""
        ...

    def training(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Tensor], None, None]:
        """Each global batch with this rank's part of the module's inputs, on the device."""
        ...

    def answer(self, indices: Indices) -> Float[Tensor, "n outputs"]:
        """Logits for the plain view of each of these samples, on the host; leaves the module ready to train."""
        ...

    def network_state(self) -> dict[str, Tensor]:
        """The weights of the whole network as it is now."""
        ...

    def suspects(self, batch: Batch) -> str:
        """Which samples of a global batch to look at, should its step fail; all ranks call it."""
        ...


class WholeNetwork:
    """Encoder and head on augmented views."""

    def __init__(self, network: ResNet, config: FinetuneConfig, stamps: Stamps, ranks: Ranks) -> None:
        self.module = network
        self._config, self._stamps, self._ranks = config, stamps, ranks
        self._preset = label_safe(preset(config.preset))
        check_pipeline(config.pipeline)
        ranks.divide_statistics(network, config)
        network.train()

    def parameters(self) -> list[dict[str, Any]]:
        """The head may have a rate of its own."""
        head = list(self.module.fc.parameters())
        encoder = [value for name, value in self.module.named_parameters() if not name.startswith("fc.")]
        config = self._config
        return [
            {"params": encoder, "first_lr": config.first_lr},
            {"params": head, "first_lr": config.head_lr or config.first_lr},
        ]

    def training(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Tensor], None, None]:
        """One augmented view of each galaxy, another in every epoch."""
        ahead = views_ahead(self._config.pipeline, self._stamps, batches, wanted=self._own, plan=self._plan)
        with closing(ahead) as fed:
            for batch, views in fed:
                yield batch, views()

    def answer(self, indices: Indices) -> Float[Tensor, "n outputs"]:
        """With the running statistics of batch norm."""
        self.module.eval()
        logits = over(self.module, self._stamps, indices, self._config.view_px)
        self.module.train()
        return logits

    def network_state(self) -> dict[str, Tensor]:
        """The module is the network."""
        return self.module.state_dict()

    def suspects(self, batch: Batch) -> str:
        """The views are made again."""
        own = self._own(batch)
        views = self._stamps.render(self._stamps.read(own), self._plan(batch))
        return suspects(self.module, views, own, self._stamps.dataset, self._ranks)

    def _own(self, batch: Batch) -> Indices:
        return batch.indices[self._ranks.share(len(batch.indices))]

    def _plan(self, batch: Batch) -> Plan:
        config = self._config
        place = {"seed": config.seed, "epoch": batch.state.epoch, "view": 0}
        return self._stamps.plan(self._own(batch), self._preset, **place, size_px=config.view_px)


class FrozenEncoder:
    """A head on the features of an encoder that stays as it is, batch statistics included.

    The head sees each feature less its mean, over its spread among the training galaxies, so that one learning rate
    suits any encoder; `network_state` gives the same head for the features themselves.
    """

    def __init__(
        self, network: ResNet, config: FinetuneConfig, stamps: Stamps, ranks: Ranks, *, train: Indices, judged: Indices
    ) -> None:
        """``train`` and ``judged`` are the samples that will be asked for."""
        assert isinstance(network.fc, nn.Linear)
        self._network, self._config, self._stamps, self._ranks = network.eval(), config, stamps, ranks
        self._train, self._indices = train, np.union1d(train, judged)
        weight = network.fc.weight
        self.module = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device, dtype=weight.dtype)
        self.module.load_state_dict(network.fc.state_dict())

    def parameters(self) -> list[dict[str, Any]]:
        """The head's alone."""
        rate = self._config.head_lr or self._config.first_lr
        return [{"params": list(self.module.parameters()), "first_lr": rate}]

    def training(self, batches: Iterable[Batch]) -> Generator[tuple[Batch, Tensor], None, None]:
        """The features of the batch's galaxies; they are computed when the first is asked for."""
        self._compute_features()
        for batch in batches:
            rows = self._rows(batch.indices[self._ranks.share(len(batch.indices))])
            yield batch, self._features[self._ranks.send(torch.from_numpy(rows))]

    @torch.no_grad()
    def answer(self, indices: Indices) -> Float[Tensor, "n outputs"]:
        """Of samples that were named at the start, once training has begun."""
        logits: Tensor = self.module(self._features[self._rows(indices)])
        return logits.cpu()

    def network_state(self) -> dict[str, Tensor]:
        """The untouched encoder with the head brought back to its scale: w (f - mean) / spread + b is linear in f."""
        weight = self.module.weight.detach() / self._spread
        bias = self.module.bias.detach() - weight @ self._mean
        return self._network.state_dict() | {"fc.weight": weight, "fc.bias": bias}

    def suspects(self, batch: Batch) -> str:
        """Those whose plain view the encoder could not take."""
        own = batch.indices[self._ranks.share(len(batch.indices))]
        views = self._stamps.plain(self._stamps.read(own), self._config.view_px)
        return suspects(self._network, views, own, self._stamps.dataset, self._ranks)

    def _compute_features(self) -> None:
        """Each rank computes its part of the features, and all get them all."""
        part = self._indices[self._ranks.spread(len(self._indices))]
        own = over(self._network.features, self._stamps, part, self._config.view_px).to(self._ranks.device)
        features = self._ranks.collect(own, len(self._indices))
        learnt = features[self._rows(self._train)]
        self._mean, self._spread = learnt.mean(dim=0), learnt.std(dim=0).clamp(min=_SMALLEST_SPREAD)
        self._features = ((features - self._mean) / self._spread).to(self.module.weight)

    def _rows(self, indices: Indices) -> Indices:
        return np.searchsorted(self._indices, indices)


def label_safe(chosen: Preset) -> Preset:
    """What of a preset leaves a label true: turns, mirroring, shifts. Dust changes colours, size hints at distance."""
    return Preset(
        angle_deg=chosen.angle_deg, flip_probability=chosen.flip_probability, max_shift_px=chosen.max_shift_px
    )
