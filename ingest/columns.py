"""Eight columns of an image summed at once: the inner loop of the resampling, in vector instructions.

Numba's compiler leaves this sum in single steps. The few lines of LLVM here say what is meant: the lanes are added in
the order in which a loop would add them, so the bits are those of the loop, on any processor.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8
ROWS = 6


@intrinsic
def sum_columns(
    typingctx: Any, pixels: Any, first: Any, width: Any, weights: Any, place: Any, step: Any, out: Any
) -> Any:
    """``out[k] = sum over r of weights[place + r * step] * pixels[first + r * width + k]``, for 6 rows, 8 columns.

    All arrays are flat float32, all numbers uint64; the caller sees to it that the indices lie inside.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def data(number: int) -> Any:
            return context.make_array(signature.args[number])(context, builder, arguments[number]).data

        lanes, word = ir.VectorType(ir.FloatType(), LANES), ir.IntType(32)
        undefined = ir.Constant(lanes, ir.Undefined)
        everywhere = ir.Constant(ir.VectorType(word, LANES), [0] * LANES)
        _, at, width, _, place, step, _ = arguments
        total = ir.Constant(lanes, [0.0] * LANES)
        for _ in range(ROWS):
            columns = builder.load(builder.bitcast(builder.gep(data(0), [at]), lanes.as_pointer()), align=4)
            weight = builder.load(builder.gep(data(3), [place]))
            weight = builder.insert_element(undefined, weight, ir.Constant(word, 0))
            weight = builder.shuffle_vector(weight, undefined, everywhere)
            total = builder.fadd(total, builder.fmul(columns, weight))
            at, place = builder.add(at, width), builder.add(place, step)
        builder.store(total, builder.bitcast(data(6), lanes.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(pixels, first, width, weights, place, step, out), generate
