"""Views made by DALI: its operators resample and blur, ours (`skymill::render`) redden and add the noise.

Batches come from a callable and parameters from a `Plan`: nothing is drawn and no order is kept here, so there is no
state. Who resumes gives a callable that goes on behind the last view used; it is called ``ahead`` batches before.

- Bands are frames: layout FHWC with one channel is the stored (band, y, x) order, so nothing is transposed.
- DALI clamps at edges, where a view is mirrored: it gets `windows` that no view looks out of.
- DALI's blurs are sampled Gaussians: it convolves with the plan's own taps instead.
- DALI spreads NaN over whole windows: it gets 0 for bad pixels, and our op says which view pixels they reach.
- Views come out of DALI without a copy. Stamps go in by copies: on the host DALI's own, on a GPU one for the zeros,
  one for the order of the rows and DALI's. The host never waits for what a GPU has yet to do, only, ``ahead`` batches
  later, for its word on whether there were bad pixels.

DALI adds positions up in float32, along a row of the view. For a view of n px and a window of S px (91 for 64 px that
are turned) they are off by up to (n + 7) (S + 1) 2^-24, some 4e-4 px, and a view by that times the differences between
neighbouring pixels. On whole positions nothing is lost. The bits of a view do not depend on its batch.
"""

import importlib
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from .checks import check, check_places
from .errors import AugmentError
from .ops import render
from .plan import Plan
from .windows import check_positions, windows

NextBatch = Callable[[], tuple[Tensor, Plan]]
Finish = Callable[[], Tensor]  # gives the views of a batch under way; to be called once, in the order of the batches


def require() -> None:
    """AugmentError where DALI is not installed."""
    try:
        importlib.import_module("nvidia.dali")
    except ModuleNotFoundError as err:
        raise AugmentError(
            f"dali: expected NVIDIA DALI, got {err}; pip install 'skymill[dali]' or choose another pipeline"
        ) from err


class DaliPipeline:
    """Finished views (row, band, y, x) in float32, batch after batch, with ``ahead`` batches under way meanwhile.

    ``next_batch`` gives decoded float32 stamps (batch, band, y, x) on ``device``, whose memory may be used again at
    the next call, and the plan of their rows on the host. StopIteration ends the views; any other error comes out
    after the views of the batches before it, and so does AugmentError for a batch that does not fit together. An
    iteration lets go of its DALI objects when it ends or is closed.
    """

    def __init__(self, next_batch: NextBatch, *, device: torch.device, ahead: int = 2) -> None:
        require()
        if ahead < 1:
            raise AugmentError(f"dali: expected at least 1 batch ahead, got {ahead}; 2 are enough")
        self._next_batch = next_batch
        self._device = device
        self._ahead = ahead

    def __iter__(self) -> Generator[Tensor, None, None]:
        graph: _Graph | None = None
        started: deque[Finish] = deque()
        end: Exception | None = None
        try:
            while started or end is None:
                while end is None and len(started) <= self._ahead:
                    try:
                        stamps, plan = self._next_batch()
                        _check(stamps, plan, self._device)
                        if len(plan.place):
                            graph = _fitting(graph, plan, self._device)
                            started.append(_start(graph, stamps, plan))
                        else:  # DALI knows no batch of nothing
                            shape = 0, stamps.shape[1], plan.size_px, plan.size_px
                            started.append(partial(torch.empty, shape, device=self._device))
                    except Exception as err:
                        end = err  # raised below, in its place
                if started:
                    yield started.popleft()()
            if not isinstance(end, StopIteration):
                raise end
        finally:
            started.clear()  # an error's traceback may live on, and this frame with it
            graph = end = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Graph:
    """A DALI pipeline, and what it can take."""

    pipeline: Any
    device: torch.device
    max_rows: int
    size_px: int
    blurs: bool


def _check(stamps: Tensor, plan: Plan, device: torch.device) -> None:
    """What the operator checks, and what is DALI's alone; AugmentError for the first that does not fit."""
    if stamps.dtype != torch.float32 or stamps.device.type != device.type:
        raise AugmentError(
            f"dali: expected float32 stamps on {device}, got {stamps.dtype} on {stamps.device}; "
            "decode the stamps and move them before"
        )
    on_host = stamps.new_empty((), device="cpu").expand(stamps.shape)  # like the stamps, but where the plan is
    check(
        on_host, None, None, plan.place, plan.affine, plan.gain, plan.taps, plan.noise_sigma, plan.noise_key,
        plan.size_px, torch.float32, False,
    )  # fmt: skip
    check_places(plan.place, len(stamps))
    check_positions(plan)


def _fitting(graph: _Graph | None, plan: Plan, device: torch.device) -> _Graph:
    """The graph, or a new one where there are more rows than it takes, views of another size, or the first blur."""
    rows, blurs = len(plan.place), plan.taps.shape[-1] > 1
    if graph is None:
        return _built(device, rows, plan.size_px, blurs)
    if rows <= graph.max_rows and plan.size_px == graph.size_px and blurs <= graph.blurs:
        return graph
    return _built(device, max(rows, graph.max_rows), plan.size_px, blurs or graph.blurs)


def _built(device: torch.device, max_rows: int, size_px: int, blurs: bool) -> _Graph:
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    backend = "gpu" if device.type == "cuda" else "cpu"
    pipeline: Any
    # A depth of 1, so that the first start does not ask for more batches; those that are started queue all the same.
    with Pipeline(  # type: ignore[no-untyped-call]
        batch_size=max_rows, num_threads=torch.get_num_threads(), device_id=_ordinal(device), prefetch_queue_depth=1
    ) as pipeline:
        stamps = fn.external_source(name="stamps", device=backend, layout="FHWC")
        start, shape, matrix = (fn.external_source(name=name) for name in ("start", "shape", "matrix"))
        views = fn.slice(stamps, start=start, shape=shape, axes=(1, 2))
        bilinear = types.DALIInterpType.INTERP_LINEAR
        views = fn.warp_affine(views, matrix=matrix, size=(size_px, size_px), interp_type=bilinear)
        for axis in ("taps_y", "taps_x") if blurs else ():
            views = fn.filter(views, fn.external_source(name=axis, layout="FHW"), border="reflect_101")
        pipeline.set_outputs(views)
    pipeline.build()
    return _Graph(pipeline=pipeline, device=device, max_rows=max_rows, size_px=size_px, blurs=blurs)


def _ordinal(device: torch.device) -> int | None:
    """DALI's name for the device; None is the CPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.current_device() if device.index is None else device.index


def _start(graph: _Graph, stamps: Float32[Tensor, "batch band y x"], plan: Plan) -> Finish:
    """Feed and start the graph. DALI copies what it is fed: on the host at once, on a GPU in torch's stream's order.

    What a graph has started it finishes, in order, even if another one has taken its place.
    """
    stamps, bad = _filled(stamps)
    rows = windows(stamps, plan)
    _feed_stamps(graph, rows.stamps, plan.place)
    feed = graph.pipeline.feed_input
    feed("start", rows.start.int().numpy())
    feed("shape", rows.shape.int().numpy())
    feed("matrix", _matrix(rows.affine).numpy())
    if graph.blurs:
        taps = torch.cat([plan.taps.flip(-1)[..., :-1], plan.taps], dim=-1).float()
        feed("taps_y", taps[..., :, None].numpy())
        feed("taps_x", taps[..., None, :].numpy())
    graph.pipeline.schedule_run()
    return partial(_finished, graph, plan, bad)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bad:
    """A batch's pixels without data, if it has any: on a GPU that is known when it has got as far as these stamps."""

    pixels: Bool[Tensor, "batch band y x"]
    none: Bool[Tensor, ""]  # on the host, right from ``known`` on
    known: torch.cuda.Event | None  # None is now

    def holes(self, plan: Plan) -> Bool[Tensor, "row band n n"] | None:
        """The view pixels that they reach; None is nowhere."""
        if self.known is not None:
            self.known.synchronize()
        if bool(self.none):
            return None
        stamps = torch.zeros_like(self.pixels, dtype=torch.float32).masked_fill_(self.pixels, torch.nan)
        plain = replace(plan, gain=torch.ones_like(plan.gain), noise_sigma=torch.zeros_like(plan.noise_sigma))
        return render(stamps, plain.to(stamps.device)).isnan()


def _filled(stamps: Float32[Tensor, "batch band y x"]) -> tuple[Float32[Tensor, "batch band y x"], _Bad | None]:
    """The stamps with 0 for bad pixels, and these; None, and no copy, where there are known to be none."""
    stream = _stream(stamps.device)
    finite = stamps.sum().isfinite().to("cpu", non_blocking=True)  # one pass; from a GPU into pinned memory, in time
    known = None if stream is None else stream.record_event()
    if known is None and bool(finite):
        return stamps, None
    return stamps.nan_to_num(0.0, 0.0, 0.0), _Bad(pixels=~stamps.isfinite(), none=finite, known=known)


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    """Torch's, in whose order a GPU works; the host does at once what it is told."""
    return torch.cuda.current_stream(device) if device.type == "cuda" else None


def _feed_stamps(graph: _Graph, stamps: Float32[Tensor, "batch band y x"], place: Int64[Tensor, " row"]) -> None:
    frames, stream = stamps[..., None], _stream(graph.device)
    if stream is not None:
        shown = frames.index_select(0, place.pin_memory().to(graph.device, non_blocking=True))
        graph.pipeline.feed_input("stamps", shown, cuda_stream=stream)
    else:  # one copy less
        graph.pipeline.feed_input("stamps", [frames[each].numpy() for each in place.tolist()])


def _matrix(affine: Float64[Tensor, "row 2 3"]) -> Float32[Tensor, "row 2 3"]:
    """As DALI has it: (x, y) from (x, y, 1), and the centre of the first pixel is (1/2, 1/2)."""
    offset = affine[..., 2] + 0.5 - affine[..., :2].sum(dim=-1) / 2.0
    return torch.cat([affine[..., :2].flip(1, 2), offset.flip(1)[..., None]], dim=-1).float()


def _finished(graph: _Graph, plan: Plan, bad: _Bad | None) -> Float32[Tensor, "row band n n"]:
    """Read the rows where they lie in DALI's memory, and write the finished views into torch's.

    On a GPU the host does not wait: DALI binds its memory to torch's stream, where it is first read and then freed.
    """
    (output,) = graph.pipeline.outputs(cuda_stream=_stream(graph.device))
    shaped = from_dlpack(output.as_tensor())[..., 0]
    views = render(shaped, plan.finishing().to(graph.device))
    holes = None if bad is None else bad.holes(plan)
    return views if holes is None else views.masked_fill_(holes, torch.nan)
