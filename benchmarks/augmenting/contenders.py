"""Everything that makes views of the same stamps from the same numbers, as contenders of one race.

Rates are views/s. All are given the drawn parameters ready-made, but for `views`, which draws them.
"""

import math
from collections.abc import Callable, Iterator, Sized
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from augment import VIEW_PX, Dither, preset, reference, render, views
from augment.dali import DaliPipeline

from ..installed import is_installed
from ..limits import DEVICE_COPY, memory_copy, threads_text
from ..results import Limit, Param
from ..timing import Contender
from . import batched, per_stamp, recipes
from .amount import Amount
from .turn import Turn
from .work import VIEWS, Work, encoded

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
OP, DRAWN = "skymill op", "skymill, parameters drawn too"
FROM_FLOAT16, FROM_INT16 = ENCODED = ("skymill op, from float16", "skymill op, from int16")
DALI_AND_OURS = "skymill with DALI"
TORCH, KORNIA, DALI = "plain torch", "kornia", "DALI alone"
TURNED, WARPED = "scikit-image, turned and cropped", "scikit-image, one warp"
COPY = "copy of as many bytes"  # on the accelerator, where a rate near it is promised
PACKAGES = {TURNED: "skimage", WARPED: "skimage", KORNIA: "kornia", DALI: "nvidia.dali", DALI_AND_OURS: "nvidia.dali"}

Step = Callable[[], int]  # returns how many views it made

_MOST_THREADS = 4  # for which a peer's steps grow: few of them gain from more
_COPIES_A_BATCH = 16  # a copy alone would be over too soon


def named(who: str, preset_name: str, where: str = "1 thread", more: str = "") -> str:
    """Name of a result; ``where`` is "1 thread", "2 threads", ... or "cuda", ``more`` what is unlike elsewhere."""
    return ", ".join(part for part in (f"augment: {who}", preset_name, where, more) if part)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ways:
    """Ways to do one work on one device, on the host with so many threads."""

    work: Work
    amount: Amount
    threads: int = 1
    device: torch.device = CPU
    more: str = ""  # at the end of names
    opened: ExitStack = field(default_factory=ExitStack)  # closes what a way holds
    turn: Turn = field(default_factory=Turn)  # all ways of a race have one

    def ours(self) -> Iterator[Contender]:
        """The operator on stamps of each encoding, and with all that precedes it."""
        yield self.op()
        for who, stored in zip(ENCODED, ("float16", "int16"), strict=True):
            yield self.op(who, stored)
        yield self.drawn()

    def op(self, who: str = OP, stored: str = "float32") -> Contender:
        """The operator on stamps that are stored so."""
        stamps, dither = encoded(self.work.stamps, stored)
        stamps, plan = stamps.to(self.device), self.work.plan.to(self.device)
        decoding = None if dither is None else Dither(dither.objid.to(self.device), dither.step.to(self.device))
        return self._ours(who, lambda: len(render(stamps, plan, dither=decoding)), stored)

    def drawn(self) -> Contender:
        """Parameters drawn and worked out on the host, then the operator: what `views` does."""
        known, chosen = self.work.stamps, preset(self.work.preset)
        images, sample = known.images.to(self.device), torch.arange(len(known.images))

        def way() -> int:
            made = views(
                images, chosen, seed=0, epoch=0, sample=sample, conditions=known.conditions, bands=known.bands,
                count=VIEWS, size_px=self.work.view_px,
            )  # fmt: skip
            return sum(map(len, made))

        return self._ours(DRAWN, way)

    def peers(self) -> Iterator[Contender]:
        """Others' ways; plain torch and scikit-image on the host only."""
        stamps, on_host = self.work.stamps.images, self.device.type == "cpu"
        if on_host:
            yield self._peer(TORCH, _counted(partial(reference.render, stamps, self.work.plan)))
        if is_installed(PACKAGES[KORNIA]):
            yield self._peer(KORNIA, _counted_each(batched.kornia_views(self.work, self.device)))
        if is_installed(PACKAGES[DALI]):
            yield self._peer(DALI, _counted_each(batched.dali_views(self.work, self.device, self.threads)))
        if on_host and is_installed(PACKAGES[TURNED]):
            yield from self._by_scikit_image()

    def through_dali(self) -> Iterator[Contender]:
        """Our own pipeline with DALI in it."""
        if is_installed(PACKAGES[DALI_AND_OURS]):
            on_host, stamps = self.device.type == "cpu", self.work.stamps.images.to(self.device)
            batches = self.amount.dali_batches if on_host else self.amount.dali_batches_on_accelerator
            plan = self.work.plan
            opener = lambda: iter(DaliPipeline(lambda: (stamps, plan), device=self.device))  # noqa: E731
            once = self._contender(DALI_AND_OURS, partial(self.turn.take, batches))

            def prepare() -> None:
                once.prepare()
                self.turn.begin(opener)

            yield replace(once, prepare=prepare)

    def copy(self) -> Contender:
        """As many bytes read and written as the stamps and their views have in all."""
        count = len(self.work.stamps.images) * VIEWS
        source = torch.zeros(count * self.work.view_bytes() // 2, dtype=torch.uint8, device=self.device)
        out = torch.empty_like(source)

        def way() -> int:
            for _ in range(_COPIES_A_BATCH):
                out.copy_(source)
            return _COPIES_A_BATCH * count

        return self._ours(COPY, way)

    def _by_scikit_image(self) -> Iterator[Contender]:
        few = replace(self, work=self.work.first(self.amount.by_scikit_image))
        make = per_stamp.maker(recipes.rows(few.work), self.threads, self.opened)
        for who, way in {TURNED: per_stamp.turned_and_cropped, WARPED: per_stamp.warped}.items():
            yield few._contender(who, partial(make, way))

    def _ours(self, who: str, way: Step, stored: str = "float32") -> Contender:
        """A batch again and again, until a step is long enough."""
        views = self.amount.views_a_step * self.threads / (self.work.view_px / VIEW_PX) ** 2
        return self._contender(who, self._repeated(way, views), stored)

    def _peer(self, who: str, way: Step) -> Contender:
        views = self.amount.views_a_step_of_peers * min(self.threads, _MOST_THREADS)
        return self._contender(who, self._repeated(way, views))

    def _repeated(self, way: Step, views: float) -> Step:
        """As often as it takes for so many views on the host."""
        views = views if self.device.type == "cpu" else self.amount.views_a_step_on_accelerator
        times = max(1, math.ceil(views / (VIEWS * len(self.work.stamps.images))))
        return lambda: sum(way() for _ in range(times))

    def _prepare(self) -> None:
        self.turn.end()
        torch.set_num_threads(self.threads)

    def _contender(self, who: str, step: Step, stored: str = "float32") -> Contender:
        work, where = self.work, threads_text(self.threads) if self.device.type == "cpu" else self.device.type
        view_bytes = work.view_bytes(stored)
        params: dict[str, Param] = {
            "way": OP if who in ENCODED else who, "preset": work.preset, "batch": len(work.stamps.images),
            "views": VIEWS, "bands": len(work.stamps.bands), "stamp_px": work.stamp_shape[0], "view_px": work.view_px,
            "stored": stored, "threads": self.threads, "device": self.device.type, "flop_per_view": work.view_flop(),
        }  # fmt: skip
        return Contender(
            name=named(who, work.preset, where, self.more),
            unit="views/s",
            prepare=self._prepare,
            step=step,
            bytes_per_image=view_bytes,
            params=params,
            limit=Limit(memory_copy(self.threads) if where != CUDA.type else DEVICE_COPY, view_bytes / 2 / 1e9),
        )


def _counted(way: Callable[[], Sized]) -> Step:
    """Of a way that makes all views as one."""
    return lambda: len(way())


def _counted_each(way: Callable[[], list[Tensor]]) -> Step:
    """Of a way that makes one view of all stamps after the other."""
    return lambda: sum(map(len, way()))
