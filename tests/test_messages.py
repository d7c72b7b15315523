"""The wire format: whatever is packed is unpacked bit by bit, and every field travels."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.boundary import BALANCED, MULTIPHASE, AreaProposal, AreaReport, AreaResponse
from common.case import read_case
from common.messages import (
    HEADER,
    PROPOSAL_FIELDS,
    REPORT_FIELDS,
    RESPONSE_FIELDS,
    Command,
    Layout,
    pack_proposals,
    pack_responses,
    proposal_message_size,
    response_message_size,
    unpack_command,
    unpack_proposals,
    unpack_responses,
)
from common.partition import partition

layouts_of_a_rank = st.lists(
    st.builds(
        Layout,
        ends=st.integers(0, 3),
        quantities=st.sampled_from([len(BALANCED), len(MULTIPHASE)]),
        periods=st.integers(1, 4),
    ),
    max_size=3,
)
numbers = st.floats(width=64)


def boundary_array(layout: Layout) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, (layout.ends, layout.quantities, layout.periods), elements=numbers)


@st.composite
def proposals(draw: st.DrawFn) -> tuple[list[Layout], list[AreaProposal]]:
    layouts = draw(layouts_of_a_rank)
    sensitivities, is_point, barrier = draw(st.booleans()), draw(st.booleans()), draw(st.floats(0, 1e6))
    return layouts, [
        AreaProposal(
            price=draw(boundary_array(layout)),
            target=draw(boundary_array(layout)),
            curvature=draw(boundary_array(layout)),
            fixed=draw(arrays(np.bool_, (layout.ends, layout.quantities))),
            upstream=draw(arrays(np.float64, layout.periods, elements=numbers)),
            sensitivities=sensitivities,
            is_point=is_point,
            barrier=barrier,
        )
        for layout in layouts
    ]


@st.composite
def responses(draw: st.DrawFn) -> tuple[list[Layout], list[AreaResponse]]:
    layouts = draw(layouts_of_a_rank)
    answers = []
    for layout in layouts:
        n = layout.ends * layout.quantities * layout.periods
        report = AreaReport(status=draw(st.integers(0, 3)), **{name: draw(numbers) for name in REPORT_FIELDS[1:]})
        answers.append(
            AreaResponse(
                value=draw(boundary_array(layout)),
                slope=draw(boundary_array(layout)),
                sensitivity=np.random.default_rng(n).normal(size=(n, n)),
                report=report,
            )
        )
    return layouts, answers


def assert_same(one: object, other: object) -> None:
    """Every field of two data classes, bit by bit."""
    for field in fields(one):  # type: ignore[arg-type]
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), strict=True)


@given(proposals())
def test_proposals_arrive_as_they_were_sent(drawn: tuple[list[Layout], list[AreaProposal]]) -> None:
    layouts, sent = drawn
    message = np.full(proposal_message_size(layouts), np.nan)
    pack_proposals(message, Command.SOLVE, sent)
    got = unpack_proposals(message, layouts)
    assert unpack_command(message) is Command.SOLVE
    assert len(got) == len(sent)
    for one, other in zip(sent, got, strict=True):
        assert_same(one, other)


@given(responses())
def test_responses_arrive_as_they_were_sent(drawn: tuple[list[Layout], list[AreaResponse]]) -> None:
    layouts, sent = drawn
    message = np.full(response_message_size(layouts), np.nan)
    pack_responses(message, layouts, sent)
    got = unpack_responses(message, layouts)
    assert len(got) == len(sent)
    for one, other in zip(sent, got, strict=True):
        for name in ("value", "slope", "sensitivity"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
        assert_same(one.report, other.report)
        assert type(other.report.status) is int


@pytest.mark.parametrize("command", Command)
def test_a_command_travels_without_proposals(command: Command) -> None:
    message = np.full(proposal_message_size([Layout(2, 4, 3)]), np.nan)
    pack_proposals(message, command, [])
    assert unpack_command(message) is command


def test_answers_outlive_the_next_message() -> None:
    layouts = [Layout(1, 3, 2)]
    message = np.ones(response_message_size(layouts))
    (got,) = unpack_responses(message, layouts)
    message[:] = 7
    assert (got.value == 1).all()
    assert got.report.objective == 1


def test_sensitivities_that_were_not_asked_for_leave_no_old_numbers() -> None:
    layouts = [Layout(1, 3, 1)]
    message = np.full(response_message_size(layouts), 7.0)
    report = AreaReport(status=0, **dict.fromkeys(REPORT_FIELDS[1:], 0.0))
    value = np.zeros((1, 3, 1))
    pack_responses(message, layouts, [AreaResponse(value, value, np.zeros((0, 0)), report)])
    assert not message.any()


def test_every_field_of_a_proposal_and_a_response_is_in_the_tables() -> None:
    assert {field.name for field in fields(AreaProposal)} == {*PROPOSAL_FIELDS, *HEADER} - {"command"}
    assert HEADER[0] == "command"
    answered = {field.name for field in fields(AreaResponse)} - {"report"} | {
        field.name for field in fields(AreaReport)
    }
    assert answered == set(RESPONSE_FIELDS)


def test_what_a_proposal_of_several_phases_says_arrives() -> None:
    layout = Layout(ends=2, quantities=4, periods=3)
    price, target, curvature = np.random.default_rng(0).normal(size=(3, 2, 4, 3))
    fixed = np.zeros((2, 4), bool)
    fixed[1, 3] = True
    sent = AreaProposal(
        price, target, curvature, fixed, upstream=np.array([1.0, 2.0, 4.0]), is_point=True, barrier=0.125
    )
    message = np.full(proposal_message_size([layout]), np.nan)
    pack_proposals(message, Command.SOLVE, [sent])
    (got,) = unpack_proposals(message, [layout])
    assert got.upstream.tolist() == [1.0, 2.0, 4.0]
    assert (got.is_point, got.barrier, got.sensitivities) == (True, 0.125, False)
    assert got.fixed.tolist() == fixed.tolist()
    assert_same(sent, got)
    pack_proposals(message, Command.SOLVE, [replace(sent, is_point=False, barrier=0.0, sensitivities=True)])
    (got,) = unpack_proposals(message, [layout])
    assert (got.is_point, got.barrier, got.sensitivities) == (False, 0.0, True)


def test_an_area_of_several_phases_exchanges_every_conductor() -> None:
    parts = partition(read_case("ieee13", {"periods": 2}))
    for area in parts.areas:
        conductors = sum(len(parts.ties[end.tie].phases) for end in area.tie_ends)
        assert Layout.of(area) == Layout(conductors, 4, 2)


def test_an_area_of_the_shipped_case_exchanges_what_its_ties_need() -> None:
    layouts = [Layout.of(area) for area in partition(read_case("ieee123")).areas]
    assert layouts == [Layout(2, 3, 5), Layout(2, 3, 5), Layout(1, 3, 5), Layout(1, 3, 5)]
    # Three arrays of w, p, q in each hour, and three flags, for each tie end; a price of losses in each hour; a header.
    assert proposal_message_size(layouts[:1]) == 5 + 2 * (3 * 15 + 3) + 5
    # Three arrays, the square of sensitivities, and the report.
    assert response_message_size(layouts[:1]) == 3 * 2 * 15 + 30**2 + len(fields(AreaReport))
