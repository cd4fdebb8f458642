"""Everything that makes views of the same stamps from the same numbers, as contenders of one race.

On the host with one thread, ours also with two; on the accelerator, where there is one, what can work there. Rates are
views/s. All are given the drawn parameters ready-made, but for `views`, which draws them.
"""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import partial
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from augment import VIEW_PX, Dither, Plan, preset, reference, render, views
from augment.dali import DaliPipeline

from ..results import Param
from ..timing import Contender
from . import batched, per_stamp
from .work import BANDS, VIEW_BYTES, VIEWS, Work, as_int16, make_work

CPU = torch.device("cpu")
OP, FROM_INT16 = "skymill op", "skymill op, from int16"
DRAWN = "skymill, parameters drawn too"
DALI_AND_OURS = "skymill with DALI"
TORCH, KORNIA, DALI = "plain torch", "kornia", "DALI alone"
TURNED, WARPED = "scikit-image, turned and cropped", "scikit-image, one warp"
COPY = "copy of as many bytes"
PEERS = ("skimage", "kornia", "nvidia.dali")

Step = Callable[[], int]  # returns how many views it made


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """How many stamps a step makes views of."""

    batch: int = 256  # the trainer's own
    by_scikit_image: int = 16  # it works stamp by stamp, so that its batch says nothing
    on_accelerator: int = 1024
    dali_batches: int = 4  # in a run of our pipeline, which ends by itself and is built anew for each
    dali_batches_on_accelerator: int = 64


def named(who: str, preset_name: str, where: str = "1 thread") -> str:
    """Name of a result; ``where`` is "1 thread", "2 threads" or the accelerator's "cuda"."""
    return f"augment: {who}, {preset_name}, {where}"


def is_installed(package: str) -> bool:
    """Whether a peer can be measured."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package that it lies in
        return False


def contenders(work: Work, amount: Amount, *, threads: int = 1) -> Iterator[Contender]:
    """All that a host does with ``threads`` threads; only ours takes more than one."""
    where = "1 thread" if threads == 1 else f"{threads} threads"
    yield from (_contender(who, work, step, where, threads) for who, step in _ours(work, CPU).items())
    if threads == 1:
        steps = {TORCH: _counted(partial(reference.render, work.stamps, work.plan)), **_peers(work, CPU, amount)}
        yield from (_contender(who, work, step, where, threads) for who, step in steps.items())
        few = work.first(amount.by_scikit_image)
        yield from (_contender(who, few, step, where, threads) for who, step in _scikit_image(few).items())


def on_accelerator(preset_name: str, amount: Amount) -> Iterator[Contender]:
    """All that works there."""
    work, device = make_work(preset_name, amount.on_accelerator), torch.device("cuda")
    steps = {**_ours(work, device), **_peers(work, device, amount)}
    yield from (_contender(who, work, step, device.type, threads=1) for who, step in steps.items())


def _ours(work: Work, device: torch.device) -> dict[str, Step]:
    stamps, plan, sample = work.stamps.to(device), work.plan.to(device), torch.arange(len(work.stamps))
    stored, dither = as_int16(work)
    encoded, decoding = stored.to(device), Dither(dither.objid.to(device), dither.step.to(device))

    def draw_too() -> int:
        known, chosen = work.conditions, preset(work.preset)
        made = views(
            stamps, chosen, seed=0, epoch=0, sample=sample, conditions=known, bands=BANDS, count=len(work.plans)
        )
        return sum(map(len, made))

    return {
        OP: _counted(partial(render, stamps, plan)),
        FROM_INT16: _counted(partial(render, encoded, plan, dither=decoding)),
        DRAWN: draw_too,
    }


def _peers(work: Work, device: torch.device, amount: Amount) -> dict[str, Step]:
    """The limit, and those that work on a batch."""
    steps = {COPY: _copy(work, device)}
    if is_installed("kornia"):
        steps[KORNIA] = _counted_each(batched.kornia_views(work, device))
    if is_installed("nvidia.dali"):
        steps[DALI] = _counted_each(batched.dali_views(work, device))
        batches = amount.dali_batches if device.type == "cpu" else amount.dali_batches_on_accelerator
        steps[DALI_AND_OURS] = _through_dali(work.stamps.to(device), work.plan, batches)
    return steps


def _scikit_image(work: Work) -> dict[str, Step]:
    """Those that work on a stamp."""
    if not is_installed("skimage"):
        return {}
    rng, stamps = np.random.default_rng(0), work.stamps.numpy()
    rows = [row for view in range(VIEWS) for row in zip(stamps, per_stamp.recipes(work, view), strict=True)]
    ways = {TURNED: per_stamp.turned_and_cropped, WARPED: per_stamp.warped}
    return {who: _counted(partial(_one_by_one, way, rows, rng)) for who, way in ways.items()}


def _one_by_one(
    way: per_stamp.Way, rows: Iterable[tuple[per_stamp.Float32s, per_stamp.Recipe]], rng: np.random.Generator
) -> list[per_stamp.Float32s]:
    return [way(stamp, recipe, rng) for stamp, recipe in rows]


def _copy(work: Work, device: torch.device) -> Step:
    """The limit: as many bytes read and written as the stamps and their views have in all."""
    count = len(work.stamps) * VIEWS
    source = torch.zeros(count * VIEW_BYTES // 2, dtype=torch.uint8, device=device)
    out = torch.empty_like(source)

    def step() -> int:
        out.copy_(source)
        return count

    return step


def _through_dali(stamps: Tensor, plan: Plan, batches: int) -> Step:
    """Some batches through our pipeline, building it included: what it does ahead would else disturb the next one."""

    def step() -> int:
        waiting = repeat((stamps, plan), batches)
        return sum(map(len, DaliPipeline(lambda: next(waiting), device=stamps.device)))

    return step


def _counted(way: Callable[[], Sized]) -> Step:
    """Of a way that makes all views as one."""
    return lambda: len(way())


def _counted_each(way: Callable[[], Iterable[Sized]]) -> Step:
    """Of a way that makes one view of all stamps after the other."""
    return lambda: sum(map(len, way()))


def _contender(who: str, work: Work, step: Step, where: str, threads: int) -> Contender:
    params: dict[str, Param] = {
        "batch": len(work.stamps), "views": VIEWS, "view_px": VIEW_PX, "threads": threads,
        "device": "cuda" if where == "cuda" else "cpu",
    }  # fmt: skip
    return Contender(
        name=named(who, work.preset, where),
        unit="views/s",
        prepare=partial(torch.set_num_threads, threads),
        step=step,
        bytes_per_image=VIEW_BYTES,
        params=params,
    )
