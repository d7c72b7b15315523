"""Curvature made convex, and the prices that it is made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from areas.corrected_model import CorrectedModel
from areas.curvature import convex, symmetric
from areas.multiphase import build_multiphase, predicted_voltages, with_network
from common.case import read_case
from common.feeder import Floats
from common.objective import voltage_deviation
from common.partition import one_area
from launch.solve import CENTRALIZED, Options, solve


def random_forms(seed: int, n: int) -> tuple[Floats, Floats, Floats]:
    """A form of any sign, a positive semidefinite one, and scales."""
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2, n, n))
    return symmetric(rng.normal(size=(2, n, n))), root @ root.transpose(0, 2, 1), 10.0 ** rng.uniform(-2, 0, n)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=50)
def test_it_is_nowhere_below_the_form_nor_below_the_least(seed: int, n: int) -> None:
    form, least, scale = random_forms(seed, n)
    found = convex(form, least, scale)
    measured = scale[:, None] * scale
    for below in (form, least):
        assert np.linalg.eigvalsh((found - below) * measured).min() >= -1e-10 * np.abs(measured * found).max()


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=50)
def test_a_form_that_is_above_the_least_stays_as_it_is(seed: int, n: int) -> None:
    _, least, scale = random_forms(seed, n)
    form = 2 * least + np.eye(n)
    np.testing.assert_allclose(convex(form, least, scale), form, rtol=1e-9, atol=1e-9 * np.abs(form).max())


def test_a_product_of_a_voltage_and_a_power_costs_voltages_and_hardly_powers() -> None:
    form = np.array([[[0.0, -1.0], [-1.0, 1.0]]])
    found = convex(form, np.zeros((1, 2, 2)), np.array([0.01, 1.0]))[0]
    assert found[1, 1] < 1.001
    # With nothing added to the power's, the voltage's must be 1.
    assert 0.99 < found[0, 0] < 1.01


def test_a_problem_bends_with_the_voltage_deviation_as_its_predicted_voltages_do() -> None:
    weighted, free = (
        one_area(read_case("ieee13", {"periods": 1, "weights": weights})).areas[0]
        for weights in ("energy=1,voltage_deviation=1", "energy=1")
    )
    compiled = build_multiphase(weighted)
    model, columns = CorrectedModel(weighted, compiled), compiled.input_columns[0]
    here, none = np.zeros((1, len(columns))), np.zeros((len(compiled.limits.exists), 1), np.int8)
    model.correct(here, 0.03)
    upper, of_free = (with_network(area, compiled, model.at, here, none)[0].p for area in (weighted, free))
    form = symmetric((2 * (upper - of_free) - sp.diags_array((upper - of_free).diagonal())).toarray())
    way = np.random.default_rng(0).uniform(-1, 1, len(columns))

    def deviation(step: float) -> float:
        v = predicted_voltages(model.at, here, here + step * way)
        return float(voltage_deviation(v[weighted.feeder.limited] ** 2))

    second = (deviation(1e-3) + deviation(-1e-3) - 2 * deviation(0)) / 1e-6
    assert way @ form[np.ix_(columns, columns)] @ way == pytest.approx(second, rel=1e-4)


@pytest.mark.parametrize("changes", [{}, {"v_max_pu": 1.03}, {"weights": "energy=1,voltage_deviation=20,losses=0.1"}])
def test_the_price_at_a_node_is_what_one_more_kwh_drawn_there_costs(changes: dict[str, object]) -> None:
    case = read_case("ieee13", {"periods": 2, **changes})
    whole, areas = (solve(case, Options(method, 1e-6, check=False)) for method in (CENTRALIZED, "admm"))
    price, told = whole.state.nodal_price, areas.state.nodal_price
    assert price is not None and told is not None
    np.testing.assert_allclose(told, price, rtol=0, atol=1e-6)
    node = case.network.node_names[case.network.roots :].index("611.3")
    load = "new load.extra bus1=611.3 phases=1 kv=2.4 model=1 vminpu=0.5 vmaxpu=1.5"

    def cost(kw: float) -> float:
        changed = replace(case, circuit=f"{case.circuit}\n{load} kw={kw} kvar=0\n")
        return solve(changed, Options(CENTRALIZED, 1e-9, check=False)).objective

    drawn = case.horizon.load * case.horizon.dt
    assert price[node] @ drawn == pytest.approx((cost(2.0) - cost(-2.0)) / 4, rel=1e-6)


@pytest.mark.parametrize("name", ["ieee13", "ieee123"])
def test_what_has_not_converged_has_no_prices(name: str) -> None:
    run = solve(read_case(name, {"periods": 1}), Options(max_rounds=1, check=False))
    assert not run.converged and run.state.nodal_price is None


def test_enapp_has_no_prices() -> None:
    run = solve(read_case("ieee13", {"periods": 1}), Options("enapp", check=False))
    assert run.converged and run.state.nodal_price is None
