"""The verdict on made-up rates."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.verdict import EPOCHS, GPUS, H100, Chain, idle_gpus, verdict

RATES = {"ingest": 112.0, "read": 45_000.0, "augment": 1_150.0, "train": 36.4}
STAGES = tuple(RATES)


def chain(busy: dict[str, float] | None = None, **changes: object) -> Chain:
    """On a CPU; the rates of each stage alone are those of `RATES`."""
    made = Chain(
        batch=64,
        alone={stage: RATES[stage] for stage in ("read", "augment", "train")},
        overlapped=35.0,
        busy=busy or {"read": 0.01, "augment": 0.03, "train": 0.96},
        waiting=0.004,
        cores=2,
        read_threads=2,
    )
    return replace(made, **changes)


@pytest.mark.parametrize("binding", STAGES)
def test_the_slowest_stage_binds_and_the_others_have_headroom(binding: str):
    found = verdict(dict.fromkeys(STAGES, 300.0) | {binding: 100.0})
    assert found.alone == binding
    assert found.headroom == {stage: 3.0 for stage in STAGES if stage != binding}


def test_the_first_sentence_says_it_in_words():
    assert verdict(RATES).text.startswith(
        "train binds the whole at 36 images/s; the others could do more: "
        "ingest 3.1 times, augment 32 times, read 1,200 times. "
    )


def test_of_equals_the_first_binds():
    assert verdict({"read": 5.0, "train": 5.0}).alone == "read"
    assert verdict({"read": 5.0, "train": 5.0}).headroom == {"train": 1.0}


def test_one_stage_says_nothing_about_the_others():
    found = verdict({"read": 1234.0})
    assert found.text == "read alone was measured: 1,200 images/s; run all to see which stage binds."
    assert (found.headroom, found.advice, found.gpus) == ({}, (), ())


def test_ingest_is_done_once_and_its_images_are_trained_on_in_every_epoch():
    """The slowest in one pass; over a hundred epochs it takes (1 / 100) / (1 / 100 + 100 / 1000) of the time."""
    found = verdict({"ingest": 100.0, "train": 1000.0})
    assert (found.alone, found.over_epochs) == ("ingest", "train")
    assert "it keeps up with 10,000 images/s and takes 9.1 % of all the time, and train binds" in found.text
    assert verdict({"ingest": 1.0, "train": 1000.0}).over_epochs == "ingest"


def test_without_ingest_nothing_is_said_of_it():
    found = verdict({"read": 10.0, "train": 1.0})
    assert "ngest" not in found.text
    assert found.over_epochs == found.alone == "train"


@pytest.mark.parametrize("binding", ["read", "augment", "train"])
def test_at_once_the_stage_that_is_most_at_work_binds(binding: str):
    found = verdict(RATES, chain({"read": 0.3, "augment": 0.2, "train": 0.1} | {binding: 0.7}))
    assert (found.alone, found.overlapped) == ("train", binding)
    assert f"{binding} 70 %" in found.text
    assert found.advice[0].startswith(f"{binding}: ")


def test_the_rates_of_the_chain_take_the_place_of_those_of_the_stages():
    found = verdict({"ingest": 9.0, "read": 1.0}, chain())
    assert found.alone == "ingest"
    assert found.headroom["read"] == 45_000.0 / 9.0


def test_without_a_chain_nothing_was_at_once():
    found = verdict(RATES)
    assert (found.overlapped, found.gpus) == (None, ())


def test_a_delay_of_10_ms_a_batch_moves_it():
    """In reading, 45,000 images/s become 16,320, which binds a fast accelerator."""
    fast = {"read": 45_000.0, "augment": 300_000.0, "train": 18_000.0}
    slowed = fast | {"read": 256 / (256 / 45_000 + 0.010)}
    assert verdict(fast).text.startswith("train binds the whole at 18,000 images/s")
    assert verdict(slowed).text.startswith(
        "read binds the whole at 16,000 images/s; the others could do more: train 1.1 times, augment 18 times"
    )


@pytest.mark.parametrize("slow", STAGES)
def test_it_moves_to_whichever_stage_is_delayed(slow: str):
    rates = dict.fromkeys(STAGES, 10_000.0)
    assert verdict(rates | {slow: 64 / (64 / 10_000 + 0.010)}).alone == slow


@given(st.dictionaries(st.sampled_from("abcd"), st.floats(0.01, 1e6), min_size=1))
def test_the_binding_stage_has_the_smallest_rate(rates: dict[str, float]):
    found = verdict(rates)
    assert rates[found.alone] == min(rates.values())
    assert all(times >= 1 for times in found.headroom.values())
    assert found.headroom.keys() | {found.alone} == rates.keys()


def test_gpus_wait_for_what_the_host_does_not_read():
    """One takes H100 pairs/s by assumption; a host of four times that feeds 4, and 64 idle 15 of 16 parts."""
    found = {each.gpus: each for each in idle_gpus(chain(alone={"read": 4 * H100, "augment": 9.0, "train": 36.4}))}
    assert tuple(found) == GPUS
    assert [found[gpus].idle for gpus in (1, 2, 4, 8, 64)] == [0, 0, 0, 0.5, 15 / 16]
    assert [found[gpus].binding for gpus in (4, 8)] == ["train", "read"]
    assert found[8].images_per_s == 8 * H100
    assert found[8].float32_gb_per_s == pytest.approx(8 * H100 * 5 * 107 * 107 * 4 / 1e9)
    assert found[8].int16_gb_per_s == found[8].float32_gb_per_s / 2


def test_a_gpu_that_was_measured_takes_what_it_took():
    """Its views and its step one after the other: 1,000 pairs/s."""
    measured = chain(device="cuda", alone={"read": 9_000.0, "augment": 5_000.0, "train": 1_250.0})
    assert [each.idle for each in idle_gpus(measured, (1, 9, 18))] == pytest.approx([0.0, 0.0, 0.5])
    assert "as measured" in verdict({}, measured).text
    assert "assumed" in verdict({}, chain()).text


@given(st.floats(1.0, 1e7))
def test_more_gpus_never_wait_less(read: float):
    idle = [each.idle for each in idle_gpus(chain(alone={"read": read, "augment": 1.0, "train": 1.0}))]
    assert idle == sorted(idle)
    assert 0 <= idle[0] <= idle[-1] < 1


def test_advice_is_for_what_binds_on_this_machine():
    def advised(binding: str, **changes: object) -> str:
        return "; ".join(
            verdict({}, chain({"read": 0.0, "augment": 0.0, "train": 0.0, binding: 1.0}, **changes)).advice
        )

    assert "--read-threads" not in advised("read")
    assert "`--read-threads` (now 4, of 16 cores)" in advised("read", cores=16, read_threads=4)
    assert "--encoding int16" in advised("read")
    assert "--encoding int16" not in advised("read", encoding="int16")
    assert "--stage DIR --stage-gb N" in advised("read")
    assert "torchrun --nproc-per-node" in advised("train", device="cuda")
    assert "a GPU" in advised("train")
    assert "--pipeline dali" in advised("augment", device="cuda")
    assert "--workers" in "; ".join(verdict({"ingest": 1.0, "train": 2.0}).advice)


def test_epochs_are_those_of_the_paper():
    assert EPOCHS == 100


@pytest.mark.parametrize(
    ("rate", "text"), [(0.4217, "0.42"), (0.996, "1.0"), (1.0, "1.0"), (9.96, "10"), (99.6, "100"), (1250.0, "1,200")]
)
def test_two_digits(rate: float, text: str):
    assert f": {text} images/s;" in verdict({"train": rate}).text


def test_from_the_disk_gpus_wait_where_the_page_cache_would_feed_them():
    """A disk of 1,300 images/s feeds half of one GPU, whatever the page cache gives."""
    gb = 5 * 107 * 107 * 4 / 1e9
    found = verdict(RATES, chain(disk_gb_per_s=1_300 * gb))
    assert [each.idle for each in found.gpus[:2]] == [0.0, 0.0]
    assert found.gpus[0].idle_from_disk == pytest.approx(0.5)
    assert "its disk gives 0.30 GB/s, 1,300 images/s of float32: 1 would wait 50 %" in found.text
    assert verdict(RATES, chain()).gpus[0].idle_from_disk is None


def test_where_ingest_binds_one_pass_the_epochs_are_told_too():
    found = verdict({"ingest": 20.0, "read": 900.0, "train": 30.0})
    assert found.text.startswith("ingest binds the whole at 20 images/s;")
    assert "In every epoch train binds at 30 images/s; the others could do more: read 30 times" in found.text
