"""What loads draw at a voltage: the law's pieces, their blending, and derivatives of both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import casadi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipopt import law

from tieflow.common.arrays import Floats
from tieflow.common.case import read_case
from tieflow.common.feeder.load_law import SHARPEST, factor, law_terms, leg_currents, leg_powers
from tieflow.common.feeder.multiphase import Legs
from tieflow.launch.runs.solve import CENTRALIZED, Options, solve

V_MIN, V_MAX, V_LOW = 0.95, 1.05, 0.5
RATED = 1.3
widths = st.floats(1e-4, 0.03)
voltages = st.floats(0.4, 1.2)
exponents = st.sampled_from([0.0, 1.0, 1.7, 2.0, 2.6])
edges = st.sampled_from([0.0, 1.0, 2.0])
limits = st.sampled_from([(V_MIN, V_MAX), (V_MIN, 9.0), (0.01, V_MAX), (0.01, 9.0), (V_LOW, V_MAX)])


def legs(exponent: float, edge: float | None = None, limits: tuple[float, float] = (V_MIN, V_MAX)) -> Legs:
    """One, of 0.6 + 0.2j."""
    one = np.ones(1)
    return Legs(
        name=("load.a",),
        a=np.array([0]),
        b=np.array([1]),
        s=(0.6 + 0.2j) * one,
        v_rated=RATED * one,
        alpha=exponent * one,
        beta=2.0 * one,
        edge=(exponent if edge is None else edge) * one,
        v_low=min(V_LOW, limits[0]) * one,
        v_min=limits[0] * one,
        v_max=limits[1] * one,
        shape=("",),
    )


def power(leg: Legs, r: Any, width: float) -> Floats:
    """Real power, over the rated one, at the voltages r per rated."""
    v = np.atleast_1d(r)[None] * leg.v_rated[:, None] * np.exp(0.4j)
    drawn: Floats = (v * np.conj(leg_currents(leg, v, np.ones(v.shape), width))).real[0] / 0.6
    return drawn


def pieces(leg: Legs, r: float) -> float:
    """OpenDSS's law: r^exponent inside; an impedance above, and below v_low; between it and v_min a current that falls
    in a line."""
    exponent, edge, least, most, low = (
        float(getattr(leg, name)[0]) for name in ("alpha", "edge", "v_min", "v_max", "v_low")
    )
    if r > most:
        return most ** (edge - 2) * r**2
    if r >= least:
        return r**exponent
    if r < low or least == low:
        return r**2
    at_least = least ** (edge - 1)
    return r * (low + (at_least - low) * (r - low) / (least - low))


@given(exponents, edges, limits, voltages)
def test_without_a_width_the_law_is_that_of_opendss(
    exponent: float, edge: float, reach: tuple[float, float], r: float
) -> None:
    leg = legs(exponent, edge, reach)
    # On a limit itself a jump has no value.
    r += 1e-7 * (min(abs(r - v) for v in (*reach, V_LOW)) < 1e-8)
    assert power(leg, r, 0.0)[0] == pytest.approx(pieces(leg, r), rel=1e-9)


@given(exponents, edges, limits, voltages, widths)
def test_the_blended_law_is_the_reference_s(
    exponent: float, edge: float, reach: tuple[float, float], r: float, width: float
) -> None:
    leg = legs(exponent, edge, reach)
    expected = float(law(leg, leg.alpha, casadi.DM([[r]]), width))
    # A limit out of reach has its piece left out by the reference.
    assert power(leg, r, width)[0] == pytest.approx(expected, rel=1e-9)


@given(exponents, edges, limits, voltages, widths)
def test_both_derivatives_are_finite_differences(
    exponent: float, edge: float, reach: tuple[float, float], r: float, width: float
) -> None:
    leg, step = legs(exponent, edge, reach), 1e-3 * width
    if abs(r - leg.v_low[0]) < 10 * step:
        return
    around = RATED * (r + step * np.array([[-2, -1, 0, 1, 2]])) + 0j
    for value, slope, bend in leg_powers(leg, around, width):
        scale = 1 + np.abs(bend).max() * width
        ahead = (value[0, 0] - 8 * value[0, 1] + 8 * value[0, 3] - value[0, 4]) / (12 * step)
        assert slope[0, 2] == pytest.approx(ahead, abs=1e-7 * scale / width)
        ahead = (slope[0, 0] - 8 * slope[0, 1] + 8 * slope[0, 3] - slope[0, 4]) / (12 * step)
        assert bend[0, 2] == pytest.approx(ahead, abs=1e-7 * scale / width**2)


@given(exponents, edges, st.floats(0.55, 1.2), st.floats(1e-4, 3e-3))
def test_far_from_a_limit_blending_changes_what_falls_with_the_square_of_its_width(
    exponent: float, edge: float, r: float, width: float
) -> None:
    leg = legs(exponent, edge)
    far = min(abs(r - V_MIN), abs(r - V_MAX))
    if far < 3 * width:
        return
    # What the two pieces differ by there, times w^2 / (4 x^2).
    differ = max(abs(above * r**2 - r**exponent) for above in (V_MAX ** (edge - 2), 1.0, 3.0))
    change = abs(power(leg, r, width)[0] - power(leg, r, 0.0)[0])
    assert change <= 2 * differ * (width / far) ** 2 / 4 + 1e-12


def test_on_a_kink_blending_moves_nothing_and_on_a_jump_it_draws_the_mean_of_both_sides() -> None:
    # What is left comes from the other limit, ten widths away.
    assert power(legs(0.0), V_MAX, 0.01)[0] == pytest.approx(1.0, rel=1e-3)
    jump = legs(0.0, 2.0)
    assert power(jump, V_MAX, 0.01)[0] == pytest.approx((1.0 + V_MAX**2) / 2, rel=1e-3)
    beside = power(jump, [V_MAX - 1e-9, V_MAX + 1e-9], 0.0)
    assert beside == pytest.approx([1.0, V_MAX**2])


def test_limits_that_no_voltage_meets_leave_the_law_as_it_is() -> None:
    leg = legs(0.0, limits=(0.01, 9.0))
    np.testing.assert_allclose(power(leg, np.linspace(0.3, 1.5, 20), 0.03), 1.0, rtol=1e-14)
    terms = law_terms(leg)
    assert (terms.blend_low[0], terms.blend_high[0]) == (0.0, 0.0)
    # Which does not mean that they are not there.
    assert power(leg, 10.0, 0.03)[0] == pytest.approx((10 / 9) ** 2)


def test_a_law_without_width_has_finite_derivatives_at_its_limits() -> None:
    leg = legs(0.0, 2.0)
    for value in (
        number for part in leg_powers(leg, RATED * np.array([[V_MAX, V_MIN, V_LOW]]) + 0j, 0.0) for number in part
    ):
        assert np.isfinite(value).all()
    assert SHARPEST < 1e-10


def test_currents_are_those_of_the_power_at_any_angle_and_multiplier() -> None:
    leg = legs(1.0)
    v = RATED * np.array([[0.9, 1.0, 1.1]]) * np.exp(1j * np.array([[0.0, 2.0, -1.0]]))
    p, q = (part[0] for part in leg_powers(leg, v, 0.01))
    times = np.array([[1.0, -0.5, 3.0]])
    np.testing.assert_allclose(v * np.conj(leg_currents(leg, v, times, 0.01)), times * (p + 1j * q), rtol=1e-12)


def test_numbers_and_arrays_have_the_same_law() -> None:
    leg = legs(1.7)
    terms = law_terms(leg)
    columns = [float(getattr(terms, name)[0]) for name in terms.__dataclass_fields__]
    r = np.array([0.4, 0.7, 0.96, 1.06])
    at_once = factor(r, r**1.7, 1.7, *columns, 0.01)
    for k, one in enumerate(r.tolist()):
        assert factor(one, one**1.7, 1.7, *columns, 0.01) == pytest.approx([part[k] for part in at_once], rel=1e-12)


def test_a_feeder_whose_best_voltages_are_where_loads_turn_into_impedances_is_solved_in_areas_and_as_one() -> None:
    case = read_case("ieee123_unbalanced", {"periods": 4})
    case = replace(case, circuit=case.circuit.lower().replace("vmaxpu=1.5", "vmaxpu=1.01"))
    across = 0
    results = [solve(case, Options(method)) for method in (CENTRALIZED, "newton")]
    for result in results:
        assert result.converged and result.check is not None and result.check.passed
        assert result.check.max_voltage_error_pu < 1e-5
        across += int((np.abs(result.state.v_pu - 1.01) < 1e-3).sum())
    # Many nodes rest on the kink, and no schedule is the better one.
    assert across > 20
    assert results[1].objective == pytest.approx(results[0].objective, rel=1e-7)
