"""The train benchmark: its steps, points, ranks and losses, on tiny networks. No speed is asserted."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from benchmarks import infonce
from benchmarks.practice import Practice
from benchmarks.results import Ratio, Result
from benchmarks.stages import train
from benchmarks.timing import Contender, summary
from benchmarks.training import losses, peers, points, ranks
from benchmarks.training.galaxies import BANDS, PIXEL_BYTES, galaxies_for
from benchmarks.training.step import described, limit_of, make_views, own_step, repeated, settings_for
from trainer.config import EncoderConfig, PretrainConfig
from trainer.distributed import Ranks
from trainer.flops import pretrain_step_flops

CPU = torch.device("cpu")
ONE = Ranks(0, 1, CPU)
TINY = PretrainConfig(
    encoder=EncoderConfig(depth=10, width=2),
    view_px=16,
    batch=8,
    queue=32,
    embedding=8,
    batch_norm_groups=2,
    epochs=999,
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Practice:
    """A practice of tiny networks, short queues and two threads."""
    for module in (points, ranks):
        monkeypatch.setattr(module, "settings_for", lambda device: TINY)
    changes = {"batch": {"batch 4": 4}, "view_px": {"8 pixels": 8}, "queue": {"queue 64": 64}}
    monkeypatch.setattr(points, "_changes", lambda data, device: changes)
    monkeypatch.setattr(Practice, "threads", (1, 2))
    return Practice(folder=tmp_path)


def test_peers_take_the_same_steps_as_ours(tmp_path: Path):
    """With batch norm over the whole batch, in fp32: the loss of each step is ours, while the queue goes round."""
    settings = replace(TINY, batch_norm_groups=1)
    plain = peers.steps(settings, CPU)[0][peers.PLAIN]
    with galaxies_for(tmp_path / "galaxies", settings) as dataset:
        own = own_step(settings, dataset, ONE)
    for seed in range(6):
        views = make_views(settings, ONE, seed)
        assert_close(own(replace(views, keys=views.keys[views.order])), plain(views), rtol=1e-4, atol=0.0)


def test_who_cannot_be_imported_is_left_out(monkeypatch: pytest.MonkeyPatch):
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(peers, "import_module", broken)
    steps, left_out = peers.steps(TINY, CPU)
    assert steps.keys() == {peers.PLAIN}
    assert "torchvision::nms" in left_out[peers.LIGHTLY]
    assert peers.SOLO in left_out


def test_a_step_with_each_batch_counts_all_galaxies():
    seen = []
    views = [make_views(TINY, ONE, seed) for seed in range(2)]
    assert repeated(lambda one: seen.append(one) or torch.zeros(()), views)() == 2 * TINY.batch
    assert seen == views
    assert not torch.equal(views[0].queries, views[1].queries)
    assert views[0].keys.shape == (TINY.batch, BANDS, TINY.view_px, TINY.view_px)


def test_ranks_have_their_parts_of_a_batch():
    shared = ranks.over_ranks(TINY, 4)
    assert (shared.batch, shared.batch_norm_groups, shared.queue) == (32, 8, 32)
    assert len(make_views(shared, Ranks(3, 4, CPU)).queries) == TINY.batch


def test_a_galaxy_takes_the_flops_that_the_trainer_counts():
    limit = limit_of(TINY, CPU, 2)
    assert limit.name == "limit: matrix product, fp32, 2 threads"
    assert limit.per_item * 1e9 == pretrain_step_flops(TINY, BANDS) == described(TINY, CPU, 2)["flop_per_image"]
    assert limit_of(replace(TINY, precision="bf16"), torch.device("cuda"), 2).name.endswith("bf16, cuda")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("full", [False, True])
def test_every_point_is_unlike_the_base_on_its_axis_alone(full: bool, device: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Practice, "threads", (1, 2, 4))
    base, *others = points.points(Practice(folder=Path(), full=full), torch.device(device))
    assert base == points.Point(
        name=points.IN_MEMORY, axis=None, settings=settings_for(torch.device(device)), threads=4
    )
    for point in others:
        unlike = {name for name in ("threads", "settings") if getattr(point, name) != getattr(base, name)}
        assert unlike == {"threads" if point.axis == "threads" else "settings"}
        if point.axis != "threads":
            changed = {point.axis: getattr(point.settings, point.axis)}
            assert replace(base.settings, **changed) == point.settings
    assert len({point.name for point in (base, *others)}) == 1 + len(others)


def test_curves_ascend_with_the_base_among_their_points():
    found = {curve.axis: curve.lines["skymill"] for curve in points.curves(points.points(Practice(folder=Path()), CPU))}
    name = points.IN_MEMORY
    assert found["batch"] == (f"{name}, batch 16", f"{name}, batch 32", name)
    assert found["precision"] == (name, f"{name}, bf16")


def test_the_stage_measures_steps_ranks_and_losses(data: Practice, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(losses, "QUEUES", (4096,))
    monkeypatch.setattr(infonce, "measure", _made_up_costs)
    monkeypatch.setattr(ranks, "spawn_ranks", _made_up_ranks)
    threads = torch.get_num_threads()
    report = train.run(data)
    data.opened.close()
    assert torch.get_num_threads() == threads
    names = {result.name for result in report.results}
    assert {points.IN_MEMORY, peers.named(peers.PLAIN), losses.named(4096, "plain")} <= names
    assert {ranks.ALONE, ranks.by_itself(2), ranks.together(2)} <= names
    assert all(result.median > 0 and result.limit is not None for result in report.results)
    assert report.own == points.IN_MEMORY
    assert {curve.axis for curve in report.curves} == {"threads", "batch", "view_px", "queue", "ranks"}
    for curve in report.curves:
        for name in (name for line in curve.lines.values() for name in line):
            assert curve.axis in next(result.params for result in report.results if result.name == name)
    own = next(result for result in report.results if result.name == report.own)
    assert (own.params["threads"], own.bytes_per_image) == (2, PIXEL_BYTES)


def test_what_a_gpu_has_no_memory_for_is_left_out_but_for_the_base():
    def too_large() -> int:
        raise torch.OutOfMemoryError

    ways = [
        Contender(name=name, step=step, bytes_per_image=1, params={})
        for name, step in {"small": lambda: 1, "large": too_large, points.IN_MEMORY: lambda: 1}.items()
    ]
    assert train._too_large(ways) == {"large": "the GPU has too little memory"}
    with pytest.raises(torch.OutOfMemoryError):
        train._too_large([replace(ways[2], step=too_large)])


def test_two_ranks_step_alone_at_once_and_together(tmp_path: Path):
    results = {result.name: result for result in ranks.spawn_ranks(2, TINY, tmp_path, rounds=1)}
    assert [result.params["ranks"] for result in results.values()] == [1, 2, 2]
    assert results.keys() == {ranks.ALONE, ranks.by_itself(2), ranks.together(2)}
    assert all(result.params["batch"] == TINY.batch and result.params["threads"] == 1 for result in results.values())
    assert results[ranks.together(2)].limit == limit_of(ranks.over_ranks(TINY, 2), CPU, 2)


@pytest.mark.parametrize(("free_gib", "share"), [(64.0, 0.004), (3.0, None)])
def test_the_memory_of_the_longest_queue_is_promised(free_gib, share, tmp_path, monkeypatch):
    """With too little memory for the plain loss its rate and the promise go unmeasured, and that is said."""
    monkeypatch.setattr(infonce, "measure", _made_up_costs)
    monkeypatch.setattr(losses, "_free_gib", lambda device: free_gib)
    report = losses.measure(Practice(folder=tmp_path), CPU, losses.QUEUES)
    (promise,) = report.promises
    assert (promise.measured, promise.at_most, bool(promise.missing)) == (share, 0.05, share is None)
    assert report.left_out.keys() == (set() if share else {losses.named(losses.LONGEST, way) for way in infonce.LOSSES})
    assert set(report.left_out.values()) <= {promise.missing}
    short, *long = (ratio for ratio in report.ratios)
    assert short == Ratio(first=losses.named(65_536, "streaming"), second=losses.named(65_536, "plain"))
    assert len(long) == (share is not None)
    rates = {result.name: result.median for result in report.results}
    assert rates[short.first] == 4 * rates[short.second] == losses.BATCH / 0.25


def test_under_torchrun_the_one_rank_is_alone(data: Practice, monkeypatch: pytest.MonkeyPatch):
    assert not ranks.under_torchrun()
    for name, value in {"RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert ranks.under_torchrun()
    report = ranks.measure(data)
    assert report is not None
    assert report.own == ranks.ALONE
    assert report.curves == ()


def test_what_is_doubled_is_truly_twice_as_much(data: Practice, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(losses, "_DOUBLED_QUEUE", 128)
    before = torch.get_num_threads()
    pairs = list(train.doubled(data))
    assert torch.get_num_threads() == before
    names = [once.name.removesuffix(", once") for once, _ in pairs]
    assert {points.IN_MEMORY, peers.named(peers.PLAIN), losses.named(128, "plain")} <= set(names)
    for once, twice in pairs:
        assert 2 * once.step() == twice.step() > 0
        assert once.name != twice.name


def _made_up_ranks(size: int, settings: PretrainConfig, folder: Path, rounds: int) -> tuple[Result, ...]:
    limit, names = (
        limit_of(settings, CPU, size),
        {ranks.ALONE: 1, ranks.by_itself(size): size, ranks.together(size): size},
    )
    return tuple(summary(name, "images/s", [1.0], 1, {"ranks": working}, limit) for name, working in names.items())


def _made_up_costs(queue: int, **how: object) -> dict[str, infonce.Cost]:
    return {
        "streaming": infonce.Cost(seconds=(0.25,) * 3, extra_mb=4.0),
        "plain": infonce.Cost(seconds=(1.0,) * 3, extra_mb=1000.0),
    }
