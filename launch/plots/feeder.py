"""Pictures over the feeder: voltage along it, by place and time, and maps; beside each the sentence that reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tieflow.common.arrays import Bools, Floats, Ints
from tieflow.common.case import Case
from tieflow.common.errors import counted
from tieflow.common.feeder.multiphase import path_length
from tieflow.common.inputs.settings import COSTS
from tieflow.common.results.result import Result
from tieflow.common.results.violations import OVERSTEP_PU
from tieflow.common.ties.cutting import area_numbers
from tieflow.launch.figures.kpis import OPENDSS, V_REFERENCE_PU, Extreme, kpis, limited_voltages, shown_state
from tieflow.launch.plots.style import (
    BLUE,
    COLOUR_MAP,
    GREY,
    PALETTE,
    edges,
    legend_below,
    limit_lines,
    new_figure,
    over_the_day,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

IMPEDANCE = "impedance from the substation, ohm"
LENGTH = "distance from the substation, km"
BRANCHES = "branches from the substation"
_MARKERS = "osD^vP*X"
_NAMED_BUSES = 20
_NAMED_ROWS = 45
_LEGEND_AREAS = 24
_PHASE_APART = 0.22
_PHASE_APART_OF_ALL = 0.004
"""of the distance to the farthest bus"""
_MANY = 600
"""buses or nodes beyond which marks are made smaller, to be told apart"""
_AREA_COLOURS = PALETTE[:-1]
"""without black, which ties and the substation have"""


@dataclass(frozen=True)
class Layout:
    """Where buses are drawn."""

    xy: Floats
    """(bus, 2)"""
    from_coordinates: bool
    """whether the case knows them; else they are laid out as a tree"""


def profile(result: Result) -> Figure:
    """The range of voltage over the day at every bus or node with limits, over its distance from the substation."""
    case, (state, _) = result.case, shown_state(result)
    _, v = limited_voltages(case, state)
    figure = new_figure(result, "Voltage along the feeder", 3.6)
    axes = figure.subplots()
    x, phase, away = distance(case)
    for number in np.unique(phase):
        chosen = phase == number
        color = BLUE if case.is_balanced else PALETTE[(number - 1) % len(PALETTE)]
        label = "range over the day" if case.is_balanced else f"phase {number}"
        low, high = v[chosen].min(axis=1), v[chosen].max(axis=1)
        many = len(v) > _MANY
        axes.vlines(x[chosen], low, high, color=color, linewidth=0.4 if many else 2, alpha=0.5 if many else 1)
        # A range of nothing, such as next to the substation, would be no mark at all.
        axes.plot(x[chosen], np.median(v[chosen], axis=1), ".", color=color, markersize=1 if many else 3)
        axes.plot([], [], color=color, linewidth=2, label=label)  # the legend shows it, however thin the lines
    limit_lines(axes, (case.settings.v_min_pu, case.settings.v_max_pu))
    axes.set(xlabel=away, ylabel="voltage, pu")
    legend_below(figure, axes)
    return figure


def distance(case: Case) -> tuple[Floats, Ints, str]:
    """How far every bus or node with limits lies from the substation, its phase (0 in a balanced case), and in what.

    Balanced: magnitude of the path's impedance. Multi-phase: length of the path's lines, or where the circuit does not
    tell that of all lines, number of branches; the phases of a bus side by side.
    """
    chosen = case.feeder.places.looked_at
    if case.is_balanced:
        r, x = case.balanced_feeder.path_impedance()
        ohm = (case.settings.voltage_kv / np.sqrt(3)) ** 2 * 1000 / case.settings.base_kva
        return np.hypot(r, x)[chosen] * ohm, np.zeros(int(chosen.sum()), np.int64), IMPEDANCE
    feeder = case.multiphase_feeder
    bus, phase = feeder.places.bus[chosen], feeder.node_phase[feeder.roots :][chosen]
    km = path_length(feeder)[1:]
    if np.isfinite(km).all() and km.any():
        return km[bus] + _PHASE_APART_OF_ALL * km.max() * (phase - 2.0), phase, LENGTH
    return hops(feeder.own_parent)[bus] + _PHASE_APART * (phase - 2.0), phase, BRANCHES


def hops(parent: Ints) -> Ints:
    """(bus,) number of branches from bus 0."""
    found = np.zeros(len(parent) + 1, np.int64)
    for k, bus in enumerate(parent):
        found[k + 1] = found[bus] + 1
    return found


def read_profile(result: Result) -> str:
    case, settings = result.case, result.case.settings
    state, slack = shown_state(result)[0], voltage_slack(result)
    found = kpis(case, result.schedule, state, 0)
    _, v = limited_voltages(case, state)
    beyond = ((v < settings.v_min_pu - slack) | (v > settings.v_max_pu + slack)).any(axis=1).sum()
    kept = f"passed at {beyond} of {len(v)} {case.feeder.places.plural}" if beyond else "kept everywhere"
    return (
        f"Voltages lie between {_at(found.lowest_voltage_pu)} and {_at(found.highest_voltage_pu)}; the limits "
        f"{settings.v_min_pu:g} and {settings.v_max_pu:g} pu are {kept}."
    )


def voltage_slack(result: Result) -> float:
    """pu beyond a limit that does not count: in the replay its tolerance."""
    is_replayed = result.check is not None and shown_state(result)[1] == OPENDSS
    return result.check.tolerances.voltage_pu if result.check and is_replayed else OVERSTEP_PU


def _at(extreme: Extreme) -> str:
    return f"{extreme.value:.4f} pu ({extreme.place}, {extreme.time})"


def heat_map(result: Result) -> Figure:
    """Voltage by place, nearest to the substation first, and time."""
    case, (state, _) = result.case, shown_state(result)
    names, v = limited_voltages(case, state)
    figure = new_figure(result, "Voltage by place and time", float(np.clip(1.5 + 0.13 * len(names), 3.2, 7.0)))
    axes = figure.subplots()
    hours = edges(case)
    shown = axes.imshow(
        v, aspect="auto", cmap=COLOUR_MAP, interpolation="nearest", extent=(hours[0], hours[-1], len(names) - 0.5, -0.5)
    )
    every = max(1, -(-len(names) // _NAMED_ROWS))
    axes.set_yticks(np.arange(0, len(names), every), names[::every], fontsize=7 if every == 1 else 6)
    axes.set_ylabel(case.feeder.places.noun)
    axes.grid(False)
    over_the_day(axes, case, 6)
    figure.colorbar(shown, ax=axes, label="voltage, pu", pad=0.02)
    return figure


def read_heat_map(result: Result) -> str:
    case = result.case
    names, v = limited_voltages(case, shown_state(result)[0])
    mean = v.mean(axis=0)
    times = case.horizon.times
    return (
        f"The mean over {len(names)} {case.feeder.places.plural} is lowest at {times[mean.argmin()]} "
        f"({mean.min():.4f} pu) and highest at {times[mean.argmax()]} ({mean.max():.4f} pu)."
    )


def area_map(result: Result) -> Figure:
    """The feeder as one line, its buses coloured by area."""
    case = result.case
    of_bus, names = areas(result)
    figure, axes, xy = _map(result, "Areas")
    for number, name in enumerate(names):
        x, y = xy[of_bus == number].T
        marker = _MARKERS[number // len(_AREA_COLOURS) % len(_MARKERS)]
        color = _AREA_COLOURS[number % len(_AREA_COLOURS)]
        label = name if number < _LEGEND_AREAS else None
        axes.plot(x, y, marker, color=color, markersize=1.5 if len(xy) > _MANY else 4, label=label)
    _name_buses(axes, case, xy)
    legend_below(figure, axes)
    return figure


def areas(result: Result) -> tuple[Ints, list[str]]:
    """(bus,) area of each bus as the run had them, and their names."""
    case = result.case
    if len(result.areas) == 1 or not case.areas:
        return np.zeros(len(case.feeder.own_buses), np.int64), ["one area"]
    of_bus, names = area_numbers(case)
    return of_bus, [f"area {name}" if name.isdecimal() else name for name in names]


def read_area_map(result: Result) -> str:
    of_bus, names = areas(result)
    sizes = np.bincount(of_bus, minlength=len(names))
    if len(names) == 1:
        return f"The feeder is one area of {sizes[0]} {'bus' if sizes[0] == 1 else 'buses'}."
    largest, smallest = int(sizes.argmax()), int(sizes.argmin())
    return (
        f"{sizes.sum()} buses in {counted(len(names), 'area')}, from {sizes[smallest]} buses ({names[smallest]}) to "
        f"{sizes[largest]} ({names[largest]}), which meet at {len(_ties(result.case, of_bus))} ties."
    )


def voltage_map(result: Result) -> Figure:
    """The feeder as one line, each bus coloured by its voltage farthest from 1 pu over phases and periods."""
    return _coloured_map(result, "Voltage farthest from 1 pu", *farthest(result), "voltage, pu")


def farthest(result: Result) -> tuple[Ints, Floats]:
    """The buses with limits, and of each the voltage farthest from 1 pu over its phases and the day."""
    case = result.case
    _, v = limited_voltages(case, shown_state(result)[0])
    chosen = case.feeder.places.looked_at
    of_row = case.feeder.places.bus[chosen]
    worst = v[np.arange(len(v)), np.abs(v - V_REFERENCE_PU).argmax(axis=1)]
    order = np.lexsort((-np.abs(worst - V_REFERENCE_PU), of_row))
    buses, first = np.unique(of_row[order], return_index=True)
    return buses, worst[order][first]


def read_voltage_map(result: Result) -> str:
    buses, v = farthest(result)
    worst = int(np.abs(v - V_REFERENCE_PU).argmax())
    low = int((v < V_REFERENCE_PU).sum())
    return (
        f"Bus {result.case.feeder.own_buses[buses[worst]]} is farthest from 1 pu, with {v[worst]:.4f} pu; the farthest "
        f"voltage is below 1 pu at {low} of {len(v)} buses."
    )


def price_map(result: Result) -> Figure:
    """The feeder as one line, each bus coloured by its locational marginal price, the mean over phases and periods."""
    unit = "$/kWh" if _minimizes_cost(result.case) else "objective per kWh drawn"
    return _coloured_map(result, "Locational marginal price", *mean_prices(result), f"mean over the day, {unit}")


def mean_prices(result: Result) -> tuple[Ints, Floats]:
    """The buses with limits, and of each the mean price over its phases and the day, in what is minimized per kWh."""
    price, chosen = result.state.nodal_price, result.case.feeder.places.looked_at
    assert price is not None
    buses, of_bus = np.unique(result.case.feeder.places.bus[chosen], return_inverse=True)
    return buses, np.bincount(of_bus, price[chosen].mean(axis=1)) / np.bincount(of_bus)


def read_price_map(result: Result) -> str:
    buses, price = mean_prices(result)
    names = result.case.feeder.own_buses
    dear, cheap = int(price.argmax()), int(price.argmin())
    if _minimizes_cost(result.case):
        return (
            f"A kWh is worth most at bus {names[buses[dear]]}, {price[dear]:.4f} $ on average, and least at bus "
            f"{names[buses[cheap]]}, {price[cheap]:.4f} $; the mean price of energy is "
            f"{result.case.horizon.price.mean():.4f} $."
        )
    settings = result.case.settings
    unit = "kWh" if settings.weights is None and settings.objective == "losses" else "$"
    return (
        f"One more kWh drawn raises the objective, which is not the cost of energy alone, most at bus "
        f"{names[buses[dear]]}, by {price[dear]:.4f} {unit} on average, and least at bus {names[buses[cheap]]}, by "
        f"{price[cheap]:.4f} {unit}."
    )


def _minimizes_cost(case: Case) -> bool:
    return case.settings.weights is None and case.settings.objective in COSTS


def layout(case: Case) -> Layout:
    """Bus coordinates where the case knows most of them, the others beside their neighbours; else a tree."""
    parent, xy = case.feeder.own_parent, case.feeder.own_coordinates.copy()
    known: Bools = np.isfinite(xy[:, 0]) & np.isfinite(xy[:, 1])
    if known.mean() <= 0.5 or len(np.unique(xy[known], axis=0)) <= 2:
        return Layout(tree_layout(parent), False)
    # Twice, towards the substation and away from it, each unknown bus takes the place of a known neighbour.
    for k in range(len(parent) - 1, -1, -1):
        if not known[parent[k]] and known[k + 1]:
            xy[parent[k]], known[parent[k]] = xy[k + 1], True
    for k, bus in enumerate(parent):
        if not known[k + 1]:
            xy[k + 1], known[k + 1] = xy[bus], True
    return Layout(xy, True)


def tree_layout(parent: Ints) -> Floats:
    """(bus, 2) a tree from left to right: leaves on lines of their own, every other bus midway between its children."""
    children: list[list[int]] = [[] for _ in range(len(parent) + 1)]
    for k, bus in enumerate(parent):
        children[bus].append(k + 1)
    line = np.zeros(len(children))
    leaves, waiting = 0, [0]
    while waiting:
        bus = waiting.pop()
        waiting += reversed(children[bus])
        if not children[bus]:
            line[bus], leaves = -leaves, leaves + 1
    for bus in range(len(children) - 1, -1, -1):
        if children[bus]:
            line[bus] = (line[children[bus][0]] + line[children[bus][-1]]) / 2
    return np.column_stack([hops(parent), line]).astype(float)


def _map(result: Result, title: str) -> tuple[Figure, Axes, Floats]:
    """The feeder's lines; ties between areas stand out."""
    from matplotlib.collections import LineCollection

    case, where = result.case, layout(result.case)
    parent = case.feeder.own_parent
    figure = new_figure(result, title + ("" if where.from_coordinates else " (not to scale)"), 4.8)
    axes = figure.subplots()
    segments = np.stack([where.xy[parent], where.xy[1:]], axis=1)
    ties = _ties(case, areas(result)[0])
    axes.add_collection(LineCollection(list(segments), colors=GREY, linewidths=0.8))
    if len(ties):
        axes.add_collection(LineCollection([segments[k] for k in ties], colors="black", linewidths=2.5, label="tie"))
    axes.plot(*where.xy[:1].T, "s", color="black", markersize=8, label="substation", zorder=1)
    if where.from_coordinates:
        axes.set_aspect("equal", adjustable="datalim")
    axes.autoscale_view()
    axes.set_axis_off()
    return figure, axes, where.xy


def _coloured_map(result: Result, title: str, buses: Ints, values: Floats, label: str) -> Figure:
    """The feeder as one line with a coloured mark at each of some buses."""
    figure, axes, xy = _map(result, title)
    x, y = xy[buses].T
    size = 4 if len(xy) > _MANY else 22
    shown = axes.scatter(x, y, c=values, cmap=COLOUR_MAP, s=size, zorder=3, edgecolors=GREY, linewidths=0.3)
    figure.colorbar(shown, ax=axes, label=label, orientation="horizontal", pad=0.02, shrink=0.8)
    _name_buses(axes, result.case, xy)
    return figure


def _ties(case: Case, of_bus: Ints) -> Ints:
    """Branches that join two areas."""
    parent = case.feeder.own_parent
    return np.flatnonzero(of_bus[parent] != of_bus[1:])


def _name_buses(axes: Axes, case: Case, xy: Floats) -> None:
    names = case.feeder.own_buses
    if len(names) <= _NAMED_BUSES:
        for bus in range(len(names)):
            axes.annotate(names[bus], xy[bus], xytext=(4, 4), textcoords="offset points", fontsize=7)
