"""The wire format between the coordinator and a rank of areas: one table of commands, and one of axes.

A message is one contiguous float64 vector: the command, then for each of the rank's parts (an area in a span of
periods) the fields of what is asked, or of the answer, in the order of their data class. Both sides know the shapes
from the partition, so nothing else is sent. All messages grow in proportion to the number of periods, but for the
sensitivities of ``admm``, which areas tell where they are asked to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from math import prod
from typing import Any, get_type_hints

import numpy as np

from common.area_case import AreaCase
from common.boundary import BALANCED, MULTIPHASE, AreaProposal, AreaResponse
from common.devices import stored
from common.feeder import Feeder, Floats
from common.joint_step import (
    Expand,
    Expanded,
    Opened,
    Predict,
    Predicted,
    Reduce,
    Reduced,
    StoresTold,
    TellStores,
    Trial,
    Tried,
)


class Command(IntEnum):
    """What the coordinator wants of the ranks; the first number of every message to them."""

    OPTIMUM = 0
    OPEN = 1
    REDUCE = 2
    PREDICT = 3
    EXPAND = 4
    TRIAL = 5
    STORES = 6
    SOLUTION = 7
    DIAGNOSIS = 8
    STOP = 9


@dataclass(frozen=True)
class Open:
    """Begin joint steps at a forecast of the boundary."""

    forecast: Floats
    """(end, quantity, T) of all periods"""
    barrier: float
    start: float
    """0: at the usual controls; else the number of a random starting point"""
    direction: Floats
    """(store, T) of all periods: 1 where a store may only gain, -1 where it may only lose, 0 where it may do either"""


EXCHANGES: dict[Command, tuple[type, type]] = {
    Command.OPTIMUM: (AreaProposal, AreaResponse),
    Command.OPEN: (Open, Opened),
    Command.REDUCE: (Reduce, Reduced),
    Command.PREDICT: (Predict, Predicted),
    Command.EXPAND: (Expand, Expanded),
    Command.TRIAL: (Trial, Tried),
    Command.STORES: (TellStores, StoresTold),
}
"""what is asked and what is answered, as vectors of numbers; other commands are rare, and pickled"""

AXES: dict[type, dict[str, tuple[str, ...]]] = {
    AreaProposal: {
        "price": ("end", "quantity", "period"),
        "target": ("end", "quantity", "period"),
        "curvature": ("end", "quantity", "period"),
        "fixed": ("end", "quantity"),
        "upstream": ("period",),
    },
    AreaResponse: {
        "value": ("end", "quantity", "period"),
        "slope": ("end", "quantity", "period"),
        "sensitivity": ("boundary", "boundary"),
    },
    Open: {"forecast": ("end", "quantity", "period"), "direction": ("store", "period")},
    Opened: {"start": ("store",), "low": ("store",), "high": ("store",), "border": ("border", "span")},
    Reduce: {"delta": ("span",), "convex": ("span",)},
    Reduced: {
        "schur": ("pair", "span"),
        "residual": ("border", "span"),
        "right": ("border", "span"),
        "right_barrier": ("border", "span"),
        "negatives": ("span",),
    },
    Predict: {"border": ("border", "span")},
    Predicted: {"products": ("product",), "right": ("border", "span")},
    Expand: {"border": ("border", "span")},
    StoresTold: {
        "both": ("store", "span"),
        "gain_cost": ("store", "span"),
        "loss_cost": ("store", "span"),
        "most_gain": ("store", "span"),
        "most_loss": ("store", "span"),
    },
}
"""of the fields that are arrays: end (the conductors of the area's tie ends), quantity, period (of the horizon), span
(the part's periods), boundary (end, quantity and period multiplied), border (what the area shares in joint steps), pair
(of two of them), store, product (the four sums of products of slacks and multipliers)"""


@dataclass(frozen=True)
class Layout:
    """The sizes of one part's messages."""

    ends: int
    quantities: int
    periods: int
    span: int
    stores: int
    sensitive: bool = False
    """whether answers tell how they move with prices"""

    @classmethod
    def of(cls, area: AreaCase[Any], span: slice | None = None) -> Layout:
        balanced = isinstance(area.feeder, Feeder)
        periods = len(area.horizon)
        return cls(
            ends=sum(len(end.nodes) for end in area.tie_ends),
            quantities=len(BALANCED if balanced else MULTIPHASE),
            periods=periods,
            span=periods if span is None else span.stop - span.start,
            stores=stored(area),
            sensitive=balanced,
        )

    def shape(self, axes: tuple[str, ...]) -> tuple[int, ...]:
        boundary = self.ends * self.quantities * self.periods
        border = 4 * self.ends + self.stores
        sizes = {
            "end": self.ends,
            "quantity": self.quantities,
            "period": self.periods,
            "span": self.span,
            "boundary": boundary if self.sensitive else 0,
            "border": border,
            "pair": border * (border + 1) // 2,
            "store": self.stores,
            "product": 4,
        }
        return tuple(sizes[axis] for axis in axes)

    def size(self, kind: type) -> int:
        """Numbers of a part's ask or answer."""
        return sum(prod(self.shape(axes)) for _, axes, _ in _leaves(kind))


def message_size(layouts: Sequence[Layout], kind: type | None) -> int:
    """Numbers in a rank's message that carries one of ``kind`` for each of its parts, the command not counted."""
    return 0 if kind is None else sum(layout.size(kind) for layout in layouts)


def longest_ask(layouts: Sequence[Layout]) -> int:
    """Numbers in the longest message to a rank, the command among them."""
    return 1 + max(message_size(layouts, ask) for ask, _ in EXCHANGES.values())


def pack(buffer: Floats, layouts: Sequence[Layout], values: Sequence[Any]) -> None:
    """Write a value for each part. Arrays that were not asked for travel as zeros."""
    start = 0
    for layout, value in zip(layouts, values, strict=True):
        for path, axes, _ in _leaves(type(value)):  # type: ignore[arg-type]
            shape = layout.shape(axes)
            size, field = prod(shape), value
            for name in path:
                field = getattr(field, name)
            array = np.asarray(field, float)
            buffer[start : start + size] = array.ravel() if array.size == size else 0.0
            start += size


def unpack(buffer: Floats, layouts: Sequence[Layout], kind: type) -> list[Any]:
    """A value for each part, copied out of the message."""
    start, found = 0, []
    for layout in layouts:
        leaves: dict[tuple[str, ...], Any] = {}
        for path, axes, cast in _leaves(kind):
            shape = layout.shape(axes)
            size = prod(shape)
            part = buffer[start : start + size]
            leaves[path] = cast(part[0]) if not axes else np.array(part.reshape(shape), cast)
            start += size
        found.append(_made(kind, leaves, ()))
    return found


_hints = cache(get_type_hints)


@cache
def _leaves(kind: Any) -> tuple[tuple[tuple[str, ...], tuple[str, ...], type], ...]:
    """Each number or array of a data class: the names that lead to it, its axes and its type."""
    return tuple(_walked(kind, ()))


def _walked(kind: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], type]]:
    hints = _hints(kind)
    for field in fields(kind):
        hint, own = hints[field.name], (*path, field.name)
        if is_dataclass(hint):
            yield from _walked(hint, own)
            continue
        axes = AXES.get(kind, {}).get(field.name, ())
        if axes:
            yield own, axes, _element(hint)
        else:
            yield own, axes, hint


def _element(hint: Any) -> type:
    """The Python type of an array's elements."""
    kind = np.dtype(hint.__args__[1].__args__[0]).kind
    return {"b": bool, "i": int}.get(kind, float)


def _made(kind: type, leaves: dict[tuple[str, ...], Any], path: tuple[str, ...]) -> Any:
    hints = _hints(kind)
    values = {
        field.name: _made(hints[field.name], leaves, (*path, field.name))
        if is_dataclass(hints[field.name])
        else leaves[*path, field.name]
        for field in fields(kind)
    }
    return kind(**values)
