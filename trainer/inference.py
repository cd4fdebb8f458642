"""Take a trained network, from its RUN folder or a file, and ask it about images.

Everything here works on the plain view (preset `none`: dereddened central crop), turned about the object where that
is asked for, in evaluation mode and fp32, and answers for every index asked, in that order, the last partial batch too.
How a network is trained, and how good its answers are, is said elsewhere.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from augment import Preset
from sharding import Dataset

from .config import FinetuneConfig, PretrainConfig
from .data import Indices, Stack, Stamps, evaluation_batches
from .errors import TrainerError
from .resnet import ResNet
from .runfolder import check_bands
from .trained import load_trained


def load_run(run: Path | str) -> tuple[ResNet, PretrainConfig | FinetuneConfig]:
    """The network of a run or of a file of weights, in evaluation mode, and its configuration: see `load_trained`."""
    network, info = load_trained(run)
    return network, info.config


def predict(run: Path | str, dataset: Dataset, indices: Indices, *, rotations: int = 1) -> npt.NDArray[np.float32]:
    """Probability of each class or bin of a fine-tuned run for each sample: (n, outputs), rows sum to one.

    It is the mean over ``rotations`` views, each turned by 360 / ``rotations`` degrees more than the one before; the
    first is the plain one.
    """
    if rotations < 1:
        raise TrainerError(f"--rotations: expected at least 1, got {rotations}")
    network, config, stamps = _open(run, dataset)
    if isinstance(config, PretrainConfig):
        raise TrainerError(f"{run}: expected a fine-tuned run, got a pre-training; run finetune --init {run} first")

    def probabilities(views: Tensor) -> Tensor:
        logits: Tensor = network(views)
        return logits.float().cpu().softmax(dim=1)

    return np.asarray(over(probabilities, stamps, indices, config.view_px, rotations=rotations).numpy())


def predict_photoz(
    run: Path | str, dataset: Dataset, indices: Indices, *, rotations: int = 1
) -> npt.NDArray[np.float32]:
    """Probability of each redshift bin for each sample: (n, bins), rows sum to one, in the order of ``indices``.

    `photoz.bin_centres` gives the bins' redshifts, `photoz.estimate` the point estimates. Raises TrainerError where the
    run is of another task or its bands are not the dataset's.
    """
    config = load_trained(run).info.config
    if isinstance(config, FinetuneConfig) and config.task != "photoz":
        raise TrainerError(f"{run}: expected a run of task photoz, got {config.task}")
    return predict(run, dataset, indices, rotations=rotations)


def features(run: Path | str, dataset: Dataset, indices: Indices) -> npt.NDArray[np.float32]:
    """The encoder's output before its head for each sample: (n, features), in the order of ``indices``."""
    network, config, stamps = _open(run, dataset)
    return np.asarray(over(network.features, stamps, indices, config.view_px).numpy())


@torch.no_grad()
def over(
    network: Callable[[Tensor], Tensor], stamps: Stamps, indices: Indices, view_px: int, *, rotations: int = 1
) -> Float[Tensor, "n outputs"]:
    """What a network (in evaluation mode) answers to each sample, on the host: the mean over its turned plain views."""
    if len(indices) == 0:  # an answer still has its width
        return network(torch.zeros(1, len(stamps.dataset.bands), view_px, view_px, device=stamps.device))[:0].cpu()
    angles_deg = [360.0 * turn / rotations for turn in range(rotations)]
    with closing(stamps.ahead(evaluation_batches(indices), lambda wanted: wanted)) as stacks:
        return torch.cat([_mean_answer(network, stamps, stack, view_px, angles_deg) for _, stack in stacks])


def _mean_answer(
    network: Callable[[Tensor], Tensor], stamps: Stamps, stack: Stack, view_px: int, angles_deg: Sequence[float]
) -> Float[Tensor, "n outputs"]:
    total = sum(network(turned(stamps, stack, view_px, angle)).float().cpu() for angle in angles_deg)
    return torch.as_tensor(total / len(angles_deg))


def turned(stamps: Stamps, stack: Stack, view_px: int, angle_deg: float) -> Float[Tensor, "n C {view_px} {view_px}"]:
    """The plain view of each stamp turned about its object, as torch.rot90 turns; at 0 the plain view bit for bit.

    The object is at pixel ``view_px // 2``: multiples of 90 degrees map the pixels about it onto each other exactly,
    which are all of an odd view, and all but the first row and column of an even one.
    """
    chosen = Preset(angle_deg=(angle_deg, angle_deg))
    plan = stamps.plan(stack.indices, chosen, seed=0, epoch=0, view=0, size_px=view_px)
    return stamps.render(stack, plan)


def _open(run: Path | str, dataset: Dataset) -> tuple[ResNet, PretrainConfig | FinetuneConfig, Stamps]:
    network, info = load_trained(run)
    check_bands(info, dataset, Path(run))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return network.to(device), info.config, Stamps(dataset, device)
