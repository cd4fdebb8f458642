"""When a pre-training has stopped telling galaxies apart, and the words for it.

Keys are unit vectors. Spread evenly over the sphere in D dimensions each of their coordinates has a standard deviation
of 1 / sqrt(D); `keys_spread` is the mean of those deviations in that unit: 1 for isotropic keys, sqrt(d / D) for keys
that use d of the dimensions evenly, 0 where all keys are one.

Collapsed is a spread s below 0.05, which is less than one dimension out of 128 would give (0.088). Two keys then differ
in their cosine with a query by about s^2, and in their logits by s^2 / T, 0.025 at a temperature T of 0.1: the loss can
hardly tell the galaxy's own key from another's, and its gradient is as small. It has recovered at twice that spread.

No better than guessing is a loss of ln(1 + K), which a softmax over K negatives has if it says nothing. That is said
when the queue has been filled ten times over with no record's loss more than 0.05 below it: the own key has not been
given 1.05 times the probability of a guess. A network that learns may be slow to begin with, hence the patience.
"""

import math
from collections.abc import Iterable, Iterator, Mapping

from jaxtyping import Float
from torch import Tensor

COLLAPSED, RECOVERED = 0.05, 0.10  # spread
GAIN = 0.05  # nat below ln(1 + K) from which on something is learnt
PATIENCE_QUEUES = 10


def keys_spread(keys: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Mean standard deviation of the coordinates of unit vectors, times sqrt(D); stays on the device."""
    spread: Tensor = keys.std(dim=0).mean() * keys.shape[1] ** 0.5
    return spread


class CollapseWatch:
    """Looks at the records of a pre-training in their order; says each thing once, and again when it is over."""

    def __init__(self, *, queue: int, batch: int) -> None:
        self._guessing_loss = math.log1p(queue)
        self._patience_steps = PATIENCE_QUEUES * queue // batch
        self._last_gain: int | None = None  # the last step whose loss was better than guessing, or else the first seen
        self._collapsed = self._guessing = False

    def look(self, record: Mapping[str, int | float]) -> str | None:
        """A line for the person who watches, where there is news."""
        step = int(record["step"])
        news = [self._spread(step, record["spread"])] if "spread" in record else []
        news += [self._loss(step, record["loss"])] if "loss" in record else []
        return "; ".join(line for line in news if line) or None

    def _spread(self, step: int, spread: float) -> str | None:
        if not self._collapsed and spread < COLLAPSED:
            self._collapsed = True
            return (
                f"step {step}: the representations have collapsed (spread {spread:.3f}, below {COLLAPSED}): all "
                "galaxies look alike; lower --lr, lengthen --warmup-steps or take more --batch-norm-groups"
            )
        if self._collapsed and spread > RECOVERED:
            self._collapsed = False
            return f"step {step}: the representations have spread again ({spread:.3f})"
        return None

    def _loss(self, step: int, loss: float) -> str | None:
        if self._last_gain is None or loss < self._guessing_loss - GAIN:
            self._last_gain = step
        if loss < self._guessing_loss - GAIN:
            if self._guessing:
                self._guessing = False
                return f"step {step}: the loss is better than guessing again ({loss:.3f})"
        elif not self._guessing and step - self._last_gain > self._patience_steps:
            self._guessing = True
            return (
                f"step {step}: nothing is learnt: for {step - self._last_gain} steps the loss has been no better than "
                f"guessing, ln(1 + queue) = {self._guessing_loss:.3f}; try another --lr or --temperature"
            )
        return None


def warnings(records: Iterable[Mapping[str, int | float]], *, queue: int, batch: int) -> Iterator[str]:
    """All that would have been said of these records."""
    watch = CollapseWatch(queue=queue, batch=batch)
    return (line for record in records if (line := watch.look(record)))
