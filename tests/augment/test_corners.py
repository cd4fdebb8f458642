"""The object's place in a view, and what fills a view's corners where they lie outside the stamp.

The question to the fill: can a classifier tell views whose corners were filled from the same views of stamps so large
that nothing had to be? (Not from views that stayed inside: those differ in angle and shift, which the noise shows.)
"""

import collections
import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from augment import PRESETS, Conditions, ViewParameters, apply, draw
from augment.geometry import view_affine
from augment.presets import SDSS_PSF_FWHM_ARCSEC, SDSS_SKY_SIGMA_NANOMAGGY

F64 = torch.float64
UGRIZ = ("u", "g", "r", "i", "z")
STAMP, LARGE, VIEW = 107, 161, 64  # sides [px]; in the large stamp no view reaches an edge: 39 sqrt(2) / 0.9 < 80
SKY_SIGMA = torch.tensor(SDSS_SKY_SIGMA_NANOMAGGY.median)
DRAWN, VIEWS = 50_000, 300
DEPTH = 9  # corner pixels looked at, along each side: `stein2021` turns no more than 8.3 px outside


def affine_of(drawn: ViewParameters, stamp: int = STAMP) -> torch.Tensor:
    return view_affine(
        angle_deg=drawn.angle_deg, scale=drawn.scale, flip=drawn.flip, shift_px=drawn.shift_px,
        stamp_shape=(stamp, stamp), size_px=VIEW,
    )  # fmt: skip


def px_outside(drawn: ViewParameters) -> torch.Tensor:
    """How far the farthest pixel of each view lies beyond the centres of the stamp's edge pixels; negative inside."""
    last = VIEW - 1.0
    corners = torch.tensor([[0, 0, 1], [0, last, 1], [last, 0, 1], [last, last, 1]], dtype=F64)
    place = affine_of(drawn) @ corners.T
    return torch.maximum(-place, place - (STAMP - 1)).amax(dim=(1, 2))


@functools.cache
def drawn_views(name: str) -> ViewParameters:
    """The same for all tests, which leave them as they are."""
    return draw(PRESETS[name], seed=11, epoch=0, sample=torch.arange(DRAWN), view=0, bands=UGRIZ)


def turned_outside(name: str, count: int) -> ViewParameters:
    """The first ``count`` of them that turn outside by over a pixel, without dust."""
    drawn = drawn_views(name)
    chosen = torch.nonzero(px_outside(drawn) > 1)[:count, 0]
    some = ViewParameters(**{each.name: getattr(drawn, each.name)[chosen] for each in dataclasses.fields(drawn)})
    return dataclasses.replace(some, ebv=0 * some.ebv)


@given(
    angle=st.floats(0.0, 360.0),
    scale=st.floats(0.5, 2.0),
    flip=st.booleans(),
    shift=st.tuples(st.integers(-7, 7), st.integers(-7, 7)),
)
def test_the_object_lands_on_its_pixel_and_all_turns_about_it(angle, scale, flip, shift):
    affine = view_affine(
        angle_deg=torch.tensor([angle], dtype=F64), scale=torch.tensor([scale], dtype=F64), flip=torch.tensor([flip]),
        shift_px=torch.tensor([shift], dtype=F64), stamp_shape=(STAMP, STAMP), size_px=VIEW,
    )[0]  # fmt: skip
    y, x = 32.0 + shift[0], 32.0 + shift[1]
    # Numbers up to 200, a few roundings of 2^-53: 1e-13.
    torch.testing.assert_close(affine @ torch.tensor([y, x, 1.0], dtype=F64), torch.full((2,), 53.0, dtype=F64),
                               rtol=0, atol=1e-12)  # fmt: skip
    around = torch.tensor([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0]], dtype=F64) + torch.tensor([y, x, 1.0], dtype=F64)
    arms = around @ affine.T - 53.0
    # A turn (and mirror) with one scale: two arms of the same length, at right angles, in the order that the flip says.
    expected = torch.eye(2, dtype=F64) * (5.0 / scale) ** 2
    torch.testing.assert_close(arms @ arms.T, expected, rtol=1e-11, atol=1e-11)
    assert (torch.linalg.det(arms) < 0) == flip


def share_outside(scales: np.ndarray) -> float:
    """By counting: all shifts, finely spaced angles, and corners farther than 53 px from the object along an axis."""
    angle = (np.arange(1000) + 0.5) / 1000 * 2 * np.pi
    shift = np.arange(-7, 8)
    near, far = -32 - shift, 31 - shift
    outside = np.zeros((len(scales), 15, 15, len(angle)), dtype=bool)
    for y in (near, far):
        for x in (near, far):
            y_px, x_px = y[:, None, None] / scales[:, None, None, None], x[:, None] / scales[:, None, None, None]
            outside |= np.abs(np.cos(angle) * y_px + np.sin(angle) * x_px) > 53
            outside |= np.abs(np.cos(angle) * x_px - np.sin(angle) * y_px) > 53
    return float(outside.mean())


@pytest.mark.parametrize(
    ("name", "scales", "share"),
    [("hayat2021", np.ones(1), 0.0173), ("stein2021", 0.9 + 0.2 * (np.arange(20) + 0.5) / 20, 0.0739)],
)
def test_the_share_of_views_that_turn_outside_the_stamp(name, scales, share):
    assert share_outside(scales) == pytest.approx(share, abs=1e-3)
    found = (px_outside(drawn_views(name)) > 1e-9).double().mean().item()
    assert found == pytest.approx(share, abs=4 * math.sqrt(share / DRAWN))  # 4 standard errors


def sky(count: int, rng: torch.Generator) -> torch.Tensor:
    """Empty stamps (row, band, y, x): white native noise through Lanczos-3, at a phase of its own in each stamp."""
    native = torch.randn(count, 5, LARGE + 5, LARGE + 5, generator=rng) * SKY_SIGMA[:, None, None]
    distance = torch.arange(-2, 4) - torch.rand(count, 2, 1, generator=rng)
    taps = torch.sinc(distance) * torch.sinc(distance / 3)
    taps = (taps / taps.sum(dim=-1, keepdim=True))[..., None, None, None]
    rows, stamps = torch.zeros(count, 5, LARGE, LARGE + 5), torch.zeros(count, 5, LARGE, LARGE)
    for k in range(6):
        rows.addcmul_(taps[:, 0, k], native[:, :, k : k + LARGE])
    for k in range(6):
        stamps.addcmul_(taps[:, 1, k], rows[..., k : k + LARGE])
    return stamps


def view_of(stamps: torch.Tensor, drawn: ViewParameters) -> torch.Tensor:
    """Views (row, band, y, x) of empty sky, in native sigmas."""
    known = Conditions(
        ebv=torch.zeros(len(stamps)), mad=0.893 * SKY_SIGMA, pixel_scale_arcsec=0.396,
        psf_fwhm_arcsec=torch.tensor(SDSS_PSF_FWHM_ARCSEC.median).expand(len(stamps), 5),
        sky_sigma=SKY_SIGMA.expand(len(stamps), 5),
    )  # fmt: skip
    return apply(stamps, drawn, known, bands=UGRIZ) / SKY_SIGMA[:, None, None]


def corners_of(stamps: torch.Tensor, drawn: ViewParameters) -> torch.Tensor:
    """(row, corner, band, y, x) the four corners of each view, each turned to begin at (0, 0), in native sigmas."""
    view = view_of(stamps, drawn)
    return torch.stack([torch.rot90(view, turn, (2, 3))[:, :, :DEPTH, :DEPTH] for turn in range(4)], dim=1)


def quiet(drawn: ViewParameters) -> ViewParameters:
    """The same views without added noise: with nothing that could hide a fill."""
    return dataclasses.replace(drawn, mad_factor=0 * drawn.mad_factor, sky_sigma=0 * drawn.sky_sigma)


@functools.cache
def corners_by_fill(name: str) -> dict[str, torch.Tensor]:
    """The corners of views that turn outside by over a pixel: of large stamps ("whole"), and of their middles, filled.

    Without and with the noise that the preset adds.
    """
    views = turned_outside(name, VIEWS)
    rng, edge = torch.Generator().manual_seed(5), (LARGE - STAMP) // 2
    found = collections.defaultdict(list)
    for part in torch.arange(len(views.scale)).split(50):
        some = ViewParameters(**{each.name: getattr(views, each.name)[part] for each in dataclasses.fields(views)})
        large = sky(len(part), rng)
        stamps = large[:, :, edge:-edge, edge:-edge].contiguous()
        found["whole"].append(corners_of(large, quiet(some)))
        found["mirrored"].append(corners_of(stamps, quiet(some)))
        found["zeros"].append(corners_of(F.pad(stamps, (edge,) * 4), quiet(some)))
        found["whole, noise added"].append(corners_of(large, some))
        found["mirrored, noise added"].append(corners_of(stamps, some))
    return {fill: torch.cat(parts) for fill, parts in found.items()}


def features(corner: torch.Tensor, *, pairs: bool) -> np.ndarray:
    """Log mean squares in triangles of each corner, the corners sorted: of pixels, and of differences of neighbours."""
    squares = [corner**2]
    if pairs:
        squares += [
            corner.diff(dim=3) ** 2,
            corner.diff(dim=4) ** 2,
            (corner[..., 1:, 1:] - corner[..., :-1, :-1]) ** 2,
        ]
    columns = [
        square[..., _triangle(square, size)].mean(dim=(2, 3)).add(1e-9).log().sort(dim=1).values
        for square in squares
        for size in range(DEPTH)
    ]
    return torch.cat(columns, dim=1).numpy()


def _triangle(square: torch.Tensor, size: int) -> torch.Tensor:
    """The pixels (y, x) of a corner with y + x <= size."""
    height, width = square.shape[3:]
    return torch.arange(height)[:, None] + torch.arange(width) <= size


def told_apart(filled: torch.Tensor, whole: torch.Tensor, *, pairs: bool) -> float:
    """Area under the ROC curve of a logistic regression, learnt on half of the views, on the other half."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    half = len(filled) // 2
    learn, judge = (
        (np.concatenate([features(each[part], pairs=pairs) for each in (whole, filled)]), np.repeat([0, 1], half))
        for part in (slice(0, half), slice(half, 2 * half))
    )
    judged = LogisticRegression(C=0.01, max_iter=500).fit(*learn).decision_function(judge[0])
    return float(roc_auc_score(judge[1], judged))


def chance(views: int) -> float:
    """Four standard errors of the area under the curve of a classifier that knows nothing, half of the views judged."""
    judged = views // 2
    return 4 * math.sqrt((2 * judged + 1) / (12 * judged**2))


PRESETS_THAT_TURN = pytest.mark.parametrize("name", ["hayat2021", "stein2021"])


@PRESETS_THAT_TURN
def test_zeros_would_tell_that_a_view_was_turned_outside(name):
    corners = corners_by_fill(name)
    assert told_apart(corners["zeros"], corners["whole"], pairs=False) > 0.95


@PRESETS_THAT_TURN
def test_no_pixel_of_the_mirrored_fill_tells(name):
    """As each is drawn from the same noise, interpolated and blurred as any other."""
    corners = corners_by_fill(name)
    area = told_apart(corners["mirrored"], corners["whole"], pairs=False)
    assert area == pytest.approx(0.5, abs=chance(len(corners["whole"])))


@PRESETS_THAT_TURN
def test_nor_do_pairs_of_pixels_in_the_noise_that_the_preset_adds(name):
    """Without that noise they would: beside the edge, neighbours are each other's mirror images (area 0.7 to 0.8)."""
    corners = corners_by_fill(name)
    area = told_apart(corners["mirrored, noise added"], corners["whole, noise added"], pairs=True)
    assert area == pytest.approx(0.5, abs=chance(len(corners["whole"])))


@pytest.mark.parametrize(("name", "auc"), [("hayat2021", 0.52), ("stein2021", 0.71)])
def test_what_who_knows_where_the_mirror_stands_can_tell(name, auc):
    """An upper bound, as stated in `resample`: products of pixels with their mirror images, with the preset's noise."""
    from sklearn.metrics import roc_auc_score

    some, edge = turned_outside(name, 200), (LARGE - STAMP) // 2
    large = sky(200, torch.Generator().manual_seed(7))
    mirrored, whole = _products([large[:, :, edge:-edge, edge:-edge].contiguous(), large], some)
    found = roc_auc_score(np.repeat([0, 1], len(whole)), np.concatenate([whole, mirrored]))
    assert found == pytest.approx(auc, abs=chance(2 * len(whole)))


def _products(fills: list[torch.Tensor], drawn: ViewParameters) -> list[np.ndarray]:
    """For each view its pixels outside the stamp times those over 3 px away that these repeat, in native noise."""
    affine = affine_of(drawn)
    grid = torch.stack(torch.meshgrid(torch.arange(VIEW), torch.arange(VIEW), indexing="ij"), dim=-1).to(F64)
    place = torch.einsum("rij,yxj->ryxi", affine[..., :2], grid) + affine[:, None, None, :, 2]
    folded = torch.where(place < 0, -place, torch.where(place > STAMP - 1, 2 * (STAMP - 1) - place, place))
    seen = torch.einsum("rij,ryxj->ryxi", torch.linalg.inv(affine[..., :2]), folded - affine[:, None, None, :, 2])
    pairs = ((place - folded).abs().sum(dim=-1) > 3) & ((seen >= 0) & (seen <= VIEW - 1)).all(dim=-1)
    norm = pairs.sum(dim=(1, 2)).clamp(min=1).sqrt()
    found = []
    for stamps in fills:
        view = view_of(stamps, drawn).double()
        image = F.grid_sample(view, ((2 * seen + 1) / VIEW - 1).flip(-1), align_corners=False)
        found.append((((view * image).sum(dim=1) * pairs).sum(dim=(1, 2)) / norm).numpy())
    return found
