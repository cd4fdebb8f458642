"""The encoder: the published network's size and shape, grouped batch norm against the plain one, the flux stretch."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from trainer.config import Depth, EncoderConfig, PretrainConfig
from trainer.moco import MoCo
from trainer.resnet import GroupedBatchNorm2d, ResNet, set_batch_norm_groups
from trainer.stretch import FluxStretch

BANDS = 5


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_resnet50_has_the_published_number_of_parameters() -> None:
    network = ResNet(EncoderConfig(), BANDS)
    assert network.num_features == 2048
    network.fc = nn.Linear(2048, 180)
    assert round(parameters(network) / 1e6, 3) == 23.883
    moco = MoCo(PretrainConfig(queue=256), BANDS)
    assert round(parameters(moco.encoder_q) / 1e6, 2) == 27.97
    assert not any(parameter.requires_grad for parameter in moco.encoder_k.parameters())


# torchvision's counts for three bands, 1000 classes and the stem's 7x7 (pytorch.org/vision, "Table of all available
# classification weights"); the stem's stride and the missing pool change no parameter.
@pytest.mark.parametrize(
    ("depth", "published"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160)]
)
def test_every_depth_has_torchvisions_number_of_parameters(depth: Depth, published: int) -> None:
    network = ResNet(EncoderConfig(depth=depth), 3)
    network.fc = nn.Linear(network.num_features, 1000)
    assert parameters(network) == published


def test_keys_are_torchvisions() -> None:
    keys = set(ResNet(EncoderConfig(width=2), BANDS).state_dict()) - {"stretch.scale"}
    norms = {key.removesuffix(".running_mean") for key in keys if key.endswith(".running_mean")}
    blocks = [f"layer{stage}.{block}" for stage, count in enumerate((3, 4, 6, 3), 1) for block in range(count)]
    assert norms == (
        {"bn1"}
        | {f"{block}.bn{number}" for block in blocks for number in (1, 2, 3)}
        | {f"layer{stage}.0.downsample.1" for stage in (1, 2, 3, 4)}
    )
    convolutions = {norm.replace("bn", "conv").replace("downsample.1", "downsample.0") for norm in norms}
    per_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert keys == {f"{name}.weight" for name in convolutions} | {
        f"{norm}.{part}" for norm in norms for part in per_norm
    }


def test_the_stem_keeps_every_pixel_and_the_stride_sits_on_the_3x3() -> None:
    network = ResNet(EncoderConfig(width=2), BANDS)
    assert network.conv1(torch.zeros(1, BANDS, 64, 64)).shape[2:] == (64, 64)
    strides = {name: module.stride for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    assert strides["layer2.0.conv2"] == (2, 2)
    assert strides["layer2.0.conv1"] == (1, 1)
    x = network.layer4(network.layer3(network.layer2(network.layer1(torch.zeros(1, 2, 64, 64)))))
    assert x.shape == (1, 64, 8, 8)


@pytest.mark.parametrize("depth", [10, 50])
def test_any_number_of_bands_and_any_side(depth: Depth) -> None:
    network = ResNet(EncoderConfig(depth=depth, width=2), 3).eval()
    assert network.features(torch.randn(2, 3, 17, 20)).shape == (2, network.num_features)


def test_grouped_batch_norm_is_plain_batch_norm_of_each_part() -> None:
    torch.manual_seed(0)
    x = torch.randn(12, 4, 5, 6) * 3 + 1
    grouped = GroupedBatchNorm2d(4)
    grouped.groups = 3
    plain = [nn.BatchNorm2d(4) for _ in range(3)]
    expected = torch.cat([norm(part) for norm, part in zip(plain, x.chunk(3), strict=True)])
    assert_close(grouped(x), expected)
    # Each plain norm made one step of its running average from the same start, so the mean of the three is asked for.
    assert_close(grouped.running_mean, torch.stack([norm.running_mean for norm in plain]).mean(0))
    assert_close(grouped.running_var, torch.stack([norm.running_var for norm in plain]).mean(0))
    with pytest.raises(ValueError, match="a batch of 13 has no 3 equal parts"):
        grouped(torch.zeros(13, 4, 5, 6))


def test_what_is_compiled_of_grouped_batch_norm_is_the_same_with_its_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another way to compute it, in float64: sums of 240 values are right to 1e-14."""
    torch.manual_seed(0)
    x = (torch.randn(24, 4, 5, 6, dtype=torch.float64) * 3 + 10).contiguous(memory_format=torch.channels_last)
    direction, seen = torch.randn_like(x), []
    for compiling in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda compiling=compiling: compiling)
        norm, given = GroupedBatchNorm2d(4).double(), x.clone().requires_grad_()
        norm.groups = 3
        nn.init.constant_(norm.weight, 0.7)
        answer = norm(given)
        answer.backward(direction)
        assert answer.is_contiguous(memory_format=torch.channels_last)
        seen.append([answer, given.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    assert_close(seen[1], seen[0], rtol=1e-12, atol=1e-12)
    assert not torch.equal(seen[1][0], seen[0][0])  # that it was another way


def test_grouped_batch_norm_does_not_group_in_evaluation() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 4, 3, 3)  # no multiple of the groups
    grouped, plain = GroupedBatchNorm2d(4).eval(), nn.BatchNorm2d(4).eval()
    grouped.groups = 2
    assert_close(grouped(x), plain(x))


def test_a_part_does_not_depend_on_the_other_parts() -> None:
    torch.manual_seed(0)
    network = ResNet(EncoderConfig(depth=10, width=2), BANDS)
    set_batch_norm_groups(network, 2)
    x = torch.randn(8, BANDS, 12, 12)
    changed = torch.cat([x[:4], torch.randn(4, BANDS, 12, 12)])
    assert torch.equal(network(x)[:4], network(changed)[:4])
    set_batch_norm_groups(network, 1)
    assert not torch.allclose(network(x)[:4], network(changed)[:4])


def test_asinh_is_linear_in_the_noise_and_turns_colours_into_differences() -> None:
    stretch = FluxStretch("asinh", 2)
    stretch.set_scale(torch.tensor([0.02, 0.1]))
    faint = torch.tensor([0.0002, 0.001]).reshape(1, 2, 1, 1)  # a hundredth of the noise
    # asinh x = x - x^3 / 6: relative error below 2e-5 there.
    assert_close(stretch(faint).flatten(), torch.tensor([0.01, 0.01]), rtol=2e-5, atol=0.0)
    bright = torch.tensor([20.0, 100.0]).reshape(1, 2, 1, 1)  # 1000 times the noise: asinh x = ln 2x + O(1e-6 / 4)
    assert_close(stretch(2.5 * bright) - stretch(bright), torch.full((1, 2, 1, 1), 2.5).log(), rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("kind", ["none", "asinh"])
def test_a_pixel_without_data_counts_as_sky(kind: str) -> None:
    stretch = FluxStretch("none" if kind == "none" else "asinh", 1)
    flux = torch.tensor([1.0, torch.nan, torch.inf, -torch.inf]).reshape(1, 1, 2, 2)
    before = flux.clone()
    out = stretch(flux).flatten()
    assert torch.equal(out[1:], torch.zeros(3))
    assert out[0] > 0.8
    assert torch.equal(flux.isnan(), before.isnan())
    if kind == "none":
        assert out[0] == 1.0
