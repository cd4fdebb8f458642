"""Limits are rates of work that was done: bytes that were copied, read and unpacked, products that were computed."""

import bz2
import importlib
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import limits
from benchmarks.limits import disk, memory, way
from benchmarks.limits.amount import Amount
from benchmarks.limits.disk import BLOCK, disk_ways
from benchmarks.limits.matrix import matrix_ways
from benchmarks.limits.memory import memory_ways
from benchmarks.limits.way import Setting, Way

TINY = Amount(
    image_bytes=1000, batch=5, batches=3, passes=2, disk_bytes=6 * BLOCK, frames=2, side=8, device_side=8,
    device_bytes=2**20, step_s=1e-4,
)  # fmt: skip
ON_CPU = (
    limits.DISK, limits.matrix(), limits.matrix("fp64", "2 threads"), limits.memory_copy(), limits.memory_copy(2)
)  # fmt: skip
ON_GPU = (
    limits.DEVICE_COPY,
    limits.HOST_TO_DEVICE,
    *(limits.matrix(each, "cuda") for each in ("bf16", "fp32", "tf32")),
)
FRAME_BYTES = (3000, 5000)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A folder, frames of `FRAME_BYTES`, and what was said."""
    for number, count in enumerate(FRAME_BYTES):
        (tmp_path / f"{number}.fits.bz2").write_bytes(bz2.compress(os.urandom(count)))
    said: list[str] = []
    monkeypatch.setattr(disk, "_MOSTLY", 0.0)  # files in memory do: the tests' folder may lie there
    fields = SimpleNamespace(frames=tmp_path)
    pick: Callable[[Any, Any], Any] = lambda quick, full: quick  # noqa: E731
    return SimpleNamespace(
        folder=tmp_path, given=None, threads=(1, 2), fields=fields, pick=pick, say=said.append, said=said
    )


@pytest.fixture
def setting(data: SimpleNamespace) -> Iterator[Setting]:
    with ExitStack() as opened:
        yield Setting(data=data, amount=TINY, opened=opened)


def test_each_is_a_rate_and_only_those_asked_for_are_measured(data: SimpleNamespace):
    report = limits.measure({*ON_CPU, limits.bzip2()}, data, TINY)
    assert (report.stage, data.said) == ("limits", sorted({*ON_CPU, limits.bzip2()}))
    assert [result.name for result in report.results] == data.said
    for result in report.results:
        assert result.unit == ("GFLOP/s" if "matrix" in result.name else "GB/s")
        assert 0 < result.q25 <= result.median <= result.q75 < math.inf
        assert result.runs >= 5
        assert result.limit is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_those_of_a_gpu_are_rates_too(data: SimpleNamespace):
    report = limits.measure(ON_GPU, data, TINY)
    assert [result.name for result in report.results] == sorted(ON_GPU)
    assert all(0 < result.median < math.inf for result in report.results)


def test_gigabytes_are_told_and_the_fastest_way_is_the_limit(data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    ways = [Way(how=how, work=lambda times, count=count: count, params={}) for how, count in (("slow", 1), ("fast", 9))]
    seconds = iter(range(100))
    race = importlib.import_module("benchmarks.timing").race
    measure = importlib.import_module("benchmarks.limits.measure")  # its package calls the function by that name
    monkeypatch.setattr(measure, "disk_ways", lambda setting: ways)
    monkeypatch.setattr(measure, "race", lambda some, rounds: race(some, rounds=rounds, clock=lambda: next(seconds)))
    (result,) = limits.measure([limits.DISK], data).results
    assert (result.name, result.params["how"], result.median) == (limits.DISK, "fast", pytest.approx(9e-9))


@pytest.mark.parametrize(
    "name",
    [
        "limit: speed of light",
        "limit: memory copy, 0 threads",
        "limit: memory copy, 1 threads",
        limits.matrix("fp8"),
        limits.matrix("tf32"),
    ],
)
def test_what_nobody_knows_is_refused_before_anything_is_measured(name: str, data: SimpleNamespace):
    with pytest.raises(ValueError, match=name):
        limits.measure([limits.DISK, name], data, TINY)
    assert data.said == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize("name", ON_GPU)
def test_without_a_gpu_its_limits_are_refused(name: str, data: SimpleNamespace):
    with pytest.raises(ValueError, match=name):
        limits.measure([name], data, TINY)


def test_doubled_is_twice_the_work_of_every_limit(data: SimpleNamespace):
    names, kinds = [], set()
    for once, twice in limits.doubled(data, TINY):
        once.prepare()
        first = once.step()
        twice.prepare()
        assert twice.step() == 2 * first > 0
        names += [once.name, twice.name]
        kinds.add(once.name.partition(" (")[0])
    assert len(names) == len(set(names))
    of_two = {limits.memory_copy(2), limits.bzip2(2), limits.matrix(where="2 threads")}
    assert kinds >= {limits.DISK, limits.memory_copy(), limits.bzip2(), limits.matrix(), *of_two}


@pytest.mark.parametrize("copy", [memory.copy_by_torch, memory.copy_past_caches])
@pytest.mark.parametrize(("start", "count"), [(0, 1), (3, 4096), (61, 70_001)])
def test_a_copy_has_all_bytes_and_writes_no_others(copy: memory.Copy, start: int, count: int):
    source = np.random.default_rng(0).integers(1, 255, count, dtype=np.uint8)
    target = np.zeros(start + count + 64, dtype=np.uint8)
    copy(target[start : start + count], source)
    assert np.array_equal(target[start : start + count], source)
    assert np.count_nonzero(target) == count


def test_a_part_is_copied_in_blocks_of_every_row():
    rows, target = np.arange(1, 31, dtype=np.uint8).reshape(3, 10), np.zeros(10, dtype=np.uint8)
    copied: list[int] = []

    def copy(target: memory.Bytes, source: memory.Bytes) -> None:
        copied.append(len(source))
        target[:] = source

    memory.copy_part(rows, target, copy, block=3, passes=2, begin=1, end=9)
    assert copied == [3, 3, 2] * 3 * 2
    assert target.tolist() == [0, *range(22, 30), 0]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_bytes_counted_are_the_bytes_copied(threads: int, setting: Setting, monkeypatch: pytest.MonkeyPatch):
    copied: list[int] = []
    monkeypatch.setattr(memory, "copy_past_caches", lambda target, source: copied.append(len(source)))
    *_, counting = memory_ways(threads, setting)
    assert counting.work(1) == sum(copied) >= TINY.batches * TINY.batch * TINY.image_bytes


def test_torch_copies_with_one_thread_in_each_of_ours_and_has_its_own_back(
    data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    before, seen = torch.get_num_threads(), set()
    monkeypatch.setattr(memory, "copy_past_caches", lambda target, source: seen.add(torch.get_num_threads()))
    with ExitStack() as opened:
        matrix_ways("fp32", before + 1, Setting(data=data, amount=TINY, opened=opened))
        assert torch.get_num_threads() == before + 1
        *_, asking = memory_ways(2, Setting(data=data, amount=TINY, opened=opened))
        asking.work(1)
    assert (seen, torch.get_num_threads()) == ({1}, before)


def test_each_block_of_the_disk_is_read_once(setting: Setting, monkeypatch: pytest.MonkeyPatch):
    ways, read, preadv = disk_ways(setting), [], os.preadv

    def counting(descriptor: int, buffers: list[Any], offset: int) -> int:
        read.append(offset)
        return preadv(descriptor, buffers, offset)

    monkeypatch.setattr(disk.os, "preadv", counting)
    for each in ways:
        read.clear()
        each.prepare()
        assert each.work(1) == TINY.disk_bytes
        assert sorted(read) == list(range(0, TINY.disk_bytes, BLOCK))


def test_the_file_that_is_read_is_gone_afterwards(data: SimpleNamespace):
    before = sorted(data.folder.iterdir())
    with ExitStack() as opened:
        disk_ways(Setting(data=data, amount=TINY, opened=opened))
        assert sorted(data.folder.iterdir()) != before
    assert sorted(data.folder.iterdir()) == before


def test_of_a_dataset_that_is_given_the_shards_are_read(setting: Setting):
    given = setting.data.folder / "given"
    given.mkdir()
    (given / "00000.tar").write_bytes(bytes(4 * BLOCK + 5))  # more than whole blocks
    (given / "dataset.json").write_bytes(b"{}")
    setting.data.given, setting.data.dataset = given, SimpleNamespace(location=given, path=given)
    before = sorted(setting.data.folder.iterdir())
    for each in disk_ways(setting):
        each.prepare()
        assert (each.work(1), each.work(2)) == (2 * BLOCK, 4 * BLOCK)
    assert sorted(setting.data.folder.iterdir()) == before


def test_a_file_system_without_direct_reads_has_fewer_ways(setting: Setting, monkeypatch: pytest.MonkeyPatch):
    all_ways = disk_ways(setting)
    monkeypatch.setattr(disk, "_DIRECT", 0)
    fewer = disk_ways(setting)
    assert {each.how for each in fewer} <= {each.how for each in all_ways}
    assert [each.how for each in fewer] == [f"through the page cache, {count} at once" for count in (1, 4, 16)]


def test_a_step_on_a_fast_disk_reads_more(setting: Setting):
    longest = replace(setting, amount=replace(TINY, step_s=60.0, disk_most_bytes=24 * BLOCK))
    for each in disk_ways(longest):
        assert (each.work(1), each.work(2)) == (24 * BLOCK, 48 * BLOCK)


def test_shards_that_stay_in_memory_are_not_read_and_nothing_is_where_files_do(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
):
    given = setting.data.folder / "given"
    given.mkdir()
    (given / "00000.tar").write_bytes(bytes(2 * BLOCK))
    setting.data.given, setting.data.dataset = given, SimpleNamespace(location=given, path=given)
    monkeypatch.setattr(disk, "_MOSTLY", 0.5)
    monkeypatch.setattr(disk, "_DIRECT", 0)
    seen = iter([0, 0] * 3 + [0, 10 * TINY.disk_bytes] * 3)
    monkeypatch.setattr(disk, "_bytes_read", lambda: next(seen))
    assert {each.work(1) for each in disk_ways(setting)} == {TINY.disk_bytes}
    monkeypatch.setattr(disk, "_bytes_read", lambda: 0)
    report = limits.measure([limits.DISK, limits.matrix()], setting.data, TINY)
    assert [result.name for result in report.results] == [limits.matrix()]
    assert "stay in memory" in report.left_out[limits.DISK]
    assert not any(once.name.startswith(limits.DISK) for once, _ in limits.doubled(setting.data, TINY))


@pytest.mark.parametrize(
    "lacking", [OSError(28, "No space left on device"), MemoryError(), torch.OutOfMemoryError("x")]
)
def test_a_limit_that_fails_costs_only_itself(
    lacking: Exception, data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
):
    def full(setting: Setting, count: int) -> list[disk.Piece]:
        raise lacking

    monkeypatch.setattr(disk, "_written", full)
    report = limits.measure([limits.DISK, limits.matrix()], data, TINY)
    assert [result.name for result in report.results] == [limits.matrix()]
    assert report.left_out == {limits.DISK: str(lacking) or "MemoryError"}


def test_the_bytes_of_frames_count_unpacked(data: SimpleNamespace):
    pairs = (pair for pair in limits.doubled(data, TINY) if pair[0].name.startswith(limits.BZIP2))
    once, _ = next(pairs)
    assert once.step() == sum(FRAME_BYTES)
    pairs.close()


def test_a_product_is_two_flop_for_each_of_side_cubed(setting: Setting, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(way, "perf_counter", iter([0.0, 1.0]).__next__)  # longer than a step: done once
    (product,) = matrix_ways("fp32", 1, setting)
    assert product.work(1) == 2 * TINY.side**3
    assert product.params == {"threads": 1, "side": TINY.side}


def test_work_is_repeated_to_fill_a_step_and_waited_for(monkeypatch: pytest.MonkeyPatch):
    log: list[str] = []
    monkeypatch.setattr(way, "perf_counter", iter([0.0, 0.3]).__next__)
    found = way.repeated("fake", lambda: log.append("once"), 5, {}, step_s=1.0, sync=lambda: log.append("wait"))
    log.clear()
    assert found.work(1) == 4 * 5
    assert log == ["once"] * 4 + ["wait"]
    assert found.work(2) == 8 * 5
