"""Learning rates as functions of the progress of a run."""

import math

DROPS = (
    0.6,
    0.9,
)  # shares of the epochs at which fine-tuning's learning rate falls tenfold: 60 and 90 of the paper's 100


def cosine(step: int, *, total: int, warmup: int) -> float:
    """The factor on the peak rate: a linear rise over ``warmup`` steps, then half a cosine to zero at ``total``."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def steps_down(epoch: int, *, epochs: int) -> float:
    """The factor on the first rate in an epoch: a tenth after each drop."""
    return 0.1 ** sum(epoch >= drop * epochs for drop in DROPS)
