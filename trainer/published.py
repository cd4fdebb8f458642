"""Checkpoints as the published codes write them, and safetensors files with the same names: a file, not a RUN folder.

Read are `torch.save` files of Hayat et al. 2021 and of MoCo: weights under ``state_dict`` or ``model_state``, names
with or without ``module.``, a pre-training's under ``encoder_q.``; and what `export` writes. Depth and width are told
from the shapes. Nothing in a file is run: only NumPy's scalars are let through beside tensors, numbers and text.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .checkpoint import NotPlainError, read_whole
from .config import Depth, EncoderConfig, Stretch
from .errors import TrainerError
from .resnet import FIRST_BOTTLENECK_DEPTH, LAYERS, ResNet

BANDS = ("u", "g", "r", "i", "z")  # of the published networks, which do not say
VIEW_PX = 64

_STATES = ("state_dict", "model_state")
_QUERY = "encoder_q."
_MAKE_SCALAR = np.float64(0).__reduce__()[0]  # NumPy's own function, known to pickles by one of these names
_NUMPY_SCALARS: list[Any] = [
    (_MAKE_SCALAR, "numpy.core.multiarray.scalar"),  # NumPy 1
    (_MAKE_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
]


class Published(NamedTuple):
    """What a file holds."""

    network: ResNet  # in evaluation mode, with its head
    bands: tuple[str, ...]
    view_px: int
    says: dict[str, str]  # what an exported file says of itself, by the names of `export`; else empty


def is_published(path: Path | str) -> bool:
    """Whether this names a file of weights rather than a RUN folder."""
    return Path(path).is_file()


def load_published(path: Path | str) -> Published:
    """The network of a file; TrainerError where it is not one of these networks, or holds more than plain data."""
    path = Path(path)
    state, says = _safetensors(path) if path.suffix == ".safetensors" else (_state(path), {})
    state = _query_encoder(state)
    try:
        network = _network(state, says)
    except (KeyError, ValueError, json.JSONDecodeError) as err:
        raise TrainerError(f"{path}: {err.args[0]}") from err
    bands = tuple(json.loads(says["bands"])) if "bands" in says else BANDS
    if len(bands) != network.conv1.in_channels:
        raise TrainerError(f"{path}: expected the bands {', '.join(bands)}, got {network.conv1.in_channels} channels")
    return Published(network.eval(), bands, int(says.get("view_px", VIEW_PX)), says)


def head_like(state: Mapping[str, Tensor]) -> nn.Module:
    """A head of the shape that these weights have: one linear layer, the projection of MoCo v2, or none."""
    if "fc.weight" in state:
        outputs, inputs = state["fc.weight"].shape
        return nn.Linear(inputs, outputs)
    if "fc.0.weight" in state and "fc.2.weight" in state:
        wide, inputs = state["fc.0.weight"].shape
        return nn.Sequential(nn.Linear(inputs, wide), nn.ReLU(), nn.Linear(wide, state["fc.2.weight"].shape[0]))
    return nn.Identity()


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as err:
        raise TrainerError(f"{path}: cannot be read as safetensors ({err})") from err


def _state(path: Path) -> dict[str, Tensor]:
    """The weights in a file of `torch.save`, by their names there."""
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            content = read_whole(path)
    except NotPlainError as err:
        raise TrainerError(
            f"{err}, and anything else could run code; where you trust the file, load it in the code that wrote it and "
            "save its state_dict alone"
        ) from err
    if not isinstance(content, Mapping):
        raise TrainerError(f"{path}: expected a mapping with {' or '.join(_STATES)}, got a {type(content).__name__}")
    state = next((content[name] for name in _STATES if name in content), content)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TrainerError(f"{path}: expected weights under {' or '.join(_STATES)}, got {', '.join(map(str, content))}")
    return dict(state)


def _query_encoder(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as torchvision has them; of a pre-training, those of the encoder that is trained."""
    names = {name.removeprefix("module."): value for name, value in state.items()}
    query = {name.removeprefix(_QUERY): value for name, value in names.items() if name.startswith(_QUERY)}
    return query or names


def _network(state: dict[str, Tensor], says: Mapping[str, str]) -> ResNet:
    """A network of the shapes of these weights, with these weights."""
    if "conv1.weight" not in state:
        raise KeyError(f"expected the weights conv1.weight of a ResNet, got {next(iter(state), 'nothing')}")
    width, bands = state["conv1.weight"].shape[:2]
    stretch = cast(Stretch, says.get("stretch", "none"))
    network = ResNet(EncoderConfig(depth=_depth(state), width=width, stretch=stretch), bands)
    network.fc = head_like(state)
    _check(state, network.state_dict())
    network.load_state_dict(network.state_dict() | state)
    return network


def _depth(state: Mapping[str, Tensor]) -> Depth:
    counts = tuple(
        len({name.split(".")[1] for name in state if name.startswith(f"layer{number}.")}) for number in (1, 2, 3, 4)
    )
    bottlenecks = "layer1.0.conv3.weight" in state
    for depth, blocks in LAYERS.items():
        if counts == blocks and bottlenecks == (depth >= FIRST_BOTTLENECK_DEPTH):
            return depth
    kind = "bottlenecks" if bottlenecks else "basic blocks"
    raise ValueError(f"expected a ResNet of depth {', '.join(map(str, LAYERS))}, got layers of {counts} {kind}")


def _check(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Every weight there, of its shape, and no other. What only Skymill's networks have may be left out."""
    optional = {name for name in expected if name.endswith("num_batches_tracked") or name.startswith("stretch.")}
    if missing := [name for name in expected if name not in state and name not in optional]:
        raise KeyError(f"{missing[0]} is missing ({len(missing)} names in all)")
    if extra := [name for name in state if name not in expected]:
        raise KeyError(f"{extra[0]} is no part of such a network ({len(extra)} names in all)")
    for name, value in expected.items():
        if name in state and state[name].shape != value.shape:
            raise ValueError(f"{name}: expected shape {tuple(value.shape)}, got {tuple(state[name].shape)}")
