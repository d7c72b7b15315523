"""Pictures over the day, and over the rounds; beside each the sentence that says what it shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.errors import counted
from tieflow.common.inputs.clock import clock
from tieflow.common.results.result import Result
from tieflow.launch.figures.kpis import (
    OPENDSS,
    flexible_power,
    kpis,
    limited_voltages,
    shown_state,
    weather_power,
)
from tieflow.launch.plots.style import (
    BLUE,
    GREEN,
    GREY,
    LIMIT,
    ORANGE,
    STYLES,
    bars,
    edges,
    legend_below,
    limit_lines,
    new_figure,
    over_the_day,
    steps,
    unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TALL, _SHORT = 4.6, 3.2
_MANY_BATTERIES = 60
WEATHER = {"pv": "PV", "wind": "Wind"}
"""kinds of device whose power is the weather's, and their titles"""
_RESIDUAL_STYLES = dict(zip(("mismatch", "change", "first-order residual"), STYLES, strict=True))
# Only results of earlier versions have one by round.
_RESIDUAL_STYLES["model error"] = _RESIDUAL_STYLES["first-order residual"]


def substation(result: Result) -> Figure:
    """Real and reactive power from the substation, and the mean real power."""
    figure = new_figure(result, "Substation power", _SHORT)
    axes = figure.subplots()
    _draw_substation(axes, result)
    axes.set_ylabel(unit(result.case, "kW, kvar"))
    over_the_day(axes, result.case)
    legend_below(figure, axes)
    return figure


def _draw_substation(axes: Axes, result: Result) -> None:
    case, (state, _) = result.case, shown_state(result)
    steps(axes, case, state.substation_p_kw, "real, kW", BLUE)
    steps(axes, case, state.substation_q_kvar, "reactive, kvar", ORANGE, "--")
    axes.axhline(state.substation_p_kw.mean(), color=GREY, linestyle=":", label="mean real")
    if case.settings.substation_peak_kw is not None:
        limit_lines(axes, [case.settings.substation_peak_kw], "cap")


def read_substation(result: Result) -> str:
    found = kpis(result.case, result.schedule, shown_state(result)[0], 0)
    peak = found.peak_substation_kw
    factor = "" if found.load_factor is None else f"; load factor {found.load_factor:.2f}"
    return f"Substation power peaks at {peak.value:.0f} {unit(result.case, 'kW')} at {peak.time}{factor}."


def batteries(result: Result) -> Figure:
    """Power of all batteries together, and their stored energy per capacity: together, and each as a thin line."""
    figure = new_figure(result, "Batteries", _TALL)
    power, stored = figure.subplots(2, sharex=True)
    _draw_batteries(power, result)
    power.set_ylabel(unit(result.case, "kW"))
    power.legend(loc="upper left", ncols=2)
    _draw_charge(stored, result)
    stored.set_ylabel("state of charge, %")
    over_the_day(stored, result.case)
    legend_below(figure, stored)
    return figure


def _draw_batteries(power: Axes, result: Result) -> None:
    case, schedule = result.case, result.schedule
    bars(power, case, schedule.batteries["discharge_kw"].sum(axis=0), "discharge", BLUE)
    bars(power, case, -schedule.batteries["charge_kw"].sum(axis=0), "charge", ORANGE)
    power.axhline(0, color="black", linewidth=0.8)
    largest = max(float(schedule.batteries[name].sum(axis=0).max()) for name in ("charge_kw", "discharge_kw"))
    # Batteries that idle have powers of a solver's accuracy, which would fill the panel.
    reach = max(1.35 * largest, 0.1 * sum(unit.p_rated_kw for unit in case.batteries))
    power.set_ylim(-reach, reach)


def _draw_charge(stored: Axes, result: Result) -> None:
    case = result.case
    each, together = charge_percent(result)
    for own in each if len(each) <= _MANY_BATTERIES else ():
        stored.plot(edges(case), own, color=GREY, linewidth=0.6, alpha=0.5)
    stored.plot(edges(case), together, color=GREEN, linewidth=1.8, label="all together")
    limit_lines(stored, _together(result, "soc_min", "soc_max"))
    stored.set_ylim(0, 105)


def read_batteries(result: Result) -> str:
    schedule, dt, hours = result.schedule.batteries, result.case.horizon.dt, edges(result.case)
    charged, discharged = (float(schedule[name].sum()) * dt for name in ("charge_kw", "discharge_kw"))
    together = np.round(charge_percent(result)[1], 1)
    return (
        f"Batteries charge {charged:.0f} and discharge {discharged:.0f} {unit(result.case, 'kWh')}; together they hold "
        f"between {together.min():.1f} % (at {clock(hours[together.argmin()])}) and {together.max():.1f} % "
        f"(at {clock(hours[together.argmax()])}) of their capacity."
    )


def charge_percent(result: Result) -> tuple[Floats, Floats]:
    """(battery, T + 1) and, of all together, (T + 1,) stored energy at the ends of periods, % of capacity."""
    case, check = result.case, result.check
    energy = result.schedule.batteries["energy_kwh"]
    if check is not None and shown_state(result)[1] == OPENDSS:
        energy = check.battery_energy_kwh
    capacity = np.array([unit.energy_kwh for unit in case.batteries])[:, None]
    first = np.array([unit.soc_initial for unit in case.batteries])[:, None] * capacity
    energy = np.hstack([first, energy])
    return 100 * energy / capacity, 100 * energy.sum(axis=0) / capacity.sum()


def _together(result: Result, *shares: str) -> list[float]:
    """Shares of all batteries together, % of their capacity."""
    units = result.case.batteries
    capacity = sum(unit.energy_kwh for unit in units)
    return [100 * sum(getattr(unit, share) * unit.energy_kwh for unit in units) / capacity for share in shares]


def weather(result: Result, kind: str) -> Figure:
    """Real and reactive power of all PV systems (``pv``) or wind turbines (``wind``) together, and what they could give
    where that is more."""
    figure = new_figure(result, WEATHER[kind], _SHORT)
    axes = figure.subplots()
    _draw_weather(axes, result, kind)
    axes.set_ylabel(unit(result.case, "kW, kvar"))
    over_the_day(axes, result.case)
    legend_below(figure, axes)
    return figure


def _draw_weather(axes: Axes, result: Result, kind: str) -> None:
    case = result.case
    power, available = (values.sum(axis=0) for values in weather_power(case, result.schedule, kind))
    if not np.allclose(power, available):
        steps(axes, case, available, "available, kW", GREY, ":")
    steps(axes, case, power, "real, kW", BLUE)
    q = getattr(result.schedule, kind)["q_kvar"].sum(axis=0)
    steps(axes, case, q, "reactive into the feeder, kvar", ORANGE, "--")


def read_weather(result: Result, kind: str) -> str:
    case = result.case
    power, available = (values.sum(axis=0) for values in weather_power(case, result.schedule, kind))
    q = getattr(result.schedule, kind)["q_kvar"].sum(axis=0)
    energy, could = float(power.sum()) * case.horizon.dt, float(available.sum()) * case.horizon.dt
    share = f", {100 * energy / could:.0f} % of what it could" if could > 0 else ""
    return (
        f"{WEATHER[kind]} gives {energy:.0f} {unit(case, 'kWh')}{share}, at most {power.max():.0f} kW at "
        f"{case.horizon.times[power.argmax()]}; reactive power lies between {q.min():.0f} and {q.max():.0f} kvar."
    )


def flexible_loads(result: Result) -> Figure:
    """What flexible loads draw, together, beside what they would draw if left alone."""
    figure = new_figure(result, "Flexible loads", _SHORT)
    axes = figure.subplots()
    _draw_flexible_loads(axes, result)
    axes.set_ylabel(unit(result.case, "kW"))
    over_the_day(axes, result.case)
    legend_below(figure, axes)
    return figure


def _draw_flexible_loads(axes: Axes, result: Result) -> None:
    actual, nominal = _flexible(result)
    steps(axes, result.case, nominal, "nominal", GREY, ":")
    steps(axes, result.case, actual, "scheduled", BLUE)


def read_flexible_loads(result: Result) -> str:
    actual, nominal = _flexible(result)
    case, away = result.case, np.abs(actual - nominal)
    return (
        f"Flexible loads draw {actual.sum() * case.horizon.dt:.0f} of nominal {nominal.sum() * case.horizon.dt:.0f} "
        f"{unit(case, 'kWh')}; they differ most, by {away.max():.0f} kW, at {case.horizon.times[away.argmax()]}."
    )


def _flexible(result: Result) -> tuple[Floats, Floats]:
    """(T,) actual and nominal power of all flexible loads."""
    actual, nominal = flexible_power(result.case, result.schedule)
    return actual.sum(axis=0), nominal.sum(axis=0)


def schedule(result: Result) -> Figure:
    """Everything that was decided, one above the other: substation, batteries, PV, wind, flexible loads."""
    case = result.case
    panels: list[tuple[str, Callable[[Axes], None]]] = [
        (unit(case, "substation\nkW, kvar"), partial(_draw_substation, result=result))
    ]
    if case.batteries:
        panels.append((unit(case, "batteries\nkW"), partial(_draw_batteries, result=result)))
        panels.append(("state of\ncharge, %", partial(_draw_charge, result=result)))
    for kind, title in WEATHER.items():
        if getattr(case, kind):
            panels.append((unit(case, f"{title}\nkW, kvar"), partial(_draw_weather, result=result, kind=kind)))
    if case.flexible_loads:
        panels.append((unit(case, "flexible loads\nkW"), partial(_draw_flexible_loads, result=result)))
    figure = new_figure(result, "Schedule", 1.0 + 1.6 * len(panels))
    rows = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (label, draw) in zip(rows, panels, strict=True):
        draw(axes)
        axes.set_ylabel(label)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1, ncols=4)
    over_the_day(rows[-1], case)
    return figure


def voltages(result: Result) -> Figure:
    """Range and median over the buses or nodes with limits over the day, and the limits."""
    case = result.case
    _, v = limited_voltages(case, shown_state(result)[0])
    figure = new_figure(result, "Voltages", _SHORT)
    axes = figure.subplots()
    axes.stairs(v.max(axis=0), edges(case), baseline=v.min(axis=0), fill=True, color=BLUE, alpha=0.5, label="range")
    steps(axes, case, np.median(v, axis=0), "median", ORANGE, "--")
    limit_lines(axes, (case.settings.v_max_pu, case.settings.v_min_pu))
    axes.set_ylabel("voltage, pu")
    over_the_day(axes, case)
    legend_below(figure, axes)
    return figure


def residuals(result: Result) -> dict[str, Floats]:
    """(round,) what must fall below the tolerance, NaN where it is zero or not finite: a logarithm has no place for it.

    What is never above zero, or unknown, is left out.
    """
    past = result.history
    found = {"mismatch": past.mismatch_pu, "change": past.change_pu, "model error": past.model_error_pu}
    found["first-order residual"] = past.optimality
    shown = {name: np.where(np.isfinite(y) & (y > 0), y, np.nan) for name, y in found.items()}
    return {name: y for name, y in shown.items() if np.isfinite(y).any()}


def convergence(result: Result) -> Figure:
    """Mismatch, change and first-order residual by round, on a logarithmic axis."""
    figure = new_figure(result, "Convergence", _SHORT)
    axes = figure.subplots()
    for name, y in residuals(result).items():
        color, line = _RESIDUAL_STYLES[name]
        axes.plot(np.arange(1, len(y) + 1), y, line, color=color, marker="o", markersize=3, label=name)
    axes.axhline(result.tolerance_pu, color=LIMIT, linestyle=":", label="tolerance")
    axes.set(xlabel="round", ylabel="largest difference, pu", yscale="log")
    axes.locator_params(axis="x", integer=True)
    legend_below(figure, axes)
    return figure


def read_convergence(result: Result) -> str:
    ends = "converged" if result.converged else "NOT CONVERGED"
    found = [f"areas differ by {result.max_mismatch_pu:.1e} pu"] if len(result.areas) > 1 else []
    found += [f"the model error is {result.model_error_pu:.1e} pu"] if result.model_error_pu else []
    found += [] if result.optimality is None else [f"the first-order residual is {result.optimality:.1e}"]
    rounds = counted(len(result.history.cost), "round")
    return f"After {rounds} {ends}: {', '.join([*found, f'the tolerance is {result.tolerance_pu:.0e} pu'])}."
