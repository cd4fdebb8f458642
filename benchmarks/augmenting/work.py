"""The work that is given to all: stamps, and what is to become of each, drawn and planned beforehand."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from augment import VIEW_PX, Conditions, Dither, Plan, ViewParameters, draw, make_plan, preset
from sharding import Dataset

BANDS = ("u", "g", "r", "i", "z")
STAMP_PX = 107
VIEWS = 2  # of each stamp
STORED = {"float32": 4, "float16": 2, "int16": 2}  # bytes of a pixel, as datasets store them

# As those of an SDSS field are, in ugriz; also for what a given dataset does not know.
_MAD = (0.03, 0.015, 0.02, 0.035, 0.13)
_SKY_SIGMA = (0.04, 0.02, 0.03, 0.05, 0.2)
_PSF_FWHM_ARCSEC = 1.1
_INT16_MAX, _FLOAT16_MAX = 32767, 65504


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamps:
    """Stamps on the host, and what is known of them."""

    images: Tensor  # (batch, band, y, x), float32 [nanomaggy / pixel]
    bands: tuple[str, ...]
    conditions: Conditions
    step: Tensor  # (band,), of 16-bit integers: about a quarter of the noise [nanomaggy / pixel]

    def first(self, batch: int) -> "Stamps":
        """Some of them."""
        known = self.conditions
        return Stamps(
            images=self.images[:batch],
            bands=self.bands,
            conditions=Conditions(
                ebv=known.ebv[:batch],
                pixel_scale_arcsec=known.pixel_scale_arcsec,
                mad=known.mad,
                psf_fwhm_arcsec=None if known.psf_fwhm_arcsec is None else known.psf_fwhm_arcsec[:batch],
                sky_sigma=None if known.sky_sigma is None else known.sky_sigma[:batch],
            ),
            step=self.step,
        )


def noise_stamps(batch: int, side_px: int = STAMP_PX) -> Stamps:
    """Of white noise of unit variance. The first ones of a larger batch are those of a smaller one."""
    noise = np.random.default_rng(0).standard_normal((batch, len(BANDS), side_px, side_px), dtype=np.float32)
    known = Conditions(
        ebv=torch.full((batch,), 0.05),
        pixel_scale_arcsec=0.396,
        mad=torch.tensor(_MAD),
        psf_fwhm_arcsec=torch.full((batch, len(BANDS)), _PSF_FWHM_ARCSEC),
        sky_sigma=torch.tensor(_SKY_SIGMA).expand(batch, -1),
    )
    step = torch.full((len(BANDS),), 0.25)
    return Stamps(images=torch.from_numpy(noise), bands=BANDS, conditions=known, step=step)


def given_stamps(dataset: Dataset, batch: int) -> Stamps:
    """A dataset's first stamps, from the first one again where it has fewer.

    A PSF that it does not know is taken to be as usual, and sky noise to be 1.4826 MAD, so that no preset leaves work
    out. DatasetError for what cannot be read, or has no dust.
    """
    from trainer.data import Stamps as Known

    indices = np.arange(batch, dtype=np.int64) % len(dataset)
    known = Known(dataset, torch.device("cpu")).conditions(indices)
    mad = known.mad.float()
    usual = torch.full((batch, len(dataset.bands)), _PSF_FWHM_ARCSEC)
    return Stamps(
        images=torch.from_numpy(dataset.images(indices)),
        bands=dataset.bands,
        conditions=Conditions(
            ebv=known.ebv,
            pixel_scale_arcsec=known.pixel_scale_arcsec,
            mad=known.mad,
            psf_fwhm_arcsec=usual if known.psf_fwhm_arcsec is None else known.psf_fwhm_arcsec,
            sky_sigma=(1.4826 * mad).expand(batch, -1) if known.sky_sigma is None else known.sky_sigma,
        ),
        step=(0.25 * mad).clamp(min=torch.finfo(torch.float32).tiny),
    )


def encoded(stamps: Stamps, stored: str) -> tuple[Tensor, Dither | None]:
    """The stamps as a dataset stores them, one of `STORED`; 16-bit integers with what decodes them."""
    images = stamps.images
    if stored == "float32":
        return images, None
    if stored == "float16":
        return images.clamp(-_FLOAT16_MAX, _FLOAT16_MAX).half(), None
    brightest = images.abs().amax(dim=(2, 3))
    doublings = (brightest / (stamps.step * _INT16_MAX)).clamp(min=1.0).log2().ceil()
    step = stamps.step * 2.0**doublings
    numbers = (images / step[:, :, None, None]).round().clamp(-_INT16_MAX, _INT16_MAX).to(torch.int16)
    return numbers, Dither(objid=torch.arange(len(images)), step=step)


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Views of stamps, on the host."""

    preset: str
    stamps: Stamps
    drawn: tuple[ViewParameters, ...]  # of each view
    plans: tuple[Plan, ...]  # the same, worked out

    @property
    def plan(self) -> Plan:
        """All views in one."""
        return Plan.joined(self.plans)

    @property
    def view_px(self) -> int:
        """Side of a view."""
        return self.plans[0].size_px

    @property
    def stamp_shape(self) -> tuple[int, int]:
        """Height and width of a stamp [px]."""
        height, width = self.stamps.images.shape[2:]
        return height, width

    def first(self, batch: int) -> "Work":
        """The same for the first stamps only."""
        return make_work(self.preset, self.stamps.first(batch), self.view_px)

    def view_bytes(self, stored: str = "float32") -> int:
        """What is read and written for a view: its share of the stamp, and itself in float32."""
        height, width = self.stamp_shape
        return len(self.stamps.bands) * (STORED[stored] * (height * width // VIEWS) + 4 * self.view_px**2)

    def view_flop(self) -> int:
        """What a view takes at least, in the mean, a multiplication and an addition counted as two FLOP.

        For each pixel and band 4 multiply-adds to interpolate, 2 r - 1 along each axis to blur with weights that end
        at the distance r - 1, one for the gain and one for the noise, where there is any. Positions, random numbers
        and decoding are not counted.
        """
        plan = self.plan
        reach = (plan.taps != 0).sum(dim=-1)  # (row, band); 1 is no blur
        multiply_adds = 4 + torch.where(reach > 1, 2 * (2 * reach - 1), 0) + 1 + (plan.noise_sigma > 0).long()
        return round(2 * self.view_px**2 * float(multiply_adds.sum(dim=1).double().mean()))


def make_work(preset_name: str, stamps: Stamps, view_px: int = VIEW_PX) -> Work:
    """The first stamps of a larger batch become the same views as those of a smaller one.

    AugmentError for bands that the preset does not know.
    """
    sample, (height, width) = torch.arange(len(stamps.images)), stamps.images.shape[2:]
    drawn = tuple(
        draw(preset(preset_name), seed=0, epoch=0, sample=sample, view=view, bands=stamps.bands)
        for view in range(VIEWS)
    )
    plans = tuple(
        make_plan(each, stamps.conditions, bands=stamps.bands, stamp_shape=(height, width), size_px=view_px)
        for each in drawn
    )
    return Work(preset=preset_name, stamps=stamps, drawn=drawn, plans=plans)


def blur_sigma_px(plan: Plan) -> Tensor:
    """The blur's rms along an axis (row, band), for libraries that ask for a Gaussian's width."""
    distance = torch.arange(plan.taps.shape[-1], dtype=torch.float64)
    return (2.0 * plan.taps @ distance**2).sqrt()
