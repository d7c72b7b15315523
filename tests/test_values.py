"""An area's problem: every first and second derivative by finite differences, by itself and cut out of a feeder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from joint_parts import BARRIER, begun, everything

from areas.entries import entries
from areas.joint_area import JointArea, Point
from areas.own_ends import FREE, HELD, offered
from areas.values import Values, values
from common.area_case import Partition
from common.boundary import AreaProposal, make_boundary
from common.case import read_case
from common.feeder import Floats, Ints
from common.interior_point.limits import condensed
from common.joint_step import LEFT, Lengths, Reduce
from common.objective import objective_value
from common.partition import one_area, partition
from common.schedule import Schedule
from common.weights import Terms
from launch.solve import Options, solve

WIDTH, STEP = 1e-2, 2e-5
WAYS = (-2, -1, 1, 2)
"""steps of a difference"""


def difference(around: list[Any]) -> Any:
    """The derivative from values at WAYS, to the fourth order."""
    return (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / (12 * STEP)


class Probe:
    """An area near its first point, with multipliers at random, and its Newton matrices there."""

    def __init__(self, parts: Partition, k: int, span: slice, seed: int, joint: bool = True) -> None:
        boundary, self.rng = make_boundary(parts), np.random.default_rng(seed)
        forecast = boundary.forecast[boundary.ends[k][0]][:, :, span]
        self.area = JointArea(parts.areas[k], span, joint)
        self.offer = None if joint else self._offer(forecast)
        self.area.begin(forecast, BARRIER, self.offer)
        self.problem, start = self.area.problem, self.area.point
        x = start.x + self._noise(start.x, 1e-2) * (np.abs(start.x) > 0) + self._noise(start.x, 1e-3)
        self.point = self.area.point = Point(x, self._noise(start.multiplier, 1.0), start.slacks)

    @property
    def held(self) -> Ints:
        """Rows that do not move, whose slopes are nobody's."""
        if self.offer is None:
            return np.zeros(0, np.int64)
        return self.problem.ends.rows[self.offer.fixed]

    def _offer(self, forecast: Floats) -> AreaProposal:
        """Prices, curvatures and losses upstream at random, a third of the quantities held."""
        shape = forecast.shape
        return offered(
            AreaProposal(
                price=self.rng.normal(size=shape),
                target=forecast + 0.1 * self.rng.normal(size=shape),
                curvature=self.rng.uniform(0, 1, shape),
                fixed=self.rng.random(shape[:2]) < 1 / 3,
                upstream=self.rng.uniform(0, 0.3, shape[2]),
            ),
            self.area.problem.scale,
        )

    def _noise(self, like: Floats, size: float) -> Floats:
        """The same in all lanes that repeat the last period."""
        found: Floats = size * self.rng.normal(size=like.shape)
        found[:, self.problem.periods :] = found[:, self.problem.periods - 1 :][:, :1]
        return found

    def at(self, x: Floats, multiplier: Floats) -> Values:
        return values(self.problem, x, multiplier, WIDTH, self.offer)

    def derivatives(self, x: Floats, multiplier: Floats) -> tuple[Floats, Floats]:
        """Of the Lagrangian, the limits' multipliers following their margins as a Newton step lets them."""
        found, here = self.at(x, multiplier), self.at(self.point.x, self.point.multiplier)
        stiffness = condensed(self.problem.limits, self.point.slacks, here.margin).stiffness
        z = self.point.slacks.z - stiffness * (found.margin - here.margin)
        pull = self.problem.limits.gradient(z, found.magnitude[1:3], self.problem.layout.rows)
        return found.gradient - pull, found.equations

    def matrices(self, delta: float = 0.0, convex: bool = False) -> list[Floats]:
        """The Newton matrix of every period."""
        periods = self.problem.periods
        found = self.at(self.point.x, self.point.multiplier)
        known = condensed(self.problem.limits, self.point.slacks, found.margin)
        self.area._fill(found, known, np.full(periods, delta), np.full(periods, convex))
        if self.offer is not None:
            # What holds a quantity, or gives the free ones some curvature, is no derivative of anything.
            ends = found.table[self.problem.tables["curvature"]]
            ends[:] = np.where(ends == HELD, 0.0, ends - FREE)
        terms, size = entries(self.problem), 2 * self.problem.layout.blocks
        return [np.asarray(terms.matrix(size, found.table[:, t]).toarray()) for t in range(periods)]

    def assert_derivatives(self) -> None:
        layout, periods = self.problem.layout, self.problem.periods
        x, multiplier = self.point.x, self.point.multiplier
        # Controls of a few kW bend within less than a hundredth of a pu.
        dx, dm = self._noise(x, 1.0) * (0.02 + np.abs(x)), self._noise(multiplier, 1.0)
        around = [self.derivatives(x + way * STEP * dx, multiplier + way * STEP * dm) for way in WAYS]
        step = np.zeros((2 * layout.blocks, x.shape[1]))
        step[layout.at_x], step[layout.at_multiplier] = dx, dm
        for t, matrix in enumerate(self.matrices()):
            moved = matrix @ step[:, t]
            # What stiff limits add dwarfs the rest of their own rows, but of no others.
            size = np.abs(matrix) @ np.abs(step[:, t])
            for k, at in enumerate((layout.at_x, layout.at_multiplier)):
                expected = difference([one[k][:, t] for one in around])
                off = np.abs(moved[at] - expected) - 1e-6 * size[at] - 1e-7
                off[self.held if k == 0 else []] = -1.0
                worst = int(off.argmax()) if len(off) else 0
                assert (off <= 0).all(), (t, k, worst, moved[at][worst], expected[worst])
        # The gradient of costs alone: what is paid is the sum of all periods.
        dx[self.held] = 0.0
        no_price = 0 * multiplier
        slope = (self.at(x, no_price).gradient * dx)[:, :periods].sum()
        costs = [self.at(x + way * STEP * dx, no_price).objective for way in WAYS]
        assert difference(costs) == pytest.approx(slope, rel=1e-6, abs=1e-6)
        # And that of the equations, by their own values.
        priced = (self.at(x, multiplier).gradient - self.at(x, no_price).gradient) * dx
        expected = multiplier * difference([self.at(x + way * STEP * dx, no_price).equations for way in WAYS])
        np.testing.assert_allclose(
            priced[:, :periods].sum(axis=0), expected[:, :periods].sum(axis=0), rtol=1e-6, atol=1e-6
        )


def assert_derivatives(parts: Partition, seed: int = 0, spans: tuple[slice, ...] = (), joint: bool = True) -> None:
    for k, area in enumerate(parts.areas):
        for span in spans or (slice(0, len(area.horizon)),):
            Probe(parts, k, span, seed, joint).assert_derivatives()


@settings(max_examples=8, phases=[Phase.generate])
@given(st.integers(0, 1000), st.integers(4, 16), st.sampled_from([1, 3, 8, 9]))
def test_derivatives_of_random_feeders_with_all_that_there_is_are_finite_differences(
    seed: int, buses: int, periods: int
) -> None:
    case = everything(seed, buses, periods)
    assert_derivatives(one_area(case), seed)
    assert_derivatives(partition(case), seed)
    assert_derivatives(partition(case), seed, joint=False)


OBJECTIVES: dict[str, dict[str, Any]] = {
    "losses": {"objective": "losses"},
    "voltages": {"objective": "voltage_deviation", "voltage_deviation_weight": 50.0},
    "peak": {"objective": "peak"},
    "a mix": {
        "weights": Terms(energy=0.2, losses=0.3, voltage_deviation=0.5, battery_use=0.1, flexibility=0.1),
        "weights_bases": Terms(energy=400, losses=50, voltage_deviation=2, battery_use=30, flexibility=20),
    },
    "exports at a price": {"export_price_per_kwh": 0.03},
    "hard voltages": {"voltage_slack_price": 1e6},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_derivatives_are_finite_differences_with_every_objective_and_price(name: str) -> None:
    case = everything(5, 10, 2, **OBJECTIVES[name])
    assert_derivatives(partition(case), 5)
    assert_derivatives(partition(case), 5, joint=False)


def test_derivatives_of_a_span_of_periods_are_those_of_its_hours() -> None:
    case = everything(7, 10, 11)
    assert_derivatives(partition(case), 7, (slice(0, 3), slice(3, 11)))


@pytest.mark.parametrize("areas", [1, 4])
def test_derivatives_of_a_balanced_feeder_with_ratings_are_finite_differences(areas: int) -> None:
    case = read_case("ieee123", {"periods": 2, "objective": "losses", "substation_peak_kw": 900})
    branches = [
        row.model_copy(update={"i_max_a": 80.0, "s_max_kva": 500.0} if k % 9 == 0 else {})
        for k, row in enumerate(case.branches)
    ]
    case = replace(case, branches=tuple(branches))
    parts = one_area(case, exact=True) if areas == 1 else partition(case, exact=True)
    assert sum(len(area.ratings) for area in parts.areas) > 5
    assert_derivatives(parts)


def test_a_capacitor_of_constant_power_and_loads_of_every_shape_are_in_the_derivatives_too() -> None:
    assert_derivatives(one_area(read_case("ieee123", {"periods": 1, "capacitor_model": "constant_power"}), exact=True))
    assert_derivatives(one_area(read_case("ieee13", {"periods": 2})))


def test_what_corrects_the_inertia_is_added_to_controls_and_voltages_only() -> None:
    probe = Probe(partition(everything()), 0, slice(0, 3), 0)
    layout, plain, more = probe.problem.layout, probe.matrices(), probe.matrices(delta=0.5)
    n = layout.nodes
    moved = np.zeros(2 * layout.blocks)
    moved[layout.at_x[probe.problem.control_rows]] = 0.5
    moved[layout.at_x[np.concatenate([np.arange(n), np.arange(2 * n, 3 * n)])]] = 0.5
    for one, other in zip(plain, more, strict=True):
        np.testing.assert_allclose(other - one, np.diag(moved), atol=1e-9)


def test_convex_limits_have_second_derivatives_that_are_positive_semidefinite() -> None:
    probe = Probe(one_area(everything()), 0, slice(0, 3), 0)
    problem = probe.problem
    pairs, found = problem.limits.magnitudes, probe.at(probe.point.x, probe.point.multiplier)
    # Multipliers of upper voltage limits that bend the most.
    slacks = probe.point.slacks
    limits = problem.limits
    upper = [k for k in np.flatnonzero(limits.is_magnitude & (limits.sign < 0)) if pairs.is_log[limits.of[k]]]
    slacks.z[upper] = 50.0
    known = replace(condensed(problem.limits, slacks, found.margin), stiffness=0 * slacks.s)

    def least(convex: bool) -> float:
        probe.area._fill(found, known, np.zeros(problem.periods), np.full(problem.periods, convex))
        aa, bb, ab = np.moveaxis(found.table[problem.tables["pairs"]].reshape(len(pairs.first), 3, -1), 1, 0)
        return float(((aa + bb) / 2 - np.hypot((aa - bb) / 2, ab)).min())

    assert least(convex=False) < -1.0
    assert least(convex=True) >= -1e-9


def test_lanes_beyond_the_last_period_count_for_nothing() -> None:
    case = everything(periods=3)
    parts, boundary = partition(case), make_boundary(partition(case))
    area = begun(parts.areas[0], slice(0, 3), boundary.forecast[boundary.ends[0][0]])
    ask = Reduce(Lengths(0.0, 0.0, 0.0), WIDTH, 0.0, np.zeros(3), np.zeros(3, bool), LEFT)
    once = area.reduce(ask)
    for array in (area.point.x, area.point.multiplier):
        array[:, 3:] *= 1.01
    again = area.reduce(ask)
    assert again.measures == once.measures
    np.testing.assert_array_equal(again.schur, once.schur)


def test_the_first_point_is_a_power_flow_at_the_boundary_that_is_forecast() -> None:
    parts = partition(everything(periods=2))
    boundary = make_boundary(parts)
    for k, area in enumerate(parts.areas):
        joint = begun(area, slice(0, 2), boundary.forecast[boundary.ends[k][0]])
        found = values(joint.problem, joint.point.x, joint.point.multiplier, 0.03)
        equations = joint.problem.layout.multiplier
        # Devices begin at their first controls, the power flow has them at rest.
        network = found.equations[equations["network"]]
        assert np.abs(network).max() < 0.2
        for name in ("p", "q"):
            assert np.abs(found.equations[equations[name]]).max(initial=0.0) < 1e-12


@pytest.mark.parametrize("name", ["losses", "voltages", "a mix", "exports at a price"])
def test_what_areas_pay_is_the_objective_of_the_schedule_that_they_tell(name: str) -> None:
    case = everything(5, 10, 3, v_min_pu=0.9, v_max_pu=1.1, substation_peak_kw=2000.0, **OBJECTIVES[name])
    # Far from a kink: the schedule's own power flow has them sharp.
    case = replace(case, circuit=case.circuit + "batchedit load..* vminpu=0.5 vmaxpu=1.5\n", branch_limits=())
    result = solve(case, Options("newton", check=False))
    assert result.converged
    schedule: Schedule = result.schedule
    assert objective_value(case, schedule, result.state) == pytest.approx(result.objective, rel=3e-6, abs=1e-6)
