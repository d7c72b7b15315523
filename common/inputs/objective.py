"""The objective: its terms, and what a unit of each counts.

Any mix of terms is a sum over areas and periods, as objectives (1) and (17) of Massaoudi et al., "An efficient
framework for multi-DER integration in distribution networks with time-series demand flexibility" (2025):

    energy             c_g P_g: price times substation energy, $; what is exported earns ``export_price_per_kwh``
    battery_use        |P_b| as energy charged plus energy discharged at the terminals, kWh
    flexibility        |P_f - P_l|: energy that flexible loads draw more or less than their profile, kWh
    voltage_deviation  V_dev = (|V|^2 - 1)^2, V in pu, summed over the buses (multi-phase: nodes) with limits and over
                       periods. Near 1 pu that is 4 (|V| - 1)^2, four times the paper's (25) before its mean over time;
                       it is convex and quadratic in the squared voltage, the variable of the balanced model
    losses             energy lost in the network, kWh

To them come, whatever the weights: ``device_prices``, what devices ask by their ``cost_per_kwh``, $; ``simultaneous``,
the losses of batteries that ``scd_weight`` prices, pu; and in a multi-phase case ``overstep``, voltage beyond limits
(as its logarithm) times hours, and ``overload``, power of branches beyond limits times hours, kVAh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.errors import CaseError
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.inputs.settings import Settings

UNITS = {"energy": "$", "battery_use": "kWh", "flexibility": "kWh", "voltage_deviation": "", "losses": "kWh"}
"""of the terms that have weights"""
LEAST_PRICE = 1e-3
"""$ per kWh that a loss counts with at least: where energy is free, boundaries keep a curvature and caps a price"""


@dataclass(frozen=True)
class Factors:
    """What a unit of each term counts in the objective, $."""

    energy: float = 0.0
    battery_use: float = 0.0
    flexibility: float = 0.0
    voltage_deviation: float = 0.0
    losses: float = 0.0
    device_prices: float = 1.0
    simultaneous: float = 0.0
    overstep: float = 0.0
    overload: float = 0.0


@dataclass(frozen=True)
class Prices:
    """(T,) what a unit of power, pu, costs in a period, $."""

    energy: Floats
    """of substation power"""
    losses: Floats
    """of losses by themselves"""
    in_all: Floats
    """of losses with the substation power that they are, and at least ``LEAST_PRICE``"""


def factors(settings: Settings) -> Factors:
    """What the settings say: weights, or an objective's name.

    Weights without bases are $ per unit. With bases the objective is the weighted sum of terms over their bases, times
    the base of ``energy``: so it stays in $, and a mix of weights that add up to one is worth the base energy cost in
    the base run. There ``device_prices`` are money as energy is, and count with its weight.

    Raises CaseError where a base is missing (``launch.runs.base_run`` computes those that are not given).
    """
    always = {"simultaneous": settings.scd_weight}
    if not settings.hard_limits:
        always["overstep"] = settings.voltage_slack_price
        always["overload"] = settings.overload_price_per_kvah
    if settings.weights is None:
        named = {"losses": {"losses": 1.0}}.get(settings.objective, {"energy": 1.0})
        if settings.objective == "voltage_deviation":
            named = named | {"voltage_deviation": settings.voltage_deviation_weight}
        return Factors(**named, **always)
    given, bases = settings.weights.given(), settings.weights_bases
    if bases is None:
        return Factors(**given, **always)
    known = bases.given()
    missing = [name for name in ("energy", *given) if name not in known and name not in ("battery_use", "flexibility")]
    if missing:
        raise CaseError(f"weights_bases: no base of {missing[0]}. Give one.")
    # Devices that there are none of have no base, and nothing to weigh.
    scaled = {name: weight * (known["energy"] / known[name]) for name, weight in given.items() if name in known}
    return Factors(**scaled, **always, device_prices=given.get("energy", 0.0))


def prices(settings: Settings, horizon: Horizon) -> Prices:
    """What power costs at the substation and where it is lost."""
    counts, worth = factors(settings), horizon.dt * settings.base_kva
    bought, lost = counts.energy * horizon.price, np.full(len(horizon), counts.losses)
    return Prices(worth * bought, worth * lost, worth * np.maximum(bought + lost, LEAST_PRICE))


def energy(horizon: Horizon, substation_kw: Any, export_price: float | None = None) -> Any:
    """$ that energy costs less what exported energy earns, of (T,) numbers; where it earns the price of its period
    (None), of a cvxpy expression too, to which ``forgone`` is added where it does not."""
    cost = (horizon.dt * horizon.price) @ substation_kw
    if export_price is None:
        return cost
    return cost + forgone(horizon, np.maximum(-substation_kw, 0.0), export_price)


def forgone(horizon: Horizon, exported_kw: Any, export_price: float) -> Any:
    """$ that exported energy earns less than the price of its period, of (T,) numbers or a cvxpy expression that are
    not negative."""
    return (horizon.dt * (horizon.price - export_price)) @ exported_kw


def losses(horizon: Horizon, losses_kw: Any) -> Any:
    """kWh, of (T,) numbers or a cvxpy expression."""
    return horizon.dt * losses_kw.sum()


def used(horizon: Horizon, charge_kw: Any, discharge_kw: Any) -> Any:
    """(battery, T) kWh, numbers or a cvxpy expression."""
    return horizon.dt * (charge_kw + discharge_kw)


def wasted(eta_charge: Floats, eta_discharge: Floats, charge: Any, discharge: Any) -> Any:
    """What batteries (battery, T) of efficiencies (battery, 1) lose of their power, summed over both; numbers or a
    cvxpy expression."""
    return ((1 - eta_charge).T @ charge + (1 / eta_discharge - 1).T @ discharge).sum()


def voltage_deviation(v_squared: Any) -> Any:
    """Of (bus or node, T) squared magnitudes, pu, numbers or a cvxpy expression."""
    return ((v_squared - 1) ** 2).sum()
