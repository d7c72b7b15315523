"""What crosses the ties: split and joined without loss, in the right units, and forecast from the loads alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from feeders import random_cases
from hypothesis import given
from hypothesis import strategies as st
from multiphase_feeders import random_multiphase_cases

from tieflow.common.case import Case, read_case
from tieflow.common.ties.boundary import (
    ANGLE,
    BALANCED,
    CHILD,
    MULTIPHASE,
    PARENT,
    AreaReport,
    AreaResponse,
    Boundary,
    P,
    Proposal,
    Q,
    Response,
    W,
    join,
    make_boundary,
)
from tieflow.common.ties.cutting import one_area, partition, without_thevenin

REPORT = AreaReport(
    status=0,
    energy_cost=0.0,
    objective=0.0,
    dual_objective=0.0,
    relaxation_gap=0.0,
    iterations=0.0,
    solve_s=0.0,
    area_s=0.0,
)


def random_proposal(boundary: Boundary, seed: int) -> Proposal:
    random = np.random.default_rng(seed)
    shape = boundary.zeros().shape
    price, target, curvature = random.normal(size=(3, *shape))
    return Proposal(price, target, curvature, random.random(shape[:3]) < 0.5)


def response_of(boundary: Boundary, value: np.ndarray, slope: np.ndarray) -> Response:
    areas = [AreaResponse(value[end], slope[end], np.zeros((0, 0)), REPORT) for end in boundary.ends]
    return join(boundary, areas)


@given(case=random_cases(), seed=st.integers(0, 2**32 - 1))
def test_a_proposal_split_by_area_and_joined_again_is_the_same(case: Case, seed: int) -> None:
    boundary = make_boundary(partition(case))
    proposal = random_proposal(boundary, seed)
    parts = proposal.split(boundary)
    answers = [AreaResponse(part.price, part.target, part.curvature, REPORT) for part in parts]
    joined = join(boundary, answers)
    np.testing.assert_array_equal(joined.value, proposal.price)
    np.testing.assert_array_equal(joined.slope, proposal.target)
    assert [part.fixed.shape for part in parts] == [(len(end[0]), len(BALANCED)) for end in boundary.ends]
    assert sum(part.fixed.sum() for part in parts) == proposal.fixed.sum()


@given(case=random_cases())
def test_an_areas_part_is_in_the_order_of_its_tie_ends(case: Case) -> None:
    parts = partition(case)
    boundary = make_boundary(parts)
    value = boundary.zeros()
    value[:, PARENT], value[:, CHILD] = 1, 2
    value += 10 * np.arange(len(parts.ties)).reshape(-1, 1, 1, 1)
    for area, end in zip(parts.areas, boundary.ends, strict=True):
        expected = [10 * tie.tie + (1 if tie.side == "parent" else 2) for tie in area.tie_ends]
        assert value[end][:, W, 0].tolist() == expected


def test_whether_sensitivities_are_wanted_reaches_every_area() -> None:
    boundary = make_boundary(partition(read_case("ieee123")))
    proposal = random_proposal(boundary, 1)
    for wanted in (False, True):
        parts = replace(proposal, sensitivities=wanted).split(boundary)
        assert [part.sensitivities for part in parts] == [wanted] * 4


@given(case=random_cases())
def test_the_forecast_is_the_net_load_behind_each_tie(case: Case) -> None:
    parts = partition(case)
    children: dict[str, list[str]] = {}
    for row in case.branches:
        children.setdefault(row.from_bus, []).append(row.to_bus)

    def behind(bus: str) -> list[str]:
        return [bus] + [below for child in children.get(bus, []) for below in behind(child)]

    rows = {row.bus: row for row in case.buses}
    rated = {pv.bus: pv.p_rated_kw for pv in case.pv}
    boundary = make_boundary(parts)
    for tie, forecast in zip(parts.ties, boundary.forecast, strict=True):
        below = behind(parts.areas[tie.child].feeder.buses[1])
        p = sum(rows[bus].p_load_kw * case.horizon.load - rated.get(bus, 0) * case.horizon.pv for bus in below)
        q = sum(rows[bus].q_load_kvar * case.horizon.load - rows[bus].q_cap_kvar for bus in below)
        np.testing.assert_allclose(forecast[P], p / 1000, atol=1e-12)
        np.testing.assert_allclose(forecast[Q], q / 1000, atol=1e-12)
        assert (forecast[W] == 1.02**2).all()


@given(case=random_cases(), seed=st.integers(0, 2**32 - 1))
def test_voltages_are_recovered_from_what_is_agreed(case: Case, seed: int) -> None:
    parts = partition(case)
    boundary = make_boundary(parts)
    v, p, q = np.random.default_rng(seed).normal(size=(len(BALANCED), len(parts.ties), 2, boundary.periods))
    z = np.array([tie.z[0, 0] for tie in parts.ties])[:, None, None]
    r, x = z.real, z.imag
    agreed = np.stack([v + 2 * r * p + 2 * x * q, p, q], axis=2)
    np.testing.assert_allclose(boundary.physical(agreed), np.stack([v, p, q], axis=2), atol=1e-12)


@given(case=random_multiphase_cases(max_areas=4), seed=st.integers(0, 2**32 - 1))
def test_voltages_and_angles_of_several_phases_are_recovered_from_what_is_agreed(case: Case, seed: int) -> None:
    parts = partition(case)
    boundary = make_boundary(parts)
    assert boundary.quantities == MULTIPHASE
    assert boundary.conductors == tuple((i, phase) for i, tie in enumerate(parts.ties) for phase in tie.phases)
    random = np.random.default_rng(seed)
    agreed, expected = boundary.zeros(), boundary.zeros()
    first = 0
    for tie in parts.ties:
        # w + j a = ln V + Z conj(s), conductor by conductor, in logarithms of the voltage over the one without loads.
        count = len(tie.phases)
        for side, t in product((PARENT, CHILD), range(boundary.periods)):
            ln_v, s = random.normal(size=(2, count)) + 1j * random.normal(size=(2, count))
            for i in range(count):
                made = ln_v[i] + sum(tie.z[i, k] * s[k].conjugate() for k in range(count))
                agreed[first + i, side, :, t] = made.real, s[i].real, s[i].imag, made.imag
                expected[first + i, side, :, t] = ln_v[i].real, s[i].real, s[i].imag, ln_v[i].imag
        first += count
    np.testing.assert_allclose(boundary.physical(agreed), expected, atol=1e-12)


def test_the_boundary_without_thevenin_impedances_is_the_physical_one() -> None:
    case = read_case("ieee13", {"periods": 2})
    parts = partition(case)
    for shown, is_physical in ((parts, False), (without_thevenin(parts), True)):
        boundary = make_boundary(shown)
        value = np.random.default_rng(3).normal(size=boundary.zeros().shape)
        moved = np.abs(boundary.physical(value) - value).max(axis=(0, 1, 3))
        assert (moved[[P, Q]] == 0).all()
        assert ((moved[[W, ANGLE]] == 0) == is_physical).all()


def test_the_shipped_feeder_of_several_phases_meets_at_its_conductors() -> None:
    parts = partition(read_case("ieee13", {"periods": 2}))
    boundary = make_boundary(parts)
    phases = {(tie.bus, parts.areas[tie.child].name): tie.phases for tie in parts.ties}
    assert phases == {("632", "2"): (1, 2, 3), ("632", "3"): (1, 2, 3), ("671", "4"): (1, 2, 3)}
    assert boundary.zeros().shape == (9, 2, 4, 2)
    for area, (conductors, sides) in zip(parts.areas, boundary.ends, strict=True):
        expected = [
            ((end.tie, phase), PARENT if end.side == "parent" else CHILD)
            for end in area.tie_ends
            for phase in parts.ties[end.tie].phases
        ]
        assert [(boundary.conductors[i], side) for i, side in zip(conductors, sides, strict=True)] == expected
        phases_there = area.feeder.node_phase[np.concatenate([end.nodes for end in area.tie_ends])]
        assert phases_there.tolist() == [phase for (_, phase), _ in expected]


def test_only_relaxed_areas_tell_sensitivities_and_have_a_ceiling_of_cost() -> None:
    case, several = (read_case(name, {"periods": 2}) for name in ("ieee123", "ieee13"))
    relaxed = make_boundary(partition(case))
    assert (relaxed.quantities, relaxed.voltages, relaxed.tells_sensitivities) == (BALANCED, [W], True)
    assert np.isfinite(relaxed.cost_ceiling)
    # A balanced feeder's exact areas are those of one conductor.
    for parts in (partition(case, exact=True), partition(several)):
        exact = make_boundary(parts)
        assert (exact.quantities, exact.voltages, exact.tells_sensitivities) == (MULTIPHASE, [W, ANGLE], False)
        # What oversteps a limit costs no more than its price.
        assert exact.cost_ceiling == np.inf


def test_a_balanced_feeder_meets_at_one_conductor_in_either_model() -> None:
    case = read_case("ieee123")
    relaxed, exact = partition(case), partition(case, exact=True)
    assert [(tie.bus, tie.parent, tie.child, tie.phases) for tie in exact.ties] == [
        (tie.bus, tie.parent, tie.child, tie.phases) for tie in relaxed.ties
    ]
    one, other = make_boundary(relaxed).forecast, make_boundary(exact).forecast
    # The relaxation's forecast loses nothing.
    np.testing.assert_allclose(one[:, [P, Q]], other[:, [P, Q]], rtol=0.1, atol=0.01)


def test_what_a_proposal_says_of_the_round_reaches_every_area() -> None:
    boundary = make_boundary(partition(read_case("ieee123")))
    upstream = np.arange(5.0)
    plain = random_proposal(boundary, 1)
    for part in replace(plain, upstream=upstream).split(boundary):
        assert part.upstream.tolist() == upstream.tolist()
    for part in plain.split(boundary):
        assert part.upstream.tolist() == [0.0] * 5


def test_prices_are_the_mean_of_what_both_sides_think() -> None:
    boundary = make_boundary(partition(read_case("ieee123")))
    slope = boundary.zeros()
    slope[:, PARENT], slope[:, CHILD] = 3.0, -5.0
    assert (response_of(boundary, boundary.zeros(), slope).prices() == 4.0).all()


def test_energy_is_priced_per_unit_power_and_period() -> None:
    case = read_case("ieee123", {"base_kva": 500})
    boundary = make_boundary(partition(case))
    expected = 500 * case.horizon.price
    np.testing.assert_allclose(boundary.energy_price, expected)
    np.testing.assert_allclose(boundary.loss_price, expected)
    assert boundary.times == ("09:00", "10:00", "11:00", "12:00", "13:00")


def test_longer_periods_make_energy_dearer() -> None:
    case = read_case("ieee123")
    half = replace(case, horizon=replace(case.horizon, dt=0.5))
    np.testing.assert_allclose(
        2 * make_boundary(partition(half)).energy_price, make_boundary(partition(case)).energy_price
    )


def test_where_losses_are_minimized_energy_itself_has_no_price() -> None:
    boundary = make_boundary(partition(read_case("ieee123", {"objective": "losses"})))
    assert (boundary.energy_price == 0).all()
    assert (boundary.loss_price == 1000).all()


def test_losses_keep_a_price_in_hours_when_energy_is_free() -> None:
    boundary = make_boundary(partition(read_case("ieee123", {"price_low_per_kwh": 0})))
    assert (boundary.energy_price == 0).sum() == 3
    assert (boundary.loss_price > 0).all()


@pytest.mark.parametrize("objective", ["cost", "losses", "voltage_deviation"])
def test_no_schedule_of_the_shipped_case_comes_near_the_cost_ceiling(objective: str) -> None:
    boundary = make_boundary(partition(read_case("ieee123", {"objective": objective})))
    assert boundary.cost_ceiling > 5 * 583.25


def test_one_area_has_an_empty_boundary() -> None:
    boundary = make_boundary(one_area(read_case("ieee123")))
    assert boundary.zeros().shape == (0, 2, len(BALANCED), 5)
    assert boundary.physical(boundary.zeros()).shape == (0, 2, len(BALANCED), 5)
    (part,) = random_proposal(boundary, 0).split(boundary)
    assert part.price.shape == (0, len(BALANCED), 5)
