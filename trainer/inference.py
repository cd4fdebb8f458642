"""Take a trained network from its RUN folder and ask it about images.

Everything here works on the un-augmented view (preset `none`: dereddened central crop), in evaluation mode and fp32,
and answers for every index asked, in that order, the last partial batch too. How a network is trained, and how good its
answers are, is said elsewhere.
"""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sharding import Dataset

from .checkpoint import Checkpoints
from .config import FinetuneConfig, PretrainConfig
from .data import Indices, Stamps, evaluation_batches
from .errors import TrainerError
from .resnet import ResNet
from .runfolder import RunInfo, check_bands

QUERY_ENCODER = "encoder_q."


def load_run(run: Path | str) -> tuple[ResNet, PretrainConfig | FinetuneConfig]:
    """The network of a run, in evaluation mode, and the configuration it was trained with.

    A pre-training run gives its newest encoder with the projection as ``fc``, a fine-tuning run the network of its best
    epoch (by validation). Raises TrainerError where the folder is no run or holds no whole checkpoint.
    """
    info = RunInfo.read(Path(run))
    checkpoints = Checkpoints(Path(run) / "checkpoints")
    if isinstance(info.config, PretrainConfig):
        newest = checkpoints.newest()
        if newest is None:
            raise TrainerError(f"{run}: holds no checkpoint yet; let the run reach its first")
        state = {
            name.removeprefix(QUERY_ENCODER): value
            for name, value in newest["model"].items()
            if name.startswith(QUERY_ENCODER)
        }
    else:
        state = checkpoints.best()["model"]
    network = ResNet(info.config.encoder, len(info.bands))
    network.fc = _head_like(state)
    network.load_state_dict(state)
    return network.eval(), info.config


def predict(run: Path | str, dataset: Dataset, indices: Indices) -> npt.NDArray[np.float32]:
    """Probability of each class or bin of a fine-tuned run for each sample: (n, outputs), rows sum to one."""
    network, config, stamps = _open(run, dataset)
    if isinstance(config, PretrainConfig):
        raise TrainerError(f"{run}: expected a fine-tuned run, got a pre-training; run finetune --init {run} first")
    return np.asarray(over(network, stamps, indices, config.view_px).softmax(dim=1).numpy())


def predict_photoz(run: Path | str, dataset: Dataset, indices: Indices) -> npt.NDArray[np.float32]:
    """Probability of each redshift bin for each sample: (n, bins), rows sum to one, in the order of ``indices``.

    `photoz.bin_centres` gives the bins' redshifts, `photoz.estimate` the point estimates. Raises TrainerError where the
    run is of another task or its bands are not the dataset's.
    """
    config = RunInfo.read(Path(run)).config
    if isinstance(config, FinetuneConfig) and config.task != "photoz":
        raise TrainerError(f"{run}: expected a run of task photoz, got {config.task}")
    return predict(run, dataset, indices)


def features(run: Path | str, dataset: Dataset, indices: Indices) -> npt.NDArray[np.float32]:
    """The encoder's output before its head for each sample: (n, features), in the order of ``indices``."""
    network, config, stamps = _open(run, dataset)
    return np.asarray(over(network.features, stamps, indices, config.view_px).numpy())


@torch.no_grad()
def over(
    network: Callable[[Tensor], Tensor], stamps: Stamps, indices: Indices, view_px: int
) -> Float[Tensor, "n outputs"]:
    """What a network (in evaluation mode) answers to the plain view of each sample, on the host."""
    if len(indices) == 0:  # an answer still has its width
        return network(torch.zeros(1, len(stamps.dataset.bands), view_px, view_px, device=stamps.device))[:0].cpu()
    with closing(stamps.ahead(evaluation_batches(indices), lambda wanted: wanted)) as stacks:
        return torch.cat([network(stamps.plain(stack, view_px)).float().cpu() for _, stack in stacks])


def _open(run: Path | str, dataset: Dataset) -> tuple[ResNet, PretrainConfig | FinetuneConfig, Stamps]:
    check_bands(RunInfo.read(Path(run)), dataset, Path(run))
    network, config = load_run(run)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return network.to(device), config, Stamps(dataset, device)


def _head_like(state: dict[str, Tensor]) -> nn.Module:
    """A head of the shape that these weights have: one linear layer, or the projection of MoCo v2."""
    if "fc.weight" in state:
        outputs, inputs = state["fc.weight"].shape
        return nn.Linear(inputs, outputs)
    wide, inputs = state["fc.0.weight"].shape
    return nn.Sequential(nn.Linear(inputs, wide), nn.ReLU(), nn.Linear(wide, state["fc.2.weight"].shape[0]))
