"""A trained network and what must be known to use it, whether a RUN folder holds it or a single file.

A file is one that `export` wrote, which says what it is, or a published checkpoint, which does not: its shapes tell the
network, and a head of as many outputs as the paper has redshift bins is a photo-z head.
"""

import json
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from .checkpoint import Checkpoints
from .config import FinetuneConfig, PretrainConfig, from_json
from .errors import TrainerError
from .published import Published, head_like, is_published, load_published
from .resnet import ResNet
from .runfolder import RunInfo

PUBLISHED_BINS = 180  # of Hayat et al. 2021
QUERY_ENCODER = "encoder_q."


class Trained(NamedTuple):
    """What a RUN folder or a file holds."""

    network: ResNet  # in evaluation mode, with its head
    info: RunInfo  # of a published checkpoint what can be told, and the defaults; its dataset is not known: empty


def load_trained(source: Path | str) -> Trained:
    """A pre-training's newest encoder with the projection as ``fc``, or the network of a fine-tuning's best epoch.

    Raises TrainerError where the folder is no run or holds no whole checkpoint, and where the file is none of these.
    """
    if is_published(source):
        published = load_published(source)
        return Trained(published.network, _said(Path(source), published) or _told(published))
    run = Path(source)
    info = RunInfo.read(run)
    state = _state(run, info)
    network = ResNet(info.config.encoder, len(info.bands))
    network.fc = head_like(state)
    network.load_state_dict(state)
    return Trained(network.eval(), info)


def _state(run: Path, info: RunInfo) -> dict[str, Tensor]:
    """The weights that a run is asked for."""
    checkpoints = Checkpoints(run / "checkpoints")
    if isinstance(info.config, FinetuneConfig):
        state: dict[str, Tensor] = checkpoints.best()["model"]
        return state
    newest = checkpoints.newest()
    if newest is None:
        raise TrainerError(f"{run}: holds no checkpoint yet; let the run reach its first")
    named = newest["model"].items()
    return {name.removeprefix(QUERY_ENCODER): value for name, value in named if name.startswith(QUERY_ENCODER)}


def _said(path: Path, published: Published) -> RunInfo | None:
    """What an exported file says of the run that it comes from; None for a file that says nothing of one."""
    says = published.says
    if "settings" not in says:
        return None
    try:
        settings = json.loads(says["settings"])
        finetuned = says["kind"] == "finetune"
        return RunInfo(
            kind="finetune" if finetuned else "pretrain",
            config=from_json(FinetuneConfig, settings) if finetuned else from_json(PretrainConfig, settings),
            dataset=says["dataset"],
            bands=published.bands,
            classes=tuple(json.loads(says.get("classes", "[]"))),
        )
    except TrainerError as err:
        raise TrainerError(f"{path}: {err}") from None
    except (ValueError, KeyError, TypeError) as err:
        raise TrainerError(f"{path}: what it says of itself is damaged ({err!r}); export it again") from err


def _told(published: Published) -> RunInfo:
    """What the network itself tells."""
    network, bands, view_px, _ = published
    encoder = network.config
    if isinstance(network.fc, nn.Linear) and network.fc.out_features == PUBLISHED_BINS:
        judged = FinetuneConfig(encoder=encoder, view_px=view_px, task="photoz", bins=PUBLISHED_BINS)
        return RunInfo(kind="finetune", config=judged, dataset="", bands=bands)
    return RunInfo(kind="pretrain", config=PretrainConfig(encoder=encoder, view_px=view_px), dataset="", bands=bands)
