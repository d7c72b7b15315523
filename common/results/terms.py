"""The objective's terms and value for a schedule; ``common.inputs.objective`` says what the terms are."""

from __future__ import annotations

import numpy as np

from tieflow.common.case import Case
from tieflow.common.inputs.devices import column
from tieflow.common.inputs.objective import UNITS, energy, factors, losses, used, voltage_deviation, wasted
from tieflow.common.inputs.weights import LEAST_BASE, Terms
from tieflow.common.results.schedule import NetworkState, Schedule, completed, idle_schedule


def objective_terms(case: Case, schedule: Schedule, state: NetworkState) -> dict[str, float]:
    """Every term of a schedule whose network is in ``state``, the optimizer's or OpenDSS's, in its unit, by name."""
    horizon, settings, schedule = case.horizon, case.settings, completed(case, schedule)
    charge, discharge = schedule.batteries["charge_kw"], schedule.batteries["discharge_kw"]
    battery_kwh = used(horizon, charge, discharge).sum(axis=1)
    moved = np.abs(schedule.flexible_loads["p_kw"] - idle_schedule(case).flexible_loads["p_kw"])
    moved_kwh = horizon.dt * moved.sum(axis=1)
    asked = np.array([unit.cost_per_kwh for unit in case.batteries]) @ battery_kwh
    asked += np.array([unit.cost_per_kwh for unit in case.flexible_loads]) @ moved_kwh
    eta_c, eta_d = (column(case.batteries, field) for field in ("eta_charge", "eta_discharge"))
    v = state.v_pu[case.feeder.places.limited]
    s_max = np.array([[limit.s_max_kva] for limit in case.branch_limits])
    beyond = np.maximum(np.log(v / settings.v_max_pu), np.log(settings.v_min_pu / v))
    found = {
        "energy": energy(horizon, state.substation_p_kw, settings.export_price_per_kwh),
        "battery_use": battery_kwh.sum(),
        "flexibility": moved_kwh.sum(),
        "voltage_deviation": voltage_deviation(v**2),
        "losses": losses(horizon, state.losses_kw),
        "device_prices": asked,
        "simultaneous": wasted(eta_c, eta_d, charge, discharge) / settings.base_kva if len(charge) else 0.0,
        "overstep": horizon.dt * np.maximum(beyond, 0.0).sum(),
        "overload": horizon.dt * np.maximum(state.branch_kva - s_max, 0.0).sum() if len(s_max) else 0.0,
    }
    return {name: float(value) for name, value in found.items()}


def objective_value(case: Case, schedule: Schedule, state: NetworkState) -> float:
    """What the optimizer minimizes, $, for any schedule of the case. Raises CaseError as ``factors`` does."""
    counts = factors(case.settings)
    return float(sum(getattr(counts, name) * value for name, value in objective_terms(case, schedule, state).items()))


def idle_bases(case: Case, idle: NetworkState) -> Terms:
    """Base values of all terms by the network's state with idle devices: batteries at rest, PV, wind and flexible loads
    at their profile, no reactive power but of loads.

    Batteries' use and loads' flexibility are zero there. Their bases are those of the key figures (29) and (30): one
    full cycle of all batteries, twice their capacity, and the flexible loads' nominal energy.
    """
    at_rest = idle_schedule(case)
    terms = objective_terms(case, at_rest, idle)
    terms["battery_use"] = sum(2 * unit.energy_kwh for unit in case.batteries)
    terms["flexibility"] = float(case.horizon.dt * at_rest.flexible_loads["p_kw"].sum())
    return Terms(**{name: terms[name] for name in UNITS if terms[name] >= LEAST_BASE})
