"""Pre-training in one process: it learns, resumes bit for bit, never sees the test split, refuses another run."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from augment import AugmentError
from sharding import Dataset, reader
from sharding.convert import convert
from sharding.encoding import Name
from trainer.checkpoint import Checkpoints
from trainer.config import EncoderConfig, PretrainConfig
from trainer.data import global_batches
from trainer.distributed import Ranks
from trainer.errors import TrainerError
from trainer.inference import load_run
from trainer.pretrain import KEY, QUERY, Pretraining, pretrain
from trainer.runreport import write_run_report

ALONE = Ranks(0, 1, torch.device("cpu"))
CONFIG = PretrainConfig(
    encoder=EncoderConfig(depth=10, width=2, stretch="asinh"),
    view_px=16,
    batch=8,
    epochs=50,
    max_steps=12,
    queue=16,
    embedding=16,
    key_momentum=0.9,
    lr=0.03,
    batch_norm_groups=2,
    checkpoint_every_steps=5,
    log_every_steps=1,
)


def train(config: PretrainConfig, dataset: Dataset, out: Path) -> None:
    pretrain(config, dataset, out, ranks=ALONE, console=Console(file=io.StringIO()))


def trace(run: Path) -> list[tuple[int, int, float, float]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["epoch"], r["loss"], r["accuracy"]) for r in records]


class Stopped(Exception):
    """The power goes."""


def test_the_loss_falls_and_instances_are_told_apart(make_survey: Callable[..., Dataset], tmp_path: Path) -> None:
    encoder = replace(CONFIG.encoder, width=4)
    learning = replace(CONFIG, encoder=encoder, batch=16, queue=32, key_momentum=0.99, temperature=0.2)
    train(replace(learning, preset="none", max_steps=60), make_survey(100), tmp_path / "run")
    _, _, loss, accuracy = np.array(trace(tmp_path / "run")).T
    # From step 2 on the queue holds real keys: chance is a loss of log 33 = 3.5 and an accuracy of 1 / 33.
    early, late = slice(10, 20), slice(50, 60)
    assert loss[early].mean() > 2.5
    assert loss[late].mean() < 0.85 * loss[early].mean()
    assert accuracy[late].mean() > 1.5 * accuracy[early].mean()


@pytest.mark.parametrize("stop", [3, 7])  # checkpoints are at 5 and 10; an epoch has 3 steps
def test_a_killed_run_resumes_bit_for_bit(
    stop: int, make_survey: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_survey(40)
    train(CONFIG, dataset, tmp_path / "whole")
    learn = Pretraining.learn

    def dying(self: Pretraining, *args: object, **kwargs: object) -> object:
        if self.step == stop:
            raise Stopped
        return learn(self, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "learn", dying)
        with pytest.raises(Stopped):
            train(CONFIG, dataset, tmp_path / "cut")
    assert len(trace(tmp_path / "cut")) == stop
    train(CONFIG, dataset, tmp_path / "cut")
    assert trace(tmp_path / "cut") == trace(tmp_path / "whole")
    states = [Checkpoints(tmp_path / name / "checkpoints").newest() for name in ("cut", "whole")]
    for text in ("order", "versions"):  # which assert_close does not take
        assert states[0].pop(text) == states[1].pop(text)
    torch.testing.assert_close(states[0], states[1], rtol=0.0, atol=0.0)


def test_queries_and_keys_are_two_views_in_two_orders(make_survey: Callable[..., Dataset]) -> None:
    training = Pretraining(CONFIG, make_survey(40), ALONE)
    batch = next(global_batches(training.order, training.state, CONFIG.batch))
    pair = training.pair(batch)
    order = pair.order
    assert np.array_equal(pair.unique[pair.queries], batch.indices)
    assert np.array_equal(pair.unique[pair.keys], batch.indices[order])
    assert not np.array_equal(order, np.arange(CONFIG.batch))
    stamps = training.stamps
    queries, keys = stamps.render(stamps.read(pair.unique), training.plan(pair)).chunk(2)
    assert all(not torch.equal(queries[order[place]], keys[place]) for place in range(CONFIG.batch))
    place = {"seed": CONFIG.seed, "epoch": 0, "size_px": CONFIG.view_px}
    for views, number, wanted in ((queries, QUERY, batch.indices), (keys, KEY, batch.indices[order])):
        plan = stamps.plan(wanted, training.preset, view=number, **place)
        assert torch.equal(views, stamps.render(stamps.read(wanted), plan))


def test_what_is_left_out_is_in_neither_view(make_survey: Callable[..., Dataset]) -> None:
    dataset = make_survey(40)
    plans = {}
    for left_out in ("nothing", "turns"):
        training = Pretraining(replace(CONFIG, without=left_out), dataset, ALONE)
        batch = next(global_batches(training.order, training.state, CONFIG.batch))
        plans[left_out] = training.plan(training.pair(batch))
    whole, fewer = plans["nothing"], plans["turns"]
    upright = torch.eye(2, dtype=torch.float64).expand(2 * CONFIG.batch, 2, 2)
    assert torch.equal(fewer.affine[..., :2], upright)
    assert not (whole.affine[..., :2] == upright).all(dim=(1, 2)).any()
    assert torch.equal(fewer.gain, whole.gain)
    assert torch.equal(fewer.noise_key, whole.noise_key)


def test_what_the_preset_does_not_vary_is_not_left_out(make_survey: Callable[..., Dataset], tmp_path: Path) -> None:
    with pytest.raises(AugmentError, match=r"^without: expected one of nothing, dust, .* to leave out, got 'flips'"):
        train(replace(CONFIG, without="flips"), make_survey(40), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("encoding", ["float16", "int16"])
def test_stored_pixels_are_decoded_by_the_op_alone_bit_for_bit(
    encoding: Name, make_survey: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(make_survey(40).path, tmp_path / encoding, encoding=encoding)
    convert(tmp_path / encoding, tmp_path / "float32", encoding="float32")  # the pixels as `sharding` decodes them
    config = replace(CONFIG, max_steps=3)
    train(config, Dataset.open(tmp_path / "float32"), tmp_path / "decoded")
    monkeypatch.delattr(reader.Batch, "pixels")
    monkeypatch.delattr(Dataset, "images")
    train(config, Dataset.open(tmp_path / encoding), tmp_path / "raw")
    assert trace(tmp_path / "raw") == trace(tmp_path / "decoded")


def test_a_finished_run_is_left_as_it_is(make_survey: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = make_survey(40)
    train(CONFIG, dataset, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    train(CONFIG, dataset, tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_run_ends_with_its_page(
    make_survey: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.running.write_run_report", write_run_report)
    train(CONFIG, make_survey(40), tmp_path / "run")
    assert "step 12, epoch 4" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_lines_of_several_steps_are_the_means_of_their_steps(
    make_survey: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset = make_survey(40)
    train(CONFIG, dataset, tmp_path / "each")
    train(replace(CONFIG, log_every_steps=4), dataset, tmp_path / "some")
    loss = [loss for _, _, loss, _ in trace(tmp_path / "each")]
    ends = [4, 5, 8, 10, 12]  # every fourth step and every checkpoint
    means = [np.mean(loss[first:last]) for first, last in zip([0, *ends], ends, strict=False)]
    some = trace(tmp_path / "some")
    assert [step for step, *_ in some] == ends
    assert [loss for _, _, loss, _ in some] == pytest.approx(means, rel=1e-12)


def test_the_test_split_is_never_read(
    make_survey: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_survey(40)
    read: set[int] = set()
    read_into = Dataset.read_into

    def noted(self: Dataset, indices: np.ndarray, out: np.ndarray, *, check: bool) -> None:
        read.update(indices.tolist())
        read_into(self, indices, out, check=check)

    monkeypatch.setattr(Dataset, "read_into", noted)
    train(CONFIG, dataset, tmp_path / "run")
    learnt = set(dataset.split("train").tolist()) | set(dataset.split("validation").tolist())
    assert read <= learnt
    assert len(read) > 0.8 * len(learnt)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_keeps_its_weights_in_fp32(
    precision: str, make_survey: Callable[..., Dataset], tmp_path: Path
) -> None:
    config = replace(CONFIG, precision=precision, max_steps=3)
    train(config, make_survey(40), tmp_path / "run")
    assert all(np.isfinite(loss) for _, _, loss, _ in trace(tmp_path / "run"))
    network, _ = load_run(tmp_path / "run")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_other_settings_another_dataset_and_no_run_are_refused(
    make_survey: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset, run = make_survey(40), tmp_path / "run"
    train(CONFIG, dataset, run)
    with pytest.raises(TrainerError, match=r"run: holds another run \(--lr is 0\.03 there, 0\.3 here\); resume it"):
        train(replace(CONFIG, lr=0.3), dataset, run)
    with pytest.raises(TrainerError, match=r"its dataset has digest [0-9a-f]{12}, this one [0-9a-f]{12}"):
        train(CONFIG, make_survey(41, name="other"), run)
    (run / "config.json").write_text("{")
    with pytest.raises(TrainerError, match=r"config\.json: damaged"):
        train(CONFIG, dataset, run)


def test_checkpoints_without_their_config_are_left_alone(make_survey: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset, run = make_survey(40), tmp_path / "run"
    train(CONFIG, dataset, run)
    (run / "config.json").unlink()
    before = sorted(path.name for path in (run / "checkpoints").iterdir())
    with pytest.raises(TrainerError, match=r"run: holds checkpoints \(step-00000012\.pt\) but no config\.json"):
        train(CONFIG, dataset, run)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == before


def test_a_checkpoint_that_does_not_fit_is_refused_in_a_line(
    make_survey: Callable[..., Dataset], tmp_path: Path
) -> None:
    dataset, run = make_survey(40), tmp_path / "run"
    train(CONFIG, dataset, run)
    with Checkpoints(run / "checkpoints") as checkpoints:
        checkpoints.save(20, {"model": {}})
    with pytest.raises(TrainerError, match=r"run: its newest checkpoint does not fit this run \('ranks'\)"):
        train(CONFIG, dataset, run)


def test_weights_that_are_not_finite_are_not_saved(make_survey: Callable[..., Dataset], tmp_path: Path) -> None:
    config = replace(CONFIG, lr=1e38, checkpoint_every_steps=1)  # the first step's loss and gradients are finite
    with pytest.raises(TrainerError, match=r"step [12]: expected finite"):
        train(config, make_survey(40), tmp_path / "run")
    newest = Checkpoints(tmp_path / "run" / "checkpoints").newest()
    assert newest is None or all(value.isfinite().all() for value in newest["model"].values())


def test_a_loss_that_is_not_finite_stops_the_run_before_its_checkpoint(
    make_survey: Callable[..., Dataset], tmp_path: Path
) -> None:
    config = replace(CONFIG, lr=1e30, log_every_steps=100)
    with pytest.raises(
        TrainerError, match=r"step 2: expected finite values, got loss nan.*weights are at fault.*lower --lr"
    ):
        train(config, make_survey(40), tmp_path / "run")
    assert Checkpoints(tmp_path / "run" / "checkpoints").newest() is None
