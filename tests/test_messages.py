"""The wire format: whatever is packed is unpacked bit by bit, and every field of every command travels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tieflow.common.case import read_case
from tieflow.common.inputs.devices import stored
from tieflow.common.ties.boundary import AreaProposal, AreaReport, AreaResponse
from tieflow.common.ties.cutting import partition
from tieflow.common.wire.joint_step import Expand, Predict, Reduce, Reduced
from tieflow.common.wire.messages import AXES, EXCHANGES, Command, Layout, longest_ask, message_size, pack, unpack
from tieflow.common.wire.transport import Solver

ASKS = [(command, ask) for command, (ask, _) in EXCHANGES.items()]
ANSWERS = [(command, answer) for command, (_, answer) in EXCHANGES.items()]
KINDS = sorted({kind for pair in EXCHANGES.values() for kind in pair}, key=lambda kind: kind.__name__)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    periods = draw(st.integers(1, 5))
    return Layout(
        ends=draw(st.integers(0, 3)),
        quantities=draw(st.sampled_from([3, 4])),
        periods=periods,
        span=draw(st.integers(1, periods)),
        stores=draw(st.integers(0, 3)),
        sensitive=draw(st.booleans()),
    )


layouts_of_a_rank = st.lists(layouts(), max_size=3)


def drawn(draw: st.DrawFn, layout: Layout, kind: type) -> Any:
    """One of a kind with any numbers in it."""
    hints, values = get_type_hints(kind), {}
    for field in fields(kind):
        hint, axes = hints[field.name], AXES.get(kind, {}).get(field.name)
        if is_dataclass(hint):
            values[field.name] = drawn(draw, layout, hint)  # type: ignore[arg-type]
        elif axes:
            dtype = np.dtype(hint.__args__[1].__args__[0])
            # Numbers of any kind travel as float64.
            elements = st.integers(-(2**53), 2**53) if dtype.kind == "i" else None
            values[field.name] = draw(arrays(dtype, layout.shape(axes), elements=elements))
        else:
            values[field.name] = draw({float: st.floats(), int: st.integers(-3, 3), bool: st.booleans()}[hint])
    return kind(**values)


@st.composite
def of_a_rank(draw: st.DrawFn, kind: type) -> tuple[list[Layout], list[Any]]:
    """What a message carries: one of a kind for each part of a rank."""
    found = draw(layouts_of_a_rank)
    return found, [drawn(draw, layout, kind) for layout in found]


def leaves(item: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(item):
        value = getattr(item, field.name)
        if is_dataclass(value):
            yield from ((f"{field.name}.{name}", leaf) for name, leaf in leaves(value))
        else:
            yield field.name, value


def assert_same(one: Any, other: Any) -> None:
    """Every field of two data classes, bit by bit and of the same type."""
    assert type(one) is type(other)
    for (name, sent), (also, got) in zip(leaves(one), leaves(other), strict=True):
        assert name == also
        assert type(sent) is type(got), name
        np.testing.assert_array_equal(sent, got, strict=True, err_msg=name)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_whatever_is_packed_is_unpacked_bit_by_bit(kind: type, data: st.DataObject) -> None:
    sizes, sent = data.draw(of_a_rank(kind))
    message = np.full(message_size(sizes, kind), np.nan)
    pack(message, sizes, sent)
    got = unpack(message, sizes, kind)
    assert len(got) == len(sent)
    for one, other in zip(sent, got, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_travels(kind: type) -> None:
    """A change of any number of a message changes what arrives, and in one place."""
    layout = Layout(ends=2, quantities=3, periods=3, span=2, stores=1, sensitive=True)
    size = layout.size(kind)
    (still,) = unpack(np.zeros(size), [layout], kind)
    changed: list[str] = []
    for i in range(size):
        message = np.zeros(size)
        message[i] = 1.0
        (got,) = unpack(message, [layout], kind)
        differ = [
            name
            for (name, one), (_, other) in zip(leaves(still), leaves(got), strict=True)
            if not np.array_equal(one, other)
        ]
        assert len(differ) == 1
        changed += differ
    assert set(changed) == {name for name, _ in leaves(still)}


def test_every_command_is_told_with_numbers_or_is_rare() -> None:
    assert set(Command) - set(EXCHANGES) == {Command.SOLUTION, Command.DIAGNOSIS, Command.STOP}
    # Solvers have a method for each, and the first number of a message is the command.
    assert {"solution", "diagnosis"} <= set(vars(Solver))
    assert [float(command) for command in Command] == list(range(len(Command)))


@given(sizes=layouts_of_a_rank)
def test_the_longest_ask_has_room_for_any(sizes: list[Layout]) -> None:
    asks = [message_size(sizes, ask) for _, ask in ASKS]
    assert longest_ask(sizes) == 1 + max(asks)
    assert message_size(sizes, None) == 0


def zeros(layout: Layout, kind: type) -> Any:
    (found,) = unpack(np.zeros(layout.size(kind)), [layout], kind)
    return found


def test_answers_outlive_the_next_message() -> None:
    layout = Layout(ends=1, quantities=3, periods=2, span=2, stores=1, sensitive=True)
    for _, answer in ANSWERS:
        message = np.ones(layout.size(answer))
        (got,) = unpack(message, [layout], answer)
        message[:] = 7
        assert all((leaf == 1).all() if isinstance(leaf, np.ndarray) else leaf == 1 for _, leaf in leaves(got))


def test_sensitivities_that_were_not_asked_for_leave_no_old_numbers() -> None:
    layout = Layout(ends=1, quantities=3, periods=1, span=1, stores=0, sensitive=True)
    answer = replace(zeros(layout, AreaResponse), sensitivity=np.zeros((0, 0)))
    message = np.full(layout.size(AreaResponse), 7.0)
    pack(message, [layout], [answer])
    assert not message.any()


def test_a_status_arrives_as_a_whole_number() -> None:
    layout = Layout(ends=0, quantities=3, periods=1, span=1, stores=0)
    message = np.full(layout.size(AreaResponse), 2.0)
    (got,) = unpack(message, [layout], AreaResponse)
    assert isinstance(got.report, AreaReport)
    assert type(got.report.status) is int and got.report.status == 2


def numbers(name: str, periods: int, kinds: Sequence[type], exact: bool = False) -> list[int]:
    """Of messages of the case's areas, all together, by kind."""
    parts = partition(read_case(name, {"periods": periods}), exact)
    return [message_size([Layout.of(area) for area in parts.areas], kind) for kind in kinds]


@pytest.mark.parametrize("name", ["ieee13", "ieee123"])
def test_messages_grow_in_proportion_to_the_periods(name: str) -> None:
    kinds = [kind for kind in KINDS if kind is not AreaResponse]
    six, twelve, day = (np.array(numbers(name, periods, kinds, exact=True)) for periods in (6, 12, 24))
    np.testing.assert_array_equal(day - twelve, 2 * (twelve - six))


def test_an_area_in_a_span_of_its_periods_tells_of_these_only() -> None:
    area = partition(read_case("ieee13", {"periods": 24})).areas[0]
    whole, half = Layout.of(area), Layout.of(area, slice(6, 18))
    assert (whole.span, half.span) == (24, 12)
    assert half == replace(whole, span=12)
    for kind in (Reduce, Reduced, Predict, Expand):
        per_period, nothing = half.size(kind) - replace(half, span=11).size(kind), replace(half, span=0).size(kind)
        assert per_period > 0
        assert (half.size(kind), whole.size(kind)) == (nothing + 12 * per_period, nothing + 24 * per_period)


def test_an_area_of_several_phases_exchanges_every_conductor() -> None:
    parts = partition(read_case("ieee13", {"periods": 2}))
    for area in parts.areas:
        conductors = sum(len(parts.ties[end.tie].phases) for end in area.tie_ends)
        assert Layout.of(area) == Layout(conductors, 4, 2, 2, stored(area))
        # For each conductor voltages and currents with their multipliers, and one multiplier for each stored energy.
        assert Layout.of(area).shape(("border",)) == (4 * conductors + stored(area),)


def test_an_area_of_the_shipped_case_exchanges_what_its_ties_need() -> None:
    areas = partition(read_case("ieee123")).areas
    layouts = [Layout.of(area) for area in areas]
    assert [layout.ends for layout in layouts] == [2, 2, 1, 1]
    assert all(
        (layout.quantities, layout.periods, layout.span, layout.sensitive) == (3, 5, 5, True) for layout in layouts
    )
    # Three arrays of w, p, q in each hour, and three flags, for each tie end; a price of losses in each hour; whether
    # sensitivities are asked for.
    assert message_size(layouts[:1], AreaProposal) == 2 * (3 * 15 + 3) + 5 + 1
    # Two arrays, the square of sensitivities, and the report.
    assert message_size(layouts[:1], AreaResponse) == 2 * 2 * 15 + 30**2 + len(fields(AreaReport))
