"""The dry run: steps, operations and time against counts by hand, memory against what a real network keeps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sharding import Dataset
from trainer.config import EncoderConfig, FinetuneConfig, PretrainConfig
from trainer.errors import TrainerError
from trainer.flops import finetune_step_flops, forward_flops, pretrain_step_flops
from trainer.moco import MoCo
from trainer.optimiser import make_optimiser
from trainer.precision import Arithmetic
from trainer.resnet import ResNet, set_batch_norm_groups
from trainer.study.forecast import Forecast, Stage, forecast, told
from trainer.study.memory import finetune_memory, pretrain_memory, saved_bytes
from trainer.study.plan import Plan
from trainer.study.recipe import Assumed, Recipe, Speed
from trainer.study.work import Work, pretrain_work, ranks_for

CPU = torch.device("cpu")
TINY = EncoderConfig(depth=10, width=4)
PRETRAIN = PretrainConfig(encoder=TINY, view_px=16, batch=32, batch_norm_groups=2, queue=64, epochs=3)
ASSUMED = Assumed(
    galaxies=1000,  # 650 to train on, 100 for validation, 250 to test
    labelled={"photoz": 1000},
    devices=1,
    memory_gb=4.0,
    step_ms=0.0,
    plain=Speed(tflops=0.001, start_s=5.0),
    compiled=None,
    source="Nobody measured it.",
)
RECIPE = Recipe(
    name="tiny",
    about="A test.",
    tasks=("photoz",),
    methods=("supervised", "finetuned", "probe"),
    fractions=(0.05, 0.2, 1.0),  # 32 labels, which are too few, 130 and 650
    seeds=2,
    rates=(0.5, 1.0, 2.0),
    lr={"supervised": 0.1, "finetuned": 0.1, "probe": 0.1},
    probe_epochs=20,
    least_steps=40,
    pretrain=PRETRAIN,
    variants={"reference": PRETRAIN, "cold": replace(PRETRAIN, temperature=0.05)},
    finetune=FinetuneConfig(view_px=16, batch=64, batch_norm_groups=2, epochs=4),
    assumed=ASSUMED,
)


@pytest.fixture(scope="module")
def found() -> Forecast:
    return forecast(RECIPE)


def stage(found: Forecast, name: str) -> Stage:
    return next(each for each in found.stages if each.name == name)


def test_stages_by_hand(found: Forecast) -> None:
    assert [(each.name, each.turns, each.work.steps, each.work.images) for each in found.stages] == [
        ("pre-training reference", (1,), 69, 2208),  # 3 epochs of 750 // 32 steps
        ("pre-training cold", (1,), 69, 2208),
        ("representations", (2,), 0, 1000),
        ("photoz supervised 20 %", (3, 1), 40, 2560),  # 130 // 64 steps an epoch: 20 epochs for 40 steps
        ("photoz finetuned 20 %", (6, 2), 40, 2560),
        ("photoz probe 20 %", (6, 2), 40, 2560),
        ("photoz supervised 100 %", (3, 1), 40, 2560),  # 10 steps an epoch
        ("photoz finetuned 100 %", (6, 2), 40, 2560),
        ("photoz probe 100 %", (6, 2), 200, 12800),
        ("answers for test galaxies", (1,), 0, 5000),  # 10 chosen trainings x 2 seeds x 250
    ]
    assert found.left_out == ("photoz: 5 % of the labels are fewer than 50 and left out.",)


def test_operations_by_hand(found: Forecast) -> None:
    look = forward_flops(TINY, 5, 16)
    assert stage(found, "pre-training cold").work.learning == 2208 * pretrain_step_flops(PRETRAIN, 5)
    config = replace(RECIPE.finetune, encoder=TINY)
    few = stage(found, "photoz finetuned 20 %").work
    assert few.learning == 2560 * finetune_step_flops(config, 5, 180)
    assert few.looking == 4 * 100 * look  # 20 epochs, looked at every fifth
    probe = stage(found, "photoz probe 100 %").work
    assert probe.learning == 12800 * finetune_step_flops(replace(config, freeze=True), 5, 180)
    assert probe.looking == (650 + 100) * look  # each image once
    assert stage(found, "representations").work.looking == 1000 * look


def test_a_pre_training_may_end_sooner() -> None:
    assert pretrain_work(replace(PRETRAIN, max_steps=5), 5, galaxies=750).steps == 5
    assert pretrain_work(replace(PRETRAIN, max_steps=500), 5, galaxies=750).steps == 69
    with pytest.raises(
        TrainerError, match=r"^pretrain: expected a batch of at most the 31 galaxies .*got 32; lower it"
    ):
        pretrain_work(PRETRAIN, 5, galaxies=31)


def test_time_is_operations_over_the_rate_or_the_least_time_of_a_step() -> None:
    work = Work(steps=100, images=0, learning=4e12, looking=1e12)
    speed = Speed(tflops=0.5, start_s=5.0)
    assert work.seconds(speed, 0.0) == 5 + 8 + 2
    assert work.seconds(speed, 0.0, ranks=4) == 5 + 2 + 2
    assert work.seconds(speed, 100.0) == 5 + 10 + 2


def test_the_whole_takes_as_long_as_what_binds_each_turn() -> None:
    def runs(turns: tuple[int, ...], seconds: float, phase: str = "training on labels") -> Stage:
        return Stage(
            phase=phase, name="", turns=turns, work=Work(steps=0, images=0, learning=0.0), seconds=seconds, ranks=1
        )

    stages = runs((1,), 60.0, "pre-training"), runs((3, 1), 10.0), runs((3, 1), 20.0)
    one, two, many = (Forecast(RECIPE, replace(ASSUMED, devices=count), stages) for count in (1, 2, 100))
    assert one.device_s == two.device_s == 60 + 40 + 80
    assert one.wall_s == one.device_s
    assert two.wall_s == 60 + 45 + 20  # 90 s of runs on two devices; then 30 s, of which 20 are one run
    assert many.wall_s == 60 + 20 + 20


def test_one_pre_training_takes_all_devices_that_share_its_groups() -> None:
    assert [ranks_for(PretrainConfig(), devices) for devices in (1, 2, 3, 7, 8, 64)] == [1, 2, 2, 4, 8, 8]
    assert ranks_for(PretrainConfig(accumulate=2), 64) == 4
    assert ranks_for(PretrainConfig(batch_norm="sync"), 100) == 64
    alone = replace(RECIPE, variants={"reference": PRETRAIN})
    on_two = stage(forecast(alone, replace(ASSUMED, devices=2)), "pre-training reference")
    on_one = stage(forecast(alone), "pre-training reference")
    assert (on_two.ranks, on_one.ranks) == (2, 1)
    assert on_two.seconds - 5 == pytest.approx((on_one.seconds - 5) / 2)


@pytest.mark.parametrize(("precision", "groups"), [("fp32", 2), ("bf16", 2), ("fp64", 1)])
def test_activations_are_what_a_real_network_keeps(precision: str, groups: int) -> None:
    config = FinetuneConfig(encoder=TINY, view_px=16, batch=12, batch_norm_groups=groups, precision=precision)
    counted = finetune_memory(config, 5, 7, galaxies=0).activations
    arithmetic = Arithmetic(config.precision, CPU)
    network = ResNet(TINY, 5).train()
    network.fc = nn.Sequential(nn.Linear(network.num_features, 7))
    arithmetic.prepare(network)
    set_batch_norm_groups(network, groups)
    with arithmetic.autocast():
        kept = saved_bytes(network, torch.zeros(12, 5, 16, 16, dtype=arithmetic.weights))
    # Under autocast the real kernel keeps each group's mean and deviation of a channel with 4 bytes, the counted one
    # with 2.
    channels = sum(module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    assert kept - counted == (2 * 2 * channels * groups if precision == "bf16" else 0)


def test_activations_of_the_published_network_by_hand() -> None:
    """One value for each input of a convolution, of a batch norm and of the head; a ReLU's output is the next input."""
    values = 5 * 64**2  # the image, rounded to bf16
    values += 2 * 64 * 64**2  # the stem's convolution, and its ReLU
    side = 64
    for stage_number, blocks in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**stage_number
        for block in range(blocks):
            out = side if stage_number == 0 or block else side // 2
            values += 2 * inner * side**2  # the first 1x1 convolution, and its ReLU
            values += 2 * inner * out**2  # the 3x3 convolution, which has the stride, and its ReLU
            values += 4 * inner * out**2  # the last 1x1 convolution
            values += 4 * inner * out**2 * (block == 0)  # the shortcut's
            values += 4 * inner * out**2  # the sum's ReLU
            side = out
    config = FinetuneConfig(batch=25600, batch_norm_groups=1, precision="bf16")
    counted = finetune_memory(config, 5, 180, galaxies=0).activations
    # Beside them: 48 MB of rounded weights, and 4 kB an image for the head; both are below 2e-4 of the whole.
    assert counted == pytest.approx(2 * values * 25600, rel=4e-4)


def test_state_is_all_that_a_step_needs_beside_its_images() -> None:
    """Weights, gradients and momentum of the queries' encoder, weights of the keys', statistics of both, the queue."""
    moco = MoCo(PRETRAIN, 5)
    optimiser = make_optimiser(PRETRAIN, [{"params": list(moco.encoder_q.parameters()), "first_lr": 0.1}])
    moments = [value for state in optimiser.state.values() for value in state.values()]
    held = [*moco.parameters(), *moco.buffers(), *moco.encoder_q.parameters(), *moments]
    assert pretrain_memory(PRETRAIN, 5).state == sum(tensor.nbytes for tensor in held)
    weights = sum(weight.nbytes for weight in moco.encoder_q.parameters())
    adamw = replace(PRETRAIN, optimiser="adamw")
    assert pretrain_memory(adamw, 5).state == pretrain_memory(PRETRAIN, 5).state + weights
    assert pretrain_memory(replace(PRETRAIN, sgd_momentum=0.0), 5).state == pretrain_memory(PRETRAIN, 5).state - weights


def test_images_are_stamps_and_views_or_a_probe_s_features() -> None:
    stamp, view = 4 * 5 * 107**2, 4 * 5 * 16**2
    assert pretrain_memory(PRETRAIN, 5).images == 32 * (stamp + 2 * view)
    assert pretrain_memory(PRETRAIN, 5, ranks=2).images == 16 * (2 * stamp + 2 * view)  # keys of other galaxies
    probe = FinetuneConfig(encoder=TINY, view_px=16, batch=16, batch_norm_groups=1, freeze=True)
    memory = finetune_memory(probe, 5, 180, galaxies=1000)
    assert memory.images == 16 * (stamp + view) + 1000 * 32 * 4
    assert memory.activations == 0


def test_parts_and_ranks_share_the_activations() -> None:
    whole = pretrain_memory(PRETRAIN, 5).activations
    halves = pretrain_memory(replace(PRETRAIN, accumulate=2), 5).activations
    assert halves == pretrain_memory(PRETRAIN, 5, ranks=2).activations
    assert 2 * halves == whole


def test_counting_leaves_no_trace() -> None:
    before = torch.random.get_rng_state()
    pretrain_memory(replace(PRETRAIN, precision="fp64", queue=32), 5)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_default_dtype() == torch.float32


def test_what_does_not_fit_is_said(found: Forecast) -> None:
    assert not [line for line in found.sentences() if "do not fit" in line]
    small = replace(found, assumed=replace(ASSUMED, memory_gb=0.001))
    line = next(line for line in small.sentences() if "do not fit" in line)
    assert line.startswith("pre-training reference: ")
    assert line.endswith(" GB do not fit a device of 0.001 GB; raise accumulate, or share a batch over more devices.")


def test_a_compiled_training_has_a_speed_of_its_own() -> None:
    fast = replace(ASSUMED, compiled=Speed(tflops=0.002, start_s=100.0))
    variants = {"reference": PRETRAIN, "compiled": replace(PRETRAIN, compile=True)}
    found = forecast(replace(RECIPE, variants=variants, assumed=fast))
    plain, compiled = (stage(found, f"pre-training {name}").seconds for name in variants)
    assert plain - 5 == pytest.approx(2 * (compiled - 100))


def test_a_dataset_tells_its_own_counts(large_survey: Dataset, tmp_path: Path) -> None:
    """The runs are those that the study makes."""
    recipe = replace(RECIPE, fractions=(0.2, 1.0))
    text = told(recipe, large_survey, devices=3, tflops=0.5)
    assert "Counted for 1,100 galaxies, 1,100 with a label of photoz" in text
    assert "on 3 of them." in text
    assert "Assumed: 0.5 TFLOP/s a device" in text
    plan = Plan(recipe, large_survey, tmp_path, given=None, devices=1)
    first = plan.first_trainings()
    found = forecast(recipe, replace(ASSUMED, galaxies=1100, labelled={"photoz": 1100}))
    turns = [each.turns for each in found.stages if each.phase == "training on labels"]
    assert len(first) == sum(turn[0] for turn in turns)
    assert len(plan.other_trainings({each.cell: 1.0 for each in first})) == sum(turn[1] for turn in turns)
    assert len(plan.pretrainings()) == 2


def test_without_a_dataset_the_recipe_s_counts_are_told() -> None:
    text = told(RECIPE, None, devices=None, tflops=None)
    assert "Counted for 1,000 galaxies, 1,000 with a label of photoz, split 65/10/25 % by identity." in text
    assert "Nobody measured it." in text
    lines = text.splitlines()
    assert len({len(line) for line in lines if line.startswith("|")}) == 1  # columns line up
    with pytest.raises(TrainerError, match=r"^assumed devices: expected at least 1, got 0"):
        told(RECIPE, None, devices=0, tflops=None)
