"""The wire format between the coordinator and a rank of areas: one table of fields for each direction.

A message is one contiguous float64 vector: a header, then each of the rank's areas, then each area's fields in the
order of the table. Both sides know the shapes from the partition, so nothing else is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Any

import numpy as np

from common.boundary import BALANCED, MULTIPHASE, AreaProposal, AreaReport, AreaResponse
from common.feeder import Feeder, Floats
from common.partition import AreaCase


class Command(IntEnum):
    """What the coordinator wants of the ranks; the first number of every message to them."""

    SOLVE = 0
    REACH = 1
    SOLUTION = 2
    DIAGNOSIS = 3
    STOP = 4


HEADER = ("command", "sensitivities", "is_point", "barrier", "length")
"""numbers before the areas' fields in a message to a rank"""

# Shapes are made of: end (the conductors of the area's tie ends), quantity, period, boundary (all three multiplied).
PROPOSAL_FIELDS: dict[str, tuple[str, ...]] = {
    "price": ("end", "quantity", "period"),
    "target": ("end", "quantity", "period"),
    "curvature": ("end", "quantity", "period"),
    "fixed": ("end", "quantity"),
    "upstream": ("period",),
}
RESPONSE_FIELDS: dict[str, tuple[str, ...]] = {
    "value": ("end", "quantity", "period"),
    "slope": ("end", "quantity", "period"),
    "sensitivity": ("boundary", "boundary"),
    "drift": ("end", "quantity", "period"),
    "status": (),
    "energy_cost": (),
    "objective": (),
    "dual_objective": (),
    "relaxation_gap": (),
    "model_error": (),
    "change": (),
    "kept": (),
    "iterations": (),
    "solve_s": (),
    "area_s": (),
}
REPORT_FIELDS = tuple(name for name, axes in RESPONSE_FIELDS.items() if not axes)


@dataclass(frozen=True)
class Layout:
    """The sizes of one area's messages."""

    ends: int
    quantities: int
    periods: int

    @classmethod
    def of(cls, area: AreaCase[Any]) -> Layout:
        quantities = len(BALANCED if isinstance(area.feeder, Feeder) else MULTIPHASE)
        return cls(sum(len(end.nodes) for end in area.tie_ends), quantities, len(area.horizon))

    def shape(self, axes: tuple[str, ...]) -> tuple[int, ...]:
        sizes = {"end": self.ends, "quantity": self.quantities, "period": self.periods}
        sizes["boundary"] = prod(sizes.values())
        return tuple(sizes[axis] for axis in axes)

    def proposal_size(self) -> int:
        return sum(prod(self.shape(axes)) for axes in PROPOSAL_FIELDS.values())

    def response_size(self) -> int:
        return sum(prod(self.shape(axes)) for axes in RESPONSE_FIELDS.values())


def proposal_message_size(layouts: Sequence[Layout]) -> int:
    """Numbers in a message to a rank."""
    return len(HEADER) + sum(layout.proposal_size() for layout in layouts)


def response_message_size(layouts: Sequence[Layout]) -> int:
    """Numbers in a rank's answer."""
    return sum(layout.response_size() for layout in layouts)


def pack_proposals(buffer: Floats, command: Command, proposals: Sequence[AreaProposal]) -> None:
    """Fill the message to a rank; ``proposals`` may be empty for commands that need none."""
    asked = (max((getattr(proposal, name) for proposal in proposals), default=0) for name in HEADER[1:])
    buffer[: len(HEADER)] = command, *asked
    arrays = (np.asarray(getattr(proposal, name)) for proposal in proposals for name in PROPOSAL_FIELDS)
    _fill(buffer[len(HEADER) :], arrays)


def unpack_command(buffer: Floats) -> Command:
    return Command(int(buffer[0]))


def unpack_proposals(buffer: Floats, layouts: Sequence[Layout]) -> list[AreaProposal]:
    """The rank's proposals; their arrays are views of the message where they can be."""
    views = _views(buffer[len(HEADER) :], layouts, PROPOSAL_FIELDS)
    return [
        AreaProposal(
            price=fields["price"],
            target=fields["target"],
            curvature=fields["curvature"],
            fixed=fields["fixed"].astype(bool),
            upstream=fields["upstream"],
            sensitivities=bool(buffer[1]),
            is_point=bool(buffer[2]),
            barrier=float(buffer[3]),
            length=float(buffer[4]),
        )
        for fields in views
    ]


def pack_responses(buffer: Floats, layouts: Sequence[Layout], responses: Sequence[AreaResponse]) -> None:
    """Fill a rank's answer. Sensitivities that were not asked for travel as zeros."""
    for fields, response in zip(_views(buffer, layouts, RESPONSE_FIELDS), responses, strict=True):
        fields["value"][...] = response.value
        fields["slope"][...] = response.slope
        fields["sensitivity"][...] = response.sensitivity if response.sensitivity.size else 0.0
        fields["drift"][...] = 0.0 if response.drift is None else response.drift
        for name in REPORT_FIELDS:
            fields[name][...] = getattr(response.report, name)


def unpack_responses(buffer: Floats, layouts: Sequence[Layout]) -> list[AreaResponse]:
    """The answers of a rank's areas, copied out of the message."""
    responses = []
    for fields in _views(buffer.copy(), layouts, RESPONSE_FIELDS):
        numbers = {name: float(fields[name]) for name in REPORT_FIELDS}
        report = AreaReport(status=int(numbers.pop("status")), **numbers)
        responses.append(AreaResponse(fields["value"], fields["slope"], fields["sensitivity"], report, fields["drift"]))
    return responses


def _fill(buffer: Floats, arrays: Iterator[np.ndarray]) -> None:
    start = 0
    for array in arrays:
        buffer[start : start + array.size] = array.ravel()
        start += array.size


def _views(buffer: Floats, layouts: Sequence[Layout], table: dict[str, tuple[str, ...]]) -> Iterator[dict[str, Floats]]:
    start = 0
    for layout in layouts:
        fields = {}
        for name, axes in table.items():
            shape = layout.shape(axes)
            fields[name] = buffer[start : start + prod(shape)].reshape(shape)
            start += prod(shape)
        yield fields
