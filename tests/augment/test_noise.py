"""The noise field: white, Gaussian, of the stated variance, and the property of its key."""

import itertools
import math

import pytest
import torch
from scipy import stats

from augment.noise import add_noise, standard_normal
from augment.philox import philox4x32

SHAPE = torch.Size((5, 64, 64))
KEYS = torch.stack([torch.arange(64) * 7919, torch.arange(64) + 2**31], dim=1)


def test_golden_values():
    """Made by this code. float32's log, cos and sin may differ by some ulp between machines."""
    field = standard_normal(torch.tensor([[1, 2]]), torch.Size((2, 3, 3))).flatten()
    first = [-2.267637252807617, -0.46324479579925537, 0.40560391545295715, -1.5822970867156982]
    torch.testing.assert_close(field[:4], torch.tensor(first), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(field[-1], torch.tensor(-0.9065533876419067), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 3), (2, 4, 5), (5, 16, 16)])
def test_equals_box_and_muller_in_float64(shape):
    """Value i of a band's plane is lane i // N of the band's block i % N, N = ceil(values / 4)."""
    key, pixels = (123456789, 987654321), math.prod(shape[1:])
    blocks = -(-pixels // 4)
    expected = []
    for band, index in itertools.product(range(shape[0]), range(pixels)):
        lane, block = divmod(index, blocks)
        words = philox4x32(
            tuple(torch.tensor(word) for word in (block, band, 0, 0)), tuple(torch.tensor(word) for word in key)
        )
        u, v = ((int(words[lane // 2 * 2 + side]) + 0.5) / 2**32 for side in (0, 1))
        expected.append(math.sqrt(-2 * math.log(u)) * (math.sin if lane % 2 else math.cos)(2 * math.pi * v))
    field = standard_normal(torch.tensor([key]), torch.Size(shape))
    assert field.shape == (1, *shape)
    # An angle up to 2 pi in float32 is off by 4e-7, times a radius of up to 6; near u = 1 the radius is off by more.
    torch.testing.assert_close(field.flatten(), torch.tensor(expected), rtol=0, atol=1e-5)


def test_it_is_standard_normal_in_every_field():
    field = standard_normal(KEYS, SHAPE)
    values = field.flatten(1).double()
    n = values.shape[1]
    # Errors of mean, variance and kurtosis: 1, sqrt(2), sqrt(24) over sqrt(n); 5 sigma for 64 fields.
    assert values.mean(dim=1).abs().max() < 5 / math.sqrt(n)
    assert (values.var(dim=1) - 1).abs().max() < 5 * math.sqrt(2 / n)
    assert ((values**4).mean() - 3).abs() < 5 * math.sqrt(96 / values.numel())
    assert stats.kstest(values[0].numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(values[:, ::16].flatten().numpy(), "norm").pvalue > 1e-3


def test_it_is_white_and_independent_between_bands_and_views():
    field = standard_normal(KEYS, SHAPE).double()
    pairs = {
        "right": (field[..., :-1], field[..., 1:]),
        "up": (field[:, :, :-1], field[:, :, 1:]),
        "band": (field[:, :-1], field[:, 1:]),
        "view": (field[:-1], field[1:]),
        "lane": (field.flatten(2)[..., :1024], field.flatten(2)[..., 1024:2048]),
    }
    for name, (one, other) in pairs.items():
        assert (one * other).mean().abs() < 5 / math.sqrt(one.numel()), name


def test_a_field_does_not_depend_on_the_batch_around_it():
    together = standard_normal(KEYS, SHAPE)
    order = torch.randperm(len(KEYS), generator=torch.Generator().manual_seed(0))
    # float32's log, cos and sin may differ by an ulp where vectors end: values up to 6.
    torch.testing.assert_close(standard_normal(KEYS[order], SHAPE), together[order], rtol=0, atol=1e-5)
    torch.testing.assert_close(standard_normal(KEYS[5:6], SHAPE), together[5:6], rtol=0, atol=1e-5)


def test_noise_has_the_requested_sigma_and_leaves_its_input_alone():
    flux = torch.ones(64, 5, 64, 64)
    sigma = torch.tensor([0.0, 0.01, 0.02, 0.06, 1.0]).expand(64, 5)
    noisy = add_noise(flux, sigma, KEYS)
    assert torch.equal(noisy[:, 0], flux[:, 0])
    # 4096 pixels: a standard deviation is known to 1 / sqrt(2 n) = 1.1 %; 5 sigma for 256 of them.
    torch.testing.assert_close(noisy.std(dim=(2, 3))[:, 1:], sigma[:, 1:], rtol=0.055, atol=0)
    assert (flux == 1).all()


def test_nan_stays_where_it_is():
    flux = torch.zeros(1, 1, 4, 4)
    flux[0, 0, 1, 2] = torch.nan
    noisy = add_noise(flux, torch.ones(1, 1), KEYS[:1])
    assert torch.equal(noisy.isnan(), flux.isnan())


def test_the_word_zero_is_a_number_like_any_other():
    """Block 690 of this key begins with the word 0 (found by search), whose logarithm must not be taken."""
    field = standard_normal(torch.tensor([[2360573, 0]]), torch.Size((1, 4, 691))).flatten()
    cosine, sine = field[690], field[690 + 691]
    # The largest radius there is: sqrt(-2 ln 2^-33); float32.
    assert float(cosine**2 + sine**2) == pytest.approx(66 * math.log(2), rel=1e-6)
