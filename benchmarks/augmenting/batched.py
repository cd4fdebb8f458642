"""Views in kornia and in DALI alone, a batch at a time, on the host or on the accelerator.

Equal footing: matrices, gains, widths or weights and noise levels are those of the plan and lie on the device
beforehand. Both draw their noise in sequence, which needs no key for each view. What else they do not do is said with
each.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from augment import Plan

from .work import Work, blur_sigma_px

_NO_BLUR_PX = 0.01  # DALI wants a width above 0


def kornia_views(work: Work, device: torch.device) -> Callable[[], list[Tensor]]:
    """A function that makes each view of all stamps (batch, band, y, x): one warp, mirrored, and the plan's blur."""
    stamps = work.stamps.images.to(device)
    views = [_kornia_view(stamps, plan) for plan in work.plans]
    return lambda: [view() for view in views]


def _kornia_view(stamps: Tensor, plan: Plan) -> Callable[[], Tensor]:
    from kornia.filters import filter2d_separable
    from kornia.geometry.transform import warp_affine

    size = (plan.size_px, plan.size_px)
    matrix = _to_view(plan).to(stamps)
    taps = torch.cat([plan.taps.flip(-1)[..., :-1], plan.taps], dim=-1).to(stamps).flatten(0, 1)
    gain, sigma = (values.to(stamps)[:, :, None, None] for values in (plan.gain, plan.noise_sigma))

    def view() -> Tensor:
        made: Tensor = warp_affine(stamps, matrix, size, padding_mode="reflection")
        if taps.shape[-1] > 1:
            planes = made.flatten(0, 1)[:, None]
            made = filter2d_separable(planes, taps, taps, border_type="reflect").reshape(made.shape)
        return made * gain + torch.randn_like(made) * sigma

    return view


def _to_view(plan: Plan) -> Tensor:
    """From (x, y) in the stamp to (x, y) in the view, (row, 2, 3): kornia turns it round again."""
    whole = F.pad(plan.affine[:, [1, 0]][:, :, [1, 0, 2]], (0, 0, 0, 1))
    whole[:, 2, 2] = 1.0
    inverse: Tensor = torch.linalg.inv(whole)
    return inverse[:, :2]


def dali_views(work: Work, device: torch.device, threads: int = 1) -> Callable[[], list[Any]]:
    """A function that makes each view of all stamps, as DALI's tensors (band, y, x, 1).

    It repeats the stamp's edge where ours mirrors it, and its blur ends at 3 sigma.
    """
    pipelines = [_dali_pipeline(work, plan, device, threads) for plan in work.plans]
    return lambda: [pipeline.run()[0] for pipeline in pipelines]


def _dali_pipeline(work: Work, plan: Plan, device: torch.device, threads: int) -> Any:
    from nvidia.dali import fn, types
    from nvidia.dali.pipeline import Pipeline

    on_gpu, rows = device.type == "cuda", len(plan.place)
    backend = "gpu" if on_gpu else "cpu"
    # By (x, y), and the centre of the first pixel is (1/2, 1/2).
    offset = plan.affine[..., 2] + 0.5 - plan.affine[..., :2].sum(dim=-1) / 2.0
    matrix = torch.cat([plan.affine[..., :2].flip(1, 2), offset.flip(1)[..., None]], dim=-1).float()
    gain, sigma = (values.float()[:, :, None, None, None] for values in (plan.gain, plan.noise_sigma))
    blur = blur_sigma_px(plan).float()[:, :, None].clamp(min=_NO_BLUR_PX)
    pipeline: Any
    with Pipeline(  # type: ignore[no-untyped-call]
        batch_size=rows,
        num_threads=threads,
        device_id=torch.cuda.current_device() if on_gpu else None,
        prefetch_queue_depth=1,  # a run's work is done in its own time
        exec_pipelined=False,
        exec_async=False,
    ) as pipeline:
        image = _constant(work.stamps.images[..., None].to(device), backend, "FHWC")
        view = fn.warp_affine(
            image, matrix=_constant(matrix), size=(plan.size_px,) * 2, interp_type=types.DALIInterpType.INTERP_LINEAR
        )
        if bool((blur > _NO_BLUR_PX).any()):
            view = fn.gaussian_blur(view, sigma=fn.per_frame(_constant(blur)))
        view = view * _constant(gain.to(device), backend) + fn.random.normal(view, device=backend) * _constant(
            sigma.to(device), backend
        )
        pipeline.set_outputs(view)
    pipeline.build()
    return pipeline


def _constant(values: Tensor, backend: str = "cpu", layout: str | None = None) -> Any:
    """The same rows at every run, which DALI reads where they lie."""
    from nvidia.dali import fn

    rows: Any = list(values) if backend == "gpu" else list(values.numpy())
    return fn.external_source(source=lambda: rows, device=backend, layout=layout, no_copy=True)
