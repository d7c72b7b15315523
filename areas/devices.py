"""What each kind of device can do: its controls with their bounds, costs and power, and what it stores.

Curtailment, the temperature of cells and flexible loads follow Massaoudi et al., "An efficient framework for multi-DER
integration in distribution networks with time-series demand flexibility" (2025).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from common.devices import PV, Battery, Device, FlexibleLoad, Wind
from common.feeder import Bools, Complexes, Floats, Ints
from common.horizon import Horizon
from common.objective import Factors, factors
from common.partition import AreaCase
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
    p: Floats
    """(control,) real power into the feeder of a unit of it"""
    q: Floats
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

    def powers(self, value: Floats) -> Complexes:
        """(device, T) power into the feeder at controls (control, T)."""
        found = self.given.copy()
        np.add.at(found, self.unit, (self.p + 1j * self.q)[:, None] * value)
        return found


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
    """Controls of one kind, collected device by device."""

    def __init__(self, horizon: Horizon) -> None:
        self._periods = len(horizon)
        self._rows: list[tuple[int, float, float, Floats, Floats, Floats, Floats]] = []
        self.given: list[Complexes] = []
        self.pairs: list[tuple[int, ...]] = []
        self.circles: list[tuple[int, int, float]] = []
        self.stores: list[Store] = []

    def control(self, unit: int, power: complex, low: Any, high: Any, first: Any, cost: Any = 0.0) -> int:
        """Its number. A range of less than ``ROOM`` is no choice: there the control is fixed where it would begin."""
        low, high, first, cost = (
            np.broadcast_to(np.asarray(v, float), self._periods) for v in (low, high, first, cost)
        )
        tight, value = high - low < ROOM, np.clip(first, low, high)
        low, high = np.where(tight, value, low), np.where(tight, value, high)
        first = np.clip(first, low + FIRST_SHARE * (high - low), high - FIRST_SHARE * (high - low))
        self._rows.append((unit, power.real, power.imag, low, high, first, cost))
        return len(self._rows) - 1

    def controls(self) -> Controls:
        shape = (len(self._rows), self._periods)
        unit, p, q, low, high, first, cost = zip(*self._rows, strict=True) if self._rows else ([],) * 7
        return Controls(
            unit=np.array(unit, np.int64),
            p=np.array(p, float),
            q=np.array(q, float),
            low=np.array(low).reshape(shape),
            high=np.array(high).reshape(shape),
            first=np.array(first).reshape(shape),
            cost=np.array(cost).reshape(shape),
            given=np.array(self.given, complex).reshape(len(self.given), self._periods),
            pairs=tuple(self.pairs),
            circles=tuple(self.circles),
            stores=tuple(self.stores),
        )


def inverter_controls(units: Sequence[PV | Wind], horizon: Horizon, settings: Settings, counts: Factors) -> Controls:
    """Power from the weather through an inverter: p follows its profile, or where it may be curtailed, is a decision
    between 0 and the profile; p^2 + q^2 <= s_rated^2 in every period."""
    made = _Builder(horizon)
    for k, unit in enumerate(units):
        available = unit.p_rated_kw * horizon.profile(unit) / settings.base_kva
        s = unit.s_rated_kva / settings.base_kva
        if unit.curtailable:
            made.given.append(np.zeros(len(horizon), complex))
            most = np.minimum(available, s)
            p = made.control(k, 1.0, 0.0, most, (1 - FIRST_SHARE) * most)
            q = made.control(k, 1j, -s, s, 0.0)
            made.pairs.append((p, q))
            made.circles.append((p, q, s))
        else:
            made.given.append(available.astype(complex))
            room = np.sqrt(np.maximum(s**2 - available**2, 0.0))
            made.pairs.append((made.control(k, 1j, -room, room, 0.0),))
    return made.controls()


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


def battery_controls(units: Sequence[Battery], horizon: Horizon, settings: Settings, counts: Factors) -> Controls:
    """Charge and discharge power, reactive power, and the stored energy they leave.

    Stored energy after a period: e' = e + dt (eta_c charge - discharge / eta_d), within its limits, back at its start
    value at the end. The cost (1 - eta_c) charge + (1 / eta_d - 1) discharge, by weight, discourages doing both at once
    (Nazir et al., "Receding horizon control of battery storage", SCD term of the case study). A price on |p|, as in
    c_b |P_b| of the objective (1) of Massaoudi et al. (2025), is one on charge + discharge: each battery's own, and the
    weight of ``battery_use``.
    """
    made, base = _Builder(horizon), settings.base_kva
    for k, unit in enumerate(units):
        p_max, q_max = unit.p_rated_kw / base, unit.q_max_kvar / base
        use = (counts.device_prices * unit.cost_per_kwh + counts.battery_use) * horizon.dt * base
        into = counts.simultaneous * (1 - unit.eta_charge) + use
        out = counts.simultaneous * (1 / unit.eta_discharge - 1) + use
        capacity = unit.energy_kwh / base
        low, high = unit.soc_min * capacity, unit.soc_max * capacity
        if high - low < ROOM:
            # Its level cannot move, so neither may its power; and a level that cannot move needs no limits.
            p_max, low, high = 0.0, -np.inf, np.inf
        charge = made.control(k, -1.0, 0.0, p_max, 0.0, into)
        discharge = made.control(k, 1.0, 0.0, p_max, 0.0, out)
        q = made.control(k, 1j, -q_max, q_max, 0.0)
        made.pairs += [(charge, discharge), (q,)]
        made.given.append(np.zeros(len(horizon), complex))
        gains = {charge: horizon.dt * unit.eta_charge, discharge: -horizon.dt / unit.eta_discharge}
        made.stores.append(Store(gains, unit.soc_initial * capacity, low, high, exclusive=True))
    return made.controls()


def told_by_batteries(units: Sequence[Battery], value: Floats, horizon: Horizon, base_kva: float) -> dict[str, Floats]:
    """(unit, T) setpoints per unit; stored energy follows from them (``common.schedule``).

    An interior point never brings charging or discharging to zero, and where energy is free it does a little of both.
    That little becomes one of the two that stores as much.
    """
    charge, discharge = value[0::3], value[1::3]
    eta_c, eta_d = (np.array([[getattr(unit, name)] for unit in units]) for name in ("eta_charge", "eta_discharge"))
    rated = np.array([[unit.p_rated_kw] for unit in units]) / base_kva
    gained = eta_c * charge - discharge / eta_d
    little = np.minimum(charge, discharge) < AT_ONCE * rated
    return {
        "charge_kw": np.where(little, np.maximum(gained, 0.0) / eta_c, charge),
        "discharge_kw": np.where(little, np.maximum(-gained, 0.0) * eta_d, discharge),
        "q_kvar": value[2::3],
    }


def flexible_controls(units: Sequence[FlexibleLoad], horizon: Horizon, settings: Settings, counts: Factors) -> Controls:
    """Demand within a band about its profile, its energy over the horizon kept, its power factor constant.

    (1 - down) P_l <= P_f <= (1 + up) P_l and sum_t P_f = sum_t P_l (Massaoudi et al. (2025), as above). The price of
    |P_f - P_l|, each load's own and the weight of ``flexibility``, is linear in two parts: P_f = P_l + above - below,
    both >= 0, of which at most one is worth its price.
    """
    made, base = _Builder(horizon), settings.base_kva
    for k, unit in enumerate(units):
        nominal = unit.p_kw * horizon.profile(unit) / base
        power = complex(1.0, unit.q_kvar / unit.p_kw)
        made.given.append((-power * nominal).astype(complex))
        price = (counts.device_prices * unit.cost_per_kwh + counts.flexibility) * horizon.dt * base
        high, low = unit.up * nominal, unit.down * nominal
        above = made.control(k, -power, 0.0, high, 0.0, price)
        below = made.control(k, power, 0.0, low, 0.0, price)
        made.pairs.append((above, below))
        made.stores.append(Store({above: horizon.dt, below: -horizon.dt}, 0.0, -np.inf, np.inf, exclusive=False))
    return made.controls()


def told_by_flexible(
    units: Sequence[FlexibleLoad], value: Floats, horizon: Horizon, base_kva: float
) -> dict[str, Floats]:
    """(unit, T) power drawn, per unit."""
    nominal = np.array([unit.p_kw * horizon.profile(unit) / base_kva for unit in units])
    return {"p_kw": nominal + value[0::2] - value[1::2]}


KINDS: dict[str, tuple[Callable[..., Controls], Callable[..., dict[str, Floats]]]] = {
    "pv": (inverter_controls, told_by_inverters),
    "batteries": (battery_controls, told_by_batteries),
    "flexible_loads": (flexible_controls, told_by_flexible),
    "wind": (inverter_controls, told_by_inverters),
}
"""for each kind of device, in the order of ``common.devices.DEVICE_KINDS``: its controls and what a schedule tells"""


def area_controls(area: AreaCase[Any]) -> Controls:
    """Controls of all devices of an area, in the order of ``AreaCase.devices``."""
    counts = factors(area.settings)
    kinds = [make(getattr(area, kind), area.horizon, area.settings, counts) for kind, (make, _) in KINDS.items()]
    return _joined(kinds)


def setpoints(area: AreaCase[Any], value: Floats, span: slice) -> dict[str, Floats]:
    """Per unit, (unit, T) each, by ``kind.name``, at controls (control, T) of a span of the periods."""
    found: dict[str, Floats] = {}
    row, horizon = 0, area.horizon.part(span)
    for kind, (make, told) in KINDS.items():
        units: Sequence[Device] = getattr(area, kind)
        if not units:
            continue
        count = len(make(units, horizon, area.settings, factors(area.settings)).unit)
        named = told(units, value[row : row + count], horizon, area.settings.base_kva)
        found |= {f"{kind}.{name}": values for name, values in named.items()}
        row += count
    return found


def _joined(kinds: Sequence[Controls]) -> Controls:
    controls = np.cumsum([0, *(len(kind.unit) for kind in kinds)]).tolist()
    devices = np.cumsum([0, *(len(kind.given) for kind in kinds)]).tolist()
    located = list(zip(kinds, controls, devices, strict=False))
    return Controls(
        unit=np.concatenate([kind.unit + device for kind, _, device in located]),
        p=np.concatenate([kind.p for kind in kinds]),
        q=np.concatenate([kind.q for kind in kinds]),
        low=np.concatenate([kind.low for kind in kinds]),
        high=np.concatenate([kind.high for kind in kinds]),
        first=np.concatenate([kind.first for kind in kinds]),
        cost=np.concatenate([kind.cost for kind in kinds]),
        given=np.concatenate([kind.given for kind in kinds]),
        pairs=tuple(tuple(first + k for k in pair) for kind, first, _ in located for pair in kind.pairs),
        circles=tuple((first + a, first + b, s) for kind, first, _ in located for a, b, s in kind.circles),
        stores=tuple(
            Store(
                {first + k: gain for k, gain in store.gains.items()},
                store.start,
                store.low,
                store.high,
                store.exclusive,
            )
            for kind, first, _ in located
            for store in kind.stores
        ),
    )
