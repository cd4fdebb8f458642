"""`python -m trainer export`: the network of a run in one safetensors file that any code can read.

The names are torchvision's (``conv1.weight`` ... ``layer4.2.bn3.bias``), the head is ``fc.*``; a run fed on an asinh
scale adds ``stretch.scale``, the flux per pixel of each band [nanomaggy] by which its input is divided before the
asinh. What else one must know to feed it stands in the file's metadata, as text.
"""

import argparse
import json
from pathlib import Path

from safetensors.torch import save

from sharding import atomic_file

from .config import FinetuneConfig, to_json
from .published import is_published, load_published
from .resnet import ResNet
from .trained import load_trained
from .version import versions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, or a published checkpoint")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors", help="file to write")


def run(args: argparse.Namespace) -> int:
    """Write the file, say where it is."""
    names = export(args.run, args.out)
    print(f"{args.out}: {names} tensors")
    return 0


def export(source: Path, path: Path) -> int:
    """Write the network of a run or of a published checkpoint; returns how many tensors it has."""
    network, says = _published(source) if is_published(source) else _run(source)
    tensors = {
        name: value.detach().contiguous()
        for name, value in network.state_dict().items()
        if name != "stretch.scale" or network.config.stretch != "none"
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(_ordered(save(tensors, metadata=says)))
    return len(tensors)


def _ordered(content: bytes) -> bytes:
    """The same file with its metadata in order, so that one network always gives the same bytes.

    Safetensors: the header's length in 8 bytes, little-endian; the header as JSON; the data, aligned to 8 bytes.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[start:]


def _run(run: Path) -> tuple[ResNet, dict[str, str]]:
    """A run's network and what its `config.json` says of it."""
    network, info = load_trained(run)
    task = (
        {"task": info.config.task, "classes": json.dumps(info.classes)}
        if isinstance(info.config, FinetuneConfig)
        else {}
    )
    says = {
        "kind": info.kind,
        "dataset": info.dataset,
        "settings": json.dumps(to_json(info.config), sort_keys=True),
        **task,
    }
    return network, _describe(network, info.bands, info.config.view_px) | says


def _published(path: Path) -> tuple[ResNet, dict[str, str]]:
    """A published network; an exported file goes on saying what it said."""
    network, bands, view_px, says = load_published(path)
    return network, says or _describe(network, bands, view_px)


def _describe(network: ResNet, bands: tuple[str, ...], view_px: int) -> dict[str, str]:
    config = network.config
    made_by = ", ".join(f"{name} {version}" for name, version in versions().items())
    return {
        "format": "pt",  # which framework's tensors these are, as other readers expect it
        "bands": json.dumps(bands),
        "depth": str(config.depth),
        "width": str(config.width),
        "stretch": config.stretch,
        "view_px": str(view_px),
        "made_by": made_by,
    }
