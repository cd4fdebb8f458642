"""Stored pixels: what a decoder must give in every bit, and what the dither promises."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sharding import DatasetError
from sharding.decode import decode_on_device
from sharding.dither import dither_key
from sharding.encoding import Encoding, decode, encode

BANDS = "gri"
SIGMA = {"g": 0.02, "r": 0.03, "i": 0.05}
INT16 = Encoding.of("int16", 0.25, SIGMA)
OBJID = np.array([1237645876861337000, 0, -5, 2**63 - 1], dtype=np.int64)
WORD = 2**32 - 1


def mix(h: int) -> int:
    """MurmurHash3's fmix32 in plain integers, as its author published it."""
    h ^= h >> 16
    h = h * 0x85EBCA6B & WORD
    h ^= h >> 13
    h = h * 0xC2B2AE35 & WORD
    return h ^ h >> 16


def plain_dither(objid: int, pixels: int) -> list[float]:
    """The dither as the documentation states it, in plain integers."""
    key = mix(mix(objid & WORD) + (objid >> 32 & WORD) & WORD)
    return [(mix(key + p * 0x9E3779B9 & WORD) >> 8) / 2**24 for p in range(pixels)]


def plain_decode(stored: np.ndarray, objid: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The reference: NumPy, one operation after another in float32."""
    dither = np.array([plain_dither(int(o), stored[0].size) for o in objid], dtype=np.float32).reshape(stored.shape)
    return (stored.astype(np.float32) + (np.float32(0.5) - dither)) * step[:, :, None, None]


def images(count: int, side: int = 9, scale: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(count).normal(size=(count, 3, side, side)) * scale).astype(np.float32)


def test_the_dither_is_the_published_hash() -> None:
    """Frozen: MurmurHash3's fmix32 has these values; a stored dataset depends on every one of them."""
    assert [mix(0), mix(1)] == [0, 0x514E28B7]
    assert dither_key(OBJID[:3]).tolist() == [0x483D5241, 0, 0xD97A48DE]
    dither = plain_dither(int(OBJID[0]), 57245)
    assert [u * 2**24 for u in (*dither[:3], dither[57244])] == [7437914, 15015275, 2312236, 2776620]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_every_decoder_gives_the_same_bits(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    rng = np.random.default_rng(7)
    stored = rng.integers(-(2**15), 2**15, size=(4, 3, 9, 7), dtype=np.int16)
    stored[0, 0, 0, :3] = (-(2**15), 2**15 - 1, 0)
    step = rng.lognormal(-4, 3, size=(4, 3)).astype(np.float32)
    expected = plain_decode(stored, OBJID, step).view(np.uint32)
    np.testing.assert_array_equal(decode(stored, OBJID, step).view(np.uint32), expected)
    tensors = [torch.from_numpy(array).to(device) for array in (stored, OBJID, step)]
    on_device = decode_on_device(*tensors)
    assert on_device.device.type == device
    np.testing.assert_array_equal(on_device.cpu().numpy().view(np.uint32), expected)
    np.testing.assert_array_equal(tensors[0].cpu().numpy(), stored)  # its input is left alone


@pytest.mark.parametrize("name", ["float32", "float16"])
def test_floats_are_stored_rounded_and_read_back_exactly(name: str) -> None:
    before = images(4)
    before[0, 0, 0, :4] = (0, 1e-6, 65504, -1e-8)  # 1e-6: below float16's normal numbers
    stored, step = encode(before, OBJID, Encoding.of(name, 0, SIGMA), BANDS)
    assert (stored.dtype, step) == (np.dtype(name), None)
    expected = before.astype(name).astype(np.float32)
    np.testing.assert_array_equal(decode(stored, OBJID, step), expected)
    on_device = decode_on_device(torch.from_numpy(stored), torch.from_numpy(OBJID), None)
    np.testing.assert_array_equal(on_device.numpy(), expected)


def test_the_error_is_at_most_half_a_step() -> None:
    before = images(4)
    before[1, 2, 4, 4] = 1000
    stored, step = encode(before, OBJID, INT16, BANDS)
    error = np.abs(decode(stored, OBJID, step).astype(np.float64) - before) / step[:, :, None, None]
    # |q| < 2**15, so each of two roundings to float32 moves a pixel by at most 2**-9 steps / 2.
    assert error.max() <= 0.5 + 2**-9


@pytest.mark.parametrize("place", [0.0, 0.25, 0.5, 0.9])
def test_the_error_is_uniform_and_of_mean_zero_wherever_a_pixel_lies_between_two_steps(place: float) -> None:
    """Without dither a constant image would have one error; with it, all of +-step / 2, in every image anew."""
    step = np.float32(INT16.step["g"])
    before = np.full((20, 3, 58, 58), (3 + place) * step, dtype=np.float32)
    objid = np.arange(20) + OBJID[0]
    stored, steps = encode(before, objid, INT16, BANDS)
    error = ((decode(stored, objid, steps) - before) / steps[:, :, None, None])[:, 0].astype(np.float64)
    n = error.size
    counts, _ = np.histogram(error, bins=64, range=(-0.5, 0.5))
    chi_square = ((counts - n / 64) ** 2 / (n / 64)).sum()
    assert chi_square < 63 + 5 * np.sqrt(2 * 63)  # mean 63, variance 126: five sigma
    assert abs(error.mean()) < 5 / np.sqrt(12 * n)
    assert abs(error.std() * np.sqrt(12) - 1) < 5 * np.sqrt(0.2 / n)  # (kurtosis 1.8 - 1) / 4n is the variance
    flat = error.reshape(20, -1)
    for one, other in ((flat[:, 1:], flat[:, :-1]), (flat[:, 58:], flat[:, :-58]), (flat[1:], flat[:-1])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)  # pixels and samples alike


def test_the_error_does_not_follow_the_pixel() -> None:
    before = images(40, side=31)
    objid = np.arange(40) + OBJID[0]
    stored, step = encode(before, objid, INT16, BANDS)
    error = decode(stored, objid, step) - before
    for power in (1, 2):
        correlation = np.corrcoef(before.ravel(), error.ravel() ** power)[0, 1]
        assert abs(correlation) < 5 / np.sqrt(before.size)


@given(exponent=st.floats(-10, 100), sign=st.sampled_from([-1, 1]))
def test_the_step_is_doubled_just_as_often_as_the_brightest_pixel_needs(exponent: float, sign: int) -> None:
    brightest = float(np.float32(2**exponent))
    before = np.zeros((1, 3, 2, 2), dtype=np.float32)
    before[0, 1, 1, 0] = sign * brightest
    _, step = encode(before, OBJID[:1], INT16, BANDS)
    smallest = np.array([INT16.step[band] for band in BANDS], dtype=np.float32)
    doubled = float(step[0, 1] / smallest[1])
    assert doubled == 2.0 ** round(np.log2(doubled))
    np.testing.assert_array_equal(step[0, [0, 2]], smallest[[0, 2]])  # the other bands' own
    dither = plain_dither(int(OBJID[0]), 7)[6]

    def fits(width: float) -> bool:
        return -(2**15) <= np.floor(sign * brightest / width + dither) < 2**15

    assert fits(float(step[0, 1]))
    assert doubled == 1 or not fits(float(step[0, 1]) / 2)


def test_what_was_decoded_is_encoded_to_the_same_numbers() -> None:
    before = images(4, scale=50)
    stored, step = encode(before, OBJID, INT16, BANDS)
    again, _ = encode(decode(stored, OBJID, step), OBJID, INT16, BANDS)
    np.testing.assert_array_equal(again, stored)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["float32", "float16", "int16"])
def test_a_pixel_that_is_not_finite_is_refused_by_name(name: str, value: float) -> None:
    before = images(4)
    before[2, 1, 3, 3] = value
    with pytest.raises(DatasetError, match=r"^sample -5: a pixel is not finite"):
        encode(before, OBJID, Encoding.of(name, 0.25, SIGMA), BANDS)


def test_a_pixel_too_bright_for_float16_is_refused_by_name() -> None:
    before = images(4)
    before[3, 0, 0, 0] = 65520  # the least that is rounded to infinity
    with pytest.raises(DatasetError, match=rf"^sample {OBJID[3]}: a pixel is brighter than float16"):
        encode(before, OBJID, Encoding(name="float16"), BANDS)


@pytest.mark.parametrize("encoding", [Encoding(), Encoding(name="float16"), INT16, Encoding(loss={"samples": 3})])
def test_an_encoding_comes_back_from_the_manifest(encoding: Encoding) -> None:
    assert Encoding.check(json.loads(json.dumps(asdict(encoding))), BANDS) == encoding


@pytest.mark.parametrize(
    "change",
    [
        {"name": "int8"},
        {"name": ["int16"]},
        {"name": "float32"},
        {"fraction": 0},
        {"fraction": float("nan")},
        {"fraction": "0.25"},
        {"step": {}},
        {"step": {"g": 1.0, "r": 1.0, "z": 1.0}},
        {"step": {"g": 1.0, "r": 1.0, "i": 0.0}},
        {"step": {"g": 1.0, "r": 1.0, "i": 0.1}},  # no float32 number
        {"step": {"g": 1.0, "r": 1.0, "i": float("inf")}},
        {"step": [1.0, 1.0, 1.0]},
        {"loss": []},
        {"more": 1},
    ],
)
def test_an_encoding_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match=r"^encoding"):
        Encoding.check(asdict(INT16) | change, BANDS)


def test_a_band_without_noise_has_no_step() -> None:
    with pytest.raises(DatasetError, match=r"noise nan of band r"):
        Encoding.of("int16", 0.25, {"g": 1.0, "r": float("nan")})
