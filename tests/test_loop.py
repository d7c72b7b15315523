"""Rounds on the shipped case: record, hand-over, proof of infeasibility, bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feeders import agree, objective, optimum

from areas.worker import AreaWorker
from common.boundary import make_boundary
from common.case import Case, read_case
from common.errors import InfeasibleError
from common.partition import partition
from common.transport import InProcess
from coordinator.loop import lower_bound, run

BINDING = {"der_fraction": 0.35, "v_min_pu": 1.007}


def test_the_record_has_one_line_a_round() -> None:
    seen = []
    parts = partition(read_case("ieee123"))
    transport = InProcess([AreaWorker(area) for area in parts.areas])
    outcome = run(make_boundary(parts), transport, list("1234"), "admm", 1e-5, 100, on_round=seen.append)
    history = outcome.history()
    assert [round_.number for round_ in seen] == list(range(1, len(outcome.rounds) + 1))
    assert history.solve_s.shape == (len(seen), 4)
    assert np.all(np.diff(history.elapsed_s) > 0)
    assert history.mismatch_pu[-1] <= 1e-5
    assert history.change_pu[-1] <= 1e-5
    assert np.isinf(history.change_pu[0])
    assert history.critical_path_s() <= history.elapsed_s[-1]


def test_a_run_out_of_rounds_is_not_converged() -> None:
    outcome, _ = agree(read_case("ieee123"), "admm", max_rounds=3)
    assert not outcome.converged
    assert len(outcome.rounds) == 3


def test_dlmp_that_cannot_settle_hands_over_to_admm_and_says_so() -> None:
    case = read_case("ieee123", BINDING)
    outcome, _ = agree(case, "dlmp")
    assert outcome.converged
    assert [note for note in outcome.notes if "dlmp gave up" in note and "admm takes over" in note]
    assert set(outcome.history().method) == {"dlmp", "admm"}
    assert objective(outcome) == pytest.approx(optimum(case), rel=1e-5)


def test_the_bound_certifies_the_gap_to_the_optimum() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    parts = partition(case)
    boundary, transport = make_boundary(parts), InProcess([AreaWorker(area) for area in parts.areas])
    outcome = run(boundary, transport, list("1234"), "dlmp", 1e-5, 100)
    bound = lower_bound(boundary, transport, outcome.response)
    best = optimum(case)
    assert bound <= best * (1 + 1e-7)
    assert bound == pytest.approx(best, rel=1e-6)


def test_the_bound_of_enapp_is_honest_about_its_prices() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35})
    outcome, parts = agree(case, "enapp")
    transport = InProcess([AreaWorker(area) for area in parts.areas])
    assert lower_bound(make_boundary(parts), transport, outcome.response) <= optimum(case)


def test_limits_that_contradict_each_other_across_areas_are_proved_infeasible() -> None:
    with pytest.raises(InfeasibleError, match=r"because of voltage limits .* at bus '.+', hour"):
        agree(read_case("ieee123", {"der_fraction": 0.35, "v_min_pu": 1.03}), "admm")


def test_an_area_that_is_infeasible_by_itself_is_named() -> None:
    with pytest.raises(InfeasibleError, match="area 2 is infeasible by itself because of branch current limits"):
        agree(limited("67", "68", amperes=1.0), "admm")


def test_a_cap_that_the_devices_cannot_keep_is_proved_infeasible() -> None:
    with pytest.raises(InfeasibleError, match="substation power cap"):
        agree(read_case("ieee123", {"substation_peak_kw": 100}), "admm")


def limited(from_bus: str, to_bus: str, amperes: float) -> Case:
    """The shipped case with a current limit on one branch."""
    case = read_case("ieee123")
    rows = [
        row.model_copy(update={"i_max_a": amperes}) if (row.from_bus, row.to_bus) == (from_bus, to_bus) else row
        for row in case.branches
    ]
    return replace(case, branches=tuple(rows))


def test_enapp_with_an_area_that_cannot_live_with_its_voltage_says_what_to_use_instead() -> None:
    with pytest.raises(InfeasibleError, match="enapp gave up in round 2: .* Use --method admm"):
        agree(read_case("ieee123", {"der_fraction": 0.35, "v_min_pu": 1.0095}), "enapp")


def test_an_attempt_to_prove_infeasibility_does_not_touch_what_is_stored() -> None:
    case = read_case("ieee123", {"der_fraction": 0.35, "v_min_pu": 1.0088})
    parts = partition(case)
    transport = InProcess([AreaWorker(area) for area in parts.areas])
    outcome = run(make_boundary(parts), transport, list("1234"), "admm", 1e-9, 20)
    kept = transport.solutions()[1].values["boundary"].reshape(-1, 3, len(case.horizon))
    assert np.array_equal(kept, outcome.response.value[make_boundary(parts).ends[1]])
