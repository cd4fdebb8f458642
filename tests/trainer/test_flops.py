"""Counted operations: against closed forms, the published network's known cost, and laws of scaling."""

import time

import pytest
import torch

from trainer import flops
from trainer.config import EncoderConfig, FinetuneConfig, PretrainConfig

TINY = EncoderConfig(depth=10, width=2)


def tiny_forward(bands: int, side: int, width: int = 2) -> int:
    """A ResNet-10 by hand: 2 k^2 c_in c_out FLOP for each pixel of a convolution's output."""
    total = 2 * 7**2 * bands * width * side**2  # the stem keeps the size
    channels = width
    for stage in range(4):
        out, side = width * 2**stage, side if stage == 0 else side // 2
        total += 2 * 3**2 * (channels * out + out * out) * side**2
        if stage:
            total += 2 * channels * out * side**2  # the shortcut
        channels = out
    return total


def test_a_network_costs_what_its_convolutions_cost() -> None:
    assert flops.forward_flops(TINY, 5, 16) == tiny_forward(5, 16)
    assert flops.forward_flops(TINY, 3, 16, 16, 7) == tiny_forward(3, 16) + 2 * (16 * 16 + 16 * 7)


def test_training_costs_two_more_passes_but_for_the_gradient_of_the_image() -> None:
    stem = 2 * 7**2 * 5 * 2 * 16**2
    assert flops.training_flops(TINY, 5, 16) == 3 * tiny_forward(5, 16) - stem


def test_the_published_network_costs_what_is_known_of_it() -> None:
    """Measured before, by another count: 10.5 GFLOP an image of 64 px, 41.9 GFLOP a pair of views in MoCo."""
    assert flops.forward_flops(EncoderConfig(), 5, 64) == pytest.approx(10.5e9, rel=0.01)
    assert flops.pretrain_step_flops(PretrainConfig(), 5) == pytest.approx(41.9e9, rel=0.01)


def test_the_loss_costs_two_products_with_the_queue() -> None:
    """q.k+ and q.queue, 2 D FLOP each of 1 + K; the gradient for q is as large a product again."""
    small, large = (flops.pretrain_step_flops(PretrainConfig(encoder=TINY, queue=queue), 5) for queue in (256, 2560))
    assert large - small == 4 * (2560 - 256) * 128


def test_a_frozen_encoder_leaves_the_head() -> None:
    """Its product with the features and the weights' gradient; the features need none."""
    config = FinetuneConfig(encoder=TINY, freeze=True)
    assert flops.finetune_step_flops(config, 5, 180) == 4 * 16 * 180
    whole = flops.finetune_step_flops(FinetuneConfig(encoder=TINY, view_px=16), 5, 180)
    assert whole == flops.training_flops(TINY, 5, 16) + 6 * 16 * 180


def test_counting_draws_no_random_number_and_is_done_once() -> None:
    before = torch.random.get_rng_state()
    flops.forward_flops(EncoderConfig(depth=18, width=8), 4, 32)
    assert torch.equal(before, torch.random.get_rng_state())
    began = time.perf_counter()
    for _ in range(100):
        flops.forward_flops(EncoderConfig(depth=18, width=8), 4, 32)
    assert time.perf_counter() - began < 0.1
