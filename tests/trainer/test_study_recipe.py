"""Recipes: what is in the file is trained, the shipped ones can be run, and each mistake is named in one line."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from sharding.splits import BOUNDS
from trainer.config import EncoderConfig, FinetuneConfig, PretrainConfig
from trainer.errors import TrainerError
from trainer.labels import FEWEST_TRAIN
from trainer.study.recipe import REFERENCE, Recipe, fitting_batch, read_recipe, recipe_names, training

TEXT = """
[study]
about = "A test."
tasks = ["photoz", "morphology"]
methods = ["supervised", "finetuned", "probe"]
fractions = [0.1, 1]
seeds = 2
rates = [0.5, 1.0]
probe_epochs = 40
least_steps = 100

[pretrain]
depth = 10
width = 4
preset = "stein2021"
batch = 32
queue = 64
batch_norm_groups = 2

[variants."without dust"]
without = "dust"

[variants.drawn]
preset = "stein2021-drawn"

[finetune]
epochs = 10
batch = 64
batch_norm_groups = 4
weight_decay = 1e-3

[finetune.lr]
supervised = 0.02
finetuned = 0.01
probe = 1

[assumed]
galaxies = 1_000
labelled = { photoz = 1_000, morphology = 500 }
devices = 2
memory_gb = 4
step_ms = 1
plain = { tflops = 0.03, start_s = 5 }
source = "Nobody measured it."
"""


def read(tmp_path: Path, text: str = TEXT) -> Recipe:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return read_recipe(str(path))


def test_a_recipe_is_what_its_file_says(tmp_path: Path) -> None:
    recipe = read(tmp_path)
    encoder = EncoderConfig(depth=10, width=4)
    pretrain = PretrainConfig(encoder=encoder, preset="stein2021", batch=32, queue=64, batch_norm_groups=2)
    assert (recipe.name, recipe.about, recipe.seeds) == ("mine", "A test.", 2)
    assert recipe.fractions == (0.1, 1.0)
    assert recipe.lr == {"supervised": 0.02, "finetuned": 0.01, "probe": 1.0}
    assert recipe.pretrain == pretrain
    assert list(recipe.variants.items()) == [  # the order too: the first is what others are compared with
        (REFERENCE, pretrain),
        ("without dust", replace(pretrain, without="dust")),
        ("drawn", replace(pretrain, preset="stein2021-drawn")),
    ]
    assert recipe.finetune == FinetuneConfig(epochs=10, batch=64, batch_norm_groups=4, weight_decay=1e-3)
    assert recipe.assumed.labelled == {"photoz": 1000, "morphology": 500}


@pytest.mark.parametrize(
    ("method", "labels", "batch", "epochs", "looks_every"),
    [
        ("supervised", 650, 64, 10, 1),  # 10 steps an epoch: the recipe's 10 epochs are 100 steps
        ("finetuned", 649, 64, 10, 1),
        ("finetuned", 639, 64, 12, 2),  # 9 steps an epoch: 12 epochs
        ("supervised", 64, 64, 100, 10),  # 1 step an epoch
        ("supervised", 50, 48, 100, 10),  # 4 groups of 12
        ("probe", 650, 64, 40, 4),
        ("probe", 130, 64, 50, 5),  # 2 steps an epoch
    ],
)
def test_a_training_has_its_steps_and_its_looks(
    tmp_path: Path, method: str, labels: int, batch: int, epochs: int, looks_every: int
) -> None:
    recipe = read(tmp_path)
    config = training(recipe, task="morphology", method=method, fraction=0.1, seed=3, rate=0.5, labels=labels)
    assert config == FinetuneConfig(
        encoder=recipe.pretrain.encoder,
        task="morphology",
        freeze=method == "probe",
        label_fraction=0.1,
        seed=3,
        lr=0.5 * recipe.lr[method],
        batch=batch,
        batch_norm_groups=4,
        weight_decay=1e-3,
        epochs=epochs,
        judge_every_epochs=looks_every,
    )


def test_a_batch_fits_the_labels_in_equal_groups() -> None:
    config = FinetuneConfig(batch=64, batch_norm_groups=8)
    for labels in range(16, 70):
        batch = fitting_batch(config, labels)
        assert replace(config, batch=batch).batch == batch  # its own checks: groups of equal size, of two or more
        assert batch <= min(labels, 64) < batch + 8
    with pytest.raises(TrainerError, match=r"^finetune: expected at least 16 labels.* 8 parts .*got 15; take a larger"):
        fitting_batch(config, 15)
    by_rank = FinetuneConfig(batch=64, batch_norm="rank", accumulate=4)
    assert fitting_batch(by_rank, 63) == 60


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_makes_every_training_within_its_promises(name: str) -> None:
    recipe = read_recipe(name)
    low, high = BOUNDS["train"]
    for task in recipe.tasks:
        for fraction in recipe.fractions:
            labels = round(fraction * (high - low) * recipe.assumed.labelled[task])
            assert labels >= FEWEST_TRAIN
            for method in recipe.methods:
                config = training(
                    recipe, task=task, method=method, fraction=fraction, seed=0, rate=recipe.rates[-1], labels=labels
                )
                assert config.epochs * (labels // config.batch) >= recipe.least_steps
                assert math.ceil(config.epochs / config.judge_every_epochs) <= recipe.finetune.epochs


def test_the_ablations_leave_out_each_augmentation_once() -> None:
    for name in ("ablation", "ablation-h100"):
        variants = read_recipe(name).variants.values()
        left_out = [config.without for config in variants if config.without != "nothing"]
        assert sorted(left_out) == ["dust", "flips", "noise", "psf", "shifts", "size", "turns"]
        assert {config.preset for config in variants} == {"stein2021", "stein2021-drawn", "hayat2021"}
        assert len(set(variants)) == len(variants)


def test_the_paper_s_recipe_is_the_published_one() -> None:
    recipe = read_recipe("paper")
    assert recipe.pretrain == PretrainConfig(precision="bf16", compile=True)
    assert recipe.finetune == FinetuneConfig(precision="bf16", compile=True)
    assert (recipe.assumed.galaxies, recipe.assumed.labelled["photoz"]) == (1_200_000, 516_525)
    assert (recipe.fractions[0], recipe.fractions[-1], recipe.seeds) == (0.01, 1.0, 3)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("seeds = 2", "seeds = 0", "seeds: expected at least 1, got 0"),
        ("seeds = 2", "seeds = true", "[study] seeds: expected a whole number, got True"),
        ("seeds = 2\n", "", "[study] seeds: expected a whole number, got nothing"),
        ("seeds = 2", "seeds = 2\nsedes = 2", "[study] sedes: expected no such key"),
        ('"A test."', '" "', "[study] about: expected text"),
        ("[0.1, 1]", "[0.1, 1.5]", "fractions: expected shares above 0, up to 1"),
        ("[0.1, 1]", "[1, 0.1]", "fractions: expected shares above 0, up to 1, in ascending order"),
        ("[0.1, 1]", "[]", "fractions: expected one or more"),
        ("[0.1, 1]", '["all"]', "[study] fractions: expected a list of numbers"),
        ("[0.5, 1.0]", "[1.0, 1.0]", "rates: expected one or more, all different"),
        ("[0.5, 1.0]", "[0.0, 1.0]", "rates: expected factors above 0"),
        ('"photoz", ', '"redshift", ', "[study] tasks: expected a list of photoz, morphology"),
        ('["photoz", "morphology"]', "[]", "tasks: expected one or more"),
        ('"probe"]', '"trees"]', "[study] methods: expected a list of supervised, finetuned, probe"),
        ("depth = 10", "depht = 10", "[pretrain] depht: expected a setting of a PretrainConfig"),
        ("depth = 10", "depth = 11", "[pretrain] depth: expected one of 10, 18, 34, 50, 101, got 11"),
        ("batch = 32", "batch = 33", "[pretrain] batch_norm_groups: expected to cut the batch (33)"),
        ("batch = 32", "batch = 128", "[pretrain] queue: expected at least the batch (128), got 64"),
        ('preset = "stein2021"', 'preset = "stein"', "[pretrain] preset: expected one of hayat2021"),
        ('preset = "stein2021"', 'preset = "hayat2021"\nwithout = "psf"', "[pretrain] without: expected one of"),
        ('without = "dust"', 'without = "rain"', "[variants.without dust] without: expected one of"),
        ('without = "dust"', "width = 8", "[variants.without dust] width: expected no such key"),
        ("[variants.drawn]", "[variants.reference]", "[variants.reference]: expected a name of letters"),
        ("[variants.drawn]", '[variants."a/b"]', "[variants.a/b]: expected a name of letters"),
        ("epochs = 10", "seed = 1", "[finetune] seed: expected no such key"),
        ("epochs = 10", "width = 4", "[finetune] width: expected a setting of a FinetuneConfig"),
        ("epochs = 10", 'epochs = "ten"', "[finetune] epochs: expected an int, got ten"),
        ("probe = 1\n", "", "finetune.lr probe: expected a learning rate above 0, got None"),
        ("probe = 1\n", "probe = -1\n", "finetune.lr probe: expected a learning rate above 0, got -1.0"),
        ("probe = 1\n", "probe = 1\ntrees = 1\n", "[finetune.lr] trees: expected no such key"),
        ("morphology = 500", "morphology = 5000", "assumed labelled morphology: expected 0 to the 1000 galaxies"),
        (", morphology = 500", "", "assumed labelled morphology: expected a number of galaxies"),
        ("epochs = 10", "epochs = 10\ncompile = true", "[assumed.compiled]: expected a speed"),
        ("[assumed]", "[assume]", "assumed: expected a table, got nothing"),
        ("tflops = 0.03", "tflops = 0", "assumed tflops: expected more than 0"),
        ("[study]", "[study", "expected TOML, got what is none"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    assert TEXT.count(old) >= 1
    with pytest.raises(TrainerError, match=re.escape(complaint)) as caught:
        read(tmp_path, TEXT.replace(old, new, 1))
    assert str(caught.value).startswith(str(tmp_path / "mine.toml"))
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)  # a file has keys, not options


def test_no_recipe_of_that_name(tmp_path: Path) -> None:
    with pytest.raises(
        TrainerError, match=r"^recipe: expected one of ablation, .*, small, or a \.toml file, got 'mid'"
    ):
        read_recipe("mid")
    with pytest.raises(TrainerError, match=r"no\.toml: cannot be read \(No such file"):
        read_recipe(str(tmp_path / "no.toml"))


def test_what_the_command_line_changes_is_checked_too(tmp_path: Path) -> None:
    recipe = read(tmp_path)
    assert replace(recipe, fractions=(0.5,), seeds=1).fractions == (0.5,)
    with pytest.raises(
        TrainerError, match=r"^fractions: expected shares above 0, up to 1, in ascending order, got \[2"
    ):
        replace(recipe, fractions=(2.0,))
