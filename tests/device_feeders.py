"""A feeder whose power flow can be solved by hand, balanced or as a multi-phase circuit of one phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tieflow.common.arrays import Floats
from tieflow.common.case import AreaRow, Case, check_devices
from tieflow.common.feeder.balanced import BranchRow, BusRow
from tieflow.common.feeder.multiphase import connection, multipliers
from tieflow.common.feeder.power_flow import Injections, PowerFlow
from tieflow.common.inputs.horizon import Horizon
from tieflow.common.inputs.settings import Settings
from tieflow.common.results.result import Result
from tieflow.common.results.schedule import Schedule, injected
from tieflow.launch.runs.solve import Options, solve

KV, OHM, V_SOURCE = 4.16, (0.2, 0.3), 1.02
"""line to line; of the branches s-a and a-b; pu"""
LOAD_KW = 500.0
"""at the substation's bus, so that power from b finds a use"""
MODELS = ("balanced", "multiphase")
BOTH = [(model, method) for model in MODELS for method in ("centralized", "newton", "admm")]

CIRCUIT = f"""clear
new circuit.twin bus1=s phases=1 basekv={KV / 3**0.5} pu={V_SOURCE} r1=0 x1=1e-7 r0=0 x0=1e-7
new line.sa bus1=s.1 bus2=a.1 phases=1 rmatrix=({OHM[0]}) xmatrix=(0) cmatrix=(0) length=1
new line.ab bus1=a.1 bus2=b.1 phases=1 rmatrix=({OHM[1]}) xmatrix=(0) cmatrix=(0) length=1
new load.s bus1=s.1 phases=1 kv={KV / 3**0.5} kw={LOAD_KW} kvar=0 model=1 vminpu=0.5 vmaxpu=1.5
set voltagebases=[{KV}]
calcvoltagebases
"""


def feeder(
    model: str,
    sun: Sequence[float] | None = None,
    price: Sequence[float] = (0.1, 0.3, 0.2),
    load: Sequence[float] | None = None,
    blowing: Sequence[float] = (),
    given: dict[str, Any] | None = None,
    **devices: Any,
) -> Case:
    """Substation s, then a, then b, each an area but s and a; ``given`` are settings, ``devices`` are by kind."""
    periods = len(price)
    asked = {"model": model, "periods": periods, "voltage_slack_price": 1e5, **(given or {})}
    balanced = {"voltage_kv": KV, "substation_bus": "s", "substation_v_pu": V_SOURCE}
    loads = np.ones(periods) if load is None else np.array(load, float)
    shining = np.zeros(periods) if sun is None else np.array(sun, float)
    case = Case(
        name="by hand",
        settings=Settings.model_validate(asked | (balanced if model == "balanced" else {})),
        buses=(BusRow(bus="s", p_load_kw=LOAD_KW), BusRow(bus="a"), BusRow(bus="b")) if model == "balanced" else (),
        branches=tuple(
            BranchRow(from_bus=parent, to_bus=child, r_ohm=ohm, x_ohm=0)
            for parent, child, ohm in zip("sa", "ab", OHM, strict=True)
        )
        if model == "balanced"
        else (),
        horizon=Horizon(
            tuple(range(periods)), loads, shining, np.array(price, float), 1.0, wind=np.array(blowing, float)
        ),
        areas=(AreaRow(bus="s", area="1"), AreaRow(bus="a", area="1"), AreaRow(bus="b", area="2")),
        circuit="" if model == "balanced" else CIRCUIT,
        **{"pv": (), "batteries": (), **devices},
    )
    check_devices(case)
    return case


def power_at(v_pu: float) -> float:
    """kW that bus b feeds in when its voltage is given and nothing else is connected behind s: V (V - V_source) / r."""
    return v_pu * (v_pu - V_SOURCE) * KV**2 / 3 * 1000 / sum(OHM)


def confirmed(case: Case, method: str = "centralized", tolerance_pu: float = 1e-6) -> Result:
    """The solved case; OpenDSS must find the same voltages and powers to a millionth."""
    result = solve(case, Options(method=method, tolerance_pu=tolerance_pu))
    check = result.check
    assert result.converged and check is not None and check.passed, (result.notes, check)
    assert check.violations == ()
    assert check.max_voltage_error_pu < 1e-6
    assert max(check.max_substation_error_kw, check.max_substation_error_kvar) < 1e-3
    return result


def power_flow(case: Case, schedule: Schedule) -> Floats:
    """(node, T) voltages by tieflow's own power flow with all devices of a multi-phase case as scheduled."""
    feeder, base_kva = case.multiphase_feeder, case.settings.base_kva
    legs = [
        (a, b, s / base_kva / len(ends[0]))
        for unit, s in zip(case.devices, injected(case, schedule), strict=True)
        for ends in [connection(feeder, unit.bus, unit.phases)]
        for a, b in zip(*ends, strict=True)
    ]
    flow = PowerFlow(feeder, multipliers(feeder.legs, case.horizon.load, case.horizon.shapes))
    v_root = np.repeat(feeder.v_no_load[: feeder.roots, None], len(case.horizon), axis=1)
    v, _ = flow.solve(v_root, Injections(*(np.array(column) for column in zip(*legs, strict=True))))
    return np.asarray(np.abs(v[feeder.roots :]))
