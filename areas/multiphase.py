"""The network part of a multi-phase area's problem: a linearization, as rows and costs over the devices' problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import clarabel
import cvxpy as cp
import numpy as np
import scipy.sparse as sp

from areas.barrier import CentralPoint
from areas.conic import ConicProblem, compile_problem
from areas.limits import COST, ROW, Limits, Parts, area_limits, derivatives, slope
from areas.linearization import Linearization
from areas.network import Inputs
from areas.subproblem import device_models
from common.boundary import ANGLE, MULTIPHASE, P, Q, W
from common.feeder import Complexes, Floats, Ints
from common.multiphase import MultiphaseFeeder, connection
from common.objective import factors, prices, voltage_deviation
from common.partition import AreaCase

ROOT_RANGE = 1.0
"""largest logarithm of voltage over no-load voltage, real and imaginary: it keeps every answer finite"""
OVERLOAD_PRICE = 100.0
"""price of substation power beyond its cap, over the dearest hour's price of losses: any schedule within the cap is
cheaper, and where there is none the areas can still agree on one, to tell by how much"""
SMALL = 1e-9
"""entries below this share of the largest are left out: they only slow the solver down"""


@dataclass(frozen=True)
class MultiphaseModel:
    """The devices' problem, compiled once, and where the network enters it."""

    devices: ConicProblem
    """variables ``injection`` (p of all devices, then q; T), ``root`` (2 root nodes, T) and ``boundary`` (conductor and
    quantity, T), besides the setpoints"""
    inputs: Inputs
    input_columns: Ints
    """(T, input)"""
    boundary_columns: Ints
    """(conductor, quantity, T)"""
    limits: Limits


def build_multiphase(area: AreaCase[MultiphaseFeeder]) -> MultiphaseModel:
    """Write and compile all that does not depend on the operating point."""
    periods, feeder = len(area.horizon), area.feeder
    models = device_models(area)
    cost: Any = cp.Constant(0.0)
    constraints: list[cp.Constraint] = []
    variables: dict[str, cp.Variable] = {}
    for kind, device in models.items():
        cost = cost + device.cost
        constraints += device.constraints
        variables |= {f"{kind}.{name}": variable for name, variable in device.setpoints.items()}
    if models:
        variables["injection"] = cp.Variable((2 * len(area.devices), periods), name="injection")
        expressions = [device.p for device in models.values()] + [device.q for device in models.values()]
        constraints.append(variables["injection"] == cp.vstack(expressions))
    if area.has_substation and area.settings.substation_peak_kw is not None:
        variables["overload"] = cp.Variable((1, periods), name="overload")
        constraints.append(variables["overload"] >= 0)
        cost = cost + _overload_price(area) * cp.sum(variables["overload"])
    if not area.has_substation:
        variables["root"] = cp.Variable((2 * feeder.roots, periods), name="root")
        constraints.append(cp.abs(variables["root"]) <= ROOT_RANGE)
    count = sum(len(end.nodes) for end in area.tie_ends)
    if count:
        boundary = variables["boundary"] = cp.Variable((count * len(MULTIPHASE), periods), name="boundary")
        far = 2 * ROOT_RANGE
        for quantity, limit in ((W, far), (ANGLE, far), (P, area.flow_limit), (Q, area.flow_limit)):
            constraints.append(cp.abs(boundary[quantity :: len(MULTIPHASE)]) <= limit)
    if not variables:
        # A feeder without a decision is still solved, checked and stored.
        variables["idle"] = cp.Variable((1, periods), name="idle")
        constraints.append(variables["idle"] == 0)
    conic = compile_problem(cp.Problem(cp.Minimize(cost), constraints), variables)
    inputs = Inputs(
        device_legs=tuple(connection(feeder, unit.bus, unit.phases) for unit in area.devices),
        tie_nodes=np.concatenate([np.zeros(0, np.int64), *(e.nodes for e in area.tie_ends if e.side == "parent")]),
        root_varies=not area.has_substation,
        tie_s_no_load=np.concatenate(
            [np.zeros(0, complex), *(e.s_no_load for e in area.tie_ends if e.side == "parent")]
        ),
    )
    return _located(area, conic, inputs)


def _located(area: AreaCase[MultiphaseFeeder], conic: ConicProblem, inputs: Inputs) -> MultiphaseModel:
    periods = len(area.horizon)
    nothing = np.zeros((0, periods), np.int64)
    boundary = conic.columns.get("boundary", nothing).reshape(-1, len(MULTIPHASE), periods)
    own_root = area.feeder.roots if inputs.root_varies else 0
    columns = [
        conic.columns.get("root", nothing),
        conic.columns.get("injection", nothing),
        boundary[own_root:, P],
        boundary[own_root:, Q],
    ]
    return MultiphaseModel(conic, inputs, np.concatenate(columns).T, boundary, area_limits(area))


def with_network(
    area: AreaCase[MultiphaseFeeder],
    model: MultiphaseModel,
    at: Linearization,
    here: Floats,
    parts: Parts,
) -> tuple[ConicProblem, float]:
    """The area's whole problem at a linearization, and the constant that its cost leaves out.

    ``here`` (T, input) are the inputs at the point. A limit of the network may be overstepped at its price: those that
    ``parts`` makes rows have a slack column each, after the devices' own.
    """
    conic = model.devices
    size = len(conic.c)
    equal, equal_right = _boundary_rows(area, model, at, here)
    below, below_right = _peak_rows(area, model, at, here)
    soft, soft_right, overstep_price = _soft_rows(model, at, here, parts)
    slacks = len(overstep_price)
    p, c, constant = _network_cost(area, model, at, here, parts)
    wide = sp.csc_array((slacks, slacks))
    a = sp.vstack(
        [
            _widen(equal, slacks),
            _widen(conic.a, slacks),
            _widen(below, slacks),
            soft,
            sp.hstack([sp.csc_array((slacks, size)), -sp.eye_array(slacks)]),
        ],
        format="csc",
    )
    b = np.concatenate([equal_right, conic.b, below_right, soft_right, np.zeros(slacks)])
    counts = (conic.counts[0] + len(equal_right), len(b) - conic.counts[0] - len(equal_right))
    problem = replace(
        conic,
        p=sp.csc_matrix(sp.block_diag([sp.triu(conic.p + p), wide])),
        c=np.concatenate([conic.c + c, overstep_price]),
        a=sp.csc_matrix(a),
        b=b,
        cones=[clarabel.ZeroConeT(counts[0]), clarabel.NonnegativeConeT(counts[1])],
        counts=counts,
        soft=slacks,
    )
    return problem, constant


def _overload_price(area: AreaCase[MultiphaseFeeder]) -> float:
    """$ of a unit of power beyond the cap: more than it can save, of flatter voltages too."""
    flatter = factors(area.settings).voltage_deviation * len(area.feeder.node_bus)
    return OVERLOAD_PRICE * float(prices(area.settings, area.horizon).curvature.max()) + flatter


def _network_cost(
    area: AreaCase[MultiphaseFeeder],
    model: MultiphaseModel,
    at: Linearization,
    here: Floats,
    parts: Parts,
) -> tuple[sp.csc_array, Floats, float]:
    """Quadratic, linear and constant cost of the network over the devices' columns.

    The curvature has no gradient at the point, but it lets the solver see how far a linear answer is good.
    """
    costs, counts = prices(area.settings, area.horizon), factors(area.settings)
    size = len(model.devices.c)
    quadratic = 2 * at.curvature
    lost = costs.losses + costs.energy if at.is_lossless else costs.losses
    linear, constant = lost[:, None] * at.losses_slope, float(lost @ at.losses_here)
    if area.has_substation:
        linear = linear + costs.energy[:, None] * at.root_s.real.sum(axis=1)
        constant += float(costs.energy @ at.root_s_here.real.sum(axis=0))
    if counts.voltage_deviation:
        limited, weight = area.feeder.limited, counts.voltage_deviation
        log_v, moved = np.log(np.abs(at.point.v[limited])).T, 2 * at.voltage[:, limited].real
        # In a model that is not corrected |V|^2 - 1 is 2 ln |V|, linear for areas and whole alike.
        deviation = 2 * log_v if at.is_lossless else np.exp(2 * log_v) - 1
        moved = moved if at.is_lossless else np.exp(2 * log_v)[..., None] * moved
        # |V|^2 bends in ln |V| too; how ln |V| bends in the inputs is in the curvature.
        bent = moved if at.is_lossless else np.maximum(2 - np.exp(-2 * log_v), 0.0)[..., None] * moved
        quadratic = quadratic + 2 * weight * np.einsum("tni,tnj->tij", bent, moved)
        linear = linear + 2 * weight * np.einsum("tni,tn->ti", moved, deviation)
        constant += weight * float(voltage_deviation(1 + deviation))
    counted = parts == COST
    if counted.any():
        price = model.limits.price[:, None] * counted
        linear = linear + slope(at, price)
        # Where nothing is limited a voltage may be zero.
        constant += float((price[counted] * beyond_here(model, at)[counted]).sum())
    # What is left out must be missing at the point too, or the slope there would not be the losses'.
    quadratic = np.where(np.abs(quadratic) > SMALL * np.abs(quadratic).max(initial=0.0), quadratic, 0.0)
    columns = model.input_columns
    constant -= float((linear * here).sum()) - 0.5 * float(np.einsum("ti,tij,tj->", here, quadratic, here))
    c = np.zeros(size)
    c[columns] = linear - np.einsum("tij,tj->ti", quadratic, here)
    rows = np.broadcast_to(columns[:, :, None], quadratic.shape)
    kept = quadratic != 0
    p = sp.csc_array((quadratic[kept], (rows[kept], rows.transpose(0, 2, 1)[kept])), shape=(size, size))
    return p, c, constant


class _Rows:
    """Rows of a constraint matrix, collected block by block; the leading axes of a block run over its rows."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._count = 0
        self._entries: list[tuple[Floats, Ints, Ints]] = []
        self._right: list[Floats] = []

    def add(self, terms: Sequence[tuple[Ints, Floats]], right: Floats) -> None:
        """Rows sum over terms of coefficient * x[column], last axis, for each element of ``right``."""
        row = self._count + np.arange(right.size).reshape(*right.shape, 1)
        for columns, coefficients in terms:
            kept = np.abs(coefficients) > SMALL * np.abs(coefficients).max(initial=0.0)
            shape = coefficients.shape
            at = np.broadcast_to(row, shape)[kept], np.broadcast_to(columns, shape)[kept]
            self._entries.append((coefficients[kept], *at))
        self._count += right.size
        self._right.append(right.ravel())

    def matrix(self) -> sp.csc_array:
        values, rows, columns = (
            np.concatenate([np.zeros(0, kind), *(entry[i] for entry in self._entries)])
            for i, kind in enumerate((float, np.int64, np.int64))
        )
        return sp.csc_array((values, (rows, columns)), shape=(self._count, self._columns))

    def right(self) -> Floats:
        return np.concatenate([np.zeros(0), *self._right])


def _boundary_rows(
    area: AreaCase[MultiphaseFeeder], model: MultiphaseModel, at: Linearization, here: Floats
) -> tuple[sp.csc_array, Floats]:
    """Equalities between the boundary quantities and the inputs: (row, column) and right-hand side.

    A child's p + jq are what it draws at its root; at every tie end, w + j a is ln(V / V_no_load) + Z conj(s).
    """
    rows = _Rows(len(model.devices.c))
    inputs = model.input_columns[:, None, :]
    first = 0
    for end in area.tie_ends:
        own = model.boundary_columns[first : first + len(end.nodes)].transpose(2, 0, 1)  # (T, conductor, quantity)
        first += len(end.nodes)
        one = np.ones((*own.shape[:2], 1))
        if end.side == "child":
            for quantity, power, total in (
                (P, at.root_s.real, at.root_s_here.real),
                (Q, at.root_s.imag, at.root_s_here.imag),
            ):
                rows.add([(own[:, :, [quantity]], one), (inputs, -power)], total.T - _value(power, here))
        p, q = own[:, None, :, P], own[:, None, :, Q]
        here_w = np.log(at.point.v[end.nodes] / area.feeder.v_no_load[end.nodes][:, None]).T
        moved_w = at.voltage[:, end.nodes]
        # Z conj(s) = (R p + X q) + j (X p - R q)
        for quantity, over_p, over_q, total, moved in (
            (W, end.z.real, end.z.imag, here_w.real, moved_w.real),
            (ANGLE, end.z.imag, -end.z.real, here_w.imag, moved_w.imag),
        ):
            per_period = (len(own), *end.z.shape)
            terms = [
                (own[:, :, [quantity]], one),
                (p, np.broadcast_to(-over_p, per_period)),
                (q, np.broadcast_to(-over_q, per_period)),
                (inputs, -moved),
            ]
            rows.add(terms, total - _value(moved, here))
    return rows.matrix(), rows.right()


def _peak_rows(
    area: AreaCase[MultiphaseFeeder], model: MultiphaseModel, at: Linearization, here: Floats
) -> tuple[sp.csc_array, Floats]:
    """Substation power of each period below the cap and its overload, if there is one."""
    rows = _Rows(len(model.devices.c))
    cap = area.settings.substation_peak_kw
    if area.has_substation and cap is not None:
        power = at.root_s.real.sum(axis=1)
        limit = cap / area.settings.base_kva - at.root_s_here.real.sum(axis=0)
        overload = model.devices.columns["overload"].T
        right = limit + (power * here).sum(axis=1)
        rows.add([(model.input_columns, power), (overload, -np.ones(overload.shape))], right)
    return rows.matrix(), rows.right()


def _soft_rows(
    model: MultiphaseModel, at: Linearization, here: Floats, parts: Parts
) -> tuple[sp.csc_array, Floats, Floats]:
    """What is beyond a limit <= slack, slack columns after the devices' own; with the price of each slack."""
    size = len(model.devices.c)
    limit, period = np.nonzero(parts == ROW)
    moved = derivatives(at, limit, period)
    beyond = beyond_here(model, at)[limit, period]
    slack = size + np.arange(len(limit))[:, None]
    rows = _Rows(size + len(limit))
    right = (moved * here[period]).sum(axis=1) - beyond
    rows.add([(model.input_columns[period], moved), (slack, -np.ones(slack.shape))], right)
    return rows.matrix(), rows.right(), model.limits.price[limit]


def carried(
    limits: Limits, point: CentralPoint, before: Parts, now: Parts, beyond: Floats, barrier: float
) -> CentralPoint:
    """A point of the central path with the rows of other limits: new ones centered, what they are ``beyond`` (limit, T)
    kept."""
    price = limits.price[:, None]
    # Slack and overstep, times their duals, are the barrier each, and the duals make up the price.
    overstep = (price * beyond + 2 * barrier + np.hypot(price * beyond, 2 * barrier)) / (2 * price)
    old, new = before == ROW, now == ROW
    rows = int(old.sum())

    def moved(values: Floats, fresh: Floats) -> Floats:
        found = fresh.copy()
        found[old] = values
        kept: Floats = found[new]
        return kept

    x, excess = np.split(point.x, [len(point.x) - rows])
    slack, *row_slack = np.split(point.slack, [len(point.slack) - 2 * rows, len(point.slack) - rows])
    dual, *row_dual = np.split(point.dual, [len(point.dual) - 2 * rows, len(point.dual) - rows])
    fresh = overstep - beyond, overstep
    return CentralPoint(
        x=np.concatenate([x, moved(excess, overstep)]),
        slack=np.concatenate([slack, *(moved(*pair) for pair in zip(row_slack, fresh, strict=True))]),
        dual=np.concatenate([dual, *(moved(own, barrier / at) for own, at in zip(row_dual, fresh, strict=True))]),
        equality_dual=point.equality_dual,
    )


def beyond_here(model: MultiphaseModel, at: Linearization) -> Floats:
    """(limit, T) what the point is beyond each limit."""
    return model.limits.beyond(np.abs(at.point.v), at.load_here)


def predicted_loads(at: Linearization, here: Floats, inputs: Floats) -> Floats:
    """(branch, T) apparent power of limited branches at other inputs (T, input) than those of the point."""
    loads: Floats = at.load_here + np.einsum("tbi,ti->bt", at.load, inputs - here)
    return loads


def predicted_voltages(at: Linearization, here: Floats, inputs: Floats) -> Floats:
    """(node, T) voltage magnitudes at other inputs (T, input) than those of the point."""
    moved = np.einsum("tni,ti->nt", at.voltage.real, inputs - here)
    magnitudes: Floats = np.abs(at.point.v) * np.exp(moved)
    return magnitudes


def predicted_power(at: Linearization, here: Floats, inputs: Floats) -> Complexes:
    """(root node, T) power drawn at the root, or from the source, at other inputs."""
    found: Complexes = at.root_s_here + np.einsum("tni,ti->nt", at.root_s, inputs - here)
    return found


def _value(derivative: Floats, here: Floats) -> Floats:
    """(T, row)"""
    product: Floats = np.einsum("tri,ti->tr", derivative, here)
    return product


def _widen(rows: sp.csc_array, more: int) -> sp.csc_array:
    return sp.hstack([rows, sp.csc_array((rows.shape[0], more))], format="csc")
