"""The order of samples, as laws."""

import json
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharding import DatasetError, Order, State
from sharding.members import Members
from sharding.order import permuted

SEEDS = st.integers(0, 2**63 - 1)
SIZES = st.integers(1, 150)


@given(size=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 1000))
def test_an_epoch_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    assert sorted(permuted(np.arange(size), size, seed=seed, epoch=epoch)) == list(range(size))


@given(size=st.integers(1, 10**12), seed=SEEDS, data=st.data())
def test_a_place_needs_no_other_place(size: int, seed: int, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20))
    together = permuted(places, size, seed=seed, epoch=3)
    assert [int(permuted([place], size, seed=seed, epoch=3)[0]) for place in places] == together.tolist()
    assert ((together >= 0) & (together < size)).all()


@given(members=st.sets(st.integers(0, 700), min_size=1), data=st.data())
def test_a_member_is_found_by_its_number(members: set[int], data: st.DataObject) -> None:
    ascending = np.array(sorted(members))
    numbers = data.draw(st.lists(st.integers(0, len(members) - 1), max_size=20))
    found = Members(ascending)
    assert len(found) == len(members)
    assert np.array_equal(found.at(np.array(numbers, dtype=np.int64)), ascending[numbers])


def together(order: Order, state: State, batch: int, ranks: int) -> tuple[list[int], State]:
    """The parts of all ranks, one after the other, and the state after them, on which all must agree."""
    parts = [order.take(state, batch, rank, ranks) for rank in range(ranks)]
    sizes = [len(indices) for indices, _ in parts]
    assert max(sizes) - min(sizes) <= 1
    assert len({following for _, following in parts}) == 1
    return [int(i) for indices, _ in parts for i in indices], parts[0][1]


@given(size=SIZES, batch=st.integers(1, 160), ranks=st.integers(1, 9), drop_last=st.booleans(), seed=SEEDS)
def test_an_epoch_hands_out_each_sample_once(size: int, batch: int, ranks: int, drop_last: bool, seed: int) -> None:
    members = np.arange(size) * 3 + 1
    order = Order(members, seed, drop_last=drop_last)
    if drop_last and batch > size:
        with pytest.raises(DatasetError, match=f"global batch must be 1 to {size} .the samples., got {batch}"):
            together(order, order.start, batch, ranks)
        return
    state, seen = order.start, []
    for _ in range(order.batches_per_epoch(batch)):
        indices, state = together(order, state, batch, ranks)
        assert 0 < len(indices) <= batch
        seen += indices
    assert state.epoch == 0
    assert len(seen) == len(set(seen)) == (size // batch * batch if drop_last else size)
    assert set(seen) <= set(members.tolist())
    assert together(order, state, batch, ranks)[1].epoch == 1


@given(
    size=SIZES,
    share=st.floats(0, 1),
    ranks=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    steps=st.integers(1, 12),
    stop=st.integers(0, 12),
    drop_last=st.booleans(),
)
def test_a_run_that_goes_on_with_other_ranks_has_the_sequence_of_an_uninterrupted_one(
    size: int, share: float, ranks: tuple[int, int], steps: int, stop: int, drop_last: bool
) -> None:
    batch = 1 + int(share * (size - 1))
    order = Order(np.arange(size) * 10, 5, dataset="d1", drop_last=drop_last)
    stride = size // batch * batch if drop_last else size
    epochs = [order.at(epoch, np.arange(size))[:stride].tolist() for epoch in range(steps)]
    whole = [epoch[first : first + batch] for epoch in epochs for first in range(0, stride, batch)]
    state, taken = order.start, []
    for step in range(steps):
        if step == stop:
            state = State.from_dict(json.loads(json.dumps(state.as_dict())))  # as a checkpoint stores it
            order = Order(np.arange(size) * 10, 5, dataset="d1", drop_last=drop_last)
        indices, state = together(order, state, batch, ranks[step >= stop])
        taken.append(indices)
    assert taken == whole[:steps]


@given(size=SIZES, position=st.integers(0, 150), batch=st.integers(1, 150), drop_last=st.booleans())
def test_a_run_may_go_on_with_another_batch_from_any_position(
    size: int, position: int, batch: int, drop_last: bool
) -> None:
    position, batch = min(position, size), min(batch, size)
    order = Order(np.arange(size), 9, drop_last=drop_last)
    left = size - position
    indices, state = order.take(State(9, epoch=4, position=position), batch)
    if left >= batch or (left and not drop_last):
        assert np.array_equal(indices, order.at(4, np.arange(position, min(position + batch, size))))
        assert state == State(9, 4, position + len(indices))
    else:  # what is left does not fill the batch: the next epoch begins
        assert np.array_equal(indices, order.at(5, np.arange(batch)))
        assert state == State(9, 5, batch)


def test_every_place_goes_everywhere_equally_often() -> None:
    """Chi-squared of how often each of n places went to each of n indices, in E epochs.

    A place goes to one index, and an index is taken once, an epoch: the counts have (n - 1)^2 degrees of freedom, and
    for random permutations (n - 1) / n sum (count - E/n)^2 / (E/n) is chi-squared with as many. For 1296 of them it is
    normal enough: 1296 with sigma sqrt(2 * 1296) = 51. Too even is as wrong as too uneven; 4 sigma.
    """
    size, epochs = 37, 1500  # 37 of the network's 64 places: some walk
    counts = np.zeros((size, size))
    for epoch in range(epochs):
        counts[np.arange(size), permuted(np.arange(size), size, seed=2, epoch=epoch)] += 1
    expected = epochs / size
    statistic = (size - 1) / size * ((counts - expected) ** 2 / expected).sum()
    freedom = (size - 1) ** 2
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("size", [4096, 5000])  # all of the network's places, and some of 16384
def test_epochs_seeds_and_neighbouring_places_have_nothing_in_common(size: int) -> None:
    """Pairs of independent permutations: r is 0 with sigma 1 / sqrt(size - 1); equal at one place on average."""
    orders = [permuted(np.arange(size), size, seed=seed, epoch=epoch) for seed in (6, 7) for epoch in range(12)]
    pairs = [(one, two) for place, one in enumerate(orders) for two in orders[:place]]
    correlations = np.array([np.corrcoef(one, two)[0, 1] for one, two in pairs])
    lagged = np.array([np.corrcoef(one[:-1], one[1:])[0, 1] for one in orders])
    # 276 + 24 draws: beyond 5 sigma once in 6,000 such tests. Their mean square is 1 / (size - 1), times
    # chi-squared with 276 degrees of freedom / 276, sigma sqrt(2 / 276) = 0.085.
    assert abs(np.concatenate([correlations, lagged])).max() < 5 / np.sqrt(size - 2)
    assert abs((correlations**2).mean() * (size - 1) - 1) < 5 * 0.085
    equal = sum(int((one == two).sum()) for one, two in pairs)  # Poisson with mean 276
    assert abs(equal - len(pairs)) < 5 * np.sqrt(len(pairs))


def test_golden_order() -> None:
    """Frozen on 2026-11-24: a change here makes every saved run continue in another order."""
    assert permuted(np.arange(8), 8, seed=0, epoch=0).tolist() == [0, 7, 6, 3, 5, 4, 2, 1]
    order = Order(np.flatnonzero(np.arange(1000) ** 2 % 7 < 3), 11)
    first, _ = order.take(State(11, epoch=3), 12)
    assert first.tolist() == [69, 526, 144, 623, 528, 143, 337, 73, 399, 524, 129, 330]
    large = Order(np.arange(5, 300005, 3), 2**40 + 1).at(2, np.arange(100_000))
    assert zlib.crc32(large.astype("<i8").tobytes()) == 3344473906


def test_ten_million_members_take_less_than_4_mb_and_their_array_is_not_kept() -> None:
    members = np.flatnonzero(np.arange(15_000_000, dtype=np.int32) % 3)
    some = np.random.default_rng(0).integers(0, len(members), 1000)
    expected = members[some]
    tracemalloc.start()
    try:
        found = Order(members, 0).members
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 4e6
    members[:] = 0
    assert np.array_equal(found.at(some), expected)


@pytest.mark.parametrize(("rank", "ranks"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_that_is_not_one_of_the_ranks_is_refused(rank: int, ranks: int) -> None:
    with pytest.raises(DatasetError, match="cannot be shared"):
        Order(np.arange(50), seed=0).take(State(0), 10, rank, ranks)


@pytest.mark.parametrize("drop_last", [False, True])
def test_an_empty_batch_is_refused(drop_last: bool) -> None:
    order = Order(np.arange(50), 0, drop_last=drop_last)
    with pytest.raises(DatasetError, match=r"global batch must be .*, got 0"):
        order.take(order.start, 0)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State(1, dataset="aa"), "state is of seed 1, this order of seed 0"),
        (State(0, dataset="bb"), "state is of dataset bb, this order of aa"),
        (State(0), r"state is of dataset \(none\), this order of aa"),
        (State(0, 2, 51, "aa"), "position 51 of an epoch of 50 samples"),
    ],
)
def test_a_state_of_something_else_is_refused_in_a_line(state: State, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason) as caught:
        Order(np.arange(50), seed=0, dataset="aa").take(state, 10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"seed": "0"}, {"epoch": 1.0}, {"position": None}, {"position": True}, {"dataset": 7}, {"more": 1}, {"epoch": -1}],
)
def test_what_is_not_a_state_is_refused(change: dict[str, object]) -> None:
    whole = State(3, 1, 7, "aa").as_dict()
    assert State.from_dict(whole) == State(3, 1, 7, "aa")
    with pytest.raises(DatasetError, match="reader state"):
        State.from_dict(whole | change)
    with pytest.raises(DatasetError, match="reader state: expected"):
        State.from_dict({"seed": 3, "epoch": 1, "position": 7})


@pytest.mark.parametrize("members", [[1, 1], [2, 1], [-1, 2], [0.0, 1.0], [True, False], [[0, 1]]])
def test_members_that_do_not_ascend_are_refused(members: list[object]) -> None:
    with pytest.raises(DatasetError, match="members: expected"):
        Order(np.array(members), seed=0)


def test_no_samples_is_an_error() -> None:
    with pytest.raises(DatasetError, match="no sample"):
        Order([], seed=0)


@pytest.mark.parametrize("number", [-1, 3])
def test_there_is_no_member_beyond_the_last(number: int) -> None:
    with pytest.raises(IndexError, match=r"\[0, 3\)"):
        Members([4, 7, 9]).at([number])
