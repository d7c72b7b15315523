"""A result in words and figures: the summary for machines, the tables for people, the exit code."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from tieflow.common.results.result import Check, History, Result, Violation
from tieflow.coordinator.convergence import Residuals
from tieflow.coordinator.record import Round
from tieflow.launch.figures.summary import exit_code, gap_to_bound, json_ready, summary
from tieflow.launch.report.console import SHOWN_VIOLATIONS, benchmark_table, print_result, print_round
from tieflow.launch.runs.solve import LOOSE_PU


def printed(result: Result, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_result(console, result)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def verdict(result: Result) -> Check:
    assert result.check is not None
    return result.check


def refuted(result: Result, violations: int = 1) -> Result:
    found = tuple(Violation("voltage", f"bus{i}", 11, 0.94, 0.95, "pu", "11:00") for i in range(violations))
    return replace(result, check=replace(verdict(result), passed=False, violations=found))


def test_a_violation_is_one_line_however_narrow_the_log(small_result: Result) -> None:
    assert "violated: voltage at bus0, 11:00: 0.94000 pu, limit 0.95000 pu\n" in printed(refuted(small_result), 40)


def test_a_converged_and_confirmed_result_ends_with_0(small_result: Result) -> None:
    assert small_result.converged
    assert verdict(small_result).passed
    assert exit_code(small_result) == 0


def test_an_unconverged_result_ends_with_2_whatever_opendss_says(small_result: Result) -> None:
    assert exit_code(replace(small_result, converged=False)) == 2
    assert exit_code(replace(refuted(small_result), converged=False)) == 2


def test_an_unconfirmed_result_ends_with_4(small_result: Result) -> None:
    assert exit_code(refuted(small_result)) == 4


def test_a_loose_relaxation_ends_with_4_though_opendss_was_not_asked(small_result: Result) -> None:
    unchecked = replace(small_result, check=None)
    assert exit_code(unchecked) == 0
    assert exit_code(replace(unchecked, relaxation_gap_pu=2 * LOOSE_PU)) == 4


def overstepped(result: Result, count: int = 2) -> Result:
    """Limits that devices cannot keep: one by 0.01 pu, and others by less."""
    found = [
        Violation("voltage", f"node{i // 2}.{i % 2}", 7 + i, 0.949 - 1e-4 * i, 0.95, "pu", f"{7 + i:02d}:00")
        for i in range(count - 1)
    ]
    return replace(result, oversteps=(*found, Violation("voltage", "far.3", 19, 1.06, 1.05, "pu", "19:00")))


def test_limits_that_cannot_be_kept_end_with_5_but_for_what_is_worse(small_result: Result) -> None:
    result = overstepped(small_result)
    assert exit_code(result) == 5
    assert exit_code(replace(result, check=None)) == 5
    assert exit_code(refuted(result)) == 4
    assert exit_code(replace(result, relaxation_gap_pu=2 * LOOSE_PU)) == 4
    assert exit_code(replace(result, converged=False)) == 2


def test_limits_that_cannot_be_kept_are_counted_and_the_worst_are_told(small_result: Result) -> None:
    text = printed(overstepped(small_result, SHOWN_VIOLATIONS + 5))
    assert f"LIMITS OVERSTEPPED: {SHOWN_VIOLATIONS + 5} voltage limits, at {SHOWN_VIOLATIONS + 5} nodes" in text
    lines = [line for line in text.splitlines() if line.startswith("expected: ")]
    assert len(lines) == SHOWN_VIOLATIONS
    assert lines[0] == "expected: voltage at far.3, 19:00: 1.06000 pu, limit 1.05000 pu"
    assert lines[1] == "expected: voltage at node6.1, 20:00: 0.94770 pu, limit 0.95000 pu"
    assert "OVERSTEPPED" not in printed(small_result)


def test_a_node_that_is_overstepped_in_several_hours_is_one_node(small_result: Result) -> None:
    twice = tuple(Violation("voltage", "b.1", hour, 0.94, 0.95, "pu") for hour in (7, 8))
    assert "2 voltage limits, at 1 node, cannot" in printed(replace(small_result, oversteps=twice))
    assert "1 voltage limit, at 1 node, cannot" in printed(replace(small_result, oversteps=twice[:1]))


def test_the_summary_has_the_model_error_and_every_overstep(small_result: Result) -> None:
    figures = json.loads(json.dumps(json_ready(summary(replace(overstepped(small_result), model_error_pu=2e-6)))))
    assert figures["model_error_pu"] == 2e-6
    assert figures["exit_code"] == 5
    assert len(figures["oversteps"]) == 2
    assert figures["oversteps"][-1] == {
        "kind": "voltage",
        "element": "far.3",
        "hour": 19,
        "time": "19:00",
        "value": 1.06,
        "limit": 1.05,
        "unit": "pu",
    }
    assert summary(small_result)["oversteps"] == []
    assert summary(small_result)["model_error_pu"] == 0


def test_a_run_of_newton_is_judged_by_its_residual_and_not_by_what_areas_differ_by(small_result: Result) -> None:
    past = replace(small_result.history, method=("newton",) * len(small_result.history.cost))
    exact = replace(small_result, history=past, optimality=3e-3)
    assert re.search(rf"^rounds +{len(past.cost)} *$", printed(exact), re.MULTILINE)
    text = printed(replace(exact, converged=False))
    assert "rounds: the first-order residual is still 3.0e-03. This is not a schedule to use." in text
    assert "rounds: areas still differ by" in printed(replace(small_result, converged=False))


def test_the_first_order_residual_is_told_where_the_method_knows_it(small_result: Result) -> None:
    assert summary(small_result)["optimality"] is None
    assert "first-order residual" not in printed(small_result)
    assert "relaxation gap" in printed(small_result)
    exact = replace(small_result, optimality=3e-9, model_error_pu=2e-7)
    assert summary(exact)["optimality"] == 3e-9
    assert re.search(r"^first-order residual +3\.0e-09 *$", printed(exact), re.MULTILINE)
    # An exact schedule relaxes nothing.
    assert "relaxation gap" not in printed(exact) and "2.0e-07 pu" in printed(exact)


def test_the_critical_path_in_cpu_time_is_the_busiest_ranks_and_the_coordinators(small_result: Result) -> None:
    history = replace(small_result.history, cpu_s=np.array([[1.0, 0.25], [2.0, 0.5]]))
    assert summary(replace(small_result, history=history))["time"]["critical_path_cpu_s"] == 3.75
    older = replace(small_result.history, cpu_s=np.zeros((0, 2)))
    assert summary(replace(small_result, history=older))["time"]["critical_path_cpu_s"] == 0


def test_the_summary_counts_in_hours_and_kilowatts(small_result: Result) -> None:
    figures, state = summary(small_result), small_result.state
    assert figures["substation_energy_kwh"] == pytest.approx(6 * state.substation_p_kw.sum())
    assert figures["substation_reactive_kvarh"] == pytest.approx(6 * state.substation_q_kvar.sum())
    assert figures["losses_kwh"] == pytest.approx(6 * state.losses_kw.sum())
    assert figures["cost"] == pytest.approx(6 * small_result.case.horizon.price @ state.substation_p_kw)
    assert (figures["periods"], figures["areas"], figures["ranks"]) == (2, 4, 1)


def test_the_critical_path_is_the_slowest_area_of_each_round_and_what_comes_between() -> None:
    area_s = np.array([[1.0, 3.0], [5.0, 2.0]])
    nothing = np.zeros(2)
    history = History(
        method=("admm", "admm"),
        mismatch_pu=nothing,
        change_pu=nothing,
        cost=nothing,
        elapsed_s=nothing,
        coordinator_s=np.array([0.25, 0.5]),
        communication_s=np.array([0.0, 0.125]),
        solve_s=area_s / 2,
        area_s=area_s,
    )
    assert history.critical_path_s() == 3 + 5 + 0.75 + 0.125


def test_a_summary_is_plain_json_with_null_for_what_is_no_number(small_result: Result) -> None:
    odd = replace(small_result, max_change_pu=np.inf, check=replace(verdict(small_result), cost=np.nan))
    figures = json.loads(json.dumps(json_ready(summary(odd)), allow_nan=False))
    assert figures["max_change_pu"] is None
    assert figures["checker"]["cost"] is None
    assert figures["cost"] == small_result.cost


def test_json_keeps_the_shape_of_what_it_is_given() -> None:
    assert json_ready({"a": [1.5, np.inf, ("x", None)], "b": -np.inf}) == {"a": [1.5, None, ["x", None]], "b": None}


def test_the_gap_to_the_bound_is_relative_and_none_without_a_bound(small_result: Result) -> None:
    assert gap_to_bound(small_result) is None
    bounded = replace(small_result, objective=200.0, lower_bound=199.0)
    assert gap_to_bound(bounded) == pytest.approx(0.005)
    assert "5.0e-03 away" in printed(bounded)


def test_a_printed_result_states_its_figures_and_the_verdict(small_result: Result) -> None:
    text = printed(small_result)
    assert f"{small_result.cost:.4f} $" in text
    assert "2 periods of 6 h, 06:00 to 18:00" in text
    assert "4 area(s) on 1 rank(s)" in text
    assert "OpenDSS confirms the schedule" in text
    assert "no limit violated" in text
    assert "NOT" not in text


def test_an_unconverged_result_is_printed_as_no_schedule_to_use(small_result: Result) -> None:
    text = printed(replace(small_result, converged=False, max_mismatch_pu=3e-3))
    assert "NOT CONVERGED" in text
    assert "3.0e-03 pu" in text
    assert "--max-rounds" in text


def test_an_unchecked_result_says_so(small_result: Result) -> None:
    text = printed(replace(small_result, check=None))
    assert "OpenDSS: NOT CHECKED" in text
    assert "confirms" not in text


def test_a_refuted_result_names_what_is_violated_and_how_many_more(small_result: Result) -> None:
    text = printed(refuted(small_result, SHOWN_VIOLATIONS + 3))
    assert "OpenDSS DOES NOT CONFIRM the schedule" in text
    assert "violated: voltage at bus0, 11:00: 0.94000 pu, limit 0.95000 pu" in text
    assert text.count("violated: voltage") == SHOWN_VIOLATIONS
    assert "... and 3 more violations" in text
    assert "... and 1 more violation\n" in printed(refuted(small_result, SHOWN_VIOLATIONS + 1))
    assert "no limit violated" not in text


def test_times_without_a_power_flow_are_named(small_result: Result) -> None:
    failed = replace(verdict(small_result), passed=False, failed_hours=(1, 2))
    assert "no power flow solution at 06:00, 12:00" in printed(replace(small_result, check=failed))


def test_notes_are_printed_as_they_are(small_result: Result) -> None:
    assert "Note: branch [a]-[b] is loose" in printed(replace(small_result, notes=("branch [a]-[b] is loose",)))


def test_a_hand_over_shows_in_the_method(small_result: Result) -> None:
    history = small_result.history
    handed = replace(history, method=("dlmp", *history.method[1:]))
    result = replace(small_result, method="dlmp", history=handed)
    assert summary(result)["methods_used"] == ["dlmp", "admm"]
    assert "dlmp then admm" in printed(result)


def test_every_round_is_a_line_and_the_first_has_a_heading() -> None:
    console = Console(file=io.StringIO(), width=200)
    for number, method, optimality in ((1, "admm", None), (2, "centralized", 4e-4)):
        residuals = Residuals(2e-3, np.inf, optimality)
        print_round(console, Round(number, method, residuals, 583.25, 0.5, 0.0, 0.0, (0.0,), (0.0,)))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0].split() == ["round", "method", "mismatch", "change", "residual", "cost", "elapsed"]
    assert lines[1].split() == ["1", "admm", "2.00e-03", "inf", "-", "583.2500", "0.50", "s"]
    assert lines[2].split() == ["2", "centralized", "2.00e-03", "inf", "4.00e-04", "583.2500", "0.50", "s"]
    # Numbers stand under their names.
    end = lines[0].index("residual") + len("residual")
    assert [line[:end].split()[-1] for line in lines] == ["residual", "-", "4.00e-04"]


def test_a_benchmark_is_one_table_with_a_line_for_each_method(small_result: Result) -> None:
    extra = {"gap_to_optimum": 1e-7, "critical_path_ratio": 2.0}
    runs = [
        small_result,
        replace(small_result, converged=False),
        refuted(small_result),
        replace(small_result, check=None),
    ]
    console = Console(file=io.StringIO(), width=200)
    console.print(benchmark_table([summary(run) | extra for run in runs]))
    heading, *lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert all(name in heading for name in ("cost $", "gap to optimum", "rounds", "critical path s", "OpenDSS"))
    assert len(lines) == 4
    assert [line.split()[-1] for line in lines] == ["confirmed", "confirmed", "CONFIRMED", "asked"]
    assert "NOT CONVERGED" in lines[1]
    assert "NOT CONFIRMED" in lines[2]
