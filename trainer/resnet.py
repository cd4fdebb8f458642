"""The encoder: the ResNet of Hayat et al. 2021, in torchvision's key layout.

Bottlenecks are v1.5 (the stride sits on the 3x3 convolution); the stem is a 7x7 convolution of stride 1 with no
max-pool behind it, since galaxies are small. Depth and width are settings, so that a CPU can train a small one. The
layer names are torchvision's (``conv1``, ``bn1``, ``layer1.0.conv1`` ... ``fc``), as published checkpoints have
them. What is put on top of the features (``fc``) and how it is trained is said elsewhere.
"""

# N images, C channels, H W rows and columns
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .config import Depth, EncoderConfig
from .stretch import FluxStretch

LAYERS: dict[Depth, tuple[int, int, int, int]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
FIRST_BOTTLENECK_DEPTH = 50


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics, in training, are those of ``groups`` equal parts of the batch, each for itself.

    The running statistics follow the mean over the parts. With one group this is `nn.BatchNorm2d`, less its count of
    batches, which nothing needs. With ``everyone``
    the statistics are those of all ranks' batches together (torch's own SyncBatchNorm does that on GPUs alone).
    """

    groups: int = 1
    everyone: bool = False

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Normalise; the batch must be a multiple of the number of groups."""
        if not self.training:
            return super().forward(x)
        if self.everyone:
            return self._over_ranks(x)
        if torch.compiler.is_compiling() and self.groups > 1:
            return self._groups_at_once(x)
        return self._by_groups(x)

    def _by_groups(self, x: Tensor) -> Tensor:
        if len(x) % self.groups:
            raise ValueError(f"a batch of {len(x)} has no {self.groups} equal parts")
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        means, variances = self.running_mean.repeat(self.groups, 1), self.running_var.repeat(self.groups, 1)
        parts = [
            F.batch_norm(part, mean, variance, self.weight, self.bias, True, self.momentum, self.eps)
            for part, mean, variance in zip(x.chunk(self.groups), means, variances, strict=True)
        ]
        self.running_mean.copy_(means.mean(dim=0))
        self.running_var.copy_(variances.mean(dim=0))
        return torch.cat(parts) if self.groups > 1 else parts[0]

    def _groups_at_once(self, x: Tensor) -> Tensor:
        """The same up to rounding, for the compiler, which makes few kernels of it and fuses them with what follows.

        Not compiled it would be slower, and hold all of the batch in float32.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        parts = x.view(self.groups, -1, *x.shape[1:])
        wide = parts if parts.dtype == torch.float64 else parts.float()
        variance, mean = torch.var_mean(wide, dim=(1, 3, 4), correction=0)
        count = parts[0].numel() // x.shape[1]
        with torch.no_grad():
            self.running_mean.lerp_(mean.mean(dim=0), self.momentum)
            self.running_var.lerp_(variance.mean(dim=0) * (count / (count - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        centred = wide - mean[:, None, :, None, None]
        made = centred * scale[:, None, :, None, None] + self.bias[:, None, None]
        return made.to(x.dtype).flatten(0, 1)

    def _over_ranks(self, x: Tensor) -> Tensor:
        """Ranks hold equally many images. The variance is of the differences, which squares would cancel out."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        ranks = dist.get_world_size() if dist.is_initialized() else 1
        wide = x if x.dtype == torch.float64 else x.float()
        mean = _mean_over_ranks(wide.mean(dim=(0, 2, 3)), ranks)
        centred = wide - mean[:, None, None]
        variance = _mean_over_ranks(centred.square().mean(dim=(0, 2, 3)), ranks)
        count = ranks * x.numel() // x.shape[1]
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def _mean_over_ranks(values: Tensor, ranks: int) -> Tensor:
    if ranks == 1:
        return values
    total: Tensor = _SumOverRanks.apply(values)  # type: ignore[no-untyped-call]
    return total / ranks


class _SumOverRanks(torch.autograd.Function):
    """With a gradient: what a rank's value does to all ranks' losses."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (depths 10, 18 and 34)."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels, 3, stride)
        self.bn1 = GroupedBatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3)
        self.bn2 = GroupedBatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels_in, channels * self.expansion, stride)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C2 H2 W2"]:
        """Add the residual to the shortcut."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        answer: Tensor = self.relu(x + shortcut)
        return answer


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolution and a shortcut (depths 50 and 101)."""

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels, 1)
        self.bn1 = GroupedBatchNorm2d(channels)
        self.conv2 = _conv(channels, channels, 3, stride)
        self.bn2 = GroupedBatchNorm2d(channels)
        self.conv3 = _conv(channels, channels * self.expansion, 1)
        self.bn3 = GroupedBatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(channels_in, channels * self.expansion, stride)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C2 H2 W2"]:
        """Add the residual to the shortcut."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(x))
        answer: Tensor = self.relu(x + shortcut)
        return answer


class ResNet(nn.Module):
    """Images to features, and features to whatever ``fc``, the head, makes of them."""

    def __init__(self, config: EncoderConfig, bands: int) -> None:
        super().__init__()
        self.config = config
        self.stretch = FluxStretch(config.stretch, bands)
        block = Bottleneck if config.depth >= FIRST_BOTTLENECK_DEPTH else BasicBlock
        counts = LAYERS[config.depth]
        width = config.width
        self.conv1 = _conv(bands, width, 7)
        self.bn1 = GroupedBatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _layer(block, width, width, counts[0], 1)
        self.layer2 = _layer(block, width * block.expansion, 2 * width, counts[1], 2)
        self.layer3 = _layer(block, 2 * width * block.expansion, 4 * width, counts[2], 2)
        self.layer4 = _layer(block, 4 * width * block.expansion, 8 * width, counts[3], 2)
        self.num_features = 8 * width * block.expansion
        self.fc: nn.Module = nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D"]:
        """The mean over the last map, 8 * width channels, 4 times that with bottlenecks, from nanomaggies per pixel."""
        x = x.to(self.conv1.weight.dtype)  # float64 in tests
        x = self.relu(self.bn1(self.conv1(self.stretch(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean(dim=(2, 3))

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N K"]:
        """The head's answer."""
        answer: Tensor = self.fc(self.features(x))
        return answer


def describe(network: ResNet) -> str:
    """Depth, width and size, as a person reads them."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return f"ResNet-{network.config.depth} of width {network.config.width} ({parameters:,} parameters)"


def set_batch_norm_groups(network: nn.Module, groups: int, *, everyone: bool = False) -> None:
    """Say in how many parts every batch norm of the network cuts its batch in training, or that all ranks share one."""
    for module in network.modules():
        if isinstance(module, GroupedBatchNorm2d):
            module.groups, module.everyone = groups, everyone


def _conv(channels_in: int, channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, size, stride=stride, padding=size // 2, bias=False)


def _shortcut(channels_in: int, channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels_in == channels:
        return None
    return nn.Sequential(_conv(channels_in, channels, 1, stride), GroupedBatchNorm2d(channels))


def _layer(
    block: type[BasicBlock] | type[Bottleneck], channels_in: int, channels: int, count: int, stride: int
) -> nn.Sequential:
    inner = channels * block.expansion
    return nn.Sequential(block(channels_in, channels, stride), *(block(inner, channels, 1) for _ in range(count - 1)))
