"""The stages of training each alone, then overlapped as a run has them, and other people's ways to feed a network.

Reading is the trainer's reader on stored batches; augmenting draws, plans and renders two views of batches in memory;
training is the step on views in memory; the whole is the pipeline of `python -m trainer pretrain`. On an accelerator it
is the paper's network, on a CPU the demo's. All have all cores, and what had been read ahead before a timed stretch is
let go of first. Where no dataset is given, images are random numbers, more than a processor's cache holds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import ceil, prod
from time import perf_counter

import numpy as np
import torch

from sharding import Dataset
from sharding.reader import default_threads
from trainer.config import PretrainConfig
from trainer.distributed import joined
from trainer.flops import pretrain_step_flops
from trainer.pretrain import Pretraining

from ..errors import BenchmarkError
from ..limits import DEVICE_COPY, HOST_TO_DEVICE, matrix, memory_copy, threads_text
from ..practice import Practice, available_cores
from ..results import Bars, Curve, Limit, Param, Promise, Ratio, Result, StageReport, known
from ..threads import torch_threads
from ..timing import Contender, race
from ..training.galaxies import random_galaxies
from ..training.step import GFLOP, settings_for
from ..verdict import Chain
from . import feeding
from .running import Run, started, sync

READ = "whole: read alone"
AUGMENT = "whole: augment alone"
STEP = "whole: MoCo step, views in memory"
WHOLE = "whole: read, augment and MoCo step"
_STAGES = {"read": READ, "augment": AUGMENT, "train": STEP}
_LEAST_OF_STEP, _MOST_WAITING = 0.97, 0.05


def run(data: Practice) -> tuple[StageReport, Chain]:
    """The stage's results (its name is "whole"), and what the verdict takes from them."""
    with torch_threads(available_cores()), joined() as ranks:
        dataset, wanted = _dataset(data, ranks.device), settings_for(ranks.device)
        settings = fitting(wanted, dataset)
        data.say("the whole chain: each stage alone, and all at once")
        training = Pretraining(settings, dataset, ranks)
        results, chain = chained(training, rounds=data.pick(5, 9), seconds=data.pick(1.0, 3.0))
        data.say("the whole chain: other batches")
        others, too_large = _others(settings, dataset, data)
        data.say("the whole chain: other people's loaders")
        with started(training) as again:
            fed, missing = feeding.measure(again, data, limit=_fed(training))
    cut = settings.batch < wanted.batch
    if cut:
        results, fed = (_marked(found, batch_wanted=wanted.batch) for found in (results, fed))
    curve = sorted((*others, result_of(results, WHOLE)), key=lambda result: int(result.params["batch"]))
    every = (*results, *others, *fed)
    left_out, promised = {**too_large, **missing}, chain.device == "cuda" and not cut
    report = StageReport(
        stage="whole",
        results=every,
        ratios=known(
            (Ratio(first=WHOLE, second=STEP, at_least=_LEAST_OF_STEP if promised else None), *feeding.RATIOS), every
        ),
        promises=tuple(_promises(chain, cut)),
        left_out=left_out,
        footing={name: text for name, text in feeding.FOOTING.items() if name not in left_out},
        bars=(Bars(title="From files to pairs of views", results=tuple(result.name for result in fed)),),
        curves=(Curve(title="The whole", axis="batch", lines={"skymill": tuple(result.name for result in curve)}),),
    )
    return report, chain


def result_of(results: tuple[Result, ...], name: str) -> Result:
    """The one of that name."""
    return next(result for result in results if result.name == name)


def _dataset(data: Practice, device: torch.device) -> Dataset:
    """The one that was given, else one of random images."""
    if data.given is not None:
        return data.dataset
    samples = 8192 if device.type == "cuda" else data.pick(2048, 8192)
    data.say(f"the whole chain: writing {samples:,} random images")
    return data.opened.enter_context(random_galaxies(data.folder / "chain", samples))


def _marked(results: Sequence[Result], **told: Param) -> tuple[Result, ...]:
    """With more params."""
    return tuple(replace(result, params={**result.params, **told}) for result in results)


def fitting(settings: PretrainConfig, dataset: Dataset) -> PretrainConfig:
    """The same with a batch that the galaxies that are trained on fill; BenchmarkError where they are too few."""
    galaxies, least = trained_on(dataset), 2 * settings.batch_norm_groups
    batch = settings.batch
    while batch > galaxies:
        batch //= 2
    if batch < least:
        raise BenchmarkError(
            f"{dataset.location}: expected at least {least} galaxies outside of the test split, got {galaxies}; "
            "give a larger dataset with --data"
        )
    return replace(settings, batch=batch)


def trained_on(dataset: Dataset) -> int:
    """How many galaxies pre-training takes."""
    return len(np.union1d(dataset.split("train"), dataset.split("validation")))


def chained(
    training: Pretraining, *, rounds: int, seconds: float, delays: Mapping[str, float] | None = None
) -> tuple[tuple[Result, ...], Chain]:
    """Each stage alone and all at once, in turns; ``delays`` are put into a stage [s a batch].

    ``seconds`` is how long a timed stretch is at least meant to be.
    """
    with started(training, delays) as run:
        contenders = [once for once, _ in _contenders(run, seconds)]
        results = race(contenders, rounds=rounds, sync=sync(training.ranks.device))
        shares = run.watch.shares()
    medians = {result.name: result.median for result in results}
    settings, dataset, device = training.config, training.stamps.dataset, training.ranks.device.type
    chain = Chain(
        batch=settings.batch,
        alone={stage: medians[name] for stage, name in _STAGES.items()},
        overlapped=medians[WHOLE],
        busy={stage: shares[stage] for stage in _STAGES},
        waiting=max(0.0, 1.0 - shares["device"]) if device == "cuda" else shares["wait"],
        device=device,
        cores=available_cores(),
        read_threads=read_threads(settings),
        encoding=dataset.manifest.encoding.name,
        pixels=prod(dataset.image_shape),
    )
    told = {f"{stage}_share": round(share, 4) for stage, share in (*chain.busy.items(), ("wait", chain.waiting))}
    *alone, whole = results
    return (*alone, *_marked([whole], **told)), chain


def read_threads(settings: PretrainConfig) -> int:
    """As the trainer has them."""
    return settings.read_threads or default_threads()


def doubled(data: Practice) -> Iterator[tuple[Contender, Contender]]:
    """Each way with as many batches and with twice as many."""
    with torch_threads(available_cores()), joined() as ranks:
        dataset = _dataset(data, ranks.device)
        training = Pretraining(fitting(settings_for(ranks.device), dataset), dataset, ranks)
        with started(training) as run:
            yield from _contenders(run, 0.3)
            yield from feeding.doubled(run, data)


def _contenders(run: Run, seconds: float) -> Iterator[tuple[Contender, Contender]]:
    """Each way, and the same with twice as many batches."""
    settings, dataset = run.training.config, run.training.stamps.dataset
    cuda = run.training.ranks.device.type == "cuda"
    base = Contender(
        name=STEP,
        step=lambda: 0,
        bytes_per_image=dataset.pixel_bytes,
        params=params(run.training),
        limit=_multiplied(run.training),
    )
    ways = {
        READ: (run.read, run.drain_reader, _delivered(dataset, settings, cuda)),
        AUGMENT: (run.augment, None, _rendered(dataset, settings, cuda)),
        STEP: (run.train, None, base.limit),
        WHOLE: (run.watched, run.drain, base.limit),
    }
    waited = sync(run.training.ranks.device)
    for name, (way, prepare, limit) in ways.items():
        unwatched = run.whole if name == WHOLE else way
        batches = _enough(unwatched, seconds if name in (STEP, WHOLE) else seconds / 2, waited)
        once = replace(base, name=name, step=partial(way, batches), warm_up=partial(unwatched, 1), limit=limit)
        once = replace(once, prepare=prepare) if prepare else once
        once = replace(once, params=_learned(run.training)) if name in (STEP, WHOLE) else once
        yield once, replace(once, step=partial(way, 2 * batches))


def _enough(way: Callable[[int], int], seconds: float, waited: Callable[[], None]) -> int:
    """How many batches take about that long."""
    way(1)
    batches = 1
    while True:
        waited()
        began = perf_counter()
        way(batches)
        waited()
        took = perf_counter() - began
        if took > 0.2 * seconds:
            return max(1, ceil(batches * seconds / took))
        batches *= 4


def params(training: Pretraining) -> dict[str, Param]:
    """What a rate depends on."""
    settings, dataset = training.config, training.stamps.dataset
    return {
        "batch": settings.batch, "depth": settings.encoder.depth, "width": settings.encoder.width,
        "queue": settings.queue, "precision": settings.precision, "preset": settings.preset,
        "view_px": settings.view_px, "encoding": dataset.manifest.encoding.name, "page_cache": "warm",
        "device": training.ranks.device.type, "threads": torch.get_num_threads(),
        "read_threads": read_threads(settings),
    }  # fmt: skip


def _learned(training: Pretraining) -> dict[str, Param]:
    """The same where the network learns."""
    return params(training) | {"flop_per_image": _flops(training)}


def _others(settings: PretrainConfig, dataset: Dataset, data: Practice) -> tuple[tuple[Result, ...], dict[str, str]]:
    """The whole at other batches; and which were too large for the accelerator's memory."""
    found: list[Result] = []
    left_out: dict[str, str] = {}
    for batch in _batches(settings, dataset, data):
        try:
            found.append(_whole(replace(settings, batch=batch), dataset, data))
        except torch.cuda.OutOfMemoryError:
            left_out[_named(batch)] = "the GPU has too little memory"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return tuple(found), left_out


def _named(batch: int) -> str:
    return f"{WHOLE}, batch {batch}"


def _whole(settings: PretrainConfig, dataset: Dataset, data: Practice) -> Result:
    """The whole at another batch."""
    with joined() as ranks:
        training = Pretraining(settings, dataset, ranks)
        with started(training) as run:
            seconds = data.pick(0.7, 3.0)
            batches = _enough(run.whole, seconds, sync(ranks.device))
            contender = Contender(
                name=_named(settings.batch),
                step=partial(run.whole, batches),
                prepare=run.drain,
                bytes_per_image=dataset.pixel_bytes,
                params=_learned(training),
                limit=_multiplied(training),
            )
            (result,) = race([contender], rounds=data.pick(5, 7), sync=sync(ranks.device))
    return result


def _batches(settings: PretrainConfig, dataset: Dataset, data: Practice) -> list[int]:
    """Other batches that the dataset has."""
    least, most = 2 * settings.batch_norm_groups, trained_on(dataset)
    wanted = data.pick((settings.batch // 2,), tuple(settings.batch * times // 8 for times in (1, 2, 4, 8, 16, 32, 64)))
    return [batch for batch in wanted if least <= batch <= min(most, settings.queue) and batch != settings.batch]


def _promises(chain: Chain, cut: bool) -> Iterator[Promise]:
    """Those that are no ratio of results; ``cut`` tells that the batch is smaller than the one that was promised."""
    missing = "needs a GPU" if chain.device != "cuda" else "the dataset is too small for the paper's batch"
    if chain.device != "cuda" or cut:
        what = f"{WHOLE} / {STEP}, on a GPU"
        yield Promise(what=what, measured=None, at_least=_LEAST_OF_STEP, missing=missing)
    what = "whole: waiting for reads, share of the step"
    yield Promise(what=what, measured=chain.waiting, at_most=_MOST_WAITING)


def _multiplied(training: Pretraining) -> Limit:
    settings = training.config
    where = "cuda" if training.ranks.device.type == "cuda" else threads_text(torch.get_num_threads())
    return Limit(matrix(settings.precision, where), _flops(training) / GFLOP)


def _flops(training: Pretraining) -> float:
    """FLOP a galaxy."""
    return pretrain_step_flops(training.config, len(training.stamps.dataset.bands))


def _delivered(dataset: Dataset, settings: PretrainConfig, cuda: bool) -> Limit:
    """Stored pixels to where batches lie."""
    return Limit(HOST_TO_DEVICE if cuda else memory_copy(read_threads(settings)), dataset.pixel_bytes / 1e9)


def _rendered(dataset: Dataset, settings: PretrainConfig, cuda: bool) -> Limit:
    """A stamp read and two views written are as many bytes as a copy of half of both."""
    views = 2 * 4 * len(dataset.bands) * settings.view_px**2
    return Limit(DEVICE_COPY if cuda else memory_copy(available_cores()), (dataset.pixel_bytes + views) / 2 / 1e9)


def _fed(training: Pretraining) -> Limit:
    """On a GPU the way of the pixels there; else reading and rendering, one after the other, in the host's memory."""
    dataset, settings = training.stamps.dataset, training.config
    if training.ranks.device.type == "cuda":
        return _delivered(dataset, settings, cuda=True)
    rendered = _rendered(dataset, settings, cuda=False)
    return replace(rendered, per_item=rendered.per_item + dataset.pixel_bytes / 1e9)
