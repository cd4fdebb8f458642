"""The memory of the streaming InfoNCE beside the plain one's, as the operating system counts it."""

import os

import pytest

from benchmarks import infonce

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")


@pytest.mark.parametrize("queue", [131_072, pytest.param(1_048_576, marks=pytest.mark.slow)])
def test_streaming_takes_a_twentieth_of_the_plain_memory_at_most(queue):
    """The plain one holds products, logits and their gradients: three matrices at least."""
    batch = 256
    costs = infonce.measure(queue, batch=batch, rounds=1)
    assert costs["plain"].extra_mb > 3 * 4e-6 * batch * queue
    assert costs["streaming"].extra_mb < 0.05 * costs["plain"].extra_mb


def test_it_prints_a_table(capsys, monkeypatch):
    cost = infonce.Cost(seconds=(1.0, 1.25, 9.0), extra_mb=2048.0)
    monkeypatch.setattr(infonce, "measure", lambda queue, **how: {"streaming": cost, "plain": cost})
    assert infonce.main(["--queue", "1024", "--batch", "8"]) == 0
    words = capsys.readouterr().out
    assert all(word in words for word in ("1,024", "streaming", "plain", "1.250", "2,048.0"))
