"""Whether the parts of a result that was read fit each other, so that nothing that is made of it fails half-way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tieflow.common.case import Case
from tieflow.common.inputs.devices import DEVICE_KINDS, Wind
from tieflow.common.results.result import Result
from tieflow.common.results.schedule import NetworkState

Shapes = Iterator[tuple[str, NDArray[np.float64] | None, tuple[int, ...]]]
"""name of an array, the array, and the shape that it must have"""


def check_fits(result: Result, nodes: int | None = None) -> None:
    """Raises ValueError, naming the part, for a result whose arrays are not as long as its tables say, or that lacks
    what its devices need; CaseError for a balanced feeder that is none. ``nodes``: of a multi-phase feeder, where that
    is known without building it."""
    case, history = result.case, result.history
    _check_case(case)
    for name, array, shape in _shapes(result, nodes):
        if array is not None and array.shape != shape:
            raise ValueError(f"{name} has the shape {array.shape}, not {shape}")
    rounds = len(history.cost)
    if len(history.method) not in (0, rounds) or history.area_s.shape != history.solve_s.shape:
        raise ValueError("columns of /history differ in length")


def _check_case(case: Case) -> None:
    horizon = case.horizon
    if not len(horizon) or not horizon.dt > 0:
        raise ValueError(f"the horizon has {len(horizon)} periods of {horizon.dt} h")
    buses = set(case.balanced_feeder.buses) if case.is_balanced else None
    for unit in case.devices:
        profile = getattr(unit, "profile", "")
        if buses is not None and unit.bus not in buses:
            raise ValueError(f"a device is at bus '{unit.bus}', which is not in the feeder")
        if profile and profile not in horizon.shapes:
            raise ValueError(f"a device follows '{profile}', which is not in /case/horizon/shapes")
        if isinstance(unit, Wind) and not profile and not len(horizon.wind):
            raise ValueError("wind turbines, but no wind in /case/horizon")


def _shapes(result: Result, nodes: int | None) -> Shapes:
    case, history = result.case, result.history
    periods, rounds = len(case.horizon), len(history.cost)
    for name in ("load", "pv", "price", "wind"):
        array = getattr(case.horizon, name)
        yield f"case/horizon/{name}", array if len(array) or name != "wind" else None, (periods,)
    for name, array in case.horizon.shapes.items():
        yield f"case/horizon/shapes/{name}", array, (periods,)
    for kind, names in DEVICE_KINDS.items():
        told = getattr(result.schedule, kind)
        for name in names:
            if name not in told:
                raise ValueError(f"schedule/{kind} has no {name}")
            yield f"schedule/{kind}/{name}", told[name], (len(getattr(case, kind)), periods)
    nodes = len(result.state.v_pu) if nodes is None else nodes
    yield from _state_shapes("state", case, result.state, nodes)
    if result.check is not None:
        yield from _state_shapes("check/state", case, result.check.state, nodes)
        yield "check/battery_energy_kwh", result.check.battery_energy_kwh, (len(case.batteries), periods)
    for name in ("cost", "mismatch_pu", "change_pu", "elapsed_s", "coordinator_s", "communication_s"):
        array = getattr(history, name)
        # A run by a rule has no rounds.
        yield f"history/{name}", array, (rounds,)
    for name in ("model_error_pu", "optimality"):
        array = getattr(history, name)
        yield f"history/{name}", array if array.size else None, (rounds,)
    for name in ("solve_s", "area_s"):
        array = getattr(history, name)
        yield f"history/{name}", array, (rounds, array.shape[-1] if array.ndim else 0)
    yield "history/cpu_s", history.cpu_s if history.cpu_s.size else None, (rounds, 2)


def _state_shapes(where: str, case: Case, state: NetworkState, nodes: int) -> Shapes:
    periods = len(case.horizon)
    buses, branches = (
        (len(case.balanced_feeder.buses), len(case.balanced_feeder.parent)) if case.is_balanced else (nodes, nodes)
    )
    for name, rows in (("v_pu", buses), ("p_kw", branches), ("q_kvar", branches), ("i_a", branches)):
        yield f"{where}/{name}", getattr(state, name), (rows, periods)
    yield f"{where}/nodal_price", state.nodal_price, (buses, periods)
    for name in ("substation_p_kw", "substation_q_kvar", "losses_kw", "line_losses_kw", "transformer_losses_kw"):
        yield f"{where}/{name}", getattr(state, name), (periods,)
    if case.branch_limits:
        yield f"{where}/branch_kva", state.branch_kva, (len(case.branch_limits), periods)
