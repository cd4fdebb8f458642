"""Published checkpoints: any layout of names gives the network that an independent implementation gives."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.config import EncoderConfig
from trainer.errors import TrainerError
from trainer.published import BANDS, head_like, is_published, load_published
from trainer.resnet import ResNet
from trainer.trained import load_trained

Weights = dict[str, Tensor]


class Independent(nn.Module):
    """The network of Hayat et al. 2021, written from its description: ResNet-50, 7x7 stem of stride 1, no max-pool.

    Bottlenecks of a 1x1, a 3x3 that strides, and a 1x1 convolution (v1.5). Its layers have names of its own.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(5, 64, 7, stride=1, padding=3, bias=False)
        self.stem_norm = nn.BatchNorm2d(64)
        self.blocks = nn.ModuleDict()
        channels = 64
        for stage, (count, inner) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), start=1):
            for number in range(count):
                stride = 2 if stage > 1 and number == 0 else 1
                self.blocks[f"{stage}_{number}"] = IndependentBlock(channels, inner, stride, project=number == 0)
                channels = 4 * inner
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x)).clamp(min=0)
        for block in self.blocks.values():
            x = block(x)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def weights(self) -> Weights:
        """By torchvision's names."""
        return {theirs(name): value for name, value in self.state_dict().items()}


class IndependentBlock(nn.Module):
    def __init__(self, channels: int, inner: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, inner, 1, bias=False)
        self.reduce_norm = nn.BatchNorm2d(inner)
        self.spatial = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.spatial_norm = nn.BatchNorm2d(inner)
        self.expand = nn.Conv2d(inner, 4 * inner, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(4 * inner)
        if project:
            self.project = nn.Conv2d(channels, 4 * inner, 1, stride=stride, bias=False)
            self.project_norm = nn.BatchNorm2d(4 * inner)

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce_norm(self.reduce(x)).clamp(min=0)
        y = self.spatial_norm(self.spatial(y)).clamp(min=0)
        y = self.expand_norm(self.expand(y))
        return (y + (self.project_norm(self.project(x)) if hasattr(self, "project") else x)).clamp(min=0)


LAYERS = {
    "stem": "conv1", "stem_norm": "bn1", "reduce": "conv1", "reduce_norm": "bn1", "spatial": "conv2",
    "spatial_norm": "bn2", "expand": "conv3", "expand_norm": "bn3", "project": "downsample.0",
    "project_norm": "downsample.1",
}  # fmt: skip


def theirs(name: str) -> str:
    """torchvision's name of one of ours: blocks.1_0.reduce.weight is layer1.0.conv1.weight."""
    layer, *rest = name.split(".")
    if layer == "head":
        return ".".join(["fc", *rest])
    if layer != "blocks":
        return ".".join([LAYERS[layer], *rest])
    stage, number = rest[0].split("_")
    return ".".join([f"layer{stage}.{number}", LAYERS[rest[1]], *rest[2:]])


def projection() -> nn.Module:
    return nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 128))


def as_pretrained(weights: Weights) -> dict[str, Any]:
    """As MoCo's code writes a run: both encoders and the queue, the optimiser beside them."""
    state = {f"module.encoder_q.{name}": value for name, value in weights.items()}
    state |= {f"module.encoder_k.{name}": torch.zeros_like(value) for name, value in weights.items()}
    state |= {"module.queue": torch.zeros(128, 4), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"epoch": 101, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}, "param_groups": []}}


def as_finetuned(weights: Weights) -> dict[str, Any]:
    """As the paper's fine-tuning writes it; its best score is a NumPy scalar."""
    state = {f"module.{name}": value for name, value in weights.items()}
    return {"iters": 7, "epoch": 3, "model_state": state, "best": np.float64(0.01)}


# 1e-5 of the output's norm is promised; where only the order of float32 sums differs, it is less.
@pytest.mark.parametrize(
    ("head", "layout", "parameters"),
    [(lambda: nn.Linear(2048, 180), as_finetuned, "23.883 M"), (projection, as_pretrained, "27.973 M")],
)
def test_the_published_network_answers_as_an_independent_one_does(
    tmp_path: Path, head: Callable[[], nn.Module], layout: Callable[[Weights], dict[str, Any]], parameters: str
) -> None:
    torch.manual_seed(0)
    network = Independent(head()).eval()
    for name, value in network.named_buffers():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if name.endswith("var") else 0.1 * torch.randn_like(value))
    path = tmp_path / "published.pth.tar"
    torch.save(layout(network.weights()), path)
    images = torch.randn(1, 5, 64, 64)
    loaded, bands, view_px, says = load_published(path)
    assert (bands, view_px, says) == (BANDS, 64, {})
    assert (loaded.config.depth, loaded.config.width, loaded.config.stretch) == (50, 64, "none")
    assert not loaded.training
    assert f"{sum(parameter.numel() for parameter in loaded.parameters()) / 1e6:.3f} M" == parameters
    with torch.no_grad():
        expected, answer = network(images), loaded(images)
    assert torch.linalg.vector_norm(answer - expected) <= 1e-5 * torch.linalg.vector_norm(expected)


def test_the_head_tells_what_a_published_file_was_trained_for(tmp_path: Path, small: ResNet) -> None:
    small.fc = nn.Linear(small.num_features, 180)
    torch.save(as_finetuned(weights_of(small)), tmp_path / "it.pth")
    info = load_trained(tmp_path / "it.pth").info
    assert (info.kind, info.config.task, info.config.bins, info.config.view_px) == ("finetune", "photoz", 180, 64)
    small.fc = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    torch.save(as_pretrained(weights_of(small)), tmp_path / "it.pth")
    info = load_trained(tmp_path / "it.pth").info
    assert (info.kind, info.bands, info.config.encoder) == ("pretrain", BANDS, small.config)


@pytest.fixture
def small() -> ResNet:
    torch.manual_seed(1)
    network = ResNet(EncoderConfig(depth=10, width=2), 5).eval()
    network.fc = nn.Linear(network.num_features, 3)
    return network


def weights_of(network: ResNet) -> Weights:
    return {name: value for name, value in network.state_dict().items() if not name.startswith("stretch.")}


def same(left: ResNet, right: ResNet) -> bool:
    mine, yours = left.state_dict(), right.state_dict()
    return mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)


LAYOUTS: Mapping[str, Callable[[Weights], dict[str, Any]]] = {
    "pretrained": as_pretrained,
    "finetuned": as_finetuned,
    "without module": lambda weights: {"model_state": weights},
    "weights alone": lambda weights: dict(weights),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_every_layout_is_read(tmp_path: Path, small: ResNet, layout: str, new: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(LAYOUTS[layout](weights_of(small)), path, _use_new_zipfile_serialization=new)
    assert same(load_published(path).network, small)
    assert is_published(path)
    assert not is_published(tmp_path)


@pytest.mark.parametrize("depth", [10, 18, 34, 50, 101])
def test_depth_and_width_are_told_from_safetensors_too(tmp_path: Path, depth: Any) -> None:
    network = ResNet(EncoderConfig(depth=depth, width=1), 5).eval()
    path = tmp_path / "weights.safetensors"
    save_file({f"module.{name}": value for name, value in weights_of(network).items()}, path)
    loaded = load_published(path).network
    assert same(loaded, network)
    assert loaded.config == network.config


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"layer2.0.bn1.weight": None, "fc.bias": None}, r"layer2\.0\.bn1\.weight is missing \(2 names in all\)"),
        ({"layer9.conv": torch.zeros(1)}, r"layer9\.conv is no part of such a network"),
        ({"bn1.bias": torch.zeros(3)}, r"bn1\.bias: expected shape \(2,\), got \(3,\)"),
        (
            {"layer1.7.conv1.weight": torch.zeros(1)},
            r"expected a ResNet of depth 10, .* got layers of \(2, 1, 1, 1\) basic",
        ),
        ({"conv1.weight": None}, r"expected the weights conv1\.weight of a ResNet, got bn1\.weight"),
        ({"conv1.weight": torch.zeros(2, 3, 7, 7)}, r"expected the bands u, g, r, i, z, got 3 channels"),
    ],
)
def test_other_names_and_shapes_are_told_in_a_line(
    tmp_path: Path, small: ResNet, change: dict[str, Tensor | None], told: str
) -> None:
    weights = {name: value for name, value in (weights_of(small) | change).items() if value is not None}
    torch.save({"state_dict": weights}, tmp_path / "weights.pth")
    with pytest.raises(TrainerError, match=told) as caught:
        load_published(tmp_path / "weights.pth")
    assert "\n" not in str(caught.value)


class Marker:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


def test_nothing_but_plain_data_and_numpy_scalars_is_loaded(tmp_path: Path, small: ResNet) -> None:
    path, mark = tmp_path / "weights.pth", tmp_path / "was run"
    for stranger, name in (
        (argparse.Namespace(lr=1), "argparse.Namespace"),
        (np.zeros(2), "numpy.*_reconstruct"),
        (Marker(mark), "touch|Path|getattr"),
    ):
        torch.save({"state_dict": weights_of(small), "args": stranger}, path)
        with pytest.raises(TrainerError, match=f"holds .*{name}.*, no plain data.* save its state_dict alone"):
            load_published(path)
    assert not mark.exists()
    for scalar in (np.float32(1), np.int64(2), np.bool_(True)):
        torch.save({"state_dict": weights_of(small), "best": scalar}, path)
        assert same(load_published(path).network, small)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_file_that_is_no_checkpoint_is_told_in_a_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for content in (b"", b"a text, no checkpoint"):
        path.write_bytes(content)
        with pytest.raises(TrainerError, match=f"{name}: "):
            load_published(path)
    torch.save({"model": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(TrainerError, match=r"expected the weights conv1\.weight of a ResNet, got model"):
        load_published(tmp_path / "other.pth")
    torch.save({"state_dict": 3}, tmp_path / "other.pth")
    with pytest.raises(TrainerError, match="expected weights under state_dict or model_state, got state_dict"):
        load_published(tmp_path / "other.pth")


def test_a_network_without_a_head_has_none() -> None:
    assert isinstance(head_like({}), nn.Identity)
