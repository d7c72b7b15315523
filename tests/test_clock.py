"""Times of the day as text and as hours."""

from __future__ import annotations

import pytest

from tieflow.common.inputs.clock import clock, hours_of


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0, "00:00"), (19.25, "19:15"), (3 * 0.1, "00:18"), (24, "24:00"), (1 / 120, "00:00:30"), (24 / 7, "03:25:43")],
)
def test_hours_are_told_as_on_a_clock(hours: float, text: str) -> None:
    assert clock(hours) == text
    assert hours_of(text) == ("", pytest.approx(hours, abs=1 / 3600))


@pytest.mark.parametrize(
    "text", ["2026-06-01T19:15", "2026-06-01 19:15:00", "2026-06-01T19:15Z", "2026-06-01T19:15:00+02:00"]
)
def test_a_date_and_time_is_told_apart_whatever_its_zone(text: str) -> None:
    assert hours_of(text) == ("2026-06-01", 19.25)


def test_a_zero_that_a_spreadsheet_drops_is_not_missed() -> None:
    assert hours_of("9:05") == ("", pytest.approx(9 + 5 / 60))


@pytest.mark.parametrize("text", ["", "19", "19.25", "19:60", "24:01", "7:5", "2026-06-31T19:15", "noon", "-1:00"])
def test_what_is_no_time_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no time of day\. Write it as 19:15 or 2026-06-01T19:15\."):
        hours_of(text)
