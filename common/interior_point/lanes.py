"""Eight periods side by side: a register of 8 doubles as a type of compiled functions.

Arrays in lanes are (row, C * 8) for T periods, C = ceil(T / 8), the last period repeated. Compiled functions see such
an array flat: register ``row * C + c`` holds the periods 8 c to 8 c + 7 of a row. A register is one of AVX-512; for
other processors LLVM splits it into 2 or 4. Products and sums are contracted (FMA) where the processor can.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from tieflow.common.arrays import Floats

LANES = 8
LINE = 64
"""bytes of a cache line and of a register"""
DOUBLE = 8
"""bytes"""
REGISTER = ir.VectorType(ir.DoubleType(), LANES)

primitive: Any = models.PrimitiveModel
typed: Any = type_callable
lowered: Any = lower_builtin
"""as Numba names them; it has no types for them"""


class Lanes(types.Type):
    """The type of a register."""

    def __init__(self) -> None:
        super().__init__(name=f"Lanes{LANES}")


lanes = Lanes()


def _model(manager: Any, kind: Any) -> Any:
    return primitive(manager, kind, REGISTER)


register_model(Lanes)(_model)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    first = builder.mul(index, ir.Constant(index.type, LANES))
    return builder.bitcast(builder.gep(data, [first]), REGISTER.as_pointer())


def _check(array: Any) -> None:
    """Strided arrays would be read wrongly, so that they are refused when a function is compiled."""
    if not isinstance(array, types.Array) or (array.dtype, array.ndim, array.layout) != (types.float64, 1, "C"):
        raise TypingError(f"Registers are loaded from and stored in flat contiguous arrays of doubles, not {array}.")


def _load(typing: Any, array: Any, index: Any) -> Any:
    """``load(array, index)``: elements 8 * index to 8 * index + 7 of a flat array."""
    _check(array)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = builder.load(_pointer(context, builder, signature.args[0], *arguments))
        loaded.align = DOUBLE
        return loaded

    return lanes(array, types.intp), generate


def _store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """``store(array, index, value)``: into elements 8 * index to 8 * index + 7 of a flat array."""
    _check(array)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, value = arguments
        stored = builder.store(value, _pointer(context, builder, signature.args[0], array, index))
        stored.align = DOUBLE
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


def _fill(typing: Any, value: Any) -> Any:
    """``fill(value)``: one number in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        unset = ir.Constant(REGISTER, ir.Undefined)
        first = builder.insert_element(unset, arguments[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(first, unset, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))

    return lanes(types.float64), generate


load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
fill: Any = intrinsic(_fill)


def _define(operation: Any, instruction: str) -> None:
    def rule(context: Any) -> Any:
        def result(left: Any, right: Any) -> Any:
            return lanes if left == lanes and right == lanes else None

        return result

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments, flags=("contract",))

    typed(operation)(rule)
    lowered(operation, Lanes, Lanes)(generate)


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.iadd, "fadd"),
    (operator.sub, "fsub"),
    (operator.isub, "fsub"),
    (operator.mul, "fmul"),
    (operator.imul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.itruediv, "fdiv"),
):
    _define(_operation, _instruction)


def unset(*shape: int) -> Floats:
    """An array to be written before it is read, from the beginning of a cache line on: a register that lies across two
    of them takes twice the time."""
    size = math.prod(shape)
    room = np.empty(size + LINE // DOUBLE)
    first = (-room.__array_interface__["data"][0] // DOUBLE) % (LINE // DOUBLE)
    return room[first : first + size].reshape(shape)


def aligned(*shape: int) -> Floats:
    """:func:`unset`, but zero."""
    found = unset(*shape)
    found[...] = 0.0
    return found


def groups(periods: int) -> int:
    """C: how many registers hold the periods."""
    return -(-periods // LANES)


def padded(x: Floats) -> Floats:
    """(row, T) -> (row, C * 8), the last period repeated; T at least 1."""
    rows, periods = x.shape
    wide = unset(rows, groups(periods) * LANES)
    wide[:, :periods] = x
    wide[:, periods:] = x[:, -1:]
    return wide
