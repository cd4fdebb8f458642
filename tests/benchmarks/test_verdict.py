"""The verdict on made-up rates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import verdict


def test_the_slowest_stage_binds_and_the_others_have_headroom():
    rates = {"ingest": 112.0, "read": 45_000.0, "augment": 1_150.0, "train": 36.4}
    assert verdict(rates) == (
        "train binds the whole at 36 images/s; the others could do more: "
        "ingest 3.1 times, augment 32 times, read 1,200 times"
    )


def test_the_verdict_moves_with_an_injected_delay():
    """10 ms a batch of 256 in reading: 45,000 images/s become 16,320, which binds a fast accelerator."""
    fast = {"read": 45_000.0, "augment": 300_000.0, "train": 18_000.0}
    slowed = fast | {"read": 256 / (256 / 45_000 + 0.010)}
    assert verdict(fast).startswith("train binds the whole at 18,000 images/s")
    assert verdict(slowed) == (
        "read binds the whole at 16,000 images/s; the others could do more: train 1.1 times, augment 18 times"
    )


def test_one_stage_says_nothing_about_the_others():
    assert verdict({"read": 1234.0}) == "read alone was measured: 1,200 images/s; run all to see which stage binds"


@pytest.mark.parametrize(
    ("rate", "text"), [(0.4217, "0.42"), (0.996, "1.0"), (1.0, "1.0"), (9.96, "10"), (99.6, "100"), (1250.0, "1,200")]
)
def test_two_digits(rate, text):
    assert f": {text} images/s;" in verdict({"train": rate})


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 1e6), min_size=2))
def test_the_binding_stage_has_the_smallest_rate(rates):
    assert rates[verdict(rates)[0]] == min(rates.values())
