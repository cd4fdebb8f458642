"""Settings: one meaning in memory, in JSON and on the command line; refused where they make no sense."""

import argparse
import json
from dataclasses import fields

import pytest

from trainer.config import EncoderConfig, FinetuneConfig, PretrainConfig, differing, from_json, option, to_json
from trainer.errors import TrainerError
from trainer.settings import add_settings, config_from

SMALL = EncoderConfig(depth=10, width=3, stretch="asinh")


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        PretrainConfig(encoder=SMALL, max_steps=7, queue=512, without="turns"),
        FinetuneConfig(encoder=SMALL, task="morphology", label="gz2", freeze=True, head_lr=1.0, judge_every_epochs=5),
    ],
)
def test_json_gives_the_same_settings_back(config: EncoderConfig | PretrainConfig | FinetuneConfig) -> None:
    assert from_json(type(config), json.loads(json.dumps(to_json(config)))) == config


def test_every_setting_is_an_option_of_its_name() -> None:
    for kind in (PretrainConfig, FinetuneConfig):
        parser = argparse.ArgumentParser()
        add_settings(parser, kind)
        known = parser.format_help()
        names = [item.name for item in (*fields(kind), *fields(EncoderConfig)) if item.name != "encoder"]
        assert [name for name in names if f"{option(name)} " not in known and f"{option(name)}," not in known] == []


def test_the_command_line_sets_what_it_says_and_nothing_else() -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser, PretrainConfig)
    words = ["--depth", "18", "--width", "4", "--batch", "32", "--lr", "0.1", "--max-steps", "5", "--precision", "bf16"]
    config = config_from(parser.parse_args(words), PretrainConfig)
    encoder = EncoderConfig(depth=18, width=4)
    assert config == PretrainConfig(encoder=encoder, batch=32, lr=0.1, max_steps=5, precision="bf16")


def test_an_inherited_encoder_is_kept_and_another_refused() -> None:
    parser = argparse.ArgumentParser()
    add_settings(parser, FinetuneConfig)
    assert config_from(parser.parse_args(["--width", "3"]), FinetuneConfig, SMALL).encoder == SMALL
    with pytest.raises(TrainerError, match=r"--width: expected 3, as in --init, got 4"):
        config_from(parser.parse_args(["--width", "4"]), FinetuneConfig, SMALL)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"queue": 100}, r"--queue: expected at least the batch \(256\), got 100"),
        ({"batch_norm_groups": 3}, r"--batch-norm-groups: expected to cut the batch \(256\) in equal parts"),
        ({"temperature": 0.0}, "--temperature: expected more than 0, got 0.0"),
        ({"precision": "fp8"}, "--precision: expected one of fp32, bf16, fp16, fp64, got fp8"),
        ({"pipeline": "scipy"}, "--pipeline: expected one of torch, dali, got scipy"),
        ({"without": "stars"}, "--without: expected one of nothing, dust, .*, noise, got stars"),
        ({"epochs": "3"}, "--epochs: expected an int, got 3"),
        ({"lr": True}, "--lr: expected a float or nothing, got True"),
        ({"speed": 3}, "speed is no setting of PretrainConfig"),
        ({"encoder": {"depth": 12}}, "--depth: expected one of 10, 18, 34, 50, 101, got 12"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], text: str) -> None:
    with pytest.raises(TrainerError, match=text):
        from_json(PretrainConfig, settings)


def test_looks_at_the_validation_split_are_at_least_an_epoch_apart() -> None:
    with pytest.raises(TrainerError, match="--judge-every-epochs: expected at least 1, got 0"):
        FinetuneConfig(judge_every_epochs=0)


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(PretrainConfig, "without", "nothing"), (FinetuneConfig, "judge_every_epochs", 1)]
)
def test_settings_of_an_older_run_are_as_they_were(
    kind: type[PretrainConfig | FinetuneConfig], name: str, value: object
) -> None:
    """A `config.json` from before the setting: nothing was left out, every epoch was judged."""
    older = to_json(kind(encoder=SMALL))
    del older[name]
    assert to_json(from_json(kind, older))[name] == value


def test_only_settings_that_change_the_result_must_stay_on_resume() -> None:
    base = to_json(PretrainConfig(encoder=SMALL))
    later = to_json(PretrainConfig(encoder=SMALL, log_every_steps=1, checkpoint_every_steps=3, pipeline="dali"))
    assert differing(base, later, PretrainConfig) == []
    wider = EncoderConfig(depth=10, width=4, stretch="asinh")
    other = to_json(PretrainConfig(encoder=wider, lr=0.5, without="dust"))
    assert differing(base, other, PretrainConfig) == [
        "--width is 3 there, 4 here", "--without is nothing there, dust here", "--lr is not given there, 0.5 here"
    ]  # fmt: skip
