"""exp, log, erf, sin, cos and sqrt in float64 whose bits are the same on every machine, in any batch.

The C libraries' and torch's own versions differ in the last bit between libraries, processors and vector widths, so
two ranks could draw two views. These are made of additions, products and quotients alone, which IEEE 754 rounds in
one way, one number at a time and never fused; they are right to some 1e-15. Sources: the Taylor series, and for log
the area tangent's, after the usual reductions.
"""

import math
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float64
from numba import njit
from torch import Tensor

from .compiled import compiled

_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # 33 bits: its product with an exponent is exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_PER_LN2 = float.fromhex("0x1.71547652b82fep+0")
_PI_OVER_180 = math.pi / 180.0
_PER_SQRT_PI_2 = float.fromhex("0x1.20dd750429b6dp+0")  # 2 / sqrt(pi)
_ERF_IS_1 = 6.0  # to 2e-17
_ERF_SHARES = np.array([2.0 / (2 * n + 1) for n in range(1, 121)])  # so many terms are enough for 6
_EXP_TERMS = 14  # |r| < 0.35: 0.35^14 / 14! = 5e-18
_LOG_TERMS = 12  # s^2 < 0.0295: 0.0295^12 / 25 = 2e-20
_SIN_TERMS = 9  # |x| < 0.79: 0.79^18 / 18! = 2e-18


def exp(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """e to the power of each number, of |x| < 700."""
    return _each(_exp_all, x)


def log(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """Natural logarithm of each number > 0."""
    return _each(_log_all, x)


def cos_sin(
    angle_deg: Float64[Tensor, "*shape"],
) -> tuple[Float64[Tensor, "*shape"], Float64[Tensor, "*shape"]]:
    """Cosine and sine of each angle [degree]; exact for multiples of 90, and for 360 degrees more."""
    both = _each(_cos_sin_all, angle_deg, 2)
    return both[0], both[1]


def erf(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """Error function of each number >= 0: 2 / sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!, no term negative."""
    return _each(_erf_all, x)


def sqrt(x: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """Square root of each number >= 0, as IEEE 754 rounds it.

    NumPy takes the processor's. Torch's goes through a library that promises less, and that shares a few hundred
    numbers out to threads, which takes it milliseconds.
    """
    return torch.from_numpy(np.sqrt(x.numpy()))


def _each(kernel: Any, x: Tensor, results: int = 0) -> Tensor:
    """``kernel`` on the flat numbers; into one array like ``x``, or into so many."""
    out = np.empty((results, *x.shape) if results else x.shape)
    kernel(np.ascontiguousarray(x.numpy()).reshape(-1), out.reshape(results, -1) if results else out.reshape(-1))
    return torch.from_numpy(out)


@njit(nogil=True, inline="always")
@no_type_check
def _exp(x):  # float64 -> float64
    k = math.floor(x * _PER_LN2 + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    total = 1.0
    for term in range(_EXP_TERMS, 0, -1):
        total = 1.0 + total * r / term
    return math.ldexp(total, int(k))


@njit(nogil=True, inline="always")
@no_type_check
def _log(x):  # float64 -> float64
    m, e = math.frexp(x)
    if m < 0.7071067811865476:
        m, e = 2.0 * m, e - 1
    s = (m - 1.0) / (m + 1.0)
    total = 0.0
    for term in range(_LOG_TERMS, -1, -1):
        total = total * (s * s) + 1.0 / (2 * term + 1)
    return e * _LN2_HIGH + (e * _LN2_LOW + 2.0 * s * total)


@njit(nogil=True, inline="always")
@no_type_check
def _cos_sin(angle_deg):  # float64 -> two float64
    """From the nearest quarter turn, which is exact, and the at most 45 degrees beyond it."""
    quarter = math.floor(angle_deg / 90.0 + 0.5)
    x = (angle_deg - 90.0 * quarter) * _PI_OVER_180
    cosine = 1.0
    sine = 1.0
    for term in range(_SIN_TERMS, 0, -1):
        cosine = 1.0 - cosine * (x * x) / ((2 * term - 1) * (2 * term))
        sine = 1.0 - sine * (x * x) / ((2 * term) * (2 * term + 1))
    sine *= x
    turn = int(quarter - 4.0 * math.floor(quarter / 4.0))
    if turn == 1:
        return -sine, cosine
    if turn == 2:
        return -cosine, -sine
    if turn == 3:
        return sine, -cosine
    return cosine, sine


@njit(nogil=True, inline="always")
@no_type_check
def _erf(x):  # float64 -> float64
    if x > _ERF_IS_1:
        return 1.0
    total, term, square = 0.0, x, x * x
    for share in _ERF_SHARES:
        total += term
        term *= square * share
        if term < 1e-17 * total:
            break
    return min(1.0, _PER_SQRT_PI_2 * _exp(-x * x) * total)


@compiled
@no_type_check
def _erf_all(x, out):  # float64 arrays
    for i in range(x.size):
        out[i] = _erf(x[i])


@compiled
@no_type_check
def _exp_all(x, out):  # float64 arrays
    for i in range(x.size):
        out[i] = _exp(x[i])


@compiled
@no_type_check
def _log_all(x, out):  # float64 arrays
    for i in range(x.size):
        out[i] = _log(x[i])


@compiled
@no_type_check
def _cos_sin_all(angle_deg, out):  # float64 arrays
    for i in range(angle_deg.size):
        out[0, i], out[1, i] = _cos_sin(angle_deg[i])
