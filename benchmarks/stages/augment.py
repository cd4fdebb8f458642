"""Stamps to views: two views of 64 pixels of each stamp of 107, five bands.

The peer is the way of the published loaders: SciPy turns the whole stamp, crops it, blurs it where the preset says so,
and adds noise. Equal footing: the same stamps, angles, shifts, gains, widths and noise levels, which the peer is given
ready-made; it leaves out flips and sizes, and draws its noise in sequence, so it does somewhat less.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from augment import VIEW_PX, Conditions, draw, preset, views
from augment.extinction import gain
from augment.plan import make_plan

from ..practice import PracticeData
from ..results import Param, StageReport
from ..timing import Contender, race

BANDS = ("u", "g", "r", "i", "z")
STAMP_PX = 107
BATCH = 128
PEER_BATCH = 16  # it works stamp by stamp, so that its batch says nothing
PRESETS = ("hayat2021", "stein2021")

Float32s = npt.NDArray[np.float32]


def run(data: PracticeData, rounds: int = 7) -> StageReport:
    """On noise stamps: the speed does not depend on what they show. On the accelerator, where there is one."""
    del data  # needs none
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = torch.randn(BATCH, len(BANDS), STAMP_PX, STAMP_PX, generator=torch.Generator().manual_seed(0))
    known = conditions(BATCH)
    contenders = [
        contender
        for name in PRESETS
        for contender in (_ours(name, images.to(device), known), _peer(name, images, known))
    ]
    sync = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    return StageReport(
        stage="augment",
        results=race(contenders, rounds=rounds, sync=sync),
        own=ours_name("hayat2021"),
        pairs=tuple((ours_name(name), peer_name(name)) for name in PRESETS),
    )


def ours_name(preset_name: str) -> str:
    """Name of our result."""
    return f"augment: skymill {preset_name}"


def peer_name(preset_name: str) -> str:
    """Name of the peer's result."""
    return f"augment: SciPy chain {preset_name}"


def conditions(batch: int) -> Conditions:
    """Stamps as those of an SDSS field are."""
    return Conditions(
        ebv=torch.full((batch,), 0.05),
        pixel_scale_arcsec=0.396,
        mad=torch.tensor([0.03, 0.015, 0.02, 0.035, 0.13]),
        psf_fwhm_arcsec=torch.full((batch, len(BANDS)), 1.1),
        sky_sigma=torch.tensor([0.04, 0.02, 0.03, 0.05, 0.2]).expand(batch, -1),
    )


def _ours(name: str, images: Tensor, known: Conditions) -> Contender:
    sample = torch.arange(len(images))

    def step() -> int:
        made = views(images, preset(name), seed=0, epoch=0, sample=sample, conditions=known, bands=BANDS, count=2)
        return len(made[0])

    return _contender(ours_name(name), step, len(images), images.device.type)


def _peer(name: str, images: Tensor, known: Conditions) -> Contender:
    stamps, rng = images.numpy()[:PEER_BATCH], np.random.default_rng(0)

    def step() -> int:
        for view in range(2):
            scipy_views(stamps, name, known, view, rng)
        return len(stamps)

    return _contender(peer_name(name), step, len(stamps), "cpu")


def _contender(name: str, step: Callable[[], int], batch: int, device: str) -> Contender:
    params: dict[str, Param] = {"batch": batch, "views": 2, "view_px": VIEW_PX, "device": device, "threads": 1}
    return Contender(name=name, step=step, bytes_per_image=4 * len(BANDS) * STAMP_PX**2, params=params)


def scipy_views(
    stamps: Float32s, preset_name: str, known: Conditions, view: int, rng: np.random.Generator
) -> list[Float32s]:
    """One view of each stamp, by SciPy; sizes and flips are left out."""
    sample = torch.arange(len(known.ebv))
    drawn = draw(preset(preset_name), seed=0, epoch=0, sample=sample, view=view, bands=BANDS)
    plan = make_plan(drawn, known, BANDS)
    factor, angle = gain(plan.reddening, BANDS).numpy().astype(np.float32), drawn.angle_deg.numpy()
    shift, blur, noise = plan.shift_px.int().numpy(), plan.blur_sigma_px.numpy(), plan.noise_sigma.numpy()
    return [
        scipy_view(stamp, factor[row], float(angle[row]), shift[row], blur[row], noise[row], rng)
        for row, stamp in enumerate(stamps)
    ]


def scipy_view(
    stamp: Float32s,
    factor: Float32s,  # gain of each band
    angle_deg: float,
    shift_px: npt.NDArray[np.int32],  # (y, x)
    blur_px: npt.NDArray[np.float64],  # sigma of each band
    noise: npt.NDArray[np.float64],  # sigma of each band
    rng: np.random.Generator,
) -> Float32s:
    """A view (band, y, x) as published loaders make it: turn all of the stamp, crop, blur, add noise."""
    from scipy import ndimage

    turned = ndimage.rotate(stamp * factor[:, None, None], angle_deg, axes=(1, 2), reshape=False, order=1)
    y, x = STAMP_PX // 2 - VIEW_PX // 2 - shift_px
    view: Float32s = turned[:, y : y + VIEW_PX, x : x + VIEW_PX]
    if blur_px.any():
        view = np.stack([ndimage.gaussian_filter(band, sigma) for band, sigma in zip(view, blur_px, strict=True)])
    field = rng.standard_normal(view.shape, dtype=np.float32)
    return view + field * noise[:, None, None].astype(np.float32)
