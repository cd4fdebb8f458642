"""MoCo: the loss in closed form and restated, the queue's order, the key encoder, the shuffle of the keys."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from trainer.config import EncoderConfig, PretrainConfig
from trainer.moco import MoCo, info_nce, key_permutation, normalise

CONFIG = PretrainConfig(
    encoder=EncoderConfig(depth=10, width=2), batch=4, queue=8, embedding=6, batch_norm_groups=2, key_momentum=0.75
)


def small_moco() -> MoCo:
    torch.manual_seed(0)
    return MoCo(CONFIG, 3)


def alone(part: Tensor) -> Tensor:
    """What `Ranks.gather` does with one rank."""
    return part[None]


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
@pytest.mark.parametrize("negatives", [1, 5])
def test_info_nce_has_its_closed_form_on_orthonormal_keys(negatives: int, temperature: float) -> None:
    basis = torch.eye(2 + negatives)
    loss, accuracy = info_nce(basis[:2], basis[:2], basis[2:], temperature=temperature)
    assert_close(loss, torch.tensor(math.log(1 + negatives * math.exp(-1 / temperature))), rtol=1e-5, atol=1e-7)
    assert accuracy == 1.0


def test_info_nce_equals_the_formula_written_out() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, queue = (normalise(torch.randn(n, 8, generator=generator)).double() for n in (5, 5, 11))
    temperature, terms, hits = 0.2, [], 0
    for query, key in zip(q.tolist(), k.tolist(), strict=True):
        positive = math.exp(sum(a * b for a, b in zip(query, key, strict=True)) / temperature)
        negative = [
            math.exp(sum(a * b for a, b in zip(query, old, strict=True)) / temperature) for old in queue.tolist()
        ]
        terms.append(-math.log(positive / (positive + sum(negative))))
        hits += positive > max(negative)
    loss, accuracy = info_nce(q, k, queue, temperature=temperature)
    assert_close(loss, torch.tensor(sum(terms) / 5, dtype=torch.float64), rtol=1e-12, atol=0.0)
    assert accuracy == hits / 5


def test_the_queue_holds_the_newest_keys_in_order_and_the_oldest_go_first() -> None:
    moco = small_moco()
    keys = torch.arange(20.0)[:, None].expand(20, CONFIG.embedding)
    for first in range(0, 20, 4):
        moco.enqueue(keys[first : first + 4])
    assert moco.queue[:, 0].tolist() == [16, 17, 18, 19, 12, 13, 14, 15]
    assert moco.queue_ptr.tolist() == [4]


def test_the_key_encoder_follows_by_its_momentum_and_has_no_gradient() -> None:
    moco = small_moco()
    with torch.no_grad():
        for parameter in moco.encoder_q.parameters():
            parameter.add_(1.0)
    before = [parameter.clone() for parameter in moco.encoder_k.parameters()]
    moco.follow()
    for old, key, query in zip(before, moco.encoder_k.parameters(), moco.encoder_q.parameters(), strict=True):
        assert_close(key, 0.75 * old + 0.25 * query)
    assert moco.encode_keys(torch.randn(4, 3, 8, 8), torch.arange(4), alone).grad_fn is None


def test_keys_come_back_in_the_order_of_the_batch() -> None:
    moco = small_moco().eval()  # without batch statistics a key depends on its own view alone
    views = torch.randn(4, 3, 8, 8)
    permutation = torch.tensor([2, 0, 3, 1])
    expected = F.normalize(moco.encoder_k(views), dim=1)
    assert_close(moco.encode_keys(views[permutation], permutation, alone), expected)


def test_keys_of_several_ranks_come_back_in_the_order_of_the_global_batch() -> None:
    moco = small_moco().eval()
    views = torch.randn(4, 3, 8, 8)
    permutation = torch.tensor([2, 0, 3, 1])
    parts = [normalise(moco.encoder_k(views[permutation[rank]])) for rank in (slice(0, 2), slice(2, 4))]
    stacked = torch.stack(parts)  # what gather gives on either rank
    keys = moco.encode_keys(views[permutation[:2]], permutation, lambda _: stacked)
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


def test_twenty_steps_equal_the_published_algorithm_written_straight() -> None:
    """He et al. 2020, algorithm 1, with plain tensors and torch's own optimiser on one group of batch statistics."""
    config = PretrainConfig(
        encoder=EncoderConfig(depth=10, width=2), batch=4, queue=8, embedding=6, batch_norm_groups=1, key_momentum=0.9
    )
    torch.manual_seed(0)
    ours = MoCo(config, 3).double()
    torch.manual_seed(0)
    plain = MoCo(config, 3).double()
    f_q, f_k, queue = plain.encoder_q, plain.encoder_k, plain.queue.T.clone()
    optimisers = [torch.optim.SGD(m.parameters(), 0.05, 0.9, weight_decay=1e-4) for m in (ours.encoder_q, f_q)]
    generator = torch.Generator().manual_seed(2)
    pointer = 0
    for step in range(20):
        x_q, x_k = (torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
        order = torch.from_numpy(key_permutation(4, seed=0, epoch=0, position=step))

        q = ours.encoder_q(x_q)
        ours.follow()
        keys = ours.encode_keys(x_k[order], order, alone)
        loss, _ = info_nce(normalise(q), keys, ours.queue, temperature=0.1)
        optimisers[0].zero_grad()
        torch.autograd.backward(loss)
        optimisers[0].step()
        ours.enqueue(keys)

        q = F.normalize(f_q(x_q), dim=1)
        with torch.no_grad():
            for key, query in zip(f_k.parameters(), f_q.parameters(), strict=True):
                key.data = 0.9 * key.data + 0.1 * query.data
            k = F.normalize(f_k(x_k), dim=1)
        logits = torch.cat([torch.einsum("nc,nc->n", q, k)[:, None], torch.einsum("nc,ck->nk", q, queue)], dim=1) / 0.1
        expected = F.cross_entropy(logits, torch.zeros(4, dtype=torch.long))
        optimisers[1].zero_grad()
        torch.autograd.backward(expected)
        optimisers[1].step()
        queue[:, pointer : pointer + 4] = k.T
        pointer = (pointer + 4) % 8

        # The same arithmetic in another order: ulps of 1e-16, which twenty steps make 3e4 times larger (seen in fp32).
        assert_close(loss, expected, rtol=1e-9, atol=1e-9)
