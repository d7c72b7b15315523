"""What each kind of device can do, on the exact equations and in the relaxation: its controls with their bounds, costs
and power, and what it stores.

Curtailment, the temperature of cells and flexible loads follow Massaoudi et al., "An efficient framework for multi-DER
integration in distribution networks with time-series demand flexibility" (2025).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.area_case import AreaCase
from common.devices import PV, Battery, Device, FlexibleLoad, Wind, column
from common.feeder import Bools, Complexes, Floats, Ints
from common.horizon import Horizon
from common.objective import factors
from common.settings import Settings

ROOM = 1e-6
"""least range of a control, pu: an interior point needs an inside, so one with less is fixed"""
AT_ONCE = 0.01
"""share of its rating up to which a battery's charging while it discharges is none"""
FIRST_SHARE = 0.1
"""of its range that a control which costs losses uses at first"""


@dataclass(frozen=True)
class Store:
    """What couples the periods: a level that ends as it began, e_t = e_(t-1) + sum of gain times control."""

    gains: Mapping[int, float]
    """by control"""
    start: float
    low: float
    high: float
    """-inf and inf where only the balance over the horizon counts"""
    exclusive: bool
    """whether it cannot gain and lose at once"""


@dataclass(frozen=True)
class Controls:
    """Controls of some devices; all per unit, costs in $."""

    unit: Ints
    """(control,) device"""
    power: Complexes
    """(control,) into the feeder of a unit of it"""
    low: Floats
    """(control, T); where it is as much as ``high`` there is nothing to decide"""
    high: Floats
    first: Floats
    """(control, T) where to begin"""
    cost: Floats
    """(control, T) of a unit of it in a period"""
    given: Complexes
    """(device, T) power into the feeder when all controls are 0"""
    pairs: tuple[tuple[int, ...], ...]
    """controls to be found side by side"""
    circles: tuple[tuple[int, int, float], ...]
    """two controls and the largest root of the sum of their squares"""
    stores: tuple[Store, ...]

    @property
    def fixed(self) -> Bools:
        """(control, T)"""
        return np.equal(self.low, self.high)


def random_controls(controls: Controls, seed: Sequence[int]) -> Floats:
    """(control, T) anywhere within their bounds, but for the tenth at either end."""
    share = np.random.default_rng(seed).uniform(FIRST_SHARE, 1 - FIRST_SHARE, controls.low.shape)
    return controls.low + share * (controls.high - controls.low)


def one_way(controls: Controls, direction: Floats) -> Controls:
    """The controls with what would move a store against its ``direction`` (store, T) fixed at 0: 1 only gains, -1 only
    losses, 0 either."""
    high, first = controls.high.copy(), controls.first.copy()
    for store, way in zip(controls.stores, direction, strict=True):
        for control, gain in store.gains.items():
            high[control, way * gain < 0] = first[control, way * gain < 0] = 0.0
    return replace(controls, high=high, first=first)


class _Builder:
    """Controls, collected device by device."""

    def __init__(self, horizon: Horizon, settings: Settings) -> None:
        self.horizon, self.base, self.counts = horizon, settings.base_kva, factors(settings)
        self._rows: list[tuple[int, complex, Floats, Floats, Floats, Floats]] = []
        self.given: list[Complexes] = []
        self.pairs: list[tuple[int, ...]] = []
        self.circles: list[tuple[int, int, float]] = []
        self.stores: list[Store] = []

    def control(self, power: complex, low: Any, high: Any, first: Any, cost: Any = 0.0) -> int:
        """The number of a control of the device whose ``given`` is the last. A range of less than ``ROOM`` is no
        choice: there the control is fixed where it would begin."""
        low, high, first, cost = (
            np.broadcast_to(np.asarray(v, float), len(self.horizon)) for v in (low, high, first, cost)
        )
        tight, value = high - low < ROOM, np.clip(first, low, high)
        low, high = np.where(tight, value, low), np.where(tight, value, high)
        first = np.clip(first, low + FIRST_SHARE * (high - low), high - FIRST_SHARE * (high - low))
        self._rows.append((len(self.given) - 1, power, low, high, first, cost))
        return len(self._rows) - 1

    def controls(self) -> Controls:
        unit, power, *by_period = zip(*self._rows, strict=True) if self._rows else ([],) * 6
        low, high, first, cost = (np.array(rows, float).reshape(-1, len(self.horizon)) for rows in by_period)
        return Controls(
            unit=np.array(unit, np.int64),
            power=np.array(power, complex),
            low=low,
            high=high,
            first=first,
            cost=cost,
            given=np.array(self.given, complex).reshape(-1, len(self.horizon)),
            pairs=tuple(self.pairs),
            circles=tuple(self.circles),
            stores=tuple(self.stores),
        )


def inverter_controls(made: _Builder, units: Sequence[PV | Wind]) -> None:
    """Power from the weather through an inverter: p follows its profile, or where it may be curtailed, is a decision
    between 0 and the profile; p^2 + q^2 <= s_rated^2 in every period."""
    for unit in units:
        available = unit.p_rated_kw * made.horizon.profile(unit) / made.base
        s = unit.s_rated_kva / made.base
        made.given.append((0 if unit.curtailable else 1) * available.astype(complex))
        if unit.curtailable:
            most = np.minimum(available, s)
            pair = made.control(1.0, 0.0, most, (1 - FIRST_SHARE) * most), made.control(1j, -s, s, 0.0)
            made.pairs.append(pair)
            made.circles.append((*pair, s))
        else:
            room = np.sqrt(np.maximum(s**2 - available**2, 0.0))
            made.pairs.append((made.control(1j, -room, room, 0.0),))


def told_by_inverters(
    units: Sequence[PV | Wind], value: Floats, horizon: Horizon, base_kva: float
) -> dict[str, Floats]:
    """(unit, T) setpoints per unit, by name, of controls (control, T)."""
    p, q, row = [], [], 0
    for unit in units:
        available = unit.p_rated_kw * horizon.profile(unit) / base_kva
        if unit.curtailable:
            p.append(np.minimum(value[row], available))
            row += 1
        else:
            p.append(available)
        q.append(value[row])
        row += 1
    return {"p_kw": np.array(p), "q_kvar": np.array(q)}


def battery_controls(made: _Builder, units: Sequence[Battery]) -> None:
    """Charge and discharge power, reactive power, and the stored energy they leave.

    Stored energy after a period: e' = e + dt (eta_c charge - discharge / eta_d), within its limits, back at its start
    value at the end. The cost (1 - eta_c) charge + (1 / eta_d - 1) discharge, by weight, discourages doing both at once
    (Nazir et al., "Receding horizon control of battery storage", SCD term of the case study). A price on |p|, as in
    c_b |P_b| of the objective (1) of Massaoudi et al. (2025), is one on charge + discharge: each battery's own, and the
    weight of ``battery_use``.
    """
    horizon, base, counts = made.horizon, made.base, made.counts
    for unit in units:
        made.given.append(np.zeros(len(horizon), complex))
        p_max, q_max = unit.p_rated_kw / base, unit.q_max_kvar / base
        use = (counts.device_prices * unit.cost_per_kwh + counts.battery_use) * horizon.dt * base
        into = counts.simultaneous * (1 - unit.eta_charge) + use
        out = counts.simultaneous * (1 / unit.eta_discharge - 1) + use
        capacity = unit.energy_kwh / base
        low, high = unit.soc_min * capacity, unit.soc_max * capacity
        if high - low < ROOM:
            # Its level cannot move, so neither may its power; and a level that cannot move needs no limits.
            p_max, low, high = 0.0, -np.inf, np.inf
        charge = made.control(-1.0, 0.0, p_max, 0.0, into)
        discharge = made.control(1.0, 0.0, p_max, 0.0, out)
        q = made.control(1j, -q_max, q_max, 0.0)
        made.pairs += [(charge, discharge), (q,)]
        gains = {charge: horizon.dt * unit.eta_charge, discharge: -horizon.dt / unit.eta_discharge}
        made.stores.append(Store(gains, unit.soc_initial * capacity, low, high, exclusive=True))


def told_by_batteries(units: Sequence[Battery], value: Floats, horizon: Horizon, base_kva: float) -> dict[str, Floats]:
    """(unit, T) setpoints per unit; stored energy follows from them (``common.schedule``).

    An interior point never brings charging or discharging to zero, and where energy is free it does a little of both.
    That little becomes one of the two that stores as much.
    """
    charge, discharge = value[0::3], value[1::3]
    eta_c, eta_d = (column(units, name) for name in ("eta_charge", "eta_discharge"))
    rated = column(units, "p_rated_kw") / base_kva
    gained = eta_c * charge - discharge / eta_d
    little = np.minimum(charge, discharge) < AT_ONCE * rated
    return {
        "charge_kw": np.where(little, np.maximum(gained, 0.0) / eta_c, charge),
        "discharge_kw": np.where(little, np.maximum(-gained, 0.0) * eta_d, discharge),
        "q_kvar": value[2::3],
    }


def flexible_controls(made: _Builder, units: Sequence[FlexibleLoad]) -> None:
    """Demand within a band about its profile, its energy over the horizon kept, its power factor constant.

    (1 - down) P_l <= P_f <= (1 + up) P_l and sum_t P_f = sum_t P_l (Massaoudi et al. (2025), as above). The price of
    |P_f - P_l|, each load's own and the weight of ``flexibility``, is linear in two parts: P_f = P_l + above - below,
    both >= 0, of which at most one is worth its price.
    """
    horizon, base, counts = made.horizon, made.base, made.counts
    for unit in units:
        nominal = unit.p_kw * horizon.profile(unit) / base
        power = complex(1.0, unit.q_kvar / unit.p_kw)
        made.given.append((-power * nominal).astype(complex))
        price = (counts.device_prices * unit.cost_per_kwh + counts.flexibility) * horizon.dt * base
        high, low = unit.up * nominal, unit.down * nominal
        above = made.control(-power, 0.0, high, 0.0, price)
        below = made.control(power, 0.0, low, 0.0, price)
        made.pairs.append((above, below))
        made.stores.append(Store({above: horizon.dt, below: -horizon.dt}, 0.0, -np.inf, np.inf, exclusive=False))


def told_by_flexible(
    units: Sequence[FlexibleLoad], value: Floats, horizon: Horizon, base_kva: float
) -> dict[str, Floats]:
    """(unit, T) power drawn, per unit."""
    nominal = np.array([unit.p_kw * horizon.profile(unit) / base_kva for unit in units])
    return {"p_kw": nominal + value[0::2] - value[1::2]}


KINDS: dict[str, tuple[Callable[..., None], Callable[..., dict[str, Floats]]]] = {
    "pv": (inverter_controls, told_by_inverters),
    "batteries": (battery_controls, told_by_batteries),
    "flexible_loads": (flexible_controls, told_by_flexible),
    "wind": (inverter_controls, told_by_inverters),
}
"""for each kind of device, in the order of ``common.devices.DEVICE_KINDS``: its controls and what a schedule tells"""


def area_controls(area: AreaCase[Any]) -> Controls:
    """Controls of all devices of an area, in the order of ``AreaCase.devices``."""
    made = _Builder(area.horizon, area.settings)
    for kind, (make, _) in KINDS.items():
        make(made, getattr(area, kind))
    return made.controls()


def setpoints(area: AreaCase[Any], value: Floats, span: slice) -> dict[str, Floats]:
    """Per unit, (unit, T) each, by ``kind.name``, at controls (control, T) of a span of the periods."""
    found: dict[str, Floats] = {}
    unit, first = area_controls(area).unit, 0
    for kind, (_, told) in KINDS.items():
        units: Sequence[Device] = getattr(area, kind)
        if units:
            own = value[(unit >= first) & (unit < first + len(units))]
            named = told(units, own, area.horizon.part(span), area.settings.base_kva)
            found |= {f"{kind}.{name}": values for name, values in named.items()}
        first += len(units)
    return found
