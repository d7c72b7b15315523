"""The objective: terms by hand, the optimizer's value and its schedule's, areas and whole, names and mixes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from device_feeders import BOTH, MODELS, confirmed, feeder
from feeders import with_settings
from test_kpis import hand_case, hand_schedule, hand_state

from tieflow.common.case import Case, read_case
from tieflow.common.errors import CaseError
from tieflow.common.inputs.devices import Battery, FlexibleLoad
from tieflow.common.inputs.objective import Factors, factors
from tieflow.common.inputs.weights import Terms
from tieflow.common.results.schedule import idle_schedule
from tieflow.common.results.terms import objective_terms, objective_value
from tieflow.launch.figures.kpis import kpi_report
from tieflow.launch.runs.base_run import power_flow, with_bases
from tieflow.launch.runs.solve import Options, solve

MIX = Terms(energy=0.2, losses=0.3, voltage_deviation=0.5)
ALL = Terms(energy=1, battery_use=0.01, flexibility=0.02, voltage_deviation=5, losses=0.1)


def with_weights(case: Case, weights: Terms, bases: Terms | None = None) -> Case:
    return with_settings(case, weights=weights, weights_bases=bases)


def full(model: str, **given: object) -> Case:
    """A battery and a flexible load at b, both at a price of their own."""
    battery = Battery(bus="b", p_rated_kw=40, s_rated_kva=50, energy_kwh=400, cost_per_kwh=0.01)
    load = FlexibleLoad(bus="b", p_kw=50, q_kvar=20, down=0.4, up=0.2, cost_per_kwh=0.005)
    return feeder(model, price=(0.1, 0.3, 0.2, 0.28), batteries=(battery,), flexible_loads=(load,), given=dict(given))


def test_every_term_is_what_it_is_by_hand() -> None:
    case = hand_case()
    battery = case.batteries[0].model_copy(update={"cost_per_kwh": 0.5, "eta_charge": 0.9, "eta_discharge": 0.8})
    load = FlexibleLoad(bus="a", p_kw=10, q_kvar=0, down=0.5, up=0.5, cost_per_kwh=2)
    case = replace(case, batteries=(battery,), flexible_loads=(load,))
    schedule = replace(hand_schedule(), flexible_loads={"p_kw": np.array([[7.0, 13.0]])})
    found = objective_terms(case, schedule, hand_state())
    assert found == pytest.approx(
        {
            "energy": 0.5 * (80 * 0.1 + 40 * 0.3),
            "battery_use": 0.5 * (8 + 4),
            "flexibility": 0.5 * (3 + 3),
            "voltage_deviation": (0.99**2 - 1) ** 2 + (1.02**2 - 1) ** 2 + (0.97**2 - 1) ** 2,
            "losses": 0.5 * (3 + 1),
            "device_prices": 0.5 * 6 + 2 * 3,
            "simultaneous": (0.1 * 8 + 0.25 * 4) / 1000,
            "overstep": 0.0,
            "overload": 0.0,
        }
    )
    lower = replace(hand_state(), v_pu=np.array([[1.5, 1.5], [0.94, 1.07], [1.0, 1.0]]))
    beyond = np.log(0.95 / 0.94) + np.log(1.07 / 1.05)
    assert objective_terms(case, schedule, lower)["overstep"] == pytest.approx(0.5 * beyond)
    weighted = with_weights(case, Terms(energy=2, battery_use=3, flexibility=4, voltage_deviation=5, losses=6))
    expected = 2 * 10 + 3 * 6 + 4 * 3 + 5 * found["voltage_deviation"] + 6 * 2 + 9 + 1e-3 * found["simultaneous"]
    assert objective_value(weighted, schedule, hand_state()) == pytest.approx(expected)


def test_energy_is_what_is_paid_for_what_is_drawn_less_what_is_earned_by_what_is_sent() -> None:
    case = hand_case()
    state = replace(hand_state(), substation_p_kw=np.array([-80.0, 40.0]))
    assert objective_terms(case, hand_schedule(), state)["energy"] == pytest.approx(0.5 * (40 * 0.3 - 80 * 0.1))
    for earned in (0.1, 0.04, 0.0, -0.2):
        cheaper = with_settings(case, export_price_per_kwh=earned)
        found = objective_terms(cheaper, hand_schedule(), state)["energy"]
        assert found == pytest.approx(0.5 * (40 * 0.3 - 80 * earned))
        assert objective_value(cheaper, hand_schedule(), state) - objective_value(
            case, hand_schedule(), state
        ) == pytest.approx(0.5 * 80 * (0.1 - earned))
        drawn_only = objective_terms(cheaper, hand_schedule(), hand_state())["energy"]
        assert drawn_only == objective_terms(case, hand_schedule(), hand_state())["energy"]


def test_energy_whose_price_is_negative_is_paid_for() -> None:
    case = hand_case()
    case = replace(case, horizon=replace(case.horizon, price=np.array([-0.1, 0.3])))
    assert objective_terms(case, hand_schedule(), hand_state())["energy"] == pytest.approx(0.5 * (40 * 0.3 - 80 * 0.1))


@pytest.mark.parametrize(("model", "method"), BOTH)
@pytest.mark.parametrize(("voltage", "bases"), [(5.0, None), (0.02, Terms())])
def test_the_optimizers_objective_is_that_of_its_schedule(
    model: str, method: str, voltage: float, bases: Terms | None
) -> None:
    weights = ALL.model_copy(update={"voltage_deviation": voltage})
    result = confirmed(with_weights(full(model), weights, bases), method, 1e-7)
    assert result.check is not None
    for state in (result.state, result.check.state):
        value = objective_value(result.case, result.schedule, state)
        assert result.objective == pytest.approx(value, rel=1e-6)
    told = kpi_report(result).kpis
    terms = objective_terms(result.case, result.schedule, result.check.state)
    assert told.objective == pytest.approx(result.objective, rel=1e-6)
    assert (told.voltage_deviation, told.battery_use_kwh, told.flexibility_kwh) == (
        terms["voltage_deviation"],
        terms["battery_use"],
        terms["flexibility"],
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_weight_on_use_is_a_price_that_every_device_asks(model: str) -> None:
    # Prices differ by 0.2 $ at most.
    for term, kind in (("battery_use", "batteries"), ("flexibility", "flexible_loads")):
        free, dear = (
            confirmed(with_weights(full(model), Terms(**{"energy": 1, term: weight}))) for weight in (0.0, 0.2)
        )
        moved = [objective_terms(result.case, result.schedule, result.state)[term] for result in (free, dear)]
        assert moved[0] > 10 and moved[1] < 0.1, kind


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("named", "weights"),
    [
        ({"objective": "cost"}, Terms(energy=1)),
        ({"objective": "losses"}, Terms(losses=1)),
        ({"objective": "voltage_deviation", "voltage_deviation_weight": 7}, Terms(energy=1, voltage_deviation=7)),
        ({"objective": "peak", "substation_peak_kw": 600}, Terms(energy=1)),
    ],
)
def test_every_named_objective_is_a_mix(model: str, named: dict[str, object], weights: Terms) -> None:
    case = full(model, **named)
    assert factors(with_weights(case, weights).settings) == factors(case.settings)


def test_the_base_run_is_worth_the_sum_of_the_weights_times_its_energy_cost() -> None:
    for case in (read_case("ieee123"), read_case("ieee13", {"periods": 2})):
        weighted = with_bases(with_weights(case, Terms(energy=0.2, losses=0.5, voltage_deviation=0.6), Terms()))
        bases, idle = weighted.settings.weights_bases, idle_schedule(case)
        assert bases is not None and bases.energy is not None
        state = power_flow(case, idle)
        assert bases.losses == pytest.approx(state.losses_kw.sum())
        at_no_limit = with_settings(weighted, v_min_pu=0.5, v_max_pu=1.5)
        assert objective_value(at_no_limit, idle, state) == pytest.approx(1.3 * bases.energy)


def test_normalized_weights_do_not_mind_the_unit_of_money() -> None:
    case = with_weights(read_case("ieee123"), MIX, Terms())
    dearer = replace(case, horizon=replace(case.horizon, price=10 * case.horizon.price))
    one, ten = (solve(case, Options("centralized", check=False)) for case in (case, dearer))
    assert ten.objective == pytest.approx(10 * one.objective, rel=1e-5)
    np.testing.assert_allclose(ten.state.v_pu, one.state.v_pu, atol=1e-5)


def test_bases_of_use_are_a_full_cycle_and_the_nominal_energy() -> None:
    settings = with_bases(with_weights(full("balanced"), ALL, Terms(losses=3))).settings
    bases = settings.weights_bases
    assert bases is not None and bases.energy is not None
    assert (bases.battery_use, bases.flexibility, bases.losses) == (800, pytest.approx(200), 3)
    assert factors(settings) == Factors(
        energy=1,
        battery_use=pytest.approx(0.01 / 800 * bases.energy),
        flexibility=pytest.approx(0.02 / 200 * bases.energy),
        voltage_deviation=pytest.approx(5 / (bases.voltage_deviation or 0) * bases.energy),
        losses=pytest.approx(0.1 / 3 * bases.energy),
        device_prices=1,
        simultaneous=1e-3,
    )
    bare = replace(full("balanced"), batteries=(), flexible_loads=())
    # Nothing flows in it, so nothing is lost.
    counts = factors(with_bases(with_weights(bare, ALL, Terms(losses=3))).settings)
    assert (counts.battery_use, counts.flexibility) == (0, 0)


def test_a_base_that_is_not_above_zero_has_to_be_given() -> None:
    free = full("balanced")
    free = with_weights(replace(free, horizon=replace(free.horizon, price=np.zeros(4))), Terms(losses=1), Terms())
    with pytest.raises(CaseError, match=r"weights_bases: energy is not above zero .* \{ energy = 100 \}"):
        with_bases(free)
    assert with_bases(with_weights(free, Terms(losses=1), Terms(energy=100, losses=5))).settings.weights_bases
    with pytest.raises(CaseError, match="no base of energy"):
        factors(free.settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("ieee13", {"periods": 4}), ("ieee123", {"periods": 5})],
)
@pytest.mark.parametrize("by", ["newton", "admm"])
def test_areas_find_the_optimum_of_a_mix(name: str, settings: dict[str, object], by: str) -> None:
    case = with_weights(read_case(name, settings), MIX, Terms())
    one, four = (solve(case, Options(method, tolerance_pu=1e-6)) for method in ("centralized", by))
    for result in (one, four):
        assert result.converged and result.check is not None and result.check.passed
        assert result.relaxation_gap_pu < 1e-6
    assert four.objective == pytest.approx(one.objective, rel=2e-6)


def test_a_cap_is_kept_whatever_flatter_voltages_are_worth() -> None:
    # Here wasting energy in the battery lowers voltages, which is worth more than energy.
    case = with_weights(full("multiphase"), Terms(energy=0.01, voltage_deviation=0.99), Terms())
    free = solve(case, Options("centralized", check=False))
    assert free.state.substation_p_kw.max() > 562
    for cap in (560.0, 552.0):
        capped = solve(with_settings(case, substation_peak_kw=cap), Options("centralized", check=False))
        assert capped.state.substation_p_kw.max() < cap + 0.01
        assert capped.objective > free.objective
        assert capped.relaxed_objective is not None and free.relaxed_objective is not None
        assert capped.relaxed_objective > free.relaxed_objective - 1e-6
