"""An exported network is a run's, bit for bit, in a file that safetensors alone reads."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from trainer.checkpoint import Checkpoints
from trainer.config import EncoderConfig, FinetuneConfig, PretrainConfig, to_json
from trainer.export import add_arguments, export, run
from trainer.inference import load_run
from trainer.published import head_like, load_published
from trainer.resnet import ResNet
from trainer.runfolder import RunFolder, RunInfo
from trainer.trained import load_trained

BANDS = ("g", "r", "z")
CLASSES = ("smooth", "spiral")
SMALL = {"batch": 32, "batch_norm_groups": 1, "view_px": 16}


def network(encoder: EncoderConfig, head: nn.Module) -> ResNet:
    """With weights and statistics of its own, in a layout of memory that files do not have."""
    made = ResNet(encoder, len(BANDS)).to(memory_format=torch.channels_last)
    made.fc = head
    for value in made.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)
    return made


@pytest.fixture
def pretraining(tmp_path: Path) -> Path:
    """A RUN folder as `pretrain` leaves it."""
    config = PretrainConfig(encoder=EncoderConfig(depth=10, width=2, stretch="asinh"), queue=64, **SMALL)
    encoder = network(config.encoder, nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)))
    state = {f"encoder_q.{name}": value for name, value in encoder.state_dict().items()}
    folder = RunFolder(tmp_path / "pretraining")
    folder.publish(RunInfo(kind="pretrain", config=config, dataset="5" * 64, bands=BANDS))
    with Checkpoints(folder.path / "checkpoints") as checkpoints:
        checkpoints.save(1, {"model": state | {"queue": torch.zeros(64, 4)}})
    return folder.path


@pytest.fixture
def finetuning(tmp_path: Path) -> Path:
    """A RUN folder as `finetune` leaves it."""
    config = FinetuneConfig(encoder=EncoderConfig(depth=50, width=1), task="morphology", **SMALL)
    folder = RunFolder(tmp_path / "finetuning")
    folder.publish(RunInfo(kind="finetune", config=config, dataset="6" * 64, bands=BANDS, classes=CLASSES))
    with Checkpoints(folder.path / "checkpoints") as checkpoints:
        checkpoints.save_best({"model": network(config.encoder, nn.Linear(32, 2)).state_dict()})
    return folder.path


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """With safetensors alone."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize("kind", ["pretraining", "finetuning"])
def test_the_file_holds_the_run_s_network_bit_for_bit(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    folder, path = request.getfixturevalue(kind), tmp_path / "new" / "network.safetensors"
    trained = load_run(folder)[0].state_dict()
    count = export(folder, path)
    tensors, _ = read(path)
    extra = {"stretch.scale"} if kind == "finetuning" else set()  # without a stretch it says nothing
    assert tensors.keys() == trained.keys() - extra
    assert count == len(tensors)
    assert all(torch.equal(tensors[name], trained[name]) for name in tensors)
    loaded = load_published(path)
    again = loaded.network.state_dict()
    assert again.keys() == trained.keys()
    assert all(torch.equal(again[name], trained[name]) for name in tensors)
    assert load_trained(path).info == RunInfo.read(folder)
    assert (loaded.bands, loaded.view_px, loaded.network.training) == (BANDS, 16, False)


def test_the_metadata_says_how_to_feed_it_and_whence_it_comes(
    tmp_path: Path, pretraining: Path, finetuning: Path
) -> None:
    path = tmp_path / "network.safetensors"
    export(pretraining, path)
    says = read(path)[1]
    shown = {name: says[name] for name in ("depth", "width", "stretch", "view_px", "dataset", "kind", "format")}
    assert shown == {
        "depth": "10", "width": "2", "stretch": "asinh", "view_px": "16", "dataset": "5" * 64, "kind": "pretrain",
        "format": "pt",
    }  # fmt: skip
    assert json.loads(says["bands"]) == list(BANDS)
    assert json.loads(says["settings"]) == to_json(RunInfo.read(pretraining).config)
    assert says["made_by"].startswith("skymill ")
    assert "task" not in says
    export(finetuning, path)
    says = read(path)[1]
    assert (says["task"], says["kind"], json.loads(says["classes"])) == ("morphology", "finetune", list(CLASSES))


def test_one_network_gives_the_same_bytes_from_its_own_export_too(tmp_path: Path, finetuning: Path) -> None:
    for source, name in ((finetuning, "a"), (finetuning, "b"), (tmp_path / "a.safetensors", "c")):
        export(source, tmp_path / f"{name}.safetensors")
    files = [(tmp_path / f"{name}.safetensors").read_bytes() for name in "abc"]
    assert files[0] == files[1] == files[2]
    text = files[0][8 : 8 + int.from_bytes(files[0][:8], "little")]
    assert list(json.loads(text)["__metadata__"]) == sorted(json.loads(text)["__metadata__"])


def test_a_published_checkpoint_is_exported_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = ResNet(EncoderConfig(depth=10, width=1), 5)
    published.fc = head_like({"fc.weight": torch.zeros(3, 8)})
    torch.save({"model_state": {f"module.{n}": v for n, v in published.state_dict().items()}}, tmp_path / "it.pth")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    path = tmp_path / "it.safetensors"
    assert run(parser.parse_args([str(tmp_path / "it.pth"), "--out", str(path)])) == 0
    tensors, says = read(path)
    assert torch.equal(tensors["fc.weight"], published.state_dict()["fc.weight"])
    assert json.loads(says["bands"]) == list("ugriz")
    assert capsys.readouterr().out == f"{path}: {len(tensors)} tensors\n"
