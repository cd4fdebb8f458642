"""Views to a better encoder: MoCo's step on views in memory, beside others', and what its rate depends on.

On an accelerator it is the paper's network, on a CPU the demo's. An image is a galaxy, with its two views. What reading
and making views cost a run is measured with the whole chain.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from sharding import Dataset
from trainer.distributed import Ranks

from ..practice import Practice
from ..results import Bars, Ratio, StageReport
from ..threads import torch_threads
from ..timing import Contender, race
from ..training import losses, peers, points
from ..training import ranks as parallel
from ..training.galaxies import PIXEL_BYTES, galaxies_for
from ..training.points import IN_MEMORY, Point
from ..training.step import (
    Step,
    Views,
    described,
    flops_of,
    limit_of,
    make_views,
    own_step,
    repeated,
    steps_timed,
)
from ..verdict import H100

H100_PARITY = (  # told beside ours
    f"{H100:,.0f} pairs/s: the compute parity that the project's facts assume of an H100 (109 TFLOP/s sustained), "
    "not its peak"
)


def run(data: Practice) -> StageReport:
    """Steps in this process, ranks and losses in others."""
    device = _device()
    measured = points.points(data, device)
    ways, left_out = _ways(measured, data, device)
    data.say("train: steps on views in memory")
    with torch_threads():
        too_large = _too_large(ways) if device.type == "cuda" else {}
        ways = [way for way in ways if way.name not in too_large]
        steps = race(ways, rounds=data.pick(5, 9), sync=_sync(device))
    measured = tuple(point for point in measured if point.name not in too_large)
    left_out |= too_large
    beside = tuple(way.name for way in ways if way.name in map(peers.named, peers.FOOTING))
    del ways  # and the networks: ranks and losses want the memory
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    data.say("train: ranks")
    sizes = parallel.sizes(data, device)
    over_ranks = parallel.spawn_all(sizes, device, data)
    of_losses = losses.measure(data, device, losses.QUEUES)
    return StageReport(
        stage="train",
        results=(*steps, *over_ranks, *of_losses.results),
        own=IN_MEMORY,
        ratios=(
            *(Ratio(first=IN_MEMORY, second=name) for name in beside),
            *points.ratios(measured),
            *parallel.ratios(sizes),
            *of_losses.ratios,
        ),
        promises=of_losses.promises,
        left_out={**left_out, **of_losses.left_out},
        footing={**peers.FOOTING, **of_losses.footing},
        bars=(Bars(title="MoCo step, views in memory", results=(IN_MEMORY, *beside)),),
        curves=(*points.curves(measured), *parallel.curves(sizes), *of_losses.curves),
    )


def doubled(data: Practice) -> Iterator[tuple[Contender, Contender]]:
    """A step of each kind on one batch, then on it and another; losses of a batch, then of twice as many queries."""
    device = _device()
    base = points.points(data, device)[0]
    with torch_threads(), galaxies_for(data.folder / "train-doubled", base.settings) as dataset:
        views = [make_views(base.settings, Ranks(0, 1, device), seed) for seed in range(2)]
        for name, step in _steps(base, dataset, device)[0].items():
            yield (
                _contender(f"{name}, once", step, views[:1], base, device),
                _contender(f"{name}, twice", step, views, base, device),
            )
        yield from losses.doubled(device, base.threads)


def _ways(measured: Sequence[Point], data: Practice, device: torch.device) -> tuple[list[Contender], dict[str, str]]:
    """Ours at each point and the peers at the base, as much arithmetic in a timing of each; and who is left out."""
    base, *others = measured
    largest = max((point.settings for point in measured), key=lambda settings: settings.batch)
    dataset = data.opened.enter_context(galaxies_for(data.folder / "train", largest))
    steps, left_out = _steps(base, dataset, device)
    ranks = Ranks(0, 1, device)
    wanted = [(name, step, base) for name, step in steps.items()]
    wanted += [(point.name, own_step(point.settings, dataset, ranks), point) for point in others]
    ways = []
    for name, step, point in wanted:
        times = max(1, round(flops_of(base.settings) / flops_of(point.settings)))
        views = steps_timed(device) * times * [make_views(point.settings, ranks)]
        ways.append(_contender(name, step, views, point, device))
    return ways, left_out


def _too_large(ways: Sequence[Contender]) -> dict[str, str]:
    """Tries each once; gives those for which the GPU has too little memory, and says so. The base must have enough."""
    found = {}
    for way in ways:
        try:
            way.step()
        except torch.OutOfMemoryError:
            if way.name == IN_MEMORY:
                raise
            found[way.name] = "the GPU has too little memory"
            torch.cuda.empty_cache()
    return found


def _steps(base: Point, dataset: Dataset, device: torch.device) -> tuple[dict[str, Step], dict[str, str]]:
    """Ours and the peers', by the names of their results; and who is left out, and why."""
    others, left_out = peers.steps(base.settings, device)
    own = own_step(base.settings, dataset, Ranks(0, 1, device))
    return {IN_MEMORY: own, **{peers.named(peer): step for peer, step in others.items()}}, left_out


def _contender(name: str, step: Step, views: Sequence[Views], point: Point, device: torch.device) -> Contender:
    params = described(point.settings, device, point.threads)
    if device.type == "cuda" and point.axis is None:
        params["h100_parity"] = H100_PARITY
    return Contender(
        name=name,
        step=repeated(step, views),
        prepare=partial(torch.set_num_threads, point.threads),
        bytes_per_image=PIXEL_BYTES,
        params=params,
        limit=limit_of(point.settings, device, point.threads),
    )


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _sync(device: torch.device) -> Callable[[], None]:
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None
