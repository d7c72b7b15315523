"""A seeded set of hard and easy cases for optimizers of multi-phase feeders, and IPOPT on them.

``configuration(k)`` builds number k of ``RECIPES``, always the same. Run in the folder ``tests``,
``python -m benchmarks.configurations FILE [FIRST [LAST]]`` solves numbers FIRST to LAST with IPOPT, one after the
other, and adds a line of JSON for each to FILE: the better of two runs, the costs of those that succeeded (``optima``),
and the seconds of both with building the case. Numbers that FILE has already are left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, get_args

import numpy as np
from ipopt import Barrier, Optimum, solve_with_ipopt
from multiphase_feeders import grown, place_of, published

from tieflow.common.arrays import Complexes, Floats
from tieflow.common.case import Case, check_devices, read_case
from tieflow.common.circuit.importing import import_circuit
from tieflow.common.errors import SolverError
from tieflow.common.feeder.branch_limits import BranchLimit
from tieflow.common.feeder.multiphase import FIXED, multipliers
from tieflow.common.feeder.power_flow import PowerFlow, two_port
from tieflow.common.inputs.devices import PV, Battery, FlexibleLoad, Wind
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.inputs.settings import Settings
from tieflow.common.inputs.weights import Terms
from tieflow.common.ties.multiphase_partition import idle_power_flow

# A summer day by the hour: load and PV power over the rated ones, $ per kWh.
LOAD = np.array(
    [0.58, 0.54, 0.51, 0.50, 0.51, 0.55, 0.63, 0.70, 0.74, 0.76, 0.77, 0.78]
    + [0.78, 0.77, 0.76, 0.77, 0.81, 0.89, 0.97, 1.00, 0.97, 0.89, 0.78, 0.67]
)
SUN = np.maximum(0.0, np.sin((np.arange(24) - 5.5) / 13 * np.pi)) * (np.arange(24) < 19)
PRICE = np.array([0.08] * 6 + [0.14] * 10 + [0.26] * 5 + [0.10] * 3)

SEED = 100
"""of configuration 0; each next one has the next"""
SPIKE = 1e4
"""$ per kWh"""
TINY_KW = 1e-3
SEARCH = (0.05, 40.0)
"""factors that loads or PV are scaled by to reach a voltage"""
SEARCH_STEPS = 24

Prices = Literal["day", "negative", "mixed", "zero", "some zero", "flat", "spike", "wild"]
Feeder = Literal["ieee13", "ieee34", "ieee123"]


@dataclass(frozen=True)
class Configuration:
    name: str
    """its number, kind, feeder and periods"""
    kind: str
    case: Case
    areas: int
    """into how many areas to cut the feeder"""


@dataclass(frozen=True)
class Recipe:
    """What a configuration is made of. Shares are of the feeder's rated load."""

    kind: str
    feeder: Feeder | int
    """or the number of buses of a random circuit"""
    periods: int
    areas: int
    dt_hours: float = 1.0
    limits_of_loads: tuple[float, float] | None = None
    """vminpu and vmaxpu that all loads get; None: their own, of a random circuit 0.5 and 1.5"""
    own_limits: bool = False
    """whether loads of a random circuit have limits near 1 pu, each its own"""
    pv: tuple[int, float] = (8, 0.4)
    """how many, and the share that they have together"""
    batteries: tuple[int, float] = (5, 0.15)
    wind: tuple[int, float] = (0, 0.0)
    flexible: tuple[int, float] = (0, 0.0)
    curtailable: bool = False
    """whether every second PV system and all wind may be curtailed"""
    tiny: int = 0
    """how many PV systems and batteries are tiny"""
    huge: float = 0.0
    """share of one battery"""
    device_price: float = 0.0
    """$ per kWh of batteries and flexible loads"""
    prices: Prices = "day"
    lowest_pu: float | None = None
    """loads are scaled until the lowest voltage of limited nodes is this, without devices"""
    highest_pu: float | None = None
    """PV is scaled until the highest voltage is this, with idle devices"""
    branch_limits: tuple[int, float] = (0, 1.0)
    """how many, and the limits over the largest power of the branches with idle devices"""
    peak: float | None = None
    """cap on substation power, over its largest with idle devices"""
    settings: Mapping[str, Any] = field(default_factory=dict)


def _recipes() -> tuple[Recipe, ...]:
    found: list[Recipe] = []

    def add(kind: str, feeder: Feeder | int, periods: int, areas: int, **rest: Any) -> None:
        found.append(Recipe(kind, feeder, periods, areas, **rest))

    def limits(v_min_pu: float, v_max_pu: float, **rest: Any) -> dict[str, Any]:
        return {"v_min_pu": v_min_pu, "v_max_pu": v_max_pu, **rest}

    many: dict[str, Any] = {"pv": (20, 5.0), "batteries": (8, 0.15)}
    # As they are.
    add("base", "ieee13", 24, 4)
    add("base", "ieee34", 24, 5)
    add("base", "ieee123", 24, 4)
    add("base", "ieee13", 1, 2)
    add("base", "ieee123", 4, 12)
    add("long", "ieee13", 96, 4, dt_hours=0.25)
    add("long", "ieee34", 48, 3, dt_hours=0.5)
    add("long", 15, 96, 3)
    add("no devices", "ieee13", 12, 4, pv=(0, 0), batteries=(0, 0))
    add("no devices", "ieee123", 4, 6, pv=(0, 0), batteries=(0, 0))
    # Power that flows back.
    add("reverse", "ieee13", 12, 4, pv=(12, 3.0))
    add("reverse", "ieee34", 12, 6, pv=(12, 3.0))
    add("reverse", "ieee123", 12, 8, pv=(12, 3.0))
    add("reverse", "ieee13", 24, 3, **many)
    add("reverse", "ieee123", 4, 4, **many, curtailable=True)
    add("high voltage", "ieee13", 4, 4, pv=(20, 0.4), highest_pu=1.2)
    add("high voltage", "ieee34", 12, 4, pv=(20, 0.4), highest_pu=1.2)
    add("high voltage", "ieee123", 12, 4, pv=(20, 0.4), highest_pu=1.2)
    add("high voltage", "ieee13", 12, 2, pv=(6, 0.4), highest_pu=1.3, settings=limits(0.8, 1.35))
    add("high voltage", "ieee123", 4, 5, pv=(20, 0.4), highest_pu=1.2, curtailable=True)
    # Loads near collapse.
    add("collapse", "ieee13", 4, 4, lowest_pu=0.75, settings=limits(0.5, 1.2))
    add("collapse", "ieee123", 12, 4, lowest_pu=0.75, settings=limits(0.5, 1.2))
    add("collapse", "ieee34", 12, 5, lowest_pu=0.75, settings=limits(0.5, 1.2))
    add("collapse", "ieee13", 12, 3, lowest_pu=0.72)
    add("collapse", "ieee123", 4, 10, lowest_pu=0.72)
    add("collapse", "ieee13", 24, 4, lowest_pu=0.83, batteries=(5, 0.5))
    add("collapse", 10, 12, 3, lowest_pu=0.75)
    add("collapse", 20, 4, 4, lowest_pu=0.8, flexible=(3, 0.1))
    # Voltage limits: tight, impossible, cheap.
    add("tight", "ieee13", 12, 4, settings=limits(0.985, 1.015))
    add("tight", "ieee34", 24, 4, settings=limits(0.985, 1.015))
    add("tight", "ieee123", 24, 4, settings=limits(0.985, 1.015))
    add("impossible", "ieee13", 4, 4, settings=limits(1.0, 1.002))
    add("impossible", "ieee123", 12, 7, settings=limits(1.0, 1.002))
    add("impossible", "ieee34", 4, 2, settings=limits(1.0, 1.0))
    add("cheap slack", "ieee13", 12, 4, settings=limits(0.99, 1.01, voltage_slack_price=5.0))
    add("cheap slack", "ieee123", 12, 4, settings=limits(0.99, 1.01, voltage_slack_price=5.0))
    # Branch limits and caps.
    add("branches", "ieee13", 12, 4, branch_limits=(3, 0.97), flexible=(3, 0.2))
    add("branches", "ieee123", 4, 6, branch_limits=(6, 0.95), pv=(12, 0.6), curtailable=True)
    add("branches", "ieee34", 12, 3, branch_limits=(4, 0.6))
    add("branches", 25, 12, 5, branch_limits=(5, 0.9), flexible=(4, 0.3), settings={"overload_price_per_kvah": 0.5})
    add("export", "ieee13", 12, 4, branch_limits=(2, 0.7), pv=(10, 3.0), curtailable=True)
    add("cap", "ieee13", 24, 4, peak=0.95, batteries=(5, 0.4))
    add("cap", "ieee123", 12, 4, peak=0.93, batteries=(8, 0.4), flexible=(4, 0.1))
    add("cap", "ieee34", 4, 3, peak=0.97, batteries=(5, 0.3), settings={"objective": "peak"})
    # Prices.
    add("prices", "ieee13", 12, 4, prices="negative")
    add("prices", "ieee123", 12, 4, prices="negative", curtailable=True)
    add("prices", "ieee13", 12, 3, prices="zero")
    add("prices", "ieee123", 4, 4, prices="some zero")
    add("prices", "ieee13", 24, 4, prices="mixed", curtailable=True, flexible=(3, 0.1))
    add("prices", "ieee123", 24, 4, prices="mixed")
    add("prices", "ieee13", 24, 4, prices="spike")
    add("prices", "ieee123", 12, 9, prices="spike", flexible=(4, 0.1))
    add("prices", "ieee13", 24, 4, prices="flat", device_price=0.01, flexible=(3, 0.2))
    add("prices", "ieee13", 12, 4, prices="wild", pv=(12, 3.0), batteries=(5, 1.0))
    add("prices", "ieee34", 24, 4, prices="wild", pv=(12, 1.0), batteries=(5, 0.5), curtailable=True)
    # Objectives.
    deviation = {"objective": "voltage_deviation", "voltage_deviation_weight": 50.0}
    add("objective", "ieee13", 24, 4, wind=(2, 0.2), settings={"objective": "losses"})
    add("objective", "ieee123", 12, 4, flexible=(5, 0.1), settings={"objective": "losses"})
    add("objective", "ieee13", 12, 4, wind=(2, 0.2), curtailable=True, settings=deviation)
    add("objective", "ieee123", 12, 4, settings=deviation)
    mix = Terms(energy=1.0, battery_use=0.01, flexibility=0.02, voltage_deviation=50.0)
    add("objective", "ieee13", 24, 4, flexible=(3, 0.2), settings={"weights": mix})
    shares = {
        "weights": Terms(energy=0.2, losses=0.3, voltage_deviation=0.5),
        "weights_bases": Terms(energy=4000.0, losses=1500.0, voltage_deviation=20.0),
        "scd_weight": 100.0,
    }
    add("objective", "ieee123", 4, 4, wind=(3, 0.2), flexible=(3, 0.2), settings=shares)
    # Sizes of devices.
    add("tiny", "ieee13", 24, 4, tiny=4)
    add("tiny", "ieee123", 12, 4, tiny=4)
    add("huge", "ieee13", 12, 4, huge=10.0)
    add("huge", "ieee34", 24, 4, huge=10.0)
    # Laws of loads with limits within reach.
    add("kinks", "ieee13", 12, 4, limits_of_loads=(0.95, 1.05))
    add("kinks", "ieee123", 12, 4, limits_of_loads=(0.97, 1.03), prices="mixed")
    for buses, periods, areas in ((8, 48, 2), (15, 24, 3), (25, 12, 4), (40, 24, 6)):
        add("kinks", buses, periods, areas, own_limits=True)
    hard: dict[str, Any] = {"prices": "wild", "pv": (8, 2.0), "batteries": (5, 0.6), "settings": limits(0.96, 1.04)}
    for buses, periods, areas, free in ((10, 24, 2, False), (20, 12, 5, True), (30, 4, 6, False)):
        add("wild kinks", buses, periods, areas, own_limits=True, curtailable=free, wind=(2 * free, 0.3), **hard)
    return tuple(found)


RECIPES = _recipes()


def configuration(k: int) -> Configuration:
    """Number k of the set, 0 <= k < len(RECIPES)."""
    recipe = RECIPES[k]
    rng = np.random.default_rng(SEED + k)
    feeder = f"random{recipe.feeder}" if isinstance(recipe.feeder, int) else recipe.feeder
    name = f"{k:02d} {recipe.kind}, {feeder}, {recipe.periods}"
    case = _with_horizon(_plain(recipe, name, rng), recipe, rng)
    case = _with_devices(case, recipe, rng)
    if recipe.lowest_pu is not None:
        case = _loaded(case, recipe.lowest_pu)
    if recipe.highest_pu is not None:
        case = _lifted(case, recipe.highest_pu)
    case = _with_limits(case, recipe, rng)
    check_devices(case)
    return Configuration(name, recipe.kind, case, recipe.areas)


def _plain(recipe: Recipe, name: str, rng: np.random.Generator) -> Case:
    """The feeder with neither devices nor prices."""
    given: dict[str, Any] = {"v_min_pu": 0.95, "v_max_pu": 1.05}
    if isinstance(recipe.feeder, int):
        circuit = grown(rng, recipe.feeder, smooth=not recipe.own_limits).text()
        given = {"v_min_pu": 0.9, "v_max_pu": 1.1}
    elif recipe.feeder == "ieee34":
        circuit = import_circuit(published("34Bus/ieee34Mod1.dss")).text
    else:
        shipped = {"ieee13": "ieee13", "ieee123": "ieee123_unbalanced"}[recipe.feeder]
        case = read_case(shipped, with_devices=False)
        circuit, given = case.circuit, {"v_min_pu": case.settings.v_min_pu, "v_max_pu": case.settings.v_max_pu}
    if recipe.limits_of_loads is not None:
        least, most = recipe.limits_of_loads
        circuit += f"\nbatchedit load..* vminpu={least} vmaxpu={most}\n"
    given |= {"periods": recipe.periods, "dt_hours": recipe.dt_hours}
    if recipe.peak is None:
        given |= recipe.settings
    else:
        # The number is known when the case is; objective = peak asks for one.
        given |= {"substation_peak_kw": 1.0, **recipe.settings}
    nothing = np.zeros(recipe.periods)
    return Case(
        name=name,
        settings=Settings(model="multiphase", **given),
        buses=(),
        branches=(),
        pv=(),
        batteries=(),
        horizon=Horizon(tuple(range(recipe.periods)), nothing, nothing, nothing, recipe.dt_hours),
        areas=(),
        circuit=circuit,
    )


def _with_horizon(case: Case, recipe: Recipe, rng: np.random.Generator) -> Case:
    """Periods about noon, of as many days as it takes; a few percent of noise on load, PV and wind."""
    count, dt = recipe.periods, recipe.dt_hours
    hours = (12 + dt * (np.arange(count) - count / 2)) % 24
    load, sun = (np.interp(hours, np.arange(24), column, period=24) for column in (LOAD, SUN))
    price = PRICE[hours.astype(int)]
    load = load * rng.uniform(0.95, 1.05, count)
    wind = np.clip(0.5 + 0.4 * np.sin(hours / 5) + rng.normal(0, 0.1, count), 0, 1)
    shapes = {name: load for name in sorted({*case.multiphase_feeder.legs.shape} - {"", FIXED})}
    changed: dict[Prices, Callable[[], Floats]] = {
        "day": lambda: price,
        "negative": lambda: -price,
        "mixed": lambda: price * np.where(rng.random(count) < 0.35, -1, 1),
        "zero": lambda: 0 * price,
        "some zero": lambda: price * (rng.random(count) < 0.5),
        "flat": lambda: 0 * price + 0.1,
        "spike": lambda: np.where(np.arange(count) == count // 2, SPIKE, price),
        "wild": lambda: rng.normal(0, 0.2, count),
    }
    sun = sun * rng.uniform(0.8, 1.0, count)
    given = changed[recipe.prices]()
    return replace(case, horizon=Horizon(case.horizon.hour, load, sun, given, dt, shapes=shapes, wind=wind))


def _with_devices(case: Case, recipe: Recipe, rng: np.random.Generator) -> Case:
    """Devices where loads are, of uneven sizes."""
    feeder = case.multiphase_feeder
    places = sorted({place_of(feeder, leg) for leg in range(len(feeder.legs))})
    total = float(feeder.legs.s.real.clip(0).sum()) * case.settings.base_kva

    def drawn(count: int, share: float) -> list[tuple[dict[str, str], float]]:
        """Places and kW."""
        if not count:
            return []
        chosen = rng.choice(len(places), min(count, len(places)), replace=False)
        kw = np.maximum(share * total * rng.dirichlet(np.full(len(chosen), 2.0)), TINY_KW)
        return [({"bus": places[at][0], "phases": places[at][1]}, size) for at, size in zip(chosen, kw, strict=True)]

    def resized(units: list[tuple[dict[str, str], float]]) -> list[tuple[dict[str, str], float]]:
        return [(place, TINY_KW if row < recipe.tiny else kw) for row, (place, kw) in enumerate(units)]

    pv, batteries = resized(drawn(*recipe.pv)), resized(drawn(*recipe.batteries))
    if recipe.huge:
        batteries[-1] = (batteries[-1][0], recipe.huge * total)
    price, free = recipe.device_price, recipe.curtailable
    return replace(
        case,
        pv=tuple(
            PV(**place, p_rated_kw=kw, s_rated_kva=1.2 * kw, curtailable=free and row % 2 == 0)
            for row, (place, kw) in enumerate(pv)
        ),
        batteries=tuple(
            Battery(**place, p_rated_kw=kw, s_rated_kva=1.1 * kw, energy_kwh=4 * kw, cost_per_kwh=price)
            for place, kw in batteries
        ),
        wind=tuple(
            Wind(**place, p_rated_kw=kw, s_rated_kva=1.05 * kw, curtailable=free) for place, kw in drawn(*recipe.wind)
        ),
        flexible_loads=tuple(
            FlexibleLoad(**place, p_kw=kw, q_kvar=0.3 * kw, down=0.4, up=rng.uniform(0.2, 0.6), cost_per_kwh=price)
            for place, kw in drawn(*recipe.flexible)
        ),
    )


def _with_limits(case: Case, recipe: Recipe, rng: np.random.Generator) -> Case:
    """Limits of branches and a cap on substation power, by what flows with idle devices."""
    count, share = recipe.branch_limits
    if not count and recipe.peak is None:
        return case
    feeder, base = case.multiphase_feeder, case.settings.base_kva
    found = _idle(case)
    if found is None:
        raise SolverError(f"{case.name}: no power flow with idle devices, so nothing tells its limits.")
    v, i = found
    if recipe.peak is not None:
        first = feeder.node_bus == 1
        largest = float((v[first] * np.conj(i[first])).real.sum(axis=0).max()) * base
        settings = case.settings.model_copy(update={"substation_peak_kw": recipe.peak * largest})
        case = replace(case, settings=settings)
    limits = []
    for k in sorted(rng.choice(np.arange(1, len(feeder.branches)), count, replace=False).tolist()):
        nodes, port = feeder.branches[k].nodes, two_port(feeder, k)
        child = feeder.node_bus[nodes] == k + 1
        into = port.c @ v[nodes[~child]] + port.d @ i[nodes[child]]
        largest = float(np.abs((v[nodes[~child]] * np.conj(into)).sum(axis=0)).max()) * base
        limits.append(BranchLimit(branch=feeder.branches[k].name, s_max_kva=max(share * largest, 1.0)))
    return replace(case, branch_limits=tuple(limits))


def _loaded(case: Case, lowest_pu: float) -> Case:
    """With all loads scaled until the lowest voltage without devices is the given one, or nearly no power flow."""
    bare = replace(case, pv=(), batteries=(), wind=(), flexible_loads=())

    def scaled(by: float, of: Case) -> Case:
        horizon = of.horizon
        shapes = {name: by * shape for name, shape in horizon.shapes.items()}
        return replace(of, horizon=replace(horizon, load=by * horizon.load, shapes=shapes))

    def fits(by: float) -> bool:
        found = _idle(scaled(by, bare))
        return found is not None and np.abs(found[0][case.multiphase_feeder.limited]).min() > lowest_pu

    return scaled(_largest(fits), case)


def _lifted(case: Case, highest_pu: float) -> Case:
    """With all PV scaled until the highest voltage with idle devices is the given one."""

    def scaled(by: float) -> Case:
        sizes = ("p_rated_kw", "s_rated_kva")
        pv = (unit.model_copy(update={size: by * getattr(unit, size) for size in sizes}) for unit in case.pv)
        return replace(case, pv=tuple(pv))

    def fits(by: float) -> bool:
        found = _idle(scaled(by))
        return found is not None and np.abs(found[0][case.multiphase_feeder.limited]).max() < highest_pu

    return scaled(_largest(fits))


def _largest(fits: Callable[[float], bool]) -> float:
    """The largest factor that fits, by bisection."""
    low, high = SEARCH
    for _ in range(SEARCH_STEPS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _idle(case: Case) -> tuple[Complexes, Complexes] | None:
    """(node, T) voltages and currents with idle devices; None where there is no power flow."""
    feeder, horizon = case.multiphase_feeder, case.horizon
    flow = PowerFlow(feeder, multipliers(feeder.legs, horizon.load, horizon.shapes))
    try:
        return idle_power_flow(case, flow)
    except SolverError:
        return None


def best(case: Case, max_seconds: float) -> tuple[Optimum, list[float]]:
    """The better optimum of IPOPT's two ways to lower its barrier, limits priced, and what was found, $."""
    runs = [solve_with_ipopt(case, barrier=barrier, max_seconds=max_seconds) for barrier in get_args(Barrier)]
    runs.sort(key=lambda run: (not run.succeeded, run.cost))
    return runs[0], [run.cost for run in runs if run.succeeded]


def main(path: Path, first: int = 0, last: int = len(RECIPES) - 1, max_seconds: float = 600.0) -> None:
    known = {json.loads(line)["k"] for line in path.read_text().splitlines()} if path.exists() else set()
    for k in (k for k in range(first, last + 1) if k not in known):
        began = perf_counter()
        try:
            chosen = configuration(k)
            found, optima = best(chosen.case, max_seconds)
        except Exception as error:  # the others are still worth knowing
            row = {"name": f"{k:02d}", "status": repr(error)[:300], "iterations": 0, "objective": None, "optima": []}
        else:
            row = {"name": chosen.name, "status": found.status, "iterations": found.iterations}
            row |= {"objective": found.cost, "optima": optima}
        line = json.dumps({"k": k, **row, "seconds": round(perf_counter() - began, 2)})
        with path.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:4]))
