"""Two runs against each other, in numbers: indicators, and where voltages and setpoints are farthest apart."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.errors import TieflowError
from tieflow.common.inputs.devices import DEVICE_KINDS
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.results.result import Result
from tieflow.common.results.schedule import completed
from tieflow.launch.figures.kpis import Extreme, Kpis, kpi_report, limited_voltages, shown_state


@dataclass(frozen=True)
class Difference:
    """An indicator of both runs, in its unit; None where a run has nothing to measure."""

    a: float | None
    b: float | None
    change: float | None
    """b - a"""
    change_percent: float | None
    """of the magnitude of a; None where that is zero"""


@dataclass(frozen=True)
class Comparison:
    """What b has otherwise than a. Places and times of day count that both runs have."""

    sources: tuple[str, str]
    """where the figures of a and of b come from: ``OpenDSS replay``, or ``optimizer`` with the reason why"""
    kpis: dict[str, Difference]
    """by the names of ``Kpis``"""
    voltage_pu: Extreme | None
    """b - a where voltages with limits are farthest apart; None: no place or time in common"""
    setpoints: dict[str, Extreme]
    """b - a where devices are farthest apart, by kind and quantity, such as ``batteries.energy_kwh``"""


def compare(a: Result, b: Result) -> Comparison:
    """The comparison of two runs, of the same case or another. Raises TieflowError for a balanced and a multi-phase
    one: the powers of one are those of a phase."""
    if a.case.is_balanced != b.case.is_balanced:
        raise TieflowError(
            f"{a.case.name} and {b.case.name}: powers of a balanced case are those of one phase, so it cannot be "
            "compared with a multi-phase one."
        )
    reports = [kpi_report(result) for result in (a, b)]
    of_a, of_b = (report.kpis for report in reports)
    horizons = a.case.horizon, b.case.horizon
    voltages_a, voltages_b = (limited_voltages(result.case, shown_state(result)[0]) for result in (a, b))
    schedules = [completed(result.case, result.schedule) for result in (a, b)]
    setpoints = {}
    for kind, quantities in DEVICE_KINDS.items():
        places = [[unit.label for unit in getattr(result.case, kind)] for result in (a, b)]
        for quantity in quantities:
            arrays = [getattr(schedule, kind)[quantity] for schedule in schedules]
            apart = _farthest((places[0], arrays[0]), (places[1], arrays[1]), horizons)
            if apart is not None:
                setpoints[f"{kind}.{quantity}"] = apart
    return Comparison(
        sources=(reports[0].source, reports[1].source),
        kpis={item.name: _difference(getattr(of_a, item.name), getattr(of_b, item.name)) for item in fields(Kpis)},
        voltage_pu=_farthest(voltages_a, voltages_b, horizons),
        setpoints=setpoints,
    )


def _difference(a: float | Extreme | None, b: float | Extreme | None) -> Difference:
    first, second = (float(x.value) if isinstance(x, Extreme) else x for x in (a, b))
    change = None if first is None or second is None else second - first
    return Difference(first, second, change, 100 * change / abs(first) if change is not None and first else None)


def _farthest(
    a: tuple[Sequence[str], Floats], b: tuple[Sequence[str], Floats], horizons: tuple[Horizon, Horizon]
) -> Extreme | None:
    """Of two arrays (place, T) with the names of their places."""
    rows, columns = _common(a[0], b[0]), _common(*(horizon.times for horizon in horizons))
    if not rows or not columns:
        return None
    (rows_a, rows_b), (columns_a, columns_b) = zip(*rows, strict=True), zip(*columns, strict=True)
    apart = b[1][np.ix_(rows_b, columns_b)] - a[1][np.ix_(rows_a, columns_a)]
    i, t = np.unravel_index(int(np.abs(apart).argmax()), apart.shape)
    first, period = horizons[0], columns_a[t]
    return Extreme(float(apart[i, t]), a[0][rows_a[i]], first.hour[period], first.times[period])


def _common(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Where what both have stands in each."""
    known = {item: k for k, item in enumerate(b)}
    return [(k, known[item]) for k, item in enumerate(a) if item in known]
