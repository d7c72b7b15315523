"""What loads draw at a voltage: kinks, their rounding, and the parabola above them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from common.case import read_case
from common.feeder import Complexes, Floats
from common.load_law import kink_curvature, leg_currents, leg_powers, leg_sensitivities, rounded_off
from common.multiphase import Legs
from launch.solve import CENTRALIZED, Options, solve

V_MIN, V_MAX = 0.95, 1.05
REAL = np.ones((1, 1), complex)
widths = st.floats(1e-4, 0.03)
voltages = st.floats(0.85, 1.15)


def legs(exponent: float, s: complex = 0.6 + 0.2j) -> Legs:
    one = np.ones(1)
    return Legs(
        name=("load.a",),
        a=np.array([0]),
        b=np.array([1]),
        s=s * one,
        v_rated=1.3 * one,
        alpha=exponent * one,
        beta=exponent * one,
        edge=exponent * one,
        v_low=0.5 * one,
        v_min=V_MIN * one,
        v_max=V_MAX * one,
        shape=("",),
    )


def power(leg: Legs, r: float | Floats, width: float) -> Floats:
    """Real power at the voltages r per rated."""
    v = np.atleast_1d(r)[None] * leg.v_rated[:, None] * np.exp(0.4j)
    drawn: Floats = (v * np.conj(leg_currents(leg, v, np.ones(v.shape), width))).real[0]
    return drawn


@given(st.sampled_from([0.0, 1.0]), voltages, widths)
def test_derivatives_are_finite_differences_of_the_rounded_law(exponent: float, r: float, width: float) -> None:
    leg, step = legs(exponent), 1e-7
    v = np.array([[r * 1.3 * np.exp(0.4j)]])
    by_v, by_conjugate = leg_sensitivities(leg, v, np.ones((1, 1)), width)
    for direction in (1, 1j):
        moved = [leg_currents(leg, v + way * step * direction, np.ones((1, 1)), width) for way in (1, -1)]
        expected = (moved[0] - moved[1]) / (2 * step)
        # At its ends a rounding has a kink in its slope.
        slack = 1e-6 + 3 * step / width
        np.testing.assert_allclose(by_v * direction + by_conjugate * np.conj(direction), expected, atol=slack)


@given(st.sampled_from([0.0, 1.0]), voltages, widths)
def test_rounding_changes_nothing_farther_from_a_kink_than_its_width(exponent: float, r: float, width: float) -> None:
    leg = legs(exponent)
    change = float((power(leg, r, width) - power(leg, r, 0.0))[0])
    if min(abs(r - V_MIN), abs(r - V_MAX)) >= width:
        assert change == 0
    assert abs(change) == pytest.approx(rounded_off(leg, np.array([[1.3 * r]]), np.ones((1, 1)), width), abs=1e-15)


def test_at_a_kink_the_rounding_adds_a_quarter_of_the_jump_of_the_slope_times_its_width() -> None:
    # Of constant power, which turns into an impedance of the same power: the slope jumps from 0 to 2 / v_max.
    assert float((power(legs(0.0), V_MAX, 0.01) - 0.6)[0]) == pytest.approx(0.6 * 2 / V_MAX * 0.01 / 4, rel=1e-9)


@given(st.floats(1.0, 1.1), st.floats(1.0, 1.1), widths)
def test_no_power_is_above_the_parabola_of_its_curvature(at: float, other: float, width: float) -> None:
    leg, step = legs(0.0), 1e-6
    v = np.array([[1.3 * at + 0j]])
    curvature = kink_curvature(leg, v, np.ones((1, 1)), width, np.full((1, 1), 1.0), REAL)[0, 0]
    here, moved = power(leg, at, width)[0], other - at
    slope = float(np.diff(power(leg, np.array([at - step, at + step]), width))[0]) / (2 * step)
    # The impedance above v_max has a curvature of its own.
    impedance = 0.6 / V_MAX**2
    bound = here + slope * moved + (curvature / at**2 + impedance) * moved**2
    assert power(leg, other, width)[0] <= bound + 1e-8


def test_kinks_out_of_reach_and_those_that_bend_down_have_no_curvature() -> None:
    at_max, at_min, between = (np.array([[1.3 * r + 0j]]) for r in (V_MAX, V_MIN, 1.0))

    def curvature(leg: Legs, v: Complexes, price: complex) -> float:
        reach = np.full((1, 1), 0.02)
        return float(kink_curvature(leg, v, np.ones((1, 1)), 1e-3, reach, np.full((1, 1), price))[0, 0])

    assert curvature(legs(0.0), at_max, 1.0) > 100
    assert curvature(legs(0.0), between, 1.0) == 0
    assert curvature(legs(0.0), at_min, 1.0) == 0
    # What bends power up bends a gain from it down, and of what is free nothing counts.
    assert curvature(legs(0.0), at_max, -1.0) == 0
    assert curvature(legs(0.0), at_min, -1.0) > 100
    assert curvature(legs(0.0, -0.6), at_max, 1.0) == 0
    assert curvature(legs(0.0, -0.6), at_max, 1j) == 0
    assert curvature(legs(0.0, 0.6j), at_max, 1j) == pytest.approx(curvature(legs(0.0), at_max, 1.0))


@given(st.sampled_from([0.0, 1.0, 1.7, 2.0]), voltages)
def test_derivatives_of_power_by_the_logarithm_of_voltage_are_its_differences(exponent: float, r: float) -> None:
    assume(min(abs(r - V_MIN), abs(r - V_MAX)) > 3e-3)
    step = 1e-3
    around = 1.3 * r * np.exp(step * np.arange(-1, 2))[None] + 0j
    s, slope, bend = leg_powers(legs(exponent), around, np.full((1, 3), 2.0), 0.0)
    assert slope[0, 1] == pytest.approx((s[0, 2] - s[0, 0]) / (2 * step), rel=1e-5, abs=1e-5)
    assert bend[0, 1] == pytest.approx((s[0, 2] - 2 * s[0, 1] + s[0, 0]) / step**2, rel=1e-4, abs=1e-4)


def test_a_feeder_whose_best_voltages_are_where_loads_turn_into_impedances_is_solved_in_areas_and_as_one() -> None:
    case = read_case("ieee123_unbalanced", {"periods": 4})
    case = replace(case, circuit=case.circuit.lower().replace("vmaxpu=1.5", "vmaxpu=1.01"))
    across = 0
    results = [solve(case, Options(method, max_rounds=60)) for method in (CENTRALIZED, "admm")]
    for result in results:
        assert result.converged and result.check is not None and result.check.passed
        assert result.check.max_voltage_error_pu < 1e-6 and result.check.max_substation_error_kw < 0.01
        across += int((np.abs(result.state.v_pu - 1.01) < 1e-3).sum())
    # Many nodes rest on the kink, and no schedule is the better one.
    assert across > 20
    assert results[1].objective == pytest.approx(results[0].objective, rel=1e-5)
