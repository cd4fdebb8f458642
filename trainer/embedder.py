"""An encoder over many samples, as fast as they are read: batch after batch, the device one batch ahead of the host.

The encoder is in evaluation mode and sees plain views; every sample asked for has its answer, the last partial batch
too. What becomes of the features is the caller's.
"""

import hashlib
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sharding import Dataset

from .data import Indices, Stamps, evaluation_batches
from .runfolder import check_bands
from .trained import load_trained

Vectors = npt.NDArray[np.float32]


class Embedder:
    """The encoder of a run, or of a file as the published codes write them, for one dataset; it is loaded once."""

    def __init__(self, source: Path, dataset: Dataset) -> None:
        """TrainerError where the encoder cannot be loaded or is of other bands."""
        network, info = load_trained(source)
        check_bands(info, dataset, source)
        self._view_px = info.config.view_px
        self.width = network.num_features
        self.digest = weights_digest(network)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = network.to(device)
        self._stamps = Stamps(dataset, device)

    @property
    def device(self) -> torch.device:
        """Where the encoder runs."""
        return self._stamps.device

    def stream(self, indices: Indices) -> Generator[Vectors, None, None]:
        """The features of these samples in order, float32 (n, width) at a time; the device is busy with the next."""
        waiting: Callable[[], Vectors] | None = None
        with closing(self._stamps.ahead(evaluation_batches(indices), lambda wanted: wanted)) as stacks:
            for _, stack in stacks:
                with torch.no_grad():  # not about the whole: it would hold for the caller, too
                    begun = _send(self._network.features(self._stamps.plain(stack, self._view_px)))
                if waiting is not None:
                    yield waiting()
                waiting = begun
        if waiting is not None:
            yield waiting()

    def features(self, indices: Indices) -> Vectors:
        """The features of all these samples: float32 (n, width)."""
        return np.concatenate([np.empty((0, self.width), np.float32), *self.stream(indices)])


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _send(features: Tensor) -> Callable[[], Vectors]:
    """Begin to copy to the host; what is returned waits for that and gives the copy."""
    features = features.float()
    if features.device.type == "cpu":
        return features.numpy
    host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
    host.copy_(features, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def receive() -> Vectors:
        copied.synchronize()
        return np.asarray(host.numpy())

    return receive
