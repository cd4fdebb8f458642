"""exp, log, erf, cos, sin and sqrt: right to an ulp or two, and the same bits in any batch and on any machine."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from augment.elementary import cos_sin, erf, exp, log, sqrt

F64 = torch.float64
ULP = 2.0**-52


def one(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=F64)


@given(x=st.floats(-700, 700))
def test_exp_is_right(x):
    # Horner with quotients rounds each step, but the later terms shrink: two ulp, and the C library's own.
    assert float(exp(one(x))) == pytest.approx(math.exp(x), rel=3 * ULP, abs=0)


@given(x=st.floats(1e-300, 1e300))
def test_log_is_right(x):
    assert float(log(one(x))) == pytest.approx(math.log(x), rel=4 * ULP, abs=ULP)


@given(angle=st.floats(-1e4, 1e4))
def test_cosine_and_sine_are_right(angle):
    rest = float(Fraction(angle) % 360)  # exact, where a conversion to radians would round the whole angle
    cosine, sine = cos_sin(one(angle))
    # math's own argument, up to 2 pi, is rounded to 4.4e-16.
    assert (float(cosine), float(sine)) == pytest.approx(
        (math.cos(math.radians(rest)), math.sin(math.radians(rest))), rel=0, abs=6 * ULP
    )


@given(x=st.floats(0, 30))
def test_erf_is_right(x):
    # exp(-x^2) carries the rounding of x^2 <= 36: 36 ulp / 2 at worst, where erf is all but 1.
    assert float(erf(one(x))) == pytest.approx(math.erf(x), rel=20 * ULP, abs=0)


@given(x=st.floats(0, 1e300))
def test_sqrt_is_the_rounded_root(x):
    assert float(sqrt(one(x))) == math.sqrt(x)  # which IEEE 754 asks of both


def test_quarter_turns_are_exact():
    cosine, sine = cos_sin(torch.arange(-8, 9, dtype=F64) * 90)
    assert cosine.tolist() == [1, 0, -1, 0] * 4 + [1]
    assert sine.tolist() == [0, 1, 0, -1] * 4 + [0]


def test_golden_bits():
    """Of any machine, since only rounded sums, products and quotients make them."""
    x = torch.tensor([-20.25, -0.1, 0.3, 1.0, 17.125], dtype=F64)
    assert [value.hex() for value in exp(x).tolist()] == GOLDEN["exp"]
    assert [value.hex() for value in log(x.abs()).tolist()] == GOLDEN["log"]
    assert [value.hex() for value in erf(x.abs() / 10).tolist()] == GOLDEN["erf"]
    assert [value.hex() for value in cos_sin(x * 10)[0].tolist()] == GOLDEN["cos"]
    assert [value.hex() for value in cos_sin(x * 10)[1].tolist()] == GOLDEN["sin"]


GOLDEN = {
    "erf": [
        "0x1.fddb4ffb9dc29p-1",
        "0x1.71bc266657b66p-7",
        "0x1.153a2fe6dc839p-5",
        "0x1.cca5ea24fb332p-4",
        "0x1.f817f88862a1dp-1",
    ],
    "exp": [
        "0x1.b93de1e27ca3bp-30",
        "0x1.cf46d99d52b3ap-1",
        "0x1.599058c8c1a96p+0",
        "0x1.5bf0a8b14576ap+1",
        "0x1.a1a68b58bbd5ap+24",
    ],
    "log": [
        "0x1.810b375dce91ep+1",
        "-0x1.26bb1bbb55515p+1",
        "-0x1.34378fcbda721p+0",
        "0x0.0p+0",
        "0x1.6b96cb66f55c6p+1",
    ],
    "cos": [
        "-0x1.d906bcf328d46p-1",
        "0x1.ffec097f5af8ap-1",
        "0x1.ff4c5ed12e61dp-1",
        "0x1.f838b8c811c17p-1",
        "-0x1.fa0a85182b1b7p-1",
    ],
    "sin": [
        "0x1.87de2a6aea963p-2",
        "-0x1.1df0b2b89dd1ep-6",
        "0x1.acbc748efc90ep-5",
        "0x1.63a1a7e0b738ap-3",
        "0x1.378c774523c77p-3",
    ],
}


@given(st.integers(1, 40), st.integers(0, 39))
def test_bits_do_not_depend_on_the_batch(count, first):
    x = torch.linspace(0.01, 7.0, 80, dtype=F64)
    part = slice(first, first + count)
    assert torch.equal(exp(x[part]), exp(x)[part])
    assert torch.equal(log(x[part]), log(x)[part])
    assert torch.equal(torch.stack(cos_sin(x[part])), torch.stack(cos_sin(x))[:, part])
