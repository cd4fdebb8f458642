"""The whole chain on a tiny network, and other people's loaders. No speed is asserted."""

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from augment import Preset
from augment.extinction import gain
from benchmarks.chain import feeding, loaders, measure, running
from benchmarks.chain.containers import r_dr12, write_hdf5, write_tars
from benchmarks.chain.loaders import Files
from benchmarks.chain.views import Hdf5Pairs, Recipe, TorchPairs, by_skimage, dali_pipeline
from benchmarks.chain.watch import Watch
from benchmarks.errors import BenchmarkError
from benchmarks.limits import HOST_TO_DEVICE
from benchmarks.practice import Practice
from benchmarks.results import Limit
from benchmarks.training.galaxies import galaxies_for
from sharding import Dataset
from trainer.config import EncoderConfig, PretrainConfig
from trainer.distributed import Ranks
from trainer.pretrain import Pretraining

CPU = torch.device("cpu")
ONE = Ranks(0, 1, CPU)
TINY = PretrainConfig(
    encoder=EncoderConfig(depth=10, width=1), view_px=8, batch=8, queue=16, embedding=8, batch_norm_groups=1, epochs=999
)
BANDS = ("u", "g", "r", "i", "z")


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run beside others, for whose cores torch's threads would wait."""
    for module in (measure, feeding, loaders):
        monkeypatch.setattr(module, "available_cores", lambda: 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    with galaxies_for(tmp_path_factory.mktemp("galaxies") / "dataset", replace(TINY, batch=20, queue=20)) as found:
        yield found


def recipe(chosen: Preset | None = None, **changes: object) -> Recipe:
    """Views that are the dereddened centre of a stamp."""
    made = Recipe(
        preset=chosen or Preset(), bands=BANDS, mad=np.full(5, 0.1, np.float32), stamp_px=31, view_px=8, batch=4,
        device=CPU,
    )  # fmt: skip
    return replace(made, **changes)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_shares_are_of_the_time_looked_at_and_threads_count_once():
    clock = Clock()
    watch = Watch(clock=clock)
    with watch.at("read"), watch.at("read"):  # before anybody looks, and for one second of the look
        clock.now = 2.0
        look = watch.looking()
        look.__enter__()
        clock.now = 3.0
    with watch.at("train"):
        clock.now = 6.0
    look.__exit__(None, None, None)
    with watch.at("train"):
        clock.now = 99.0
    assert watch.shares() == {"read": 0.25, "train": 0.75}


def test_a_delay_is_slept_in_its_own_work_only(monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    monkeypatch.setattr("benchmarks.chain.watch.sleep", slept.append)
    watch = Watch({"read": 0.01})
    for work in ("read", "train"):
        watch.delay(work)
    assert slept == [0.01]


def test_each_stage_is_measured_alone_and_all_at_once(dataset: Dataset):
    results, chain = measure.chained(Pretraining(TINY, dataset, ONE), rounds=1, seconds=0.001)
    assert [result.name for result in results] == [measure.READ, measure.AUGMENT, measure.STEP, measure.WHOLE]
    assert all(result.limit is not None and result.limit.per_item > 0 for result in results)
    assert chain.alone.keys() == chain.busy.keys() == {"read", "augment", "train"}
    assert all(0 < share <= 1 for share in chain.busy.values())
    assert 0 <= chain.waiting < 1
    assert chain.busy["augment"] + chain.busy["train"] + chain.waiting <= 1  # they take turns on a CPU
    assert results[-1].params["train_share"] == pytest.approx(chain.busy["train"], abs=1e-4)
    assert (chain.encoding, chain.pixels, chain.batch) == ("float32", 5 * 107 * 107, 8)


def test_delays_are_put_in_once_a_batch(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    monkeypatch.setattr("benchmarks.chain.watch.sleep", slept.append)
    delays = {"augment": 1.0, "train": 2.0}
    with running.started(Pretraining(TINY, dataset, ONE), delays) as run:
        slept.clear()  # of the batch in memory that others work on
        assert run.whole(3) == 24
        assert slept == [1.0, 2.0] * 3
        assert run.augment(2) == 16
        assert slept[6:] == [1.0, 1.0]
        assert run.train(1) == 8
        assert slept[8:] == [2.0]


def test_reading_is_delayed_in_its_threads(dataset: Dataset, monkeypatch: pytest.MonkeyPatch):
    slept: list[float] = []
    monkeypatch.setattr("benchmarks.chain.watch.sleep", slept.append)
    settings = replace(TINY, read_threads=1)
    with running.started(Pretraining(settings, dataset, ONE), {"read": 1.0}) as run:
        assert run.read(5) == 40
    assert len(slept) >= 5 + 1  # and the batch in memory


def test_the_run_takes_the_trainers_own_views(dataset: Dataset):
    """Watched, delayed or not: what it learns from is what `pretrain` would."""
    training = Pretraining(TINY, dataset, ONE)
    with running.started(training) as run:
        own = Pretraining(TINY, dataset, ONE)
        pair = next(run.pairs(training.order))
        expected = own.stamps.render(own.stamps.read(pair.unique), own.plan(pair))
        _, views = next(run.feed(training.order))
        assert torch.equal(views(), expected)


def test_a_batch_is_no_larger_than_the_dataset(dataset: Dataset):
    galaxies = measure.trained_on(dataset)
    assert 16 < galaxies <= 40
    assert measure.fitting(replace(TINY, batch=64, queue=64), dataset).batch <= galaxies
    assert measure.fitting(TINY, dataset).batch == 8
    with pytest.raises(
        BenchmarkError, match=f"expected at least 64 galaxies outside of the test split, got {galaxies}"
    ):
        measure.fitting(replace(TINY, batch=64, queue=64, batch_norm_groups=32), dataset)


def test_the_whole_stage_reports_peers_promises_and_a_curve(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(measure, "settings_for", lambda device: TINY)
    missing = dict.fromkeys((feeding.HDF5, feeding.WEBDATASET), ("a_missing_package",))
    monkeypatch.setattr(feeding, "_NEEDED", missing | {feeding.DALI: ()})
    monkeypatch.setattr(feeding, "by_dali", breaking)
    least = {int: 1, float: 0.001}  # of rounds, batches and seconds
    monkeypatch.setattr(Practice, "pick", lambda data, quick, full: least.get(type(quick), quick))
    data = Practice(folder=tmp_path, given=dataset.location)
    threads = torch.get_num_threads()
    with data:
        report, chain = measure.run(data)
    assert torch.get_num_threads() == threads
    assert report.stage == "whole"
    assert report.own is None
    assert report.left_out[feeding.HDF5] == "a_missing_package cannot be imported"
    assert report.left_out[feeding.DALI] == "failed: RuntimeError: no such operator"
    assert not set(report.left_out) & set(report.footing)
    on_gpu, waiting = report.kept()
    assert (on_gpu.measured is None) == (not torch.cuda.is_available())
    assert waiting.measured == chain.waiting
    assert waiting.what == "whole: waiting for reads, share of the step"
    (curve,) = report.curves
    assert curve.lines["skymill"] == (f"{measure.WHOLE}, batch 4", measure.WHOLE)
    assert feeding.OURS in {result.name for result in report.results}


def test_a_batch_that_was_cut_is_told(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "settings_for", lambda device: replace(TINY, batch=64, queue=64))
    monkeypatch.setattr(measure, "_batches", lambda settings, dataset, data: [])
    monkeypatch.setattr(feeding, "_NEEDED", dict.fromkeys(feeding._NEEDED, ("a_missing_package",)))
    least = {int: 1, float: 0.001}  # of rounds, batches and seconds
    monkeypatch.setattr(Practice, "pick", lambda data, quick, full: least.get(type(quick), quick))
    with Practice(folder=tmp_path, given=dataset.location) as data:
        report, chain = measure.run(data)
    assert {result.params["batch_wanted"] for result in report.results} == {64}
    assert chain.batch < 64


def breaking(files: Files, recipe: Recipe) -> loaders.Pairs:
    """A loader that fails once it has begun."""
    yield 4
    raise RuntimeError("no such\noperator")


def test_without_a_dataset_random_images_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Practice, "pick", lambda data, quick, full: quick // 64)
    with Practice(folder=tmp_path) as data:
        made = measure._dataset(data, CPU)
        assert len(made) == 32
        assert Pretraining(TINY, made, ONE).stamps.read(np.arange(2)).stored.float().std() > 0.2


def test_a_batch_for_which_a_gpu_has_no_memory_is_left_out(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def too_large(*given: object) -> None:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(measure, "_whole", too_large)
    name = f"{measure.WHOLE}, batch 4"
    assert measure._others(TINY, dataset, Practice(folder=tmp_path)) == ((), {name: "the GPU has too little memory"})


def test_a_batch_that_was_cut_does_not_keep_the_papers_promise(dataset: Dataset):
    _, chain = measure.chained(Pretraining(TINY, dataset, ONE), rounds=1, seconds=0.001)
    on_gpu = replace(chain, device="cuda")
    first, waiting = measure._promises(on_gpu, cut=True)
    assert (first.measured, first.missing) == (None, "the dataset is too small for the paper's batch")
    assert list(measure._promises(on_gpu, cut=False)) == [waiting]


def test_on_a_gpu_pixels_are_limited_by_their_way_there(dataset: Dataset):
    assert measure._delivered(dataset, TINY, cuda=True) == Limit(HOST_TO_DEVICE, dataset.pixel_bytes / 1e9)


def test_only_what_learns_has_a_count_of_operations(dataset: Dataset):
    results, _ = measure.chained(Pretraining(TINY, dataset, ONE), rounds=1, seconds=0.001)
    learning = [result for result in results if "flop_per_image" in result.params]
    assert [result.name for result in learning] == [measure.STEP, measure.WHOLE]
    assert all(each.params["flop_per_image"] == pytest.approx(each.limit.per_item * 1e9) for each in learning)


def test_doubled_is_twice_the_work(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "settings_for", lambda device: TINY)
    monkeypatch.setattr(measure, "_enough", lambda way, seconds, waited: 2)
    monkeypatch.setattr(feeding, "doubled", lambda run, data: iter(()))
    data = Practice(folder=tmp_path, given=dataset.location)
    found = []
    for once, twice in measure.doubled(data):
        once.prepare()
        found.append((once.name, once.step(), twice.step()))
    assert found == [(name, 16, 32) for name in (measure.READ, measure.AUGMENT, measure.STEP, measure.WHOLE)]


def dereddened(images: np.ndarray, ebv: np.ndarray) -> np.ndarray:
    """The centre of the stamps, about pixel (15, 15), which lands on (4, 4); the dust taken away."""
    factor = gain(torch.from_numpy(-ebv), BANDS).float().numpy()
    return images[:, :, 11:19, 11:19] * factor[:, :, None, None]


@pytest.fixture(scope="module")
def stamps() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.standard_normal((12, 5, 31, 31), dtype=np.float32), rng.uniform(0, 0.2, 12).astype(np.float32)


def test_scikit_image_makes_the_same_view_where_nothing_is_drawn(stamps: tuple[np.ndarray, np.ndarray]):
    images, ebv = stamps
    rng = np.random.default_rng(0)
    views = [by_skimage(image, e * r_dr12(BANDS), recipe(), rng) for image, e in zip(images, ebv, strict=True)]
    np.testing.assert_allclose(np.stack(views), dereddened(images, ebv), atol=2e-5)


def test_torch_makes_the_same_view_where_nothing_is_drawn(stamps: tuple[np.ndarray, np.ndarray]):
    images, ebv = map(torch.from_numpy, stamps)
    views = TorchPairs(recipe())([images, ebv[:, None]])
    assert views.shape == (2, 12, 5, 8, 8)
    np.testing.assert_allclose(views[1].numpy(), dereddened(*stamps), atol=2e-5)


def test_dali_makes_the_same_view_where_nothing_is_drawn(stamps: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    pytest.importorskip("nvidia.dali")
    images, ebv = stamps
    files = written(tmp_path, images, ebv)
    pipeline = dali_pipeline(files.tars, recipe(batch=12), 1, files.headers)
    first, _ = (np.asarray(output.as_tensor())[..., 0] for output in pipeline.run())
    expected = dereddened(images, ebv)
    for view in first:  # shuffled, and with a shuffle of few some come twice
        assert np.abs(expected - view).max(axis=(1, 2, 3)).min() < 1e-4


@pytest.mark.parametrize("name", ["skimage", "torch"])
def test_numbers_are_drawn_for_each_view(name: str, stamps: tuple[np.ndarray, np.ndarray]):
    """Noise of one to three times the MAD, no other change: its rms over all views lies between."""
    images, ebv = np.zeros_like(stamps[0]), stamps[1]
    noisy, rng = recipe(Preset(mad_factor=(1.0, 3.0), max_shift_px=7, angle_deg=(0.0, 360.0))), np.random.default_rng(1)
    if name == "torch":
        views = TorchPairs(noisy)([torch.from_numpy(images), torch.from_numpy(ebv)[:, None]]).numpy()[0]
    else:
        views = np.stack([by_skimage(image, r_dr12(BANDS) * 0.1, noisy, rng) for image in images])
    assert 0.1 < views.std() < 0.3
    assert not np.array_equal(views[0], views[1])


def written(folder: Path, images: np.ndarray, ebv: np.ndarray) -> Files:
    from benchmarks.chain.containers import header_bytes

    write_hdf5(folder / "images.hdf5", images, ebv, BANDS)
    tars = write_tars(folder / "tars", images, ebv, 4)
    headers = header_bytes(images[0]), header_bytes(ebv[:1])
    return Files(hdf5=folder / "images.hdf5", tars=tars, images=len(images), headers=headers)


@pytest.mark.parametrize("by", [loaders.by_hdf5, loaders.by_webdataset, loaders.by_dali])
def test_loaders_are_endless_and_leave_no_process(
    by: Callable[[Files, Recipe], loaders.Pairs], stamps: tuple[np.ndarray, np.ndarray], tmp_path: Path
):
    for package in ("webdataset", "nvidia.dali", "h5py", "skimage"):
        pytest.importorskip(package)
    pairs = by(written(tmp_path, *stamps), recipe(Preset(angle_deg=(0.0, 360.0), max_shift_px=2, ebv_mag=(0.0, 0.5))))
    assert list(islice(pairs, 8)) == [4] * 8  # of 12 images
    pairs.close()
    assert not multiprocessing.active_children()


def test_the_hdf5_file_is_as_published(stamps: tuple[np.ndarray, np.ndarray], tmp_path: Path):
    """`e_bv` holds extinctions, of which the mean of A / R is E(B-V); a pair of views is an item."""
    images, ebv = stamps
    files = written(tmp_path, images, ebv)
    pair = Hdf5Pairs(files.hdf5, 12, recipe())[7]
    assert pair.shape == (2, 5, 8, 8)
    np.testing.assert_allclose(pair[0].numpy(), dereddened(images, ebv)[7], atol=2e-5)


def test_every_peer_has_its_footing():
    peers = {ratio.second for ratio in feeding.RATIOS}
    assert set(feeding.FOOTING) == peers == set(feeding._NEEDED)


def test_ours_is_fed_the_same_galaxies_as_the_peers(dataset: Dataset, tmp_path: Path):
    with running.started(Pretraining(TINY, dataset, ONE)) as run:
        turn = feeding._Turn(lambda: None)
        (once, twice), *_ = feeding._contenders(run, Practice(folder=tmp_path), turn, Limit("limit", 1.0))
        once.prepare()
        assert twice.step() == 2 * once.step()
        turn.end()
    assert once.name == feeding.OURS
    assert once.params["images"] == measure.trained_on(dataset)
