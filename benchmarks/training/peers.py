"""MoCo's step as others take it, with our encoder, on the same views: plain PyTorch as published, and lightly's.

Each has torch's SGD as it comes, and batch norm over the whole batch.
"""

# B images in the batch, K queue length, D embedding size
from importlib import import_module
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config import PretrainConfig
from trainer.moco import MoCo
from trainer.precision import Arithmetic

from .galaxies import BANDS
from .step import SKY, Step, Views

PLAIN, LIGHTLY, SOLO = "plain PyTorch", "lightly", "solo-learn"
SOLO_LEFT_OUT = "its release asks for exactly torch 1.9.1; lightly stands for such libraries"
FOOTING = {
    PLAIN: "the same encoder, views, queue and precision; MoCo's step as published (He et al. 2020, algorithm 1), "
    "written anew: the whole matrix of logits, torch.optim.SGD, a momentum update tensor by tensor; its batch norm "
    "takes the batch at once where ours takes 8 groups, and it does not look whether a step is finite; the published "
    "code's accuracy and printing are left out",
    LIGHTLY: "the same encoder, views, queue and precision; NTXentLoss with its memory bank, update_momentum and "
    "batch_shuffle, put together as in its documentation, with torch.optim.SGD; batch norm and checks as plain PyTorch",
}


def named(peer: str) -> str:
    """Name of a peer's result."""
    return f"train: MoCo step, {peer}"


def steps(settings: PretrainConfig, device: torch.device) -> tuple[dict[str, Step], dict[str, str]]:
    """Each peer's step; and who is left out, and why."""
    found, left_out = {PLAIN: plain_step(settings, device)}, {SOLO: SOLO_LEFT_OUT}
    try:
        loss, utils = import_module("lightly.loss"), import_module("lightly.models.utils")
    except (ImportError, RuntimeError) as err:  # RuntimeError: it imports torchvision, which may be another torch's
        left_out[LIGHTLY] = f"cannot be imported: {err}"
    else:
        found[LIGHTLY] = lightly_step(settings, device, loss, utils)
    return found, left_out


class _Networks:
    """What the peers share: two encoders and an optimiser, on the device in the settings' precision."""

    def __init__(self, settings: PretrainConfig, device: torch.device) -> None:
        self.arithmetic = Arithmetic(settings.precision, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            moco = MoCo(settings, BANDS)
        moco.set_scale(torch.full((BANDS,), SKY))
        self.arithmetic.prepare(moco).train()
        self.query: nn.Module = moco.encoder_q
        self.key: nn.Module = moco.encoder_k
        self.queue = moco.queue  # to begin with
        self.optimiser = torch.optim.SGD(
            self.query.parameters(),
            lr=settings.peak_lr,
            momentum=settings.sgd_momentum,
            weight_decay=settings.weight_decay,
        )

    def learn(self, loss: Tensor) -> Tensor:
        """Step down the gradient of a loss, and give the loss."""
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()
        return loss.detach()


def plain_step(settings: PretrainConfig, device: torch.device) -> Step:
    """He et al. 2020, algorithm 1."""
    networks = _Networks(settings, device)
    queue_DK = networks.queue.T.contiguous()
    momentum, pointer = settings.key_momentum, 0

    def step(views: Views) -> Tensor:
        nonlocal pointer
        with networks.arithmetic.autocast():
            embedding_BD = networks.query(views.queries)
        q_BD = F.normalize(embedding_BD.float(), dim=1)
        with torch.no_grad():
            for key, query in zip(networks.key.parameters(), networks.query.parameters(), strict=True):
                key.data = key.data * momentum + query.data * (1 - momentum)
            shuffle = torch.randperm(len(views.keys), device=device)
            with networks.arithmetic.autocast():
                shuffled_BD = networks.key(views.keys[shuffle])
            k_BD = F.normalize(shuffled_BD.float(), dim=1)[torch.argsort(shuffle)]
        positive_B1 = torch.einsum("nc,nc->n", q_BD, k_BD).unsqueeze(-1)
        negative_BK = torch.einsum("nc,ck->nk", q_BD, queue_DK.clone())
        logits = torch.cat([positive_B1, negative_BK], dim=1) / settings.temperature
        loss = networks.learn(F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=device)))
        places = (pointer + torch.arange(len(k_BD), device=device)) % settings.queue
        queue_DK[:, places] = k_BD.T
        pointer = (pointer + len(k_BD)) % settings.queue
        return loss

    return step


def lightly_step(settings: PretrainConfig, device: torch.device, loss: ModuleType, utils: ModuleType) -> Step:
    """`lightly.loss` and `lightly.models.utils`, as lightly's documentation puts MoCo together."""
    networks = _Networks(settings, device)
    bank = (settings.queue, settings.embedding)
    criterion = loss.NTXentLoss(temperature=settings.temperature, memory_bank_size=bank).to(device)

    def step(views: Views) -> Tensor:
        utils.update_momentum(networks.query, networks.key, m=settings.key_momentum)
        with networks.arithmetic.autocast():
            queries = networks.query(views.queries)
            with torch.no_grad():
                shuffled, shuffle = utils.batch_shuffle(views.keys)
                keys = utils.batch_unshuffle(networks.key(shuffled), shuffle)
        return networks.learn(criterion(queries.float(), keys.float()))

    return step
