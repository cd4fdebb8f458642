"""Stamps to views: two views of 64 pixels of each stamp of 107, five bands, in views/s; beside others and the limit.

Equal footing: the same stamps, and for each view the same turn, flip, size, shift, gains, blurs and noise levels, drawn
beforehand (`augmenting`, where each peer says what it leaves out). The limit is a copy of as many bytes as a stamp and
its views have: `VIEW_BYTES` for each view, of which MB/s tells. The verdict, which is in images/s, takes our rate with
the drawing of the parameters in it, on the accelerator where there is one. There at least 300,000 views/s are wanted.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch

from ..augmenting import contenders as ways
from ..augmenting.contenders import Amount, contenders, named, on_accelerator
from ..augmenting.work import BANDS, STAMP_PX, VIEWS, make_work
from ..practice import PracticeData
from ..results import Result, StageReport
from ..timing import Contender, race

FULL, PLAIN = PRESETS = ("stein2021", "hayat2021")  # with sizes, flips and blur; without
OWN = "augment: skymill, stamps to pairs of views"
_CUDA = "cuda"


def run(data: PracticeData, rounds: int = 7, amount: Amount | None = None) -> StageReport:
    """On noise stamps: the speed does not depend on what they show."""
    del data  # needs none
    amount, on_cuda, threads = amount or Amount(), torch.cuda.is_available(), torch.get_num_threads()
    try:
        results = race(
            list(_contenders(amount, on_cuda)),
            rounds=rounds,
            sync=torch.cuda.synchronize if on_cuda else lambda: None,
        )
    finally:
        torch.set_num_threads(threads)
    own = _own(results, _CUDA if on_cuda else "1 thread")
    names = {result.name for result in results}
    pairs = {pair: least for pair, least in wanted().items() if names.issuperset(pair)}
    return StageReport(
        stage="augment",
        results=(*results, own),
        own=own.name,
        pairs=tuple(pairs),
        left_out=tuple(peer for peer in ways.PEERS if not ways.is_installed(peer)),
        wanted={pair: least for pair, least in pairs.items() if least},
    )


def wanted() -> Mapping[tuple[str, str], float]:
    """The pairs whose ratios are told, and the least that is wanted of each; 0 where nothing is."""
    op = named(ways.OP, FULL)
    least = {ways.TURNED: 10.0, ways.WARPED: 5.0, ways.TORCH: 1.8}
    told = (ways.KORNIA, ways.DALI, ways.DALI_AND_OURS, ways.FROM_INT16, ways.DRAWN)
    pairs = {(op, named(peer, FULL)): ratio for peer, ratio in {**least, **dict.fromkeys(told, 0.0)}.items()}
    pairs |= {(named(ways.OP, FULL, "2 threads"), op): 1.7}
    pairs |= {(named(ways.OP, PLAIN), named(peer, PLAIN)): 0.0 for peer in least}
    on_cuda = {ways.COPY: 1 / 3, **dict.fromkeys(told, 0.0)}
    return pairs | {(named(ways.OP, FULL, _CUDA), named(peer, FULL, _CUDA)): r for peer, r in on_cuda.items()}


def _contenders(amount: Amount, on_cuda: bool) -> Iterator[Contender]:
    for preset_name in PRESETS:
        work = make_work(preset_name, amount.batch)
        yield from contenders(work, amount)
        yield from contenders(work, amount, threads=2)
        if on_cuda:
            yield from on_accelerator(preset_name, amount)


def _own(results: Iterable[Result], where: str) -> Result:
    """Images/s, as the other stages have them: an image is a stamp that became a pair of views."""
    drawn = next(result for result in results if result.name == named(ways.DRAWN, PLAIN, where))
    return drawn.converted(OWN, "images/s", 1 / VIEWS, bytes_per_image=4 * len(BANDS) * STAMP_PX**2)
