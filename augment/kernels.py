"""The compiled kernel of the CPU op: rows of a plan rendered one after the other, on one thread, without the lock.

Knows arrays only: `cpu` makes them of tensors and shares the rows out. `plan` says what the numbers mean, `reference`
what a row is. It is all in one file because numba keeps compiled code by the age of the file that the entry is in: a
helper changed in another file would not be seen.

What makes it fast (views of 107 -> 64 pixels in five bands with blur and noise, 71 us each on one core of 2.6 GHz):
- one entry with one set of types serves every dtype and layout, so that it is compiled once;
- counts and offsets are unsigned: numba tests signed ones for negative (wrapping) indices, and a loop with a test in it
  is not vectorised; nor is one that reads and writes the same array by two names;
- the blur of a block of pixels stays in registers from the first tap to the last, which numba's loops cannot say;
- a stamp is read once in order, to look for bad pixels, before turned views take it from the cache: 5 us a view, where
  reading memory out of order took 35;
- noise is made a plane at a time, words first, by polynomials on whole vectors: no call of a mathematical library.

Only a product followed by a sum may be fused (``contract``), and in decoding not even that; no sum is re-ordered.
"""

import math
from typing import no_type_check

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiled import compiled

_BLOCK = 16  # pixels that are blurred at a time; a scratch array whose last block may be a part of one has room for it
_NAN_WEIGHT = np.float32(1e-6)  # a view pixel that takes less than this from bad pixels does not depend on them
_LARGEST = np.float32(np.finfo(np.float32).max)

_ONE, _HALF = np.float32(1.0), np.float32(0.5)
_U0, _U1, _U2, _U3, _U4 = (np.uint64(each) for each in range(5))

# Numba types the arguments: `no_type_check` keeps other checkers out of what it compiles.
_helper = njit(nogil=True, fastmath={"contract"}, error_model="numpy")
_exact_helper = njit(nogil=True, error_model="numpy")


@compiled
@no_type_check
def render_rows(
    rows, floats, words, halves, objid, step, shape, place, affine, gain, taps, sigma, noise_key, out, out16, spread
):
    """Render the ``rows`` (int64) of a plan into their rows of the output.

    floats, words: (stamp, band, pixel) float32 and uint16, one of the two without a stamp; words are float16
        (``halves``), or dithered int16 with objid (stamp,) int64 and step (stamp, band) float32.
    shape: (y, x) of the stamps.
    place, affine, gain, taps, sigma, noise_key: as in Plan, of all rows.
    out, out16: (row, band * y * x) float32 and bfloat16 bits as uint16, one of the two without a row.
    spread: whether the bands of a pixel lie side by side in them (channels last), else the pixels of a band.
    """
    bands, reach = np.uint64(gain.shape[1]), np.uint64(taps.shape[2])
    pixels = np.uint64(max(out.shape[1], out16.shape[1])) // bands
    side = np.uint64(math.sqrt(pixels) + 0.5)
    decoded = np.empty((min(1, len(words)) * bands, words.shape[2]), np.float32)
    bad = np.empty(bands, np.bool_)
    offset, fraction = np.empty(pixels, np.uint32), np.empty((2, pixels), np.float32)
    tall = np.empty((side + _U2 * reach) * side + np.uint64(_BLOCK), np.float32)
    wide = np.empty((side + _U2 * reach) * side + np.uint64(_BLOCK), np.float32)
    plane = np.empty(pixels + np.uint64(_BLOCK), np.float32)
    noise, noise_words = np.empty(pixels + _U3, np.float32), np.empty(pixels + _U3, np.uint32)
    weight = np.empty(reach, np.float32)
    first, stride = (_U1, bands) if spread else (pixels, _U1)
    last = -1
    for row in rows:
        stamp = place[row]
        stamp_pixels = decoded if len(words) else floats[stamp]
        if stamp != last:
            if len(words):
                _decode(words[stamp], halves, objid[stamp] if len(objid) else 0, step, stamp, decoded)
            for band in range(bands):
                bad[band] = _has_bad(stamp_pixels[band])
            last = stamp
        _locate(affine[row], side, shape, offset, fraction)
        for band in range(bands):
            for d in range(reach):
                weight[d] = taps[row, band, d]
            image = stamp_pixels[band]
            if bad[band]:
                _shape_around_bad(image, shape[1], offset, fraction, weight, side, tall, wide, plane)
            else:
                _shape(image, shape[1], offset, fraction, weight, side, tall, wide, plane)
            band_sigma = np.float32(sigma[row, band])
            if band_sigma > 0:
                _fill_normals(noise_key[row], band, pixels, noise_words, noise)
            _finish(plane, pixels, np.float32(gain[row, band]), band_sigma, noise)
            if len(out16):
                _store_bfloat16(plane, pixels, out16[row], first * band, stride)
            else:
                _store(plane, pixels, out[row], first * band, stride)


# --- stamps ---


@_exact_helper
@no_type_check
def _decode(words, halves, objid, step, stamp, out):
    """The words (band, pixel) of a stamp as float32."""
    if halves:
        for band in range(np.uint64(len(words))):
            _decode_half(words[band], out[band])
        return
    low, high = np.uint32(objid), np.uint32(np.uint64(objid) >> np.uint64(32))
    key = _mix(np.uint32(_mix(low) + high))
    size = np.uint64(words.shape[1])
    for band in range(np.uint64(len(words))):
        _decode_int16(words[band], key, np.uint32(band * size), step[stamp, band], out[band])


@_exact_helper
@no_type_check
def _decode_half(words, out):
    """float16 to float32: the exponent's bias is 112 more; numba has no float16 on a CPU."""
    bias = np.uint32(112 << 23)
    for p in range(np.uint64(words.size)):
        size = np.uint32(words[p] & np.uint16(0x7FFF))
        bits = np.uint32((size << np.uint32(13)) + bias)
        bits = np.uint32(bits + bias) if size >= np.uint32(0x7C00) else bits  # infinite or NaN
        value = np.float32(np.int32(size)) * np.float32(2.0**-24)  # a subnormal
        value = value if size < np.uint32(0x0400) else np.uint32(bits).view(np.float32)
        out[p] = -value if words[p] & np.uint16(0x8000) else value


@_exact_helper
@no_type_check
def _decode_int16(words, key, first, step, out):
    """(q + (0.5 - u)) * step, u the dither of the pixel, as the dataset's format states (`sharding.dither`)."""
    for p in range(np.uint64(words.size)):
        h = _mix(np.uint32(key + np.uint32((first + np.uint32(p)) * np.uint32(0x9E3779B9))))
        u = np.float32(np.int32(h >> np.uint32(8))) * np.float32(2.0**-24)
        out[p] = (np.float32(np.int16(words[p])) + (_HALF - u)) * step


@_exact_helper
@no_type_check
def _mix(h):
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(h ^ (h >> np.uint32(16)))


@_helper
@no_type_check
def _has_bad(image):
    """Whether a pixel is NaN or infinite; also brings the image into the cache."""
    bits = image.view(np.int32)
    largest = np.int32(0)
    for p in range(np.uint64(bits.size)):
        largest = max(largest, np.int32(bits[p] & np.int32(0x7FFFFFFF)))
    return largest >= np.int32(0x7F800000)


# --- geometry and blur ---


@_helper
@no_type_check
def _locate(affine, side, shape, offset, fraction):
    """Where the view pixels lie: the flat number of the stamp pixel before, and the fraction (y, x) from there on."""
    height, width = shape
    yy, yx, y0 = affine[0, 0], affine[0, 1], affine[0, 2]
    xy, xx, x0 = affine[1, 0], affine[1, 1], affine[1, 2]
    down, across = fraction[0], fraction[1]
    for i in range(side):
        for j in range(side):
            y = _fold(yy * np.float64(i) + (yx * np.float64(j) + y0), height)
            x = _fold(xy * np.float64(i) + (xx * np.float64(j) + x0), width)
            # Whatever the position, NaN too, the pixel is one of the stamp.
            top = np.int32(y) if y < height - 2 else np.int32(height - 2)
            left = np.int32(x) if x < width - 2 else np.int32(width - 2)
            k = i * side + j
            down[k] = np.float32(y - np.float64(top))
            across[k] = np.float32(x - np.float64(left))
            offset[k] = np.uint32(top * np.int32(width) + left)


@_helper
@no_type_check
def _fold(position, size):
    """Mirrored about the centres of the edge pixels into 0 .. size - 1."""
    period = 2.0 * (size - 1)
    return abs(position - period * np.round(position / period))


@_helper
@no_type_check
def _shape(image, width, offset, fraction, weight, side, tall, wide, plane):
    """One band resampled and blurred into ``plane``; ``tall`` and ``wide`` are scratch."""
    _resample(image, np.uint64(width), offset, fraction, tall[np.uint64(weight.size) * side :])
    _blur(tall, weight, side, wide, plane)


@_helper
@no_type_check
def _shape_around_bad(image, width, offset, fraction, weight, side, tall, wide, plane):
    """`_shape` with bad pixels as 0; NaN where they had weight."""
    clean, bad = np.empty(image.size, np.float32), np.empty(image.size, np.float32)
    for p in range(np.uint64(image.size)):
        is_bad = not abs(image[p]) <= _LARGEST
        clean[p] = np.float32(0.0) if is_bad else image[p]
        bad[p] = _ONE if is_bad else np.float32(0.0)
    bad_weight = np.empty(plane.size, np.float32)
    _shape(bad, width, offset, fraction, weight, side, tall, wide, bad_weight)
    _shape(clean, width, offset, fraction, weight, side, tall, wide, plane)
    for p in range(side * side):
        if bad_weight[p] > _NAN_WEIGHT:
            plane[p] = np.float32(np.nan)


@_helper
@no_type_check
def _resample(image, width, offset, fraction, out):
    """Bilinear. Products of both pixels with their weights, so that a fraction of 0 or 1 gives a pixel exactly."""
    down, across = fraction[0], fraction[1]
    for k in range(np.uint64(offset.size)):
        o, x, y = np.uint64(offset[k]), across[k], down[k]
        upper = (_ONE - x) * image[o] + x * image[o + _U1]
        lower = (_ONE - x) * image[o + width] + x * image[o + width + _U1]
        out[k] = (_ONE - y) * upper + y * lower


@_helper
@no_type_check
def _blur(tall, weight, side, wide, plane):
    """The image in the middle of ``tall`` blurred into ``plane``: along y into the lines of ``wide``, then along x."""
    taps = np.uint64(weight.size)
    while taps > 1 and weight[taps - _U1] == 0:
        taps -= _U1
    start, last, margin = np.uint64(weight.size) * side, side - _U1, taps - _U1
    for d in range(_U1, taps):
        for x in range(start, start + side):
            tall[x - d * side] = tall[x + d * side]
            tall[x + (last + d) * side] = tall[x + (last - d) * side]
    pitch, block, first_weight = side + _U2 * margin, np.uint64(_BLOCK), _address(weight, _U0)
    for y in range(side):
        line = y * pitch + margin
        for x in range(_U0, side, block):
            _weigh_block(_address(tall, start + y * side + x), _U4 * side, first_weight, taps, _address(wide, line + x))
        for d in range(_U1, taps):
            wide[line - d] = wide[line + d]
            wide[line + last + d] = wide[line + last - d]
    for y in range(side):
        line = y * pitch + margin
        for x in range(_U0, side, block):
            _weigh_block(_address(wide, line + x), _U4, first_weight, taps, _address(plane, y * side + x))


@_helper
@no_type_check
def _address(array, place):
    """Of a float32 of a contiguous array."""
    return np.uint64(array.ctypes.data) + _U4 * place


@intrinsic
@no_type_check
def _weigh_block(typing, source, stride, weight, taps, out):
    """out[k] = w[0] s[k] + sum over 0 < d < taps of w[d] (s[k - d stride] + s[k + d stride]), for a block of k.

    Takes addresses of float32 and a stride [bytes] as uint64; gives ``out``. The sums stay in registers.
    """

    def generate(context, builder, signature, arguments):
        source, stride, weight, taps, out = arguments
        number, lane, count = ir.FloatType(), ir.IntType(32), ir.IntType(64)
        vector = ir.VectorType(number, _BLOCK)

        def pixels(address):
            return builder.load(builder.inttoptr(address, vector.as_pointer()), align=4)

        def weight_at(distance):
            value = builder.load(builder.gep(builder.inttoptr(weight, number.as_pointer()), [distance]))
            single = builder.insert_element(ir.Constant(vector, ir.Undefined), value, lane(0))
            return builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(lane, _BLOCK), [0] * _BLOCK))

        total = cgutils.alloca_once_value(builder, builder.fmul(weight_at(count(0)), pixels(source)))
        with cgutils.for_range_slice(builder, count(1), taps, count(1), count) as (distance, _):
            away = builder.mul(distance, stride)
            pair = builder.fadd(pixels(builder.sub(source, away)), pixels(builder.add(source, away)))
            product = builder.fmul(weight_at(distance), pair, flags=["contract"])
            builder.store(builder.fadd(builder.load(total), product, flags=["contract"]), total)
        builder.store(builder.load(total), builder.inttoptr(out, vector.as_pointer()), align=4)
        return out

    return types.uint64(types.uint64, types.uint64, types.uint64, types.uint64, types.uint64), generate


# --- noise ---

# -2 ln(1 + x) / x on -1/2 <= x < 0, to 1e-7 of itself; the constant term first.
_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = (
    np.polynomial.Chebyshev.interpolate(lambda x: -2.0 * np.log1p(x) / x, 8, domain=[-0.5, 0.0])
    .convert(kind=np.polynomial.Polynomial)
    .coef.astype(np.float32)
)
_TWO_LN2 = np.float32(2.0 * math.log(2.0))
_S3, _S5, _S7 = np.float32(-1 / 6), np.float32(1 / 120), np.float32(-1 / 5040)  # Taylor: 3e-7 at pi / 4
_C4, _C6, _C8 = np.float32(1 / 24), np.float32(-1 / 720), np.float32(1 / 40320)  # 3e-8
_QUARTER_TURN = np.float32(math.pi / 2.0 * 2.0**-32)  # a unit of 2^-34 of a turn [rad]


@_helper
@no_type_check
def _fill_normals(key, band, pixels, words, noise):
    """The standard normals of one band's plane, in `noise.standard_normal`'s order; up to 3 more behind it."""
    blocks = (pixels + _U3) // _U4
    _fill_words(np.uint64(key[0]), np.uint64(key[1]), band, blocks, words)
    half = _U2 * blocks
    _box_muller(words[:half], noise[:half])
    _box_muller(words[half : half + half], noise[half : half + half])


@_helper
@no_type_check
def _fill_words(key0, key1, band, blocks, out):
    """Philox4x32-10 of the counters (block, band, 0, 0): word w of block b at w * blocks + b.

    As in `philox`, bits above 32 are left behind and cleared where they matter; uint64 makes 64-bit products.
    """
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for b in range(blocks):
        c0, c1, c2, c3 = b, band, _U0, _U0
        k0, k1 = key0, key1
        for _ in range(10):
            product0 = (c0 & low) * np.uint64(0xD2511F53)
            product1 = (c2 & low) * np.uint64(0xCD9E8D57)
            c0, c1, c2, c3 = (product1 >> shift) ^ c1 ^ k0, product1, (product0 >> shift) ^ c3 ^ k1, product0
            k0 += np.uint64(0x9E3779B9)
            k1 += np.uint64(0xBB67AE85)
        out[b] = np.uint32(c0)
        out[blocks + b] = np.uint32(c1)
        out[_U2 * blocks + b] = np.uint32(c2)
        out[_U3 * blocks + b] = np.uint32(c3)


@_helper
@no_type_check
def _box_muller(words, normals):
    """Radii from the first half of the words and angles from the second, cosines and sines into the same halves."""
    size = np.uint64(words.size) // _U2
    for k in range(size):
        radius = np.sqrt(_minus_two_log(words[k]))
        cosine, sine = _cos_sin(words[k + size])
        normals[k] = radius * cosine
        normals[k + size] = radius * sine


@_helper
@no_type_check
def _minus_two_log(word):
    """-2 ln u, u = (word + 1/2) / 2^32, to some 1e-7 of itself, near u = 1 too.

    Below 1/2, u = m 2^e with 1/2 <= m < 1 and x = m - 1; above, e = 0 and x = u - 1, rounded only after the difference.
    """
    above = np.int32(word) >> np.int32(31)  # all ones if u > 1/2
    distance = np.float32(np.int32(word) ^ above) + _HALF  # from 0, or from 1 [2^-32]
    bits = np.float32(distance).view(np.int32)
    mantissa = np.int32((bits & np.int32(0x007FFFFF)) | np.int32(0x3F000000)).view(np.float32)
    exponent = np.float32(np.int32((bits >> np.int32(23)) - np.int32(126 + 32)))
    x = -distance * np.float32(2.0**-32) if above else mantissa - _ONE
    whole = np.float32(0.0) if above else -_TWO_LN2 * exponent
    series = _L3 + x * (_L4 + x * (_L5 + x * (_L6 + x * (_L7 + x * _L8))))
    return whole + x * (_L0 + x * (_L1 + x * (_L2 + x * series)))


@_helper
@no_type_check
def _cos_sin(word):
    """Of word / 2^32 turns: the quarter turn nearest to it from the top bits, the rest (up to 1/8) by a series."""
    quarter = np.uint32(np.uint32(word + np.uint32(1 << 29)) >> np.uint32(30))
    a = np.float32(np.int32(np.uint32(word << np.uint32(2)))) * _QUARTER_TURN
    aa = a * a
    sine = a + a * aa * (_S3 + aa * (_S5 + aa * _S7))
    cosine = _ONE + aa * (-_HALF + aa * (_C4 + aa * (_C6 + aa * _C8)))
    odd = (quarter & np.uint32(1)) != 0
    near, far = (sine, cosine) if odd else (cosine, sine)
    left = (np.uint32(quarter + np.uint32(1)) & np.uint32(2)) != 0
    lower = (quarter & np.uint32(2)) != 0
    return (-near if left else near), (-far if lower else far)


# --- out ---


@_helper
@no_type_check
def _finish(plane, pixels, gain, sigma, noise):
    if sigma > 0:
        for p in range(pixels):
            plane[p] = gain * plane[p] + sigma * noise[p]
    else:
        for p in range(pixels):
            plane[p] *= gain


@_helper
@no_type_check
def _store(plane, pixels, out, first, stride):
    for p in range(pixels):
        out[first + p * stride] = plane[p]


@_helper
@no_type_check
def _store_bfloat16(plane, pixels, out, first, stride):
    """The upper half of the bits, rounded to nearest, ties to even."""
    for p in range(pixels):
        bits = np.float32(plane[p]).view(np.uint32)
        odd = np.uint32((bits >> np.uint32(16)) & np.uint32(1))
        rounded = np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + odd) >> np.uint32(16)
        out[first + p * stride] = np.uint16(0x7FC0) if plane[p] != plane[p] else np.uint16(rounded)
