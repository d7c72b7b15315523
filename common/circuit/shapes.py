"""The load shapes of a compiled circuit, read as the engine's daily mode reads them, or refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.errors import CaseError
from tieflow.common.inputs.numbers import LEAST, MOST


def shape_values(engine: Any, name: str, ends: Floats) -> Floats:
    """Multipliers of a load shape in periods that end at ``ends``, hours from midnight. CaseError: not multipliers."""
    shape = engine.LoadShape
    shape.Name(name)
    interval = shape.HrInterval()
    values: Floats = np.array(shape.PMult(), float)
    called = f"loadshape.{name.lower()}"
    if shape.UseActual():
        raise CaseError(
            f"{called} gives kW itself (useactual=yes), not multipliers of rated power. Divide its values by the rated "
            "kW, with useactual=no, or disable what follows it."
        )
    # NaN fails the comparison too.
    if not (np.abs(values) <= MOST).all():
        raise CaseError(
            f"{called} has multipliers that are none: they must be {-MOST:g} to {MOST:g}. Correct mult=(...)."
        )
    if not interval <= MOST or 0 < interval < LEAST:
        raise CaseError(f"{called} has an interval of {interval:g} h: it must be {LEAST:g} to {MOST:g}. Correct it.")
    if len(values) != shape.Npts():
        raise CaseError(f"{called} has npts={shape.Npts()}, but other than that many values. Give all in mult=(...).")
    if interval > 0:
        # The point at the end of each period, the last for the first hour.
        at_end: Floats = values[(np.rint(ends / interval).astype(int) - 1) % len(values)]
        return at_end
    if len(values) == 1:
        return np.full(len(ends), values[0])
    hours = np.array(shape.TimeArray())
    if len(hours) != len(values) or hours[0] < 0 or (np.diff(hours) <= 0).any():
        raise CaseError(
            f"{called} has no interval and no rising hours, one for each of its {len(values)} values. Give it "
            "interval=1, or hour=(...)."
        )
    # In a line between its points, from a zero at midnight; the day is as long as the last point says.
    if hours[0] > 0:
        hours, values = np.append(0.0, hours), np.append(0.0, values)
    day = hours[-1]
    within = np.where(ends > day, ends - np.trunc(ends / day) * day, ends)
    between: Floats = np.interp(within, hours, values)
    return between


def refuse_shape(engine: Any, name: str, user: str, reactive: bool) -> None:
    """Raises CaseError where ``user``, a load or a generator, cannot follow the shape; ``reactive``: it has kvar."""
    shape_values(engine, name, np.ones(1))
    own = str(engine.Properties.Value("qmult")).strip("[]() ").replace(",", " ").split()
    values = engine.LoadShape.PMult()
    if reactive and own and not (len(own) == len(values) and np.allclose(np.array(own, float), values, rtol=1e-9)):
        raise CaseError(
            f"{user} follows loadshape.{name.lower()}, which has other multipliers for reactive power (qmult): tieflow "
            "scales both powers alike. Leave qmult out, or make two loads of it, kw and kvar, with a shape each."
        )
