"""MoCo: the algorithm restated, the queue's order, the key encoder, the shuffle of the keys."""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from sharding import Dataset
from trainer.config import EncoderConfig, PretrainConfig
from trainer.distributed import Ranks
from trainer.moco import MoCo, gather_keys, key_permutation, normalise
from trainer.pretrain import Pretraining

CONFIG = PretrainConfig(
    encoder=EncoderConfig(depth=10, width=2), batch=4, queue=8, embedding=6, batch_norm_groups=2, key_momentum=0.75
)


def small_moco() -> MoCo:
    torch.manual_seed(0)
    return MoCo(CONFIG, 3)


def alone(part: Tensor) -> Tensor:
    """What `Ranks.gather` does with one rank."""
    return part[None]


YES, NO = torch.tensor(True), torch.tensor(False)  # whether a step counts


def test_the_queue_holds_the_newest_keys_in_order_and_the_oldest_go_first() -> None:
    moco = small_moco()
    keys = torch.arange(20.0)[:, None].expand(20, CONFIG.embedding)
    for first in range(0, 20, 4):
        moco.enqueue(keys[first : first + 4], YES)
    assert moco.queue[:, 0].tolist() == [16, 17, 18, 19, 12, 13, 14, 15]
    assert moco.queue_ptr.tolist() == [4]
    moco.enqueue(keys[:4] + torch.nan, NO)
    assert moco.queue[:, 0].tolist() == [16, 17, 18, 19, 12, 13, 14, 15]
    assert moco.queue_ptr.tolist() == [4]


def test_the_key_encoder_follows_by_its_momentum_and_has_no_gradient() -> None:
    moco = small_moco()
    with torch.no_grad():
        for parameter in moco.encoder_q.parameters():
            parameter.add_(1.0)
    before = [parameter.clone() for parameter in moco.encoder_k.parameters()]
    moco.follow(NO)
    assert all(torch.equal(old, key) for old, key in zip(before, moco.encoder_k.parameters(), strict=True))
    moco.follow(YES)
    for old, key, query in zip(before, moco.encoder_k.parameters(), moco.encoder_q.parameters(), strict=True):
        assert_close(key, 0.75 * old + 0.25 * query)
    embedded = moco.encoder_q(torch.randn(4, 3, 8, 8))
    assert embedded.requires_grad
    assert gather_keys(embedded, torch.arange(4), alone).grad_fn is None
    assert moco.encoder_k(torch.randn(4, 3, 8, 8)).grad_fn is None


def test_keys_come_back_in_the_order_of_the_batch() -> None:
    moco = small_moco().eval()  # without batch statistics a key depends on its own view alone
    views = torch.randn(4, 3, 8, 8)
    permutation = torch.tensor([2, 0, 3, 1])
    expected = F.normalize(moco.encoder_k(views), dim=1)
    assert_close(gather_keys(moco.encoder_k(views[permutation]), permutation, alone), expected)


def test_keys_of_several_ranks_come_back_in_the_order_of_the_global_batch() -> None:
    moco = small_moco().eval()
    views = torch.randn(4, 3, 8, 8)
    permutation = torch.tensor([2, 0, 3, 1])
    parts = [normalise(moco.encoder_k(views[permutation[rank]])) for rank in (slice(0, 2), slice(2, 4))]
    stacked = torch.stack(parts)  # what gather gives on either rank
    keys = gather_keys(moco.encoder_k(views[permutation[:2]]), permutation, lambda _: stacked)
    assert_close(keys, F.normalize(moco.encoder_k(views), dim=1))


def test_the_order_of_the_keys_is_a_permutation_and_a_function_of_its_place() -> None:
    place = {"seed": 3, "epoch": 1, "position": 64}
    order = key_permutation(64, **place)
    assert np.array_equal(np.sort(order), np.arange(64))
    assert np.array_equal(order, key_permutation(64, **place))
    for name in place:
        assert not np.array_equal(order, key_permutation(64, **{**place, name: place[name] + 1}))
    # No group of queries meets as a group of keys: 8 groups of 8 share a member with at least 3 key groups each.
    groups = order.reshape(8, 8) // 8
    assert min(len(set(group)) for group in groups.tolist()) >= 3


class PlainBatchNorm(nn.Module):
    """Batch norm over each half of the batch, as its formula says (Ioffe and Szegedy 2015, algorithm 1)."""

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        halves = []
        for half in (x[:4], x[4:]):
            mean = half.mean(dim=(0, 2, 3), keepdim=True)
            variance = ((half - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
            halves.append((half - mean) / torch.sqrt(variance + 1e-5))
        return torch.cat(halves) * self.weight[:, None, None] + self.bias[:, None, None]


def with_plain_batch_norm(encoder: nn.Module) -> nn.Module:
    copied = copy.deepcopy(encoder)
    for name, module in list(copied.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent = copied.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], PlainBatchNorm(module.weight, module.bias))
    return copied


def test_twenty_steps_equal_the_published_algorithm_written_straight(make_survey: Callable[..., Dataset]) -> None:
    """He et al. 2020, algorithm 1, with plain tensors, torch's own loss and optimiser, and batch norm written out."""
    config = PretrainConfig(
        encoder=EncoderConfig(depth=10, width=4), view_px=16, batch=8, queue=20, embedding=6, batch_norm_groups=2,
        key_momentum=0.9, lr=0.05, max_steps=20, warmup_steps=3,
    )  # fmt: skip
    ours = Pretraining(config, make_survey(60), Ranks(0, 1, torch.device("cpu")))
    f_q, f_k = (with_plain_batch_norm(encoder) for encoder in (ours.moco.encoder_q, ours.moco.encoder_k))
    queue = ours.moco.queue.T.clone()
    optimiser = torch.optim.SGD(f_q.parameters(), 0.05, 0.9, weight_decay=1e-4, foreach=False)
    generator = torch.Generator().manual_seed(2)
    pointer = 0
    for step in range(20):
        x_q, x_k = torch.randn(2, 8, 5, 16, 16, generator=generator).unbind()
        order = key_permutation(8, seed=0, epoch=0, position=step)
        _, figures = ours.learn(x_q, x_k[order], order)

        with torch.no_grad():
            for key, query in zip(f_k.parameters(), f_q.parameters(), strict=True):
                key.data = 0.9 * key.data + 0.1 * query.data
        q = F.normalize(f_q(x_q), dim=1)
        with torch.no_grad():
            k = torch.empty(8, 6)
            k[order] = F.normalize(f_k(x_k[order]), dim=1)  # encoded in another grouping, and put back
        logits = torch.cat([torch.einsum("nc,nc->n", q, k)[:, None], torch.einsum("nc,ck->nk", q, queue)], dim=1) / 0.1
        expected = F.cross_entropy(logits, torch.zeros(8, dtype=torch.long))
        for group in optimiser.param_groups:
            half_cosine = 0.5 * (1 + math.cos(math.pi * (step - 3) / 17))
            group["lr"] = 0.05 * (step + 1) / 3 if step < 3 else 0.05 * half_cosine
        optimiser.zero_grad()
        torch.autograd.backward(expected)
        optimiser.step()
        for key in k:
            queue[:, pointer] = key
            pointer = (pointer + 1) % 20

        # The same arithmetic in another order, in fp32: 6e-8 a sum, which twenty steps let grow some thousand times.
        assert_close(figures["loss"], expected.detach(), rtol=2e-4, atol=1e-5)
