"""The two ways to views are one: the same galaxies, the same views; runs go on from one with the other."""

import inspect
import io
import json
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from augment import Plan, preset
from augment.dali import DaliPipeline
from sharding import Dataset
from trainer.__main__ import main
from trainer.checkpoint import Checkpoints
from trainer.config import EncoderConfig, FinetuneConfig, Pipeline, PretrainConfig
from trainer.data import Stamps, global_batches
from trainer.distributed import Ranks
from trainer.finetune import Finetuning
from trainer.pipelines import views_ahead
from trainer.pretrain import Pair, Pretraining, pretrain
from trainer.signals import StopSignals

CPU = torch.device("cpu")
ALONE = Ranks(0, 1, CPU)
ENCODER = EncoderConfig(depth=10, width=2, stretch="asinh")
CONFIG = PretrainConfig(
    encoder=ENCODER, view_px=16, batch=8, queue=16, max_steps=6, batch_norm_groups=2,
    checkpoint_every_steps=3, log_every_steps=1,
)  # fmt: skip
PIPELINES: tuple[Pipeline, ...] = ("torch", "dali")
SAME_LOSS = 1e-4  # relative; views that differ by 1e-5 of their spread changed it by 1e-6
# Options of a network and a batch that train in no time.
SMALL = ["--depth", "10", "--width", "2", "--view-px", "16", "--batch", "8", "--batch-norm-groups", "1"]


class Stopped(Exception):
    """The power goes."""


def train(config: PretrainConfig, dataset: Dataset, out: Path) -> list[dict[str, float]]:
    pretrain(config, dataset, out, ranks=ALONE, console=Console(file=io.StringIO()))
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def fed(training: Pretraining, pipeline: Pipeline, batches: int) -> list[tuple[Pair, Tensor]]:
    """The first batches' views: they last while later ones are made."""
    pairs = map(training.pair, global_batches(training.order, training.state, training.config.batch))
    ahead = views_ahead(pipeline, training.stamps, pairs, wanted=lambda pair: pair.unique, plan=training.plan)
    with closing(ahead) as made:
        given = [(pair, views()) for pair, views in islice(made, batches)]
    assert not reading()
    return given


def reading() -> bool:
    """Whether a thread that reads is left."""
    return any(thread.name.startswith("reader") for thread in threading.enumerate())


def tolerance(training: Pretraining, pair: Pair, plan: Plan) -> float:
    """What views may differ by whose positions are off by what `augment.dali` derives; and the rounding of their flux.

    From the first to the last of its n pixels a view spans n - 1 steps along both of its axes; its window begins and
    ends on whole stamp pixels, so it has at most 3 more of them.
    """
    images = training.stamps.dataset.images(pair.unique)
    window = (plan.size_px - 1) * float(plan.affine[..., :2].abs().sum(dim=-1).max()) + 3
    off_px = (plan.size_px + 7) * (window + 1) * 2.0**-24
    slope = max(np.abs(np.diff(images, axis=axis)).max() for axis in (2, 3))
    return float(plan.gain.max()) * float(2 * off_px * slope + 1e-6 * np.abs(images).max())


@pytest.mark.parametrize("name", ["hayat2021", "stein2021"])
def test_both_pipelines_make_the_same_views_of_the_same_galaxies(
    name: str, make_survey: Callable[..., Dataset]
) -> None:
    training = Pretraining(replace(CONFIG, preset=name), make_survey(40), ALONE)
    op, dali = (fed(training, pipeline, 7) for pipeline in PIPELINES)  # more than are under way at a time; two epochs
    for (pair, views), (same, others) in zip(op, dali, strict=True):
        assert np.array_equal(pair.unique, same.unique)
        assert np.array_equal(pair.batch.indices, same.batch.indices)
        atol = tolerance(training, pair, training.plan(pair))
        assert atol < 1e-3 * float(views.std())
        torch.testing.assert_close(others, views, rtol=0.0, atol=atol)


def test_pre_training_goes_on_with_the_other_pipeline(
    make_survey: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_survey(40)
    whole = train(CONFIG, dataset, tmp_path / "whole")
    learn = Pretraining.learn

    def dying(self: Pretraining, *args: object, **kwargs: object) -> object:
        if self.step == 4:  # the checkpoint is of step 3
            raise Stopped
        return learn(self, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "learn", dying)
        with pytest.raises(Stopped):
            train(CONFIG, dataset, tmp_path / "cut")
    mixed = train(replace(CONFIG, pipeline="dali"), dataset, tmp_path / "cut")
    assert [(record["step"], record["epoch"]) for record in mixed] == [(r["step"], r["epoch"]) for r in whole]
    orders = [Checkpoints(tmp_path / name / "checkpoints").newest()["order"] for name in ("whole", "cut")]
    assert orders[0] == orders[1]
    losses, others = ([record["loss"] for record in records] for records in (whole, mixed))
    assert others == pytest.approx(losses, rel=SAME_LOSS)
    strangers = train(replace(CONFIG, seed=1), dataset, tmp_path / "other")  # other views, to see what that would be
    differences = [abs(record["loss"] / loss - 1.0) for record, loss in zip(strangers, losses, strict=True)]
    assert min(differences) > 100 * SAME_LOSS


def test_fine_tuning_is_the_same_with_both(make_survey: Callable[..., Dataset]) -> None:
    config = FinetuneConfig(encoder=ENCODER, view_px=16, batch=16, epochs=1, batch_norm_groups=1)
    dataset = make_survey(90)
    losses = []
    for pipeline in PIPELINES:
        training = Finetuning(replace(config, pipeline=pipeline), dataset, None, ALONE)
        losses.append([record["loss"] for record in training.records(StopSignals())])
    assert losses[1] == pytest.approx(losses[0], rel=SAME_LOSS)


def test_a_frozen_encoder_asks_for_no_pipeline(
    make_survey: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)  # import now raises ModuleNotFoundError
    config = FinetuneConfig(encoder=ENCODER, view_px=16, batch=16, epochs=1, batch_norm_groups=1, freeze=True)
    dataset = make_survey(90)
    losses = []
    for pipeline in PIPELINES:
        training = Finetuning(replace(config, pipeline=pipeline), dataset, None, ALONE)
        losses.append([record["loss"] for record in training.records(StopSignals())])
    assert losses[1] == losses[0]


def test_closing_ends_what_dali_has_under_way_though_another_holds_it(
    make_survey: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Generator[Tensor, None, None]] = []
    begin = DaliPipeline.__iter__

    def holding(self: DaliPipeline) -> Generator[Tensor, None, None]:
        held.append(begin(self))
        return held[-1]

    monkeypatch.setattr(DaliPipeline, "__iter__", holding)
    training = Pretraining(CONFIG, make_survey(40), ALONE)
    fed(training, "dali", 1)
    assert [inspect.getgeneratorstate(each) for each in held] == [inspect.GEN_CLOSED]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_an_error_of_reading_is_raised_at_its_job_and_no_thread_stays(
    pipeline: Pipeline, make_survey: Callable[..., Dataset]
) -> None:
    stamps = Stamps(make_survey(9), CPU)
    wanted = {"first": [3, 1], "second": [2], "third": [8, 9]}

    def plan(job: str) -> Plan:
        return stamps.plan(np.array(wanted[job]), preset("none"), seed=0, epoch=0, view=0, size_px=16)

    ahead = views_ahead(pipeline, stamps, wanted, wanted=lambda job: np.array(wanted[job]), plan=plan)
    for job in ("first", "second"):
        given, views = next(ahead)
        assert (given, len(views())) == (job, len(wanted[job]))
    with pytest.raises(IndexError, match="indices must lie in"):
        next(ahead)
    assert not reading()


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_without_dali_a_run_that_wants_it_is_refused_in_a_line_and_leaves_nothing(
    command: str,
    make_survey: Callable[..., Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)  # import now raises ModuleNotFoundError
    words = [command, "--data", str(make_survey(90).path), "--out", str(tmp_path / "run"), "--pipeline", "dali"]
    own = {"pretrain": ["--queue", "32"], "finetune": ["--init", "none"]}
    assert main([*words, *own[command], *SMALL]) == 2
    error = capsys.readouterr().err
    assert error.startswith("trainer: error: dali: expected NVIDIA DALI")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
