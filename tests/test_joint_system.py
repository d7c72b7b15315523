"""Newton steps that areas and coordinator take together are those of one area: over areas, over time, and over both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.configurations import configuration
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from joint_parts import Run, as_one_area_starts, everything, opened, run
from multiphase_feeders import random_multiphase_cases

from tieflow.common.arrays import Floats
from tieflow.common.case import Case, read_case
from tieflow.common.interior_point.algorithm import Settings, Step
from tieflow.common.ties.area_case import Partition
from tieflow.common.ties.cutting import one_area, partition
from tieflow.common.wire.joint_step import Lengths
from tieflow.launch.runs.partition import in_areas

BARRIER, WIDTH, KEEP = 0.1, 0.03, 0.99
STAY = Lengths(0.0, 0.0, 0.0)


def costs(found: Run) -> Floats:
    """Objective by iteration, oversteps at their price among it."""
    return np.array([line.state.at.objective for line in found.record])


def assert_same(found: Run, whole: Run, relative: float = 1e-7) -> None:
    assert found.result.converged and whole.result.converged
    assert found.result.iterations == whole.result.iterations
    assert np.abs(costs(found) - costs(whole)).max() <= relative * np.abs(costs(whole)).max()
    assert found.objective == pytest.approx(whole.objective, rel=relative)
    assert found.system.mismatch() < 1e-8


@pytest.mark.parametrize(("name", "periods", "slices"), [("ieee13", 24, 5), ("ieee123_unbalanced", 11, 4)])
def test_iterates_of_areas_of_time_slices_and_of_both_are_those_of_one_area(
    name: str, periods: int, slices: int
) -> None:
    case = read_case(name, {"periods": periods})
    whole = run(one_area(case))
    parts = as_one_area_starts(case, partition(case))
    assert len(parts.areas) > 2
    assert_same(run(parts), whole)
    assert_same(run(one_area(case), slices), whole)
    assert_same(run(parts, slices), whole)


def test_iterates_of_a_balanced_feeder_s_areas_are_those_of_one_area() -> None:
    case = read_case("ieee123", {"periods": 6})
    parts = as_one_area_starts(case, partition(case, exact=True))
    assert_same(run(parts, 2), run(one_area(case, exact=True)))


@settings(max_examples=10, phases=[Phase.generate])
@given(random_multiphase_cases(max_areas=4), st.integers(1, 3))
def test_iterates_of_random_circuits_in_areas_are_those_of_one_area(case: Case, slices: int) -> None:
    parts = as_one_area_starts(case, partition(case))
    assert_same(run(parts, min(slices, len(case.horizon))), run(one_area(case)))


@pytest.mark.parametrize("seed", [1, 2])
def test_with_all_that_there_is_areas_end_where_one_area_does(seed: int) -> None:
    case = everything(seed, periods=5, export_price_per_kwh=0.05, voltage_slack_price=20.0)
    assert_same(run(as_one_area_starts(case, partition(case)), 2), run(one_area(case)), 1e-6)


@pytest.mark.parametrize("number", [33, 40])
def test_where_the_inertia_is_wrong_areas_correct_it_as_one_area_does(number: int) -> None:
    chosen = configuration(number)
    whole = run(one_area(chosen.case))
    assert whole.result.corrected > 0
    found = run(partition(in_areas(chosen.case, chosen.areas)))
    assert found.result.converged and whole.result.converged
    assert found.result.corrected > 0
    assert found.objective == pytest.approx(whole.objective, rel=1e-7)


def test_areas_agree_on_the_voltage_and_the_current_of_every_tie() -> None:
    case = read_case("ieee13", {"periods": 3})
    parts = partition(case)
    found = run(parts)
    for tie in range(len(parts.ties)):
        ends = {
            end.side: (area, end)
            for area, part in zip(found.parts.areas, parts.areas, strict=True)
            for end in part.tie_ends
            if end.tie == tie
        }
        parent, of_parent = ends["parent"]
        child, _ = ends["child"]
        x, layout = child.point.x, child.problem.layout
        count, n = layout.roots, len(of_parent.nodes)
        root = x[layout.x["root"]]
        own_v = root[:count] + 1j * root[count:]
        drawn = child.problem.linear[np.r_[layout.multiplier["draw"]]] @ x
        re, im = parent.problem.layout.voltage(of_parent.nodes)
        np.testing.assert_allclose(parent.point.x[re] + 1j * parent.point.x[im], own_v, atol=1e-8)
        # The currents of all ties of the parent stand one after the other.
        given = parent.point.x[parent.problem.layout.x["tie"]]
        before = sum(len(end.nodes) for end in parent.area.tie_ends if end.side == "parent" and end.tie < tie)
        ties = parent.problem.layout.ties
        current = given[before : before + n] + 1j * given[ties + before : ties + before + n]
        np.testing.assert_allclose(current, drawn[:count] + 1j * drawn[count:], atol=1e-8)


def test_messages_grow_in_proportion_to_the_periods() -> None:
    numbers = []
    for periods in (6, 12, 18):
        parts = partition(read_case("ieee13", {"periods": periods}))
        found = run(parts, settings=Settings(iterations=1))
        assert len(found.record) == 2
        numbers.append(found.parts.numbers)
    assert numbers[2] - numbers[1] == numbers[1] - numbers[0] > 0
    # And the constant part is none to speak of.
    assert numbers[1] < 2 * numbers[0]


def stepped(parts: Partition, slices: int = 1, steps: int = 4) -> tuple[Run, Step]:
    """Some steps from the start, and one that is ready."""
    found = run(parts, slices, Settings(iterations=steps))
    system, periods = found.system, found.system.periods
    system.reduce(STAY, WIDTH, 0.0, np.zeros(periods), np.zeros(periods, bool))
    return found, system.expand(BARRIER, False, KEEP)


@pytest.mark.parametrize("steps", [0, 4])
@pytest.mark.parametrize("slices", [0, 1, 2])
def test_the_slope_of_a_step_is_the_difference_of_costs_and_logarithms_along_it(slices: int, steps: int) -> None:
    # At first all equations still have residuals, those that are shared too.
    case = everything(3, periods=4)
    found, ready = stepped(partition(case) if slices else one_area(case), max(slices, 1), steps)

    def merit(share: float) -> float:
        _, objective, logs = found.system.trial(share, WIDTH)
        return objective - BARRIER * logs

    step = 1e-6
    assert (merit(step) - merit(-step)) / (2 * step) == pytest.approx(ready.slope, rel=1e-5)


@pytest.mark.parametrize("slices", [1, 3])
def test_what_a_trial_tells_is_what_the_step_brings(slices: int) -> None:
    found, ready = stepped(partition(everything(3, periods=4)), slices)
    share, nothing = 0.5 * ready.primal, np.zeros(found.system.periods)
    tried = found.system.trial(share, WIDTH)
    state = found.system.reduce(Lengths(share, share, 0.0), WIDTH, 0.0, nothing, nothing.astype(bool))
    assert tried == pytest.approx((state.at.infeasibility, state.at.objective, state.at.logs), rel=1e-9)


def test_a_prediction_is_a_step_without_a_barrier() -> None:
    found, _ = stepped(partition(everything(3, periods=4)))
    system = found.system
    ahead = system.predict(1e-2)
    step = system.expand(0.0, False, 1.0)
    assert (ahead.primal, ahead.dual) == pytest.approx((step.primal, step.dual), rel=1e-9)
    before = sum(answer.measures.products for answer in system._told) + float(
        (system.stores.at.slacks.s * system.stores.at.slacks.z).sum()
    )
    assert ahead.products[0] == pytest.approx(before, rel=1e-9)
    # To first order all products are gone at its end.
    assert ahead.products[0] + ahead.products[1] + ahead.products[2] == pytest.approx(0.0, abs=1e-6 * before)


def test_a_feeder_without_stores_and_one_with_an_odd_number_of_them_are_both_solved() -> None:
    case = read_case("ieee13", {"periods": 2})
    for batteries in ((), case.batteries[:1], case.batteries[:2]):
        fewer = replace(case, batteries=batteries)
        assert_same(run(as_one_area_starts(fewer, partition(fewer))), run(one_area(fewer)))


@pytest.mark.parametrize("name", ["ieee13", "ieee123_unbalanced"])
def test_from_the_forecast_of_a_partition_areas_end_where_one_area_does_in_as_many_iterations(name: str) -> None:
    case = read_case(name, {"periods": 12})
    found, whole = run(partition(case)), run(one_area(case))
    assert found.result.converged and whole.result.converged
    assert abs(found.result.iterations - whole.result.iterations) <= 1
    assert found.objective == pytest.approx(whole.objective, rel=1e-7)


def test_stored_energies_keep_their_limits_and_end_as_they_began() -> None:
    case = read_case("ieee13", {"periods": 24})
    found = run(partition(case), 3)
    level, (low, high) = found.system.stores.levels(), _bounds(case)
    assert ((level >= low[:, None] - 1e-9) & (level <= high[:, None] + 1e-9)).all()
    start = np.sort([unit.soc_initial * unit.energy_kwh for unit in case.batteries]) / case.settings.base_kva
    np.testing.assert_allclose(np.sort(level[:, -1]), start, atol=1e-9)
    # Some battery is used to its limit.
    assert min(np.abs(level - low[:, None]).min(), np.abs(level - high[:, None]).min()) < 1e-4


def _bounds(case: Case) -> tuple[Floats, Floats]:
    """The stores' limits, area by area."""
    _, system = opened(partition(case))
    low, high = (np.full(system.stores.count, np.nan) for _ in range(2))
    limits = system.stores.limits
    for array, is_of in ((low, limits.sign > 0), (high, limits.sign < 0)):
        array[limits.of[is_of]] = limits.value[is_of, 0]
    return low, high


def test_areas_begin_with_the_costs_and_limits_of_one_area_and_agree_at_their_ties() -> None:
    case = read_case("ieee13", {"periods": 2})
    _, whole = opened(one_area(case))
    _, system = opened(as_one_area_starts(case, partition(case)))
    nothing = np.zeros(2)
    one, other = (s.reduce(STAY, WIDTH, 0.0, nothing, nothing.astype(bool)) for s in (whole, system))
    assert other.at.objective == pytest.approx(one.at.objective, rel=1e-9)
    assert other.at.limits == one.at.limits
    assert system.mismatch() < 1e-6
