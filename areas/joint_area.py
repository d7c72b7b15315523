"""An area's part of Newton steps that all areas take together with the coordinator; see ``common.wire.joint_step``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tieflow.areas.assembly import build
from tieflow.areas.devices import AT_ONCE, random_controls
from tieflow.areas.entries import entries
from tieflow.areas.layout import Layout
from tieflow.areas.own_ends import HELD, place_ends
from tieflow.areas.problem import Problem
from tieflow.areas.values import Values, values
from tieflow.common.arrays import Bools, Floats, Ints
from tieflow.common.feeder.load_law import FIRST_WIDTH
from tieflow.common.feeder.multiphase import GROUND, MultiphaseFeeder
from tieflow.common.feeder.power_flow import Injections
from tieflow.common.inputs.objective import energy
from tieflow.common.interior_point.block_ldl import Factors, Pattern
from tieflow.common.interior_point.lanes import padded, unset
from tieflow.common.interior_point.limit_kernels import oversteps
from tieflow.common.interior_point.limits import (
    CLIP,
    Condensed,
    Products,
    Slacks,
    condensed,
    expanded,
    first_slacks,
    lengths,
    products,
    settled,
    zeta,
)
from tieflow.common.row_kernels import absolute, dot, place_less, ratios, stepped
from tieflow.common.ties.area_case import AreaCase
from tieflow.common.ties.boundary import ANGLE, AreaProposal, P, Q, W
from tieflow.common.ties.thevenin import tie_voltage
from tieflow.common.wire.joint_step import (
    KEPT,
    LEFT,
    LITTLE,
    RAISE,
    RAISED,
    Expand,
    Expanded,
    Measures,
    Opened,
    Predict,
    Predicted,
    Reduce,
    Reduced,
    StoresTold,
    TellStores,
    Trial,
    Tried,
)

REFINED_BELOW = 1e-6
"""barrier below which steps are refined: then stiffnesses span more digits than one solution keeps"""


@dataclass(frozen=True)
class Point:
    """Unknowns (row, T), multipliers of equations, slacks."""

    x: Floats
    multiplier: Floats
    slacks: Slacks

    def moved(self, step: Point, primal: float, multiplier: float, dual: float) -> Point:
        return Point(
            stepped(self.x, primal, step.x),
            stepped(self.multiplier, multiplier, step.multiplier),
            self.slacks.moved(step.slacks, primal, dual),
        )


def first_point(
    area: AreaCase[MultiphaseFeeder],
    problem: Problem,
    forecast: Floats,
    barrier: float,
    offer: AreaProposal | None = None,
) -> Point:
    """The power flow with first controls, at boundary quantities (end, quantity, T)."""
    layout, network, feeder = problem.layout, problem.network, area.feeder
    s = forecast[:, P] + 1j * forecast[:, Q]
    v_root = np.repeat(feeder.v_no_load[: feeder.roots, None], problem.periods, axis=1)
    if layout.roots:
        w = forecast[: layout.roots, W] + 1j * forecast[: layout.roots, ANGLE]
        v_root = v_root * np.exp(tie_voltage(w, area.tie_ends[0].z, s[: layout.roots]))
    drawn, devices = s[layout.roots :], np.flatnonzero(network.owner < len(problem.controls.given))
    a, b = (end[len(network.laws) :][devices] for end in (network.a, network.b))
    a, b = (np.where(end < 0, GROUND, end + layout.given_nodes) for end in (a, b))
    ties = area.tie_nodes
    given = [power[network.owner[devices], : problem.periods] for power in problem.given]
    share = network.share[devices, None]
    injections = Injections(
        np.concatenate([a, ties]),
        np.concatenate([b, np.full(len(ties), GROUND)]),
        np.concatenate([(given[0] + 1j * given[1]) * share, -drawn]),
    )
    v, i = network.flow.solve(v_root, injections, None, FIRST_WIDTH)
    x = np.zeros((layout.rows, problem.cost.shape[1]))
    own = slice(layout.given_nodes, None)
    x[layout.x["network"]] = padded(np.concatenate([v[own].real, i[own].real, v[own].imag, i[own].imag]))
    x[layout.x["control"]] = problem.first_control
    if layout.roots:
        x[layout.x["root"]] = padded(np.concatenate([v_root.real, v_root.imag]))
    if layout.ties:
        shared = np.conj(drawn / v[ties]) if layout.joint else drawn
        x[layout.x["tie"]] = padded(np.concatenate([shared.real, shared.imag]))
    if layout.meters:
        (vr, vi), (ur, ui) = (tuple(x[row] for row in part) for part in problem.tap_rows)
        power = (vr + 1j * vi) * np.conj(network.taps.k[:, None] * (ur + 1j * ui))
        np.add.at(x[layout.x["p"]], network.taps.meter, power.real)
        np.add.at(x[layout.x["q"]], network.taps.meter, power.imag)
    if offer is not None:
        place_ends(problem, offer, x)
    margin = problem.limits.margins(x, problem.limits.magnitudes.at(x)[0])
    multiplier = np.zeros((layout.multipliers, x.shape[1]))
    return Point(x, multiplier, first_slacks(problem.limits, margin, barrier))


@dataclass(frozen=True)
class Here:
    """The problem at the present point, and what a step from it needs."""

    values: Values
    condensed: Condensed
    rights: tuple[Floats, Floats]
    """of a step without a barrier, and of a unit of it"""
    halves: tuple[Floats, Floats]
    """of their solutions"""
    corrector: tuple[Floats, Floats, Floats, Floats] | None = None
    """its right-hand side, half a solution, and the products that it takes off"""


class JointArea:
    """An area in a span of its periods, as part of a larger problem; with ``joint`` false, by itself."""

    def __init__(
        self, area: AreaCase[MultiphaseFeeder], span: slice, joint: bool = True, direction: Floats | None = None
    ) -> None:
        self.area, self.problem, self._span = area, build(area, span, joint, direction), span
        layout = self.problem.layout
        self.offer: AreaProposal | None = None
        """what an area by itself is asked"""
        pattern = Pattern(layout.blocks, layout.border, entries(self.problem))
        self._factors = Factors(pattern, self.problem.periods)
        self._pairs = _shared_pairs(layout)
        control, period = np.nonzero(self.problem.fixed)
        fixed = layout.x["control"].start + control
        self._held_x, self._held_scalars = (fixed, period), (layout.at[fixed], period)
        bound = np.searchsorted(self.problem.limits.bounded, fixed)
        self._held_bounds = self.problem.tables["bounds"].start + bound, period
        border = _border_rows(layout.x, ("root", "tie")) if joint else np.zeros(0, np.int64)
        self._inner_x = np.delete(np.arange(layout.rows), border)
        shared = _border_rows(layout.multiplier, ("draw", "given", "store"))
        self._inner_equations = np.delete(np.arange(layout.multipliers), shared)
        self._every_x = np.arange(layout.rows)
        controls = layout.x["control"]
        v = np.r_[: layout.nodes, 2 * layout.nodes : 3 * layout.nodes]
        self._moving = np.concatenate([v, np.arange(controls.start, controls.stop)])
        self._first_price = self.problem.limits.price
        self._here: Here | None = None
        self._step: Point | None = None
        self._origin: Point | None = None
        """where the last step begins"""

    def begin(self, forecast: Floats, barrier: float, offer: AreaProposal | None = None, start: int = 0) -> None:
        """At the power flow of a forecast of the boundary (end, quantity, T), with the first controls that are usual,
        or at another ``start`` random ones."""
        self.offer, self._here, self._step = offer, None, None
        self.problem = replace(self.problem, limits=replace(self.problem.limits, price=self._first_price))
        if start:
            controls = random_controls(self.problem.controls, [start, *self.area.name.encode()])
            self.problem = replace(self.problem, first_control=padded(controls[:, self._span]))
        self.point = first_point(self.area, self.problem, forecast, barrier, offer)

    def opened(self) -> Opened:
        stores, layout = self.problem.controls.stores, self.problem.layout
        both = np.concatenate([self.point.x, self.point.multiplier])
        start, low, high = (np.array([getattr(store, name) for store in stores]) for name in ("start", "low", "high"))
        return Opened(start, low, high, both[layout.shared, : self.problem.periods])

    # The four parts of a step.

    def reduce(self, ask: Reduce) -> Reduced:
        if self._step is not None:
            lengths = ask.lengths
            moved = self.point.moved(self._step, lengths.primal, lengths.multiplier, lengths.dual)
            if lengths.primal < 0 and self._origin is not None:
                # Slacks that followed their margins would not go back by the step.
                moved = self._origin
            self.point = replace(moved, slacks=moved.slacks.centered(ask.barrier))
        if ask.prices != LEFT:
            self._reprice(ask.prices)
        problem, point, periods = self.problem, self.point, self.problem.periods
        found = values(problem, point.x, point.multiplier, ask.width, self.offer)
        point = self.point = replace(point, slacks=settled(problem.limits, point.slacks, found.margin))
        at = condensed(problem.limits, point.slacks, found.margin)
        self._fill(found, at, ask.delta, ask.convex)
        factors = self._factors
        factors.factor(found.table)
        aims = ((0.0, 1.0), (1.0, 0.0))
        rights = [self._right(found, at, k, k, own) for k, own in aims]
        (half, right), (half_barrier, right_barrier) = (factors.forward(r) for r in rights)
        self._here = Here(found, at, (rights[0], rights[1]), (half, half_barrier))
        layout, order = problem.layout, problem.layout.border_order
        known = factors.negatives >= 0
        return Reduced(
            schur=factors.schur()[self._pairs, :periods],
            residual=found.slopes[layout.shared, :periods],
            right=right[order, :periods],
            right_barrier=right_barrier[order, :periods],
            negatives=np.where(known, factors.negatives - len(self._inner_equations), -1),
            replaced=float(factors.failed.sum()),
            measures=self._measures(found, at),
            scale=problem.scale,
            energy_cost=self._energy_cost(point),
        )

    def _reprice(self, how: int) -> None:
        """Raise the prices of limits that are overstepped, of a multi-phase feeder if by little; or restore those that
        were raised in vain. The limits of a balanced feeder are hard."""
        limits, slacks, first = self.problem.limits, self.point.slacks, self._first_price
        over = slacks.t > KEPT
        if how == RAISED:
            little = (slacks.t < LITTLE) | self.area.settings.hard_limits
            price = np.where(over & little, RAISE * first, limits.price)
        else:
            price = np.where(over, first, limits.price)
        z = slacks.z.copy()
        z[limits.hard :] = np.minimum(z[limits.hard :], 0.99 * price)
        self.problem = replace(self.problem, limits=replace(limits, price=price))
        self.point = replace(self.point, slacks=replace(slacks, z=z, w=price - z[limits.hard :]))

    def predict(self, ask: Predict) -> Predicted:
        here, slacks = self._at, self.point.slacks
        step = self._solution(here.halves[0], ask.border, 0.0, 0.0)
        moved = step.slacks
        primal, dual = lengths(slacks, moved, 1.0)
        most = CLIP * ask.average
        off, off_t = ((a * b).clip(-most, most) for a, b in ((moved.s, moved.z), (moved.t, moved.w)))
        right = self._right(here.values, here.condensed, -off, -off_t, 0.0)
        half, border = self._factors.forward(right)
        self._here = replace(here, corrector=(right, half, off, off_t))
        n = self.problem.periods
        sums = products(slacks, moved, n)
        return Predicted(primal, dual, sums, border[self.problem.layout.border_order, :n])

    def expand(self, ask: Expand) -> Expanded:
        here, point = self._at, self.point
        half = stepped(here.halves[0], ask.barrier, here.halves[1])
        k: Floats | float = ask.barrier
        k_t: Floats | float = ask.barrier
        if ask.corrected and here.corrector is not None:
            _, half_more, off, off_t = here.corrector
            half += half_more
            k, k_t = ask.barrier - off, ask.barrier - off_t
        refined = None
        if ask.barrier < REFINED_BELOW:
            refined = stepped(here.rights[0], ask.barrier, here.rights[1])
            if ask.corrected and here.corrector is not None:
                refined += here.corrector[0]
        step = self._step = self._solution(half, ask.border, k, k_t, refined)
        self._origin = point
        slacks, moved, n = point.slacks, step.slacks, self.problem.periods
        primal, dual = lengths(slacks, moved, ask.keep)
        slope = dot(here.values.gradient, step.x, self._every_x, n)
        slope += dot(point.multiplier, here.values.equations, self._inner_equations, n)
        slope += dot(self.problem.limits.price, moved.t, np.arange(len(moved.t)), n)
        slope -= ask.barrier * (ratios(moved.s, slacks.s, n) + ratios(moved.t, slacks.t, n))
        return Expanded(
            primal=primal,
            dual=dual,
            slope=slope,
            change=absolute(step.x, self._moving, n)[1],
            multiplier=absolute(step.multiplier, np.arange(len(step.multiplier)), n)[1],
        )

    def trial(self, ask: Trial) -> Tried:
        assert self._step is not None
        point, limits, n = self.point.moved(self._step, ask.primal, 0.0, 0.0), self.problem.limits, self.problem.periods
        found = values(self.problem, point.x, point.multiplier, ask.width, self.offer)
        slacks = settled(limits, point.slacks, found.margin)
        residual = condensed(limits, slacks, found.margin).residual
        missing = absolute(found.equations, self._inner_equations, n)[0]
        outside = absolute(residual, np.arange(len(residual)), n)[0]
        objective = found.objective + float((limits.price * slacks.t)[:, :n].sum())
        return Tried(missing + outside, objective, Products.of(slacks, n).logs)

    def stores(self, _: TellStores) -> StoresTold:
        problem, n = self.problem, self.problem.periods
        stores, row = problem.controls.stores, problem.layout.x["control"].start
        nu = self.point.multiplier[problem.layout.multiplier["store"], :n]
        both, told = np.zeros((len(stores), n), bool), np.zeros((4, len(stores), n))
        for k, store in enumerate(stores):
            (up, rise), (down, fall) = sorted(store.gains.items(), key=lambda item: -item[1])
            rated = problem.controls.high[[up, down]].max(axis=1)
            if not store.exclusive or not rated.all():
                continue
            x = self.point.x[[row + up, row + down], :n]
            both[k] = (x > AT_ONCE * rated[:, None]).all(axis=0)
            slope = self._at.values.gradient[[row + up, row + down], :n]
            told[:2, k] = slope[0] / rise + nu[k], slope[1] / -fall - nu[k]
            told[2, k], told[3, k] = rise * rated[0], -fall * rated[1]
        return StoresTold(both, *told)

    # What they are made of.

    @property
    def _at(self) -> Here:
        assert self._here is not None
        return self._here

    @property
    def _free_x(self) -> Ints:
        """Rows of inner unknowns that nothing holds."""
        if self.offer is None or not self.offer.fixed.any():
            return self._inner_x
        return np.setdiff1d(self._inner_x, self.problem.ends.rows[self.offer.fixed])

    def _energy_cost(self, point: Point) -> float:
        """$ of substation power, as the user pays it."""
        area, first = self.area, self.problem.layout.x["p"].start
        p = point.x[first : first + area.has_substation, : self.problem.periods].sum(axis=0) * area.settings.base_kva
        return float(energy(area.horizon.part(self._span), p, area.settings.export_price_per_kwh))

    def _fill(self, found: Values, at: Condensed, delta: Floats, convex: Bools) -> None:
        """The table's rows of limits."""
        problem, table, tables = self.problem, found.table, self.problem.tables
        limits, z = problem.limits, self.point.slacks.z
        known = self.point.x, found.magnitude[0], at.stiffness, z, problem.deviation, _wide(convex, table.shape[1])
        limits.curvatures(*known, table[tables["pairs"]])
        table[tables["bounds"]] = limits.of_bounds(at.stiffness)
        table[self._held_bounds] = HELD
        table[tables["delta"]] = _wide(delta, table.shape[1])

    def _right(self, found: Values, at: Condensed, k: Floats | float, k_t: Floats | float, own: float) -> Floats:
        """Right-hand side of the Newton step towards products k; what does not depend on them counts ``own`` times.
        What fixes a control pulls at it as much as all else does."""
        problem, layout = self.problem, self.problem.layout
        pull = zeta(problem.limits, self.point.slacks, at, k, k_t, own)
        right = unset(2 * layout.blocks, pull.shape[1])
        right[layout.dummies] = 0.0
        gradient = problem.limits.gradient(pull, found.magnitude[1:3], layout.rows)
        place_less(layout.at, own, found.slopes, gradient, right)
        right[self._held_scalars] = 0.0
        return right

    def _solution(
        self, half: Floats, border: Floats, k: Floats | float, k_t: Floats | float, refined: Floats | None = None
    ) -> Point:
        """The step to a border's step; refined once by the residual of its right-hand side where that is given."""
        layout, limits = self.problem.layout, self.problem.limits
        kept = np.zeros((2 * len(layout.border), self.point.x.shape[1]))
        kept[layout.border_order] = padded(border)
        scalars = self._factors.backward(half, kept)
        if refined is not None:
            left = self._factors.residual(refined, scalars, self._at.values.table)
            scalars += self._factors.backward(self._factors.forward(left)[0], np.zeros_like(kept))
        both = scalars.take(layout.at, axis=0)
        dx = both[: layout.rows]
        change = limits.changes(dx, self._at.values.magnitude[1:3])
        return Point(
            dx,
            both[layout.rows :],
            expanded(limits, self.point.slacks, self._at.condensed, change, k, k_t),
        )

    def _measures(self, found: Values, at: Condensed) -> Measures:
        problem, limits, n = self.problem, self.problem.limits, self.problem.periods
        point, slacks = self.point, self.point.slacks
        missing, most_missing = absolute(found.equations, self._inner_equations, n)
        outside, most_outside = absolute(at.residual, np.arange(len(at.residual)), n)
        pull = limits.gradient(slacks.z, found.magnitude[1:3], problem.layout.rows)
        left = found.gradient - pull
        left[self._held_x] = 0.0
        stationary = absolute(left, self._free_x, n)[1]
        little = np.inf if self.area.settings.hard_limits else LITTLE
        elastic = limits.price, self._first_price, slacks.z[limits.hard :], slacks.t, slacks.w
        off, cost, repriceable, raised = oversteps(*elastic, KEPT, little, n)
        pairs = Products.of(slacks, n)
        return Measures(
            infeasibility=missing + outside,
            primal=max(most_missing, most_outside),
            dual=max(stationary, off),
            least_product=pairs.least,
            most_product=pairs.most,
            products=pairs.total,
            limits=float(pairs.count),
            multipliers=pairs.multipliers + absolute(point.multiplier, np.arange(len(point.multiplier)), n)[0],
            equations=float(problem.layout.multipliers * n),
            objective=found.objective + cost,
            logs=pairs.logs,
            repriceable=repriceable,
            firm=float((slacks.t[problem.firm, :n] > LITTLE).sum()),
            raised=raised,
        )


def _wide(values_: Floats | Bools, count: int) -> np.ndarray:
    """(T,) as a row in lanes."""
    return values_.take(np.arange(count), mode="clip")


def _border_rows(slices: dict[str, slice], names: tuple[str, ...]) -> Ints:
    return np.concatenate([np.arange(slices[name].start, slices[name].stop) for name in names])


def _shared_pairs(layout: Layout) -> Ints:
    """Places in the border's upper triangle of the pairs of shared unknowns, row by row."""
    size = 2 * len(layout.border)
    place = np.zeros((size, size), np.int64)
    rows, columns = np.triu_indices(size)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    order = layout.border_order
    i, j = np.triu_indices(len(order))
    return place[order[i], order[j]]
