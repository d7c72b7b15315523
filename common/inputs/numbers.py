"""Numbers that settings, tables and study files may hold, and how far each kind goes.

What no feeder has is a slip, most often of the unit, and ends in overflows and endless loops where it is not refused.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from tieflow.common.errors import shown

LEAST, MOST = 1e-6, 1e9
"""of numbers above zero, and of all magnitudes, whatever their unit"""
MOST_ROWS = 24 * 60
"""of a day, whose periods are a minute or longer"""


def _digits(value: object) -> object:
    """Raises ValueError for what Python takes for a number and a user does not mean as one."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        raise ValueError(f"must be a number (got {shown(value)}). Write it with digits and a point, as in 1.5 or 2e-4.")
    return value


def _within(least: float, most: float, zero: bool = False) -> AfterValidator:
    def check(value: float) -> float:
        if not least <= value <= most and not (zero and value == 0):
            span = f"{least:.4g} to {most:.4g}{', or 0' if zero else ''}"
            raise ValueError(f"must be {span} (got {shown(value)}). Check its unit.")
        return value

    return AfterValidator(check)


DIGITS = BeforeValidator(_digits)

Number = Annotated[float, DIGITS, _within(-MOST, MOST)]
NotNegative = Annotated[float, DIGITS, Field(ge=0), _within(0, MOST)]
Positive = Annotated[float, DIGITS, Field(gt=0), _within(LEAST, MOST)]
Percent = Annotated[float, DIGITS, Field(ge=0, le=100)]
Share = Annotated[float, DIGITS, Field(ge=0, le=1)]
Efficiency = Annotated[float, DIGITS, Field(gt=0, le=1), _within(0.01, 1)]
Ratio = Annotated[float, DIGITS, Field(ge=1), _within(1, 1000)]
VoltagePu = Annotated[float, DIGITS, Field(ge=0.5, le=1.5, description="per unit, 0.5 to 1.5")]
Kilovolts = Annotated[float, DIGITS, Field(gt=0), _within(0.01, 1500)]
BaseKva = Annotated[float, DIGITS, Field(gt=0), _within(1, 1e6)]
Ohm = Annotated[float, DIGITS, Field(ge=0), _within(1e-9, 1e6, zero=True)]
Celsius = Annotated[float, DIGITS, _within(-100, 1000)]
Hours = Annotated[float, DIGITS, Field(gt=0), _within(24 / MOST_ROWS * (1 - 1e-9), 24)]
"""of a period"""
Periods = Annotated[int, DIGITS, Field(ge=1, le=MOST_ROWS)]
RowNumber = Annotated[float, DIGITS, Field(ge=0, lt=MOST_ROWS)]
"""of profiles.csv, or an hour of the day"""
Tolerance = Annotated[float, DIGITS, Field(ge=1e-9, le=1)]
Rounds = Annotated[int, DIGITS, Field(ge=1, le=10**6)]
