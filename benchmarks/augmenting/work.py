"""The work that is given to all: stamps, and what is to become of each, drawn and planned beforehand."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from augment import VIEW_PX, Conditions, Dither, Plan, ViewParameters, draw, make_plan, preset

BANDS = ("u", "g", "r", "i", "z")
STAMP_PX = 107
VIEWS = 2  # of each stamp
# What is read and written for a view, in float32: its share of the stamp, and itself.
VIEW_BYTES = 4 * len(BANDS) * (STAMP_PX**2 // VIEWS + VIEW_PX**2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Views of noise stamps, on the host: the speed of none of the contenders depends on what the stamps show."""

    preset: str
    stamps: Tensor  # (batch, band, y, x), float32
    conditions: Conditions
    drawn: tuple[ViewParameters, ...]  # of each view
    plans: tuple[Plan, ...]  # the same, worked out

    @property
    def plan(self) -> Plan:
        """All views in one."""
        return Plan.joined(self.plans)

    def first(self, batch: int) -> "Work":
        """The same for the first stamps only."""
        return make_work(self.preset, min(batch, len(self.stamps)))


def make_work(preset_name: str, batch: int) -> Work:
    """The first stamps of a larger batch are those of a smaller one, and so are their views."""
    known, sample = conditions(batch), torch.arange(batch)
    drawn = tuple(
        draw(preset(preset_name), seed=0, epoch=0, sample=sample, view=view, bands=BANDS) for view in range(VIEWS)
    )
    shape, noise = (STAMP_PX, STAMP_PX), np.random.default_rng(0)
    return Work(
        preset=preset_name,
        stamps=torch.from_numpy(noise.standard_normal((batch, len(BANDS), *shape), dtype=np.float32)),
        conditions=known,
        drawn=drawn,
        plans=tuple(make_plan(each, known, bands=BANDS, stamp_shape=shape, size_px=VIEW_PX) for each in drawn),
    )


def conditions(batch: int) -> Conditions:
    """Stamps as those of an SDSS field are."""
    return Conditions(
        ebv=torch.full((batch,), 0.05),
        pixel_scale_arcsec=0.396,
        mad=torch.tensor([0.03, 0.015, 0.02, 0.035, 0.13]),
        psf_fwhm_arcsec=torch.full((batch, len(BANDS)), 1.1),
        sky_sigma=torch.tensor([0.04, 0.02, 0.03, 0.05, 0.2]).expand(batch, -1),
    )


def as_int16(work: Work) -> tuple[Tensor, Dither]:
    """Stamps as a dataset of 16-bit integers stores them, in steps of a quarter of their noise."""
    stored = (4.0 * work.stamps).round().to(torch.int16)
    step = torch.full(stored.shape[:2], 0.25)
    return stored, Dither(objid=torch.arange(len(stored)), step=step)


def blur_sigma_px(plan: Plan) -> Tensor:
    """The blur's rms along an axis (row, band), for libraries that ask for a Gaussian's width."""
    distance = torch.arange(plan.taps.shape[-1], dtype=torch.float64)
    return (2.0 * plan.taps @ distance**2).sqrt()
