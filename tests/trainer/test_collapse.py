"""Collapse: the spread in closed form, and what is said of a run's records, once."""

import math

import pytest
import torch
import torch.nn.functional as F

from trainer.collapse import COLLAPSED, GAIN, PATIENCE_QUEUES, CollapseWatch, keys_spread, warnings

QUEUE, BATCH = 1024, 64
PATIENCE = PATIENCE_QUEUES * QUEUE // BATCH
GUESSING = math.log1p(QUEUE)


@pytest.mark.parametrize("used", [4, 32, 128])
def test_the_spread_of_even_keys_is_the_root_of_the_share_of_dimensions_they_use(used: int) -> None:
    keys = torch.zeros(4096, 128)
    keys[:, :used] = F.normalize(torch.randn(4096, used, generator=torch.Generator().manual_seed(0)), dim=1)
    # A sample's deviation is off by 1 / sqrt(2 n) = 1.1 %, their mean over 4 or more dimensions by half: 5 sigma.
    assert keys_spread(keys).item() == pytest.approx(math.sqrt(used / 128), rel=0.03)


def test_equal_keys_have_no_spread() -> None:
    one = F.normalize(torch.ones(1, 128), dim=1).expand(64, 128)
    assert keys_spread(one).item() == pytest.approx(0.0, abs=1e-6)
    assert keys_spread(one).shape == ()


def test_keys_that_collapsed_look_alike_to_the_loss() -> None:
    """What the threshold promises: at a temperature of 0.1 no logit tells a key from another by more than s^2 / T."""
    mean = F.normalize(torch.ones(128, dtype=torch.float64), dim=0)
    noise = torch.randn(512, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    keys = F.normalize(mean + COLLAPSED / math.sqrt(128) * noise, dim=1)
    assert keys_spread(keys).item() == pytest.approx(COLLAPSED, rel=0.05)
    logits = keys @ keys.T / 0.1
    gain = logits.diagonal() - torch.logsumexp(logits, dim=1) + math.log(512)  # nat better than guessing
    assert gain.mean().item() < 1.2 * COLLAPSED**2 / 0.1
    assert gain.mean().item() < GAIN


def test_collapse_is_said_once_and_so_is_its_end() -> None:
    spreads = [0.5, 0.06, 0.049, 0.01, 0.06, 0.09, 0.11, 0.4, 0.04]
    records = [{"step": step, "spread": spread} for step, spread in enumerate(spreads)]
    said = list(warnings(records, queue=QUEUE, batch=BATCH))
    assert [line.split(":")[0] for line in said] == ["step 2", "step 6", "step 8"]
    assert "collapsed" in said[0]
    assert "again" in said[1]


def test_a_loss_of_guessing_is_told_after_long_and_its_end_at_once() -> None:
    records = [{"step": step, "loss": GUESSING} for step in range(10, 2 * PATIENCE, 10)]
    records += [{"step": 2 * PATIENCE, "loss": GUESSING - 1}]
    said = list(warnings(records, queue=QUEUE, batch=BATCH))
    assert len(said) == 2
    assert said[0].startswith(f"step {20 + PATIENCE}: nothing is learnt")
    assert said[1].startswith(f"step {2 * PATIENCE}: the loss is better than guessing")


def test_patience_begins_with_the_first_record_seen() -> None:
    """A run that goes on at a late step is not condemned for the steps that were not watched."""
    records = [{"step": 100 * PATIENCE + step, "loss": GUESSING} for step in range(0, PATIENCE, 10)]
    assert list(warnings(records, queue=QUEUE, batch=BATCH)) == []


def test_a_real_collapse_is_noticed() -> None:
    """As recorded every 5 steps at a learning rate of 5 with one group of batch statistics; the loss fell meanwhile."""
    spreads = [0.1246, 0.0764, 0.0428, 0.0259, 0.0158, 0.0131]
    records = [{"step": 5 * (number + 1), "spread": spread} for number, spread in enumerate(spreads)]
    (said,) = warnings(records, queue=QUEUE, batch=BATCH)
    assert said.startswith("step 15:")


def test_nothing_is_said_of_a_run_that_learns() -> None:
    """The records of a small real pre-training: its loss rises while keys fill the queue, then falls."""
    losses = [4.45, 6.08, 6.59, 6.82, 6.73, 6.56, 6.37, 6.24, 6.09, 5.79, 5.96, 5.84]
    spreads = [0.136, 0.133, 0.136, 0.143, 0.151, 0.169, 0.190, 0.210, 0.239, 0.370, 0.448, 0.529]
    records = [
        {"step": 5 * (number + 1), "loss": loss, "spread": spread}
        for number, (loss, spread) in enumerate(zip(losses, spreads, strict=True))
    ]
    assert list(warnings(records, queue=QUEUE, batch=BATCH)) == []


def test_a_record_without_these_figures_says_nothing() -> None:
    assert CollapseWatch(queue=QUEUE, batch=BATCH).look({"step": 1, "lr": 0.1}) is None
