"""What a solve tells of its own result."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tieflow.common.case import read_case
from tieflow.common.errors import CaseError, InfeasibleError
from tieflow.launch.figures.summary import exit_code
from tieflow.launch.runs.partition import in_areas
from tieflow.launch.runs.solve import CENTRALIZED, Options, solve


def test_batteries_of_a_case_within_its_limits_do_one_thing_at_a_time() -> None:
    result = solve(read_case("ieee123_unbalanced", {"periods": 2}), Options(CENTRALIZED, check=False))
    assert not [note for note in result.notes if "at once" in note]
    assert result.relaxed_objective is None


def test_a_cap_on_substation_power_that_binds_is_kept_at_the_same_cost_in_areas_and_as_one() -> None:
    free = solve(read_case("ieee13"), Options(CENTRALIZED, check=False))
    cap = {"substation_peak_kw": free.state.substation_p_kw.max() - 20}
    whole = solve(read_case("ieee13", cap), Options(CENTRALIZED, check=False))
    areas = solve(read_case("ieee13", cap), Options("newton"))
    assert whole.converged and areas.converged and areas.check is not None and areas.check.passed
    assert areas.state.substation_p_kw.max() == pytest.approx(cap["substation_peak_kw"], abs=1e-3)
    assert whole.cost > free.cost
    assert areas.objective == pytest.approx(whole.objective, rel=1e-6)


def test_a_cap_that_no_schedule_keeps_is_refused_with_the_power_it_takes() -> None:
    cap = {"periods": 2, "substation_peak_kw": 100}
    told = []
    for method in (CENTRALIZED, "newton"):
        with pytest.raises(InfeasibleError, match="substation_peak_kw = 100") as caught:
            solve(read_case("ieee13", cap), Options(method))
        told.append(float(re.search(r"([\d.]+) kW at ", str(caught.value))[1]))  # type: ignore[index]
    assert told[0] == pytest.approx(told[1], abs=0.01) and told[0] > 1000


SHARE = {"der_fraction": 0.35}
HARD: dict[str, tuple[dict[str, object], int, float]] = {
    "a limit that does not even change the optimum, in 5 areas": ({"v_min_pu": 1.007}, 5, 583.2506),
    "the same in 6": ({"v_min_pu": 1.007}, 6, 583.2506),
    "a limit that binds, in 3 areas": ({"v_min_pu": 1.008, **SHARE}, 3, 576.29833),
    "the same in 6 areas": ({"v_min_pu": 1.008, **SHARE}, 6, 576.29833),
    "a cap": ({"objective": "peak", "substation_peak_kw": 900}, 4, 616.1314),
    "free energy": ({"price_low_per_kwh": 0}, 4, 445.97506),
    "dear energy": ({"price_high_per_kwh": 1e4}, 4, 14776985.39),
    "more sun than load": ({"pv_percent": 100, "der_fraction": 1.5}, 4, -770.54809),
    "many devices, 12 hours": (
        {"periods": 12, "der_fraction": 1.0, "pv_percent": 40, "battery_percent": 10},
        4,
        852.24919,
    ),
}
"""settings of the shipped case that are hard to agree on, into how many areas it is cut, and the least cost"""


@pytest.mark.parametrize("case", HARD)
def test_newton_solves_what_is_hard_to_agree_on_and_opendss_confirms(case: str) -> None:
    settings, areas, least = HARD[case]
    result = solve(in_areas(read_case("ieee123", settings), areas), Options("newton"))
    assert result.converged and result.check is not None and result.check.passed
    assert result.optimality is not None and result.optimality <= 1e-8
    assert result.objective == pytest.approx(least, rel=1e-6)
    assert len(result.history.cost) <= 60


@pytest.mark.parametrize("case", ["a limit that binds, in 3 areas", "the same in 6 areas", "more sun than load"])
def test_admm_solves_it_too_or_hands_over_and_says_so(case: str) -> None:
    settings, areas, least = HARD[case]
    result = solve(in_areas(read_case("ieee123", settings), areas), Options("admm"))
    assert result.converged and result.check is not None and result.check.passed
    assert result.objective == pytest.approx(least, rel=1e-6)
    used = list(dict.fromkeys(result.history.method))
    passed_on = [note for note in result.notes if note.endswith("newton takes over")]
    assert used in (["admm"], ["admm", "newton"])
    assert len(passed_on) == len(used) - 1
    assert len(result.history.cost) == len(result.history.method)


def test_a_method_without_a_successor_says_what_to_use_instead() -> None:
    case = read_case("ieee123", {**SHARE, "v_min_pu": 1.0095})
    with pytest.raises(InfeasibleError, match="enapp gave up in round 2: .* Use --method newton"):
        solve(case, Options("enapp"))


def test_centralized_is_newton_with_one_area() -> None:
    for name in ("ieee123", "ieee13"):
        case = read_case(name, {"periods": 2})
        whole, areas = solve(case, Options(CENTRALIZED)), solve(case, Options("newton"))
        assert (whole.method, set(whole.history.method), whole.areas) == (CENTRALIZED, {CENTRALIZED}, ("all",))
        assert len(whole.history.cost) == len(areas.history.cost)
        assert areas.objective == pytest.approx(whole.objective, rel=1e-8)
        # Each round tells the energy cost that the areas' own equations have reached.
        assert [run.history.cost[-1] for run in (whole, areas)] == pytest.approx([whole.cost] * 2, rel=1e-5)
        np.testing.assert_allclose(areas.state.nodal_price, whole.state.nodal_price, rtol=1e-5)


def test_of_several_starting_points_the_best_schedule_is_kept_and_the_spread_told() -> None:
    case = read_case("ieee13", {"periods": 3})
    (one, several) = (solve(case, Options("newton", check=False, starts=starts)) for starts in (1, 3))
    told = [re.search(r"(\d) of (\d) starting points converged; .* spread ([\d.e+-]+)", note) for note in several.notes]
    (found,) = [match for match in told if match]
    assert found[1] == found[2] == "3" and 0 < float(found[3]) <= 1e-8
    assert several.objective <= one.objective
    assert len(several.history.cost) < 2 * len(one.history.cost)
    assert not [note for note in one.notes if "starting points" in note]


def test_several_starting_points_are_for_a_method_that_has_them() -> None:
    with pytest.raises(CaseError, match=r"admm has one starting point\. Use --method newton"):
        solve(read_case("ieee123", {"periods": 1}), Options("admm", starts=2))


@pytest.mark.parametrize("method", ["admm", "newton"])
def test_an_objective_below_its_lower_bound_does_not_count_as_converged(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = read_case("ieee123", {"periods": 1})
    fine = solve(case, Options(method, certify=True, check=False))
    assert fine.converged and fine.lower_bound is not None and exit_code(fine) == 0
    higher = 1.00001 * fine.lower_bound
    monkeypatch.setattr("tieflow.launch.runs.solve.lower_bound", lambda *_: higher)
    found = solve(case, Options(method, certify=True, check=False))
    assert not found.converged and exit_code(found) == 2
    assert [note for note in found.notes if "is below the lower bound" in note]
