"""The Triton kernel that makes the rows of a plan in one pass. Launched by `gpu`.

One program makes one plane, a band of a row. It is a tile of SIDE x SIDE values, SIDE the power of two that holds the
view, which does not leave the chip before it is finished. What a row is, is stated by `reference`, the dither by
`ops.Dither`, the noise field by `noise`.

The kernel runs on a GPU, and on tensors in host memory in Triton's interpreter (TRITON_INTERPRET=1 before triton is
imported). Its functions are `no_type_check`: Triton compiles the source of a plain function, and a wrapper that checks
types is none.
"""

from typing import no_type_check

import triton
import triton.language as tl

_NAN_WEIGHT = tl.constexpr(1e-6)  # as in `reference`
_M1, _M2, _WEYL = tl.constexpr(0x85EBCA6B), tl.constexpr(0xC2B2AE35), tl.constexpr(0x9E3779B9)  # of the dither
_ANGLE = tl.constexpr(1.4629180792671596e-09)  # 2 pi / 2^32


@triton.jit(do_not_specialize=["stamps", "rows", "views", "reach"])
@no_type_check
def render_plane(
    out,  # (row, band, y, x), by its strides
    stored,  # (stamp, band, y, x), contiguous as is all below
    objid,  # (stamp,), or None as `step`
    step,  # (stamp, band)
    place,  # (row,)
    affine,  # (row, 2, 3)
    gain,  # (row, band)
    taps,  # (row, band, reach); float32
    noise_sigma,  # (row, band)
    noise_key,  # (row, 2)
    stamps,
    rows,
    views,  # rows / stamps where the plan holds whole views of the batch one after the other, else 1
    reach,
    stride_row,
    stride_band,
    stride_y,
    stride_x,
    BANDS: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    SIDE: tl.constexpr,
):
    """Resample, blur, scale and add noise to one plane; one program for each, rows x BANDS of them."""
    # The views of one stamp follow each other, so that its pixels are still in the cache for the second.
    program, band = tl.program_id(0) // BANDS, tl.program_id(0) % BANDS
    row = (program % views * (rows // views) + program // views).to(tl.int64)
    of_row = row * BANDS + band
    stamp = tl.load(place + row)
    exists = (stamp >= 0) & (stamp < stamps)  # else the plane is NaN
    of_stamp = tl.where(exists, stamp, 0) * BANDS + band

    at, inside = _pixels_of_tile(SIDE, SIZE)
    y, fraction_y = _position(affine + row * 6, at, HEIGHT)
    x, fraction_x = _position(affine + row * 6 + 3, at, WIDTH)
    plane = stored + of_stamp * (HEIGHT * WIDTH)
    key = 0
    band_step = 1.0
    if objid is not None:
        key = _dither_key(tl.load(objid + of_stamp // BANDS)) + (band * (HEIGHT * WIDTH)).to(tl.uint32) * _WEYL
        band_step = tl.load(step + of_stamp)
    tile, bad = _resample(plane, objid, key, band_step, y * WIDTH + x, fraction_y, fraction_x, WIDTH)

    weights = taps + of_row * reach
    blurred = tl.load(weights) != 1.0  # all weights together are 1
    if blurred:
        tile = _blur(tile, weights, reach, at, inside, SIZE)
    if objid is None:  # noqa: SIM102  # this is asked when it is compiled: integers have no bad pixels
        if tl.max((bad > 0).to(tl.int32)) > 0:
            if blurred:
                bad = _blur(bad, weights, reach, at, inside, SIZE)
            tile = tl.where(bad > _NAN_WEIGHT, float("nan"), tile)

    tile *= tl.where(exists, tl.load(gain + of_row), float("nan")).to(tl.float32)
    sigma = tl.load(noise_sigma + of_row).to(tl.float32)
    if sigma > 0:
        key_0, key_1 = tl.load(noise_key + row * 2), tl.load(noise_key + row * 2 + 1)
        tile += sigma * standard_normal(key_0.to(tl.uint32), key_1.to(tl.uint32), band, at, SIDE, SIZE)
    target = out + row * stride_row + band * stride_band + at[:, None] * stride_y + at[None, :] * stride_x
    tl.store(target, tile.to(out.dtype.element_ty), mask=inside[:, None] & inside[None, :])


@triton.jit
@no_type_check
def _pixels_of_tile(SIDE: tl.constexpr, SIZE: tl.constexpr):
    """Which row (or column) of the view each row (or column) of the tile is, and whether it is one.

    Where 4 divides SIZE, the quarters of the view fill the beginnings of the tile's quarters: `standard_normal`.
    """
    index = tl.arange(0, SIDE)
    if SIZE % 4 == 0:
        in_quarter = index % (SIDE // 4)
        at = index // (SIDE // 4) * (SIZE // 4) + in_quarter
        inside = in_quarter < SIZE // 4
    else:
        at = index
        inside = index < SIZE
    return at, inside


@triton.jit
@no_type_check
def _position(affine, at, PIXELS: tl.constexpr):
    """Along one axis of the stamp: the pixel before each of the tile's positions, and the fraction beyond it."""
    by_row = tl.load(affine) * at + tl.load(affine + 2)
    by_column = tl.load(affine + 1) * at
    position = by_row[:, None] + by_column[None, :]
    # Mirrored about the centres of the edge pixels; of a whole position every step is exact.
    period = 2.0 * (PIXELS - 1)
    position = tl.abs(position - period * tl.floor(position * (1.0 / period) + 0.5))
    # Any affine, be it NaN, leads to a pixel of the stamp.
    pixel = tl.minimum(tl.maximum(position.to(tl.int32), 0), PIXELS - 2)
    return pixel, (position - pixel).to(tl.float32)


@triton.jit
@no_type_check
def _resample(plane, objid, key, step, corner, fraction_y, fraction_x, WIDTH: tl.constexpr):
    """Between the four pixels around each position: the stamp, with 0 for its bad pixels, and the mask of these."""
    left, left_bad = _pixel(plane, corner, objid, key, step)
    right, right_bad = _pixel(plane, corner + 1, objid, key, step)
    upper, upper_bad = _between(left, right, fraction_x), _between(left_bad, right_bad, fraction_x)
    left, left_bad = _pixel(plane, corner + WIDTH, objid, key, step)
    right, right_bad = _pixel(plane, corner + WIDTH + 1, objid, key, step)
    lower, lower_bad = _between(left, right, fraction_x), _between(left_bad, right_bad, fraction_x)
    return _between(upper, lower, fraction_y), _between(upper_bad, lower_bad, fraction_y)


@triton.jit
@no_type_check
def _between(first, second, fraction):
    # Said outright, for of two products and a sum a compiler fuses either one: in each kernel as it likes.
    return tl.fma(second, fraction, first * (1.0 - fraction))


@triton.jit
@no_type_check
def _pixel(plane, place, objid, key, step):
    """The stored numbers decoded, 0 for a bad one; and 1 where it is bad."""
    value = tl.load(plane + place).to(tl.float32)
    bad = tl.zeros_like(value)
    if objid is None:
        finite = tl.abs(value) < float("inf")
        value, bad = tl.where(finite, value, 0.0), tl.where(finite, 0.0, 1.0)
    else:
        # No product is followed by a sum before it is rounded: every decoder gives the same bits.
        dither = (_mix(key + place.to(tl.uint32) * _WEYL) >> 8).to(tl.int32).to(tl.float32) * (2.0**-24)
        value = (value + (0.5 - dither)) * step
    return value, bad


@triton.jit
@no_type_check
def _dither_key(objid):
    return _mix(_mix(objid.to(tl.uint32)) + (objid >> 32).to(tl.uint32))


@triton.jit
@no_type_check
def _mix(h):
    """MurmurHash3's finaliser."""
    h = (h ^ (h >> 16)) * _M1
    h = (h ^ (h >> 13)) * _M2
    return h ^ (h >> 16)


@triton.jit
@no_type_check
def _blur(tile, taps, reach, at, inside, SIZE: tl.constexpr):
    """Along y, then along x. "tf32x3" splits each number into two of 11 bits, which hold all but 2^-24 of it."""
    matrix = _blur_matrix(taps, reach, at, inside, SIZE)
    tile = tl.dot(matrix, tile, input_precision="tf32x3")
    return tl.dot(tile, tl.trans(matrix), input_precision="tf32x3")


@triton.jit
@no_type_check
def _blur_matrix(taps, reach, at, inside, SIZE: tl.constexpr):
    """Row i holds what pixel i takes from each pixel: directly, and from its mirror images beyond the two edges."""
    to, source = at[:, None], at[None, :]
    edge = 2 * (SIZE - 1)
    direct = _tap(taps, reach, tl.abs(to - source), inside[None, :])
    first = _tap(taps, reach, to + source, inside[None, :] & (source > 0))
    last = _tap(taps, reach, tl.abs(edge - to - source), inside[None, :] & (source < SIZE - 1))
    return direct + first + last


@triton.jit
@no_type_check
def _tap(taps, reach, distance, where):
    return tl.load(taps + distance, mask=where & (distance < reach), other=0.0)


@triton.jit
@no_type_check
def standard_normal(key_0, key_1, band, at, SIDE: tl.constexpr, SIZE: tl.constexpr):
    """The tile of one band's noise field.

    A Philox block gives four values that lie a quarter of the plane apart. Where 4 divides SIZE, a quarter is whole
    rows, and each block is made once; else every pixel makes its block and takes its own value of the four.
    """
    if SIZE % 4 == 0:
        block = tl.arange(0, SIDE // 4)[:, None] * SIZE + at[None, :]
        a, b, c, d = _four_normals(block, band, key_0, key_1)
        quarters = tl.permute(tl.join(tl.join(a, c), tl.join(b, d)), (2, 3, 0, 1))
        field = tl.reshape(quarters, (SIDE, SIDE))
    else:
        blocks = (SIZE * SIZE + 3) // 4
        value = at[:, None] * SIZE + at[None, :]
        lane = value // blocks
        a, b, c, d = _four_normals(value % blocks, band, key_0, key_1)
        field = tl.where(lane < 2, tl.where(lane == 0, a, b), tl.where(lane == 2, c, d))
    return field


@triton.jit
@no_type_check
def _four_normals(block, band, key_0, key_1):
    w0, w1, w2, w3 = philox_words(block, band, key_0, key_1)
    a, b = box_muller(w0, w1)
    c, d = box_muller(w2, w3)
    return a, b, c, d


@triton.jit
@no_type_check
def philox_words(block, band, key_0, key_1):
    """The four words of the counter (block, band, 0, 0): Philox4x32-10, as `philox` gives them."""
    zero = tl.zeros_like(block).to(tl.uint32)
    return tl.philox_impl(block.to(tl.uint32), zero + band.to(tl.uint32), zero, zero, key_0, key_1)


@triton.jit
@no_type_check
def box_muller(word, angle):
    """sqrt(-2 ln u) times the cosine and the sine of 2 pi angle / 2^32, u = (word + 1/2) / 2^32; to 2e-6.

    Rounded to float32, u near 1 has lost its logarithm. So there t = 1 - u is what is held, and
    -ln(1 - t) = -ln(s) + (t - (1 - s)), s the rounded 1 - t; the differences are exact.
    """
    near_one = word > 0x7FFFFFFF
    t = (tl.where(near_one, word ^ 0xFFFFFFFF, word).to(tl.float32) + 0.5) * (2.0**-32)
    s = tl.where(near_one, 1.0 - t, t)
    radius = tl.sqrt(2.0 * (tl.where(near_one, t - (1.0 - s), 0.0) - tl.log(s)))
    cosine, sine = _cos_sin(angle)
    return radius * cosine, radius * sine


@triton.jit
@no_type_check
def _cos_sin(angle):
    """Of 2 pi angle / 2^32: from the nearest quarter turn, exact in integers, and the at most 45 degrees beyond it.

    The polynomials are those of the Cephes library (S. Moshier, sinf.c), good to float32's rounding.
    """
    quarter = (angle + 0x20000000) >> 30
    x = (angle - (quarter << 30)).to(tl.int32, bitcast=True).to(tl.float32) * _ANGLE
    z = x * x
    sine = x + x * z * ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1)
    cosine = 1.0 - 0.5 * z + z * z * ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2)
    odd = (quarter & 1) == 1
    turned_cosine, turned_sine = tl.where(odd, sine, cosine), tl.where(odd, cosine, sine)
    turned_cosine = tl.where((quarter == 1) | (quarter == 2), -turned_cosine, turned_cosine)
    return turned_cosine, tl.where(quarter >= 2, -turned_sine, turned_sine)
