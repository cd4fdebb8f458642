"""What is told of the results: ratios and promises, how the peers stand beside ours, and what the page draws."""

from collections.abc import Iterator, Mapping, Sequence

from augment import VIEW_PX

from ..installed import is_installed
from ..limits import threads_text
from ..results import Bars, Curve, Param, Promise, Ratio, Result, known
from . import contenders as ways
from .contenders import CUDA, DRAWN, OP, named

FULL, PLAIN, NONE = "stein2021", "hayat2021", "none"  # with sizes, flips and blur; without; only dereddened and cropped
PRESETS = (FULL, PLAIN)

_PROMISED = {ways.TURNED: 10.0, ways.WARPED: 5.0, ways.TORCH: 1.8}  # with one thread
_OTHERS = (ways.KORNIA, ways.DALI, ways.DALI_AND_OURS, ways.FROM_FLOAT16, ways.FROM_INT16, DRAWN)
_BESIDE_EACH_OTHER = (OP, DRAWN, ways.TORCH, ways.KORNIA, ways.DALI, ways.DALI_AND_OURS, ways.TURNED, ways.WARPED)
_VIEWS_PER_S, _OF_THE_COPY = 300_000.0, 1 / 3  # on an H100

FOOTING = {
    ways.TORCH: (
        "our reference: the same views and the same noise, keyed by view, in torch's own operators; 16 at a time, "
        "which is fastest on a CPU"
    ),
    ways.KORNIA: (
        "one warp, mirrored as ours is, and the plan's own blur, gain and noise levels, from matrices made beforehand; "
        "its noise is drawn in sequence, which needs no key for each view, and it looks for no bad pixels"
    ),
    ways.DALI: (
        "one warp, a blur, gain and noise, from matrices and stamps that it reads where they lie; it repeats the "
        "stamp's edge where ours mirrors it, its blur ends at 3 sigma, its noise is drawn in sequence, and it looks "
        "for no bad pixels"
    ),
    ways.DALI_AND_OURS: (
        "the trainer's --pipeline dali: DALI warps and blurs, our operator does the rest; the same views up to the "
        "rounding of positions; as a training has it, with two batches under way"
    ),
    ways.TURNED: (
        "as the released code does it, stamp by stamp: all of the stamp is turned, then cropped, with zeros beyond its "
        "edge and no change of size; the same gains, blurs and noise levels, noise drawn in sequence; processes, "
        "in which their views stay, instead of threads"
    ),
    ways.WARPED: (
        "stamp by stamp, one warp straight to the view, mirrored as ours is; the same gains, blurs and noise levels, "
        "noise drawn in sequence; processes, in which their views stay, instead of threads"
    ),
}


def footing(results: Sequence[Result]) -> Mapping[str, str]:
    """Of the peers that were measured: what each does and leaves out beside ours."""
    measured = {result.params["way"] for result in results}
    return {peer: text for peer, text in FOOTING.items() if peer in measured}


def left_out() -> Mapping[str, str]:
    """The peers that are not installed."""
    missing = {peer: package for peer, package in ways.PACKAGES.items() if not is_installed(package)}
    return {peer: f"{package} cannot be imported" for peer, package in missing.items()}


def ratios(results: Sequence[Result], threads: Sequence[int]) -> tuple[Ratio, ...]:
    """What ours does beside each peer, and more threads beside one."""
    op, most = named(OP, FULL), threads_text(max(threads))
    wanted = [Ratio(first=op, second=named(peer, FULL), at_least=least) for peer, least in _PROMISED.items()]
    wanted += [Ratio(first=op, second=named(other, FULL)) for other in _OTHERS]
    wanted += [Ratio(first=named(OP, PLAIN), second=named(peer, PLAIN)) for peer in (*_PROMISED, ways.KORNIA)]
    if max(threads) > 1:
        wanted += [Ratio(first=named(OP, FULL, threads_text(2)), second=op, at_least=1.7)]
        peers = (*_PROMISED, ways.KORNIA, ways.DALI, ways.DALI_AND_OURS)
        wanted += [Ratio(first=named(OP, FULL, most), second=named(peer, FULL, most)) for peer in peers]
    if max(threads) > 2:
        wanted += [Ratio(first=named(OP, FULL, most), second=op)]
    on_device = named(OP, FULL, CUDA.type)
    if any(result.name == on_device for result in results):
        wanted += [Ratio(first=on_device, second=named(ways.COPY, FULL, CUDA.type), at_least=_OF_THE_COPY)]
    wanted += [Ratio(first=on_device, second=named(other, FULL, CUDA.type)) for other in _OTHERS]
    return known(wanted, results)


def promises(results: Sequence[Result], threads: Sequence[int]) -> Iterator[Promise]:
    """Those that are no ratio, or that only another machine can keep."""
    if max(threads) < 2:
        what = f"{named(OP, FULL, threads_text(2))} / {named(OP, FULL)}"
        yield Promise(what=what, measured=None, at_least=1.7, missing="needs two cores")
    name = named(OP, FULL, CUDA.type)
    rate = next((result.median for result in results if result.name == name), None)
    missing = "needs a GPU" if rate is None else ""
    yield Promise(what=f"{name} [views/s]", measured=rate, at_least=_VIEWS_PER_S, missing=missing)
    if rate is None:
        what = f"{name} / {named(ways.COPY, FULL, CUDA.type)}"
        yield Promise(what=what, measured=None, at_least=_OF_THE_COPY, missing=missing)


def bars(results: Sequence[Result]) -> tuple[Bars, ...]:
    """Ours beside the peers, by preset and by where they work."""
    names = {result.name for result in results}
    places = dict.fromkeys(_where(result) for result in results if result.params["way"] in FOOTING)
    charts = []
    for preset in PRESETS:
        for where in places:
            shown = tuple(name for who in _BESIDE_EACH_OTHER if (name := named(who, preset, where)) in names)
            charts.append(Bars(title=f"Views of {VIEW_PX} px, {preset}, {where}", results=shown))
    return tuple(charts)


def curves(results: Sequence[Result], base: Mapping[str, Param]) -> tuple[Curve, ...]:
    """How the rate goes with each of what can be chosen, the others as in ``base``; lines have two points at least."""
    ours = {who: _fixed(way=who) for who in (OP, DRAWN)}
    peers = {peer: _fixed(way=peer) for peer in (ways.TORCH, ways.KORNIA, ways.DALI)}
    by_stamp = {peer: _fixed(way=peer, batch=None) for peer in (ways.TURNED, ways.WARPED)}
    plain = {f"{OP}, {PLAIN}": _fixed(way=OP, preset=PLAIN)}
    on_device = {f"{OP}, {CUDA.type}": _fixed(way=OP, device=CUDA.type)}
    with_one = {who: {**line, "threads": 1} for who, line in (ours | peers | by_stamp).items()}
    wanted = {
        "Views by threads": ("threads", ours | plain | peers | by_stamp),
        "Views by batch": ("batch", ours | on_device),
        "Views by side of the stamp": ("stamp_px", ours),
        "Views by side of the view": ("view_px", ours),
        "Views by encoding of the stamps": ("stored", ours | plain | on_device),
        "Views by preset, 1 thread": ("preset", with_one),
    }
    charts = []
    for title, (axis, lines) in wanted.items():
        found = {label: _line(results, axis, {**base, **fixed}) for label, fixed in lines.items()}
        if long := {label: line for label, line in found.items() if len(line) > 1}:
            charts.append(Curve(title=title, axis=axis, lines=long))
    return tuple(charts)


def _fixed(**params: Param | None) -> dict[str, Param | None]:
    """What a line has unlike the others; None is any."""
    return params


def _line(results: Sequence[Result], axis: str, fixed: Mapping[str, Param | None]) -> tuple[str, ...]:
    """The results whose other params are ``fixed``, in the order of ``axis``."""
    held = {key: value for key, value in fixed.items() if key != axis and value is not None}
    found = [result for result in results if all(result.params[key] == value for key, value in held.items())]
    if all(isinstance(result.params[axis], int) for result in found):
        found.sort(key=lambda result: result.params[axis])
    return tuple(result.name for result in found)


def _where(result: Result) -> str:
    return CUDA.type if result.params["device"] == CUDA.type else threads_text(int(result.params["threads"]))
