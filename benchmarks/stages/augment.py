"""Stamps to views: two views of 64 pixels of each stamp of 107, five bands, in views/s; beside others and the limit.

Equal footing: the same stamps, and for each view the same turn, flip, size, shift, gains, blurs and noise levels, drawn
beforehand (`augmenting`; `told` says what each peer leaves out). The limit is a copy of as many bytes as a stamp and
its views have. Then how the rate goes with threads, batch, sides, encodings and presets. The verdict, which is in
images/s, takes our rate with all threads and with the drawing of the parameters in it, on the accelerator where there
is one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch

from augment import VIEW_PX, AugmentError, preset

from ..augmenting import told
from ..augmenting.amount import FULL, QUICK, Amount
from ..augmenting.contenders import CPU, CUDA, DRAWN, OP, Ways, named
from ..augmenting.turn import Turn
from ..augmenting.work import VIEWS, Stamps, given_stamps, make_work, noise_stamps
from ..errors import BenchmarkError
from ..limits import threads_text
from ..practice import Practice
from ..results import Param, Result, StageReport
from ..threads import torch_threads
from ..timing import Contender, race

OWN = "augment: skymill, stamps to pairs of views"


def run(data: Practice, amount: Amount | None = None) -> StageReport:
    """On the dataset that was given, else on noise stamps: the speed does not depend on what they show.

    BenchmarkError for a dataset of which no views can be made.
    """
    amount = amount or data.pick(QUICK, FULL)
    with torch_threads(), ExitStack() as opened:
        bench = _bench(data, amount, opened, opened.enter_context(Turn()))
        contenders = list(bench.contenders())
        data.say("making views")
        sync = torch.cuda.synchronize if bench.on_cuda else lambda: None
        results = race(contenders, rounds=amount.rounds, sync=sync)
    own = _own(results, bench)
    return StageReport(
        stage="augment",
        results=(*results, own),
        own=own.name,
        ratios=told.ratios(results, bench.threads),
        promises=tuple(told.promises(results, bench.threads)),
        left_out=told.left_out(),
        footing=told.footing(results),
        bars=told.bars(results),
        curves=told.curves(results, bench.base),
    )


def doubled(data: Practice, amount: Amount = QUICK) -> Iterator[tuple[Contender, Contender]]:
    """Each way to make views of a batch, and of twice as many stamps."""
    with torch_threads(), ExitStack() as opened:
        # With 512 stamps kornia's temporary arrays pass 32 MB, where the C library gives memory back to the system each
        # time, and a view takes twice as long. Ours keep the trainer's batch, beside which a call's own cost is small.
        few, turn = replace(amount, batch=max(1, amount.batch // 4)), opened.enter_context(Turn())
        for each, ways in ((amount, _Bench.ours), (few, _Bench.others)):
            once, twice = (ways(_bench(data, much, opened, turn), told.FULL) for much in (each, each.doubled()))
            for first, second in zip(once, twice, strict=True):
                yield first, replace(second, name=f"{second.name}, twice")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bench:
    """What is measured on these stamps."""

    stamps: Stamps
    given: bool
    amount: Amount
    threads: Sequence[int]
    on_cuda: bool
    opened: ExitStack
    turn: Turn

    @property
    def most(self) -> int:
        """All the threads that there are."""
        return max(self.threads)

    @property
    def base(self) -> Mapping[str, Param]:
        """What all points of a scaling have in common, but for the one that is changed."""
        return {
            "way": OP, "preset": told.FULL, "batch": self.amount.batch, "stamp_px": self.stamps.images.shape[2],
            "view_px": VIEW_PX, "stored": "float32", "threads": self.most, "device": CPU.type,
        }  # fmt: skip

    def contenders(self) -> Iterator[Contender]:
        """Every way with both presets, then what the scaling has beside."""
        for preset_name in told.PRESETS:
            yield from self.ours(preset_name)
            yield from self.others(preset_name)
        yield from self._scaled()

    def ours(self, preset_name: str) -> Iterator[Contender]:
        """With each number of threads, and on the accelerator."""
        for threads in self.threads:
            yield from self._on_host(preset_name, threads).ours()
        if self.on_cuda:
            yield from self._on_device(preset_name).ours()

    def others(self, preset_name: str) -> Iterator[Contender]:
        """The peers with one thread and, where that is asked for, with all; on the accelerator beside a copy."""
        for threads in sorted({1, self.most}) if self.amount.peers_on_all_threads else (1,):
            yield from self._peers(self._on_host(preset_name, threads))
        if self.on_cuda:
            there = self._on_device(preset_name)
            yield from self._peers(there)
            yield there.copy()

    @staticmethod
    def _peers(ways: Ways) -> Iterator[Contender]:
        yield from ways.peers()
        if ways.work.preset == told.FULL:  # its time is mostly DALI's, whatever the preset
            yield from ways.through_dali()

    def _on_host(self, preset_name: str, threads: int) -> Ways:
        work = make_work(preset_name, self.stamps.first(self.amount.batch))
        return Ways(work=work, amount=self.amount, threads=threads, opened=self.opened, turn=self.turn)

    def _on_device(self, preset_name: str) -> Ways:
        work = make_work(preset_name, self.stamps.first(self.amount.batch_on_accelerator))
        return Ways(work=work, amount=self.amount, threads=self.most, device=CUDA, turn=self.turn)

    def _scaled(self) -> Iterator[Contender]:
        """Ours with another batch, another preset and other sides, with all threads."""
        few = self.stamps.first(self.amount.batch)
        for batch in self.amount.batches:
            ways = self._with(self.stamps.first(batch), f"batch {batch}")
            yield from (ways.op(), ways.drawn())
        if not self.given:
            for side in self.amount.stamps_px:
                yield self._with(noise_stamps(self.amount.batch, side), f"stamps of {side} px").op()
        for side in self.amount.views_px:
            if side <= min(few.images.shape[2:]):
                yield self._with(few, f"views of {side} px", view_px=side).op()
        for threads in sorted({1, self.most}):
            yield self._on_host(told.NONE, threads).op()
        for batch in self.amount.batches_on_accelerator if self.on_cuda else ():
            yield self._with(self.stamps.first(batch), f"batch {batch}", device=CUDA).op()

    def _with(self, stamps: Stamps, more: str, *, view_px: int = VIEW_PX, device: torch.device = CPU) -> Ways:
        work = make_work(told.FULL, stamps, view_px)
        return Ways(work=work, amount=self.amount, threads=self.most, device=device, more=more, turn=self.turn)


def _bench(data: Practice, amount: Amount, opened: ExitStack, turn: Turn) -> _Bench:
    on_cuda, given = torch.cuda.is_available(), data.given is not None
    on_device = (amount.batch_on_accelerator, *amount.batches_on_accelerator) if on_cuda else ()
    batch = max(amount.batch, *amount.batches, *on_device)
    stamps = given_stamps(data.dataset, batch) if given else noise_stamps(batch)
    if given:
        _check(stamps, str(data.given))
    return _Bench(
        stamps=stamps, given=given, amount=amount, threads=data.threads, on_cuda=on_cuda, opened=opened, turn=turn
    )  # fmt: skip


def _check(stamps: Stamps, where: str) -> None:
    """That all ways and presets can take them."""
    shift_px = max(preset(name).max_shift_px for name in told.PRESETS)
    least, sides = VIEW_PX + 2 * shift_px, tuple(stamps.images.shape[2:])
    if min(sides) < least:
        raise BenchmarkError(
            f"augment: {where}: expected stamps of at least {least} pixels a side, for views of {VIEW_PX} that are "
            f"shifted by up to {shift_px}, got {sides}; give another dataset"
        )
    try:
        for name in told.PRESETS:
            make_work(name, stamps.first(1))
    except AugmentError as err:
        raise BenchmarkError(f"augment: {where}: {err}") from err


def _own(results: Sequence[Result], bench: _Bench) -> Result:
    """Images/s, as the other stages have them: an image is a stamp that became a pair of views."""
    name = named(DRAWN, told.PLAIN, CUDA.type if bench.on_cuda else threads_text(bench.most))
    drawn = next(result for result in results if result.name == name)
    params = dict(drawn.params)
    params["flop_per_image"] = VIEWS * int(params.pop("flop_per_view"))
    # A stamp and its views, which the FLOP are of.
    own = drawn.converted(OWN, "images/s", 1 / VIEWS, bytes_per_image=VIEWS * drawn.bytes_per_image)
    return replace(own, params=params)
