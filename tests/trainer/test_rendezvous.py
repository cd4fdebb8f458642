"""The ranks of a start find each other in a store that is full of those of earlier starts."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from trainer.errors import TrainerError
from trainer.rendezvous import join_group, name_of_start


def start(store: dist.Store, size: int, *, late: int = 0) -> list[str]:
    """Names that the ranks of one start come to; ``late`` of them are begun again after they have died."""
    for rank in range(late):
        store.set(f"here/{rank}", b"one that died before it saw anyone")
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: name_of_start(store, rank, size), range(size)))


def test_each_start_has_a_name_of_its_own_on_all_its_ranks() -> None:
    store = dist.HashStore()
    starts = [start(store, size) for size in (3, 3, 2, 4, 3)]
    assert [len(set(names)) for names in starts] == [1] * 5
    assert len({names[0] for names in starts}) == 5


def test_those_who_died_on_the_way_are_in_no_start() -> None:
    store = dist.HashStore()
    before = start(store, 4)
    after = start(store, 4, late=2)
    assert len(set(after)) == 1
    assert after != before


def test_one_that_does_not_come_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.rendezvous.PATIENCE", timedelta(seconds=0.1))
    with pytest.raises(TrainerError, match=r"rank 0: expected 2 ranks within 0:00:00.1\d*, got fewer"):
        name_of_start(dist.HashStore(), 0, 2)


@pytest.mark.parametrize(
    ("fault", "error", "told"),
    [
        (
            "Gloo connectFullMesh failed with no answer\nmore",
            TrainerError,
            "reached .*name the interface .* GLOO_SOCKET",
        ),
        ("CUDA error: out of memory", RuntimeError, "CUDA error: out of memory"),
    ],
)
def test_a_peer_that_cannot_be_reached_is_one_line_and_another_fault_is_itself(
    fault: str, error: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    def store(url: str, timeout: timedelta) -> Iterator[tuple[dist.Store, int, int]]:
        waits.append(timeout)
        yield dist.HashStore(), 0, 1

    def group(backend: str, *, timeout: timedelta, **rest: object) -> None:
        waits.append(timeout)
        raise RuntimeError(fault)

    monkeypatch.setattr("trainer.rendezvous.rendezvous", store)
    monkeypatch.setattr(dist, "init_process_group", group)
    with pytest.raises(error, match=told) as caught:
        join_group("gloo")
    assert caught.type is error
    assert "\n" not in str(caught.value)
    assert waits == [timedelta(minutes=10)] * 2
