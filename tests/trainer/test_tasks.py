"""Labels: which are learnt, which are left out and counted, and that a small share lies within a larger one."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sharding import Dataset
from trainer import photoz
from trainer.config import EncoderConfig, FinetuneConfig, Task
from trainer.errors import TrainerError
from trainer.labels import choose_labels
from trainer.tasks import class_name, make_morphology, make_task

CONFIG = FinetuneConfig(encoder=EncoderConfig(depth=10, width=2), batch=16, batch_norm_groups=1)


def test_labels_out_of_range_or_missing_are_left_out_and_counted(make_survey: Callable[..., Dataset]) -> None:
    redshift = np.random.default_rng(0).uniform(0.01, 0.39, 120)
    redshift[::6] = np.nan
    redshift[1::6] = 0.5
    redshift[2::60] = -9999.0
    dataset = make_survey(120, change={"specz": redshift})
    labels = choose_labels(CONFIG, dataset, make_task(CONFIG, dataset))
    for chosen, split in ((labels.train, "train"), (labels.validation, "validation")):
        members = dataset.split(split)
        assert np.array_equal(chosen, [i for i in members if 0 <= redshift[i] <= 0.4])
    seen = np.concatenate([dataset.split("train"), dataset.split("validation")])
    assert labels.unusable == len(seen) - len(labels.train) - len(labels.validation) > 0


@pytest.mark.parametrize("task", ["photoz", "morphology"])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_smaller_share_of_the_labels_lies_within_a_larger_one(large_survey: Dataset, task: Task, seed: int) -> None:
    config = replace(CONFIG, task=task, seed=seed)
    made = make_task(config, large_survey)
    fractions = (0.1, 0.25, 0.5, 0.75, 1.0)
    shares = [choose_labels(replace(config, label_fraction=f), large_survey, made) for f in fractions]
    for small, large in pairwise(shares):
        assert set(small.train) < set(large.train)
        assert np.array_equal(small.validation, large.validation)  # the judge stays the same
    train = large_survey.split("train")
    everyone = train[made.known(train)]
    assert np.array_equal(shares[-1].train, everyone)
    for fraction, share in zip(fractions, shares, strict=True):  # each galaxy is drawn by itself: five sigma
        assert abs(len(share.train) - fraction * len(everyone)) <= 5 * np.sqrt(
            fraction * (1 - fraction) * len(everyone)
        )


def test_another_seed_chooses_other_labels(large_survey: Dataset) -> None:
    task = make_task(CONFIG, large_survey)
    zero, one = (choose_labels(replace(CONFIG, label_fraction=0.5, seed=s), large_survey, task).train for s in (0, 1))
    assert set(zero) != set(one)


def test_a_share_of_the_labels_holds_all_observations_of_its_galaxies_wherever_they_lie_in_the_file(
    make_survey: Callable[..., Dataset],
) -> None:
    galaxy = np.random.default_rng(2).permutation(np.arange(1, 101).repeat(4))
    chosen = {}
    for name, thing_id in (("one", galaxy), ("reversed", galaxy[::-1])):
        dataset = make_survey(400, name=name, side_px=5, change={"thing_id": thing_id})
        labels = choose_labels(replace(CONFIG, label_fraction=0.5), dataset, make_task(CONFIG, dataset))
        chosen[name] = np.bincount(thing_id[labels.train], minlength=101)
    assert set(chosen["one"]) == {0, 4}
    assert np.array_equal(chosen["one"], chosen["reversed"])


def test_too_few_labels_are_refused_with_their_numbers(make_survey: Callable[..., Dataset]) -> None:
    dataset = make_survey(200, labelled=5)
    text = r"specz: expected at least 50 labels to train on and 5 to judge by, got \d and \d \(\d+ of \d+ are missing"
    with pytest.raises(TrainerError, match=text):
        choose_labels(CONFIG, dataset, make_task(CONFIG, dataset))


def test_a_redshifts_class_is_its_bin_and_its_score_is_sigma_mad(make_survey: Callable[..., Dataset]) -> None:
    dataset = make_survey(30)
    task = make_task(CONFIG, dataset)
    where = np.array([3, 1, 4, 1, 5])
    z = dataset.column("specz")[where]
    assert np.array_equal(task.target(where), np.floor(z / (0.4 / 180)))
    sure = np.eye(180)[task.target(where)]
    dz = (photoz.bin_centres(180)[task.target(where)] - z) / (1 + z)
    assert task.score(sure, where) == pytest.approx(1.4826 * np.median(np.abs(dz - np.median(dz))))


def test_classes_are_those_of_the_training_split_by_name(make_survey: Callable[..., Dataset]) -> None:
    dataset = make_survey(60)
    names = np.array(["spiral", "edge-on", "", None, "smooth"] * 12, dtype=object)
    rare = dataset.split("test")[0]
    names[rare] = "merger"
    dataset = make_survey(60, name="named", change={"morphology": names})
    task = make_task(replace(CONFIG, task="morphology"), dataset)
    assert task.classes == ("edge-on", "smooth", "spiral")
    everyone = np.arange(60)
    known = task.known(everyone)
    assert np.array_equal(known, [name in task.classes for name in names])
    assert [task.classes[c] for c in task.target(everyone[known])] == [name for name in names if name in task.classes]
    right = np.eye(3)[task.target(everyone[known])]
    assert task.score(right, everyone[known]) == 0.0
    assert task.score(np.roll(right, 1, axis=1), everyone[known]) == 1.0


def test_labels_of_the_wrong_kind_are_refused(make_survey: Callable[..., Dataset]) -> None:
    dataset = make_survey(20, change={"morphology": "spiral"})
    with pytest.raises(TrainerError, match="column morphology: expected redshifts, got object; choose --label"):
        make_task(replace(CONFIG, label="morphology"), dataset)
    with pytest.raises(TrainerError, match="column morphology: expected 2 to 1000 classes, got 1; choose --label"):
        make_task(replace(CONFIG, task="morphology"), dataset)
    with pytest.raises(TrainerError, match="expected text or whole numbers as classes; choose another --label"):
        make_task(replace(CONFIG, task="morphology", label="specz"), dataset)


def test_the_loss_of_a_class_is_its_cross_entropy(large_survey: Dataset) -> None:
    for config in (CONFIG, replace(CONFIG, task="morphology")):
        task = make_task(config, large_survey)
        known = np.flatnonzero(task.known(np.arange(40)))
        outputs = torch.randn(len(known), task.outputs, generator=torch.Generator().manual_seed(0))
        target = torch.from_numpy(task.target(known))
        # A sum over classes of which one has a share: the same term, and zeros
        assert torch.equal(task.loss(outputs, known), F.cross_entropy(outputs, target, reduction="none"))
        assert torch.equal(task.probabilities(outputs), outputs.softmax(dim=1))
        coarse = outputs.bfloat16()
        assert torch.equal(task.loss(coarse, known), task.loss(coarse.float(), known))  # in fp32, whatever was given
        assert task.loss(outputs.double(), known).dtype == torch.float64


def test_a_run_is_judged_by_the_classes_it_has_learnt(make_survey: Callable[..., Dataset]) -> None:
    dataset = make_survey(60, side_px=5, change={"morphology": np.array(["a", "b", "c"] * 20, dtype=object)})
    task = make_morphology(replace(CONFIG, task="morphology"), dataset, ("c", "a"))
    assert np.array_equal(task.known(np.arange(3)), [True, False, True])
    assert np.array_equal(task.target(np.array([0, 2])), [1, 0])


@pytest.mark.parametrize(
    ("value", "name"), [("a", "a"), (3, "3"), (3.0, "3"), (np.nan, None), (None, None), ("", None)]
)
def test_a_label_as_a_class_name(value: object, name: str | None) -> None:
    assert class_name(value) == name
