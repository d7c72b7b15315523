"""Times of the day: hours since midnight as text, and text as hours."""

from __future__ import annotations

import re
from datetime import datetime

_OF_THE_CLOCK = re.compile(r"(\d\d?):([0-5]\d)(?::([0-5]\d))?")


def clock(hours: float) -> str:
    """HH:MM, with :SS where the seconds are not zero; the end of the day is 24:00."""
    minutes, seconds = divmod(round(hours * 3600), 60)
    text = f"{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{text}:{seconds:02d}" if seconds else text


def hours_of(text: str) -> tuple[str, float]:
    """The date, empty where there is none, and the hours since midnight of HH:MM or an ISO 8601 date and time, whose
    time zone is not looked at. Raises ValueError for anything else."""
    found = _OF_THE_CLOCK.fullmatch(text)
    if found:
        hour, minute, second = (int(part or 0) for part in found.groups())
        hours = hour + minute / 60 + second / 3600
        if hours <= 24:
            return "", hours
    elif "-" in text:
        try:
            moment = datetime.fromisoformat(text)
            return moment.date().isoformat(), moment.hour + moment.minute / 60 + moment.second / 3600
        except ValueError:
            pass
    raise ValueError(f"'{text}' is no time of day. Write it as 19:15 or 2026-06-01T19:15.")
